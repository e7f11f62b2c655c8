//! What the API server refused, sorted: is the release at fault, or the world around it?

use super::manifest::Manifest;
use crate::{
    clients::kube::{KubeError, ObjectId},
    targets::TargetError,
};

/// The error with its causes on one line.
pub fn sentence(error: &KubeError) -> String {
    error.to_string()
}

pub fn world(what: impl Into<String>) -> TargetError {
    TargetError::World { what: what.into(), source: None }
}

/// A request about an object failed.
pub fn about(doing: &str, id: &ObjectId, error: &KubeError) -> TargetError {
    world(format!("cannot {doing} {id}: {}", with_hint(error)))
}

/// An apply was refused: by the object's own content, or by who we are and how the cluster is.
pub fn of_apply(manifest: &Manifest, error: &KubeError) -> TargetError {
    let text = format!("{}: cannot apply {}: {}", manifest.spot(), manifest.id, with_hint(error));
    match blames_release(error) {
        true => TargetError::Release(text),
        false => world(text),
    }
}

/// Content that is refused is the release's fault; so are admission rules, which it does not keep. What room a quota leaves
/// depends on whoever else is there.
fn blames_release(error: &KubeError) -> bool {
    match error {
        KubeError::UnknownKind { .. } => true,
        KubeError::Config(_) | KubeError::Unreachable(_) => false,
        KubeError::Refused(status) => match status.code {
            400 | 405 | 413 | 422 => true,
            403 => {
                let message = status.message.as_str();
                !is_for_the_account(message) && !is_terminating(message) && !is_over_a_quota(message)
            }
            // A webhook may answer with any code, and a field that the kind does not have is answered with 500.
            _ => denied_by_webhook(&status.message) || status.message.contains("failed to create typed patch object"),
        },
    }
}

fn denied_by_webhook(message: &str) -> bool {
    message.contains("admission webhook") && message.contains("denied the request")
}

fn is_for_the_account(message: &str) -> bool {
    message.contains(" is forbidden: User ") && message.contains(" cannot ")
}

fn is_over_a_quota(message: &str) -> bool {
    message.contains("exceeded quota")
}

fn is_terminating(message: &str) -> bool {
    message.contains("is being terminated")
}

/// The server's words, and what a person can do about them where that is not plain.
pub fn with_hint(error: &KubeError) -> String {
    let text = sentence(error);
    let hint = match error {
        KubeError::Refused(status) if status.code == 401 => "the credentials are not valid, or not any more",
        KubeError::Refused(status) if status.code == 403 && is_for_the_account(&text) => {
            "give piton's account this right, or it cannot go on"
        }
        KubeError::Refused(_) if is_terminating(&text) => "wait until the namespace is gone, then try again",
        KubeError::Refused(_) if text.contains("failed calling webhook") => {
            "the webhook does not answer: whoever runs it must mend it, or its configuration goes"
        }
        KubeError::Refused(status) if status.code == 422 && text.contains("field is immutable") => {
            "it cannot be changed in place: give it another name, such as one with the version in it"
        }
        KubeError::Refused(status) if status.code == 404 && text.starts_with("namespaces ") => {
            "create the namespace, or put it among the manifests"
        }
        KubeError::Refused(_) | KubeError::Config(_) | KubeError::Unreachable(_) | KubeError::UnknownKind { .. } => {
            return text;
        }
    };
    format!("{text} ({hint})")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_guilty_one_is_told_from_the_message() {
        let cases = [
            (403, "pods \"a\" is forbidden: exceeded quota: small, requested: pods=1", false, ""),
            (403, "pods \"a\" is forbidden: maximum cpu usage per Container is 1, but limit is 2", true, ""),
            (
                403,
                "deployments.apps \"web\" is forbidden: User \"ci\" cannot patch resource \"deployments\"",
                false,
                "this right",
            ),
            (
                403,
                "configmaps \"a\" is forbidden: unable to create new content in namespace x because it is being terminated",
                false,
                "gone",
            ),
            (400, "admission webhook \"v.example\" denied the request: no", true, ""),
            (
                500,
                "Internal error occurred: failed calling webhook \"v.example\": context deadline exceeded",
                false,
                "mend it",
            ),
            (500, "admission webhook \"v.example\" denied the request: no", true, ""),
            (
                500,
                "failed to create typed patch object (x/a; /v1, Kind=ConfigMap): .datta: field not declared",
                true,
                "",
            ),
            (422, "Job.batch \"m\" is invalid: spec.template: field is immutable", true, "another name"),
            (401, "Unauthorized", false, "not valid"),
            (404, "namespaces \"shop\" not found", false, "create the namespace"),
        ];
        for (code, message, release, hint) in cases {
            let error = KubeError::Refused(Box::new(Status::failure(message, "x").with_code(code)));
            let manifest = Manifest {
                id: ObjectId { api_version: "v1".into(), kind: "ConfigMap".into(), namespace: None, name: "a".into() },
                object: Value::Null,
                file: "a.yaml".to_owned(),
                line: 4,
                document: 0,
            };
            let told = of_apply(&manifest, &error);
            assert_eq!(matches!(told, TargetError::Release(_)), release, "{message}");
            assert!(told.to_string().starts_with("a.yaml:4: cannot apply ConfigMap a: "), "{told}");
            assert!(told.to_string().contains(hint), "{told}");
        }
    }
}
