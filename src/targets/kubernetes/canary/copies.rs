//! ConfigMaps and Secrets of the release that differ from what is live: the canary gets copies with names of their own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::names;
use crate::clients::kube::ObjectId;

/// The two kinds that pods read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ConfigMap,
    Secret,
}

pub const KINDS: [Kind; 2] = [Kind::ConfigMap, Kind::Secret];

/// The name that a reference must have, for each one that must change.
pub type Renames = BTreeMap<(Kind, String), String>;

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::ConfigMap => "ConfigMap",
            Kind::Secret => "Secret",
        }
    }

    pub fn id(self, namespace: &str, name: &str) -> ObjectId {
        ObjectId {
            api_version: "v1".to_owned(),
            kind: self.name().to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
        }
    }
}

/// Whether the content is the same: what pods can read of it.
pub fn same(kind: Kind, wanted: &Value, live: &Value) -> bool {
    match kind {
        Kind::ConfigMap => {
            let content = |object: &Value| (filled(&object["data"]), filled(&object["binaryData"]));
            content(wanted) == content(live)
        }
        Kind::Secret => match (secret(wanted), secret(live)) {
            (Some(wanted), Some(live)) => wanted == live,
            (_, _) => false,
        },
    }
}

/// An absent map and an empty one are the same.
fn filled(value: &Value) -> BTreeMap<String, Value> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn secret(object: &Value) -> Option<BTreeMap<String, Vec<u8>>> {
    let secret: Secret = serde_json::from_value(object.clone()).ok()?;
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    let text = secret.string_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    Some(data.chain(text).collect())
}

/// The copy of a release's ConfigMap or Secret for a canary.
pub fn copy(kind: Kind, wanted: &Value, namespace: &str, canary: &str) -> Value {
    let mut copy = json!({
        "apiVersion": "v1",
        "kind": kind.name(),
        "metadata": { "namespace": namespace, "labels": { names::CANARY: canary } },
    });
    for key in ["data", "binaryData", "stringData", "type"] {
        if let Some(value) = wanted.get(key) {
            copy[key] = value.clone();
        }
    }
    // Two canaries that read the same have a copy each, so that one of them may go before the other.
    let content = [&wanted["data"], &wanted["binaryData"], &wanted["stringData"]].map(Value::to_string);
    let content = format!("{canary}\n{}", content.join("\n"));
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    copy["metadata"]["name"] = names::copy(name, &content).into();
    copy
}

/// All ConfigMaps and Secrets that a pod's spec names.
pub fn references(spec: &Value) -> Vec<(Kind, String)> {
    let mut spec = spec.clone();
    let mut all = Vec::new();
    each_reference(&mut spec, &mut |kind, name| all.push((kind, name.clone())));
    all.sort();
    all.dedup();
    all
}

/// Writes the copies' names into a pod's spec.
pub fn rename(spec: &mut Value, renames: &Renames) {
    each_reference(spec, &mut |kind, name| {
        if let Some(new) = renames.get(&(kind, name.clone())) {
            name.clone_from(new);
        }
    });
}

fn each_reference(spec: &mut Value, found: &mut dyn FnMut(Kind, &mut String)) {
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(spec, list) {
            for source in items(container, "envFrom") {
                at(source, &["configMapRef", "name"], Kind::ConfigMap, found);
                at(source, &["secretRef", "name"], Kind::Secret, found);
            }
            for variable in items(container, "env") {
                at(variable, &["valueFrom", "configMapKeyRef", "name"], Kind::ConfigMap, found);
                at(variable, &["valueFrom", "secretKeyRef", "name"], Kind::Secret, found);
            }
        }
    }
    for volume in items(spec, "volumes") {
        at(volume, &["configMap", "name"], Kind::ConfigMap, found);
        at(volume, &["secret", "secretName"], Kind::Secret, found);
        if let Some(projected) = volume.get_mut("projected") {
            for source in items(projected, "sources") {
                at(source, &["configMap", "name"], Kind::ConfigMap, found);
                at(source, &["secret", "name"], Kind::Secret, found);
            }
        }
    }
    for pull in items(spec, "imagePullSecrets") {
        at(pull, &["name"], Kind::Secret, found);
    }
}

fn items<'a>(value: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn at(value: &mut Value, path: &[&str], kind: Kind, found: &mut dyn FnMut(Kind, &mut String)) {
    let inner = path.iter().try_fold(value, |value, key| value.get_mut(key));
    if let Some(Value::String(name)) = inner {
        found(kind, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        json!({
            "containers": [{
                "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "C", "value": "c"},
                ],
            }],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "other"}}]}],
            "volumes": [
                {"name": "a", "configMap": {"name": "c"}},
                {"name": "b", "secret": {"secretName": "s"}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]}},
            ],
            "imagePullSecrets": [{"name": "s"}],
        })
    }

    #[test]
    fn every_reference_is_found_and_renamed() {
        let all = references(&spec());
        let names: Vec<String> = all.iter().map(|(kind, name)| format!("{} {name}", kind.name())).collect();
        assert_eq!(names, ["ConfigMap c", "ConfigMap other", "Secret s"]);
        let mut new = spec();
        let renames = Renames::from([
            ((Kind::ConfigMap, "c".to_owned()), "c2".to_owned()),
            ((Kind::Secret, "s".to_owned()), "s2".to_owned()),
        ]);
        rename(&mut new, &renames);
        let text = new.to_string();
        assert_eq!((text.matches("\"c2\"").count(), text.matches("\"s2\"").count()), (4, 5), "{text}");
        // A plain value that happens to be the name stays.
        assert_eq!(new["containers"][0]["env"][2]["value"], "c");
    }

    #[test]
    fn content_is_compared_not_spelling() {
        let secret =
            |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data});
        let text = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "hi"}});
        assert!(same(Kind::Secret, &text, &secret(json!({"a": "aGk="}))));
        assert!(!same(Kind::Secret, &text, &secret(json!({"a": "aGk=", "b": "aGk="}))));
        assert!(same(Kind::ConfigMap, &json!({}), &json!({"data": {}})));
        assert!(!same(Kind::ConfigMap, &json!({"data": {"a": "1"}}), &json!({"data": {"a": "2"}})));
    }

    #[test]
    fn a_copy_has_the_content_and_nothing_else() {
        let wanted =
            json!({"kind": "ConfigMap", "metadata": {"name": "c", "labels": {"app": "web"}}, "data": {"a": "1"}});
        let copy = copy(Kind::ConfigMap, &wanted, "hub", "web-piton-canary");
        assert_eq!(copy["data"], wanted["data"]);
        assert_eq!(copy["metadata"]["labels"], json!({"piton.dev/canary": "web-piton-canary"}));
        assert!(copy["metadata"]["name"].as_str().expect("a name").starts_with("c-piton-"));
    }
}
