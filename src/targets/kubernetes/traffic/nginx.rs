//! ingress-nginx: a second Ingress of ours, `NAME-piton`, with the paths of the stable one and a weight as annotation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Extras, Fault, Pair, Path};
use crate::{clients::kube::ObjectId, model::Share};

const TOTAL: u64 = 10_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nginx {
    /// Names of the stable Ingresses.
    pub ingresses: Vec<String>,
    /// What the controller's `--annotations-prefix` says.
    #[serde(default = "default_prefix")]
    pub prefix: String,
}

fn default_prefix() -> String {
    "nginx.ingress.kubernetes.io".to_owned()
}

impl Nginx {
    pub fn ingresses(&self, namespace: &str) -> Vec<ObjectId> {
        self.ingresses.iter().map(|name| ingress(namespace, name)).collect()
    }

    /// The name of our Ingress beside a stable one.
    pub fn beside(&self, stable: &ObjectId) -> ObjectId {
        ObjectId { name: format!("{}-piton", stable.name), ..stable.clone() }
    }

    /// Our Ingress with the canary at a share. Of the stable one it takes the paths to the stable Service, the hosts, TLS
    /// and the controller's own annotations; those of others (certificates, names) would act twice.
    pub fn clone_of(&self, pair: &Pair, stable: &Value, share: Share, extras: &Extras) -> Result<Value, Fault> {
        let rules: Vec<Value> =
            stable["spec"]["rules"].as_array().into_iter().flatten().filter_map(|rule| ours(pair, rule)).collect();
        if rules.is_empty() {
            let others = services(stable);
            let places = vec![Path::of("spec.rules[*].http.paths[*].backend.service.name")];
            return Err(Fault::NoStable { wanted: pair.stable.clone(), others, places });
        }
        let mut spec = json!({ "rules": rules });
        for key in ["ingressClassName", "tls"] {
            if let Some(value) = stable["spec"].get(key) {
                spec[key] = value.clone();
            }
        }
        let name = stable["metadata"]["name"].as_str().unwrap_or_default();
        Ok(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": format!("{name}-piton"),
                "namespace": pair.namespace,
                "annotations": self.annotations(stable, share, extras),
            },
            "spec": spec,
        }))
    }

    fn annotations(&self, stable: &Value, share: Share, extras: &Extras) -> Map<String, Value> {
        let mut all: Map<String, Value> = Map::new();
        for (key, value) in stable["metadata"]["annotations"].as_object().into_iter().flatten() {
            let of_nginx = key.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('/'));
            if of_nginx.is_some_and(|rest| !rest.starts_with("canary")) || key == "kubernetes.io/ingress.class" {
                all.insert(key.clone(), value.clone());
            }
        }
        let mut set = |key: &str, value: String| all.insert(format!("{}/{key}", self.prefix), value.into());
        set("canary", "true".to_owned());
        set("canary-weight", share.hundredths().to_string());
        set("canary-weight-total", TOTAL.to_string());
        if let Some(testers) = &extras.testers {
            // The controller knows one header and one cookie, and of the cookie only the value `always`.
            if let Some((name, value)) = testers.header.iter().next() {
                set("canary-by-header", name.clone());
                set("canary-by-header-value", value.clone());
            }
            if let Some((name, _)) = testers.cookie.iter().next() {
                set("canary-by-cookie", name.clone());
            }
        }
        all
    }

    /// Where our Ingress says what the canary gets.
    pub fn weight(&self) -> Path {
        Path::of(&format!("metadata.annotations[\"{}/canary-weight\"]", self.prefix))
    }

    /// What our Ingress gives the canary; an annotation that is no weight gives nothing, as the controller sees it.
    pub fn share(&self, ours: &Value) -> Share {
        let number = |key: &str| {
            let text = ours["metadata"]["annotations"][format!("{}/{key}", self.prefix)].as_str();
            text.and_then(|text| text.parse::<u64>().ok())
        };
        if ours["metadata"]["annotations"][format!("{}/canary", self.prefix)] != "true" {
            return Share::NONE;
        }
        let total = number("canary-weight-total").filter(|total| *total > 0).unwrap_or(100);
        let hundredths = number("canary-weight").unwrap_or(0).min(total) * 10_000 / total;
        u16::try_from(hundredths).ok().and_then(Share::of_hundredths).unwrap_or(Share::NONE)
    }
}

pub fn ingress(namespace: &str, name: &str) -> ObjectId {
    ObjectId {
        api_version: "networking.k8s.io/v1".to_owned(),
        kind: "Ingress".to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }
}

/// The rule with its paths to the stable Service, led to the canary; `None` without any.
fn ours(pair: &Pair, rule: &Value) -> Option<Value> {
    let is_ours = |path: &&Value| path["backend"]["service"]["name"] == pair.stable.as_str();
    let paths: Vec<Value> = rule["http"]["paths"]
        .as_array()?
        .iter()
        .filter(is_ours)
        .map(|path| {
            let mut path = path.clone();
            path["backend"]["service"]["name"] = pair.canary.clone().into();
            path
        })
        .collect();
    let mut rule = rule.clone();
    let found = !paths.is_empty();
    rule["http"]["paths"] = Value::Array(paths);
    found.then_some(rule)
}

fn services(ingress: &Value) -> Vec<String> {
    let rules = ingress["spec"]["rules"].as_array().into_iter().flatten();
    let paths = rules.filter_map(|rule| rule["http"]["paths"].as_array()).flatten();
    let names = paths.filter_map(|path| path["backend"]["service"]["name"].as_str());
    names.map(str::to_owned).collect()
}
