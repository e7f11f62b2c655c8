use clap::Args;

use super::{Refusal, reason};
use crate::{
    engine::State,
    model::{Actor, EnvironmentName, Step, What},
};

#[derive(Debug, Args)]
pub struct Approve {
    pub environment: EnvironmentName,
    #[arg(long)]
    pub reason: Option<String>,
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
