#![doc = include_str!("README.md")]

mod gateway;
mod generic;
pub mod hand;
mod istio;
pub mod nginx;
mod path;
pub mod record;
pub mod replicas;
mod split;
pub mod steer;
mod traefik;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::split::Form;
pub use self::{path::Path, split::Weighed};
use crate::{clients::kube::ObjectId, model::Share};

/// What moves users between the stable pods and the canary's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Router {
    /// Gateway API: HTTPRoute or GRPCRoute.
    Gateway(gateway::Gateway),
    /// An Istio VirtualService.
    Istio(istio::Istio),
    /// Ingresses of the controller ingress-nginx.
    Nginx(nginx::Nginx),
    /// A TraefikService with `weighted`.
    Traefik(traefik::Traefik),
    /// Any other resource with weights in it; with presets for ALB, APISIX, Contour, Gloo and SMI.
    Generic(Box<generic::Generic>),
    /// No router: canary pods join the stable Service, and the share is theirs among all its pods.
    Replicas,
}

/// The two Services between which users are split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub namespace: String,
    pub stable: String,
    pub canary: String,
    /// The canary's Service is made by us.
    pub owned: bool,
}

/// Users who get the canary whatever its share: those who send this header or cookie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Testers {
    /// Names of headers with the value that makes a tester.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, String>,
    /// Names of cookies with the value that makes a tester; `always` with NGINX.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cookie: BTreeMap<String, String>,
}

/// What is on a route beside the weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extras {
    pub testers: Option<Testers>,
    /// How much of the requests the canary gets as a copy.
    pub mirror: Option<Share>,
}

/// Why a route cannot be read or given other weights.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("no backend of it is the Service `{wanted}`; {}", elsewhere(.others, .places))]
    NoStable { wanted: String, others: Vec<String>, places: Vec<Path> },
    #[error("it has no rule `{rule}`")]
    NoRule { rule: String },
    #[error("there is nothing at `{at}`")]
    NoPlace { at: Path },
    #[error("the weight at `{at}` is {found}, not a whole number")]
    NotAWeight { at: Path, found: String },
    #[error("what stands at `{at}` is not JSON: {why}")]
    NotJson { at: Path, why: String },
    #[error("at `{at}` nothing is left for the stable Service and the canary: all weight is with other backends")]
    Weightless { at: Path },
    #[error(
        "at `{at}` our backends have a weight of {sum} beside others', so {share} cannot be written (the nearest above is \
         {nearest}); give all backends there a hundred times the weight"
    )]
    Coarse { at: Path, share: Share, nearest: Share, sum: u64 },
}

fn elsewhere(others: &[String], places: &[Path]) -> String {
    let places: Vec<String> = places.iter().map(|place| format!("`{place}`")).collect();
    match others {
        [] => format!("there is no backend at {}", places.join(" or ")),
        others => format!("it sends to `{}`", others.join("`, `")),
    }
}

impl Router {
    /// The objects that carry the weights; empty without a router.
    pub fn routes(&self, namespace: &str) -> Vec<ObjectId> {
        match self {
            Router::Gateway(gateway) => gateway.routes(namespace),
            Router::Istio(istio) => istio.routes(namespace),
            Router::Nginx(nginx) => nginx.ingresses(namespace),
            Router::Traefik(traefik) => traefik.routes(namespace),
            Router::Generic(generic) => vec![generic.route(namespace)],
            Router::Replicas => Vec::new(),
        }
    }

    /// The versions of the routes' API that write the same, the newest first; empty where there is one only.
    pub fn versions(&self) -> &'static [&'static str] {
        match self {
            Router::Gateway(gateway) => gateway.versions(),
            Router::Istio(_) => &istio::Istio::VERSIONS,
            Router::Generic(generic) => generic.versions(),
            Router::Nginx(_) | Router::Traefik(_) | Router::Replicas => &[],
        }
    }

    /// Where the weights of this route are; `None` where they are on an object of our own.
    pub(super) fn form(&self, pair: &Pair, route: &Value) -> Option<Form> {
        match self {
            Router::Gateway(gateway) => Some(gateway.form(pair, route)),
            Router::Istio(istio) => Some(istio.form(pair, route)),
            Router::Traefik(traefik) => Some(traefik.form(pair)),
            Router::Generic(generic) => Some(generic.form(pair, route)),
            Router::Nginx(_) | Router::Replicas => None,
        }
    }

    /// A rule that the pipeline names and that the route does not have.
    fn lost(&self, route: &Value) -> Option<String> {
        match self {
            Router::Gateway(gateway) => gateway.lost(route),
            Router::Istio(istio) => istio.lost(route),
            Router::Nginx(_) | Router::Traefik(_) | Router::Generic(_) | Router::Replicas => None,
        }
    }

    /// Writes what is on the route beside the weights, or takes it away with `None`. What is there already stays one.
    fn decorate(&self, pair: &Pair, route: &mut Value, extras: Option<&Extras>) {
        match self {
            Router::Gateway(gateway) => gateway.mirror(pair, route, extras.and_then(|extras| extras.mirror)),
            Router::Istio(istio) => istio.decorate(pair, route, extras),
            Router::Nginx(_) | Router::Traefik(_) | Router::Generic(_) | Router::Replicas => {}
        }
    }

    /// Objects of our own that lead testers to the canary.
    pub fn companions(&self, pair: &Pair, route: &Value, testers: &Testers) -> Vec<Value> {
        match self {
            Router::Gateway(gateway) => vec![gateway.testers(pair, route, testers)],
            Router::Istio(_) | Router::Nginx(_) | Router::Traefik(_) | Router::Generic(_) | Router::Replicas => {
                Vec::new()
            }
        }
    }

    /// Shares must be whole multiples of so many hundredths of a percent.
    pub fn unit_hundredths(&self) -> u16 {
        match self {
            Router::Istio(_) => 100,
            Router::Generic(generic) => generic.unit_hundredths(),
            Router::Gateway(_) | Router::Nginx(_) | Router::Traefik(_) | Router::Replicas => 1,
        }
    }

    /// What of the wishes this kind of router cannot do, in a sentence.
    pub fn lacks(&self, extras: &Extras) -> Option<String> {
        let (testers, mirror) = match self {
            Router::Gateway(_) | Router::Istio(_) => (true, true),
            Router::Nginx(_) => (true, false),
            Router::Traefik(_) | Router::Generic(_) | Router::Replicas => (false, false),
        };
        let name = self.name();
        if extras.mirror.is_some() && !mirror {
            return Some(format!("the router `{name}` cannot mirror requests; `gateway` and `istio` can"));
        }
        if extras.testers.is_some() && !testers {
            return Some(format!(
                "the router `{name}` cannot lead testers by header or cookie; `gateway`, `istio` and `nginx` can"
            ));
        }
        None
    }

    /// The word in the pipeline file.
    pub fn name(&self) -> &'static str {
        match self {
            Router::Gateway(_) => "gateway",
            Router::Istio(_) => "istio",
            Router::Nginx(_) => "nginx",
            Router::Traefik(_) => "traefik",
            Router::Generic(_) => "generic",
            Router::Replicas => "replicas",
        }
    }
}

/// A route with the canary at a share, its extras, and the record of it: what is to be written. Users come to the canary
/// by all rules that the pipeline names, or not at all; they leave it by those that are there.
pub fn steered(
    router: &Router,
    pair: &Pair,
    route: &Value,
    share: Share,
    extras: &Extras,
    fence: u64,
) -> Result<Value, Fault> {
    if let Some(rule) = router.lost(route).filter(|_| share != Share::NONE) {
        return Err(Fault::NoRule { rule });
    }
    let mut new = bare(router, pair, route);
    let Some(form) = router.form(pair, &new) else { return Ok(new) };
    let before = match record::read(route) {
        Some(record) => record.before,
        None => split::remember(&form, &new)?,
    };
    let weights = split::write(&form, &mut new, share)?;
    // With all users on the canary there is nothing left to copy.
    let mirror = extras.mirror.filter(|_| share != Share::WHOLE);
    router.decorate(pair, &mut new, Some(&Extras { mirror, ..extras.clone() }));
    record::write(&mut new, &record::Record::new(share, fence, before, &weights));
    Ok(new)
}

/// A route without the canary, as it was before.
pub fn cleared(router: &Router, pair: &Pair, route: &Value) -> Result<Value, Fault> {
    let mut new = bare(router, pair, route);
    let Some(form) = router.form(pair, &new) else { return Ok(new) };
    let record = record::read(route);
    // Where nothing of ours is on it, nothing is written.
    if record.is_some() || split::read(&form, &new)?.iter().any(|weighed| weighed.canary > 0) {
        split::clear(&form, &mut new, &record.map(|record| record.before).unwrap_or_default())?;
    }
    record::remove(&mut new);
    Ok(new)
}

/// The weights as they are, place by place.
pub fn weights(router: &Router, pair: &Pair, route: &Value) -> Result<Vec<Weighed>, Fault> {
    let bare = bare(router, pair, route);
    router.form(pair, &bare).map_or(Ok(Vec::new()), |form| split::read(&form, &bare))
}

/// What the canary gets by this route. Where its rules disagree, the most that any of them gives.
pub fn share(router: &Router, pair: &Pair, route: &Value) -> Result<Share, Fault> {
    Ok(weights(router, pair, route)?.iter().map(Weighed::share).max().unwrap_or(Share::NONE))
}

/// What the canary gets by this route, where a route that cannot be read is one of two: one by which nobody was ever led
/// to the canary, or one by which we did lead them, and nobody knows what it says today.
pub fn share_for_sure(router: &Router, pair: &Pair, route: &Value) -> Result<Share, Fault> {
    share(router, pair, route).or_else(|fault| nobody_by(&fault, route).then_some(Share::NONE).ok_or(fault))
}

/// The route without anything of ours, in the same two cases.
pub fn cleared_for_sure(router: &Router, pair: &Pair, route: &Value) -> Result<Value, Fault> {
    cleared(router, pair, route).or_else(|fault| {
        let mut new = route.clone();
        record::remove(&mut new);
        nobody_by(&fault, route).then_some(new).ok_or(fault)
    })
}

/// Whether nobody comes to the canary by a route that has this fault.
fn nobody_by(fault: &Fault, route: &Value) -> bool {
    match fault {
        // Without a backend of ours, or without the place for one, it leads nobody of ours anywhere.
        Fault::NoStable { .. } | Fault::NoPlace { .. } => true,
        Fault::NoRule { .. }
        | Fault::NotAWeight { .. }
        | Fault::NotJson { .. }
        | Fault::Weightless { .. }
        | Fault::Coarse { .. } => record::is_none_of_ours(route),
    }
}

/// The route without our testers and mirrors, in which places have the numbers that they have without us.
fn bare(router: &Router, pair: &Pair, route: &Value) -> Value {
    let mut bare = route.clone();
    router.decorate(pair, &mut bare, None);
    bare
}

#[cfg(test)]
mod tests;
