#![doc = include_str!("README.md")]

mod fold;
mod guard;
mod leftover;
mod next;
mod pause;
mod policy;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    judge::GateLog,
    model::{
        Actor, AttemptId, Blame, Cause, CommitId, ComponentName, Ending, Freeze, GateName, Lease, Notice, Pin, Plan,
        Quarantine, Release, Span, Stamp, Step, TreeId, Version,
    },
};

pub use guard::{DIFFERENCES_MAX, Drift, DriftLook, Known, MARKS_MAX, WayBack, drift_sentence};
pub use leftover::Leftover;
pub use next::{Next, Setup, Wait, next};
pub use pause::{Pause, rests_until};
pub use policy::{Holder, LeaseTaken};

/// Where one environment stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// What users get when nothing is under way.
    pub live: Option<Release>,
    /// The last known good.
    pub good: Option<Good>,
    /// Earlier good ones, the newest last.
    pub earlier_goods: VecDeque<Good>,
    pub attempt: Option<Attempt>,
    pub rollback: Option<Rollback>,
    pub stuck: Option<Stuck>,
    /// Promoted releases that are still watched; the newest, which is looked at, last.
    pub watches: Vec<Watch>,
    pub attempts: u64,
    /// Of the newest plan: what holds for a rollback that is ordered when nothing is under way.
    pub limits: Option<RollbackLimits>,
    pub last: Option<Ended>,
    pub pins: BTreeMap<ComponentName, Pin>,
    pub quarantines: Vec<Quarantine>,
    pub freeze: Option<Freeze>,
    /// Automation rests: what it tried failed, and not through the release.
    pub pause: Option<Pause>,
    /// What could not be taken down.
    pub leftover: Option<Leftover>,
    pub lease: Option<Lease>,
    pub fence: u64,
    /// Every commit of the source branch up to here is done with.
    pub source_done: Option<CommitId>,
    /// What was promoted here, the newest last; environments after this one take nothing else.
    pub proven_sources: VecDeque<CommitId>,
    pub proven: BTreeMap<ComponentName, VecDeque<Version>>,
    pub outbox: VecDeque<Notice>,
    pub notices: u64,
    /// A commit on the branch that piton did not write.
    pub foreign: Option<Foreign>,
    /// Live is not what the ledger says, and nobody has decided what that means.
    pub drift: Option<Drift>,
    pub drift_look: Option<DriftLook>,
    /// Differences that people have decided on.
    pub known_differences: Vec<Known>,
    /// Whether what may be gone back to could be deployed again.
    pub ways_back: BTreeMap<TreeId, WayBack>,
}

/// How many earlier good releases, proven sources, versions and unsent notices are remembered.
pub const GOODS_MAX: usize = 16;
pub const PROVEN_SOURCES_MAX: usize = 512;
pub const PROVEN_VERSIONS_MAX: usize = 64;
pub const OUTBOX_MAX: usize = 16;

/// A release whose gates, bake included, all passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    pub commit: CommitId,
    pub release: Release,
    pub at: Stamp,
    pub attempt: AttemptId,
    /// What rendered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renderer: Option<String>,
}

/// A promotion under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub id: AttemptId,
    pub plan: Arc<Plan>,
    pub by: Actor,
    pub started: Stamp,
    /// When the first thing was touched.
    pub touched: Option<Stamp>,
    pub step: usize,
    pub step_since: Stamp,
    /// When the step's action (deploy, weight change) was done.
    pub acted: Option<Stamp>,
    pub tries: Tries,
    pub gates: BTreeMap<GateName, GateLog>,
    pub approvals: BTreeSet<Actor>,
    pub extended: Option<Stamp>,
    pub aborted: Option<String>,
    /// Why it may go on without a proven way back.
    #[serde(default)]
    pub way_back_waived: Option<String>,
    /// The bake is over; what it replaced is being taken down.
    pub promoted: Option<Stamp>,
    /// What rendered it last.
    #[serde(default)]
    pub renderer: Option<String>,
    /// The lease's number under which it began to act, as long as every try since then left no trace.
    #[serde(default)]
    pub traceless: Option<u64>,
}

/// Failed tries of the action at hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    pub failed: u32,
    pub last: Option<Stamp>,
    pub why: String,
    /// Whose fault the last one was.
    #[serde(default)]
    pub blame: Blame,
}

/// The way back under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    pub attempt: AttemptId,
    pub cause: Cause,
    pub from: Option<Release>,
    pub to: Option<Release>,
    /// Only this component goes back; the whole known-good release when that fails.
    pub scope: Option<ComponentName>,
    pub since: Stamp,
    pub limits: RollbackLimits,
    pub tries: Tries,
    /// The first destination was given up for the whole last known-good release.
    pub widened: bool,
    pub retreated: Option<Stamp>,
    pub settled: bool,
    /// How long automation rests when it is over.
    #[serde(default)]
    pub pause: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackLimits {
    pub within: Span,
    pub tries: u32,
    pub pause: Span,
}

/// Neither forward nor back: a person must act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stuck {
    pub attempt: AttemptId,
    pub since: Stamp,
    pub at: String,
    pub live: String,
    pub advice: String,
    pub from: Option<Release>,
    pub to: Option<Release>,
    /// Why it was to go back.
    #[serde(default)]
    pub cause: Option<Cause>,
}

/// Looking on after a promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    pub attempt: AttemptId,
    pub plan: Arc<Plan>,
    pub since: Stamp,
    pub until: Stamp,
    pub gates: BTreeMap<GateName, GateLog>,
    pub extended: Option<Stamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub attempt: AttemptId,
    pub at: Stamp,
    pub ending: Ending,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    pub commit: CommitId,
    pub at: Stamp,
    pub author: Actor,
    pub why: String,
}

impl Attempt {
    pub fn current(&self) -> Option<&Step> {
        self.plan.steps.get(self.step)
    }

    /// Whether it is known that no try changed anything. Under another lease somebody may have been killed in the middle of
    /// one and have told nobody.
    fn left_no_trace(&self, fence: u64) -> bool {
        self.traceless == Some(fence) && self.tries.failed > 0
    }

    /// All users are on the release, and only time or proof is missing.
    fn is_in_its_last_step(&self) -> bool {
        let last = self.step + 1 == self.plan.steps.len();
        last && matches!(self.current(), Some(Step::Prove { .. } | Step::Bake { .. }))
    }
}

impl State {
    /// Whether something is under way that a runner must carry on.
    pub fn is_busy(&self) -> bool {
        self.attempt.is_some() || self.rollback.is_some()
    }

    /// The release that users get, or are being given.
    pub fn standing(&self) -> Option<&Release> {
        let candidate = self.attempt.as_ref().filter(|a| a.touched.is_some()).map(|a| &a.plan.release);
        candidate.or(self.live.as_ref())
    }

    /// The newest good release other than the one that is being left.
    fn known_good_besides(&self, from: Option<&Release>) -> Option<&Release> {
        let left = from.map(|r| &r.tree);
        let goods = self.good.iter().chain(self.earlier_goods.iter().rev()).map(|good| &good.release);
        goods.into_iter().find(|release| Some(&release.tree) != left)
    }

    /// Where a rollback without further words goes: the newest good release that is not what is being left. What a person
    /// wrote over by hand is left for the good release itself.
    pub fn way_back(&self) -> Option<&Good> {
        let left = match self.leaving() {
            Some((_, from)) => from,
            None if self.foreign.is_some() => None,
            None => self.live.as_ref(),
        };
        let left = left.map(|r| &r.tree);
        self.good.iter().chain(self.earlier_goods.iter().rev()).find(|good| Some(&good.release.tree) != left)
    }

    /// What an order to go back takes people away from: what a rollback was leaving, also a stuck one, or what is on trial.
    fn leaving(&self) -> Option<(AttemptId, Option<&Release>)> {
        let under_way = self.rollback.as_ref().map(|r| (r.attempt, r.from.as_ref()));
        let stuck = || self.stuck.as_ref().map(|s| (s.attempt, s.from.as_ref()));
        let trial = || {
            let touched = self.attempt.as_ref().filter(|a| a.touched.is_some())?;
            Some((touched.id, Some(&touched.plan.release)))
        };
        under_way.or_else(stuck).or_else(trial)
    }
}

#[cfg(test)]
mod tests;
