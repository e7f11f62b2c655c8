//! Istio: `http[].route[].weight` of VirtualServices, and the same of `tls` and `tcp`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Extras, Pair, Path, Testers,
    split::{Form, Lists, Mark, Places, is_among},
};
use crate::{clients::kube::ObjectId, model::Share};

/// The name of the route in `http` that leads testers to the canary.
const TESTERS: &str = "piton-testers";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Istio {
    /// Names of the VirtualServices.
    pub virtual_services: Vec<String>,
    /// Which of their `http` routes, by name; without it, all routes to the stable host, `tls` and `tcp` too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Two subsets of one host, which your DestinationRule tells apart by the label `piton.dev/track`: `stable`, which
    /// your pods carry, and `canary`, which ours do. Without it the canary has a host of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsets: Option<Subsets>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subsets {
    pub stable: String,
    pub canary: String,
}

impl Istio {
    pub fn routes(&self, namespace: &str) -> Vec<ObjectId> {
        let id = |name: &String| ObjectId {
            api_version: "networking.istio.io/v1".to_owned(),
            kind: "VirtualService".to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.clone(),
        };
        self.virtual_services.iter().map(id).collect()
    }

    pub fn form(&self, pair: &Pair, route: &Value) -> Form {
        let host = |name: &str| Mark::new("destination.host", hosts(name, &pair.namespace));
        let subset = |name: &String| Mark::new("destination.subset", [name.clone()]);
        let (stable, canary) = match &self.subsets {
            None => (vec![host(&pair.stable)], vec![host(&pair.canary)]),
            Some(subsets) => {
                (vec![host(&pair.stable), subset(&subsets.stable)], vec![host(&pair.stable), subset(&subsets.canary)])
            }
        };
        let lists = Lists {
            at: self.lists(route, &canary),
            stable,
            canary,
            weight: Path::of("weight"),
            missing: 0,
            alone: 100,
            owned: pair.owned,
        };
        Form { embedded: None, places: Places::Lists(lists), total: 100, percent: true }
    }

    /// A route that is named and not there may have another name today: then every route that leads to the canary counts.
    fn lists(&self, route: &Value, canary: &[Mark]) -> Vec<Path> {
        let http = http(route);
        let is_ours = |index: &usize| {
            let one = &http[*index];
            let named = self.routes.is_empty() || self.routes.iter().any(|name| one["name"] == name.as_str());
            let is_lost = || self.lost(route).is_some() && is_among(&one["route"], canary);
            one["name"] != TESTERS && (named || is_lost())
        };
        let path = |index: usize| Path::of(&format!("spec.http[{index}].route"));
        let of_http = (0..http.len()).filter(is_ours).map(path);
        match self.routes.is_empty() {
            true => of_http.chain([Path::of("spec.tls[*].route"), Path::of("spec.tcp[*].route")]).collect(),
            false => of_http.collect(),
        }
    }

    /// A route that the pipeline names and that is not there.
    pub fn lost(&self, route: &Value) -> Option<String> {
        let is_there = |name: &String| http(route).iter().any(|one| one["name"] == name.as_str());
        self.routes.iter().find(|name| !is_there(name)).cloned()
    }

    pub fn decorate(&self, pair: &Pair, route: &mut Value, extras: Option<&Extras>) {
        if let Some(http) = route["spec"].get_mut("http").and_then(Value::as_array_mut) {
            http.retain(|one| one["name"] != TESTERS);
        }
        let canary = self.canary(pair);
        let places = self.form(pair, route).lists_in(route);
        for place in places.iter().filter(|place| place.to_string().starts_with("spec.http")) {
            let at = Path::of(place.to_string().trim_end_matches(".route"));
            let Some(one) = at.get_mut(route).and_then(Value::as_object_mut) else { continue };
            if one.get("mirror") == Some(&canary) {
                one.shift_remove("mirror");
                one.shift_remove("mirrorPercentage");
            }
            if let Some(share) = extras.and_then(|extras| extras.mirror).filter(|_| !one.contains_key("mirror")) {
                one.insert("mirror".to_owned(), canary.clone());
                one.insert("mirrorPercentage".to_owned(), json!({ "value": percent(share) }));
            }
        }
        let Some(testers) = extras.and_then(|extras| extras.testers.as_ref()) else { return };
        if let Some(http) = route["spec"].get_mut("http").and_then(Value::as_array_mut) {
            let to = json!([{ "destination": canary }]);
            http.insert(0, json!({ "name": TESTERS, "match": matches(testers), "route": to }));
        }
    }

    fn canary(&self, pair: &Pair) -> Value {
        let host = |name: &str| hosts(name, &pair.namespace).into_iter().next().unwrap_or_default();
        match &self.subsets {
            None => json!({ "host": host(&pair.canary) }),
            Some(subsets) => json!({ "host": host(&pair.stable), "subset": subsets.canary }),
        }
    }
}

fn http(route: &Value) -> &[Value] {
    route["spec"]["http"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The ways to write a Service's host, the complete one first.
fn hosts(name: &str, namespace: &str) -> Vec<String> {
    ["NAME.NAMESPACE.svc.cluster.local", "NAME", "NAME.NAMESPACE", "NAME.NAMESPACE.svc"]
        .map(|form| form.replace("NAMESPACE", namespace).replace("NAME", name))
        .to_vec()
}

fn percent(share: Share) -> f64 {
    f64::from(share.hundredths()) / 100.0
}

fn matches(testers: &Testers) -> Vec<Value> {
    let exact = |(name, value): (&String, &String)| json!({ "headers": { name: { "exact": value } } });
    let cookie = |(name, value): (&String, &String)| {
        let regex = format!(r"(^|.*;\s*){}={}(;.*|$)", regex::escape(name), regex::escape(value));
        json!({ "headers": { "cookie": { "regex": regex } } })
    };
    testers.header.iter().map(exact).chain(testers.cookie.iter().map(cookie)).collect()
}
