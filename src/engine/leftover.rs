//! What could not be taken down is a nuisance, not a reason to undo a good release: it is said until it is gone, and tried
//! again whenever somebody comes by.

use serde::{Deserialize, Serialize};

use super::{Next, Setup, State};
use crate::model::{AttemptId, Effect, Span, Stamp, Urgency};

/// What a promotion or a rollback left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    pub attempt: AttemptId,
    pub since: Stamp,
    pub why: String,
    /// Tries since then that failed, and when the last one did.
    pub tries: usize,
    pub last: Stamp,
}

/// How long one runner waits from a try to the next; one that comes anew tries anew.
const PACES: [Span; 4] = [Span::minutes(5), Span::minutes(15), Span::hours(1), Span::hours(4)];

impl Leftover {
    pub fn sentence(&self) -> String {
        format!("what {} should have taken down is still there: {}", self.attempt, self.why)
    }

    fn due(&self, begun: Stamp, now: Stamp) -> Stamp {
        let pace = PACES[self.tries.min(PACES.len() - 1)];
        if self.last < begun.min(now) || self.last > now + pace { now } else { self.last + pace }
    }
}

/// While nothing is under way, or nothing is touched yet.
pub(super) fn take_down(state: &State, now: Stamp, setup: Setup, next: &mut Next) {
    let Some(leftover) = state.leftover.as_ref().filter(|_| state.stuck.is_none()) else { return };
    let due = leftover.due(setup.begun, now);
    if now >= due {
        return next.effects.push(Effect::Settle { attempt: leftover.attempt, keep: state.live.clone() });
    }
    let who = "whoever can mend that; `piton tick` tries at once";
    next.wait(format!("the next try: {}", leftover.sentence()), leftover.since, Some(due), who);
}

impl State {
    /// It was tried often enough for one promotion or rollback.
    pub(super) fn left_behind(&mut self, at: Stamp, attempt: AttemptId, why: &str) {
        let leftover = Leftover { attempt, since: at, why: why.to_owned(), tries: 0, last: at };
        let text = format!("{}; it is tried again", leftover.sentence());
        self.notice(at, Urgency::Warning, text);
        self.leftover = Some(leftover);
    }

    /// Nothing is there any more but what should be.
    pub(super) fn tidied_up(&mut self, at: Stamp) {
        if let Some(Leftover { attempt, .. }) = self.leftover.take() {
            self.notice(at, Urgency::Info, format!("what {attempt} left behind is gone"));
        }
    }

    /// Whether an answer is one about what was left behind.
    pub(super) fn leftover_mut(&mut self, attempt: AttemptId) -> Option<&mut Leftover> {
        let untouched = self.rollback.is_none() && self.attempt.as_ref().is_none_or(|a| a.touched.is_none());
        self.leftover.as_mut().filter(|leftover| untouched && leftover.attempt == attempt)
    }
}
