//! Leaves of an object only what is read here, so that memory stays flat however large the objects are.

use serde_json::{Map, Value};

/// Keys of a container that say what to expect of it.
const OF_CONTAINERS: [&str; 7] =
    ["name", "image", "ports", "restartPolicy", "readinessProbe", "startupProbe", "livenessProbe"];

pub(super) fn slim(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        if let Some(notes) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            notes.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    let (core, kind) = (object["apiVersion"] == "v1", object["kind"].as_str().unwrap_or_default().to_owned());
    match kind.as_str() {
        "Pod" if core => pod(&mut object),
        "Event" if core => {
            keep(&mut object, &["apiVersion", "kind", "metadata", "involvedObject", "reason", "message"])
        }
        "Node" if core => {
            keep(&mut object, &["apiVersion", "kind", "metadata", "status"]);
            keep(&mut object["metadata"], &["name", "uid"]);
            keep(&mut object["status"], &["conditions"]);
        }
        "ReplicaSet" => {
            if let Some(spec) = object["spec"].as_object_mut() {
                spec.remove("template");
            }
        }
        _ => {}
    }
    object
}

fn pod(pod: &mut Value) {
    keep(&mut pod["metadata"], &["namespace", "name", "uid", "labels", "ownerReferences", "deletionTimestamp"]);
    keep(&mut pod["spec"], &["nodeName", "restartPolicy", "containers", "initContainers"]);
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            keep(container, &OF_CONTAINERS);
        }
    }
}

fn keep(value: &mut Value, keys: &[&str]) {
    let Some(map) = value.as_object_mut() else { return };
    let kept: Map<String, Value> =
        std::mem::take(map).into_iter().filter(|(key, _)| keys.contains(&key.as_str())).collect();
    *map = kept;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::slim;

    #[test]
    fn what_is_read_stays() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "web", "uid": "u", "managedFields": [1], "annotations": { "a": "b" } },
            "spec": {
                "nodeName": "n", "volumes": [1],
                "containers": [{ "name": "web", "env": [{ "name": "PASSWORD", "value": "secret" }] }],
            },
            "status": { "phase": "Running" },
        });
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web", "uid": "u" },
            "spec": { "nodeName": "n", "containers": [{ "name": "web" }], "initContainers": null },
            "status": { "phase": "Running" },
        });
        assert_eq!(slim(pod), expected);
    }
}
