//! Every kind of gate against small worlds on this machine that behave, and that can be told to misbehave.

mod command;
mod http;
mod jupyter_world;
mod kernel;
mod metric;

use std::{collections::BTreeMap, time::Duration};

use piton::{
    channels,
    gates::{self, Gate, Scene},
    model::{CommitId, EnvironmentName, Release, Saw, Span, TreeId},
    pipeline::{Kinds, Node, examples, parse},
    targets,
};
use serde_json::Value;

/// A variable that every test run has; its value serves as a secret.
pub const SECRET_VARIABLE: &str = "CARGO_MANIFEST_DIR";

pub fn secret() -> String {
    std::env::var(SECRET_VARIABLE).expect("cargo sets it")
}

/// A gate, made as the pipeline makes it.
pub fn gate(kind: &str, config: &Value) -> Box<dyn Gate> {
    let entry = gates::ALL.iter().find(|entry| entry.kind.kind.name == kind).expect("the kind is there");
    let node = Node::parse("gate.yaml", &config.to_string()).expect("JSON is YAML");
    let normal = (entry.kind.kind.check)(&node).unwrap_or_else(|fault| panic!("{config}: {fault:?}"));
    (entry.build)(&normal).expect("a checked configuration")
}

pub fn scene(url: &str, timeout: Span) -> Scene {
    let release = |digit: &str| Release {
        tree: TreeId::new(digit.repeat(40)).expect("40 digits"),
        source: CommitId::new(digit.repeat(40)).expect("40 digits"),
        versions: BTreeMap::new(),
    };
    Scene {
        environment: EnvironmentName::new("staging").expect("a good name"),
        candidate: release("a"),
        stable: Some(release("b")),
        facts: BTreeMap::from([
            ("url".to_owned(), url.to_owned()),
            ("metrics_url".to_owned(), format!("{url}/metrics")),
        ]),
        timeout,
    }
}

/// One look, which must end within its time and a little more for a busy machine.
pub async fn look(kind: &str, config: Value, url: &str, timeout: Span) -> Saw {
    let (gate, scene) = (gate(kind, &config), scene(url, timeout));
    let saw = tokio::time::timeout(timeout.as_duration() + Duration::from_secs(20), gate.look(&scene)).await;
    saw.unwrap_or_else(|_| panic!("the look went on after {timeout}"))
}

#[track_caller]
pub fn assert_good(saw: &Saw, says: &str) {
    assert!(matches!(saw, Saw::Good(note) if note.contains(says)), "not good with `{says}`: {saw:?}");
}

#[track_caller]
pub fn assert_bad(saw: &Saw, says: &str) {
    assert!(matches!(saw, Saw::Bad(note) if note.contains(says)), "not bad with `{says}`: {saw:?}");
}

#[track_caller]
pub fn assert_blind(saw: &Saw, says: &str) {
    assert!(matches!(saw, Saw::Blind(note) if note.contains(says)), "not blind with `{says}`: {saw:?}");
}

/// Serves a router on a free port for as long as the test runs.
pub async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// An address where nothing listens.
pub async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("it is bound"))
}

/// What `piton explain` shows may be copied into a pipeline file as it stands.
#[test]
fn every_example_stands_in_a_pipeline() {
    let gates: Vec<_> = gates::ALL.iter().map(|entry| entry.kind).collect();
    let targets: Vec<_> = targets::ALL.iter().map(|entry| entry.kind).collect();
    let channels: Vec<_> = channels::ALL.iter().map(|entry| entry.kind).collect();
    let kinds = Kinds { gates: &gates, targets: &targets, channels: &channels };
    for (name, text) in examples(&kinds) {
        if let Err(refusal) = parse("example.yaml", text.as_bytes(), &kinds) {
            panic!("{name}\n{refusal}\n{text}");
        }
    }
}
