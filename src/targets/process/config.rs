use std::{collections::BTreeMap, num::NonZeroU16};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::{ComponentName, Span},
    targets::template,
};

/// The configuration of the target `process`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The port where users come in; it stays the same for the life of the environment. Without it (or with 0) a free
    /// one is chosen the first time and remembered.
    #[serde(default)]
    pub port: u16,
    /// The address to listen on: `0.0.0.0` for users from other machines.
    #[serde(default = "default_listen")]
    pub listen: std::net::IpAddr,
    /// Run once in every new checkout, before anything is started; going back to a release needs no build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build: Vec<String>,
    /// Environment variables with secrets that the build needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build_secrets: Vec<String>,
    /// The longest that a build may take.
    #[serde(default = "default_build_within")]
    pub build_within: Span,
    pub services: Services,
    /// A cookie that keeps a user on the release that the first request got. Without it each request is on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
    /// How long requests and open connections may go on when their release is taken down.
    #[serde(default = "default_drain")]
    pub drain: Span,
    /// How long a service may take to begin its answer.
    #[serde(default = "default_answer")]
    pub answer: Span,
    /// How many checkouts stay on the disk besides those that run.
    #[serde(default = "default_keep")]
    pub keep: usize,
}

/// One service of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The program and its arguments, run in the checkout; it must listen on 127.0.0.1 at `${port}`.
    pub run: Vec<String>,
    #[serde(default = "default_instances")]
    pub instances: NonZeroU16,
    /// When an instance counts as ready.
    #[serde(default)]
    pub ready: Ready,
    /// The path below which users' requests come here; the longest wins. A service without it is internal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Environment variables with secrets, taken over from whoever runs piton.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The time from SIGTERM to SIGKILL.
    #[serde(default = "default_stop")]
    pub stop: Span,
    /// How often an instance is started again within a minute before it counts as crashed.
    #[serde(default = "default_restarts")]
    pub restarts: u32,
    /// Files and folders of the release that this service depends on. Two releases in which they are the same, and
    /// those of the services it calls, share its running instances. Without it every release starts its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// Must answer with a status below 400. Without it, accepting a connection is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default = "default_within")]
    pub within: Span,
}

impl Default for Ready {
    fn default() -> Ready {
        Ready { path: None, within: default_within() }
    }
}

fn default_listen() -> std::net::IpAddr {
    std::net::Ipv4Addr::LOCALHOST.into()
}

fn default_build_within() -> Span {
    Span::minutes(15)
}

fn default_drain() -> Span {
    Span::seconds(30)
}

fn default_answer() -> Span {
    Span::seconds(60)
}

fn default_keep() -> usize {
    10
}

fn default_instances() -> NonZeroU16 {
    NonZeroU16::MIN
}

fn default_stop() -> Span {
    Span::seconds(10)
}

fn default_restarts() -> u32 {
    5
}

fn default_within() -> Span {
    Span::seconds(30)
}

/// The services by name; reading them checks what one field alone cannot tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Service>", into = "BTreeMap<String, Service>")]
pub struct Services(BTreeMap<String, Service>);

impl std::ops::Deref for Services {
    type Target = BTreeMap<String, Service>;
    fn deref(&self) -> &BTreeMap<String, Service> {
        &self.0
    }
}

impl From<Services> for BTreeMap<String, Service> {
    fn from(services: Services) -> BTreeMap<String, Service> {
        services.0
    }
}

impl JsonSchema for Services {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Services".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        BTreeMap::<String, Service>::json_schema(generator)
    }
}

/// Why services cannot be as they are written.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    #[error("there is no service; at least one is needed")]
    None,
    // Whoever reads a configuration keeps only the text of an error, so the cause is in it.
    #[error("a service cannot have this name: {0}")]
    Name(#[from] crate::model::NameError),
    #[error("service `{0}` has nothing to run")]
    NothingToRun(String),
    #[error("service `{service}`: the path {path:?} must begin with `/`")]
    Path { service: String, path: String },
    #[error("services `{first}` and `{second}` both have the route `{route}`")]
    SameRoute { first: String, second: String, route: String },
    #[error("service `{service}`: the input {input:?} must be a path inside the release, without `..`")]
    Input { service: String, input: String },
    #[error("service `{service}`: {why}")]
    Template { service: String, why: String },
}

impl TryFrom<BTreeMap<String, Service>> for Services {
    type Error = ServicesError;

    fn try_from(services: BTreeMap<String, Service>) -> Result<Services, ServicesError> {
        if services.is_empty() {
            return Err(ServicesError::None);
        }
        let mut routes: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, service) in &services {
            check_service(name, service, &services)?;
            let Some(route) = &service.route else { continue };
            if let Some(first) = routes.insert(route.trim_end_matches('/'), name) {
                let (first, second, route) = (first.to_owned(), name.clone(), route.clone());
                return Err(ServicesError::SameRoute { first, second, route });
            }
        }
        Ok(Services(services))
    }
}

fn check_service(name: &str, service: &Service, all: &BTreeMap<String, Service>) -> Result<(), ServicesError> {
    // A service's name becomes part of paths and labels, as a component's does: the same rules hold.
    ComponentName::new(name)?;
    if service.run.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(ServicesError::NothingToRun(name.to_owned()));
    }
    let paths = service.route.iter().chain(&service.ready.path);
    if let Some(path) = paths.into_iter().find(|path| !path.starts_with('/')) {
        return Err(ServicesError::Path { service: name.to_owned(), path: path.clone() });
    }
    let outside = |input: &&String| {
        let parts = std::path::Path::new(input).components();
        input.is_empty() || parts.into_iter().any(|part| !matches!(part, std::path::Component::Normal(_)))
    };
    if let Some(input) = service.inputs.iter().find(outside) {
        return Err(ServicesError::Input { service: name.to_owned(), input: input.clone() });
    }
    for text in service.run.iter().chain(service.env.values()) {
        check_template(text, all).map_err(|why| ServicesError::Template { service: name.to_owned(), why })?;
    }
    Ok(())
}

/// What `${…}` may stand for, besides `${service.NAME.url}` and `${version.COMPONENT}`.
pub const VARIABLES: [&str; 5] = ["port", "instance", "release", "environment", "data"];

fn check_template(text: &str, services: &BTreeMap<String, Service>) -> Result<(), String> {
    for variable in template::variables(text)? {
        if let Some(service) = called_service(variable) {
            if !services.contains_key(service) {
                let known = services.keys().map(String::as_str).collect::<Vec<_>>().join("`, `");
                return Err(format!("`${{{variable}}}` names no service; there are `{known}`"));
            }
        } else if !VARIABLES.contains(&variable) && !variable.starts_with("version.") {
            let known = VARIABLES.join("`, `");
            return Err(format!(
                "unknown variable `${{{variable}}}`; there are `{known}`, `service.NAME.url` and `version.COMPONENT`"
            ));
        }
    }
    Ok(())
}

/// The service that a variable `service.NAME.url` names.
pub fn called_service(variable: &str) -> Option<&str> {
    variable.strip_prefix("service.")?.strip_suffix(".url")
}

impl Service {
    /// The services that this one is told the addresses of.
    pub fn calls(&self) -> impl Iterator<Item = &str> {
        let texts = self.run.iter().chain(self.env.values());
        texts.flat_map(|text| template::variables(text).unwrap_or_default()).filter_map(called_service)
    }
}
