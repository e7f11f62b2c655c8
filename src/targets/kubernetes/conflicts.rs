//! Fields that someone else set to another value: who, which field, when. A hand edit of the world is no fault of the release.

use kube::core::Status;
use serde_json::Value;

use super::{apply::Way, manifest::Manifest};
use crate::{clients::kube::ObjectId, targets::TargetError};

const CAUSE: &str = "FieldManagerConflict";
/// As the server names the number of replicas.
pub const REPLICAS: &str = ".spec.replicas";
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

/// All of them in one sentence, with what a person can do. `written`: so many objects were applied before they were seen.
pub fn refusal(conflicts: &[Conflict], written: usize) -> TargetError {
    let count = conflicts.len();
    let fields = if count == 1 { "a field belongs" } else { "some fields belong" };
    let so = match written {
        0 => "so nothing was applied".to_owned(),
        1 => "so no more was applied than 1 object before".to_owned(),
        more => format!("so no more was applied than {more} objects before"),
    };
    let what = format!(
        "{fields} to others, {so}: {}; put the live value into the release, undo the edit, or say `force: true` \
         in the target to take such fields over",
        list(conflicts)
    );
    TargetError::World { what, source: None }
}

/// Whether the number of replicas is left to whoever set it: more of them may be what keeps the service up. Fewer never do,
/// least of all none, to which somebody went to stop the damage.
pub fn leaves_more(way: Way, live: Option<u64>, object: &Value) -> bool {
    let wanted = object["spec"]["replicas"].as_u64();
    match way {
        Way::Back | Way::Through => matches!((live, wanted), (Some(live), Some(wanted)) if live >= wanted),
        Way::Forward | Way::Over => false,
    }
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
        let half = refusal(&conflicts, 12).to_string();
        assert!(
            half.starts_with("a field belongs to others, so no more was applied than 12 objects before: "),
            "{half}"
        );
        let text = refusal(&conflicts, 0).to_string();
        assert!(
            text.starts_with(
                "a field belongs to others, so nothing was applied: `.spec.replicas` of Deployment shop/web (web.yaml:3) by \
                 \"kubectl-edit\" using apps/v1;"
            ),
            "{text}"
        );
    }

    #[test]
    fn only_a_number_that_is_not_smaller_is_left_to_others() {
        let wants = |replicas: Value| json!({"spec": {"replicas": replicas}});
        let cases = [
            (Way::Back, Some(5), json!(3), true),
            (Way::Back, Some(3), json!(3), true),
            (Way::Through, Some(5), json!(3), true),
            (Way::Back, Some(0), json!(3), false),
            (Way::Through, Some(2), json!(3), false),
            (Way::Back, None, json!(3), false),
            (Way::Back, Some(5), Value::Null, false),
            (Way::Over, Some(5), json!(3), false),
            (Way::Forward, Some(5), json!(3), false),
        ];
        for (way, live, wanted, left) in cases {
            assert_eq!(leaves_more(way, live, &wants(wanted.clone())), left, "{way:?} {live:?} {wanted}");
        }
    }
}
