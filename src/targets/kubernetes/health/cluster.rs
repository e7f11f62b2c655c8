//! What surrounds the workloads: namespaces, definitions of kinds, volume claims, autoscalers, disruption budgets.

use serde_json::Value;

use super::{
    Blame, Health, Trouble,
    read::{condition, id, is_observed, text},
};

/// A namespace that is being deleted takes everything in it along, and nothing new can be created there.
pub(super) fn namespace(object: &Value) -> Health {
    let terminating = text(&object["status"]["phase"]) == "Terminating";
    if !terminating && object["metadata"]["deletionTimestamp"].is_null() {
        return Health::Ready;
    }
    let message = "the namespace is being deleted with everything in it";
    Health::broken(Trouble::new(id(object), "Terminating", message, Blame::World))
}

pub(super) fn definition(object: &Value) -> Health {
    let status = &object["status"];
    if let Some(refused) = condition(status, "NamesAccepted").filter(|c| c.is_false()) {
        return Health::broken(Trouble::new(id(object), refused.reason, refused.message, Blame::Release));
    }
    if let Some(going) = condition(status, "Terminating").filter(|c| c.is_true()) {
        return Health::broken(Trouble::new(id(object), "Terminating", going.message, Blame::World));
    }
    match condition(status, "Established") {
        Some(established) if established.is_true() => Health::Ready,
        Some(_) | None => Health::progressing("its API is not served yet"),
    }
}

/// The aggregator says so a moment after it was made; until then nobody knows.
pub(super) fn api_service(object: &Value) -> Health {
    match condition(&object["status"], "Available") {
        Some(available) if available.is_true() => Health::Ready,
        Some(away) => Health::progressing(format!("it is not available: {}", away.said())),
        None => Health::progressing("nobody has looked yet whether it is served"),
    }
}

/// A claim that nobody provisions for waits for its first pod, which is ready enough: a pod that cannot use it says so.
pub(super) fn claim(object: &Value) -> Health {
    let provisioner = text(&object["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"]);
    match text(&object["status"]["phase"]) {
        "Bound" => Health::Ready,
        "Lost" => {
            let message = format!("its volume {} is gone", text(&object["spec"]["volumeName"]));
            Health::broken(Trouble::new(id(object), "Lost", message, Blame::World))
        }
        _ if !provisioner.is_empty() => Health::progressing(format!("{provisioner} is making its volume")),
        _ if !text(&object["spec"]["volumeName"]).is_empty() => Health::progressing("it is being bound to its volume"),
        _ => Health::Ready,
    }
}

/// An autoscaler without metrics does nothing, which breaks nothing; one that does not find what it scales never will.
pub(super) fn autoscaler(object: &Value) -> Health {
    match condition(&object["status"], "AbleToScale").filter(|c| c.is_false() && c.reason == "FailedGetScale") {
        Some(lost) => Health::doubtful(Trouble::new(id(object), lost.reason, lost.message, Blame::Release)),
        None => Health::Ready,
    }
}

pub(super) fn disruption_budget(object: &Value) -> Health {
    if !is_observed(object) {
        return Health::progressing("its controller has not seen the change yet");
    }
    match condition(&object["status"], "DisruptionAllowed").filter(|c| c.is_false() && c.reason == "SyncFailed") {
        Some(failed) => Health::doubtful(Trouble::new(id(object), failed.reason, failed.message, Blame::Release)),
        None => Health::Ready,
    }
}
