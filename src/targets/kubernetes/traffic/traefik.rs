//! Traefik: `spec.weighted.services[].weight` of TraefikServices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Pair, Path,
    split::{Form, Lists, Mark, Places},
};
use crate::clients::kube::ObjectId;

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
            kind: "TraefikService".to_owned(),
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
            at: vec![Path::of("spec.weighted.services")],
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
}
