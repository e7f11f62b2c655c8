//! Until when a runner carries on, and why it comes back.

use super::work::Work;
use crate::{
    engine::{LeaseTaken, Next, State, Wait},
    judge::{self, Circumstances, GateLog},
    model::{Effect, Stamp, Step, Verdict},
};

/// Until when to carry on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Until the promotion or rollback has ended; `wait_for_people` also through approvals and windows.
    Ended { wait_for_people: bool },
    /// Until the watch is over, too.
    Watched,
    /// What is due now, no more.
    Due,
}

/// Why the runner came back.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing is under way any more; `State::last` says how it ended.
    Ended,
    /// What was due is done; the rest waits.
    Waiting {
        waits: Vec<Wait>,
        wake: Option<Stamp>,
    },
    /// A preflight waits for people, a window or the end of a freeze.
    Held {
        waits: Vec<Wait>,
    },
    /// Another runner has the lease.
    Taken(LeaseTaken),
    Stopped,
}

/// Whether nothing is left of the goal but to tell people.
pub(super) fn is_over(goal: Goal, state: &State) -> bool {
    match goal {
        Goal::Ended { .. } => !state.is_busy(),
        Goal::Watched | Goal::Due => !state.is_busy() && state.watches.is_empty(),
    }
}

/// What is still done when the goal is reached: people are told, and who comes by now and then looks around and tidies up.
pub(super) fn is_wanted_at_the_end(goal: Goal, effect: &Effect) -> bool {
    match effect {
        Effect::Tell { .. } => true,
        Effect::LookForDrift { .. } | Effect::Rehearse { .. } | Effect::Settle { .. } => goal == Goal::Due,
        Effect::Look { .. } | Effect::Apply { .. } | Effect::Shift { .. } | Effect::Retreat { .. } => false,
    }
}

/// Whether the goal is reached, and how.
pub(super) fn reached(goal: Goal, state: &State, next: &Next, work: &Work, now: Stamp) -> Option<Outcome> {
    let quiet = work.act.is_none() && work.looks.is_empty() && work.guards.is_empty();
    let idle = next.decisions.is_empty() && next.effects.is_empty() && quiet;
    if is_over(goal, state) {
        return next.effects.is_empty().then_some(Outcome::Ended);
    }
    let waits = || next.waits.clone();
    match goal {
        Goal::Ended { wait_for_people: false } if idle && (next.held || waits_for_people(state, now)) => {
            Some(Outcome::Held { waits: waits() })
        }
        Goal::Due if idle => Some(Outcome::Waiting { waits: waits(), wake: next.wake }),
        Goal::Ended { .. } | Goal::Watched | Goal::Due => None,
    }
}

/// Whether the preflight lacks only what people or the calendar can give.
fn waits_for_people(state: &State, now: Stamp) -> bool {
    let Some(attempt) = &state.attempt else { return false };
    let Some(Step::Check { gates }) = attempt.current() else { return false };
    let freeze = state.frozen(now);
    let author = attempt.plan.author.as_ref();
    let circumstances = Circumstances { approvals: &attempt.approvals, author, freeze };
    let unseen = GateLog::default();
    let open = gates.iter().filter_map(|gate| {
        let spec = attempt.plan.gates.get(gate)?;
        let verdict = judge::verdict(spec, attempt.gates.get(gate).unwrap_or(&unseen), circumstances, now);
        (!matches!(verdict, Verdict::Pass(_))).then(|| spec.rule.needs_no_look())
    });
    let open: Vec<bool> = open.collect();
    open.iter().all(|by_people| *by_people) && (freeze.is_some() || !open.is_empty())
}
