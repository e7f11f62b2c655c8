//! What of the server's words nobody may read: it quotes the values that it refuses, those of Secrets too.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use kube::core::Status;
use regex::Regex;
use serde_json::Value;

use super::KubeError;
use crate::clients::process::Redaction;

const UNSAID: &str = "(not shown)";

/// A value as the server's own structures print it, and a number or word that could not be read as another kind.
static PRINTED: LazyLock<Regex> = LazyLock::new(|| pattern(r"(, got )&?value\.\w+\{[^\n]*"));
static UNREAD: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(cannot unmarshal (?:number|!!\w+) )(?:`[^`\n]*`|[-+.\deE]+)"));
/// What a text must have in it to be about a Secret.
static SECRET: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bSecret\b|\bsecrets\b"));
/// Of a Secret, everything that stands where a value is quoted: up to its closing quote, or to the end of the line.
static QUOTED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"((?:Invalid|Unsupported|Duplicate) value: |, got )(?:"(?:[^"\\\n]|\\.)*"|[^"\n][^\n]*|"[^\n]*)"#)
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is fixed")
}

/// The words of an API server, or of a program that passes them on, without the values in them that may be secret.
pub fn without_values(said: &str) -> String {
    without(said, SECRET.is_match(said))
}

fn without(said: &str, of_secret: bool) -> String {
    let hidden = format!("${{1}}{UNSAID}");
    let said = PRINTED.replace_all(said, &hidden);
    let said = UNREAD.replace_all(&said, &hidden);
    match of_secret {
        true => QUOTED.replace_all(&said, &hidden).into_owned(),
        false => said.into_owned(),
    }
}

/// A refusal as it may be told.
pub(super) fn tellable(mut status: Status) -> Status {
    status.message = without_values(&status.message);
    if let Some(details) = &mut status.details {
        for cause in &mut details.causes {
            cause.message = without_values(&cause.message);
        }
    }
    status
}

impl KubeError {
    /// The refusal of this very object: of a Secret none of its values is left in it, however the server put it.
    pub fn of(self, object: &Value) -> KubeError {
        match self {
            KubeError::Refused(mut status) if is_secret(object) => {
                // A value that is also a name, or part of one, goes too: less is said, and nothing untrue.
                status.message = Redaction::of_values(values(object)).apply(&without(&status.message, true));
                KubeError::Refused(status)
            }
            other => other,
        }
    }
}

fn is_secret(object: &Value) -> bool {
    object["kind"] == "Secret" && object["apiVersion"] == "v1"
}

/// All that a Secret holds, as it is written and as it is meant.
fn values(secret: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(&secret["data"], &mut found);
    let meant = found.iter().filter_map(|text| String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok());
    let meant: Vec<String> = meant.collect();
    collect(&secret["stringData"], &mut found);
    found.extend(meant);
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::String(text) => found.push(text.clone()),
        Value::Number(number) => found.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(map) => map.values().for_each(|value| collect(value, found)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_left_out_where_they_may_be_secret() {
        let cases = [
            (
                "failed to create typed patch object (shop/db; /v1, Kind=Secret): .stringData.PIN: expected string, got \
                 &value.valueUnstructured{Value:83749201}",
                "failed to create typed patch object (shop/db; /v1, Kind=Secret): .stringData.PIN: expected string, got \
                 (not shown)",
            ),
            // The same of another kind: a value has no business in a sentence, and this one says nothing to people.
            (
                "(shop/a; /v1, Kind=ConfigMap): .data.PIN: expected string, got &value.valueUnstructured{Value:8374}\n.data.X: no",
                "(shop/a; /v1, Kind=ConfigMap): .data.PIN: expected string, got (not shown)\n.data.X: no",
            ),
            (
                r#"Secret "db" is invalid: data[a]: Invalid value: "hunter \" 2": must be short, type: Unsupported value: 12"#,
                r#"Secret "db" is invalid: data[a]: Invalid value: (not shown): must be short, type: Unsupported value: (not shown)"#,
            ),
            (
                r#"Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater"#,
                r#"Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater"#,
            ),
            (
                "line 3: cannot unmarshal !!int `83749201` into string",
                "line 3: cannot unmarshal !!int (not shown) into string",
            ),
            (
                "json: cannot unmarshal number 83749201 into Go struct field Secret.data of type []uint8",
                "json: cannot unmarshal number (not shown) into Go struct field Secret.data of type []uint8",
            ),
            ("secrets \"db\" is forbidden: exceeded quota", "secrets \"db\" is forbidden: exceeded quota"),
        ];
        for (said, told) in cases {
            assert_eq!(without_values(said), told);
        }
    }

    #[test]
    fn of_a_secret_that_is_known_no_value_is_left_whatever_the_words() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
            "data": {"a": STANDARD.encode("hunter2")}, "stringData": {"pin": 83749201, "deep": ["correct horse"]}});
        let said = format!(
            "denied: hunter2, {}, 83749201 and correct horse are weak; got 12: Invalid value: 7",
            STANDARD.encode("hunter2")
        );
        let refused = |object: &Value| {
            let error = KubeError::from(kube::Error::Api(Box::new(Status::failure(&said, "x").with_code(400))));
            error.of(object).to_string()
        };
        assert_eq!(refused(&secret), "denied: •••, •••, ••• and ••• are weak; got 12: Invalid value: (not shown)");
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "db"}, "data": {"a": "hunter2"}});
        assert_eq!(refused(&map), said);
    }
}
