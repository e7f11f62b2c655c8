#![doc = include_str!("README.md")]

mod checkouts;
pub mod command;
mod compare;
pub mod gitops;
pub mod helm;
pub mod kubernetes;
mod owner;
pub mod process;
mod progress;
mod template;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use futures_util::future::BoxFuture;

pub use self::{
    owner::Owner,
    progress::{Line, Progress},
};
pub use crate::model::{Difference, Rehearsal, SourcePlace};
use crate::{
    model::{CommitId, ComponentName, EnvironmentName, Portion, Release, Stamp, TreeId, Version},
    pipeline::TargetKind,
};

/// How a tree becomes live.
pub trait Target: Send + Sync {
    /// Does one thing. Doing it again changes nothing and says so again.
    fn perform<'a>(&'a self, act: &'a Act, fence: u64) -> BoxFuture<'a, Result<Done, TargetError>>;

    /// Looks at what is really live.
    fn live(&self) -> BoxFuture<'_, Result<Live, TargetError>>;

    /// What would turn a release into objects here, and its version; `None` where releases are taken as they are.
    fn renderer(&self) -> BoxFuture<'_, Result<Option<String>, TargetError>> {
        Box::pin(async { Ok(None) })
    }

    /// What it can watch over while nothing happens.
    fn sights(&self) -> Sights {
        Sights::default()
    }

    /// Compares what is live with the release that should be: every difference, by name. An empty list is a promise. The digests
    /// say where the release's references led when they were looked up first, as far as that is known.
    fn drift<'a>(
        &'a self,
        _release: &'a Release,
        _digests: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<Vec<Difference>, TargetError>> {
        Box::pin(async { Err(unsupported("see drift")) })
    }

    /// Tries whether the release could be deployed again, without doing it.
    fn rehearse<'a>(&'a self, _release: &'a Release) -> BoxFuture<'a, Result<Rehearsal, TargetError>> {
        Box::pin(async { Err(unsupported("rehearse a way back")) })
    }
}

/// What a target can see while nothing happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sights {
    /// `drift` can be asked.
    pub drift: bool,
    /// `rehearse` can be asked.
    pub way_back: bool,
}

fn unsupported(what: &str) -> TargetError {
    TargetError::World { what: format!("this kind of target cannot {what}"), source: None }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Brings the release up beside what is live, with no users on it, and waits until it is ready for them.
    Apply { release: Release },
    /// Moves a share of the users to the release; the rest stay where they are.
    Shift { release: Release, to: Portion },
    /// Puts all users back on `to` and takes `from` out of the traffic; first `to` must be up and have the capacity.
    /// `None`: there is nothing to go back to, `from` is taken down.
    Retreat { from: Release, to: Option<Release> },
    /// Takes down everything but `keep`, draining first; with `None`, everything.
    Settle { keep: Option<Release> },
}

/// What was done, in a few words for the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub note: String,
    /// What rendered the release for it, and its version; `None` where nothing did.
    pub renderer: Option<String>,
}

/// What is really live.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Live {
    /// Releases that are up, and the share of users each gets, in hundredths of a percent; empty when nothing is up.
    pub releases: BTreeMap<TreeId, u16>,
    /// Facts for people and for gates to fill in: `url`, `candidate_url`, `metrics_url`…
    pub facts: BTreeMap<String, String>,
    /// Versions that the services report themselves, where the target can see them.
    pub versions: BTreeMap<ComponentName, Version>,
}

/// Why a target could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The release itself is at fault: it does not build, does not start, is never ready.
    #[error("{0}")]
    Release(String),
    /// The world around it is: no disk, no connection to the supervisor, a port taken.
    #[error("{what}")]
    World {
        what: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The place could not be reached, or was not the one that is meant: nothing was done there.
    #[error("{what}")]
    Unreached {
        what: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Someone with a newer lease acts here.
    #[error("fenced off: number {ours} is older than {seen}, which another runner wrote here")]
    Fenced { ours: u64, seen: u64 },
}

impl TargetError {
    /// The error of one of several places: that nothing was done here says nothing of the others.
    fn among_others(self, others: bool) -> TargetError {
        match self {
            TargetError::Unreached { what, source } if others => TargetError::World { what, source },
            error @ (TargetError::Release(_)
            | TargetError::World { .. }
            | TargetError::Unreached { .. }
            | TargetError::Fenced { .. }) => error,
        }
    }
}

/// An error with its causes.
fn sentence(error: &TargetError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// What a target needs to know of its surroundings.
#[derive(Clone)]
pub struct Site {
    pub environment: EnvironmentName,
    /// Whose the environment is, as it is written on what is kept outside.
    pub owner: Owner,
    /// A private folder of this environment on this machine, outside any work tree; made when first needed.
    pub state_dir: std::path::PathBuf,
    pub trees: Arc<dyn Checkout>,
    /// This program itself, which `process` starts again as its supervisor.
    pub program: std::path::PathBuf,
    /// Where the target says what it is doing.
    pub progress: Progress,
}

/// Gives the files of a release, and puts releases on branches that others follow.
pub trait Checkout: Send + Sync {
    /// Writes the tree's files into `dir`, which must be empty or absent.
    fn checkout(&self, tree: &TreeId, dir: &Path) -> Result<(), TargetError>;

    /// The newest commit of a branch of the deploy repository; `None`: there is no such branch.
    fn head<'a>(&'a self, _branch: &'a str) -> BoxFuture<'a, Result<Option<Head>, TargetError>> {
        Box::pin(async { Err(unsupported("read a branch")) })
    }

    /// Puts one commit with exactly this tree on top of a branch, without force: `None` when the branch is not where
    /// `seen` says (or is there although `seen` says it is not).
    fn publish<'a>(
        &'a self,
        _branch: &'a str,
        _tree: &'a TreeId,
        _message: &'a str,
        _seen: Option<&'a CommitId>,
    ) -> BoxFuture<'a, Result<Option<CommitId>, TargetError>> {
        Box::pin(async { Err(unsupported("publish a release on a branch")) })
    }

    /// Whether the repository has this tree. One that cannot be asked may have it.
    fn knows(&self, _tree: &TreeId) -> bool {
        true
    }

    /// The tree of a commit, where it is known here.
    fn tree_of(&self, _commit: &CommitId) -> Option<TreeId> {
        None
    }
}

/// The newest commit of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub commit: CommitId,
    pub tree: TreeId,
    pub message: String,
    pub author: String,
    /// When it was made, as its committer's clock had it.
    pub at: Option<Stamp>,
}

/// One kind of target: what the pipeline room needs of it, and how it is made from a checked configuration.
pub struct Entry {
    pub kind: TargetKind,
    pub build: fn(&serde_json::Value, Site) -> Result<Box<dyn Target>, TargetError>,
}

/// Every kind of target.
pub const ALL: &[Entry] = &[process::ENTRY, command::ENTRY, kubernetes::ENTRY, helm::ENTRY, gitops::ENTRY];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The configuration of a kind, as the pipeline file is read.
    fn read(kind: &str, config: Value) -> Result<(), String> {
        match kind {
            "process" => serde_json::from_value::<process::Config>(config).map(drop),
            "command" => serde_json::from_value::<command::Config>(config).map(drop),
            "kubernetes" => serde_json::from_value::<kubernetes::Config>(config).map(drop),
            "helm" => serde_json::from_value::<helm::Config>(config).map(drop),
            "gitops" => serde_json::from_value::<gitops::Config>(config).map(drop),
            other => panic!("no such kind: {other}"),
        }
        .map_err(|error| error.to_string())
    }

    #[test]
    fn examples_are_good() {
        for entry in ALL {
            let kind = entry.kind.kind;
            let example: BTreeMap<String, Value> = serde_yaml::from_str(kind.example).expect("it is YAML");
            read(kind.name, example[kind.name].clone()).expect(kind.name);
            for line in kind.help.lines() {
                assert!(line.chars().count() <= 150, "too wide: {line}");
            }
        }
    }

    #[test]
    fn bad_configurations_are_refused_with_the_reason() {
        let service = |service: Value| json!({ "services": { "web": service } });
        let in_cluster = |mut config: Value| {
            config["cluster"] = json!({ "identity": "uid" });
            config
        };
        let run = |text: &str| service(json!({ "run": ["web", text] }));
        let cases = [
            ("process", json!({ "services": {} }), "there is no service"),
            ("process", json!({ "prot": 1, "services": {} }), "unknown field `prot`"),
            ("process", json!({ "services": { "../x": { "run": ["a"] } } }), "a service cannot have this name"),
            ("process", service(json!({ "run": [] })), "service `web` has nothing to run"),
            ("process", service(json!({ "run": ["a"], "instances": 0 })), "nonzero"),
            ("process", service(json!({ "run": ["a"], "route": "x" })), "must begin with `/`"),
            ("process", service(json!({ "run": ["a"], "inputs": ["../x"] })), "a path inside the release"),
            ("process", service(json!({ "run": ["a"], "ready": { "within": "soon" } })), "is not a duration"),
            ("process", run("${prot}"), "unknown variable `${prot}`"),
            ("process", run("${service.api.url}"), "names no service; there are `web`"),
            ("process", run("${port"), "without `}`"),
            ("kubernetes", json!({ "manifests": ["a"] }), "`cluster` is missing"),
            ("kubernetes", json!({ "manifests": ["a"], "cluster": {} }), "`cluster.identity` is missing"),
            ("kubernetes", in_cluster(json!({})), "there is nothing to deploy"),
            ("kubernetes", in_cluster(json!({ "manifests": ["a"], "kustomize": "b" })), "rendered in one way"),
            ("kubernetes", in_cluster(json!({ "manifests": ["../a"] })), "a path inside the release"),
            ("kubernetes", in_cluster(json!({ "manifests": ["a"], "namespace": "A b" })), "no name for a namespace"),
            ("kubernetes", in_cluster(json!({ "manifests": ["a"], "prune_also": ["pods"] })), "unknown variant `pods`"),
            (
                "kubernetes",
                in_cluster(json!({ "helm": { "chart": "c", "release": "r", "flags": ["--repo=https://x"] } })),
                "from the network",
            ),
            (
                "kubernetes",
                in_cluster(json!({ "manifests": ["a"], "members": { "one": {}, "two": {} } })),
                "members `one` and `two` are the same namespace",
            ),
            ("command", json!({ "apply": [] }), "a command needs a program"),
            ("command", json!({ "apply": ["a", "${trie}"] }), "unknown variable `${trie}`"),
            ("command", json!({ "apply": ["a"], "live": ["a", "${tree}"] }), "unknown variable `${tree}`"),
            ("command", json!({ "apply": ["a"], "members": ["a b"] }), "must be one word"),
            ("command", json!({ "apply": ["a"], "members": ["a", "a"] }), "is named twice"),
        ];
        for (kind, config, reason) in cases {
            let error = read(kind, config.clone()).expect_err(&config.to_string());
            assert!(error.contains(reason), "{config}: {error}");
        }
    }

    #[test]
    fn splits_follow_the_configuration() {
        let splits = |config: Value| (command::ENTRY.kind.splits)(&config);
        assert_eq!(splits(json!({ "apply": ["a"] })), crate::pipeline::Splits::default());
        assert!(splits(json!({ "apply": ["a"], "weight": ["w"] })).by_share);
        assert_eq!(splits(json!({ "apply": ["a"], "members": ["x"] })).members, ["x"]);
    }
}
