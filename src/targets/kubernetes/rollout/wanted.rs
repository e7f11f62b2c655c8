//! Which objects somebody wants, judged here as the API server would.

use serde_json::Value;

use super::{feed::Need, related::text};

/// The only field by which we choose single objects.
const NAME_FIELD: &str = "metadata.name=";
/// Everybody who names neither a label with its value nor an object.
const ANY: &str = "";

/// A need that can be judged here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    name: Option<String>,
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    In { key: String, values: Vec<String> },
    NotIn { key: String, values: Vec<String> },
    There { key: String },
    Absent { key: String },
}

impl Wanted {
    /// `None`: only the server can judge it.
    pub fn of(need: &Need) -> Option<Wanted> {
        let terms = need.labels.as_deref().map_or(Some(Vec::new()), terms)?;
        Some(Wanted { name: split(need).0, terms })
    }

    /// The watch that tells of all of them; other fields than the name go to the server with it.
    pub fn everything(need: &Need) -> Need {
        Need { labels: None, fields: split(need).1, ..need.clone() }
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn takes(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        self.name.as_deref().is_none_or(|name| text(&metadata["name"]) == name)
            && self.terms.iter().all(|term| term.holds(&metadata["labels"]))
    }

    /// One thing that every object must have that is wanted.
    pub fn mark(&self) -> String {
        let equal = |term: &Term| match term {
            Term::In { key, values } if values.len() == 1 => Some(format!("{key}={}", values[0])),
            Term::In { .. } | Term::NotIn { .. } | Term::There { .. } | Term::Absent { .. } => None,
        };
        match &self.name {
            Some(name) => format!("{NAME_FIELD}{name}"),
            None => self.terms.iter().find_map(equal).unwrap_or_else(|| ANY.to_owned()),
        }
    }

    /// The marks that an object has.
    pub fn marks(object: &Value) -> Vec<String> {
        let metadata = &object["metadata"];
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| format!("{key}={}", text(value)));
        labels.chain([format!("{NAME_FIELD}{}", text(&metadata["name"])), ANY.to_owned()]).collect()
    }
}

/// The name of the one object, or the fields that the server chooses by.
fn split(need: &Need) -> (Option<String>, Option<String>) {
    match need.fields.as_deref().map(|fields| (fields, fields.strip_prefix(NAME_FIELD))) {
        Some((_, Some(name))) => (Some(name.to_owned()), None),
        Some((fields, None)) => (None, Some(fields.to_owned())),
        None => (None, None),
    }
}

/// A selector as `related::selector` writes it: commas inside of parentheses part values.
fn terms(selector: &str) -> Option<Vec<Term>> {
    let mut depth = 0;
    let parts = selector.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts.map(term).collect()
}

fn term(text: &str) -> Option<Term> {
    let several = |rest: &str| {
        let inner = rest.strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(str::to_owned).collect::<Vec<_>>())
    };
    if let Some((key, rest)) = text.split_once(" notin ") {
        return Some(Term::NotIn { key: key.to_owned(), values: several(rest)? });
    }
    if let Some((key, rest)) = text.split_once(" in ") {
        return Some(Term::In { key: key.to_owned(), values: several(rest)? });
    }
    if let Some((key, value)) = text.split_once('=') {
        return Some(Term::In { key: key.to_owned(), values: vec![value.to_owned()] });
    }
    let plain = |key: &str| !key.is_empty() && !key.contains([' ', '!', '(', ')', '<', '>']);
    match text.strip_prefix('!') {
        Some(key) if plain(key) => Some(Term::Absent { key: key.to_owned() }),
        None if plain(text) => Some(Term::There { key: text.to_owned() }),
        Some(_) | None => None,
    }
}

impl Term {
    fn holds(&self, labels: &Value) -> bool {
        let of = |key: &String| labels[key.as_str()].as_str();
        match self {
            Term::In { key, values } => of(key).is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Term::NotIn { key, values } => of(key).is_none_or(|value| values.iter().all(|wanted| wanted != value)),
            Term::There { key } => of(key).is_some(),
            Term::Absent { key } => of(key).is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::targets::kubernetes::rollout::related;

    fn need(labels: Option<&str>, fields: Option<&str>) -> Need {
        Need {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: Some("shop".to_owned()),
            labels: labels.map(str::to_owned),
            fields: fields.map(str::to_owned),
        }
    }

    #[test]
    fn selectors_are_judged_as_the_server_does() {
        let object = json!({"metadata": {"name": "web-1", "labels": {"app": "web", "tier": "front", "empty": ""}}});
        for (selector, taken) in [
            ("app=web", true),
            ("app=web,tier=front", true),
            ("app=web,tier=back", false),
            ("app in (a,web,b),tier=front", true),
            ("app in (a,b)", false),
            ("app notin (a,b)", true),
            ("other notin (a)", true),
            ("app notin (web)", false),
            ("app", true),
            ("empty", true),
            ("!app", false),
            ("!other", true),
        ] {
            let wanted = Wanted::of(&need(Some(selector), None)).expect(selector);
            assert_eq!(wanted.takes(&object), taken, "{selector}");
            assert!(!taken || Wanted::marks(&object).contains(&wanted.mark()), "{selector}: {}", wanted.mark());
        }
        for odd in ["app>3", "app in web", "a b"] {
            assert_eq!(Wanted::of(&need(Some(odd), None)), None, "{odd}");
        }
    }

    #[test]
    fn what_related_writes_is_understood() {
        let selector = json!({
            "matchLabels": {"app": "web", "tier": "front"},
            "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "b", "operator": "NotIn", "values": ["z"]},
                {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist"},
            ],
        });
        let text = related::selector(&selector).expect("it is known");
        let wanted = Wanted::of(&need(Some(&text), None)).expect("it is understood");
        let fits = json!({"metadata": {"labels": {"app": "web", "tier": "front", "a": "y", "c": "1"}}});
        assert!(wanted.takes(&fits));
        for (key, value) in [("app", "api"), ("a", "w"), ("b", "z"), ("d", "1")] {
            let mut other = fits.clone();
            other["metadata"]["labels"][key] = json!(value);
            assert!(!wanted.takes(&other), "{key}={value}");
        }
    }

    #[test]
    fn one_object_is_chosen_by_its_name_and_other_fields_by_the_server() {
        let one = need(None, Some("metadata.name=web-1"));
        let wanted = Wanted::of(&one).expect("it is understood");
        assert_eq!((wanted.name(), Wanted::everything(&one).fields), (Some("web-1"), None));
        let warnings = need(None, Some("type=Warning"));
        assert_eq!(Wanted::everything(&warnings), warnings);
        assert_eq!(Wanted::of(&warnings).expect("it is understood").name(), None);
    }
}
