use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Actor, AttemptId, ComponentName, Difference, DriftEnd, Freeze, GateName, Lease, Pin, Plan, Portion, Quarantine,
    Quarantined, Reading, Rehearsal, Release, Span, Stamp, TreeId,
};

/// A fact of one environment, in the past tense; the ledger holds nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: Stamp,
    pub by: Actor,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    // people and policy
    Pinned {
        pin: Pin,
    },
    Unpinned {
        component: ComponentName,
        reason: String,
    },
    Quarantined {
        quarantine: Quarantine,
    },
    Unquarantined {
        what: Quarantined,
        reason: String,
    },
    Frozen {
        freeze: Freeze,
    },
    Unfrozen {
        reason: String,
    },
    /// Binds to one attempt, and through it to one plan.
    Approved {
        attempt: AttemptId,
        reason: Option<String>,
    },
    /// The investigation may go on until then.
    Extended {
        attempt: AttemptId,
        until: Stamp,
        reason: String,
    },
    /// A person wants the promotion undone.
    Aborted {
        attempt: AttemptId,
        reason: String,
    },
    /// A person wants another release live, now.
    RollbackOrdered {
        to: Option<Release>,
        scope: Option<ComponentName>,
        quarantine: Vec<Quarantine>,
        reason: String,
    },

    // the lease
    Leased {
        lease: Lease,
    },
    Released {
        nonce: String,
    },

    // a promotion
    Started {
        plan: Arc<Plan>,
    },
    Read {
        attempt: AttemptId,
        reading: Reading,
    },
    /// All gates of the step passed and its time is over.
    StepPassed {
        attempt: AttemptId,
        step: usize,
    },
    Applied {
        attempt: AttemptId,
        note: String,
        /// What rendered the release then, where something did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        renderer: Option<String>,
    },
    ApplyFailed {
        attempt: AttemptId,
        why: String,
        #[serde(default)]
        blame: Blame,
        #[serde(default, skip_serializing_if = "Traces::are_possible")]
        traces: Traces,
    },
    Shifted {
        attempt: AttemptId,
        to: Portion,
        /// What the target says of it, in a few words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
        /// What rendered the release then, where something did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        renderer: Option<String>,
    },
    ShiftFailed {
        attempt: AttemptId,
        to: Portion,
        why: String,
        #[serde(default)]
        blame: Blame,
        #[serde(default, skip_serializing_if = "Traces::are_possible")]
        traces: Traces,
    },
    /// Bake included, everything passed: this commit is the last known good.
    Promoted {
        attempt: AttemptId,
    },
    /// What the promotion replaced is gone.
    Settled {
        attempt: AttemptId,
        /// What the target says of it, in a few words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
        /// What rendered the release then, where something did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        renderer: Option<String>,
    },
    SettleFailed {
        attempt: AttemptId,
        why: String,
    },
    /// Nothing had been touched; the change waits outside.
    Refused {
        attempt: AttemptId,
        cause: Cause,
        /// Until then automation does not try again: the release is not to blame.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        paused_until: Option<Stamp>,
    },
    /// The watch is over and was quiet.
    WatchEnded {
        attempt: AttemptId,
    },

    // the way back
    RollbackBegan {
        attempt: AttemptId,
        cause: Cause,
        to: Option<Release>,
        quarantine: Vec<Quarantine>,
    },
    Retreated {
        attempt: AttemptId,
        /// What the target says of it, in a few words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
        /// What rendered the release then, where something did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        renderer: Option<String>,
    },
    RetreatFailed {
        attempt: AttemptId,
        why: String,
    },
    /// Going back by one component did not work: the whole last known-good release.
    RollbackWidened {
        attempt: AttemptId,
        to: Option<Release>,
    },
    RolledBack {
        attempt: AttemptId,
        /// Until then automation does not try again: the release is not to blame.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        paused_until: Option<Stamp>,
    },
    Stuck {
        attempt: AttemptId,
        /// Written as `place`, since the event itself has an `at`.
        #[serde(rename = "place")]
        at: String,
        live: String,
        advice: String,
    },

    // what stands
    /// Nothing new was seen; or nothing at all, and why.
    LookedForDrift {
        tree: TreeId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blind: Option<String>,
    },
    /// Live is not what the ledger says. The first differences, and how many there are in all.
    Drifted {
        tree: TreeId,
        differences: Vec<Difference>,
        count: usize,
    },
    DriftEnded {
        how: DriftEnd,
    },
    /// Somebody tried whether the release could be deployed again, without doing it.
    Rehearsed {
        tree: TreeId,
        rehearsal: Rehearsal,
    },
    /// A person lets the promotion go on without a proven way back.
    WayBackWaived {
        attempt: AttemptId,
        reason: String,
    },

    // notices
    Told {
        notice: u64,
    },
    TellFailed {
        notice: u64,
        why: String,
    },
}

/// Why a promotion is undone or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Gate {
        gate: GateName,
        why: String,
    },
    ApplyFailed {
        why: String,
        #[serde(default)]
        blame: Blame,
    },
    ShiftFailed {
        why: String,
        #[serde(default)]
        blame: Blame,
    },
    /// The promotion's own deadline. The world is to blame where it failed what was being tried.
    Deadline {
        after: Span,
        #[serde(default)]
        blame: Blame,
    },
    /// The time to investigate a bad sign is over.
    Investigated {
        after: Span,
        gate: GateName,
        why: String,
    },
    /// A gate could not look for too long; nobody is blamed.
    Blind {
        after: Span,
        gate: GateName,
        why: String,
    },
    /// A person.
    Ordered {
        reason: String,
    },
    /// Live could not be compared with the ledger, or the way back could not be tried, for too long; nobody is blamed.
    Unseen {
        after: Span,
        why: String,
    },
}

impl Cause {
    /// Whether the change itself is to blame, so that it must not come back by itself.
    pub fn blames_the_change(&self) -> bool {
        match self {
            Cause::ApplyFailed { blame, .. } | Cause::ShiftFailed { blame, .. } | Cause::Deadline { blame, .. } => {
                *blame != Blame::World
            }
            Cause::Gate { .. } | Cause::Investigated { .. } | Cause::Ordered { .. } => true,
            Cause::Blind { .. } | Cause::Unseen { .. } => false,
        }
    }
}

/// The first line of a cause. Below it may stand what a container wrote last.
pub fn headline(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

impl Cause {
    /// The cause on one line.
    pub fn headline(&self) -> String {
        headline(&self.sentence()).to_owned()
    }

    /// The cause as a person would say it.
    pub fn sentence(&self) -> String {
        match self {
            Cause::Gate { gate, why } => format!("gate `{gate}` failed: {why}"),
            Cause::ApplyFailed { why, blame } => format!("deploy failed{}: {why}", blame.aside()),
            Cause::ShiftFailed { why, blame } => format!("moving users failed{}: {why}", blame.aside()),
            Cause::Deadline { after, blame } => format!("not done within its deadline of {after}{}", blame.aside()),
            Cause::Investigated { after, gate, why } => {
                format!("gate `{gate}` has not recovered within {after}: {why}")
            }
            Cause::Blind { after, gate, why } => format!("gate `{gate}` could not look for {after}: {why}"),
            Cause::Ordered { reason } => format!("ordered: {reason}"),
            Cause::Unseen { after, why } => format!("nothing could be seen for {after}: {why}"),
        }
    }
}

/// Whose fault it is that a target could not do what was asked, as far as it knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    #[default]
    Unknown,
    /// The release's: trying again gives the same.
    Release,
    /// That of the world around it: the next try may succeed.
    World,
}

impl Blame {
    /// What is said of a failure for which the release is not to blame.
    fn aside(self) -> &'static str {
        match self {
            Blame::Unknown | Blame::Release => "",
            Blame::World => ", and not through the release",
        }
    }
}

/// Whether an act that failed may have left something in the world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traces {
    #[default]
    Possible,
    /// The place was not even reached.
    None,
}

impl Traces {
    fn are_possible(&self) -> bool {
        *self == Traces::Possible
    }
}

/// A wish to the world. Each gives exactly one event and may be done twice.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Look {
        attempt: AttemptId,
        gate: GateName,
    },
    Apply {
        attempt: AttemptId,
        release: Release,
    },
    Shift {
        attempt: AttemptId,
        release: Release,
        to: Portion,
    },
    /// All users back on `to`, which must have the capacity first; `None` takes the candidate down.
    Retreat {
        attempt: AttemptId,
        from: Release,
        to: Option<Release>,
    },
    /// Takes down everything but `keep`.
    Settle {
        attempt: AttemptId,
        keep: Option<Release>,
    },
    Tell {
        notice: Notice,
    },
    /// Compares what is live with the release.
    LookForDrift {
        release: Release,
    },
    /// Tries whether the release could be deployed again, without doing it.
    Rehearse {
        release: Release,
    },
}

impl Effect {
    /// Whether it changes the world: then everything it rests on must be in the ledger first.
    pub fn acts(&self) -> bool {
        match self {
            Effect::Look { .. } | Effect::Tell { .. } | Effect::LookForDrift { .. } | Effect::Rehearse { .. } => false,
            Effect::Apply { .. } | Effect::Shift { .. } | Effect::Retreat { .. } | Effect::Settle { .. } => true,
        }
    }
}

/// Something people should be told; delivery never holds anything up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub id: u64,
    pub at: Stamp,
    pub urgency: Urgency,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    Info,
    Warning,
    /// A person must act.
    Alarm,
}

/// How a promotion ended. There is no fourth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Promoted,
    /// `touched` is false when a preflight said no before anything was changed.
    RolledBack {
        cause: Cause,
        touched: bool,
    },
    Stuck {
        at: String,
        live: String,
        advice: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_what_it_was() {
        let what = What::Stuck {
            attempt: AttemptId(3),
            at: "going back".to_owned(),
            live: "unknown".to_owned(),
            advice: "mend it".to_owned(),
        };
        let by = Actor::new("alice").expect("a name");
        let event = Event { at: Stamp(1_795_249_268_417), by, what };
        let text = serde_json::to_string(&event).expect("plain data");
        assert_eq!(serde_json::from_str::<Event>(&text).expect(&text), event);
    }
}
