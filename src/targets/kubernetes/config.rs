//! What a pipeline file says about the target `kubernetes`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{canary, glob::Glob, rollout};
use crate::{clients::kube::Place, model::Span};

/// The configuration of the target `kubernetes`, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The cluster that is meant; with `members`, each has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterPlace>,
    /// Where objects go that name no namespace, and where piton keeps its inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// Files and folders of the release with manifests; `*`, `**` and `?` stand for parts of a path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<String>,
    /// A folder of the release with a `kustomization.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kustomize: Option<String>,
    /// A chart of the release, rendered by `helm template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    helm: Option<Chart>,
    /// The version that the renderer must have, or how it begins: `v3.21`. Another version is refused before anything is rendered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renderer: Option<String>,
    /// Encrypted files among the manifests, which are left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    opaque: Vec<Glob>,
    /// Delete what an earlier release made here and this one lacks.
    #[serde(default = "default_prune")]
    prune: bool,
    /// Kinds that are never deleted without being named here, because what people made goes with them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    prune_also: BTreeSet<Precious>,
    /// Take fields over that another field manager set.
    #[serde(default)]
    force: bool,
    /// How the rollout is watched, and how long it may take.
    #[serde(default)]
    rollout: rollout::Config,
    /// Clusters or namespaces that are moved one after the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    members: BTreeMap<String, WrittenMember>,
    /// Brings each release up beside the stable one, and moves users by share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    canary: Option<canary::Config>,
}

/// The configuration, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Config {
    written: Written,
    /// One without a name, or the members by name.
    pub seats: Vec<Seat>,
}

/// One cluster and namespace that the release goes to, and how the release is rendered for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seat {
    pub member: Option<String>,
    pub place: Place,
    pub identity: String,
    pub namespace: String,
    pub source: Source,
}

/// What of a release tree is rendered.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Plain(Vec<Glob>),
    Kustomize(PathBuf),
    Helm(Chart),
}

/// Which cluster is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterPlace {
    /// The UID of its namespace `kube-system`, which is compared before anything is written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    identity: String,
    /// A context of the kubeconfig file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    /// A kubeconfig file; without it, KUBECONFIG, the home folder or the pod's own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kubeconfig: Option<PathBuf>,
}

/// One of several clusters or namespaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrittenMember {
    /// Its own cluster; without it, that of all members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterPlace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// Its own manifests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<String>,
    /// Its own overlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kustomize: Option<String>,
    /// Its values files, after those of the chart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
}

/// A chart and how it is rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// Its folder or archive in the release; its dependencies must lie in it.
    pub chart: String,
    /// The release's name.
    pub release: String,
    /// Values files of the release, the later over the earlier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Further flags, such as `--set=replicas=3`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// The program: `helm` on the PATH.
    #[serde(default = "default_helm")]
    pub program: String,
}

/// Kinds that are deleted only when a pipeline says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precious {
    Namespaces,
    Crds,
    VolumeClaims,
}

/// Why a configuration cannot be as it is written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}", nothing_to_render(.0.as_deref()))]
    Nothing(Option<String>),
    #[error("`{0}` and `{1}` are both there; a release is rendered in one way")]
    Two(&'static str, &'static str),
    #[error("{}", no_cluster(.0.as_deref()))]
    NoCluster(Option<String>),
    #[error(
        "{}`cluster.identity` is missing: the UID of the cluster's namespace `kube-system`, which keeps a release out of the wrong \
         cluster; `kubectl get namespace kube-system -o jsonpath='{{.metadata.uid}}'` prints it", of_member(.0.as_deref())
    )]
    NoIdentity(Option<String>),
    #[error("{0:?} must be a path inside the release, without `..`")]
    Path(String),
    #[error("the pattern {0:?}: {1}")]
    Pattern(String, String),
    #[error("{0:?} is no name for a {1}: small letters, digits and `-`, at most 63")]
    Name(String, &'static str),
    #[error("member `{0}` has `values`, but the release is not rendered from a chart")]
    ValuesWithoutChart(String),
    #[error("`members` move one after the other, a `canary` moves by share; an environment has one of them")]
    CanaryOfMembers,
    #[error("members `{0}` and `{1}` are the same namespace of the same cluster")]
    SameSeat(String, String),
    #[error("the flag {0:?} is not for rendering from the tree alone; what it does is {1}")]
    Flag(String, &'static str),
}

fn of_member(member: Option<&str>) -> String {
    member.map(|member| format!("member `{member}`: ")).unwrap_or_default()
}

fn nothing_to_render(member: Option<&str>) -> String {
    format!("{}there is nothing to deploy; one of `manifests`, `kustomize` and `helm` is needed", of_member(member))
}

fn no_cluster(member: Option<&str>) -> String {
    format!("{}`cluster` is missing; it says by `identity` which cluster is meant", of_member(member))
}

fn default_prune() -> bool {
    true
}

fn default_helm() -> String {
    "helm".to_owned()
}

impl Config {
    pub fn prune(&self) -> bool {
        self.written.prune
    }

    pub fn prune_also(&self) -> &BTreeSet<Precious> {
        &self.written.prune_also
    }

    pub fn force(&self) -> bool {
        self.written.force
    }

    pub fn rollout(&self) -> &rollout::Config {
        &self.written.rollout
    }

    pub fn within(&self) -> Span {
        self.written.rollout.within
    }

    pub fn opaque(&self) -> &[Glob] {
        &self.written.opaque
    }

    pub fn canary(&self) -> Option<&canary::Config> {
        self.written.canary.as_ref()
    }

    /// How the renderer's version must begin.
    pub fn renderer(&self) -> Option<&str> {
        self.written.renderer.as_deref()
    }

    pub fn members(&self) -> Vec<String> {
        self.seats.iter().filter_map(|seat| seat.member.clone()).collect()
    }
}

impl From<Config> for Written {
    fn from(config: Config) -> Written {
        config.written
    }
}

impl TryFrom<Written> for Config {
    type Error = ConfigError;

    fn try_from(written: Written) -> Result<Config, ConfigError> {
        if written.canary.is_some() && !written.members.is_empty() {
            return Err(ConfigError::CanaryOfMembers);
        }
        let seats = match written.members.is_empty() {
            true => vec![written.seat(None)?],
            false => written.members.iter().map(|member| written.seat(Some(member))).collect::<Result<Vec<_>, _>>()?,
        };
        for (at, seat) in seats.iter().enumerate() {
            let twin = seats[..at].iter().find(|s| s.identity == seat.identity && s.namespace == seat.namespace);
            if let Some(twin) = twin {
                let name = |seat: &Seat| seat.member.clone().unwrap_or_default();
                return Err(ConfigError::SameSeat(name(twin), name(seat)));
            }
        }
        Ok(Config { written, seats })
    }
}

impl Written {
    fn seat(&self, member: Option<(&String, &WrittenMember)>) -> Result<Seat, ConfigError> {
        let name = member.map(|(name, _)| name.clone());
        if let Some(name) = &name {
            checked_name(name, "member")?;
        }
        let member = member.map(|(_, member)| member);
        let cluster = member.and_then(|member| member.cluster.as_ref()).or(self.cluster.as_ref());
        let cluster = cluster.ok_or_else(|| ConfigError::NoCluster(name.clone()))?;
        if cluster.identity.trim().is_empty() {
            return Err(ConfigError::NoIdentity(name));
        }
        let namespace = member.and_then(|member| member.namespace.as_ref()).or(self.namespace.as_ref());
        let namespace = namespace.map_or("default", String::as_str);
        Ok(Seat {
            place: Place { kubeconfig: cluster.kubeconfig.clone(), context: cluster.context.clone() },
            identity: cluster.identity.trim().to_owned(),
            namespace: checked_name(namespace, "namespace")?,
            source: self.source(name.as_deref(), member)?,
            member: name,
        })
    }

    fn source(&self, name: Option<&str>, member: Option<&WrittenMember>) -> Result<Source, ConfigError> {
        if let Some(own) = member.and_then(own_source) {
            return own;
        }
        let plain = (!self.manifests.is_empty()).then_some("manifests");
        let there = [plain, self.kustomize.as_ref().map(|_| "kustomize"), self.helm.as_ref().map(|_| "helm")];
        let mut there = there.into_iter().flatten();
        if let (Some(first), Some(second)) = (there.next(), there.next()) {
            return Err(ConfigError::Two(first, second));
        }
        let more = member.map(|member| member.values.as_slice()).unwrap_or_default();
        if let Some(chart) = &self.helm {
            return chart.with_values(more).map(Source::Helm);
        }
        if !more.is_empty() {
            return Err(ConfigError::ValuesWithoutChart(name.unwrap_or_default().to_owned()));
        }
        if let Some(folder) = &self.kustomize {
            return Ok(Source::Kustomize(inside(folder)?));
        }
        match self.manifests.is_empty() {
            true => Err(ConfigError::Nothing(name.map(str::to_owned))),
            false => plain_source(&self.manifests),
        }
    }
}

/// A member's own source, where it has one.
fn own_source(member: &WrittenMember) -> Option<Result<Source, ConfigError>> {
    match (&member.manifests[..], &member.kustomize) {
        ([], None) => None,
        ([], Some(folder)) => Some(inside(folder).map(Source::Kustomize)),
        (patterns, None) => Some(plain_source(patterns)),
        (_, Some(_)) => Some(Err(ConfigError::Two("manifests", "kustomize"))),
    }
}

fn plain_source(patterns: &[String]) -> Result<Source, ConfigError> {
    let glob =
        |pattern: &String| Glob::try_from(pattern.clone()).map_err(|why| ConfigError::Pattern(pattern.clone(), why));
    Ok(Source::Plain(patterns.iter().map(glob).collect::<Result<_, _>>()?))
}

/// Flags of `helm template` that would bring the network, the cluster or another output into the rendering.
const REFUSED_FLAGS: [(&str, &str); 7] = [
    ("--dependency-update", "to fetch dependencies from the network"),
    ("--repo", "to fetch the chart from the network"),
    ("--output-dir", "to write files elsewhere"),
    ("--validate", "to ask the cluster of a kubeconfig"),
    ("--kube-context", "to ask another cluster"),
    ("--kubeconfig", "to ask another cluster"),
    ("--release-name", "to write files elsewhere"),
];

impl Chart {
    fn with_values(&self, more: &[String]) -> Result<Chart, ConfigError> {
        let mut chart = self.clone();
        inside(&chart.chart)?;
        chart.values.extend_from_slice(more);
        for file in &chart.values {
            inside(file)?;
        }
        checked_name(&chart.release, "Helm release")?;
        for flag in &chart.flags {
            let word = flag.split('=').next().unwrap_or_default();
            if let Some((name, what)) = REFUSED_FLAGS.iter().find(|(name, _)| *name == word) {
                return Err(ConfigError::Flag((*name).to_owned(), what));
            }
        }
        Ok(chart)
    }
}

fn inside(path: &str) -> Result<PathBuf, ConfigError> {
    let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    match !path.is_empty() && Path::new(path).components().all(stays) {
        true => Ok(PathBuf::from(path)),
        false => Err(ConfigError::Path(path.to_owned())),
    }
}

/// As the names of namespaces are: they become parts of object names.
fn checked_name(name: &str, what: &'static str) -> Result<String, ConfigError> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends_well = !name.starts_with('-') && !name.ends_with('-');
    match !name.is_empty() && name.len() <= 63 && ends_well && name.chars().all(good) {
        true => Ok(name.to_owned()),
        false => Err(ConfigError::Name(name.to_owned(), what)),
    }
}
