//! A label selector: as the API server takes it, and as we apply it ourselves to what comes without one.

use std::fmt;

use serde_json::Value;

/// Terms that must all hold; at least one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Term {
    Equal(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Selector {
    /// The `selector` of a workload. `None`: it selects everything, or speaks the language of a later API.
    pub fn of(selector: &Value) -> Option<Selector> {
        let equal = selector["matchLabels"].as_object().into_iter().flatten();
        let mut terms: Vec<Term> =
            equal.filter_map(|(key, value)| Some(Term::Equal(key.clone(), value.as_str()?.to_owned()))).collect();
        for rule in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = rule["key"].as_str()?.to_owned();
            let values = rule["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let values: Vec<String> = values.map(str::to_owned).collect();
            terms.push(match rule["operator"].as_str()? {
                "In" => Term::In(key, values),
                "NotIn" => Term::NotIn(key, values),
                "Exists" => Term::Exists(key),
                "DoesNotExist" => Term::DoesNotExist(key),
                _ => return None,
            });
        }
        (!terms.is_empty()).then_some(Selector(terms))
    }

    /// Exactly this value of one label.
    pub fn of_label(key: &str, value: &str) -> Selector {
        Selector(vec![Term::Equal(key.to_owned(), value.to_owned())])
    }

    /// A label whose one value everything that is selected has.
    pub fn one_value(&self) -> Option<(&str, &str)> {
        self.0.iter().find_map(|term| match term {
            Term::Equal(key, value) => Some((key.as_str(), value.as_str())),
            Term::In(key, values) => match values.as_slice() {
                [value] => Some((key.as_str(), value.as_str())),
                _ => None,
            },
            Term::NotIn(..) | Term::Exists(_) | Term::DoesNotExist(_) => None,
        })
    }

    /// Whether an object with these `metadata.labels` is selected.
    pub fn matches(&self, labels: &Value) -> bool {
        let value = |key: &String| labels[key.as_str()].as_str();
        self.0.iter().all(|term| match term {
            Term::Equal(key, wanted) => value(key) == Some(wanted.as_str()),
            Term::In(key, values) => value(key).is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Term::NotIn(key, values) => !value(key).is_some_and(|value| values.iter().any(|other| other == value)),
            Term::Exists(key) => value(key).is_some(),
            Term::DoesNotExist(key) => value(key).is_none(),
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match term {
                Term::Equal(key, value) => write!(f, "{comma}{key}={value}")?,
                Term::In(key, values) => write!(f, "{comma}{key} in ({})", values.join(","))?,
                Term::NotIn(key, values) => write!(f, "{comma}{key} notin ({})", values.join(","))?,
                Term::Exists(key) => write!(f, "{comma}{key}")?,
                Term::DoesNotExist(key) => write!(f, "{comma}!{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Selector;

    #[test]
    fn a_selector_is_written_as_the_api_server_reads_it_and_means_the_same_here() {
        let selector = Selector::of(&json!({
            "matchLabels": { "app": "web" },
            "matchExpressions": [
                { "key": "tier", "operator": "In", "values": ["a", "b"] },
                { "key": "track", "operator": "NotIn", "values": ["canary"] },
                { "key": "team", "operator": "Exists" },
                { "key": "old", "operator": "DoesNotExist" },
            ],
        }))
        .expect("it selects something");
        assert_eq!(selector.to_string(), "app=web,tier in (a,b),track notin (canary),team,!old");
        let fits = json!({ "app": "web", "tier": "b", "team": "x" });
        assert!(selector.matches(&fits));
        for (key, value) in [("app", "hub"), ("tier", "c"), ("track", "canary"), ("old", "")] {
            let mut labels = fits.clone();
            labels[key] = value.into();
            assert!(!selector.matches(&labels), "{labels}");
        }
        assert!(!selector.matches(&json!({ "app": "web", "tier": "b" })), "no team");
        assert_eq!(Selector::of(&json!({})), None);
        assert_eq!(
            Selector::of(&json!({"matchExpressions": [{ "key": "a", "operator": "Gt", "values": ["1"] }]})),
            None
        );
    }
}
