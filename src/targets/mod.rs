#![doc = include_str!("README.md")]

pub mod process;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{
    model::{ComponentName, EnvironmentName, Portion, Release, TreeId, Version},
    pipeline::TargetKind,
};

/// How a tree becomes live.
pub trait Target: Send + Sync {
    /// Does one thing. Doing it again changes nothing and says so again.
    fn perform<'a>(&'a self, act: &'a Act, fence: u64) -> BoxFuture<'a, Result<Done, TargetError>>;

    /// Looks at what is really live.
    fn live(&self) -> BoxFuture<'_, Result<Live, TargetError>>;
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
    /// Someone with a newer lease acts here.
    #[error("fenced off: number {ours} is older than {seen}, which another runner wrote here")]
    Fenced { ours: u64, seen: u64 },
}

/// What a target needs to know of its surroundings.
#[derive(Clone)]
pub struct Site {
    pub environment: EnvironmentName,
    /// A private folder of this environment on this machine, outside any work tree; made when first needed.
    pub state_dir: std::path::PathBuf,
    pub trees: Arc<dyn Checkout>,
    /// This program itself, which `process` starts again as its supervisor.
    pub program: std::path::PathBuf,
}

/// Gives the files of a release.
pub trait Checkout: Send + Sync {
    /// Writes the tree's files into `dir`, which must be empty or absent.
    fn checkout(&self, tree: &TreeId, dir: &Path) -> Result<(), TargetError>;
}

/// One kind of target: what the pipeline room needs of it, and how it is made from a checked configuration.
pub struct Entry {
    pub kind: TargetKind,
    pub build: fn(&serde_json::Value, Site) -> Result<Box<dyn Target>, TargetError>,
}

/// Every kind of target.
pub const ALL: &[Entry] = &[process::ENTRY];
