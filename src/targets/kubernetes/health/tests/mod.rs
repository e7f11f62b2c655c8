//! Tables: a status as the API server gives it, and what is said of it.

mod others;
mod pods;
mod workloads;

use serde_json::Value;

use super::{Blame, Health};

/// A health in one line.
fn say(health: &Health) -> String {
    let blamed = |blame: Blame| match blame {
        Blame::Release => "the release",
        Blame::World => "the world",
        Blame::Unknown => "nobody knows whom",
    };
    match health {
        Health::Ready => "ready".to_owned(),
        Health::Progressing { why } => format!("progressing: {why}"),
        Health::Doubtful(trouble) => format!("doubtful, by {}: {trouble}", blamed(trouble.blame)),
        Health::Broken(trouble) => format!("broken, by {}: {trouble}", blamed(trouble.blame)),
    }
}

/// Every row's status must give its sentence.
fn check(rows: Vec<(&str, Value, &str)>, of: impl Fn(&Value) -> Health) {
    for (name, object, expected) in rows {
        assert_eq!(say(&of(&object)), expected, "{name}");
    }
}

#[test]
fn a_log_is_bounded_and_clean() {
    let object = crate::clients::kube::ObjectId {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: Some("hub".to_owned()),
        name: "web-1".to_owned(),
    };
    let trouble = super::Trouble::new(object, "Crashed", "it ended\nwith exit code 1", Blame::Release);
    let log: String = (1..=30).map(|n| format!("line {n}\u{1b}[0m\n\n")).collect::<String>() + &"x".repeat(300);
    let trouble = trouble.with_log(&log);
    assert_eq!(trouble.log.len(), super::LOG_LINES_MAX);
    assert_eq!(trouble.log[0], "line 22 [0m");
    assert_eq!(trouble.log[9].chars().count(), 201);
    assert_eq!(trouble.headline(), "Pod hub/web-1: Crashed: it ended with exit code 1");
    assert!(trouble.to_string().contains("\n    | line 30"), "{trouble}");
}
