//! How a rollout is watched, as a pipeline says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Span;

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
