//! How two states of one object differ, field by field, and who set what: pure functions over JSON.

use std::fmt;

use serde_json::{Map, Value};

use crate::model::Stamp;

/// One step into an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Key(String),
    /// An item of a list, by what tells it from its siblings.
    Item {
        /// `name` and its value, where the items have one.
        name: Option<(&'static str, String)>,
        index: usize,
    },
}

/// Two values at the same place.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub path: Vec<Step>,
    pub wanted: Option<Value>,
    pub live: Option<Value>,
}

/// Who set a field last, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub manager: String,
    pub subresource: String,
    pub at: Option<Stamp>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.manager)?;
        self.at.map_or(Ok(()), |at| write!(f, ", {at}"))
    }
}

/// What tells items of Kubernetes' lists apart, by custom.
const ITEM_KEYS: [&str; 8] = ["name", "containerPort", "port", "mountPath", "devicePath", "ip", "topologyKey", "type"];

/// Every place at which the two differ, the smallest there are.
pub fn changes(wanted: &Value, live: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare(Some(wanted), Some(live), &mut Vec::new(), &mut found);
    found
}

fn compare(wanted: Option<&Value>, live: Option<&Value>, path: &mut Vec<Step>, found: &mut Vec<Change>) {
    match (wanted, live) {
        (Some(Value::Object(wanted)), Some(Value::Object(live))) => objects(wanted, live, path, found),
        (Some(Value::Array(wanted)), Some(Value::Array(live))) => lists(wanted, live, path, found),
        (wanted, live) if wanted == live => {}
        (wanted, live) => {
            found.push(Change { path: path.clone(), wanted: wanted.cloned(), live: live.cloned() });
        }
    }
}

fn objects(wanted: &Map<String, Value>, live: &Map<String, Value>, path: &mut Vec<Step>, found: &mut Vec<Change>) {
    let only_live = live.keys().filter(|key| !wanted.contains_key(*key));
    for key in wanted.keys().chain(only_live) {
        path.push(Step::Key(key.clone()));
        compare(wanted.get(key), live.get(key), path, found);
        path.pop();
    }
}

fn lists(wanted: &[Value], live: &[Value], path: &mut Vec<Step>, found: &mut Vec<Change>) {
    let Some(key) = key_of(wanted, live) else {
        // Without names the order is all there is; one more or less shifts everything.
        if wanted != live {
            let (wanted, live) = (Value::from(wanted.to_vec()), Value::from(live.to_vec()));
            found.push(Change { path: path.clone(), wanted: Some(wanted), live: Some(live) });
        }
        return;
    };
    let step = |item: &Value, index: usize| Step::Item { name: Some((key, text(&item[key]))), index };
    for (index, item) in wanted.iter().enumerate() {
        path.push(step(item, index));
        compare(Some(item), live.iter().find(|other| other[key] == item[key]), path, found);
        path.pop();
    }
    for (index, item) in live.iter().enumerate().filter(|(_, item)| !wanted.iter().any(|w| w[key] == item[key])) {
        path.push(step(item, index));
        compare(None, Some(item), path, found);
        path.pop();
    }
}

/// A key that every item of both has, each with another value.
fn key_of(wanted: &[Value], live: &[Value]) -> Option<&'static str> {
    let tells_apart = |items: &[Value], key: &str| {
        let mut seen = Vec::new();
        items.iter().all(|item| {
            let value = item.get(key).filter(|value| !value.is_object() && !value.is_array());
            value.is_some_and(|value| {
                !seen.contains(&value) && {
                    seen.push(value);
                    true
                }
            })
        })
    };
    ITEM_KEYS.into_iter().find(|key| tells_apart(wanted, key) && tells_apart(live, key))
}

fn text(value: &Value) -> String {
    crate::model::shown(value)
}

/// The path as a person would write it: `spec.containers[name=web].image`.
pub fn shown(path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Key(key) if key.contains(['.', '/', '[']) => out.push_str(&format!("[{key:?}]")),
            Step::Key(key) if out.is_empty() => out.push_str(key),
            Step::Key(key) => out.extend([".", key]),
            Step::Item { name: Some((key, value)), .. } => out.push_str(&format!("[{key}={value}]")),
            Step::Item { name: None, index } => out.push_str(&format!("[{index}]")),
        }
    }
    out
}

/// The same place in another state of the object, as keys and indices; `None` where it is not there.
pub fn place_in(object: &Value, path: &[Step]) -> Option<Vec<String>> {
    let mut at = object;
    let mut place = Vec::new();
    for step in path {
        match step {
            Step::Key(key) => {
                at = at.get(key)?;
                place.push(key.clone());
            }
            Step::Item { name, index } => {
                let items = at.as_array()?;
                let found = match name {
                    Some((key, value)) => items.iter().position(|item| text(&item[*key]) == *value)?,
                    None => *index,
                };
                at = items.get(found)?;
                place.push(found.to_string());
            }
        }
    }
    Some(place)
}

/// Who set this place of the live object last; a manager that holds something above or below it counts less than one that
/// holds the place itself.
pub fn owner(live: &Value, path: &[Step]) -> Option<Owner> {
    let entries = live["metadata"]["managedFields"].as_array()?;
    let holding = entries.iter().filter_map(|entry| {
        let depth = depth(&entry["fieldsV1"], live, path);
        (depth > 0).then(|| (depth, manager(entry)))
    });
    let deepest = holding.max_by_key(|(depth, owner)| (*depth, owner.at.map_or(i64::MIN, |at| at.0)));
    deepest.filter(|(depth, _)| *depth == path.len()).map(|(_, owner)| owner)
}

/// Every place that some manager holds, the deepest there are, and who; by the server's own books.
pub fn held(live: &Value) -> Vec<(Vec<Step>, Owner)> {
    let mut found = Vec::new();
    for entry in live["metadata"]["managedFields"].as_array().into_iter().flatten() {
        let mut places = Vec::new();
        deepest(&entry["fieldsV1"], &mut Vec::new(), &mut places);
        found.extend(places.into_iter().map(|path| (path, manager(entry))));
    }
    found
}

fn manager(entry: &Value) -> Owner {
    let at = entry["time"].as_str().and_then(|time| time.parse::<Stamp>().ok());
    let word = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    Owner { manager: word("manager"), subresource: word("subresource"), at }
}

fn deepest(fields: &Value, path: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    let before = found.len();
    for (name, inner) in fields.as_object().into_iter().flatten() {
        // The `.` stands for the place itself, which the places below it say better.
        let Some(step) = step(name) else { continue };
        path.push(step);
        deepest(inner, path, found);
        path.pop();
    }
    if found.len() == before && !path.is_empty() {
        found.push(path.clone());
    }
}

/// One step as the server writes it: `f:image`, `k:{"name":"web"}`, `v:"x"`, `i:0`.
fn step(name: &str) -> Option<Step> {
    let (kind, rest) = name.split_once(':')?;
    match kind {
        "f" => Some(Step::Key(rest.to_owned())),
        "i" => Some(Step::Item { name: None, index: rest.parse().ok()? }),
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
            let key = ITEM_KEYS.into_iter().find(|key| keys.contains_key(*key))?;
            Some(Step::Item { name: Some((key, text(&keys[key]))), index: 0 })
        }
        // An item of a set is its own name.
        _ => Some(Step::Key(text(&serde_json::from_str(rest).ok()?))),
    }
}

/// How many steps of the path the set of fields goes along.
fn depth(fields: &Value, live: &Value, path: &[Step]) -> usize {
    let (mut fields, mut at) = (fields, Some(live));
    for (taken, step) in path.iter().enumerate() {
        let (next, item) = match step {
            Step::Key(key) => (fields.get(format!("f:{key}")), at.and_then(|at| at.get(key))),
            Step::Item { name, index } => {
                let items = at.and_then(Value::as_array);
                let item = items.and_then(|items| match name {
                    Some((key, value)) => items.iter().find(|item| text(&item[*key]) == *value),
                    None => items.get(*index),
                });
                (item.and_then(|item| of_item(fields, item)), item)
            }
        };
        match next {
            Some(next) => (fields, at) = (next, item),
            // A list or map that is held as a whole.
            None if taken > 0 && fields.as_object().is_some_and(Map::is_empty) => return path.len(),
            None => return taken,
        }
    }
    path.len()
}

/// The fields of the item whose keys are these: `k:{"name":"web"}`.
fn of_item<'a>(fields: &'a Value, item: &Value) -> Option<&'a Value> {
    let is_it = |name: &str| {
        let keys: Option<Map<String, Value>> = name.strip_prefix("k:").and_then(|keys| serde_json::from_str(keys).ok());
        keys.is_some_and(|keys| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
    };
    fields.as_object()?.iter().find(|(name, _)| is_it(name)).map(|(_, fields)| fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(wanted: Value, live: Value) -> Vec<String> {
        let one = |change: Change| format!("{}: {:?} {:?}", shown(&change.path), change.wanted, change.live);
        changes(&wanted, &live).into_iter().map(one).collect()
    }

    #[test]
    fn the_smallest_places_that_differ() {
        let wanted = json!({"spec": {"replicas": 3, "containers": [{"name": "a", "image": "a:1"}, {"name": "b"}]}});
        let live =
            json!({"spec": {"replicas": 5, "containers": [{"name": "b", "tty": true}, {"name": "a", "image": "a:2"}]}});
        assert_eq!(
            said(wanted.clone(), live),
            [
                "spec.replicas: Some(Number(3)) Some(Number(5))",
                "spec.containers[name=a].image: Some(String(\"a:1\")) Some(String(\"a:2\"))",
                "spec.containers[name=b].tty: None Some(Bool(true))",
            ]
        );
        assert_eq!(said(wanted.clone(), wanted), [] as [String; 0]);
    }

    #[test]
    fn lists_without_names_are_one_place() {
        let changed = said(json!({"args": ["a", "b"]}), json!({"args": ["b"]}));
        assert_eq!(changed.len(), 1);
        assert!(changed[0].starts_with("args: "), "{changed:?}");
        let missing = said(json!({"metadata": {"labels": {"a.b/c": "x"}}}), json!({"metadata": {"labels": {}}}));
        assert_eq!(missing, ["metadata.labels[\"a.b/c\"]: Some(String(\"x\")) None"]);
    }

    #[test]
    fn the_places_that_managers_hold() {
        let live = json!({"metadata": {"managedFields": [
            {"manager": "kubectl-edit", "time": "2026-01-03T00:00:00Z", "fieldsV1": {
                "f:metadata": {"f:annotations": {".": {}, "f:a.b/c": {}}, "f:finalizers": {"v:\"x\"": {}}},
                "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}},
                    "k:{\"name\":\"side\"}": {".": {}}}, "f:args": {"i:1": {}}},
            }},
            {"manager": "piton"},
        ]}});
        let told: Vec<String> = held(&live).iter().map(|(path, owner)| format!("{} ({owner})", shown(path))).collect();
        let places = [
            "metadata.annotations[\"a.b/c\"]",
            "metadata.finalizers.x",
            "spec.containers[name=web].image",
            "spec.containers[name=side]",
            "spec.args[1]",
        ];
        assert_eq!(told, places.map(|place| format!("{place} (kubectl-edit, 2026-01-03T00:00:00.000Z)")));
    }

    #[test]
    fn managers_are_found_at_the_place() {
        let live = json!({
            "metadata": {"managedFields": [
                {"manager": "piton", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {},
                    "f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}, "f:args": {}}}}}},
                {"manager": "kubectl", "subresource": "scale", "time": "2026-01-02T00:00:00Z",
                    "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "kubectl-edit", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:spec": {"f:containers":
                    {"k:{\"name\":\"web\"}": {"f:image": {}}}}}},
            ]},
            "spec": {"replicas": 5, "containers": [{"name": "web", "image": "w:2", "args": ["a"]}]},
        });
        let item = Step::Item { name: Some(("name", "web".to_owned())), index: 4 };
        let key = |key: &str| Step::Key(key.to_owned());
        let manager = |path: &[Step]| owner(&live, path).map(|owner| owner.manager);
        let at = owner(&live, &[Step::Key("spec".to_owned()), Step::Key("replicas".to_owned())]).expect("an owner").at;
        assert_eq!(at.expect("a time").to_string(), "2026-01-02T00:00:00.000Z");
        assert_eq!(manager(&[key("spec"), key("replicas")]).as_deref(), Some("kubectl"));
        let image = [key("spec"), key("containers"), item.clone(), key("image")];
        assert_eq!(manager(&image).as_deref(), Some("kubectl-edit"));
        assert_eq!(manager(&[key("spec"), key("containers"), item.clone(), key("args")]).as_deref(), Some("piton"));
        assert_eq!(manager(&[key("spec"), key("paused")]), None);
        assert_eq!(place_in(&live, &image).expect("it is there"), ["spec", "containers", "0", "image"]);
        assert_eq!(place_in(&live, &[key("spec"), key("paused")]), None);
    }
}
