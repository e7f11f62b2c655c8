//! Fields that someone else set to another value: who, which field, when. A hand edit of the world is no fault of the release.

use kube::core::Status;

use super::manifest::Manifest;
use crate::{clients::kube::ObjectId, targets::TargetError};

const CAUSE: &str = "FieldManagerConflict";
/// More than that nobody reads in one sentence.
const TOLD_MAX: usize = 20;

/// One field of one object that another manager has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub object: ObjectId,
    /// Where the release says so.
    pub spot: String,
    /// As the server writes it: `.spec.replicas`.
    pub field: String,
    /// The other manager, and how and when it wrote, as far as the server says.
    pub by: String,
}

/// The conflicts that a refusal tells of; empty when it is another refusal.
pub fn of(manifest: &Manifest, status: &Status) -> Vec<Conflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes).filter(|cause| cause.reason == CAUSE);
    let conflict = |cause: &kube::core::response::StatusCause| Conflict {
        object: manifest.id.clone(),
        spot: manifest.spot().to_string(),
        field: cause.field.clone(),
        by: cause.message.strip_prefix("conflict with ").unwrap_or(&cause.message).to_owned(),
    };
    causes.map(conflict).collect()
}

/// Whether nobody but we ourselves wrote the fields, in another way: weights of a route, pods of a workload.
pub fn are_ours(conflicts: &[Conflict]) -> bool {
    let ours = format!("{:?}", super::inventory::MANAGER);
    !conflicts.is_empty() && conflicts.iter().all(|conflict| conflict.by.split(' ').next() == Some(ours.as_str()))
}

/// All of them in one sentence, with what a person can do.
pub fn refusal(conflicts: &[Conflict]) -> TargetError {
    let count = conflicts.len();
    let fields = if count == 1 { "a field belongs" } else { "some fields belong" };
    let what = format!(
        "{fields} to others, so nothing was applied: {}; put the live value into the release, undo the edit, or say `force: true` \
         in the target to take such fields over",
        list(conflicts)
    );
    TargetError::World { what, source: None }
}

/// `.spec.replicas` of Deployment shop/web (web.yaml:3) is held by "kubectl-edit"…
pub fn list(conflicts: &[Conflict]) -> String {
    let told = |c: &Conflict| format!("`{}` of {} ({}) by {}", c.field, c.object, c.spot, c.by);
    let mut text = conflicts.iter().take(TOLD_MAX).map(told).collect::<Vec<_>>().join("; ");
    if conflicts.len() > TOLD_MAX {
        text.push_str(&format!("; and {} more", conflicts.len() - TOLD_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conflict_names_who_and_which_field() {
        let object =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}});
        let id = ObjectId::of(&object).expect("it has a name");
        let manifest = Manifest { id, object, file: "web.yaml".to_owned(), line: 3, document: 0 };
        let status: Status = serde_json::from_value(json!({
            "status": "Failure", "code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict",
            "details": {"causes": [
                {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using apps/v1", "field": ".spec.replicas"},
                {"reason": "Other", "message": "x", "field": "y"},
            ]},
        }))
        .expect("it is a status");
        let conflicts = of(&manifest, &status);
        assert_eq!(conflicts.len(), 1);
        assert!(!are_ours(&conflicts));
        let own =
            Conflict { by: "\"piton\" with subresource \"scale\" using apps/v1".to_owned(), ..conflicts[0].clone() };
        assert!(are_ours(std::slice::from_ref(&own)) && !are_ours(&[own, conflicts[0].clone()]) && !are_ours(&[]));
        let text = refusal(&conflicts).to_string();
        assert!(
            text.starts_with(
                "a field belongs to others, so nothing was applied: `.spec.replicas` of Deployment shop/web (web.yaml:3) by \
                 \"kubectl-edit\" using apps/v1;"
            ),
            "{text}"
        );
    }
}
