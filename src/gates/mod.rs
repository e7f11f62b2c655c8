#![doc = include_str!("README.md")]

mod approval;
mod command;
mod expectation;
mod exposition;
mod facts;
mod http;
mod kernel;
mod metric;
mod window;
mod workload;

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

pub use facts::expand;

use crate::{
    model::{EnvironmentName, Release, Saw, Span},
    pipeline::GateKind,
};

/// Looks at the world once.
pub trait Gate: Send + Sync {
    /// Never longer than the scene's time-out; a look that takes longer is `Bad` when the thing looked at is slow and
    /// `Blind` when the source of the reading is.
    fn look<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Saw>;
}

/// What a gate knows of the moment.
#[derive(Debug, Clone)]
pub struct Scene {
    pub environment: EnvironmentName,
    /// The release on trial.
    pub candidate: Release,
    pub stable: Option<Release>,
    /// What `${…}` in a gate's configuration stands for: the target's facts (`url`, `candidate_url`, `metrics_url`…)
    /// and `environment`, `version.<component>`, `attempt`.
    pub facts: BTreeMap<String, String>,
    pub timeout: Span,
}

/// One kind of gate: what the pipeline room needs of it, and how it is made from a checked configuration.
pub struct Entry {
    pub kind: GateKind,
    pub build: fn(&serde_json::Value) -> Result<Box<dyn Gate>, serde_json::Error>,
}

/// Every kind of gate.
pub const ALL: &[Entry] =
    &[http::ENTRY, command::ENTRY, kernel::ENTRY, metric::ENTRY, workload::ENTRY, approval::ENTRY, window::ENTRY];

#[cfg(test)]
mod tests;
