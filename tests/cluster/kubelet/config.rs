//! What a pod refers to and is not there, in the words of a real kubelet.

use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use serde_json::Value;

/// Why a volume cannot be mounted.
pub async fn missing_volume(client: &Client, pod: &DynamicObject) -> Option<String> {
    for volume in list(&pod.data["spec"]["volumes"]) {
        let source = [("ConfigMap", &volume["configMap"], "name"), ("Secret", &volume["secret"], "secretName")];
        for (kind, source, field) in source {
            let wanted = source[field].as_str().filter(|_| source["optional"] != true);
            if let Some(lost) = absent(client, pod, kind, wanted, None).await {
                let name = volume["name"].as_str().unwrap_or_default();
                return Some(format!("MountVolume.SetUp failed for volume \"{name}\" : {lost}"));
            }
        }
    }
    None
}

/// Why a container cannot be created.
pub async fn missing_key(client: &Client, pod: &DynamicObject, container: &str) -> Option<String> {
    let spec = &pod.data["spec"];
    let all = list(&spec["initContainers"]).chain(list(&spec["containers"]));
    let container = all.into_iter().find(|one| one["name"] == container)?;
    for from in list(&container["envFrom"]) {
        for (kind, source) in [("ConfigMap", &from["configMapRef"]), ("Secret", &from["secretRef"])] {
            let wanted = source["name"].as_str().filter(|_| source["optional"] != true);
            if let Some(lost) = absent(client, pod, kind, wanted, None).await {
                return Some(lost);
            }
        }
    }
    for variable in list(&container["env"]) {
        let from = &variable["valueFrom"];
        for (kind, source) in [("ConfigMap", &from["configMapKeyRef"]), ("Secret", &from["secretKeyRef"])] {
            let wanted = source["name"].as_str().filter(|_| source["optional"] != true);
            if let Some(lost) = absent(client, pod, kind, wanted, source["key"].as_str()).await {
                return Some(lost);
            }
        }
    }
    None
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Nothing is said to be absent while the API server does not answer.
async fn absent(
    client: &Client,
    pod: &DynamicObject,
    kind: &str,
    name: Option<&str>,
    key: Option<&str>,
) -> Option<String> {
    let (name, namespace) = (name?, pod.namespace().unwrap_or_default());
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    match api.get_opt(name).await {
        Ok(None) => Some(format!("{} \"{name}\" not found", kind.to_lowercase())),
        Ok(Some(object)) => {
            let key = key?;
            let there = ["data", "binaryData"].iter().any(|field| object.data[*field].get(key).is_some());
            (!there).then(|| format!("couldn't find key {key} in {kind} {namespace}/{name}"))
        }
        Err(_) => None,
    }
}
