use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Fault, Node};
use crate::model::Rule;

/// One kind of gate, target or channel, as this room needs it: the sockets pass their lists in at the door.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The word in the pipeline file: `http`, `process`…
    pub name: &'static str,
    /// A sentence on what it is for.
    pub about: &'static str,
    /// Help in a few paragraphs, for `piton explain`.
    pub help: &'static str,
    /// One gate, target or channel as it stands in a pipeline file. A test parses it.
    pub example: &'static str,
    /// Checks the configuration and gives it in its normal form, defaults filled in.
    pub check: fn(&Node) -> Result<Value, Fault>,
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

/// A kind of gate also says how its readings are judged.
#[derive(Clone, Copy)]
pub struct GateKind {
    pub kind: Kind,
    /// Takes the checked configuration.
    pub rule: fn(&Value) -> Rule,
}

/// A kind of target also says how it can move users.
#[derive(Clone, Copy)]
pub struct TargetKind {
    pub kind: Kind,
    /// Takes the checked configuration.
    pub splits: fn(&Value) -> Splits,
}

/// What portions of the users a target can move.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splits {
    /// Any percentage.
    pub by_share: bool,
    /// Shares must be whole multiples of so many hundredths of a percent; any with 0 or 1.
    pub unit_hundredths: u16,
    /// These members, one or some at a time.
    pub members: Vec<String>,
}

/// Every kind that a pipeline may name.
#[derive(Clone, Copy)]
pub struct Kinds<'a> {
    pub gates: &'a [GateKind],
    pub targets: &'a [TargetKind],
    pub channels: &'a [Kind],
}

/// The usual `check`: reads the configuration as `T`, so that unknown keys and wrong types are refused, and writes it
/// back with its defaults.
pub fn checked<T: DeserializeOwned + Serialize>(node: &Node) -> Result<Value, Fault> {
    let config: T = node.read()?;
    serde_json::to_value(config).map_err(|error| node.fault(error.to_string()))
}
