use clap::Args;

use super::{Refusal, reason};
use crate::{
    engine::State,
    model::{Actor, AttemptId, EnvironmentName, Span, Stamp, Step, What},
};

#[derive(Debug, Args)]
pub struct Approve {
    pub environment: EnvironmentName,
    #[arg(long)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct Extend {
    pub environment: EnvironmentName,
    /// How much longer, from now: `10m`.
    pub by: Span,
    #[arg(long)]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct Abort {
    pub environment: EnvironmentName,
    #[arg(long)]
    pub reason: String,
}

pub fn approve(args: &Approve, state: &State, by: &Actor) -> Result<What, Refusal> {
    let attempt = state.attempt.as_ref().filter(|a| matches!(a.current(), Some(Step::Check { .. })));
    let attempt =
        attempt.ok_or_else(|| Refusal::Usage(format!("nothing waits for approval in `{}`", args.environment)))?;
    if attempt.approvals.contains(by) {
        return Err(Refusal::Policy(format!("{by} has approved {} already", attempt.id)));
    }
    Ok(What::Approved { attempt: attempt.id, reason: args.reason.as_deref().map(reason).transpose()? })
}

pub fn extend(args: &Extend, state: &State, now: Stamp) -> Result<What, Refusal> {
    let bad =
        |gates: &std::collections::BTreeMap<_, crate::judge::GateLog>| gates.values().any(|g| g.bad_since.is_some());
    let trial = state.attempt.as_ref().filter(|a| bad(&a.gates)).map(|a| a.id);
    let watched = || state.watches.last().filter(|w| bad(&w.gates)).map(|w| w.attempt);
    let attempt: AttemptId = trial
        .or_else(watched)
        .ok_or_else(|| Refusal::Usage(format!("no bad sign is being investigated in `{}`", args.environment)))?;
    Ok(What::Extended { attempt, until: now + args.by, reason: reason(&args.reason)? })
}

pub fn abort(args: &Abort, state: &State) -> Result<What, Refusal> {
    let attempt = state.attempt.as_ref().filter(|a| a.promoted.is_none());
    let attempt = attempt.ok_or_else(|| {
        Refusal::Usage(format!(
            "no promotion is under way in `{0}`; to go back from what is live say `piton rollback {0}`",
            args.environment
        ))
    })?;
    Ok(What::Aborted { attempt: attempt.id, reason: reason(&args.reason)? })
}
