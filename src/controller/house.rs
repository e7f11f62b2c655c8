//! What every part of the controller shares.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    events::Announcer,
    lease::{Hold, Standing},
    metrics::Metrics,
    traces::Traces,
};
use crate::{
    clients::clock::SystemClock,
    commands::FollowName,
    engine::Holder,
    model::{Lease, Span},
    runner::{PollPace, Seizure},
};

/// The exit code of a leader that lost the Lease: try again.
pub const LOST: u8 = 75;

/// Plans that are made at the same time; more would only take each other's memory.
const PLANS_AT_ONCE: usize = 4;
/// A loop that made no progress for so long is dead.
const PULSE_MAX: Duration = Duration::from_secs(180);

/// Shared by everything that runs here.
pub struct House {
    pub state_dir: PathBuf,
    pub program: PathBuf,
    pub me: Holder,
    pub clock: SystemClock,
    pub poll: Span,
    pub pace: PollPace,
    pub hold: Hold,
    pub standing: watch::Receiver<Standing>,
    pub metrics: Metrics,
    pub announcer: Announcer,
    pub traces: Option<Traces>,
    pub planning: Semaphore,
    /// Cancelled when we are asked to leave.
    pub stop: CancellationToken,
    pulses: Mutex<BTreeMap<FollowName, Pulse>>,
}

/// How a repository's loop does.
#[derive(Debug, Clone)]
pub struct Pulse {
    pub at: Instant,
    /// Whether it was ever looked at with success.
    pub ready: bool,
    /// What is wrong at the moment, a sentence each.
    pub wrong: Vec<String>,
}

/// What a house is made of.
pub struct Ground {
    pub state_dir: PathBuf,
    pub program: PathBuf,
    pub me: Holder,
    pub poll: Span,
    pub pace: PollPace,
    pub hold: Hold,
    pub standing: watch::Receiver<Standing>,
    pub metrics: Metrics,
    pub announcer: Announcer,
    pub traces: Option<Traces>,
    pub stop: CancellationToken,
}

impl House {
    pub fn new(ground: Ground, followed: impl IntoIterator<Item = FollowName>) -> Arc<House> {
        let Ground { state_dir, program, me, poll, pace, hold, standing, metrics, announcer, traces, stop } = ground;
        let pulse = || Pulse { at: Instant::now(), ready: false, wrong: Vec::new() };
        Arc::new(House {
            state_dir,
            program,
            me,
            clock: SystemClock,
            poll,
            pace,
            hold,
            standing,
            metrics,
            announcer,
            traces,
            planning: Semaphore::new(PLANS_AT_ONCE),
            stop,
            pulses: Mutex::new(followed.into_iter().map(|name| (name, pulse())).collect()),
        })
    }

    pub fn leads(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Leading(_))
    }

    /// From whom leases in the ledger may be taken: from the leader before us, who leads no more by the Lease and is
    /// fenced off by the number that we take with it.
    pub fn seizure(&self) -> Seizure {
        let standing = self.standing.borrow();
        let Standing::Leading(term) = &*standing else { return Seizure::Nobody };
        match term.predecessor.as_ref().and_then(|identity| identity.rsplit_once('_')) {
            Some((_, nonce)) => Seizure::From { nonce: nonce.to_owned() },
            None => Seizure::Nobody,
        }
    }

    /// Ends the program at once where the Lease was lost: nothing may be begun that the next leader does not know of.
    pub fn must_lead(&self) {
        if !self.hold.is_held() {
            tracing::error!("this replica leads no more: it ends at once");
            std::process::exit(i32::from(LOST));
        }
    }

    /// Whether the lease in the ledger is one that we may take at once.
    pub fn may_seize(&self, lease: &Lease) -> bool {
        self.seizure() == Seizure::From { nonce: lease.nonce.clone() }
    }

    /// A repository's loop says that it lives, and what it found.
    pub fn pulse(&self, name: &FollowName, looked: Result<(), String>, wrong: Vec<String>) {
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let before = pulses.get(name).is_some_and(|pulse| pulse.ready);
        let ready = before || looked.is_ok();
        let wrong = looked.err().into_iter().chain(wrong).collect();
        pulses.insert(name.clone(), Pulse { at: Instant::now(), ready, wrong });
    }

    pub fn pulses(&self) -> BTreeMap<FollowName, Pulse> {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Pulse {
    /// Whether the loop made progress lately; it beats at least once per poll, or per the host's own time-outs.
    pub fn is_alive(&self, poll: Span) -> bool {
        self.at.elapsed() < PULSE_MAX + poll.as_duration() * 3
    }
}
