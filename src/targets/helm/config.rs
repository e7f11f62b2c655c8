use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{cluster::ClusterConfig, flags};
use crate::{model::Span, targets::template};

/// The configuration of the target `helm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The release's name in Helm.
    pub release: String,
    pub namespace: String,
    /// A folder of the release tree, or a packaged chart with its digest.
    pub chart: Chart,
    /// Files of the release tree, in Helm's order: a later one goes before an earlier one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// `key=value`, as for Helm's `--set`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// More flags for `helm upgrade`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    #[serde(default)]
    pub hooks: Hooks,
    #[serde(default)]
    pub dependencies: Dependencies,
    /// The cluster; each member may have its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterConfig>,
    /// Releases that can be moved one after the other; each takes from above what it does not say itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Member>,
    /// The program: Helm 3 or 4.
    #[serde(default = "default_program")]
    pub program: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Environment variables with secrets, taken over from whoever runs piton; their values are taken out of all
    /// output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The longest that one upgrade may take, hooks included, until all of its objects are ready.
    #[serde(default = "default_within")]
    pub within: Span,
}

/// One of several releases of the same chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Come after those of all members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterConfig>,
}

/// Where the chart is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Chart {
    /// A folder of the release tree.
    Folder(String),
    Packaged(Packaged),
}

/// A chart that is fetched, and is exactly the one that its digest names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Packaged {
    /// `oci://registry/path/chart`, or the address of a chart repository.
    pub from: String,
    /// The chart's name in a chart repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Exactly this version; `${version.COMPONENT}` is the component's.
    pub version: String,
    /// `sha256:` and 64 digits: of the packaged chart, as the index or the registry has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A YAML file of the release tree with a digest for each version, where `version` comes from a component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hooks {
    #[default]
    Run,
    Skip,
}

/// Where the charts come from that the chart depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dependencies {
    /// From `charts/` in the chart's folder: the tree says all.
    #[default]
    Vendored,
    /// From the network, when the release is deployed.
    Update,
}

/// One release in one cluster, with all that its members inherit.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// `None` when there are no members.
    pub member: Option<String>,
    pub release: String,
    pub namespace: String,
    pub values: Vec<String>,
    pub set: Vec<String>,
    pub cluster: ClusterConfig,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => write!(f, "{member}: Helm release {}/{}", self.namespace, self.release),
            None => write!(f, "Helm release {}/{}", self.namespace, self.release),
        }
    }
}

fn default_program() -> String {
    "helm".to_owned()
}

fn default_within() -> Span {
    Span::minutes(10)
}

/// Variables in values, `set` and versions; `version.COMPONENT` besides.
const VARIABLES: [&str; 4] = ["environment", "member", "tree", "source"];
/// As Helm has it: the name is part of the names of objects.
const RELEASE_NAME_MAX: usize = 53;
const NAMESPACE_MAX: usize = 63;

impl Config {
    /// What is deployed: one unit, or one for each member. The error is a sentence on what is wrong.
    pub fn units(&self) -> Result<Vec<Unit>, String> {
        flags::check(&self.flags)?;
        self.chart.check()?;
        let units = match self.members.is_empty() {
            true => vec![self.unit(None)?],
            false => self.members.iter().map(|named| self.unit(Some(named))).collect::<Result<_, _>>()?,
        };
        for (at, unit) in units.iter().enumerate() {
            unit.check()?;
            for other in &units[..at] {
                let same_place = other.cluster.identity == unit.cluster.identity && other.namespace == unit.namespace;
                if same_place && other.release == unit.release {
                    return Err(format!("{unit} is the same release as {other}"));
                }
            }
        }
        Ok(units)
    }

    fn unit(&self, named: Option<(&String, &Member)>) -> Result<Unit, String> {
        let (name, member) = named.unzip();
        let own = |of: fn(&Member) -> Option<String>, above: &String| member.and_then(of).unwrap_or(above.clone());
        let both = |above: &[String], of: fn(&Member) -> &Vec<String>| {
            above.iter().chain(member.into_iter().flat_map(of)).cloned().collect()
        };
        let cluster = member.and_then(|m| m.cluster.clone()).or_else(|| self.cluster.clone());
        let of = name.map_or_else(String::new, |name| format!(" for member `{name}`"));
        Ok(Unit {
            member: name.cloned(),
            release: own(|m| m.release.clone(), &self.release),
            namespace: own(|m| m.namespace.clone(), &self.namespace),
            values: both(&self.values, |m| &m.values),
            set: both(&self.set, |m| &m.set),
            cluster: cluster.ok_or_else(|| format!("`cluster` is missing{of}: say which cluster is meant"))?,
        })
    }
}

impl Unit {
    fn check(&self) -> Result<(), String> {
        dns_label("release", &self.release, RELEASE_NAME_MAX)?;
        dns_label("namespace", &self.namespace, NAMESPACE_MAX)?;
        if self.member.as_ref().is_some_and(|m| m.is_empty() || m.chars().any(|c| c.is_whitespace() || c.is_control()))
        {
            return Err(format!("member {:?} must be one word", self.member.as_deref().unwrap_or_default()));
        }
        for file in &self.values {
            known_variables(file)?;
            inside(file).map_err(|why| format!("values file {file:?} {why}"))?;
        }
        for text in &self.set {
            known_variables(text)?;
            if !text.contains('=') {
                return Err(format!("`set` needs `key=value`, not {text:?}"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chart::Folder(path) => write!(f, "chart {path}"),
            Chart::Packaged(Packaged { from, name: Some(name), .. }) => write!(f, "chart {name} of {from}"),
            Chart::Packaged(Packaged { from, name: None, .. }) => write!(f, "chart {from}"),
        }
    }
}

impl Chart {
    fn check(&self) -> Result<(), String> {
        match self {
            Chart::Folder(path) if path.contains("://") => Err(format!(
                "chart `{path}` is fetched, so it needs its version and digest: \
                 `chart: {{from: \"{path}\", version: …, digest: \"sha256:…\"}}`"
            )),
            Chart::Folder(path) => inside(path).map_err(|why| format!("chart {path:?} {why}")),
            Chart::Packaged(packaged) => packaged.check(),
        }
    }
}

impl Packaged {
    fn check(&self) -> Result<(), String> {
        known_variables(&self.version)?;
        let oci = self.from.starts_with("oci://");
        if !oci && !self.from.starts_with("https://") && !self.from.starts_with("http://") {
            return Err(format!("chart `from` must begin with `oci://`, `https://` or `http://`, not {:?}", self.from));
        }
        match (oci, &self.name) {
            (true, Some(_)) => {
                return Err("a chart from `oci://` has its name in the address; leave `name` out".to_owned());
            }
            (false, None) => return Err("a chart from a repository needs its `name`".to_owned()),
            (true, None) | (false, Some(_)) => {}
        }
        match (&self.digest, &self.digests) {
            (Some(digest), None) => is_digest(digest),
            (None, Some(file)) => inside(file).map_err(|why| format!("chart digests {file:?} {why}")),
            (None, None) => {
                Err("a fetched chart needs `digest: \"sha256:…\"`, or `digests:` with a file of the tree".to_owned())
            }
            (Some(_), Some(_)) => Err("a fetched chart has `digest` or `digests`, not both".to_owned()),
        }
    }
}

/// Refuses anything but `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> Result<(), String> {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    match hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        true => Ok(()),
        false => Err(format!("{text:?} is not a digest: it is `sha256:` and 64 hexadecimal digits")),
    }
}

fn known_variables(text: &str) -> Result<(), String> {
    for name in template::variables(text)? {
        if !VARIABLES.contains(&name) && !name.starts_with("version.") {
            let known = VARIABLES.join("`, `");
            return Err(format!("unknown variable `${{{name}}}`; there are `{known}`, `version.COMPONENT`"));
        }
    }
    Ok(())
}

/// A path that stays in the release tree.
fn inside(path: &str) -> Result<(), String> {
    let steps = || path.split('/').filter(|step| *step != ".");
    match !path.starts_with(['/', '-']) && steps().all(|step| !step.is_empty() && step != "..") {
        true => Ok(()),
        false => Err("must be a path inside the release".to_owned()),
    }
}

fn dns_label(what: &str, name: &str, longest: usize) -> Result<(), String> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    match plain && !name.is_empty() && name.len() <= longest && !name.starts_with('-') && !name.ends_with('-') {
        true => Ok(()),
        false => Err(format!("{what} {name:?} must be small letters, digits and `-`, at most {longest} of them")),
    }
}

impl<'de> Deserialize<'de> for Chart {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Chart, D::Error> {
        from.deserialize_any(ChartForm)
    }
}

/// Reads both forms with the errors of each.
struct ChartForm;

impl<'de> de::Visitor<'de> for ChartForm {
    type Value = Chart;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a folder of the release, or `from`, `version` and `digest` of a chart that is fetched")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Chart, E> {
        Ok(Chart::Folder(text.to_owned()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Chart, A::Error> {
        Packaged::deserialize(de::value::MapAccessDeserializer::new(map)).map(Chart::Packaged)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn units(change: Value) -> Result<Vec<Unit>, String> {
        let mut config =
            json!({ "release": "hub", "namespace": "hub", "chart": "charts/hub", "cluster": { "identity": "x" } });
        for (key, value) in change.as_object().expect("a map") {
            config[key] = value.clone();
        }
        serde_json::from_value::<Config>(config).map_err(|error| error.to_string())?.units()
    }

    #[test]
    fn bad_configurations_are_refused_with_the_reason() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let packaged = |chart: Value| json!({ "chart": chart });
        let cases = [
            (json!({ "flags": ["--wait"] }), "the flag `--wait` cannot be used: piton watches"),
            (json!({ "flags": ["--reuse-values"] }), "going back would not restore them"),
            (json!({ "chart": "../x" }), "must be a path inside the release"),
            (json!({ "chart": "oci://registry/hub" }), "needs its version and digest"),
            (packaged(json!({ "from": "oci://r/hub", "version": "1" })), "needs `digest: "),
            (packaged(json!({ "from": "oci://r/hub", "version": "1", "digest": "abc" })), "is not a digest"),
            (packaged(json!({ "from": "https://r", "version": "1", "digest": digest })), "needs its `name`"),
            (packaged(json!({ "from": "ftp://r", "version": "1", "digest": digest })), "must begin with `oci://`"),
            (packaged(json!({ "from": "oci://r", "versoin": "1" })), "unknown field `versoin`"),
            (json!({ "values": ["/etc/passwd"] }), "must be a path inside the release"),
            (json!({ "set": ["a"] }), "needs `key=value`"),
            (json!({ "set": ["a=${versoin.hub}"] }), "unknown variable `${versoin.hub}`"),
            (json!({ "release": "Hub" }), "small letters"),
            (json!({ "cluster": null }), "`cluster` is missing"),
            (json!({ "members": { "a": {}, "b": {} } }), "is the same release as"),
            (json!({ "members": { "a b": {} } }), "must be one word"),
        ];
        for (change, reason) in cases {
            let error = units(change.clone()).expect_err(&change.to_string());
            assert!(error.contains(reason), "{change}: {error}");
        }
    }

    #[test]
    fn members_take_from_above_what_they_do_not_say() {
        let above =
            json!({ "values": ["all.yaml"], "members": { "a": { "values": ["a.yaml"] }, "b": { "namespace": "b" } } });
        let units = units(above).expect("it is good");
        let told: Vec<(String, &[String])> = units.iter().map(|unit| (unit.to_string(), &*unit.values)).collect();
        assert_eq!(
            told[0],
            ("a: Helm release hub/hub".to_owned(), ["all.yaml".to_owned(), "a.yaml".to_owned()].as_slice())
        );
        assert_eq!(told[1], ("b: Helm release b/hub".to_owned(), ["all.yaml".to_owned()].as_slice()));
    }
}
