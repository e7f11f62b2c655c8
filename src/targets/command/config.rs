use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{model::Span, targets::template};

/// The configuration of the target `command`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Deploys a release.
    #[serde(deserialize_with = "command")]
    pub apply: Vec<String>,
    /// Moves a share of the users to the release.
    #[serde(default, deserialize_with = "optional_command", skip_serializing_if = "Option::is_none")]
    pub weight: Option<Vec<String>>,
    /// Goes back; without it, `apply` is run with the old release.
    #[serde(default, deserialize_with = "optional_command", skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Vec<String>>,
    /// Takes down what the release replaced.
    #[serde(default, deserialize_with = "optional_command", skip_serializing_if = "Option::is_none")]
    pub settle: Option<Vec<String>>,
    /// Tries whether a release could be deployed again, without doing it.
    #[serde(default, deserialize_with = "optional_command", skip_serializing_if = "Option::is_none")]
    pub rehearse: Option<Vec<String>>,
    /// Prints what is live.
    #[serde(default, deserialize_with = "live_command", skip_serializing_if = "Option::is_none")]
    pub live: Option<Vec<String>>,
    /// Clusters or hubs that can be moved one after the other.
    #[serde(default, deserialize_with = "members", skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Environment variables with secrets, taken over from whoever runs piton; their values are taken out of all output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// The longest that a command may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

fn default_timeout() -> Span {
    Span::minutes(15)
}

const VARIABLES: [&str; 7] = ["environment", "tree", "source", "share", "members", "member", "release"];

fn command<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    checked(Vec::deserialize(from)?, &VARIABLES).map_err(serde::de::Error::custom)
}

fn optional_command<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    command(from).map(Some)
}

/// No release is known when it runs.
fn live_command<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    checked(Vec::deserialize(from)?, &VARIABLES[..1]).map(Some).map_err(serde::de::Error::custom)
}

fn checked(argv: Vec<String>, known: &[&str]) -> Result<Vec<String>, String> {
    if argv.first().is_none_or(|program| program.trim().is_empty()) {
        return Err("a command needs a program to run".to_owned());
    }
    for text in &argv {
        for name in template::variables(text)? {
            let of_a_component = name.starts_with("version.") && known.len() > 1;
            if !known.contains(&name) && !of_a_component {
                let known = known.join("`, `");
                return Err(format!("unknown variable `${{{name}}}`; there are `{known}`"));
            }
        }
    }
    Ok(argv)
}

/// They are separated by spaces in a variable, and each stands once.
fn members<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let members: Vec<String> = Vec::deserialize(from)?;
    let mut seen = BTreeSet::new();
    for member in &members {
        if member.is_empty() || member.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(serde::de::Error::custom(format!("member {member:?} must be one word")));
        }
        if !seen.insert(member) {
            return Err(serde::de::Error::custom(format!("member `{member}` is named twice")));
        }
    }
    Ok(members)
}
