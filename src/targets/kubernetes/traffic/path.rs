use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::targets::kubernetes::drift::fields;

/// A place in an object: keys with dots between them, `[0]` an item, `[*]` every item, `["a.key"]` a key with dots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    Item(usize),
    Every,
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a path; write keys with dots between them, `[0]` or `[*]` for items, `[\"a.key\"]` for a key with dots"
)]
pub struct PathError(String);

impl Path {
    /// A path that our own code writes.
    pub fn of(text: &str) -> Path {
        text.parse().unwrap_or_else(|_| Path(vec![Step::Key(text.to_owned())]))
    }

    /// The places that it means in this object, none of them with `[*]`.
    pub fn places(&self, root: &Value) -> Vec<Path> {
        let mut found = vec![(Vec::new(), root)];
        for step in &self.0 {
            found = found.into_iter().flat_map(|(at, value)| below(at, value, step)).collect();
        }
        found.into_iter().map(|(steps, _)| Path(steps)).collect()
    }

    /// The same place with its keys as this object writes them, whatever their case.
    pub fn spelled(&self, root: &Value) -> Path {
        let mut at = Some(root);
        let mut steps = Vec::new();
        for step in &self.0 {
            let (step, next) = match step {
                Step::Key(key) => {
                    let keys = at.and_then(Value::as_object).into_iter().flat_map(Map::keys);
                    let mut alike = keys.filter(|known| known.eq_ignore_ascii_case(key)).collect::<Vec<_>>();
                    alike.sort_by_key(|known| *known != key);
                    let found = alike.first().map_or(key, |known| *known);
                    (Step::Key(found.clone()), at.and_then(|value| value.get(found)))
                }
                Step::Item(index) => (step.clone(), at.and_then(|value| value.get(*index))),
                Step::Every => (step.clone(), at.and_then(|value| value.get(0))),
            };
            steps.push(step);
            at = next;
        }
        Path(steps)
    }

    /// What is there; a path with `[*]` means no one place.
    pub fn get<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Item(index) => value.get(index),
            Step::Every => None,
        })
    }

    /// The same place as the server's books of fields name it; the items that `[*]` means have no name there.
    pub fn fields(&self) -> Vec<fields::Step> {
        let step = |step: &Step| match step {
            Step::Key(key) => Some(fields::Step::Key(key.clone())),
            Step::Item(index) => Some(fields::Step::Item { name: None, index: *index }),
            Step::Every => None,
        };
        self.0.iter().map_while(step).collect()
    }

    pub fn get_mut<'a>(&self, root: &'a mut Value) -> Option<&'a mut Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Item(index) => value.get_mut(index),
            Step::Every => None,
        })
    }

    /// Writes a value there and makes the keys on the way; says whether it could.
    pub fn set(&self, root: &mut Value, new: Value) -> bool {
        let mut value = root;
        for step in &self.0 {
            let next = match step {
                Step::Key(key) => {
                    if value.is_null() {
                        *value = Value::Object(Map::new());
                    }
                    value.as_object_mut().map(|map| map.entry(key.clone()).or_insert(Value::Null))
                }
                Step::Item(index) => value.get_mut(index),
                Step::Every => None,
            };
            let Some(next) = next else { return false };
            value = next;
        }
        *value = new;
        true
    }

    /// Takes the key away; nothing happens where it is not.
    pub fn remove(&self, root: &mut Value) {
        let Some((Step::Key(last), above)) = self.0.split_last() else { return };
        if let Some(Value::Object(map)) = Path(above.to_vec()).get_mut(root) {
            map.shift_remove(last);
        }
    }
}

fn below<'a>(at: Vec<Step>, value: &'a Value, step: &Step) -> Vec<(Vec<Step>, &'a Value)> {
    let with = |step: Step| at.iter().cloned().chain([step]).collect::<Vec<_>>();
    match step {
        Step::Key(key) => value.get(key).map(|inner| (with(step.clone()), inner)).into_iter().collect(),
        Step::Item(index) => value.get(index).map(|inner| (with(step.clone()), inner)).into_iter().collect(),
        Step::Every => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().enumerate().map(|(index, inner)| (with(Step::Item(index)), inner)).collect()
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if key.contains(['.', '[', ']', '"']) => write!(f, "[{key:?}]")?,
                Step::Key(key) if index == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Item(item) => write!(f, "[{item}]")?,
                Step::Every => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Path, PathError> {
        let wrong = || PathError(text.chars().take(120).collect());
        let mut steps = Vec::new();
        let mut rest = text.strip_prefix("$.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
        while !rest.is_empty() {
            let (step, left) = step(rest, steps.is_empty()).ok_or_else(wrong)?;
            steps.push(step);
            rest = left;
        }
        if steps.is_empty() { Err(wrong()) } else { Ok(Path(steps)) }
    }
}

fn step(rest: &str, first: bool) -> Option<(Step, &str)> {
    if let Some(inner) = rest.strip_prefix("[\"") {
        let (key, left) = inner.split_once("\"]")?;
        return Some((Step::Key(key.to_owned()), left));
    }
    if let Some(inner) = rest.strip_prefix('[') {
        let (inside, left) = inner.split_once(']')?;
        let step = if inside == "*" { Step::Every } else { Step::Item(inside.parse().ok()?) };
        return Some((step, left));
    }
    let rest = if first { rest } else { rest.strip_prefix('.')? };
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (key, left) = rest.split_at(end);
    (!key.is_empty() && !key.contains([']', '"'])).then(|| (Step::Key(key.to_owned()), left))
}

impl TryFrom<String> for Path {
    type Error = PathError;
    fn try_from(text: String) -> Result<Path, PathError> {
        text.parse()
    }
}

impl From<Path> for String {
    fn from(path: Path) -> String {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_read_and_written_alike() {
        for text in ["spec", "spec.rules[*].backendRefs", "a[0].b", "metadata.annotations[\"a.b/c\"]"] {
            assert_eq!(Path::of(text).to_string(), text);
        }
        for wrong in ["", "a..b", "a[", "a[x]", "a]b", "[\"a"] {
            assert!(wrong.parse::<Path>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_item_is_a_place() {
        let object = json!({"rules": [{"to": [1]}, {"else": 2}, {"to": [3]}]});
        let places: Vec<String> = Path::of("rules[*].to").places(&object).iter().map(Path::to_string).collect();
        assert_eq!(places, ["rules[0].to", "rules[2].to"]);
    }

    #[test]
    fn values_are_set_and_removed() {
        let mut object = json!({"a": [{"b": 1}]});
        assert!(Path::of("a[0].c.d").set(&mut object, json!(2)));
        Path::of("a[0].b").remove(&mut object);
        assert!(!Path::of("a[7].b").set(&mut object, json!(2)));
        assert_eq!(object, json!({"a": [{"c": {"d": 2}}]}));
    }
}
