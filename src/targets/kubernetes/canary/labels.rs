//! Which labels the canary's pods must have another value for, so that nothing that is meant for stable selects them.

use std::collections::BTreeMap;

use serde_json::Value;

pub type Labels = BTreeMap<String, String>;

/// What selects the stable pods, other than the workload itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selectors {
    /// Each of them must not match the canary's pods.
    pub escape: Vec<Labels>,
    /// Labels that must stay as they are.
    pub keep: Labels,
}

/// The labels of the canary's pods: as few as possible changed, so that network policies and monitors still find them.
/// Selectors that cannot be escaped without changing what must stay are left.
pub fn relabel(labels: &Labels, selectors: &Selectors, canary: &str) -> Labels {
    let mut new = labels.clone();
    loop {
        let open: Vec<&Labels> = selectors.escape.iter().filter(|selector| matches(selector, &new)).collect();
        let candidates = open.iter().flat_map(|selector| selector.keys());
        let free = candidates.filter(|key| !selectors.keep.contains_key(*key));
        let count = |key: &&String| open.iter().filter(|selector| selector.contains_key(*key)).count();
        // The label that escapes most at once; among equals the last by name, so that every run takes the same.
        let Some(key) = free.max_by_key(|key| (count(key), (*key).clone())) else { return new };
        new.insert(key.clone(), canary.to_owned());
    }
}

/// An empty selector selects nothing here: Services and Deployments have none that select all.
pub fn matches(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

pub fn read(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Rewrites selectors inside a pod's spec (affinity, spreading) that mean the pod's own kind.
pub fn rewrite(spec: &mut Value, old: &Labels, new: &Labels) {
    let changed: BTreeMap<&String, (&String, &String)> =
        old.iter().filter_map(|(key, was)| Some((key, (was, new.get(key).filter(|is| *is != was)?)))).collect();
    for place in ["affinity", "topologySpreadConstraints"] {
        if let Some(value) = spec.get_mut(place) {
            walk(value, &changed);
        }
    }
}

fn walk(value: &mut Value, changed: &BTreeMap<&String, (&String, &String)>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, changed)),
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                match key.as_str() {
                    "matchLabels" => match_labels(inner, changed),
                    "matchExpressions" => match_expressions(inner, changed),
                    _ => walk(inner, changed),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn match_labels(labels: &mut Value, changed: &BTreeMap<&String, (&String, &String)>) {
    for (key, value) in labels.as_object_mut().into_iter().flatten() {
        if let Some((was, is)) = changed.get(key)
            && value.as_str() == Some(was.as_str())
        {
            *value = Value::from((*is).clone());
        }
    }
}

fn match_expressions(expressions: &mut Value, changed: &BTreeMap<&String, (&String, &String)>) {
    for expression in expressions.as_array_mut().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default().to_owned();
        let Some((was, is)) = changed.get(&key) else { continue };
        for value in expression["values"].as_array_mut().into_iter().flatten() {
            if value.as_str() == Some(was.as_str()) {
                *value = Value::from((*is).clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(text: &str) -> Labels {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn as_few_labels_as_possible_change() {
        let cases = [
            // pod labels, selectors to escape, labels to keep, what comes out
            ("app=web", "app=web", "", "app=C"),
            ("app=web tier=front", "app=web,tier=front", "", "app=web tier=C"),
            ("app=web tier=front", "app=web,tier=front;app=web", "", "app=C tier=front"),
            ("app=web tier=front", "app=other;", "", "app=web tier=front"),
            ("app=web tier=front", "app=web,tier=front", "tier=front", "app=C tier=front"),
            ("app=web", "app=web", "app=web", "app=web"),
            ("a=1 b=2", "a=1;b=2", "", "a=C b=C"),
        ];
        for (pod, escape, keep, wanted) in cases {
            let escape = escape.split(';').map(|one| labels(&one.replace(',', " "))).collect();
            let selectors = Selectors { escape, keep: labels(keep) };
            assert_eq!(relabel(&labels(pod), &selectors, "C"), labels(wanted), "{pod}");
        }
    }

    #[test]
    fn pods_that_keep_away_from_their_own_kind_still_do() {
        let mut spec = json!({
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": {"app": "web"}}},
                {"labelSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "x"]}]}},
            ]}},
            "topologySpreadConstraints": [{"labelSelector": {"matchLabels": {"app": "other"}}}],
            "nodeSelector": {"app": "web"},
        });
        rewrite(&mut spec, &labels("app=web"), &labels("app=C"));
        let text = spec.to_string();
        assert_eq!(text.matches("\"C\"").count(), 2, "{text}");
        assert_eq!(spec["nodeSelector"]["app"], "web");
    }
}
