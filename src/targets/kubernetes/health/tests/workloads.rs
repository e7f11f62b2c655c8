use serde_json::{Value, json};

use super::check;
use crate::targets::kubernetes::health::of;

fn object(kind: &str, spec: Value, status: Value) -> Value {
    let api_version = if kind == "Job" || kind == "CronJob" { "batch/v1" } else { "apps/v1" };
    json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": { "namespace": "hub", "name": "web", "generation": 4 },
        "spec": spec, "status": status,
    })
}

#[test]
fn deployments() {
    let deployment = |status: Value| object("Deployment", json!({ "replicas": 3 }), status);
    let full = json!({
        "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
        "conditions": [{ "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }],
    });
    let with = |changes: Value| {
        let mut status = full.clone();
        for (key, value) in changes.as_object().expect("a mapping") {
            status[key] = value.clone();
        }
        deployment(status)
    };
    let failure = |message: &str| {
        json!({ "updatedReplicas": 1, "conditions": [
            { "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message },
        ] })
    };
    let mut paused = with(json!({ "updatedReplicas": 0 }));
    paused["spec"]["paused"] = true.into();
    let rows = vec![
        ("done", deployment(full.clone()), "ready"),
        ("none wanted", object("Deployment", json!({ "replicas": 0 }), json!({ "observedGeneration": 4 })), "ready"),
        ("no status", deployment(json!({})), "progressing: its controller has not seen the change yet"),
        ("old", with(json!({ "observedGeneration": 3 })), "progressing: its controller has not seen the change yet"),
        ("updating", with(json!({ "updatedReplicas": 1 })), "progressing: 1 of 3 replicas are updated"),
        ("surge", with(json!({ "replicas": 4 })), "progressing: a replica of the release before is still up"),
        ("starting", with(json!({ "availableReplicas": 2 })), "progressing: 2 of 3 replicas are available"),
        (
            "late",
            with(json!({ "availableReplicas": 2, "conditions": [
                { "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                  "message": "ReplicaSet \"web-1\" has timed out progressing." },
            ] })),
            "broken, by the release: Deployment hub/web: ProgressDeadlineExceeded: ReplicaSet \"web-1\" has timed out \
             progressing.",
        ),
        (
            "quota",
            with(failure("pods \"web-1-x\" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=3")),
            "doubtful, by the world: Deployment hub/web: FailedCreate: pods \"web-1-x\" is forbidden: exceeded quota: \
             pods, \
             requested: pods=1, used: pods=3",
        ),
        (
            "webhook says no",
            with(failure("admission webhook \"images\" denied the request: unsigned image")),
            "broken, by the release: Deployment hub/web: FailedCreate: admission webhook \"images\" denied the \
             request: \
             unsigned image",
        ),
        (
            "webhook is away",
            with(failure("Internal error occurred: failed calling webhook \"images\": no endpoints available")),
            "doubtful, by the world: Deployment hub/web: FailedCreate: Internal error occurred: failed calling webhook \
             \"images\": no endpoints available",
        ),
        (
            "paused",
            paused,
            "broken, by the world: Deployment hub/web: Paused: `spec.paused` is set: nothing is rolled out until it \
             is taken \
             away",
        ),
    ];
    check(rows, of);
}

#[test]
fn stateful_sets() {
    let set = |strategy: Value, status: Value| {
        object("StatefulSet", json!({ "replicas": 3, "updateStrategy": strategy }), status)
    };
    let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } });
    let halfway = json!({
        "observedGeneration": 4, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "updatedReplicas": 1,
        "currentReplicas": 2, "currentRevision": "web-1", "updateRevision": "web-2",
    });
    let done = json!({
        "observedGeneration": 4, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "updatedReplicas": 3,
        "currentReplicas": 3, "currentRevision": "web-2", "updateRevision": "web-2",
    });
    let mut unready = done.clone();
    unready["readyReplicas"] = 2.into();
    let mut surplus = done.clone();
    surplus["replicas"] = 4.into();
    let rows = vec![
        ("done", set(rolling.clone(), done), "ready"),
        ("halfway", set(rolling.clone(), halfway.clone()), "progressing: 1 of 3 replicas are updated"),
        (
            "partition",
            set(json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 2 } }), halfway.clone()),
            "ready",
        ),
        ("by hand", set(json!({ "type": "OnDelete" }), halfway), "ready"),
        ("unready", set(rolling.clone(), unready), "progressing: 2 of 3 replicas are ready"),
        ("surplus", set(rolling.clone(), surplus), "progressing: a replica too many is still up"),
        ("unseen", set(rolling, json!({ "replicas": 0 })), "progressing: its controller has not seen the change yet"),
    ];
    check(rows, of);
}

#[test]
fn daemon_sets() {
    let set =
        |strategy: &str, status: Value| object("DaemonSet", json!({ "updateStrategy": { "type": strategy } }), status);
    let status = |updated: i64, available: i64| {
        json!({ "observedGeneration": 4, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
                "updatedNumberScheduled": updated, "numberAvailable": available, "numberReady": available })
    };
    let rows = vec![
        ("done", set("RollingUpdate", status(3, 3)), "ready"),
        ("updating", set("RollingUpdate", status(1, 3)), "progressing: 1 of 3 nodes are updated"),
        ("by hand", set("OnDelete", status(0, 3)), "ready"),
        ("starting", set("RollingUpdate", status(3, 2)), "progressing: ready on 2 of 3 nodes"),
        ("no node", set("RollingUpdate", json!({ "observedGeneration": 4, "desiredNumberScheduled": 0 })), "ready"),
    ];
    check(rows, of);
}

#[test]
fn jobs() {
    let job = |status: Value| object("Job", json!({ "completions": 2 }), status);
    let ended = |kind: &str, reason: &str, message: &str| json!({ "conditions": [{ "type": kind, "status": "True", "reason": reason, "message": message }] });
    let rows = vec![
        ("new", job(json!({})), "progressing: 0 of 2 done"),
        ("trying", job(json!({ "succeeded": 1, "failed": 3 })), "progressing: 1 of 2 done, 3 failed so far"),
        ("done", job(ended("Complete", "CompletionsReached", "")), "ready"),
        ("suspended", object("Job", json!({ "suspend": true }), json!({})), "ready"),
        (
            "failed",
            job(ended("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit")),
            "broken, by the release: Job hub/web: BackoffLimitExceeded: Job has reached the specified backoff limit",
        ),
        ("cron", object("CronJob", json!({ "schedule": "0 5 * * *" }), json!({})), "ready"),
    ];
    check(rows, of);
}
