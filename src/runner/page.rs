use crate::{
    engine::{State, rests_until},
    ledger::{Durability, GoodRef, Opened, Page},
    model::{CommitId, Event, TreeId, What, headline},
    report,
};

/// The page that these events make after what was opened.
pub fn make(opened: &Opened, events: Vec<Event>) -> Page {
    let mut after = opened.state.clone();
    // The id is not known before the commit is made, and nothing below looks at it.
    let here = opened.head.clone().unwrap_or_else(nowhere);
    for event in &events {
        after.apply(&here, event);
    }
    let promoted = events.iter().any(|e| matches!(e.what, What::Promoted { .. }));
    let good = match (promoted, &after.good) {
        (true, _) => Some(GoodRef::Here),
        (false, Some(good)) if opened.state.good.as_ref() != Some(good) => Some(GoodRef::At(good.commit.clone())),
        (false, _) => None,
    };
    // The way back waits for no host, and neither does letting a lease go: it ends by itself.
    let ends_the_way_back = |e: &Event| matches!(e.what, What::RolledBack { .. } | What::Stuck { .. });
    let urgent = after.rollback.is_some()
        || events.iter().any(ends_the_way_back)
        || events.iter().all(|e| matches!(e.what, What::Released { .. }));
    Page {
        subject: subject(&after, &events),
        tree: tree(opened, &after),
        events,
        good,
        durability: if urgent { Durability::Mirror } else { Durability::Origin },
    }
}

/// What is deployed, or being deployed, after the page.
fn tree(opened: &Opened, after: &State) -> TreeId {
    if let Some(rollback) = &after.rollback {
        return rollback.to.as_ref().map_or_else(TreeId::empty, |to| to.tree.clone());
    }
    if after.foreign.is_some()
        && let Some(tree) = &opened.tree
    {
        return tree.clone();
    }
    after.standing().map_or_else(TreeId::empty, |release| release.tree.clone())
}

fn nowhere() -> CommitId {
    CommitId::new("0".repeat(40)).expect("forty zeros are hexadecimal digits")
}

/// The first line of the page: its weightiest event.
pub fn subject(after: &State, events: &[Event]) -> String {
    let weightiest = events.iter().max_by_key(|event| weight(&event.what));
    match weightiest {
        Some(event) => headline(&line(after, &event.what)).to_owned(),
        None => "nothing".to_owned(),
    }
}

fn weight(what: &What) -> u8 {
    match what {
        What::Stuck { .. } => 9,
        What::RollbackBegan { .. } | What::RollbackOrdered { .. } | What::RollbackWidened { .. } => 8,
        What::RolledBack { .. } | What::Promoted { .. } | What::Refused { .. } => 7,
        What::Started { .. } => 6,
        What::Pinned { .. }
        | What::Unpinned { .. }
        | What::Quarantined { .. }
        | What::Unquarantined { .. }
        | What::Frozen { .. }
        | What::Unfrozen { .. }
        | What::Approved { .. }
        | What::Extended { .. }
        | What::Aborted { .. }
        | What::Drifted { .. }
        | What::DriftEnded { .. }
        | What::WayBackWaived { .. } => 5,
        What::Applied { .. }
        | What::ApplyFailed { .. }
        | What::Shifted { .. }
        | What::ShiftFailed { .. }
        | What::Settled { .. }
        | What::SettleFailed { .. }
        | What::Retreated { .. }
        | What::RetreatFailed { .. }
        | What::WatchEnded { .. } => 4,
        What::StepPassed { .. } | What::Rehearsed { .. } => 3,
        What::Read { .. } | What::LookedForDrift { .. } => 2,
        What::Leased { .. } | What::Released { .. } => 1,
        What::Told { .. } | What::TellFailed { .. } => 0,
    }
}

/// One event in a line, as it stands in `git log`.
fn line(after: &State, what: &What) -> String {
    let until = |until: &Option<crate::model::Stamp>| until.map_or("for ever".to_owned(), |u| format!("until {u}"));
    match what {
        What::Pinned { pin } => format!("pin {} {} {}: {}", pin.component, pin.version, until(&pin.until), pin.reason),
        What::Unpinned { component, reason } => format!("unpin {component}: {reason}"),
        What::Quarantined { quarantine } => format!("quarantine: {}", quarantine.reason),
        What::Unquarantined { reason, .. } => format!("end a quarantine: {reason}"),
        What::Frozen { freeze } => format!("freeze {}: {}", until(&freeze.until), freeze.reason),
        What::Unfrozen { reason } => format!("unfreeze: {reason}"),
        What::Approved { attempt, .. } => format!("approve {attempt}"),
        What::Extended { attempt, until, reason } => format!("extend {attempt} until {until}: {reason}"),
        What::Aborted { attempt, reason } => format!("abort {attempt}: {reason}"),
        What::RollbackOrdered { to, reason, .. } => match to {
            Some(to) => format!("roll back to {}: {reason}", to.tree.short()),
            None => format!("roll back to nothing: {reason}"),
        },
        What::Leased { lease } => format!("lease {} to {}", lease.fence, lease.holder),
        What::Released { .. } => "release the lease".to_owned(),
        What::Started { plan } => format!("start #{}: {}", after.attempts, plan.headline()),
        What::Read { attempt, reading } => format!("{attempt}: gate {} looked", reading.gate),
        What::StepPassed { attempt, step } => format!("{attempt}: step {} passed", step + 1),
        What::Applied { attempt, .. } => format!("{attempt}: deployed"),
        What::ApplyFailed { attempt, why, .. } => format!("{attempt}: deploy failed: {why}"),
        What::Shifted { attempt, to, .. } => format!("{attempt}: {to} of the users moved"),
        What::ShiftFailed { attempt, to, why, .. } => format!("{attempt}: moving {to} of the users failed: {why}"),
        What::Promoted { attempt } => match after.good.as_ref().filter(|good| good.attempt == *attempt) {
            Some(good) => format!("{attempt}: promoted, {} is known good", good.release.tree.short()),
            None => format!("{attempt}: promoted"),
        },
        What::Settled { attempt, .. } => format!("{attempt}: settled"),
        What::SettleFailed { attempt, why } => format!("{attempt}: settling failed: {why}"),
        What::Refused { attempt, cause, .. } => format!("{attempt}: refused, {}", cause.sentence()),
        What::WatchEnded { attempt } => format!("{attempt}: watch over"),
        What::RollbackBegan { attempt, cause, .. } => format!("{attempt}: rolling back, {}", cause.sentence()),
        What::Retreated { attempt, .. } => format!("{attempt}: all users are back"),
        What::RetreatFailed { attempt, why } => format!("{attempt}: going back failed: {why}"),
        What::RollbackWidened { attempt, .. } => format!("{attempt}: going back to the whole known-good release"),
        What::RolledBack { attempt, paused_until } => format!("{attempt}: rolled back{}", rests_until(*paused_until)),
        What::Stuck { attempt, at, .. } => format!("{attempt}: stuck {at}"),
        What::LookedForDrift { .. }
        | What::Drifted { .. }
        | What::DriftEnded { .. }
        | What::Rehearsed { .. }
        | What::WayBackWaived { .. } => report::standing(what).unwrap_or_default(),
        What::Told { .. } => "told".to_owned(),
        What::TellFailed { why, .. } => format!("telling failed: {why}"),
    }
}
