//! What runs pods for as long as it is there: Deployments, StatefulSets, DaemonSets, ReplicaSets.

use serde_json::Value;

use super::{
    Blame, Health, Trouble,
    read::{condition, id, is_observed, number, text},
};

const UNSEEN: &str = "its controller has not seen the change yet";

/// Whether its controller has answered for this generation. Before its first answer a workload has no status at all.
fn is_seen(object: &Value) -> bool {
    is_observed(object) && !object["status"]["observedGeneration"].is_null()
}

/// How many pods it wants: one unless it says otherwise.
fn wanted(object: &Value) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

pub(super) fn deployment(object: &Value) -> Health {
    if !is_seen(object) {
        return Health::progressing(UNSEEN);
    }
    let status = &object["status"];
    let count = |key: &str| number(&status[key]);
    let (wanted, updated) = (wanted(object), count("updatedReplicas"));
    if updated >= wanted && count("replicas") <= updated && count("availableReplicas") >= wanted {
        return Health::Ready;
    }
    if object["spec"]["paused"] == true {
        let message = "`spec.paused` is set: nothing is rolled out until it is taken away";
        return Health::broken(Trouble::new(id(object), "Paused", message, Blame::World));
    }
    if let Some(late) = condition(status, "Progressing").filter(|c| c.reason == "ProgressDeadlineExceeded") {
        return Health::broken(Trouble::new(id(object), late.reason, late.message, Blame::Release));
    }
    if let Some(refusal) = refused(object) {
        return refusal;
    }
    Health::progressing(match () {
        () if updated < wanted => format!("{updated} of {wanted} replicas are updated"),
        () if count("replicas") > updated => match count("replicas") - updated {
            1 => "a replica of the release before is still up".to_owned(),
            n => format!("{n} replicas of the release before are still up"),
        },
        () => format!("{} of {wanted} replicas are available", count("availableReplicas").min(wanted)),
    })
}

pub(super) fn stateful_set(object: &Value) -> Health {
    if !is_seen(object) {
        return Health::progressing(UNSEEN);
    }
    let status = &object["status"];
    let count = |key: &str| number(&status[key]);
    let wanted = wanted(object);
    let strategy = &object["spec"]["updateStrategy"];
    let partition = number(&strategy["rollingUpdate"]["partition"]).clamp(0, wanted);
    let to_update = if text(&strategy["type"]) == "OnDelete" { 0 } else { wanted - partition };
    // A finished rollout counts its pods as current.
    let updated = match text(&status["currentRevision"]) == text(&status["updateRevision"]) {
        true => count("updatedReplicas").max(count("currentReplicas")),
        false => count("updatedReplicas"),
    };
    if updated < to_update {
        return Health::progressing(format!("{updated} of {to_update} replicas are updated"));
    }
    if count("readyReplicas") < wanted {
        return Health::progressing(format!("{} of {wanted} replicas are ready", count("readyReplicas")));
    }
    let available = status["availableReplicas"].as_i64().unwrap_or(wanted);
    if available < wanted {
        return Health::progressing(format!("{available} of {wanted} replicas are available"));
    }
    match count("replicas") > wanted {
        true => Health::progressing(match count("replicas") - wanted {
            1 => "a replica too many is still up".to_owned(),
            n => format!("{n} replicas too many are still up"),
        }),
        false => Health::Ready,
    }
}

pub(super) fn daemon_set(object: &Value) -> Health {
    if !is_seen(object) {
        return Health::progressing(UNSEEN);
    }
    let count = |key: &str| number(&object["status"][key]);
    let wanted = count("desiredNumberScheduled");
    let by_hand = text(&object["spec"]["updateStrategy"]["type"]) == "OnDelete";
    if !by_hand && count("updatedNumberScheduled") < wanted {
        return Health::progressing(format!("{} of {wanted} nodes are updated", count("updatedNumberScheduled")));
    }
    match count("numberAvailable") < wanted {
        true => Health::progressing(format!("ready on {} of {wanted} nodes", count("numberAvailable"))),
        false => Health::Ready,
    }
}

pub(super) fn replica_set(object: &Value) -> Health {
    if !is_seen(object) {
        return Health::progressing(UNSEEN);
    }
    let (wanted, available) = (wanted(object), number(&object["status"]["availableReplicas"]));
    if available >= wanted {
        return Health::Ready;
    }
    refused(object).unwrap_or_else(|| Health::progressing(format!("{available} of {wanted} replicas are available")))
}

/// The API server does not let the controller create pods.
fn refused(object: &Value) -> Option<Health> {
    let failure = condition(&object["status"], "ReplicaFailure").filter(|c| c.is_true())?;
    Some(refusal(object, failure.reason, failure.message))
}

/// Why pods may not be created: a quota, an admission webhook, a pod security standard.
pub fn refusal(object: &Value, reason: &str, message: &str) -> Health {
    let trouble = |blame| Trouble::new(id(object), reason, message, blame);
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    // The pods that are being replaced may give their share back in a moment.
    if says(&["exceeded quota", "failed quota"]) {
        return Health::doubtful(trouble(Blame::World));
    }
    if says(&["failed calling webhook", "is being terminated", "timed out", "context deadline exceeded"]) {
        return Health::doubtful(trouble(Blame::World));
    }
    if says(&["error looking up service account"]) {
        return Health::doubtful(trouble(Blame::Release));
    }
    Health::broken(trouble(Blame::Release))
}
