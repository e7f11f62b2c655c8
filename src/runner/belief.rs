//! What a runner knows: the ledger as it read it last, and what it has seen since and not written yet.

use super::guard::is_quiet;
use crate::{
    engine::State,
    ledger::{Appended, Opened, Page},
    model::{Event, Stamp, What},
};

/// What the runner believes: the ledger, and readings that are not in it yet.
pub(super) struct Belief {
    pub(super) opened: Opened,
    pub(super) pending: Vec<Event>,
    pub(super) pending_since: Option<Stamp>,
    /// The ledger's state with the pending readings taken in.
    pub(super) state: State,
    pub(super) races: u32,
    pub(super) read_at: Stamp,
    /// The git host did not take the last page; it is not asked again before this.
    pub(super) host_down_until: Option<Stamp>,
    /// When this run began.
    pub(super) begun: Stamp,
}

impl Belief {
    /// The page is in the ledger: what it says is believed.
    pub(super) fn wrote(&mut self, page: &Page, events: &[Event], appended: &Appended) {
        for event in events {
            self.opened.state.apply(&appended.commit, event);
        }
        self.opened.head = Some(appended.commit.clone());
        self.opened.tree = Some(page.tree.clone());
        self.state = self.opened.state.clone();
        self.pending.clear();
        self.pending_since = None;
        self.races = 0;
        self.host_down_until = None;
    }

    /// Keeps what happened in the world; what was only decided is decided again.
    pub(super) fn keep(&mut self, events: Vec<Event>) {
        self.state = self.opened.state.clone();
        self.pending.clear();
        for event in events {
            if is_told(&event.what)
                || answers_an_effect(&event.what)
                || matches!(event.what, What::Read { .. })
                || is_watchful(&event.what)
            {
                self.take_pending(event);
            }
        }
    }

    pub(super) fn take_pending(&mut self, event: Event) {
        if let Some(head) = &self.opened.head {
            self.state.apply(head, &event);
        }
        if !is_quiet(&event) {
            self.pending_since.get_or_insert(event.at);
        }
        self.pending.push(event);
    }
}

pub(super) fn answers_an_effect(what: &What) -> bool {
    matches!(
        what,
        What::Applied { .. }
            | What::ApplyFailed { .. }
            | What::Shifted { .. }
            | What::ShiftFailed { .. }
            | What::Settled { .. }
            | What::SettleFailed { .. }
            | What::Retreated { .. }
            | What::RetreatFailed { .. }
            | What::Read { .. }
    )
}

pub(super) fn is_told(what: &What) -> bool {
    matches!(what, What::Told { .. } | What::TellFailed { .. })
}

fn is_watchful(what: &What) -> bool {
    matches!(
        what,
        What::LookedForDrift { .. } | What::Drifted { .. } | What::DriftEnded { .. } | What::Rehearsed { .. }
    )
}
