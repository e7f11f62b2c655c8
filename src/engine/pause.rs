//! Automation rests after what failed, but not through the release: the same try at once would fail again, and the release
//! is not kept out. A person's word ends it.

use serde::{Deserialize, Serialize};

use super::{Next, State};
use crate::model::{AttemptId, Cause, Lease, Plan, Span, Stamp};

/// Since when automation rests, until when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The promotion that failed.
    pub attempt: AttemptId,
    pub cause: Cause,
    pub since: Stamp,
    pub until: Stamp,
    /// How many failed in a row.
    pub failures: u32,
}

impl Pause {
    /// What is waited for.
    pub fn sentence(&self) -> String {
        format!("the next try after {}: {}", self.attempt, self.cause.headline())
    }

    /// Who can change it.
    pub const WHO: &str = "`piton promote` tries at once";
}

impl State {
    /// The rest that automation takes at this moment. One that a wrong clock wrote holds nobody up.
    pub fn paused(&self, now: Stamp) -> Option<&Pause> {
        let longest = |pause: &Pause| now + pause.until.since(pause.since) + Lease::SKEW_MAX;
        let rests = |pause: &&Pause| now < pause.until && pause.until <= longest(pause);
        // Whoever tries all the same has ended it.
        self.pause.as_ref().filter(|_| !self.is_busy()).filter(rests)
    }

    /// How long automation rests after this plan was undone for that reason; nothing where the plan is to blame.
    pub(super) fn rest(&self, plan: &Plan, cause: &Cause) -> Option<Span> {
        let failures = self.pause.as_ref().map_or(0, |pause| pause.failures);
        (!cause.blames_the_change()).then(|| plan.limits.pause_after(failures))
    }

    /// A promotion ended without its release being to blame.
    pub(super) fn paused_after(&mut self, at: Stamp, attempt: AttemptId, cause: &Cause, until: Stamp) {
        let failures = self.pause.as_ref().map_or(0, |pause| pause.failures).saturating_add(1);
        self.pause = Some(Pause { attempt, cause: cause.clone(), since: at, until, failures });
    }
}

/// While nothing is under way.
pub(super) fn rest(state: &State, now: Stamp, next: &mut Next) {
    if let Some(pause) = state.paused(now).filter(|_| state.stuck.is_none()) {
        next.wait(pause.sentence(), pause.since, Some(pause.until), Pause::WHO);
    }
}

/// What is said of a promotion after which automation rests; nothing where it does not.
pub fn rests_until(until: Option<Stamp>) -> String {
    until.map_or(String::new(), |until| format!("; automation rests until {until}, {}", Pause::WHO))
}
