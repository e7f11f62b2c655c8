use super::*;
use crate::{
    model::{CommitId, TreeId},
    pipeline::Node,
};

/// A moment with the releases `aaaa…` on trial and `bbbb…` stable.
pub(super) fn scene() -> Scene {
    let release = |digit: &str| Release {
        tree: TreeId::new(digit.repeat(40)).expect("40 digits"),
        source: CommitId::new(digit.repeat(40)).expect("40 digits"),
        versions: BTreeMap::new(),
    };
    Scene {
        environment: EnvironmentName::new("staging").expect("a good name"),
        candidate: release("a"),
        stable: Some(release("b")),
        facts: BTreeMap::from([("url".to_owned(), "http://127.0.0.1:9".to_owned())]),
        timeout: Span::seconds(10),
    }
}

/// The configuration of the one gate of an example, without what is common to all gates.
fn config_of(kind: &GateKind) -> serde_json::Value {
    let text = kind.kind.example;
    let mut list: serde_json::Value = serde_yaml::from_str(text).expect(text);
    assert!(list[0]["name"].is_string(), "an example names its gate: {text}");
    list[0][kind.kind.name].take()
}

#[test]
fn examples_are_checked_built_and_stable() {
    for entry in ALL {
        let text = serde_json::to_string(&config_of(&entry.kind)).expect("plain data");
        let node = Node::parse("example.yaml", &text).expect("JSON is YAML");
        let normal = (entry.kind.kind.check)(&node).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
        let again = Node::parse("example.yaml", &normal.to_string()).expect("JSON is YAML");
        assert_eq!((entry.kind.kind.check)(&again).expect("the normal form is right"), normal);
        (entry.build)(&normal).unwrap_or_else(|error| panic!("{text}: {error}"));
        let rule = (entry.kind.rule)(&normal);
        assert_eq!(rule.needs_no_look(), ["approval", "window"].contains(&entry.kind.kind.name), "{text}");
    }
}

#[test]
fn kinds_have_names_help_and_a_schema() {
    let mut generator = schemars::SchemaGenerator::default();
    for entry in ALL {
        let kind = &entry.kind.kind;
        assert!(!kind.about.is_empty() && kind.help.len() > 100, "{}", kind.name);
        let _ = (kind.schema)(&mut generator);
        assert!(!kind.about.ends_with('.') && kind.about.starts_with(char::is_lowercase), "{}", kind.about);
    }
    let names: std::collections::BTreeSet<_> = ALL.iter().map(|entry| entry.kind.kind.name).collect();
    assert_eq!(names.len(), ALL.len());
}

#[test]
fn unknown_keys_are_refused() {
    for entry in ALL {
        let mut config = config_of(&entry.kind);
        config.as_object_mut().expect("a mapping").insert("nonsense".to_owned(), 1.into());
        let node = Node::parse("example.yaml", &config.to_string()).expect("JSON is YAML");
        assert!((entry.kind.kind.check)(&node).is_err(), "{}", entry.kind.kind.name);
    }
}
