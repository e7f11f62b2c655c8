use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};

use super::*;
use crate::{model::Stamp, pipeline::Node};

fn environment() -> EnvironmentName {
    EnvironmentName::new("staging").expect("a good name")
}

fn notice(text: &str) -> Notice {
    Notice { id: 7, at: Stamp(0), urgency: Urgency::Alarm, text: text.to_owned() }
}

fn channel(kind: &str, config: Value) -> Box<dyn Channel> {
    let entry = ALL.iter().find(|entry| entry.kind.name == kind).expect("the kind is there");
    let node = Node::parse("example.yaml", &config.to_string()).expect("JSON is YAML");
    let normal = (entry.kind.check)(&node).unwrap_or_else(|fault| panic!("{config}: {fault:?}"));
    (entry.build)(&normal).expect("a checked configuration")
}

async fn tell(kind: &str, config: Value, text: &str) -> Result<(), String> {
    channel(kind, config).tell(&environment(), &notice(text)).await
}

#[test]
fn examples_are_right_and_unknown_keys_are_refused() {
    for entry in ALL {
        let mut example: Value = serde_yaml::from_str(entry.kind.example).expect("YAML");
        let mut config = example[entry.kind.name].take();
        channel(entry.kind.name, config.clone());
        config["nonsense"] = json!(1);
        let node = Node::parse("example.yaml", &config.to_string()).expect("JSON is YAML");
        assert!((entry.kind.check)(&node).is_err(), "{}", entry.kind.name);
    }
}

#[tokio::test]
async fn a_command_gets_the_text_and_the_circumstances() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("heard");
    let script = r#"cat > "$1"; echo "$PITON_ENVIRONMENT $PITON_URGENCY $PITON_NOTICE $PITON_AT" >> "$1""#;
    let run = json!({"run": ["sh", "-c", script, "sh", path]});
    tell("command", run, "two\nlines; $(not a shell)").await.expect("it runs");
    let heard = std::fs::read_to_string(path).expect("it wrote");
    assert_eq!(heard, "two\nlines; $(not a shell)\nstaging alarm 7 1970-01-01T00:00:00.000Z\n");
}

#[tokio::test]
async fn a_command_that_fails_is_a_sentence() {
    let error = tell("command", json!({"run": ["sh", "-c", "echo no room >&2; exit 4"]}), "x").await;
    assert_eq!(error.expect_err("it failed"), "`sh` exited with 4: no room");
    let error = tell("command", json!({"run": ["no-such-program-here"]}), "x").await;
    assert_eq!(error.expect_err("it is missing"), "cannot start `no-such-program-here`");
}

#[tokio::test]
async fn files_get_one_line_each() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("log");
    for text in ["first", "a\nb\tc"] {
        tell("file", json!({"path": path}), text).await.expect("it is written");
    }
    let line = |text: &str| format!("1970-01-01T00:00:00.000Z\talarm\tstaging\t#7\t{text}\n");
    assert_eq!(std::fs::read_to_string(path).expect("it is there"), line("first") + &line("a b c"));
    let error = tell("file", json!({"path": dir.path().join("none/log")}), "x").await.expect_err("no such folder");
    assert!(error.starts_with("cannot append to `") && error.contains("No such file"), "{error}");
}

#[tokio::test]
async fn webhooks_get_json_or_what_slack_takes() {
    let hook = Hook::start(StatusCode::OK).await;
    tell("webhook", json!({"url": hook.url}), "done").await.expect("it is taken");
    tell("webhook", json!({"url": hook.url, "format": "slack"}), "a <b> & c").await.expect("it is taken");
    let at = "1970-01-01T00:00:00Z";
    let heard = hook.heard.lock().expect("nobody panicked");
    assert_eq!(heard[0]["at"].as_str().map(|text| text.replace(".000", "")), Some(at.to_owned()));
    let parts = ["environment", "urgency", "text", "id"].map(|key| heard[0][key].clone());
    assert_eq!(parts, [json!("staging"), json!("alarm"), json!("done"), json!(7)]);
    assert_eq!(heard[1], json!({"text": "🔴 *staging*: a &lt;b&gt; &amp; c"}));
}

#[tokio::test]
async fn a_webhook_that_says_no_or_nothing_is_a_sentence() {
    let hook = Hook::start(StatusCode::FORBIDDEN).await;
    let error = tell("webhook", json!({"url": hook.url}), "x").await.expect_err("it says no");
    assert_eq!(error, "the webhook answered 403");
    // The variable is set in every test run, and holds no address.
    let error = tell("webhook", json!({"url_from": "CARGO_PKG_NAME"}), "x").await.expect_err("no address");
    assert!(error.contains("•••") && !error.contains("piton`"), "{error}");
    let error = tell("webhook", json!({"url": hook.url, "token": "PITON_NOT_SET"}), "x").await.expect_err("no token");
    assert_eq!(error, "the environment variable `PITON_NOT_SET` is not set");
}

/// Takes what is posted to it and answers with its status.
struct Hook {
    url: String,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    async fn start(status: StatusCode) -> Hook {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let take = move |State(heard): State<Arc<Mutex<Vec<Value>>>>, body: Bytes| async move {
            heard.lock().expect("nobody panicked").push(serde_json::from_slice(&body).expect("JSON"));
            status
        };
        let router = Router::new().route("/hook", post(take)).with_state(heard.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("it is bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Hook { url, heard }
    }
}
