#![doc = include_str!("README.md")]

pub mod ci;
mod fold;
mod spans;
mod spark;
mod standing;
mod summary;
pub mod svg;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{
    Actor, Arm, AttemptId, Blame, Bump, Cause, CommitId, Counts, Ending, EnvironmentName, GateName, Plan, Quarantined,
    Span, Stamp, Verdict,
};

pub use fold::story;
pub use spans::{TraceSpan, spans};
pub use spark::sparkline;
pub use standing::standing;
pub use summary::{SUMMARY_BYTES_MAX, summary_markdown};
pub use table::{Width, row, table};

/// What happened in one environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    pub environment: EnvironmentName,
    /// Promotions, and rollbacks that a person ordered while none was under way; the oldest first.
    pub attempts: Vec<AttemptLine>,
    /// What people did besides: pins, freezes, approvals.
    pub deeds: Vec<Deed>,
}

/// A person's act, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    pub at: Stamp,
    pub by: Actor,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AttemptLine {
    pub id: AttemptId,
    /// What it brings, in a few words.
    pub what: String,
    pub bumps: Vec<Bump>,
    pub source: Option<CommitId>,
    pub by: Actor,
    pub started: Stamp,
    /// When the first users were moved to it.
    pub exposed: Option<Stamp>,
    /// When it became the last known good.
    pub promoted: Option<Stamp>,
    pub ended: Option<Stamp>,
    pub ending: Option<Ending>,
    pub steps: Vec<StepLine>,
    pub gates: Vec<GateLine>,
    pub rollback: Option<RollbackLine>,
    /// Automation rests until then: the release is not to blame.
    pub paused_until: Option<Stamp>,
    /// What its rollback keeps out from then on.
    pub kept_out: Vec<Quarantined>,
    /// Why something of it, or of what it replaced, is still there.
    pub left_behind: Option<String>,
    /// Tries that failed.
    pub troubles: Vec<(Stamp, String)>,
    /// The last moment anything is known of.
    pub seen: Stamp,
    /// What rendered it last.
    pub renderer: Option<String>,
    pub(crate) plan: Option<Arc<Plan>>,
}

/// One step of a promotion, or the watch after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepLine {
    pub name: String,
    pub from: Stamp,
    pub until: Option<Stamp>,
    pub passed: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct GateLine {
    pub name: GateName,
    pub kind: String,
    pub looks: Vec<Look>,
    /// What the gate said last.
    pub verdict: Verdict,
    /// How the counters grew from look to look, per arm; empty for gates that do not count.
    pub grown: BTreeMap<Arm, Grown>,
    pub(crate) counts: Option<Counts>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Grown {
    pub requests: u64,
    pub failed: u64,
}

/// One look of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub at: Stamp,
    pub took: Span,
    /// Which of the attempt's steps it belongs to.
    pub step: usize,
    pub mark: Mark,
    pub note: String,
}

/// How a look counts; the worst is the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    Good,
    /// Too little seen to say.
    Undecided,
    Blind,
    Bad,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackLine {
    pub began: Stamp,
    pub cause: Cause,
    /// In which step.
    pub place: String,
    /// When all users were back.
    pub back: Option<Stamp>,
    /// One component was not enough: the whole last known-good release.
    pub widened: bool,
}

/// How an attempt stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    UnderWay,
    Promoted,
    RolledBack,
    /// Before anything was touched.
    Refused,
    Stuck,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Outcome::UnderWay => "under way",
            Outcome::Promoted => "promoted",
            Outcome::RolledBack => "rolled back",
            Outcome::Refused => "refused",
            Outcome::Stuck => "stuck",
        }
    }
}

/// What stopped it, and that it was not the release where that is so.
fn whose(what: &str, blame: Blame) -> String {
    match blame {
        Blame::Unknown | Blame::Release => what.to_owned(),
        Blame::World => format!("{what}, not the release"),
    }
}

impl Mark {
    pub fn name(self) -> &'static str {
        match self {
            Mark::Good => "pass",
            Mark::Undecided => "undecided",
            Mark::Blind => "blind",
            Mark::Bad => "fail",
        }
    }

    /// One character, told apart without colour.
    pub fn sign(self) -> char {
        match self {
            Mark::Good => '●',
            Mark::Undecided => '·',
            Mark::Blind => '○',
            Mark::Bad => '✕',
        }
    }

    /// The mark of a verdict.
    pub fn of(verdict: &Verdict) -> Mark {
        match verdict {
            Verdict::Pass(_) => Mark::Good,
            Verdict::Fail(_) => Mark::Bad,
            Verdict::Undecided(_) => Mark::Undecided,
            Verdict::Blind(_) => Mark::Blind,
        }
    }
}

impl AttemptLine {
    pub fn outcome(&self) -> Outcome {
        match &self.ending {
            None => Outcome::UnderWay,
            Some(Ending::Promoted) => Outcome::Promoted,
            Some(Ending::RolledBack { touched: true, .. }) => Outcome::RolledBack,
            Some(Ending::RolledBack { touched: false, .. }) => Outcome::Refused,
            Some(Ending::Stuck { .. }) => Outcome::Stuck,
        }
    }

    /// What stopped it.
    pub fn cause(&self) -> Option<&Cause> {
        match (&self.rollback, &self.ending) {
            (Some(rollback), _) => Some(&rollback.cause),
            (None, Some(Ending::RolledBack { cause, .. })) => Some(cause),
            (None, Some(Ending::Promoted | Ending::Stuck { .. }) | None) => None,
        }
    }

    /// Who or what stopped it, in a word or two: a gate's name, `deploy`, a person.
    pub fn caught_by(&self) -> Option<String> {
        Some(match self.cause()? {
            Cause::Gate { gate, .. } | Cause::Investigated { gate, .. } | Cause::Blind { gate, .. } => gate.to_string(),
            Cause::ApplyFailed { blame, .. } => whose("deploy", *blame),
            Cause::ShiftFailed { blame, .. } => whose("moving users", *blame),
            Cause::Deadline { blame, .. } => whose("deadline", *blame),
            Cause::Ordered { .. } => "a person".to_owned(),
            Cause::Unseen { .. } => "nobody could look".to_owned(),
        })
    }

    /// In which step it was stopped, or where it is.
    pub fn place(&self) -> &str {
        match &self.rollback {
            Some(rollback) => &rollback.place,
            None => self.steps.last().map_or("", |step| &step.name),
        }
    }

    /// How long the fault was out before it was caught: from the first users on it, or from the start when none were.
    pub fn caught_after(&self) -> Option<Span> {
        let caught = match (&self.rollback, self.outcome()) {
            (Some(rollback), _) => rollback.began,
            (None, Outcome::Refused) => self.ended?,
            (None, Outcome::UnderWay | Outcome::Promoted | Outcome::RolledBack | Outcome::Stuck) => return None,
        };
        Some(caught.since(self.exposed.unwrap_or(self.started)))
    }

    /// How long it took from the decision to go back until all users were back.
    pub fn back_after(&self) -> Option<Span> {
        let rollback = self.rollback.as_ref()?;
        Some(rollback.back?.since(rollback.began))
    }

    /// Requests of users that failed on this release, as far as its gates counted them. Several gates may count the
    /// same requests: the one that counted most is taken.
    pub fn bad_requests(&self) -> Option<u64> {
        self.gates.iter().filter_map(|gate| gate.grown.get(&Arm::Candidate)).map(|grown| grown.failed).max()
    }

    /// From its start to its end, or to what was last heard of it.
    pub fn length(&self) -> Span {
        self.ended.unwrap_or(self.seen).since(self.started)
    }
}
