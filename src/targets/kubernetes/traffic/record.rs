//! What we wrote on a route last, kept on the route itself: the weights and the memory of them change in one write.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Fault, Pair, Router, Weighed};
use crate::{
    model::Share,
    targets::kubernetes::drift::fields::{self, Step},
};

const ANNOTATION: &str = "piton.dev/traffic";

/// What we wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub share: Share,
    /// The number of the lease under which it was written.
    pub fence: u64,
    /// The stable backend's weights before us, by place; null where there was none.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub before: Map<String, Value>,
    /// Stable's and canary's weight by place.
    pub written: Map<String, Value>,
}

impl Record {
    pub fn new(share: Share, fence: u64, before: Map<String, Value>, weights: &[Weighed]) -> Record {
        let written = weights.iter().map(|w| (w.at.to_string(), json!([w.stable, w.canary]))).collect();
        Record { share, fence, before, written }
    }
}

/// The record on a route; one that cannot be read is none.
pub fn read(route: &Value) -> Option<Record> {
    let text = route["metadata"]["annotations"][ANNOTATION].as_str()?;
    serde_json::from_str(text).ok()
}

/// Whether we never led anybody by this route. A record that cannot be read was ours.
pub fn is_none_of_ours(route: &Value) -> bool {
    route["metadata"]["annotations"][ANNOTATION].is_null()
}

pub fn write(route: &mut Value, record: &Record) {
    let text = serde_json::to_value(record).map(|value| value.to_string()).unwrap_or_default();
    if !route["metadata"]["annotations"].is_object() {
        route["metadata"]["annotations"] = json!({});
    }
    route["metadata"]["annotations"][ANNOTATION] = text.into();
}

pub fn remove(route: &mut Value) {
    let Some(metadata) = route["metadata"].as_object_mut() else { return };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    annotations.shift_remove(ANNOTATION);
    if annotations.is_empty() {
        metadata.shift_remove("annotations");
    }
}

/// What somebody else did to the weights since we wrote them; a route that we never wrote on tells nothing.
pub fn foreign_edit(router: &Router, pair: &Pair, route: &Value) -> Option<String> {
    let record = read(route)?;
    let now = match super::weights(router, pair, route) {
        Ok(now) => now,
        Err(fault) => return Some(format!("{}{}", told(&fault), by(route))),
    };
    let written = |weighed: &Weighed| {
        let pair = record.written.get(&weighed.at.to_string())?;
        Some((pair[0].as_u64()?, pair[1].as_u64()?))
    };
    let changed = now.iter().find(|weighed| written(weighed) != Some((weighed.stable, weighed.canary)));
    if let Some(weighed) = changed {
        let is = weighed.share();
        let here = format!("at `{}` the canary gets {is} (weight {}", weighed.at, weighed.canary);
        let beside = format!("beside {}), and piton wrote {}", weighed.stable, record.share);
        return Some(format!("{here} {beside}{}", by_at(route, &weighed.at.fields())));
    }
    let lost = record.written.keys().find(|at| !now.iter().any(|weighed| weighed.at.to_string() == **at));
    lost.map(|at| format!("the backends that piton wrote at `{at}` are gone{}", by(route)))
}

fn told(fault: &Fault) -> String {
    format!("its weights cannot be read as piton wrote them: {fault}")
}

/// Who set this field last; where the server does not say, or says that it was we, who wrote on the object last.
pub(super) fn by_at(route: &Value, field: &[Step]) -> String {
    let owner = fields::owner(route, field).filter(|owner| owner.manager != super::hand::MANAGER);
    owner.map_or_else(|| by(route), |owner| format!(" ({owner})"))
}

/// Who wrote on the object last, other than we.
pub(super) fn by(route: &Value) -> String {
    let entries = route["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let others = entries.iter().filter(|e| e["manager"] != super::hand::MANAGER && e["subresource"].as_str().is_none());
    let last = others.max_by_key(|entry| entry["time"].as_str().unwrap_or_default());
    last.map_or_else(String::new, |entry| {
        let text = |key: &str| entry[key].as_str().unwrap_or("unknown").to_owned();
        format!("; the last other writer is `{}`, at {}", text("manager"), text("time"))
    })
}
