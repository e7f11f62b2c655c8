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

/// What Helm would compare an upgrade with though it has tried another revision since: the last that went well.
pub fn outdated(revisions: &[Revision]) -> Option<&Revision> {
    let (last, older) = revisions.split_last()?;
    let good = older.iter().rev().find(|revision| revision.status == Status::Deployed);
    good.filter(|_| last.status == Status::Failed)
}

/// Makes Helm compare with what it tried last: it would leave behind whatever a failed revision added since the `good`
/// one, be it fields, containers or whole objects. Gives what the good one deployed.
pub async fn rebase(place: &Place, revisions: &[Revision], good: &Revision) -> Result<Content, TargetError> {
    let content = place.storage.content(good).await?;
    if let Some(last) = revisions.last() {
        place
            .storage
            .mark(last, &Status::Deployed, "piton: failed, and what the next upgrade is compared with")
            .await?;
    }
    for revision in revisions.iter().filter(|revision| revision.status == Status::Deployed) {
        place.storage.mark(revision, &Status::Superseded, "piton: superseded").await?;
    }
    Ok(content)
}
