use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CommitId, Span, Stamp};

/// One way in which live is not what the release says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The object: `Deployment hub/web`.
    pub object: String,
    /// Where in it: `spec.replicas`; empty when all of the object is missing or too much.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// As the release says; `None`: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Value>,
    /// As it is; `None`: not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Value>,
    /// Who changed it last, as far as the target knows: a field manager, a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Stamp>,
    /// Where the release says so, for a commit that adopts what is live: the file, and the path of the value in its document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourcePlace>,
}

/// A value in a file of the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePlace {
    pub file: String,
    /// Which of the file's YAML documents, from 0.
    #[serde(default)]
    pub document: usize,
    /// Keys and indices from the document's root, as text.
    pub path: Vec<String>,
}

/// What of a value goes into the ledger, in characters of its JSON.
const VALUE_CHARACTERS_MAX: usize = 160;

impl Difference {
    /// The place without the value: what two looks have in common when the same thing is wrong.
    pub fn place(&self) -> (&str, &str) {
        (&self.object, &self.field)
    }

    /// Stands for the place and what is live there, in a form that stays short.
    pub fn mark(&self) -> String {
        let live = self.live.as_ref().map_or(String::new(), Value::to_string);
        format!("{:016x}", fnv1a(&format!("{}\n{}\n{live}", self.object, self.field)))
    }

    /// The same with values that are not longer than a line.
    pub fn bounded(mut self) -> Difference {
        self.wanted = self.wanted.map(bounded);
        self.live = self.live.map(bounded);
        self
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        match (&self.wanted, &self.live) {
            (_, None) => f.write_str(" is missing")?,
            (None, Some(_)) if self.field.is_empty() => f.write_str(" should not be there")?,
            (None, Some(live)) => write!(f, " is {} and should not be there", shown(live))?,
            (Some(wanted), Some(live)) if wanted == live => f.write_str(" differs")?,
            (Some(wanted), Some(live)) => write!(f, " is {} and should be {}", shown(live), shown(wanted))?,
        }
        match (&self.by, &self.at) {
            (Some(by), Some(at)) => write!(f, " ({by}, {at})"),
            (Some(by), None) => write!(f, " ({by})"),
            (None, Some(at)) => write!(f, " ({at})"),
            (None, None) => Ok(()),
        }
    }
}

/// A value as a person would write it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn bounded(value: Value) -> Value {
    let text = shown(&value);
    match text.chars().count() > VALUE_CHARACTERS_MAX {
        true => Value::String(format!("{}…", text.chars().take(VALUE_CHARACTERS_MAX).collect::<String>())),
        false => value,
    }
}

/// Fowler, Noll and Vo's hash: the same on every machine and in every version.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// How drift came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftEnd {
    /// A look found live as the ledger says.
    Gone,
    /// A commit says from then on what is live; until it is deployed these marks are no drift.
    Adopted { commit: CommitId, branch: String, marks: Vec<String> },
    /// What the ledger says was deployed again over it.
    Dropped { reason: String },
    /// Known and left alone until then.
    Accepted { until: Stamp, reason: String, marks: Vec<String> },
}

/// What a rehearsal of a release found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// What stands in the way of deploying it again, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
    /// The digest to which each image and chart reference leads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// What could not be looked at, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind: Option<String>,
}

/// How often is looked for drift, and whether the way back still exists; `None`: never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guard {
    pub drift: Option<Span>,
    pub way_back: Option<Span>,
    /// A way back that cannot be looked at holds a promotion up, too: as long as a blind gate may.
    pub blind_holds: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn difference(field: &str, wanted: Option<Value>, live: Option<Value>) -> Difference {
        let object = "Deployment hub/web".to_owned();
        Difference { object, field: field.to_owned(), wanted, live, by: None, at: None, source: None }
    }

    #[test]
    fn differences_are_sentences() {
        let cases = [
            (difference("spec.replicas", Some(json!(3)), Some(json!(5))), "spec.replicas is 5 and should be 3"),
            (difference("", Some(json!("there")), None), "is missing"),
            (difference("", None, Some(json!("there"))), "should not be there"),
            (difference("spec.paused", None, Some(json!(true))), "spec.paused is true and should not be there"),
        ];
        for (difference, sentence) in cases {
            assert_eq!(difference.to_string(), format!("Deployment hub/web {sentence}"));
        }
        let by = Difference {
            by: Some("kubectl-edit".to_owned()),
            at: Some(Stamp(0)),
            ..difference("a", Some(json!("x")), Some(json!("y")))
        };
        assert_eq!(
            by.to_string(),
            "Deployment hub/web a is y and should be x (kubectl-edit, 1970-01-01T00:00:00.000Z)"
        );
    }

    #[test]
    fn a_mark_stands_for_the_place_and_what_is_live() {
        let one = difference("spec.replicas", Some(json!(3)), Some(json!(5)));
        let same = Difference { wanted: Some(json!(4)), by: Some("eve".to_owned()), ..one.clone() };
        let other = Difference { live: Some(json!(6)), ..one.clone() };
        assert_eq!(one.mark(), same.mark());
        assert_ne!(one.mark(), other.mark());
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c, "a value of the authors' own table");
    }

    #[test]
    fn long_values_are_cut() {
        let long = difference("a", None, Some(json!("ö".repeat(1_000)))).bounded();
        assert_eq!(shown(&long.live.expect("a value")).chars().count(), VALUE_CHARACTERS_MAX + 1);
    }
}
