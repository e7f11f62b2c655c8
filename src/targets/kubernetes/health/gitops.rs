//! Objects through which a GitOps tool says how far it is: Argo CD's `Application`, Flux's `Kustomization` and
//! `HelmRelease`.

use serde_json::Value;

use super::{
    Blame, Health, Trouble, conditions,
    read::{Condition, id, is_observed, items, number, read, text},
};

/// Argo CD: synced to the wanted commit (to any, with `None`) and healthy.
pub fn application(object: &Value, wanted: Option<&str>) -> Health {
    let status = &object["status"];
    let trouble = |reason: &str, message: &str, blame| Trouble::new(id(object), reason, message, blame);
    for condition in items(&status["conditions"]) {
        let (kind, message) = (text(&condition["type"]), text(&condition["message"]));
        match kind {
            "InvalidSpecError" => return Health::broken(trouble(kind, message, Blame::Release)),
            // Its repository server may be away for a moment, and manifests may not render: one word for both.
            "ComparisonError" | "UnknownError" => return Health::doubtful(trouble(kind, message, Blame::World)),
            _ => {}
        }
    }
    let operation = &status["operationState"];
    let ours = |revision: &str| wanted.is_none_or(|wanted| same_commit(revision, wanted));
    let phase = text(&operation["phase"]);
    if matches!(phase, "Failed" | "Error") && revisions(&operation["syncResult"]).any(ours) {
        return Health::broken(trouble(&format!("Sync{phase}"), text(&operation["message"]), Blame::Release));
    }
    let sync = &status["sync"];
    if let Some(wanted) = wanted.filter(|_| !revisions(sync).any(ours)) {
        let at = revisions(sync).next().unwrap_or("no commit");
        return Health::progressing(format!("it is at {}, not at {} yet", short(at), short(wanted)));
    }
    if text(&sync["status"]) != "Synced" || phase == "Running" {
        return Health::progressing(format!("it is {}", lower(text(&sync["status"]), "not compared yet")));
    }
    let health = &status["health"];
    match text(&health["status"]) {
        "Healthy" | "Suspended" => Health::Ready,
        "Degraded" => {
            Health::broken(trouble("Degraded", degraded(status, text(&health["message"])).as_str(), Blame::Release))
        }
        other => Health::progressing(format!("it is {}", lower(other, "not looked at yet"))),
    }
}

/// Flux: the wanted revision is applied (any, with `None`) and what it made is healthy.
pub fn kustomization(object: &Value, wanted: Option<&str>) -> Health {
    let status = &object["status"];
    let ours = |revision: &Value| wanted.is_none_or(|wanted| same_commit(text(revision), wanted));
    if let Some(failed) = failed(object).filter(|_| ours(&status["lastAttemptedRevision"])) {
        let trouble = |blame| Trouble::new(id(object), failed.reason, failed.message, blame);
        match failed.reason {
            "BuildFailed" | "HealthCheckFailed" | "PruneFailed" => return Health::broken(trouble(Blame::Release)),
            "ReconciliationFailed" => return Health::doubtful(trouble(Blame::Release)),
            "ArtifactFailed" => return Health::doubtful(trouble(Blame::World)),
            _ => {}
        }
    }
    if !is_observed(object) {
        return Health::progressing("its controller has not seen the change yet");
    }
    match wanted.filter(|_| !ours(&status["lastAppliedRevision"])) {
        Some(wanted) => {
            let at = text(&status["lastAppliedRevision"]);
            Health::progressing(format!("it is at {}, not at {} yet", short(lower_none(at)), short(wanted)))
        }
        None => conditions::of(object),
    }
}

/// Flux: installed or upgraded; `Stalled` says when it has given up.
pub fn helm_release(object: &Value) -> Health {
    match failed(object)
        .filter(|c| matches!(c.reason, "InstallFailed" | "UpgradeFailed" | "TestFailed" | "RollbackFailed"))
    {
        Some(failed) => Health::broken(Trouble::new(id(object), failed.reason, failed.message, Blame::Release)),
        None => conditions::of(object),
    }
}

/// What Flux says went wrong with the object as it is. It moves `status.observedGeneration` only when all went well; the
/// condition has a generation of its own.
fn failed(object: &Value) -> Option<Condition<'_>> {
    let ready = items(&object["status"]["conditions"]).find(|condition| condition["type"] == "Ready")?;
    let seen = ready["observedGeneration"].as_i64();
    let is_of_this = seen.is_some_and(|seen| seen >= number(&object["metadata"]["generation"]));
    Some(read(ready)).filter(|ready| ready.is_false() && (is_of_this || is_observed(object)))
}

/// An application has one revision, or several with as many sources.
fn revisions(of: &Value) -> impl Iterator<Item = &str> {
    std::iter::once(&of["revision"]).chain(items(&of["revisions"])).map(text).filter(|revision| !revision.is_empty())
}

/// Flux writes `main@sha1:0123…`; either may be cut short.
fn same_commit(seen: &str, wanted: &str) -> bool {
    let seen = seen.rsplit([':', '/', '@']).next().unwrap_or(seen);
    seen.len() >= 7 && wanted.len() >= 7 && (seen.starts_with(wanted) || wanted.starts_with(seen))
}

fn short(revision: &str) -> &str {
    let commit = revision.rsplit([':', '/', '@']).next().unwrap_or(revision);
    let is_hash = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
    if is_hash { &commit[..8] } else { revision }
}

fn lower(word: &str, otherwise: &str) -> String {
    match word {
        "" => otherwise.to_owned(),
        "OutOfSync" => "out of sync".to_owned(),
        word => word.to_lowercase(),
    }
}

fn lower_none(revision: &str) -> &str {
    if revision.is_empty() { "no commit" } else { revision }
}

/// Which of its resources is degraded.
fn degraded(status: &Value, message: &str) -> String {
    let worst = items(&status["resources"]).find(|resource| resource["health"]["status"] == "Degraded");
    let Some(resource) = worst.filter(|_| message.is_empty()) else { return message.to_owned() };
    let (kind, name) = (text(&resource["kind"]), text(&resource["name"]));
    format!("{kind} {}/{name}: {}", text(&resource["namespace"]), text(&resource["health"]["message"]))
}
