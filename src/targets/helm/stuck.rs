//! Revisions that a killed Helm left open, and those it gave up.

use super::{
    Place,
    config::Unit,
    storage::{Content, Revision, Status},
};
use crate::targets::TargetError;

/// A revision that Helm has begun and not ended: it then refuses every upgrade.
pub fn pending(revisions: &[Revision]) -> Option<&Revision> {
    revisions.last().filter(|last| matches!(last.status, Status::Pending(_)))
}

/// Why nothing is deployed over an open revision, and what a person can do.
pub async fn explain(place: &Place, unit: &Unit, open: &Revision) -> TargetError {
    let since = match place.storage.content(open).await {
        Ok(content) if !content.since.is_empty() => format!(" since {}", content.since),
        Ok(_) | Err(_) => String::new(),
    };
    let Unit { release, namespace, .. } = unit;
    let status = match &open.status {
        Status::Pending(word) => word.as_str(),
        Status::Deployed | Status::Superseded | Status::Failed | Status::Other(_) => "open",
    };
    let what = format!(
        "{unit} is stuck in `{status}`{since}: revision {} was begun, not by this promotion, and never ended; a Helm \
         is still at work on it, or was killed. If none is at work any more (`helm history {release} --namespace \
         {namespace}`), `piton rollback` mends it, or `helm rollback {release} --namespace {namespace}` by hand",
        open.number
    );
    TargetError::World { what, source: None }
}

/// Writes down that an open revision failed, as Helm would have done had it lived.
pub async fn end(place: &Place, open: &Revision) -> Result<String, TargetError> {
    place.storage.mark(open, &Status::Failed, "piton: Helm was ended before it was done").await?;
    Ok(format!("revision {} was left open and is marked as failed", open.number))
}

/// Makes Helm compare with what it tried last. By itself it compares with the last revision that went well, and would
/// leave behind whatever a failed one added: fields, containers, whole objects. Gives what counted as deployed before.
pub async fn rebase(place: &Place, revisions: &[Revision]) -> Result<Option<Content>, TargetError> {
    let Some((last, older)) = revisions.split_last() else { return Ok(None) };
    let good = older.iter().rev().find(|revision| revision.status == Status::Deployed);
    let (Status::Failed, Some(good)) = (&last.status, good) else { return Ok(None) };
    let content = place.storage.content(good).await?;
    place.storage.mark(last, &Status::Deployed, "piton: failed, and what the next upgrade is compared with").await?;
    for revision in older.iter().filter(|revision| revision.status == Status::Deployed) {
        place.storage.mark(revision, &Status::Superseded, "piton: superseded").await?;
    }
    Ok(Some(content))
}
