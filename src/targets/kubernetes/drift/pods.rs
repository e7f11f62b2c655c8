//! Whether the pods of a workload are the release's: a roll-out that did not reach all of them, and one tag that is two images.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::Value;

use crate::{
    clients::kube::{Cluster, KubeError, ObjectId},
    model::Difference,
};

/// Looks at the status of a workload and at its pods; nothing for objects without.
pub async fn look(cluster: &Cluster, id: &ObjectId, live: &Value) -> Result<Vec<Difference>, KubeError> {
    if id.group() != "apps" || !matches!(id.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet") {
        return Ok(Vec::new());
    }
    let mut differences: Vec<Difference> = reached(id, live).into_iter().collect();
    let (Some(namespace), Some(selector)) = (&id.namespace, selector(&live["spec"]["selector"])) else {
        return Ok(differences);
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    // What the API server remembers is new enough, and costs etcd nothing.
    let params = ListParams::default().labels(&selector).match_any();
    let pods = pods.list(&params).await?;
    differences.extend(digests(id, pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none())));
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

/// The same image text must be the same image in all pods.
fn digests<'a>(id: &ObjectId, pods: impl Iterator<Item = &'a Pod>) -> Vec<Difference> {
    let mut found: BTreeMap<(String, String), BTreeMap<String, usize>> = BTreeMap::new();
    for pod in pods {
        let spec = pod.spec.iter().flat_map(|spec| &spec.containers);
        let images: BTreeMap<&str, &str> = spec.filter_map(|c| Some((c.name.as_str(), c.image.as_deref()?))).collect();
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        for status in statuses.filter(|status| !status.image_id.is_empty()) {
            let Some(image) = images.get(status.name.as_str()) else { continue };
            let digest = status.image_id.rsplit_once('@').map_or(status.image_id.as_str(), |(_, digest)| digest);
            let seen = found.entry((status.name.clone(), (*image).to_owned())).or_default();
            *seen.entry(digest.to_owned()).or_default() += 1;
        }
    }
    let several = found.into_iter().filter(|(_, digests)| digests.len() > 1);
    let one = |((container, image), digests): ((String, String), BTreeMap<String, usize>)| {
        let counted: Vec<String> = digests.iter().map(|(digest, pods)| format!("{digest} in {pods}")).collect();
        let field = format!("image {image} of container {container}");
        of(id, &field, "the same in all pods".into(), counted.join(", ").into())
    };
    several.map(one).collect()
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

/// A label selector as the API takes it; `None` where it is empty.
fn selector(selector: &Value) -> Option<String> {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut terms: BTreeSet<String> =
        labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        terms.insert(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    let text = terms.into_iter().collect::<Vec<_>>().join(",");
    (!text.is_empty()).then_some(text)
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

    #[test]
    fn one_tag_that_is_two_images() {
        let pod = |digest: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [{"name": "web", "image": "hub:1"}]},
                "status": {"containerStatuses": [{"name": "web", "image": "hub:1", "ready": true, "restartCount": 0,
                    "imageID": format!("docker.io/library/hub@sha256:{digest}")}]}}))
            .expect("it is a pod")
        };
        assert!(digests(&id("Deployment"), [pod("a"), pod("a")].iter()).is_empty());
        let found = digests(&id("Deployment"), [pod("a"), pod("b"), pod("a")].iter());
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "Deployment hub/web image hub:1 of container web is sha256:a in 2, sha256:b in 1 and should be the same in all pods"
            ]
        );
    }

    #[test]
    fn selectors_are_written_as_the_api_takes_them() {
        let both = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]});
        assert_eq!(selector(&both).expect("a selector"), "app=web,tier in (a,b)");
        assert_eq!(selector(&json!({})), None);
    }
}
