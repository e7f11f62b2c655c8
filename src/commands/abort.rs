use clap::Args;

use super::{Refusal, reason};
use crate::{
    engine::State,
    model::{EnvironmentName, What},
};

#[derive(Debug, Args)]
pub struct Abort {
    pub environment: EnvironmentName,
    #[arg(long)]
    pub reason: String,
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
