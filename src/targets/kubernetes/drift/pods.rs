//! Whether the pods of a workload are the release's: a roll-out that did not reach all of them, and one tag that is two images.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::Value;

use crate::{
    clients::{
        kube::{Cluster, KubeError, ObjectId},
        registry::Reference,
    },
    model::Difference,
    targets::kubernetes::rollout::Selector,
};

/// Looks at the status of a workload and at its pods; nothing for objects without.
pub async fn look(
    cluster: &Cluster,
    id: &ObjectId,
    live: &Value,
    recorded: &BTreeMap<String, String>,
) -> Result<Vec<Difference>, KubeError> {
    if id.group() != "apps" || !matches!(id.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet") {
        return Ok(Vec::new());
    }
    let mut differences: Vec<Difference> = reached(id, live).into_iter().collect();
    let (Some(namespace), Some(selector)) = (&id.namespace, Selector::of(&live["spec"]["selector"])) else {
        return Ok(differences);
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    // What the API server remembers is new enough, and costs etcd nothing.
    let params = ListParams::default().labels(&selector.to_string()).match_any();
    let pods = pods.list(&params).await?;
    let stay = pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    differences.extend(digests(id, stay, recorded));
    Ok(differences)
}

/// How many of its pods have what the workload says.
fn reached(id: &ObjectId, live: &Value) -> Option<Difference> {
    let (spec, status) = (&live["spec"], &live["status"]);
    let count = |value: &Value| value.as_i64().unwrap_or(0);
    let seen = count(&status["observedGeneration"]) >= count(&live["metadata"]["generation"]);
    let (field, wanted, updated) = match id.kind.as_str() {
        "DaemonSet" if spec["updateStrategy"]["type"] == "OnDelete" => return None,
        "DaemonSet" => {
            ("pods of this release", count(&status["desiredNumberScheduled"]), count(&status["updatedNumberScheduled"]))
        }
        "StatefulSet" if spec["updateStrategy"]["type"] == "OnDelete" => return None,
        "StatefulSet" => {
            let partition = count(&spec["updateStrategy"]["rollingUpdate"]["partition"]);
            let wanted = (spec["replicas"].as_i64().unwrap_or(1) - partition).max(0);
            let done = status["currentRevision"] == status["updateRevision"];
            let updated = if done { count(&status["replicas"]) } else { count(&status["updatedReplicas"]) };
            ("pods of this release", wanted, updated)
        }
        _ => {
            let wanted = spec["replicas"].as_i64().unwrap_or(1);
            let (updated, all) = (count(&status["updatedReplicas"]), count(&status["replicas"]));
            // Pods of an earlier release that are still there count as well.
            ("pods of this release", wanted, if all > updated { updated.min(wanted - 1) } else { updated })
        }
    };
    if seen && updated >= wanted {
        return None;
    }
    let live = if seen { Value::from(updated.max(0)) } else { Value::from("not looked at by its controller yet") };
    Some(of(id, field, Value::from(wanted), live))
}

/// The same image text must be the same image in all pods, and the one that it was when it was looked up first.
fn digests<'a>(
    id: &ObjectId,
    pods: impl Iterator<Item = &'a Pod>,
    recorded: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let mut found: BTreeMap<(&str, &str), BTreeMap<&str, usize>> = BTreeMap::new();
    for pod in pods {
        let inits = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        let spec = pod.spec.iter().flat_map(|spec| &spec.containers).chain(inits);
        let images: BTreeMap<&str, &str> = spec.filter_map(|c| Some((c.name.as_str(), c.image.as_deref()?))).collect();
        let inits = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()).chain(inits);
        for status in statuses.filter(|status| !status.image_id.is_empty()) {
            let Some(image) = images.get(status.name.as_str()) else { continue };
            let of_container = found.entry((status.name.as_str(), *image)).or_default();
            *of_container.entry(status.image_id.as_str()).or_default() += 1;
        }
    }
    let one = |((container, image), ids): ((&str, &str), BTreeMap<&str, usize>)| {
        let mut digests: BTreeMap<&str, usize> = BTreeMap::new();
        ids.iter().for_each(|(id, pods)| *digests.entry(digest(id)).or_default() += pods);
        // What a node says of an image that no registry gave it, or that it knows by another name, cannot be compared.
        let recorded = recorded.get(image).filter(|_| ids.keys().all(|id| is_of(id, image)));
        let wanted = match recorded {
            Some(recorded) if digests.keys().any(|digest| digest != recorded) => recorded.as_str(),
            None if digests.len() > 1 => "the same in all pods",
            Some(_) | None => return None,
        };
        let counted: Vec<String> = digests.iter().map(|(digest, pods)| format!("{digest} in {pods}")).collect();
        let field = format!("image {image} of container {container}");
        Some(of(id, &field, wanted.into(), counted.join(", ").into()))
    };
    found.into_iter().filter_map(one).collect()
}

fn digest(image_id: &str) -> &str {
    image_id.rsplit_once('@').map_or(image_id, |(_, digest)| digest)
}

/// Whether a node's word for an image names the repository of this reference, and its digest there.
fn is_of(image_id: &str, image: &str) -> bool {
    let place = |text: &str| text.parse::<Reference>().ok().map(|found| (found.registry, found.repository));
    let image_id = image_id.rsplit_once("://").map_or(image_id, |(_, id)| id);
    let named = image_id.split_once('@').and_then(|(name, _)| place(name));
    named.is_some() && named == place(image)
}

fn of(id: &ObjectId, field: &str, wanted: Value, live: Value) -> Difference {
    Difference {
        object: id.to_string(),
        field: field.to_owned(),
        wanted: Some(wanted),
        live: Some(live),
        by: None,
        at: None,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(kind: &str) -> ObjectId {
        let (api_version, namespace) = ("apps/v1".to_owned(), Some("hub".to_owned()));
        ObjectId { api_version, kind: kind.to_owned(), namespace, name: "web".to_owned() }
    }

    fn told(kind: &str, live: Value) -> Option<String> {
        reached(&id(kind), &live).map(|difference| difference.to_string())
    }

    #[test]
    fn a_roll_out_that_stopped_half_way() {
        let deployment = |updated: u64, all: u64| {
            json!({"metadata": {"generation": 2}, "spec": {"replicas": 3},
                "status": {"observedGeneration": 2, "updatedReplicas": updated, "replicas": all}})
        };
        assert_eq!(told("Deployment", deployment(3, 3)), None);
        let half = "Deployment hub/web pods of this release is 1 and should be 3".to_owned();
        assert_eq!(told("Deployment", deployment(1, 3)), Some(half));
        let old_ones = "Deployment hub/web pods of this release is 2 and should be 3".to_owned();
        assert_eq!(told("Deployment", deployment(3, 4)), Some(old_ones));
        let late = json!({"metadata": {"generation": 3}, "spec": {"replicas": 3}, "status": {"observedGeneration": 2, "updatedReplicas": 3}});
        assert!(told("Deployment", late).expect("it is late").contains("not looked at by its controller yet"));
        let set = json!({"metadata": {"generation": 1}, "spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}},
            "status": {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"}});
        assert_eq!(told("StatefulSet", set), None, "a partition is meant");
    }

    fn pod(list: &str, image_id: &str) -> Pod {
        let status = json!([{"name": "web", "image": "hub:1", "ready": true, "restartCount": 0, "imageID": image_id}]);
        let (spec, statuses) = match list {
            "init" => (
                json!({"containers": [], "initContainers": [{"name": "web", "image": "hub:1"}]}),
                "initContainerStatuses",
            ),
            _ => (json!({"containers": [{"name": "web", "image": "hub:1"}]}), "containerStatuses"),
        };
        serde_json::from_value(json!({"spec": spec, "status": {statuses: status}})).expect("it is a pod")
    }

    /// What is said of pods whose nodes name the image so, where it is known to have led to `sha256:first`.
    fn said(list: &str, image_ids: &[&str], recorded: bool) -> Vec<String> {
        let recorded = recorded.then(|| ("hub:1".to_owned(), "sha256:first".to_owned())).into_iter().collect();
        let pods: Vec<Pod> = image_ids.iter().map(|image_id| pod(list, image_id)).collect();
        digests(&id("Deployment"), pods.iter(), &recorded).iter().map(ToString::to_string).collect()
    }

    const FIRST: &str = "docker.io/library/hub@sha256:first";
    const MOVED: &str = "docker.io/library/hub@sha256:moved";

    #[test]
    fn one_tag_that_is_two_images() {
        assert_eq!(said("", &[FIRST, FIRST], false), [] as [String; 0]);
        let two =
            "Deployment hub/web image hub:1 of container web is sha256:first in 2, sha256:moved in 1 and should be ";
        assert_eq!(said("", &[FIRST, MOVED, FIRST], false), [format!("{two}the same in all pods")]);
        assert_eq!(said("", &[FIRST, MOVED, FIRST], true), [format!("{two}sha256:first")]);
    }

    #[test]
    fn a_tag_that_moved_under_all_pods() {
        let moved = "Deployment hub/web image hub:1 of container web is sha256:moved in 2 and should be sha256:first";
        for list in ["", "init"] {
            assert_eq!(said(list, &[FIRST, FIRST], true), [] as [String; 0]);
            assert_eq!(said(list, &[MOVED, MOVED], true), [moved]);
            assert_eq!(said(list, &[MOVED, MOVED], false), [] as [String; 0], "nobody knows what it was");
        }
        assert_eq!(said("", &["docker-pullable://hub@sha256:moved"], true).len(), 1, "an older kubelet's word");
        // The image was put on the node by hand, or came from a mirror under another name.
        assert_eq!(said("", &["sha256:moved"], true), [] as [String; 0]);
        assert_eq!(said("", &["mirror.example.org/hub@sha256:moved"], true), [] as [String; 0]);
    }
}
