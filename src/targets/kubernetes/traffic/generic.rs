//! Any resource with weights in it, told by data: which one, where the backends are, and how large the weights are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Pair, Path,
    split::{Form, Lists, Mark, Places},
};
use crate::clients::kube::ObjectId;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "Written")]
#[schemars(with = "Written")]
pub struct Generic {
    written: Written,
    api_version: String,
    kind: String,
    places: Kept,
    total: u64,
}

#[derive(Debug, Clone, PartialEq)]
enum Kept {
    Backends { at: Vec<Path>, service: Path, weight: Path, missing: u64 },
    Weights { canary: Path, stable: Option<Path> },
}

/// As it stands in the pipeline file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Generic")]
struct Written {
    /// What is known of a kind of router already; other keys change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preset: Option<Preset>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    name: String,
    /// Where lists of backends are: `spec.http[*].backends`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    backends: Vec<Path>,
    /// The name of the Service in a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<Path>,
    /// The weight in a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<Path>,
    /// What a missing weight means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing: Option<u64>,
    /// What our weights add up to: 100 for percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// The annotation with JSON in which the lists are; `${service}` is the stable Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotation: Option<String>,
    /// With the preset `alb`: the name of the action, where it is not the Service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    /// In place of `backends`: the canary's weight itself, and the stable one's where it is written too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    canary_weight: Option<Path>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stable_weight: Option<Path>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// AWS Load Balancer Controller: the annotation `actions.SERVICE` of an Ingress.
    Alb,
    /// ApisixRoute.
    Apisix,
    /// Contour's HTTPProxy.
    Contour,
    /// Gloo's RouteTable.
    Gloo,
    /// TrafficSplit of the Service Mesh Interface.
    Smi,
}

/// One row of what we know.
struct Known {
    api_version: &'static str,
    kind: &'static str,
    backends: &'static str,
    service: &'static str,
    missing: u64,
    total: u64,
    annotation: Option<&'static str>,
}

impl Preset {
    fn known(self) -> Known {
        match self {
            Preset::Alb => Known {
                api_version: "networking.k8s.io/v1",
                kind: "Ingress",
                backends: "forwardConfig.targetGroups",
                service: "serviceName",
                missing: 1,
                // A target group's weight is at most 999.
                total: 100,
                annotation: Some("alb.ingress.kubernetes.io/actions.${service}"),
            },
            Preset::Apisix => Known {
                api_version: "apisix.apache.org/v2",
                kind: "ApisixRoute",
                backends: "spec.http[*].backends",
                service: "serviceName",
                missing: 100,
                total: 10_000,
                annotation: None,
            },
            Preset::Contour => Known {
                api_version: "projectcontour.io/v1",
                kind: "HTTPProxy",
                backends: "spec.routes[*].services",
                service: "name",
                missing: 0,
                total: 10_000,
                annotation: None,
            },
            Preset::Gloo => Known {
                api_version: "gateway.solo.io/v1",
                kind: "RouteTable",
                backends: "spec.routes[*].routeAction.multi.destinations",
                service: "destination.kube.ref.name",
                missing: 0,
                total: 10_000,
                annotation: None,
            },
            Preset::Smi => Known {
                api_version: "split.smi-spec.io/v1alpha2",
                kind: "TrafficSplit",
                backends: "spec.backends",
                service: "service",
                missing: 0,
                total: 10_000,
                annotation: None,
            },
        }
    }
}

impl TryFrom<Written> for Generic {
    type Error = String;

    fn try_from(written: Written) -> Result<Generic, String> {
        let known = written.preset.map(Preset::known);
        if written.action.is_some() && written.preset != Some(Preset::Alb) {
            return Err("`action` is for `preset: alb`; take it out, or say the `annotation`".to_owned());
        }
        let need = |own: &Option<String>, preset: Option<&str>, key: &str| {
            let found = own.clone().or(preset.map(str::to_owned));
            found.ok_or_else(|| format!("the key `{key}` is missing; give it, or a `preset`"))
        };
        let total = written.total.or(known.as_ref().map(|known| known.total)).unwrap_or(100);
        if total == 0 || total > 1_000_000 {
            return Err(format!("`total` is {total}; weights add up to a number from 1 to 1000000"));
        }
        Ok(Generic {
            api_version: need(&written.api_version, known.as_ref().map(|k| k.api_version), "api_version")?,
            kind: need(&written.kind, known.as_ref().map(|k| k.kind), "kind")?,
            places: places(&written, known.as_ref())?,
            total,
            written,
        })
    }
}

impl From<Generic> for Written {
    fn from(generic: Generic) -> Written {
        generic.written
    }
}

fn places(written: &Written, known: Option<&Known>) -> Result<Kept, String> {
    if let Some(canary) = &written.canary_weight {
        if written.preset.is_some() || !written.backends.is_empty() {
            return Err("`canary_weight` stands in place of `backends` and of a `preset`; take one out".to_owned());
        }
        return Ok(Kept::Weights { canary: canary.clone(), stable: written.stable_weight.clone() });
    }
    let preset = known.map(|known| vec![Path::of(known.backends)]).unwrap_or_default();
    let at = if written.backends.is_empty() { preset } else { written.backends.clone() };
    if at.is_empty() {
        return Err("say where the weights are: `backends`, `canary_weight`, or a `preset`".to_owned());
    }
    let service = written.service.clone().or(known.map(|known| Path::of(known.service)));
    Ok(Kept::Backends {
        at,
        service: service.ok_or("the key `service` is missing: where a backend names its Service")?,
        weight: written.weight.clone().unwrap_or_else(|| Path::of("weight")),
        missing: written.missing.or(known.map(|known| known.missing)).unwrap_or(0),
    })
}

impl Generic {
    pub fn route(&self, namespace: &str) -> ObjectId {
        ObjectId {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: Some(namespace.to_owned()),
            name: self.written.name.clone(),
        }
    }

    /// The versions of the API that write the same, the newest first.
    pub fn versions(&self) -> &'static [&'static str] {
        match (self.written.preset, &self.written.api_version) {
            (Some(Preset::Smi), None) => &["v1alpha4", "v1alpha3", "v1alpha2"],
            (_, _) => &[],
        }
    }

    pub fn form(&self, pair: &Pair, route: &Value) -> Form {
        let preset = self.written.preset.map(Preset::known);
        let annotation = self.written.annotation.as_deref().or(preset.and_then(|known| known.annotation));
        let embedded = annotation.map(|name| {
            let name = name.replace("${service}", self.written.action.as_ref().unwrap_or(&pair.stable));
            Path::of(&format!("metadata.annotations[{name:?}]"))
        });
        let places = match &self.places {
            Kept::Weights { canary, stable } => Places::Weights { canary: canary.clone(), stable: stable.clone() },
            Kept::Backends { at, service, weight, missing } => {
                let json = embedded.as_ref().and_then(|at| at.get(route)?.as_str()).map(serde_json::from_str::<Value>);
                // The controllers that read JSON from annotations do not mind the case of keys.
                let (at, service, weight) = match json {
                    Some(Ok(json)) => spelled(&json, at, service, weight),
                    Some(Err(_)) | None => (at.clone(), service.clone(), weight.clone()),
                };
                let (service, stable, canary) = match self.written.preset.filter(|_| self.written.service.is_none()) {
                    Some(Preset::Gloo) => of_gloo(pair, route, &at, service),
                    Some(Preset::Alb | Preset::Apisix | Preset::Contour | Preset::Smi) | None => {
                        (service, pair.stable.clone(), pair.canary.clone())
                    }
                };
                let mark = |name: String| Mark { at: service.clone(), values: vec![name], or_missing: false };
                Places::Lists(Lists {
                    at,
                    stable: vec![mark(stable)],
                    canary: vec![mark(canary)],
                    weight,
                    missing: *missing,
                    alone: self.total,
                    even: self.written.preset == Some(Preset::Contour),
                    owned: pair.owned,
                })
            }
        };
        Form { embedded, places, total: self.total, percent: false }
    }

    /// The finest share that the total can say.
    pub fn unit_hundredths(&self) -> u16 {
        u16::try_from(10_000_u64.div_ceil(self.total)).unwrap_or(10_000)
    }
}

/// Where lists, Services and weights are, by the first entry that there is.
fn spelled(json: &Value, at: &[Path], service: &Path, weight: &Path) -> (Vec<Path>, Path, Path) {
    let at: Vec<Path> = at.iter().map(|at| at.spelled(json)).collect();
    let entries = at.iter().flat_map(|at| at.places(json)).filter_map(|at| at.get(json)?.as_array().cloned()).flatten();
    let entries: Vec<Value> = entries.collect();
    let first = entries.first().unwrap_or(&Value::Null);
    let weighed = entries.iter().find(|entry| weight.spelled(entry).get(entry).is_some()).unwrap_or(first);
    (at, service.spelled(first), weight.spelled(weighed))
}

/// Gloo's destinations are Services, or Upstreams, which its discovery names by namespace, Service and port.
fn of_gloo(pair: &Pair, route: &Value, at: &[Path], service: Path) -> (Path, String, String) {
    let upstream = Path::of("destination.upstream.name");
    let entries = at.iter().flat_map(|at| at.places(route)).filter_map(|at| at.get(route)?.as_array()).flatten();
    let mut names = entries.filter_map(|entry| upstream.get(entry)?.as_str());
    let port = |name: &str| {
        let rest = name.strip_prefix(&format!("{}-{}-", pair.namespace, pair.stable))?;
        rest.chars().all(|c| c.is_ascii_digit()).then(|| rest.to_owned())
    };
    match names.find_map(port) {
        Some(port) => {
            let name = |service: &str| format!("{}-{service}-{port}", pair.namespace);
            let (stable, canary) = (name(&pair.stable), name(&pair.canary));
            (upstream, stable, canary)
        }
        None => (service, pair.stable.clone(), pair.canary.clone()),
    }
}
