#![doc = include_str!("README.md")]

mod drift;
mod event;
mod names;
mod plan;
mod policy;
mod reading;
mod time;

pub use drift::{Difference, DriftEnd, Guard, Rehearsal, SourcePlace, shown};
pub use event::{Blame, Cause, Effect, Ending, Event, Notice, Traces, Urgency, What, headline};
pub use names::{
    Actor, AttemptId, CommitId, ComponentName, EnvironmentName, GateName, InvariantName, NameError, PipelineName,
    TreeId, Version,
};
pub use plan::{
    Bump, FileChange, GateSpec, Held, HeldBy, Limits, OnFail, Plan, PlanKind, Portion, Release, Rule, Share, Step,
    WatchSpec, WindowRule,
};
pub use policy::{Freeze, Lease, Pin, Quarantine, Quarantined};
pub use reading::{Arm, ArmCounts, Counts, LATENCY_BOUNDS_MS, Reading, Saw, Verdict};
pub use time::{Span, Stamp, TimeError};
