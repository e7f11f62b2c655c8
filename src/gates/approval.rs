use std::num::NonZeroU32;

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Entry, Gate, Scene};
use crate::{
    model::{Rule, Saw},
    pipeline::{GateKind, Kind, checked},
};

pub const ENTRY: Entry = Entry {
    kind: GateKind {
        kind: Kind {
            name: "approval",
            about: "waits until people have approved",
            help: HELP,
            example: EXAMPLE,
            check: checked::<Config>,
            schema: |generator| generator.subschema_for::<Config>(),
        },
        rule,
    },
    build: |config| Ok(Box::new(serde_json::from_value::<Config>(config.clone())?)),
};

const HELP: &str = "\
Holds a promotion until `people` different persons have said `piton approve ENVIRONMENT`. An approval is for one plan: a newer plan
needs a new one. With `not_author`, which is the default, the author of the change does not count.

A rollback never waits for approval.";

const EXAMPLE: &str = "\
- approval:
    people: 1
    not_author: true
  name: four-eyes
";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApprovalGate")]
struct Config {
    /// How many different persons.
    #[serde(default = "super::expectation::once")]
    people: NonZeroU32,
    /// Whether the author of the change does not count.
    #[serde(default = "yes")]
    not_author: bool,
}

fn yes() -> bool {
    true
}

fn rule(config: &Value) -> Rule {
    let people = config.get("people").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
    Rule::Approval { people, not_author: config.get("not_author").and_then(Value::as_bool).unwrap_or(true) }
}

impl Gate for Config {
    fn look<'a>(&'a self, _: &'a Scene) -> BoxFuture<'a, Saw> {
        Box::pin(async { Saw::Blind("approvals stand in the ledger; there is nothing to look at".to_owned()) })
    }
}
