//! Watches a runner at work: counts what happens, says what people would tell each other, and sees to it that nothing
//! is begun by one who leads no more.

use std::sync::{Arc, Mutex, PoisonError};

use super::{events::Announcement, house::House, metrics::Place};
use crate::{
    engine::{Next, State},
    ledger::{Appended, describe},
    model::{AttemptId, CommitId, Event, Saw, Stamp, What},
    runner::View,
};

/// Watches one environment.
pub struct Eyes {
    house: Arc<House>,
    place: Place,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The promotion under way, and when it began.
    attempt: Option<(AttemptId, Stamp)>,
    /// When the way back began.
    back_since: Option<Stamp>,
    /// The page that was written here last.
    head: Option<CommitId>,
    /// What ended since somebody asked.
    ended: Vec<AttemptId>,
}

impl Eyes {
    pub fn new(house: Arc<House>, place: Place) -> Eyes {
        Eyes { house, place, seen: Mutex::default() }
    }

    /// Whether the page that this commit is was written here.
    pub fn wrote_it(&self, head: &str) -> bool {
        self.seen().head.as_ref().is_some_and(|commit| commit.as_str() == head)
    }

    /// Attempts that ended since this was asked last.
    pub fn ended(&self) -> Vec<AttemptId> {
        std::mem::take(&mut self.seen().ended)
    }

    /// A page that was written without a runner.
    pub fn began(&self, attempt: u64, what: &str) {
        self.announce(attempt, "Started", false, what.to_owned());
        tracing::info!(pipeline = self.place.pipeline, environment = self.place.environment, "begins: {what}");
    }

    /// Where the environment stands, for the metrics.
    pub fn stands(&self, state: &State) {
        let step = state.attempt.as_ref().map_or(0, |attempt| attempt.step + 1);
        self.house.metrics.standing(&self.place, step, state.stuck.is_some());
    }

    fn announce(&self, attempt: u64, reason: &'static str, warning: bool, note: String) {
        let place = self.place.clone();
        self.house.announcer.announce(Announcement { place, attempt, reason, warning, note });
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, event: &Event) {
        let (metrics, at) = (&self.house.metrics, &self.place);
        match &event.what {
            What::Read { reading, .. } => metrics.looked(at, sight(&reading.saw)),
            What::Leased { .. } => metrics.leased(at, "taken"),
            What::Released { .. } => metrics.leased(at, "released"),
            What::RollbackBegan { .. } | What::RollbackOrdered { .. } => self.seen().back_since = Some(event.at),
            What::Retreated { .. } => {
                if let Some(since) = self.seen().back_since.take() {
                    metrics.went_back(at, event.at.since(since));
                }
            }
            What::Promoted { attempt } => {
                self.end(*attempt, event.at, "promoted");
                self.announce(attempt.0, "Promoted", false, one_line(event));
            }
            What::RolledBack { attempt, .. } => {
                self.end(*attempt, event.at, "rolled_back");
                self.announce(attempt.0, "RolledBack", true, one_line(event));
            }
            What::Refused { attempt, .. } => self.end(*attempt, event.at, "refused"),
            What::Stuck { attempt, .. } => {
                self.end(*attempt, event.at, "stuck");
                self.announce(attempt.0, "Stuck", true, one_line(event));
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
            | What::Started { .. }
            | What::StepPassed { .. }
            | What::Applied { .. }
            | What::ApplyFailed { .. }
            | What::Shifted { .. }
            | What::ShiftFailed { .. }
            | What::Settled { .. }
            | What::SettleFailed { .. }
            | What::WatchEnded { .. }
            | What::RetreatFailed { .. }
            | What::RollbackWidened { .. }
            | What::LookedForDrift { .. }
            | What::Drifted { .. }
            | What::DriftEnded { .. }
            | What::Rehearsed { .. }
            | What::WayBackWaived { .. }
            | What::Told { .. }
            | What::TellFailed { .. } => {}
        }
    }

    fn end(&self, attempt: AttemptId, at: Stamp, result: &'static str) {
        let mut seen = self.seen();
        let began = seen.attempt.filter(|(id, _)| *id == attempt).map(|(_, began)| began);
        self.house.metrics.ended(&self.place, result, began.map(|began| at.since(began)));
        seen.ended.push(attempt);
    }

    fn tell(&self, event: &Event) {
        let (pipeline, environment) = (&self.place.pipeline, &self.place.environment);
        match &event.what {
            What::Read { .. }
            | What::Leased { .. }
            | What::Released { .. }
            | What::Told { .. }
            | What::StepPassed { .. }
            | What::LookedForDrift { .. } => {}
            What::Stuck { .. } => tracing::error!(pipeline, environment, "{}", one_line(event)),
            What::ApplyFailed { .. }
            | What::ShiftFailed { .. }
            | What::RetreatFailed { .. }
            | What::SettleFailed { .. }
            | What::TellFailed { .. }
            | What::RollbackBegan { .. }
            | What::RollbackOrdered { .. }
            | What::RollbackWidened { .. }
            | What::Drifted { .. } => tracing::warn!(pipeline, environment, "{}", one_line(event)),
            What::Pinned { .. }
            | What::Unpinned { .. }
            | What::Quarantined { .. }
            | What::Unquarantined { .. }
            | What::Frozen { .. }
            | What::Unfrozen { .. }
            | What::Approved { .. }
            | What::Extended { .. }
            | What::Aborted { .. }
            | What::Started { .. }
            | What::Applied { .. }
            | What::Shifted { .. }
            | What::Promoted { .. }
            | What::Settled { .. }
            | What::Refused { .. }
            | What::WatchEnded { .. }
            | What::Retreated { .. }
            | What::RolledBack { .. }
            | What::DriftEnded { .. }
            | What::Rehearsed { .. }
            | What::WayBackWaived { .. } => tracing::info!(pipeline, environment, "{}", one_line(event)),
        }
    }
}

impl View for Eyes {
    fn show(&self, state: &State, _next: &Next, _now: Stamp) {
        self.house.must_lead();
        if let Some(attempt) = &state.attempt {
            self.seen().attempt = Some((attempt.id, attempt.started));
        }
        self.stands(state);
    }

    fn wrote(&self, _state: &State, events: &[Event], appended: &Appended) {
        self.seen().head = Some(appended.commit.clone());
        for event in events {
            self.count(event);
            self.tell(event);
        }
    }
}

fn one_line(event: &Event) -> String {
    describe(&event.what).lines().collect::<Vec<_>>().join(" ")
}

fn sight(saw: &Saw) -> &'static str {
    match saw {
        Saw::Good(_) => "good",
        Saw::Bad(_) => "bad",
        Saw::Blind(_) => "blind",
        Saw::Counts(_) => "counts",
    }
}
