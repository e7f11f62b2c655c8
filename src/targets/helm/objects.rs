//! The objects of a Helm release: what its manifest names, what the cluster would say to them, and what is left over.

use futures_util::{FutureExt, StreamExt, stream};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde::Deserialize;
use serde_json::Value;

use super::config::Unit;
use crate::clients::kube::{Cluster, KubeError, ObjectId};

/// How many objects are asked for at the same time.
const AT_ONCE: usize = 8;
/// Who asks what would happen; nothing is ever stored under this name.
pub const REHEARSER: &str = "piton-rehearsal";
/// Helm's own marks of what belongs to a release.
const OWNER: [&str; 2] = ["meta.helm.sh/release-name", "meta.helm.sh/release-namespace"];
const KEEP: &str = "helm.sh/resource-policy";

/// The objects of a manifest, lists unpacked; Helm has rendered and read it before.
pub fn parse(manifest: &str) -> Result<Vec<Value>, String> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(manifest) {
        let value = Value::deserialize(document).map_err(|error| format!("the manifest cannot be read: {error}"))?;
        match value {
            Value::Null => {}
            list if list["items"].is_array() && list["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                objects.extend(list["items"].as_array().into_iter().flatten().cloned());
            }
            object => objects.push(object),
        }
    }
    Ok(objects)
}

/// The objects' names, the release's namespace filled in where one belongs and none is said.
pub async fn names(cluster: &Cluster, objects: &[Value], namespace: &str) -> Vec<ObjectId> {
    let mut names = Vec::new();
    for object in objects {
        names.extend(name(cluster, object, namespace).await);
    }
    names
}

async fn name(cluster: &Cluster, object: &Value, namespace: &str) -> Option<ObjectId> {
    let mut id = ObjectId::of(object)?;
    match cluster.is_namespaced(&id).await {
        Ok(true) => id.namespace = id.namespace.or_else(|| Some(namespace.to_owned())),
        Ok(false) => id.namespace = None,
        // Its kind comes with this release.
        Err(_) => {}
    }
    Some(id)
}

/// Asks the API server about each object and changes none: what validation, admission and quota refuse, a sentence
/// each.
pub async fn refusals(cluster: &Cluster, objects: &[Value], namespace: &str) -> Result<Vec<String>, KubeError> {
    let questions: Vec<_> = objects.iter().map(|object| refusal(cluster, object, namespace).boxed()).collect();
    let asked: Vec<Result<Option<String>, KubeError>> = stream::iter(questions).buffered(AT_ONCE).collect().await;
    asked.into_iter().filter_map(Result::transpose).collect()
}

async fn refusal(cluster: &Cluster, object: &Value, namespace: &str) -> Result<Option<String>, KubeError> {
    let Some(id) = name(cluster, object, namespace).await else { return Ok(None) };
    let api = match cluster.api(&id).await {
        Err(KubeError::UnknownKind { .. }) => return Ok(None),
        api => api?,
    };
    let parameters = PatchParams { dry_run: true, ..PatchParams::apply(REHEARSER).force() };
    let answer = api.patch(&id.name, &parameters, &Patch::Apply(object)).await;
    match answer.map_err(|error| KubeError::from(error).of(object)) {
        Ok(_) => Ok(None),
        Err(error) => match error.code() {
            Some(code) if is_refusal(code, &error.to_string()) => Ok(Some(format!("{id}: {error}"))),
            Some(_) => Ok(None),
            None => Err(error),
        },
    }
}

/// Whether Helm, too, would be refused: by validation, admission or quota, for a wrong type. Others are not, such as a
/// namespace that only the deploy makes, or a list that has the same key twice.
fn is_refusal(code: u16, said: &str) -> bool {
    let wrong_type = said.contains("failed to create typed patch object") && said.contains(": expected ");
    matches!(code, 403 | 422) || said.contains("admission webhook") || wrong_type
}

/// Deletes these objects where they belong to this release: not what Helm is told to keep, and never a kind, a
/// namespace or a volume claim. Gives the names of what went.
pub async fn sweep(cluster: &Cluster, unit: &Unit, left: &[ObjectId]) -> Result<Vec<String>, KubeError> {
    let mut gone = Vec::new();
    for id in left.iter().filter(|id| !is_precious(id)) {
        let api = cluster.api(id).await?;
        let Some(found) = api.get_opt(&id.name).await? else { continue };
        let annotations = found.metadata.annotations.unwrap_or_default();
        let owner = OWNER.map(|name| annotations.get(name).map(String::as_str));
        if owner != [Some(unit.release.as_str()), Some(unit.namespace.as_str())] || annotations.contains_key(KEEP) {
            continue;
        }
        match api.delete(&id.name, &DeleteParams::background()).await.map_err(KubeError::from) {
            Ok(_) => gone.push(id.to_string()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(gone)
}

fn is_precious(id: &ObjectId) -> bool {
    matches!(id.kind.as_str(), "CustomResourceDefinition" | "Namespace" | "PersistentVolumeClaim" | "PersistentVolume")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_empty_documents_are_unpacked() {
        let manifest = "---\n# Source: a\n---\napiVersion: v1\nkind: ConfigMapList\nitems:\n\
                        - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n\
                        ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n";
        let objects = parse(manifest).expect("it reads");
        let names: Vec<&str> = objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(parse("a: [").is_err());
    }
}
