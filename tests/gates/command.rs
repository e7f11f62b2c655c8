use piton::model::{Saw, Span};
use serde_json::{Value, json};

use super::{SECRET_VARIABLE, assert_bad, assert_blind, assert_good, look, secret};

async fn run(config: Value) -> Saw {
    look("command", config, "http://a.test", Span::seconds(20)).await
}

fn shell(script: &str) -> Value {
    json!({"run": ["sh", "-c", script]})
}

#[tokio::test]
async fn the_exit_code_is_the_answer() {
    assert_good(&run(shell("echo one; echo all is well")).await, "all is well");
    assert_good(&run(shell("exit 0")).await, "exited with 0");
    assert_bad(&run(shell("echo no good >&2; exit 1")).await, "`sh` exited with 1: no good");
    assert_bad(&run(shell("kill -SEGV $$")).await, "killed by signal 11");
    assert_blind(&run(shell("echo the source is away; exit 75")).await, "exited with 75: the source is away");
    assert_blind(&run(json!({"run": ["sh", "-c", "exit 3"], "blind_exit": [3]})).await, "exited with 3");
    assert_bad(&run(json!({"run": ["sh", "-c", "exit 75"], "blind_exit": [3]})).await, "exited with 75");
}

#[tokio::test]
async fn a_command_that_cannot_start_is_blind() {
    assert_blind(&run(json!({"run": ["/no/such/program"]})).await, "cannot start `/no/such/program`: No such file");
    assert_blind(&run(json!({"run": ["true"], "dir": "/no/such/folder"})).await, "cannot start `true`");
    assert_blind(&run(json!({"run": ["echo", "${nothing}"]})).await, "nothing is known for `${nothing}`");
}

#[tokio::test]
async fn a_command_that_hangs_is_bad() {
    let saw = look("command", shell("echo begun; sleep 600"), "http://a.test", Span(400)).await;
    assert_bad(&saw, "killed after its time-out of 400ms: begun");
}

#[tokio::test]
async fn facts_and_variables_are_passed_without_a_shell() {
    let script = r#"test "$1" = 'http://a.test; exit 1' && test "$LEVEL" = 'quick http://a.test' \
        && test "$PITON_FACT_URL $PITON_ENVIRONMENT" = 'http://a.test staging' && test $${#PITON_RELEASE} = 40"#;
    let run_it = json!({"run": ["sh", "-c", script, "sh", "${url}; exit 1"], "env": {"LEVEL": "quick ${url}"}});
    assert_good(&run(run_it).await, "exited with 0");
}

#[tokio::test]
async fn secrets_and_foreign_bytes_do_not_reach_the_note() {
    let script = format!("printf 'a\\377b\\033[1m %s\\n' \"${SECRET_VARIABLE}\"; exit $1");
    for code in ["0", "1"] {
        let config = json!({"run": ["sh", "-c", script, "sh", code], "secrets": [SECRET_VARIABLE]});
        let saw = run(config).await;
        let (Saw::Good(note) | Saw::Bad(note)) = &saw else { panic!("{saw:?}") };
        assert!(note.contains("a\u{fffd}b") && note.contains("•••") && !note.contains(&secret()), "{note}");
    }
}
