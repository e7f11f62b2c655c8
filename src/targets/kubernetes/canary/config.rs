//! What a pipeline file says about the canaries of an environment.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use super::names;
use crate::{
    model::{Share, Span},
    targets::kubernetes::traffic::{Extras, Pair, Router, Testers},
};

/// One canary, or several whose shares move together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "OneOrMore", into = "OneOrMore")]
#[schemars(with = "OneOrMore")]
pub struct Config {
    pub tracks: Vec<Track>,
}

#[derive(Clone, Serialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMore {
    One(Box<Track>),
    More(Vec<Track>),
}

/// By hand, so that a wrong key is named: an untagged enum only says that nothing fits.
impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMore, D::Error> {
        let read = match Value::deserialize(deserializer)? {
            list @ Value::Array(_) => serde_json::from_value(list).map(OneOrMore::More),
            one => serde_json::from_value(one).map(OneOrMore::One),
        };
        read.map_err(D::Error::custom)
    }
}

/// A Deployment that is tried beside itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Track {
    /// The Deployment; its canary runs beside it as `NAME-piton-canary`.
    pub deployment: String,
    /// Where it is; without it, the target's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The Service by which users come to the Deployment.
    pub service: String,
    /// A Service of yours for the canary; without it, piton makes `SERVICE-piton-canary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_service: Option<String>,
    /// What moves users.
    pub router: Router,
    /// Users who get the canary whatever its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub testers: Option<Testers>,
    /// How much of the requests the canary gets as a copy whose answer nobody sees, until it has all users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub mirror: Option<Share>,
    /// How to see which release answers; without it the share is what the router was told, not what arrived. With it nobody
    /// goes further where nothing can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// How long routers may take to hear that a Service is no longer meant, before its pods are taken down.
    #[serde(default = "default_drain")]
    pub drain: Span,
}

fn default_drain() -> Span {
    Span::seconds(5)
}

/// Asks as a user would, and counts whose answers come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// An address behind the router.
    pub url: String,
    /// The header of the answer that tells the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The path in a JSON answer that tells it: `$.version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// What the candidate says there: `${tree}` or `${version.COMPONENT}`.
    #[serde(default = "default_is")]
    pub is: String,
    /// How many answers are counted.
    #[serde(default = "default_samples")]
    pub samples: u32,
    /// How far the share that arrives may be from the one that is meant, chance aside.
    #[serde(default = "default_tolerance")]
    #[schemars(with = "String")]
    pub tolerance: Share,
    /// How long the router may take until the share has arrived.
    #[serde(default = "default_verify_within")]
    pub within: Span,
}

fn default_is() -> String {
    "${tree}".to_owned()
}

fn default_samples() -> u32 {
    200
}

fn default_tolerance() -> Share {
    Share::of_hundredths(200).unwrap_or(Share::NONE)
}

fn default_verify_within() -> Span {
    Span::seconds(30)
}

/// More answers than this would be a load test.
const SAMPLES_MAX: u32 = 5_000;

/// Why a canary cannot be as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no canary in the list; name a `deployment`, a `service` and a `router`")]
    Empty,
    #[error("{0}")]
    Lacks(String),
    #[error("`verify` needs `header` or `json`, one of them: where an answer tells its release")]
    Tell,
    #[error("`verify` counts {0} answers; 1 to {SAMPLES_MAX} are possible")]
    Samples(u32),
    #[error("Deployment `{0}` has two canaries; one is enough")]
    Twice(String),
    #[error("{0} `{1}` is empty; name at least one")]
    NoRoute(&'static str, &'static str),
    #[error("`testers` names no header and no cookie")]
    NoTester,
}

impl TryFrom<OneOrMore> for Config {
    type Error = ConfigError;

    fn try_from(written: OneOrMore) -> Result<Config, ConfigError> {
        let tracks = match written {
            OneOrMore::One(track) => vec![*track],
            OneOrMore::More(tracks) => tracks,
        };
        if tracks.is_empty() {
            return Err(ConfigError::Empty);
        }
        for (index, track) in tracks.iter().enumerate() {
            track.check()?;
            let same = |other: &Track| (&other.deployment, &other.namespace) == (&track.deployment, &track.namespace);
            if tracks[..index].iter().any(same) {
                return Err(ConfigError::Twice(track.deployment.clone()));
            }
        }
        Ok(Config { tracks })
    }
}

impl From<Config> for OneOrMore {
    fn from(mut config: Config) -> OneOrMore {
        match config.tracks.len() {
            1 => OneOrMore::One(Box::new(config.tracks.remove(0))),
            _ => OneOrMore::More(config.tracks),
        }
    }
}

impl Config {
    /// Shares must be whole multiples of so many hundredths of a percent.
    pub fn unit_hundredths(&self) -> u16 {
        self.tracks.iter().map(|track| track.router.unit_hundredths()).max().unwrap_or(1)
    }
}

impl Track {
    fn check(&self) -> Result<(), ConfigError> {
        if let Some(lack) = self.router.lacks(&self.extras()) {
            return Err(ConfigError::Lacks(lack));
        }
        if self.testers.as_ref().is_some_and(|testers| testers.header.is_empty() && testers.cookie.is_empty()) {
            return Err(ConfigError::NoTester);
        }
        let has_route = !self.router.routes("x").is_empty();
        match &self.router {
            Router::Gateway(_) if !has_route => return Err(ConfigError::NoRoute("`gateway`:", "routes")),
            Router::Istio(_) if !has_route => return Err(ConfigError::NoRoute("`istio`:", "virtual_services")),
            Router::Nginx(_) if !has_route => return Err(ConfigError::NoRoute("`nginx`:", "ingresses")),
            Router::Traefik(_) if !has_route => return Err(ConfigError::NoRoute("`traefik`:", "services")),
            Router::Gateway(_)
            | Router::Istio(_)
            | Router::Nginx(_)
            | Router::Traefik(_)
            | Router::Generic(_)
            | Router::Replicas => {}
        }
        let Some(verify) = &self.verify else { return Ok(()) };
        if verify.header.is_some() == verify.json.is_some() {
            return Err(ConfigError::Tell);
        }
        match verify.samples {
            1..=SAMPLES_MAX => Ok(()),
            samples => Err(ConfigError::Samples(samples)),
        }
    }

    pub fn extras(&self) -> Extras {
        Extras { testers: self.testers.clone(), mirror: self.mirror }
    }

    /// The two Services, in a namespace that the target gives where the track names none.
    pub fn pair(&self, namespace: &str) -> Pair {
        Pair {
            namespace: self.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
            stable: self.service.clone(),
            canary: self.canary_service.clone().unwrap_or_else(|| names::beside(&self.service)),
            owned: self.canary_service.is_none(),
        }
    }

    /// Whether users come to both canaries by the same way, whatever else is said of them.
    pub fn leads_like(&self, other: &Track) -> bool {
        let way = |track: &Track| Track { verify: None, drain: default_drain(), ..track.clone() };
        way(self) == way(other)
    }

    /// Whether the canary's pods are in the stable Service from their start, told apart by a subset.
    pub fn shares_service(&self) -> bool {
        match &self.router {
            Router::Istio(istio) => istio.subsets.is_some(),
            Router::Gateway(_) | Router::Nginx(_) | Router::Traefik(_) | Router::Generic(_) | Router::Replicas => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Config, String> {
        let value: serde_json::Value = serde_yaml::from_str(yaml).expect("it is YAML");
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn one_canary_or_several() {
        let one = "{ deployment: web, service: web, router: { gateway: { routes: [web] } } }";
        let config = read(one).expect("one");
        assert_eq!(config.tracks.len(), 1);
        assert_eq!(config.tracks[0].pair("hub").canary, "web-piton-canary");
        let written = serde_json::to_value(&config).expect("it is written");
        assert_eq!(serde_json::from_value::<Config>(written).expect("read again"), config);
        let two = "[{ deployment: a, service: a, router: replicas }, { deployment: b, service: b, router: replicas }]";
        assert_eq!(read(two).expect("two").tracks.len(), 2);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let track = |rest: &str| format!("[{{ deployment: web, service: web, {rest} }}]");
        let gateway = "router: { gateway: { routes: [web] } }";
        let cases = [
            ("[]".to_owned(), "there is no canary in the list"),
            (track(&format!("{gateway}, mirrors: 5%")), "unknown field `mirrors`"),
            (format!("{{ deployment: web, service: web, {gateway}, mirrors: 5% }}"), "unknown field `mirrors`"),
            ("5".to_owned(), "invalid type: integer `5`"),
            (track("router: replicas, mirror: 10%"), "the router `replicas` cannot mirror"),
            (track(&format!("{gateway}, testers: {{}}")), "names no header and no cookie"),
            (track(&format!("{gateway}, verify: {{ url: x }}")), "needs `header` or `json`"),
            (track(&format!("{gateway}, verify: {{ url: x, header: v, samples: 0 }}")), "1 to 5000 are possible"),
            (track("router: { gateway: { routes: [] } }"), "`routes` is empty"),
            (
                "[{ deployment: a, service: a, router: replicas }, { deployment: a, service: b, router: replicas }]"
                    .to_owned(),
                "two canaries",
            ),
        ];
        for (yaml, reason) in cases {
            let error = read(&yaml).expect_err(&yaml);
            assert!(error.contains(reason), "{yaml}: {error}");
        }
    }
}
