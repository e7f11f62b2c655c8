//! How a rollout is watched, as a pipeline says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Span;

/// What `piton explain` says of the watching, in the help of every target that does it.
pub const HELP: &str = "\
A rollout is watched until everything is ready. A pod that is visibly broken (its image cannot be pulled, it crashes, its
configuration is missing, no node has room) ends it at once, with the pod, its node, the reason and the last lines of its log;
a pod that is merely slow has its time, `within`. One failed start of a container is forgiven (`restarts`). A pod without
room on any node is given `unschedulable_grace`: more where an autoscaler brings nodes.
The log's last lines, at most ten of 200 characters, are shown to people and go into the ledger; `logs: false` leaves them out
where programs write secrets there.";

/// `rollout:` of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RolloutWatch")]
pub struct Config {
    /// The time until everything must be ready.
    pub within: Span,
    /// How long a pod may find no room on any node.
    pub unschedulable_grace: Span,
    /// How often a container may fail at its start.
    pub restarts: u32,
    /// How long a container without a readiness probe must stay up.
    pub steady: Span,
    /// Whether the last lines of a failing container's log are shown and written down.
    pub logs: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            within: Span::minutes(5),
            unschedulable_grace: Span::seconds(2),
            restarts: 1,
            steady: Span::seconds(1),
            logs: true,
        }
    }
}

impl Config {
    /// The usual, with another limit.
    pub fn within(within: Span) -> Config {
        Config { within, ..Config::default() }
    }
}
