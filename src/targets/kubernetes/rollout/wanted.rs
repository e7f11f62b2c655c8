//! Which objects somebody wants, judged here as the API server would.

use serde_json::Value;

use super::{feed::Need, related::text, selector::Selector};

/// The only field by which we choose single objects.
const NAME_FIELD: &str = "metadata.name=";
/// Everybody who names neither a label with its value nor an object.
const ANY: &str = "";

/// A need, judged here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    name: Option<String>,
    labels: Option<Selector>,
    /// One of these, where there are any.
    among: Vec<Selector>,
}

impl Wanted {
    pub fn of(need: &Need) -> Wanted {
        Wanted { name: split(need).0, labels: need.labels.clone(), among: need.among.clone() }
    }

    /// The watch that tells of all of them; other fields than the name go to the server with it.
    pub fn everything(need: &Need) -> Need {
        Need { labels: None, among: Vec::new(), fields: split(need).1, ..need.clone() }
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn takes(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let fits = |selector: &Selector| selector.matches(&metadata["labels"]);
        self.name.as_deref().is_none_or(|name| text(&metadata["name"]) == name)
            && self.labels.iter().all(fits)
            && (self.among.is_empty() || self.among.iter().any(fits))
    }

    /// Every object that is wanted has one of these.
    pub fn marks(&self) -> Vec<String> {
        let mark = |selector: &Selector| match selector.one_value() {
            Some((key, value)) => format!("{key}={value}"),
            None => ANY.to_owned(),
        };
        match (&self.name, &self.labels, self.among.is_empty()) {
            (Some(name), _, _) => vec![format!("{NAME_FIELD}{name}")],
            (None, Some(labels), _) => vec![mark(labels)],
            (None, None, false) => self.among.iter().map(mark).collect(),
            (None, None, true) => vec![ANY.to_owned()],
        }
    }

    /// The marks that an object has.
    pub fn marks_of(object: &Value) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn need(labels: Option<Value>, fields: Option<&str>, among: &[Value]) -> Need {
        Need {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: Some("shop".to_owned()),
            labels: labels.map(|labels| Selector::of(&labels).expect("it selects something")),
            fields: fields.map(str::to_owned),
            among: among.iter().filter_map(Selector::of).collect(),
        }
    }

    fn equal(app: &str) -> Value {
        json!({ "matchLabels": { "app": app } })
    }

    fn rule(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] })
    }

    #[test]
    fn whatever_is_taken_is_found_by_a_mark() {
        let object = json!({"metadata": {"name": "web-1", "labels": {"app": "web", "tier": "front", "empty": ""}}});
        for (need, taken) in [
            (need(Some(equal("web")), None, &[]), true),
            (need(Some(equal("api")), None, &[]), false),
            (need(Some(json!({ "matchLabels": { "app": "web", "tier": "back" } })), None, &[]), false),
            (need(Some(rule("app", "In", &["a", "web"])), None, &[]), true),
            (need(Some(rule("app", "In", &["web"])), None, &[]), true),
            (need(Some(rule("other", "NotIn", &["a"])), None, &[]), true),
            (need(Some(rule("empty", "Exists", &[])), None, &[]), true),
            (need(Some(rule("app", "DoesNotExist", &[])), None, &[]), false),
            (need(None, Some("metadata.name=web-1"), &[]), true),
            (need(None, Some("metadata.name=web-2"), &[]), false),
            (need(None, None, &[equal("api"), equal("web")]), true),
            (need(None, None, &[equal("api"), rule("tier", "Exists", &[])]), true),
            (need(None, None, &[equal("api"), equal("hub")]), false),
            (need(None, None, &[]), true),
        ] {
            let wanted = Wanted::of(&need);
            assert_eq!(wanted.takes(&object), taken, "{need:?}");
            let found = wanted.marks().iter().any(|mark| Wanted::marks_of(&object).contains(mark));
            assert!(!taken || found, "{need:?}: {:?}", wanted.marks());
        }
    }

    #[test]
    fn one_object_is_chosen_by_its_name_and_other_fields_by_the_server() {
        let one = need(None, Some("metadata.name=web-1"), &[]);
        assert_eq!((Wanted::of(&one).name(), Wanted::everything(&one).fields), (Some("web-1"), None));
        let warnings = need(None, Some("type=Warning"), &[]);
        assert_eq!(Wanted::everything(&warnings), warnings);
        assert_eq!(Wanted::of(&warnings).name(), None);
        let some = need(None, None, &[equal("web")]);
        assert_eq!(Wanted::everything(&some), need(None, None, &[]));
    }
}
