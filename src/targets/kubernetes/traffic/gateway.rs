//! Gateway API: `rules[].backendRefs[].weight` of HTTPRoutes and GRPCRoutes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Pair, Path, Testers,
    split::{Form, Lists, Mark, Places, is_among},
};
use crate::{clients::kube::ObjectId, model::Share};

/// The API allows weights to 1 000 000.
const TOTAL: u64 = 10_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Names of the routes.
    pub routes: Vec<String>,
    #[serde(default)]
    pub kind: RouteKind,
    /// Which of their rules, by number from 0 or by name; without it, all that send to the stable Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RouteKind {
    #[default]
    #[serde(rename = "HTTPRoute")]
    Http,
    #[serde(rename = "GRPCRoute")]
    Grpc,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Rule {
    Number(usize),
    Name(String),
}

impl RouteKind {
    fn name(self) -> &'static str {
        match self {
            RouteKind::Http => "HTTPRoute",
            RouteKind::Grpc => "GRPCRoute",
        }
    }
}

impl Gateway {
    pub fn routes(&self, namespace: &str) -> Vec<ObjectId> {
        let id = |name: &String| ObjectId {
            api_version: "gateway.networking.k8s.io/v1".to_owned(),
            kind: self.kind.name().to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.clone(),
        };
        self.routes.iter().map(id).collect()
    }

    pub fn form(&self, pair: &Pair, route: &Value) -> Form {
        let service = |name: &str| {
            vec![
                Mark::new("name", [name.to_owned()]),
                Mark::new("kind", ["Service".to_owned()]).or_missing(),
                Mark::new("namespace", [pair.namespace.clone()]).or_missing(),
            ]
        };
        let canary = service(&pair.canary);
        let lists = Lists {
            at: self.rules_of(route, &canary),
            stable: service(&pair.stable),
            canary,
            weight: Path::of("weight"),
            missing: 1,
            alone: 1,
            even: false,
            owned: pair.owned,
        };
        Form { embedded: None, places: Places::Lists(lists), total: TOTAL, percent: false }
    }

    /// Where the backends of the rules are that are ours to move. A rule that is named and not there may have another name
    /// today: then every rule that leads to the canary counts.
    fn rules_of(&self, route: &Value, canary: &[Mark]) -> Vec<Path> {
        let rules = rules(route);
        let is_ours = |index: &usize| {
            let named = self.rules.is_empty() || self.rules.iter().any(|rule| rule.find(rules) == Some(*index));
            named || (self.lost(route).is_some() && is_among(&rules[*index]["backendRefs"], canary))
        };
        let backends = |index: usize| Path::of(&format!("spec.rules[{index}].backendRefs"));
        (0..rules.len()).filter(is_ours).map(backends).collect()
    }

    /// A rule that the pipeline names and that is not there.
    pub fn lost(&self, route: &Value) -> Option<String> {
        let lost = self.rules.iter().find(|rule| rule.find(rules(route)).is_none());
        lost.map(|rule| match rule {
            Rule::Number(index) => index.to_string(),
            Rule::Name(name) => name.clone(),
        })
    }

    /// Whether a mirror of ours on a route has lost its fraction, and with that copies every request.
    pub fn mirrors_all(&self, pair: &Pair, route: &Value) -> bool {
        let rules = route["spec"]["rules"].as_array().into_iter().flatten();
        let filters = rules.filter_map(|rule| rule["filters"].as_array()).flatten();
        let mut ours = filters.filter(|filter| filter["requestMirror"]["backendRef"]["name"] == pair.canary.as_str());
        ours.any(|filter| filter["requestMirror"]["fraction"].is_null())
    }

    /// The versions of its API that write the same, the newest first.
    pub fn versions(&self) -> &'static [&'static str] {
        match self.kind {
            RouteKind::Http => &["v1", "v1beta1"],
            RouteKind::Grpc => &["v1", "v1alpha2"],
        }
    }

    /// A filter in each of our rules that sends a copy of the requests to the canary.
    pub fn mirror(&self, pair: &Pair, route: &mut Value, mirror: Option<Share>) {
        let places: Vec<Path> = self.form(pair, route).lists_in(route);
        for at in places {
            let list = at.get(route).and_then(Value::as_array).cloned().unwrap_or_default();
            let stable = list.iter().find(|entry| entry["name"] == pair.stable.as_str());
            let port = stable.and_then(|entry| entry.get("port").cloned()).unwrap_or(Value::Null);
            let rule = Path::of(at.to_string().trim_end_matches(".backendRefs"));
            let Some(rule) = rule.get_mut(route).and_then(Value::as_object_mut) else { continue };
            let mut filters = rule.get("filters").and_then(Value::as_array).cloned().unwrap_or_default();
            let ours = |filter: &Value| filter["requestMirror"]["backendRef"]["name"] == pair.canary.as_str();
            filters.retain(|filter| !ours(filter));
            filters.extend(mirror.map(|share| mirror_filter(&pair.canary, &port, share)));
            match filters.is_empty() {
                true => drop(rule.shift_remove("filters")),
                false => drop(rule.insert("filters".to_owned(), Value::Array(filters))),
            }
        }
    }

    /// A route of our own that matches what the stable one does and the testers' header or cookie too. A match on more
    /// headers goes first by the rules of the Gateway API, so that the stable route is left alone.
    pub fn testers(&self, pair: &Pair, route: &Value, testers: &Testers) -> Value {
        let mut rules = Vec::new();
        for at in self.form(pair, route).lists_in(route) {
            let rule = Path::of(at.to_string().trim_end_matches(".backendRefs"));
            let Some(rule) = rule.get(route) else { continue };
            rules.push(testers_rule(pair, rule, testers));
        }
        let name = route["metadata"]["name"].as_str().unwrap_or_default();
        let mut spec = json!({ "parentRefs": route["spec"]["parentRefs"], "rules": rules });
        if let Some(hostnames) = route["spec"].get("hostnames") {
            spec["hostnames"] = hostnames.clone();
        }
        json!({
            "apiVersion": route["apiVersion"],
            "kind": route["kind"],
            "metadata": { "name": format!("{name}-piton-testers"), "namespace": pair.namespace },
            "spec": spec,
        })
    }
}

impl Rule {
    fn find(&self, rules: &[Value]) -> Option<usize> {
        match self {
            Rule::Number(index) => Some(*index).filter(|index| *index < rules.len()),
            Rule::Name(name) => rules.iter().position(|rule| rule["name"] == name.as_str()),
        }
    }
}

fn rules(route: &Value) -> &[Value] {
    route["spec"]["rules"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn mirror_filter(canary: &str, port: &Value, share: Share) -> Value {
    let mut backend = json!({ "name": canary });
    if !port.is_null() {
        backend["port"] = port.clone();
    }
    let mut mirror = json!({ "backendRef": backend });
    if share != Share::WHOLE {
        mirror["fraction"] = json!({ "numerator": share.hundredths(), "denominator": 10_000 });
    }
    json!({ "type": "RequestMirror", "requestMirror": mirror })
}

fn testers_rule(pair: &Pair, rule: &Value, testers: &Testers) -> Value {
    let stable = rule["backendRefs"].as_array().into_iter().flatten().find(|b| b["name"] == pair.stable.as_str());
    let mut backend = stable.cloned().unwrap_or_else(|| json!({}));
    backend["name"] = pair.canary.clone().into();
    backend["weight"] = 1.into();
    let own = rule["matches"].as_array().cloned().filter(|matches| !matches.is_empty());
    let mut matches = Vec::new();
    for one in own.unwrap_or_else(|| vec![json!({})]) {
        for header in headers(testers) {
            let mut one = one.clone();
            let mut all = one["headers"].as_array().cloned().unwrap_or_default();
            all.push(header);
            one["headers"] = Value::Array(all);
            matches.push(one);
        }
    }
    // Time limits and the like are the same for testers.
    let mut new = rule.clone();
    new["matches"] = Value::Array(matches);
    new["backendRefs"] = json!([backend]);
    // A mirror of the stable rule is no business of testers; its other filters are.
    let filters = rule["filters"].as_array().into_iter().flatten().filter(|f| f["type"] != "RequestMirror");
    let filters: Vec<Value> = filters.cloned().collect();
    match (filters.is_empty(), new.as_object_mut()) {
        (true, Some(new)) => drop(new.shift_remove("filters")),
        (false, Some(new)) => drop(new.insert("filters".to_owned(), Value::Array(filters))),
        (_, None) => {}
    }
    new
}

fn headers(testers: &Testers) -> Vec<Value> {
    let exact = |(name, value): (&String, &String)| json!({ "type": "Exact", "name": name, "value": value });
    let cookie = |(name, value): (&String, &String)| {
        let value = format!(r"(^|.*;\s*){}={}(;.*|$)", regex::escape(name), regex::escape(value));
        json!({ "type": "RegularExpression", "name": "Cookie", "value": value })
    };
    testers.header.iter().map(exact).chain(testers.cookie.iter().map(cookie)).collect()
}
