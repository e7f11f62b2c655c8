//! What a runner and the supervisor say to each other, and what the supervisor writes down.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Config;
use crate::{
    model::{EnvironmentName, TreeId},
    targets::TargetError,
};

/// The number of this form of the messages; a supervisor of another one refuses.
pub const PROTOCOL: u32 = 1;

/// One thing to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub protocol: u32,
    pub fence: u64,
    /// Values of the environment variables that services take as secrets. They stay in memory.
    pub secrets: BTreeMap<String, String>,
    pub order: Order,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Apply { release: Brought },
    Shift { tree: TreeId, hundredths: u16 },
    Retreat { from: TreeId, to: Option<Brought> },
    Settle { keep: Option<TreeId> },
    Shutdown { drain: bool },
}

/// A release whose files are checked out and built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Brought {
    pub tree: TreeId,
    pub dir: PathBuf,
    pub environment: EnvironmentName,
    pub versions: BTreeMap<String, String>,
    pub config: Config,
}

/// Why the supervisor did not do it.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    #[error("{0}")]
    Release(String),
    #[error("{0}")]
    World(String),
    #[error("number {ours} is older than {seen}")]
    Fenced { ours: u64, seen: u64 },
}

impl From<Refusal> for TargetError {
    fn from(refusal: Refusal) -> TargetError {
        match refusal {
            Refusal::Release(why) => TargetError::Release(why),
            Refusal::World(what) => TargetError::World { what, source: None },
            Refusal::Fenced { ours, seen } => TargetError::Fenced { ours, seen },
        }
    }
}

/// What is up, as the supervisor sees it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub protocol: u32,
    pub pid: u32,
    /// Tree id to its share of the users in hundredths of a percent.
    pub releases: BTreeMap<TreeId, u16>,
    pub facts: BTreeMap<String, String>,
    pub instances: Vec<InstanceReport>,
    /// Open requests and connections, by service.
    pub open: BTreeMap<String, usize>,
}

/// One instance, for people and tests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstanceReport {
    pub service: String,
    pub index: u16,
    pub releases: Vec<TreeId>,
    /// The checkout that it runs in; with shared instances it may be that of a release that is gone.
    pub dir: PathBuf,
    pub port: u16,
    pub pid: Option<i32>,
    pub restarts: u32,
    /// `starting`, `ready`, `failed: why` or `stopped`.
    pub condition: String,
}
