//! The canary's Deployment and Service, made from the release's Deployment and the stable Service.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    copies::{self, Renames},
    labels::{self, Labels, Selectors},
    names::{BASE, CANARY, TRACK, TREE},
};
use crate::{
    model::TreeId,
    targets::kubernetes::{
        drift::fields::{self, Owner, Step},
        traffic::{Pair, hand::MANAGER},
    },
};

/// More than that nobody reads in one sentence.
const EDITS_TOLD_MAX: usize = 5;

/// What a canary's Deployment is made of.
pub struct Dress<'a> {
    /// The release's Deployment.
    pub deployment: &'a Value,
    pub name: &'a str,
    pub namespace: &'a str,
    pub tree: &'a TreeId,
    pub renames: &'a Renames,
    pub selectors: &'a Selectors,
    pub replicas: u32,
    /// How many pods stable has.
    pub base: u32,
}

/// Why a Deployment cannot run beside itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DressError {
    #[error(
        "its strategy is `Recreate`, which says that two of it must not run at once; take the `canary` out, or use `waves` over \
         members"
    )]
    Recreate,
    #[error(
        "it mounts the volume claim `{claim}`, which one node at a time can write ({modes}); two releases on one disk are no \
         canary: take the `canary` out, or use `waves` over members"
    )]
    Volume { claim: String, modes: String },
}

/// The labels by which stable pods are told from others, as the release writes them.
pub fn pod_labels(deployment: &Value) -> Labels {
    labels::read(&deployment["spec"]["template"]["metadata"]["labels"])
}

impl Dress<'_> {
    /// The Deployment. Labels and annotations of the stable one stay off it, so that no other tool takes it for its own.
    pub fn deployment(&self) -> Result<Value, DressError> {
        let mut spec = self.deployment["spec"].clone();
        if spec["strategy"]["type"] == "Recreate" {
            return Err(DressError::Recreate);
        }
        spec["replicas"] = self.replicas.into();
        spec["selector"] = json!({ "matchLabels": { CANARY: self.name } });
        if let Some(spec) = spec.as_object_mut() {
            spec.shift_remove("paused");
        }
        spec["template"] = self.template();
        Ok(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": { CANARY: self.name },
                "annotations": { TREE: self.tree.to_string(), BASE: self.base.to_string() },
            },
            "spec": spec,
        }))
    }

    /// The pods: the release's, with references to copies, under labels that select nothing of stable's.
    fn template(&self) -> Value {
        let mut template = self.deployment["spec"]["template"].clone();
        let old = pod_labels(self.deployment);
        let new = labels::relabel(&old, self.selectors, self.name);
        copies::rename(&mut template["spec"], self.renames);
        labels::rewrite(&mut template["spec"], &old, &new);
        let mut all: Map<String, Value> = new.into_iter().map(|(key, value)| (key, value.into())).collect();
        all.insert(CANARY.to_owned(), self.name.into());
        all.insert(TREE.to_owned(), self.tree.to_string().into());
        all.insert(TRACK.to_owned(), "canary".into());
        template["metadata"]["labels"] = Value::Object(all);
        template
    }
}

/// The canary's Service: the stable one's ports, and only pods of this release.
pub fn service(stable: &Value, pair: &Pair, name: &str, tree: &TreeId) -> Value {
    let mut ports = stable["spec"]["ports"].clone();
    for port in ports.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        port.shift_remove("nodePort");
    }
    let mut spec = json!({ "selector": { CANARY: name, TREE: tree.to_string() }, "ports": ports });
    for key in ["sessionAffinity", "sessionAffinityConfig", "internalTrafficPolicy", "trafficDistribution"] {
        if let Some(value) = stable["spec"].get(key) {
            spec[key] = value.clone();
        }
    }
    if stable["spec"]["clusterIP"] == "None" {
        spec["clusterIP"] = "None".into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": pair.canary, "namespace": pair.namespace, "labels": { CANARY: name } },
        "spec": spec,
    })
}

/// The volume claims that a Deployment's pods mount.
pub fn claims(deployment: &Value) -> Vec<String> {
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().into_iter().flatten();
    let writable = volumes.filter(|volume| volume["persistentVolumeClaim"]["readOnly"] != true);
    writable.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str()).map(str::to_owned).collect()
}

/// Two releases may use a claim at once if several nodes may write it, or if nobody does.
pub fn shareable(name: &str, claim: &Value) -> Result<(), DressError> {
    let modes: Vec<&str> =
        claim["spec"]["accessModes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match modes.iter().any(|mode| matches!(*mode, "ReadWriteMany" | "ReadOnlyMany")) {
        true => Ok(()),
        false => Err(DressError::Volume { claim: name.to_owned(), modes: modes.join(", ") }),
    }
}

/// What somebody else set in the specification of an object of ours: each field, who and when. How many pods there are is not
/// ours alone to say.
pub fn edits(object: &Value) -> Option<String> {
    let mut found: BTreeMap<String, Owner> = BTreeMap::new();
    for (path, owner) in fields::held(object) {
        let field = fields::shown(&path);
        let of_spec = path.first() == Some(&Step::Key("spec".to_owned())) && field != "spec.replicas";
        let newest = found.get(&field).is_none_or(|known| known.at <= owner.at);
        if of_spec && newest && owner.manager != MANAGER && owner.subresource.is_empty() {
            found.insert(field, owner);
        }
    }
    let told = found.iter().take(EDITS_TOLD_MAX).map(|(field, owner)| format!("{field} ({owner})"));
    let told = told.collect::<Vec<_>>().join(", ");
    match found.len().saturating_sub(EDITS_TOLD_MAX) {
        _ if found.is_empty() => None,
        0 => Some(told),
        more => Some(format!("{told}, and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "web", "labels": {"app.kubernetes.io/instance": "hub"}},
            "spec": {
                "replicas": 7,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web", "team": "a"}, "annotations": {"x": "y"}},
                    "spec": {"containers": [{"name": "c", "image": "i:2", "envFrom": [{"configMapRef": {"name": "c"}}]}]},
                },
            },
        })
    }

    fn tree() -> TreeId {
        "4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().expect("a tree")
    }

    fn dressed(deployment: &Value) -> Result<Value, DressError> {
        let selectors = Selectors { escape: vec![Labels::from([("app".into(), "web".into())])], keep: Labels::new() };
        let renames = Renames::from([((copies::Kind::ConfigMap, "c".to_owned()), "c-piton-1".to_owned())]);
        let dress = Dress {
            deployment,
            name: "web-piton-canary",
            namespace: "hub",
            tree: &tree(),
            renames: &renames,
            selectors: &selectors,
            replicas: 2,
            base: 7,
        };
        dress.deployment()
    }

    #[test]
    fn a_canary_is_selected_by_nothing_of_stables() {
        let canary = dressed(&deployment()).expect("it is dressed");
        assert_eq!(canary["spec"]["selector"]["matchLabels"], json!({"piton.dev/canary": "web-piton-canary"}));
        assert_eq!(
            canary["spec"]["template"]["metadata"]["labels"],
            json!({
                "app": "web-piton-canary",
                "team": "a",
                "piton.dev/canary": "web-piton-canary",
                "piton.dev/tree": tree().to_string(),
                "piton.dev/track": "canary",
            })
        );
        assert_eq!(canary["spec"]["replicas"], 2);
        assert_eq!(canary["spec"]["template"]["metadata"]["annotations"]["x"], "y");
        assert_eq!(canary["metadata"]["labels"], json!({"piton.dev/canary": "web-piton-canary"}));
        let container = &canary["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["envFrom"][0]["configMapRef"]["name"], "c-piton-1");
    }

    #[test]
    fn what_must_not_run_twice_is_refused() {
        let mut recreate = deployment();
        recreate["spec"]["strategy"] = json!({"type": "Recreate"});
        assert_eq!(dressed(&recreate), Err(DressError::Recreate));
        let claim = |mode: &str| json!({"spec": {"accessModes": [mode]}});
        assert_eq!(shareable("data", &claim("ReadWriteMany")), Ok(()));
        assert!(shareable("data", &claim("ReadWriteOnce")).is_err());
        let mut with = deployment();
        with["spec"]["template"]["spec"]["volumes"] = json!([
            {"persistentVolumeClaim": {"claimName": "data"}},
            {"persistentVolumeClaim": {"claimName": "pictures", "readOnly": true}},
        ]);
        assert_eq!(claims(&with), ["data"]);
    }

    #[test]
    fn somebody_elses_edit_is_seen() {
        let mut object = json!({"metadata": {"managedFields": [
            {"manager": "piton", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:template": {}}}},
            {"manager": "kube-controller-manager", "subresource": "status", "fieldsV1": {"f:status": {}}},
            {"manager": "kubectl-scale", "time": "2026-01-01T00:00:01Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        ]}});
        assert_eq!(edits(&object), None);
        let fields: Map<String, Value> = (1..8).map(|number| (format!("f:a{number}"), json!({}))).collect();
        object["metadata"]["managedFields"][2]["fieldsV1"]["f:spec"]["f:template"] = json!({"f:spec": fields});
        let told = edits(&object).expect("an edit");
        let first = "spec.template.spec.a1 (kubectl-scale, 2026-01-01T00:00:01.000Z), spec.template.spec.a2 (";
        assert!(
            told.starts_with(first)
                && told.ends_with("spec.template.spec.a5 (kubectl-scale, 2026-01-01T00:00:01.000Z), and 2 more"),
            "{told}"
        );
    }

    #[test]
    fn a_service_takes_the_ports_and_only_this_release() {
        let stable = json!({"spec": {
            "type": "NodePort", "selector": {"app": "web"}, "clusterIP": "10.0.0.1",
            "ports": [{"port": 80, "targetPort": "http", "nodePort": 30000}],
        }});
        let pair = Pair { namespace: "hub".into(), stable: "web".into(), canary: "web-c".into(), owned: true };
        let made = service(&stable, &pair, "web-piton-canary", &tree());
        assert_eq!(made["spec"]["ports"], json!([{"port": 80, "targetPort": "http"}]));
        assert_eq!(made["spec"]["selector"]["piton.dev/tree"], tree().to_string());
        assert_eq!(made["spec"].get("clusterIP"), None);
    }
}
