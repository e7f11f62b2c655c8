//! The objects that a GitOps tool says it has made, and whether they are in the tool's own cluster.

use std::collections::BTreeSet;

use serde_json::Value;

use super::config::{Tool, Unit};
use crate::clients::kube::ObjectId;

/// What the tool's object lists. What Argo CD has not brought to its commit yet is left out.
pub fn objects(unit: &Unit, object: &Value) -> BTreeSet<ObjectId> {
    let status = &object["status"];
    let items = |list: &'_ Value| list.as_array().cloned().unwrap_or_default();
    match unit.tool {
        Tool::ArgoCd => {
            let synced = |resource: &Value| resource["status"] == "Synced";
            items(&status["resources"]).iter().filter(|r| synced(r)).filter_map(resource).collect()
        }
        Tool::FluxKustomization | Tool::FluxHelmRelease => {
            items(&status["inventory"]["entries"]).iter().filter_map(entry).collect()
        }
    }
}

/// `{group: apps, version: v1, kind: Deployment, namespace: shop, name: web}`
pub(super) fn resource(resource: &Value) -> Option<ObjectId> {
    let text = |key: &str| resource[key].as_str().unwrap_or_default();
    let named = |key: &str| resource[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (api_version, namespace) = (api_version(text("group"), text("version")), named("namespace"));
    Some(ObjectId { api_version, kind: named("kind")?, namespace, name: named("name")? })
}

/// `{id: shop_web_apps_Deployment, v: v1}`: an underscore is in none of these names; `__` stands for a colon, which
/// roles may have.
fn entry(entry: &Value) -> Option<ObjectId> {
    let (namespace, rest) = entry["id"].as_str()?.split_once('_')?;
    let (rest, kind) = rest.rsplit_once('_')?;
    let (name, group) = rest.rsplit_once('_')?;
    let api_version = api_version(group, entry["v"].as_str().unwrap_or("v1"));
    let namespace = Some(namespace).filter(|name| !name.is_empty()).map(str::to_owned);
    Some(ObjectId { api_version, kind: kind.to_owned(), namespace, name: name.replace("__", ":") })
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Where the tool deploys to, if that is another cluster than its own.
pub fn elsewhere(unit: &Unit, object: &Value) -> Option<String> {
    let spec = &object["spec"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match unit.tool {
        Tool::ArgoCd => {
            let other = |own: &str, value: &Value| text(value).filter(|value| value != own);
            let destination = &spec["destination"];
            other("https://kubernetes.default.svc", &destination["server"])
                .or_else(|| other("in-cluster", &destination["name"]))
        }
        Tool::FluxKustomization | Tool::FluxHelmRelease => {
            let kubeconfig = &spec["kubeConfig"];
            let named = || text(&kubeconfig["secretRef"]["name"]).unwrap_or_else(|| "another cluster".to_owned());
            (!kubeconfig.is_null()).then(named)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::targets::gitops::config::unit_of;

    fn named(ids: BTreeSet<ObjectId>) -> Vec<String> {
        ids.into_iter().map(|id| format!("{} {id}", id.api_version)).collect()
    }

    #[test]
    fn flux_lists_objects_in_one_word_each() {
        let object = json!({ "status": { "inventory": { "entries": [
            { "id": "shop_web_apps_Deployment", "v": "v1" },
            { "id": "shop_settings__ConfigMap", "v": "v1" },
            { "id": "_system__reader_rbac.authorization.k8s.io_ClusterRole", "v": "v1" },
            { "id": "rubbish", "v": "v1" },
        ] } } });
        let expected = [
            "apps/v1 Deployment shop/web",
            "rbac.authorization.k8s.io/v1 ClusterRole system:reader",
            "v1 ConfigMap shop/settings",
        ];
        assert_eq!(named(objects(&unit_of(Tool::FluxKustomization), &object)), expected);
        assert_eq!(objects(&unit_of(Tool::FluxHelmRelease), &json!({})), BTreeSet::new());
    }

    #[test]
    fn argo_cd_lists_what_is_synced_and_what_is_not() {
        let resource = |name: &str, status: &str| {
            json!({ "group": "apps", "version": "v1", "kind": "Deployment", "namespace": "shop", "name": name,
                "status": status })
        };
        let object = json!({ "status": { "resources": [resource("web", "Synced"), resource("api", "OutOfSync")] } });
        assert_eq!(named(objects(&unit_of(Tool::ArgoCd), &object)), ["apps/v1 Deployment shop/web"]);
    }

    #[test]
    fn another_cluster_is_noticed() {
        let argo =
            |destination: Value| elsewhere(&unit_of(Tool::ArgoCd), &json!({ "spec": { "destination": destination } }));
        assert_eq!(argo(json!({ "server": "https://kubernetes.default.svc", "namespace": "shop" })), None);
        assert_eq!(argo(json!({ "name": "in-cluster" })), None);
        assert_eq!(argo(json!({ "name": "eu-west" })).as_deref(), Some("eu-west"));
        assert_eq!(argo(json!({ "server": "https://10.0.0.1" })).as_deref(), Some("https://10.0.0.1"));
        let flux = json!({ "spec": { "kubeConfig": { "secretRef": { "name": "eu-west" } } } });
        assert_eq!(elsewhere(&unit_of(Tool::FluxKustomization), &flux).as_deref(), Some("eu-west"));
        assert_eq!(elsewhere(&unit_of(Tool::FluxKustomization), &json!({ "spec": {} })), None);
    }
}
