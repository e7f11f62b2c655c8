//! What stands, in words: drift and the way back. Every place that tells events takes these.

use crate::{
    engine::drift_sentence,
    model::{DriftEnd, What},
};

/// A fact about drift or the way back in a sentence; `None` for every other.
pub fn standing(what: &What) -> Option<String> {
    Some(match what {
        What::LookedForDrift { blind: None, .. } => "looked for drift: nothing new".to_owned(),
        What::LookedForDrift { blind: Some(why), .. } => format!("could not look for drift: {why}"),
        What::Drifted { differences, count, .. } => format!("drift: {}", drift_sentence(differences, *count)),
        What::DriftEnded { how } => drift_end(how),
        What::Rehearsed { tree, rehearsal } => {
            let release = tree.short();
            match (rehearsal.obstacles.as_slice(), &rehearsal.blind) {
                ([], None) => format!("release {release} could be deployed again"),
                ([], Some(why)) => format!("could not see whether release {release} could be deployed again: {why}"),
                (obstacles, _) => format!("release {release} could not be deployed again: {}", obstacles.join("; ")),
            }
        }
        What::WayBackWaived { attempt, reason } => {
            format!("let {attempt} go on without a proven way back: {reason}")
        }
        What::Pinned { .. }
        | What::Unpinned { .. }
        | What::Quarantined { .. }
        | What::Unquarantined { .. }
        | What::Frozen { .. }
        | What::Unfrozen { .. }
        | What::Approved { .. }
        | What::Extended { .. }
        | What::Aborted { .. }
        | What::RollbackOrdered { .. }
        | What::Leased { .. }
        | What::Released { .. }
        | What::Started { .. }
        | What::Read { .. }
        | What::StepPassed { .. }
        | What::Applied { .. }
        | What::ApplyFailed { .. }
        | What::Shifted { .. }
        | What::ShiftFailed { .. }
        | What::Promoted { .. }
        | What::Settled { .. }
        | What::SettleFailed { .. }
        | What::Refused { .. }
        | What::WatchEnded { .. }
        | What::RollbackBegan { .. }
        | What::Retreated { .. }
        | What::RetreatFailed { .. }
        | What::RollbackWidened { .. }
        | What::RolledBack { .. }
        | What::Stuck { .. }
        | What::Told { .. }
        | What::TellFailed { .. } => return None,
    })
}

fn drift_end(how: &DriftEnd) -> String {
    match how {
        DriftEnd::Gone => "the drift is gone".to_owned(),
        DriftEnd::Adopted { commit, branch, .. } => {
            format!("adopted the drift: {} on `{branch}` says what is live", commit.short())
        }
        DriftEnd::Dropped { reason } => format!("dropped the drift: {reason}"),
        DriftEnd::Accepted { until, reason, .. } => format!("left the drift alone until {until}: {reason}"),
    }
}
