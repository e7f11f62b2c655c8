//! What is under way: one act at most, and any number of looks, notices and errands.

use std::collections::BTreeSet;

use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};

use super::guard::{Errand, Found};
use crate::{
    engine::{self, Next, State},
    model::{AttemptId, Effect, GateName, TreeId, What},
};

/// Work that is under way.
pub(super) struct Work<'a> {
    pub(super) act: Option<(Effect, BoxFuture<'a, What>)>,
    pub(super) looks: FuturesUnordered<BoxFuture<'a, (GateName, AttemptId, What)>>,
    pub(super) looking: BTreeSet<(AttemptId, GateName)>,
    pub(super) tells: FuturesUnordered<BoxFuture<'a, (u64, What)>>,
    pub(super) telling: BTreeSet<u64>,
    pub(super) guards: FuturesUnordered<BoxFuture<'a, (Errand, Found)>>,
    pub(super) guarding: BTreeSet<Errand>,
    /// Where the looks were begun.
    place: Place,
}

/// Where an environment stands, as far as an answer from the world depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    attempt: Option<(AttemptId, usize, bool, bool)>,
    rollback: Option<(AttemptId, Option<TreeId>, bool)>,
    watch: Option<AttemptId>,
}

impl Place {
    pub(super) fn of(state: &State) -> Place {
        let attempt = state.attempt.as_ref().map(|a| (a.id, a.step, a.acted.is_some(), a.promoted.is_some()));
        let back = |r: &engine::Rollback| (r.attempt, r.to.as_ref().map(|to| to.tree.clone()), r.retreated.is_some());
        Place { attempt, rollback: state.rollback.as_ref().map(back), watch: state.watches.last().map(|w| w.attempt) }
    }
}

pub(super) enum Answer {
    Act(What),
    Look(GateName, AttemptId, What),
    Told(u64, What),
    Guard(Errand, Found),
}

impl<'a> Work<'a> {
    pub(super) fn new() -> Work<'a> {
        Work {
            act: None,
            looks: FuturesUnordered::new(),
            looking: BTreeSet::new(),
            tells: FuturesUnordered::new(),
            telling: BTreeSet::new(),
            guards: FuturesUnordered::new(),
            guarding: BTreeSet::new(),
            place: Place::default(),
        }
    }

    /// A look that began before a step did says nothing about it.
    pub(super) fn drop_stale_looks(&mut self, state: &State) {
        let place = Place::of(state);
        if place != self.place {
            self.looks.clear();
            self.looking.clear();
            self.guards.clear();
            self.guarding.clear();
            self.place = place;
        }
    }

    pub(super) fn stand_guard(&mut self, errand: Errand, begin: impl FnOnce() -> BoxFuture<'a, Found>) {
        if self.guarding.insert(errand.clone()) {
            let found = begin();
            self.guards.push(async move { (errand, found.await) }.boxed());
        }
    }

    /// An action that the engine no longer wishes for is dropped at once: the way back waits for nothing.
    pub(super) fn drop_unwanted(&mut self, next: &Next) {
        if self.act.as_ref().is_some_and(|(effect, _)| !next.effects.contains(effect)) {
            self.act = None;
        }
    }

    pub(super) async fn answer(&mut self) -> Answer {
        let answer = {
            let act = match &mut self.act {
                Some((_, act)) => act.map(Answer::Act).boxed(),
                None => futures_util::future::pending().boxed(),
            };
            let look = next_or_never(&mut self.looks).map(|(gate, attempt, what)| Answer::Look(gate, attempt, what));
            let tell = next_or_never(&mut self.tells).map(|(id, what)| Answer::Told(id, what));
            let guard = next_or_never(&mut self.guards).map(|(errand, found)| Answer::Guard(errand, found));
            let (said, seen) = (select(act, tell.boxed()), select(look.boxed(), guard.boxed()));
            match select(said, seen).await {
                Either::Left((Either::Left((answer, _)) | Either::Right((answer, _)), _))
                | Either::Right((Either::Left((answer, _)) | Either::Right((answer, _)), _)) => answer,
            }
        };
        match &answer {
            Answer::Act(_) => self.act = None,
            Answer::Look(gate, attempt, _) => {
                self.looking.remove(&(*attempt, gate.clone()));
            }
            Answer::Told(id, _) => {
                self.telling.remove(id);
            }
            Answer::Guard(errand, _) => {
                self.guarding.remove(errand);
            }
        }
        answer
    }
}

async fn next_or_never<T>(set: &mut FuturesUnordered<BoxFuture<'_, T>>) -> T {
    match set.next().await {
        Some(item) => item,
        None => futures_util::future::pending().await,
    }
}
