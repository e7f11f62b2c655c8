//! What runs pods to their end.

use serde_json::Value;

use super::{
    Blame, Health, Trouble,
    read::{condition, id, number},
};

/// How a Job ended; `None` while it runs, and for anything else.
pub fn end(object: &Value) -> Option<Health> {
    if !is_job(object) {
        return None;
    }
    let status = &object["status"];
    let stands = |kind: &str| condition(status, kind).filter(|c| c.is_true());
    // `FailureTarget` comes first, while the Job still takes its pods down.
    if let Some(failed) = stands("Failed").or_else(|| stands("FailureTarget")) {
        return Some(Health::broken(Trouble::new(id(object), failed.reason, failed.message, Blame::Release)));
    }
    stands("Complete").or_else(|| stands("SuccessCriteriaMet")).map(|_| Health::Ready)
}

/// Whether the cluster deletes it some time after its end.
pub fn is_collected_when_done(object: &Value) -> bool {
    is_job(object) && object["spec"]["ttlSecondsAfterFinished"].is_number()
}

fn is_job(object: &Value) -> bool {
    object["kind"] == "Job" && object["apiVersion"].as_str().is_some_and(|version| version.starts_with("batch/"))
}

/// A Job is ready when it is complete; its own `backoffLimit` says how often its pods may fail.
pub(super) fn job(object: &Value) -> Health {
    let status = &object["status"];
    if let Some(end) = end(object) {
        return end;
    }
    // A Job that is made to wait for somebody is no reason to wait for it.
    if object["spec"]["suspend"] == true {
        return Health::Ready;
    }
    let wanted = object["spec"]["completions"].as_i64().unwrap_or(1);
    let (done, failed) = (number(&status["succeeded"]), number(&status["failed"]));
    Health::progressing(match failed {
        0 => format!("{done} of {wanted} done"),
        _ => format!("{done} of {wanted} done, {failed} failed so far"),
    })
}
