//! Which objects belong to a workload, and which of its pods are of its newest revision: an old pod that crashes is not
//! the new release's doing.

use serde_json::Value;

use super::{feed::Need, picture::Picture, selector::Selector};

/// The pods of the revision that is being rolled out.
pub(super) fn newest_pods<'a>(picture: &'a Picture, workload: &'a Value) -> Vec<&'a Value> {
    let uid = text(&workload["metadata"]["uid"]);
    let own = || picture.owned("Pod", workload, uid);
    match workload["kind"].as_str().unwrap_or_default() {
        "Deployment" => match newest_replica_set(picture, workload) {
            Some(set) => picture.owned("Pod", workload, text(&set["metadata"]["uid"])),
            None => Vec::new(),
        },
        "StatefulSet" => {
            let revision = text(&workload["status"]["updateRevision"]);
            own().into_iter().filter(|pod| label(pod, "controller-revision-hash") == revision).collect()
        }
        "DaemonSet" => {
            let generation = text(&workload["metadata"]["annotations"]["deprecated.daemonset.template.generation"]);
            let current = |pod: &&Value| match label(pod, "pod-template-generation") {
                "" => true,
                of => generation.is_empty() || of == generation,
            };
            own().into_iter().filter(current).collect()
        }
        "Pod" => vec![workload],
        _ => own(),
    }
}

/// The pods of a workload that owns them itself, of whatever revision.
pub(super) fn own_pods<'a>(picture: &'a Picture, workload: &'a Value) -> Vec<&'a Value> {
    picture.owned("Pod", workload, text(&workload["metadata"]["uid"]))
}

fn label<'a>(pod: &'a Value, key: &str) -> &'a str {
    text(&pod["metadata"]["labels"][key])
}

/// The controller writes the revision of the newest ReplicaSet on the Deployment.
pub(super) fn newest_replica_set<'a>(picture: &'a Picture, deployment: &'a Value) -> Option<&'a Value> {
    const REVISION: &str = "deployment.kubernetes.io/revision";
    let wanted = text(&deployment["metadata"]["annotations"][REVISION]);
    let sets = picture.owned("ReplicaSet", deployment, text(&deployment["metadata"]["uid"]));
    sets.into_iter().find(|set| !wanted.is_empty() && text(&set["metadata"]["annotations"][REVISION]) == wanted)
}

/// Whether pods of this workload, of whatever revision, are on their way out and will give their room back.
pub(super) fn others_leave(picture: &Picture, workload: &Value) -> bool {
    let Some(selector) = workload["spec"]["selector"]["matchLabels"].as_object() else { return false };
    let matches = |pod: &&Value| selector.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value);
    let leaves = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null();
    picture.of_kind("Pod", text(&workload["metadata"]["namespace"])).filter(matches).any(leaves)
}

/// What must be watched to know how a workload is doing.
pub(super) fn needs(workload: &Value) -> Vec<Need> {
    let namespace = workload["metadata"]["namespace"].as_str().map(str::to_owned);
    let need = |api_version: &str, kind: &str, labels: Option<Selector>, fields: Option<String>| Need {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.clone(),
        labels,
        fields,
        among: Vec::new(),
    };
    let labels = Selector::of(&workload["spec"]["selector"]);
    let warnings = || need("v1", "Event", None, Some("type=Warning".to_owned()));
    match workload["kind"].as_str().unwrap_or_default() {
        "Deployment" => {
            vec![need("apps/v1", "ReplicaSet", labels.clone(), None), need("v1", "Pod", labels, None), warnings()]
        }
        "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => vec![need("v1", "Pod", labels, None), warnings()],
        "Pod" => vec![warnings()],
        _ => Vec::new(),
    }
}

/// Whether a Service sends requests to the pods of this workload.
pub(super) fn serves(service: &Value, workload: &Value) -> bool {
    let labels = &workload["spec"]["template"]["metadata"]["labels"];
    let wanted = workload["spec"]["replicas"].as_i64().unwrap_or(1);
    let selector = service["spec"]["selector"].as_object();
    wanted > 0 && selector.is_some_and(|s| s.iter().all(|(key, value)| labels[key] == *value))
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
