//! Traefik: `spec.weighted.services[].weight` of TraefikServices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Pair, Path,
    split::{Form, Lists, Mark, Places},
};
use crate::{clients::kube::ObjectId, model::Share};

/// Where the weights are.
const SERVICES: &str = "spec.weighted.services";
/// The kind of a backend that is no Service.
const KIND: &str = "TraefikService";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Traefik {
    /// Names of the TraefikServices.
    pub services: Vec<String>,
}

impl Traefik {
    pub fn routes(&self, namespace: &str) -> Vec<ObjectId> {
        let id = |name: &String| ObjectId {
            api_version: "traefik.io/v1alpha1".to_owned(),
            kind: KIND.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.clone(),
        };
        self.services.iter().map(id).collect()
    }

    pub fn form(&self, pair: &Pair) -> Form {
        let service = |name: &str| {
            vec![
                Mark::new("name", [name.to_owned()]),
                Mark::new("kind", ["Service".to_owned()]).or_missing(),
                Mark::new("namespace", [pair.namespace.clone()]).or_missing(),
            ]
        };
        let lists = Lists {
            at: vec![Path::of(SERVICES)],
            stable: service(&pair.stable),
            canary: service(&pair.canary),
            weight: Path::of("weight"),
            missing: 1,
            alone: 1,
            even: false,
            owned: pair.owned,
        };
        Form { embedded: None, places: Places::Lists(lists), total: 10_000, percent: false }
    }

    /// With a mirror, stable's entries lead to a TraefikService of ours, which asks stable and sends a copy to the canary;
    /// without one, to the Service itself.
    pub fn mirror(&self, pair: &Pair, route: &mut Value, on: bool) {
        let stable = self.form(pair);
        let places = Path::of(SERVICES);
        let Some(entries) = places.get_mut(route).and_then(Value::as_array_mut) else { return };
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            let ours = is_mirror(entry, pair);
            if ours && !on {
                entry.insert("name".to_owned(), pair.stable.clone().into());
                entry.shift_remove("kind");
            } else if !ours && on && stable.is_stable(&Value::Object(entry.clone())) {
                entry.insert("name".to_owned(), mirror_name(pair).into());
                entry.insert("kind".to_owned(), KIND.into());
            }
        }
    }

    /// The TraefikService that asks stable and sends a copy to the canary, whose answer it throws away.
    pub fn mirrors(&self, pair: &Pair, bare: &Value, share: Share) -> Vec<Value> {
        let form = self.form(pair);
        let entries = Path::of(SERVICES).get(bare).and_then(Value::as_array).cloned().unwrap_or_default();
        let Some(mut stable) = entries.into_iter().find(|entry| form.is_stable(entry)) else { return Vec::new() };
        let mut copy = json!({ "name": pair.canary, "percent": share.hundredths() / 100 });
        for key in ["namespace", "port", "scheme", "passHostHeader", "serversTransport"] {
            if let Some(value) = stable.get(key) {
                copy[key] = value.clone();
            }
        }
        stable["mirrors"] = json!([copy]);
        if let Some(stable) = stable.as_object_mut() {
            stable.shift_remove("weight");
        }
        vec![json!({
            "apiVersion": "traefik.io/v1alpha1",
            "kind": KIND,
            "metadata": { "name": mirror_name(pair), "namespace": pair.namespace },
            "spec": { "mirroring": stable },
        })]
    }

    /// What `mirrors` makes.
    pub fn mirror_ids(&self, pair: &Pair) -> Vec<ObjectId> {
        let ours = Traefik { services: vec![mirror_name(pair)] };
        ours.routes(&pair.namespace)
    }
}

fn mirror_name(pair: &Pair) -> String {
    format!("{}-piton-mirror", pair.stable)
}

fn is_mirror(entry: &Map<String, Value>, pair: &Pair) -> bool {
    let is = |key: &str, text: &str| entry.get(key).and_then(Value::as_str) == Some(text);
    is("kind", KIND) && is("name", &mirror_name(pair))
}
