//! The kinds that the sockets bring: what `piton explain` shows of each can be parsed, and editors know its keys.

use piton::{
    channels, gates,
    pipeline::{GateKind, Kind, Kinds, TargetKind, examples, explain, parse, schema},
    targets,
};
use serde_json::Value;

use crate::refusals::pipelines_in;

struct Real {
    gates: Vec<GateKind>,
    targets: Vec<TargetKind>,
    channels: Vec<Kind>,
}

impl Real {
    fn new() -> Real {
        Real {
            gates: gates::ALL.iter().map(|entry| entry.kind).collect(),
            targets: targets::ALL.iter().map(|entry| entry.kind).collect(),
            channels: channels::ALL.iter().map(|entry| entry.kind).collect(),
        }
    }

    fn kinds(&self) -> Kinds<'_> {
        Kinds { gates: &self.gates, targets: &self.targets, channels: &self.channels }
    }

    fn all(&self) -> Vec<(&'static str, Kind)> {
        let gates = self.gates.iter().map(|g| ("gate", g.kind));
        let targets = self.targets.iter().map(|t| ("target", t.kind));
        gates.chain(targets).chain(self.channels.iter().map(|c| ("channel", *c))).collect()
    }
}

#[test]
fn every_example_can_be_parsed() {
    let real = Real::new();
    let examples = examples(&real.kinds());
    assert!(examples.len() > real.all().len(), "every kind and every topic has one");
    for (name, text) in examples {
        if let Err(refusal) = parse("example.yaml", text.as_bytes(), &real.kinds()) {
            panic!("{name}\n{refusal}\n{text}");
        }
    }
}

#[test]
fn every_kind_can_be_explained() {
    let real = Real::new();
    for (topic, kind) in real.all() {
        let page = explain(&real.kinds(), Some(topic), Some(kind.name)).expect("it can be explained");
        assert!(page.contains("\nExample:\n") && page.contains(kind.about), "{page}");
        assert!(!kind.about.is_empty() && kind.about.len() <= 100, "{topic} {}: {:?}", kind.name, kind.about);
        let last = page.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(last <= 200, "{topic} {}: a line of {last} characters", kind.name);
    }
}

/// A key that is misspelt in a kind's configuration is refused, and the schema says so too.
#[test]
fn no_kind_takes_unknown_keys() {
    let real = Real::new();
    let schema = schema(&real.kinds());
    for (topic, kind) in real.all() {
        let node = piton::pipeline::Node::parse("x", "{ no-such-key-anywhere: 1 }").expect("it is YAML");
        assert!((kind.check)(&node).is_err(), "{topic} {} takes any key", kind.name);
        let defined = match topic {
            "gate" => "AnyGate",
            "target" => "AnyTarget",
            _ => "AnyChannel",
        };
        let own = &schema["$defs"][defined]["properties"][kind.name];
        let own = match own["$ref"].as_str() {
            Some(to) => schema.pointer(to.trim_start_matches('#')).expect("the schema refers to itself"),
            None => own,
        };
        assert_eq!(own["additionalProperties"], Value::Bool(false), "{topic} {}: {own:#}", kind.name);
    }
}

/// The pipelines of this repository, those that people run and those that only show how.
#[test]
fn our_own_pipelines_are_accepted() {
    let real = Real::new();
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut files = pipelines_in("fixtures/pipelines/good");
    if own.is_dir() {
        files.extend(pipelines_in("pipelines"));
    }
    for (name, text) in files {
        if let Err(refusal) = parse(&format!("{name}.yaml"), &text, &real.kinds()) {
            panic!("{refusal}");
        }
    }
}
