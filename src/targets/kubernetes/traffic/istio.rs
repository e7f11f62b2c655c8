//! Istio: `http[].route[].weight` of VirtualServices, and the same of `tls` and `tcp`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Extras, Pair, Path, Testers,
    split::{Form, Lists, Mark, Places, is_among},
};
use crate::{clients::kube::ObjectId, model::Share};

/// How the names of the routes in `http` begin that lead testers to the canary.
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

    /// The versions of its API that write the same, the newest first.
    pub const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

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
            even: false,
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
            !is_for_testers(one) && (named || is_lost())
        };
        let of_http = (0..http.len()).filter(is_ours).map(http_route);
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
            http.retain(|one| !is_for_testers(one));
        }
        let places = self.form(pair, route).lists_in(route);
        let Some(http) = route["spec"].get_mut("http").and_then(Value::as_array_mut) else { return };
        let mut all = Vec::new();
        for (index, mut one) in std::mem::take(http).into_iter().enumerate() {
            if places.contains(&http_route(index)) {
                self.mirror(pair, &mut one, extras.and_then(|extras| extras.mirror));
                // Before the one that it is made of, so that it takes no request that another route would have had.
                let testers = extras.and_then(|extras| extras.testers.as_ref());
                all.extend(testers.map(|testers| self.for_testers(pair, &one, index, testers)));
            }
            all.push(one);
        }
        *http = all;
    }

    fn mirror(&self, pair: &Pair, one: &mut Value, mirror: Option<Share>) {
        let canary = self.canary(pair, one)["destination"].take();
        let Some(one) = one.as_object_mut() else { return };
        let is_ours = |found: &Value| found["host"] == canary["host"] && found["subset"] == canary["subset"];
        if one.get("mirror").is_some_and(is_ours) {
            one.shift_remove("mirror");
            one.shift_remove("mirrorPercentage");
        }
        if let Some(share) = mirror.filter(|_| !one.contains_key("mirror")) {
            one.insert("mirror".to_owned(), canary);
            one.insert("mirrorPercentage".to_owned(), json!({ "value": percent(share) }));
        }
    }

    /// A route with the same matches and the testers' header, the same options, and the canary behind it.
    fn for_testers(&self, pair: &Pair, one: &Value, index: usize, testers: &Testers) -> Value {
        let mut copy = one.clone();
        copy["name"] = format!("{TESTERS}-{index}").into();
        let own = one["match"].as_array().filter(|all| !all.is_empty()).cloned().unwrap_or_else(|| vec![json!({})]);
        let with = |(name, value): (String, Value)| {
            own.iter().map(move |one| {
                let mut one = one.clone();
                if !one["headers"].is_object() {
                    one["headers"] = json!({});
                }
                one["headers"][&name] = value.clone();
                one
            })
        };
        copy["match"] = headers(testers).into_iter().flat_map(with).collect();
        copy["route"] = json!([self.canary(pair, one)]);
        for key in ["mirror", "mirrors", "mirrorPercentage", "mirror_percent"] {
            copy.as_object_mut().map(|copy| copy.shift_remove(key));
        }
        copy
    }

    /// The entry of the canary: stable's, with its port and options, and another destination.
    fn canary(&self, pair: &Pair, one: &Value) -> Value {
        let host = |name: &str| hosts(name, &pair.namespace).into_iter().next().unwrap_or_default();
        let stable = hosts(&pair.stable, &pair.namespace);
        let is_stable = |entry: &&Value| {
            let destination = &entry["destination"];
            let subset = self.subsets.as_ref().is_none_or(|subsets| destination["subset"] == subsets.stable.as_str());
            subset && destination["host"].as_str().is_some_and(|host| stable.iter().any(|known| known == host))
        };
        let entries = one["route"].as_array().into_iter().flatten();
        let mut entry = entries.into_iter().find(is_stable).cloned().unwrap_or_else(|| json!({ "destination": {} }));
        match &self.subsets {
            None => entry["destination"]["host"] = host(&pair.canary).into(),
            Some(subsets) => {
                entry["destination"]["host"] = host(&pair.stable).into();
                entry["destination"]["subset"] = subsets.canary.clone().into();
            }
        }
        entry.as_object_mut().map(|entry| entry.shift_remove("weight"));
        entry
    }
}

fn http_route(index: usize) -> Path {
    Path::of(&format!("spec.http[{index}].route"))
}

fn is_for_testers(one: &Value) -> bool {
    one["name"].as_str().is_some_and(|name| name.starts_with(TESTERS))
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

/// Each header that makes a tester, with what it must say.
fn headers(testers: &Testers) -> Vec<(String, Value)> {
    let exact = |(name, value): (&String, &String)| (name.clone(), json!({ "exact": value }));
    let cookie = |(name, value): (&String, &String)| {
        let regex = format!(r"(^|.*;\s*){}={}(;.*|$)", regex::escape(name), regex::escape(value));
        ("cookie".to_owned(), json!({ "regex": regex }))
    };
    testers.header.iter().map(exact).chain(testers.cookie.iter().map(cookie)).collect()
}
