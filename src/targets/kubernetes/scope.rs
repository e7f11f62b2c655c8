//! Gives objects that name no namespace the one that they go to, and takes it from those that live in none.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{manifest::Manifest, refusals::world};
use crate::{
    clients::kube::{Cluster, KubeError, ObjectId},
    targets::TargetError,
};

/// Sets namespaces by what the cluster, or a CRD of the release itself, says of each kind.
pub async fn complete(cluster: &Cluster, namespace: &str, manifests: &mut [Manifest]) -> Result<(), TargetError> {
    let coming = definitions(manifests);
    let mut known: BTreeMap<(String, String), bool> = BTreeMap::new();
    for manifest in manifests {
        let kind = (manifest.id.api_version.clone(), manifest.id.kind.clone());
        let namespaced = match known.get(&kind) {
            Some(namespaced) => *namespaced,
            None => is_namespaced(cluster, &coming, manifest).await?,
        };
        known.insert(kind, namespaced);
        set(manifest, namespaced.then_some(namespace));
    }
    Ok(())
}

/// Whether the kind of this manifest lives in namespaces; a CRD of the release counts before the cluster knows it.
async fn is_namespaced(
    cluster: &Cluster,
    coming: &BTreeMap<(String, String), bool>,
    manifest: &Manifest,
) -> Result<bool, TargetError> {
    let id = &manifest.id;
    if let Some(namespaced) = coming.get(&(id.group().to_owned(), id.kind.clone())) {
        return Ok(*namespaced);
    }
    match cluster.is_namespaced(id).await {
        Ok(namespaced) => Ok(namespaced),
        Err(error @ KubeError::UnknownKind { .. }) => {
            Err(TargetError::Release(format!("{}: cannot apply {id}: {error}", manifest.spot())))
        }
        Err(error) => {
            Err(world(format!("cannot ask the cluster for its kinds: {}", super::refusals::with_hint(&error))))
        }
    }
}

/// The kinds that the release's own CRDs bring: by group and kind, whether they live in namespaces.
fn definitions(manifests: &[Manifest]) -> BTreeMap<(String, String), bool> {
    let crds = manifests.iter().filter(|m| m.id.kind == "CustomResourceDefinition");
    let brought = |m: &Manifest| {
        let spec = &m.object["spec"];
        let (group, kind) = (spec["group"].as_str()?, spec["names"]["kind"].as_str()?);
        Some(((group.to_owned(), kind.to_owned()), spec["scope"] == "Namespaced"))
    };
    crds.filter_map(brought).collect()
}

fn set(manifest: &mut Manifest, namespace: Option<&str>) {
    match namespace {
        Some(default) => {
            let named = manifest.id.namespace.clone().filter(|namespace| !namespace.is_empty());
            let namespace = named.unwrap_or_else(|| default.to_owned());
            manifest.object["metadata"]["namespace"] = json!(namespace);
            manifest.id.namespace = Some(namespace);
        }
        None => {
            if let Some(metadata) = manifest.object["metadata"].as_object_mut() {
                metadata.remove("namespace");
            }
            manifest.id.namespace = None;
        }
    }
}

/// The objects of a release that a rehearsal cannot try yet, because what they stand on comes with the release.
pub fn stands_on_new(id: &ObjectId, new_namespaces: &[String]) -> bool {
    id.namespace.as_ref().is_some_and(|namespace| new_namespaces.contains(namespace))
}

/// Our marks on an object: whose it is, from which tree, under which lease.
pub fn mark(object: &mut Value, labels: &[(&str, &str)], annotations: &[(&str, &str)]) {
    for (place, marks) in [("labels", labels), ("annotations", annotations)] {
        let there = &mut object["metadata"][place];
        if !there.is_object() {
            *there = json!({});
        }
        for (key, value) in marks {
            there[*key] = json!(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(object: Value) -> Manifest {
        let id = ObjectId::of(&object).expect("it has a name");
        Manifest { id, object, file: String::new(), line: 0, document: 0 }
    }

    #[test]
    fn namespaces_are_filled_in_and_taken_out() {
        let mut map = manifest(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}));
        set(&mut map, Some("shop"));
        assert_eq!(
            (map.id.to_string().as_str(), &map.object["metadata"]["namespace"]),
            ("ConfigMap shop/a", &json!("shop"))
        );
        set(&mut map, Some("other"));
        assert_eq!(map.id.namespace.as_deref(), Some("shop"));
        set(&mut map, None);
        assert_eq!(map.object["metadata"], json!({"name": "a"}));
    }

    #[test]
    fn a_release_knows_the_kinds_that_it_brings() {
        let crd = manifest(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.org"},
            "spec": {"group": "example.org", "names": {"kind": "Widget"}, "scope": "Namespaced"},
        }));
        let kinds = definitions(&[crd]);
        assert_eq!(kinds.get(&("example.org".to_owned(), "Widget".to_owned())), Some(&true));
    }

    #[test]
    fn marks_are_added_beside_what_is_there() {
        let mut object = json!({"metadata": {"name": "a", "labels": {"app": "web"}}});
        mark(&mut object, &[("piton.dev/environment", "staging")], &[("piton.dev/fence", "3")]);
        assert_eq!(object["metadata"]["labels"], json!({"app": "web", "piton.dev/environment": "staging"}));
        assert_eq!(object["metadata"]["annotations"], json!({"piton.dev/fence": "3"}));
    }
}
