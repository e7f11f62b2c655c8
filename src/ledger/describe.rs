//! One plain line per event, for whoever reads the branch with `git log`.

use crate::{
    engine::rests_until,
    model::{Cause, Quarantine, Quarantined, Release, Saw, Stamp, What, headline},
    report,
};

/// What happened, on one line.
pub fn describe(what: &What) -> String {
    headline(&in_full(what)).to_owned()
}

fn in_full(what: &What) -> String {
    match what {
        What::Pinned { pin } => {
            format!("pinned {} at {} {}: {}", pin.component, pin.version, end(pin.until), pin.reason)
        }
        What::Unpinned { component, reason } => format!("unpinned {component}: {reason}"),
        What::Quarantined { quarantine } => format!("quarantined {}", quarantine_text(quarantine)),
        What::Unquarantined { what, reason } => format!("let {} in again: {reason}", quarantined(what)),
        What::Frozen { freeze } => format!("froze {}: {}", end(freeze.until), freeze.reason),
        What::Unfrozen { reason } => format!("unfroze: {reason}"),
        What::Approved { attempt, reason } => with_reason(format!("approved promotion {attempt}"), reason.as_deref()),
        What::Extended { attempt, until, reason } => format!("gave promotion {attempt} until {until}: {reason}"),
        What::Aborted { attempt, reason } => format!("aborted promotion {attempt}: {reason}"),
        What::RollbackOrdered { to, scope, quarantine: _, reason } => {
            let scope = scope.as_ref().map_or(String::new(), |component| format!(" of {component}"));
            format!("ordered a rollback{scope} to {}: {reason}", release(to.as_ref()))
        }
        What::Leased { lease } => format!("took the lease {} until {} for {}", lease.fence, lease.until, lease.holder),
        What::Released { nonce: _ } => "gave the lease back".to_owned(),
        What::Started { plan } => {
            let bumps: Vec<String> = plan.bumps.iter().map(bump).collect();
            match bumps.is_empty() {
                true => format!("started the promotion of {}: {}", plan.release.tree.short(), plan.subject),
                false => format!("started the promotion of {}", bumps.join(", ")),
            }
        }
        What::Read { attempt, reading } => format!("{attempt} {}: {}", reading.gate, saw(&reading.saw)),
        What::StepPassed { attempt, step } => format!("{attempt} passed step {}", step + 1),
        What::Applied { attempt, note, .. } => with_reason(format!("{attempt} is deployed"), Some(note)),
        What::ApplyFailed { attempt, why, .. } => format!("{attempt} could not be deployed: {why}"),
        What::Shifted { attempt, to, note, .. } => with_reason(format!("{attempt} has {to} of the users"), Some(note)),
        What::ShiftFailed { attempt, to, why, .. } => format!("{attempt} could not get {to} of the users: {why}"),
        What::Promoted { attempt } => format!("{attempt} is promoted and the last known good"),
        What::Settled { attempt, note, .. } => with_reason(format!("{attempt}: what it replaced is gone"), Some(note)),
        What::SettleFailed { attempt, why } => format!("{attempt}: what it replaced could not be taken down: {why}"),
        What::Refused { attempt, cause: why, paused_until } => {
            format!("{attempt} was refused, nothing was touched: {}{}", cause(why), rests_until(*paused_until))
        }
        What::WatchEnded { attempt } => format!("{attempt}: the watch ended quietly"),
        What::RollbackBegan { attempt, cause: why, to, quarantine: _ } => {
            format!("{attempt} goes back to {}: {}", release(to.as_ref()), cause(why))
        }
        What::Retreated { attempt, note, .. } => with_reason(format!("{attempt}: all users are back"), Some(note)),
        What::RetreatFailed { attempt, why } => format!("{attempt} could not go back: {why}"),
        What::RollbackWidened { attempt, to } => {
            format!("{attempt} goes back as a whole, to {}", release(to.as_ref()))
        }
        What::RolledBack { attempt, paused_until } => {
            format!("{attempt} is rolled back{}", rests_until(*paused_until))
        }
        What::Stuck { attempt, at, live, advice } => {
            format!("{attempt} is stuck at {at}; live: {live}; advice: {advice}")
        }
        What::LookedForDrift { .. }
        | What::Drifted { .. }
        | What::DriftEnded { .. }
        | What::Rehearsed { .. }
        | What::WayBackWaived { .. } => report::standing(what).unwrap_or_default(),
        What::Told { notice } => format!("told people, notice {notice}"),
        What::TellFailed { notice, why } => format!("could not tell people, notice {notice}: {why}"),
    }
}

fn end(until: Option<Stamp>) -> String {
    until.map_or("for ever".to_owned(), |until| format!("until {until}"))
}

fn with_reason(text: String, reason: Option<&str>) -> String {
    match reason.filter(|r| !r.is_empty()) {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    }
}

fn release(release: Option<&Release>) -> String {
    release.map_or("nothing".to_owned(), |release| release.tree.short().to_owned())
}

fn quarantine_text(quarantine: &Quarantine) -> String {
    format!("{} {}: {}", quarantined(&quarantine.what), end(quarantine.until), quarantine.reason)
}

fn quarantined(what: &Quarantined) -> String {
    match what {
        Quarantined::Version { component, version } => format!("{component} {version}"),
        Quarantined::Content { commit, files } => format!("{} file(s) of {}", files.len(), commit.short()),
    }
}

fn bump(bump: &crate::model::Bump) -> String {
    let text =
        |version: &Option<crate::model::Version>| version.as_ref().map_or("(absent)".to_owned(), ToString::to_string);
    format!("{} {} → {}", bump.component, text(&bump.from), text(&bump.to))
}

fn saw(saw: &Saw) -> String {
    match saw {
        Saw::Good(note) => format!("good: {note}"),
        Saw::Bad(note) => format!("bad: {note}"),
        Saw::Blind(note) => format!("blind: {note}"),
        Saw::Counts(counts) => {
            let arms = counts
                .arms
                .iter()
                .map(|(arm, counts)| format!("{} {} requests, {} failed", arm.name(), counts.total(), counts.failed));
            arms.collect::<Vec<_>>().join("; ")
        }
    }
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Gate { gate, why } => format!("gate {gate} failed: {why}"),
        Cause::ApplyFailed { .. } | Cause::ShiftFailed { .. } | Cause::Deadline { .. } => cause.sentence(),
        Cause::Investigated { after, gate, why } => format!("gate {gate} still bad after {after}: {why}"),
        Cause::Blind { after, gate, why } => format!("gate {gate} blind for {after}: {why}"),
        Cause::Ordered { reason } => reason.clone(),
        Cause::Unseen { after, why } => format!("nothing could be seen for {after}: {why}"),
    }
}
