#![doc = include_str!("README.md")]

mod canary;
mod environment;
mod explain;
mod fault;
mod forms;
mod gates;
mod graph;
mod guard;
mod invariants;
mod kind;
mod node;
mod parse;
mod read;
mod schema;
mod secrets;
mod section;
mod words;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use explain::{ExplainError, examples, explain};
pub use fault::{FAULTS_MAX, Fault, Located, Refusal};
pub use invariants::{Bound, Invariant, Taken};
pub use kind::{GateKind, Kind, Kinds, Splits, TargetKind, checked};
pub use node::Node;
pub use parse::parse;
pub use schema::schema;
pub use words::nearest;

use crate::{
    edit,
    model::{
        ComponentName, EnvironmentName, GateName, GateSpec, Guard, Limits, PipelineName, Portion, Span, WatchSpec,
    },
    versions,
};

/// The checked content of one `pipelines/*.yaml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    pub name: PipelineName,
    pub source: Source,
    /// The first part of the environment branches and of the refs: `piton` gives `piton/production`.
    pub prefix: String,
    pub components: BTreeMap<ComponentName, Component>,
    /// Components that only ever move together.
    pub bundles: Vec<BTreeSet<ComponentName>>,
    /// In an order in which each comes after those it waits for.
    pub environments: Vec<Environment>,
    /// Commits on environment branches must be signed by one of these keys.
    pub signing: Signing,
}

/// Where releases come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub branch: String,
    pub remote: String,
}

impl Default for Source {
    fn default() -> Source {
        Source { branch: "main".to_owned(), remote: "origin".to_owned() }
    }
}

/// A value at a place in the deploy repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    pub place: edit::Place,
    pub order: versions::Order,
    /// The component that usually brings this value along, such as the chart around an image; then the value itself may
    /// be absent, and a pin adds it.
    pub within: Option<ComponentName>,
    /// What a change of it restarts, and what users feel; shown on plans.
    pub restarts: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    pub name: EnvironmentName,
    /// Only what these have proven comes here; empty: everything from the source branch.
    pub after: Vec<EnvironmentName>,
    pub pace: Pace,
    pub target: TargetSpec,
    pub before: Vec<GateName>,
    pub during: Vec<GateName>,
    pub proof: Vec<GateName>,
    pub gates: BTreeMap<GateName, GateSpec>,
    /// Portions with their holds, in order; the last is everyone.
    pub canary: Vec<(Portion, Span)>,
    /// What must hold of every release before it is begun.
    pub invariants: Vec<Invariant>,
    pub bake: Span,
    pub watch: WatchSpec,
    pub limits: Limits,
    pub notify: Vec<ChannelSpec>,
    /// How often is looked for drift, and whether the way back still exists.
    pub guard: Guard,
    /// Gates that look on at every look for drift.
    pub guard_gates: Vec<GateName>,
}

/// How big a step is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// One commit at a time, and of a commit that changes several components and nothing else, one component.
    #[default]
    Bump,
    /// One commit at a time.
    Commit,
    /// All that is waiting at once.
    Latest,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TargetSpec {
    pub kind: String,
    pub with: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ChannelSpec {
    pub kind: String,
    pub with: Value,
}

/// Who must have signed the head of an environment branch before we act on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signing {
    /// A file with SSH allowed signers, in the deploy repository; `None` asks for no signature.
    pub allowed_signers: Option<String>,
    /// The environment variable that names the private key file with which we sign.
    pub key_variable: Option<String>,
}

impl Pipeline {
    pub fn environment(&self, name: &EnvironmentName) -> Option<&Environment> {
        self.environments.iter().find(|e| e.name == *name)
    }
}
