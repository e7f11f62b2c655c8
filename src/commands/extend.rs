use std::collections::BTreeMap;

use clap::Args;

use super::{Refusal, reason};
use crate::{
    engine::State,
    judge::GateLog,
    model::{AttemptId, EnvironmentName, Span, Stamp, What},
};

#[derive(Debug, Args)]
pub struct Extend {
    pub environment: EnvironmentName,
    /// How much longer, from now: `10m`.
    pub by: Span,
    #[arg(long)]
    pub reason: String,
}

pub fn extend(args: &Extend, state: &State, now: Stamp) -> Result<What, Refusal> {
    let bad = |gates: &BTreeMap<_, GateLog>| gates.values().any(|g| g.bad_since.is_some());
    let trial = state.attempt.as_ref().filter(|a| bad(&a.gates)).map(|a| a.id);
    let watched = || state.watches.last().filter(|w| bad(&w.gates)).map(|w| w.attempt);
    let attempt: AttemptId = trial
        .or_else(watched)
        .ok_or_else(|| Refusal::Usage(format!("no bad sign is being investigated in `{}`", args.environment)))?;
    Ok(What::Extended { attempt, until: now + args.by, reason: reason(&args.reason)? })
}
