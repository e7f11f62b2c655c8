//! Reading what most statuses have in common.

use serde_json::Value;

use crate::clients::kube::ObjectId;

/// One entry of `status.conditions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition<'a> {
    pub status: &'a str,
    pub reason: &'a str,
    pub message: &'a str,
}

impl Condition<'_> {
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    pub fn is_false(&self) -> bool {
        self.status == "False"
    }

    /// What it says, or its reason where it says nothing.
    pub fn said(&self) -> &str {
        if self.message.is_empty() { self.reason } else { self.message }
    }
}

pub(super) fn condition<'a>(status: &'a Value, kind: &str) -> Option<Condition<'a>> {
    let found = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?;
    Some(read(found))
}

pub(super) fn read(condition: &Value) -> Condition<'_> {
    let word = |key: &str| text(&condition[key]);
    Condition { status: word("status"), reason: word("reason"), message: word("message") }
}

/// Whether the controller has seen the object as it is; yes where its kind does not say.
pub fn is_observed(object: &Value) -> bool {
    let seen = &object["status"]["observedGeneration"];
    // Argo's Rollouts write it as text.
    match seen.as_i64().or_else(|| seen.as_str()?.parse().ok()) {
        Some(seen) => seen >= number(&object["metadata"]["generation"]),
        None => true,
    }
}

/// The object's name; every object of an API server has one.
pub(super) fn id(object: &Value) -> ObjectId {
    ObjectId::of(object).unwrap_or_else(|| ObjectId {
        api_version: text(&object["apiVersion"]).to_owned(),
        kind: text(&object["kind"]).to_owned(),
        namespace: None,
        name: text(&object["metadata"]["name"]).to_owned(),
    })
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
