use std::sync::Arc;

use super::{Deed, Story, World, ledger::SimLedger, story};
use crate::{
    clients::clock::Clock,
    commands::quarantine_of,
    engine::{Holder, State},
    ledger::{Ledger, LedgerError, Opened},
    model::{Actor, Difference, DriftEnd, Event, Freeze, Pin, Release, Span, Stamp, Version, What},
    rack, runner,
};

/// Writes what a person says; a lost race is said again. What it has come to with that; nothing is written when there is
/// nothing to say.
pub(super) async fn say(world: Arc<World>, say: impl Fn(&State, Stamp) -> Vec<What>, by: Actor) -> Option<Opened> {
    const TRIES: usize = 20;
    let ledger = SimLedger(world.clone());
    let environment = "production".parse().expect("a name");
    for _ in 0..TRIES {
        let Ok(opened) = ledger.open(&environment).await else {
            world.sleep(Span::seconds(3)).await;
            continue;
        };
        let now = world.clock.now();
        let what = say(&opened.state, now);
        if what.is_empty() {
            return None;
        }
        let events = what.into_iter().map(|what| Event { at: now, by: by.clone(), what });
        let page = runner::page(&opened, events.collect());
        match ledger.append(&environment, opened.head.as_ref(), page.clone()).await {
            Ok(appended) => return Some(rack::after(opened, &page, &appended)),
            Err(LedgerError::Lost { .. }) => {}
            Err(_) => world.sleep(Span::seconds(3)).await,
        }
    }
    None
}

/// Starts the next promotion when there is one to start; what it has come to with that.
pub(super) async fn start(world: Arc<World>, story: Arc<Story>, me: Holder, by_hand: bool) -> Option<Opened> {
    let plan = |state: &State, now: Stamp| {
        let rests = state.paused(now).is_some() && !by_hand;
        let n = story::candidate(state, story.natures.len(), now).filter(|_| !rests);
        n.map(|n| What::Started { plan: Arc::new(story.plan(n, state)) }).into_iter().collect()
    };
    let by = if by_hand { Actor::new("bob").expect("an actor") } else { me.actor };
    say(world, plan, by).await
}

/// The facts that a deed stands for.
pub(super) fn facts(deed: Deed, state: &State, now: Stamp, by: &Actor) -> Vec<What> {
    let dropped = || What::DriftEnded { how: DriftEnd::Dropped { reason: "because".to_owned() } };
    match (deed, fact(deed, state, now, by)) {
        (Deed::DropDrift, Some(order)) => vec![dropped(), order],
        (_, fact) => fact.into_iter().collect(),
    }
}

fn fact(deed: Deed, state: &State, now: Stamp, by: &Actor) -> Option<What> {
    let reason = "because".to_owned();
    let attempt = state.attempt.as_ref().map(|a| a.id);
    let soon = Some(now + Span::minutes(5));
    match deed {
        Deed::Approve => Some(What::Approved { attempt: attempt?, reason: Some(reason) }),
        Deed::Abort => Some(What::Aborted { attempt: attempt?, reason }),
        Deed::Extend => Some(What::Extended { attempt: attempt?, until: now + Span::minutes(3), reason }),
        Deed::Freeze => Some(What::Frozen { freeze: Freeze { reason, by: by.clone(), since: now, until: soon } }),
        Deed::Unfreeze => Some(What::Unfrozen { reason }),
        Deed::Pin => {
            let component = story::hub();
            let version: Version = state.live.as_ref()?.versions.get(&component)?.clone();
            Some(What::Pinned { pin: Pin { component, version, reason, by: by.clone(), since: now, until: soon } })
        }
        Deed::Unpin => Some(What::Unpinned { component: story::hub(), reason }),
        Deed::Rollback => {
            let to = state.way_back()?.release.clone();
            Some(order(state, to, reason, by, now))
        }
        Deed::RollbackTo(tree, version) => {
            let to = Release { tree: story::tree(tree), ..story::release(version) };
            Some(order(state, to, reason, by, now))
        }
        Deed::DropDrift => {
            state.drift.as_ref().filter(|_| state.stuck.is_none())?;
            let to = state.live.clone()?;
            Some(What::RollbackOrdered { to: Some(to), scope: None, quarantine: Vec::new(), reason })
        }
        Deed::AcceptDrift => {
            let marks = state.drift.as_ref()?.differences.iter().map(Difference::mark).collect();
            let how = DriftEnd::Accepted { until: now + Span::minutes(4), reason, marks };
            Some(What::DriftEnded { how })
        }
        Deed::EditByHand | Deed::UndoByHand | Deed::LoseImages(_) | Deed::FindImages => None,
        Deed::Promote
        | Deed::Mend
        | Deed::Unreachable(_)
        | Deed::FailDeploys(_)
        | Deed::Blind
        | Deed::See
        | Deed::Sicken(_) => None,
    }
}

fn order(state: &State, to: Release, reason: String, by: &Actor, now: Stamp) -> What {
    let left = state.standing().map(|from| quarantine_of(from, &to, None, &reason, by, now));
    What::RollbackOrdered { to: Some(to), scope: None, quarantine: left.unwrap_or_default(), reason }
}
