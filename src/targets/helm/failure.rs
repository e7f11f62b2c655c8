//! What Helm says when it fails, for people.

use std::sync::LazyLock;

use regex::Regex;

use crate::{
    clients::{
        kube::without_values,
        process::{Ran, RanEnding, last_lines},
    },
    targets::TargetError,
};

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Release,
    World,
}

/// Words of Helm's errors, whose fault it is, and what a person should know.
const KNOWN: [(&str, Fault, &str); 10] = [
    (
        "another operation (install/upgrade/rollback) is in progress",
        Fault::World,
        "another Helm is at work on this release, or was killed at it; `helm history` shows since when, \
         and `piton rollback` mends it",
    ),
    (
        "has no deployed releases",
        Fault::World,
        "its first install never succeeded; `helm uninstall` removes what is left of it",
    ),
    ("cluster unreachable", Fault::World, "the cluster does not answer"),
    ("connect: connection refused", Fault::World, "the cluster does not answer"),
    ("exceeded quota", Fault::World, "the namespace's quota is used up"),
    ("is forbidden: User", Fault::World, "whoever runs piton may not do this in the cluster"),
    (
        "invalid ownership metadata",
        Fault::World,
        "an object with this name is there and is not this release's; the flag `--take-ownership` makes it so",
    ),
    (
        "conflict occurred while applying object",
        Fault::World,
        "somebody else changed these fields in the cluster; the flag `--force-conflicts` overwrites them",
    ),
    ("no matches for kind", Fault::Release, "the cluster does not know this kind; is its CRD installed?"),
    ("hooks failed", Fault::Release, "a hook of the chart failed"),
];

/// A failed run as an error, with what Helm said.
pub fn of(what: &str, ran: &Ran) -> TargetError {
    let said = said(ran);
    if let Some(sentence) = immutable(&said) {
        return TargetError::Release(format!("{what}: {sentence}"));
    }
    let known = KNOWN.iter().find(|(words, ..)| said.contains(words));
    let (fault, sentence) = match known {
        Some((_, fault, meaning)) => (*fault, format!("{what}: {meaning}; Helm says: {said}")),
        None => (Fault::Release, format!("{what}: {said}")),
    };
    match fault {
        Fault::Release => TargetError::Release(sentence),
        Fault::World => TargetError::World { what: sentence, source: None },
    }
}

/// Helm's own error, or the end of what it printed.
pub fn said(ran: &Ran) -> String {
    let ending = match &ran.ending {
        RanEnding::Exit(_) => "",
        RanEnding::Signal(_) => "Helm was killed; ",
        RanEnding::TimedOut(after) => return format!("Helm was killed after its time-out of {after}"),
    };
    // Before anything is cut off: what a value belongs to stands before it.
    let (stdout, stderr) = (without_values(&ran.stdout), without_values(&ran.stderr));
    // The error comes last; lines before it are logs and warnings.
    let error = stderr.rfind("Error: ").map(|at| &stderr[at + "Error: ".len()..]);
    let lines = error.and_then(last_lines).or_else(|| last_lines(&format!("{stdout}\n{stderr}")));
    format!("{ending}{}", lines.unwrap_or_else(|| "it printed nothing".to_owned()))
}

/// The API server's refusal to change what cannot be changed.
fn immutable(said: &str) -> Option<String> {
    static REFUSED: LazyLock<Regex> = LazyLock::new(|| {
        let pattern =
            r#"([A-Z]\w*)(?:\.[\w.]+)? "([^"]+)" is invalid: (?:.*?)((?:spec|data|type|roleRef)[\w.\[\]]*): "#;
        Regex::new(pattern).expect("the pattern is fixed")
    });
    let unchangeable =
        ["field is immutable", "cannot change roleRef", "updates to statefulset spec for fields other than"];
    if !unchangeable.iter().any(|words| said.contains(words)) {
        return None;
    }
    let advice =
        "cannot be changed while the object is there: give the object another name, or delete it by hand first";
    Some(match REFUSED.captures(said) {
        Some(found) => format!("{} `{}`: `{}` {advice}", &found[1], &found[2], &found[3]),
        None => format!("a field {advice}; Helm says: {said}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(stderr: &str) -> Ran {
        Ran { ending: RanEnding::Exit(1), stdout: String::new(), stderr: stderr.to_owned() }
    }

    #[test]
    fn helms_errors_are_sentences() {
        let cases = [
            (
                "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress",
                "cannot: another Helm is at work on this release, or was killed at it; `helm history` shows since when, \
                 and `piton rollback` mends it; Helm says: UPGRADE FAILED: another operation \
                 (install/upgrade/rollback) is in progress",
            ),
            (
                "Error: UPGRADE FAILED: cannot patch \"web\" with kind Deployment: Deployment.apps \"web\" is invalid: \
                 spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable",
                "cannot: Deployment `web`: `spec.selector` cannot be changed while the object is there: give the \
                 object another name, or delete it by hand first",
            ),
            (
                "coalesce.go:237: warning: x\nError: template: web/t.yaml:1:2: oops",
                "cannot: template: web/t.yaml:1:2: oops",
            ),
            (
                "Error: UPGRADE FAILED: failed to create typed patch object (shop/db; /v1, Kind=Secret): .stringData.PIN: \
                 expected string, got &value.valueUnstructured{Value:83749201}",
                "cannot: UPGRADE FAILED: failed to create typed patch object (shop/db; /v1, Kind=Secret): .stringData.PIN: \
                 expected string, got (not shown)",
            ),
            ("", "cannot: it printed nothing"),
        ];
        for (stderr, sentence) in cases {
            assert_eq!(of("cannot", &failed(stderr)).to_string(), sentence);
        }
    }

    #[test]
    fn the_cluster_is_not_the_releases_fault() {
        let world = |stderr| matches!(of("cannot", &failed(stderr)), TargetError::World { .. });
        assert!(world("Error: Kubernetes cluster unreachable: Get \"https://127.0.0.1:1\": connection refused"));
        assert!(!world("Error: UPGRADE FAILED: post-upgrade hooks failed: job failed: BackoffLimitExceeded"));
    }
}
