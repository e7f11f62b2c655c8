use clap::Args;

use super::{Refusal, reason};
use crate::{
    engine::State,
    model::{EnvironmentName, What},
};

#[derive(Debug, Args)]
pub struct Unfreeze {
    pub environment: EnvironmentName,
    #[arg(long, default_value = "over")]
    pub reason: String,
}

pub fn unfreeze(args: &Unfreeze, state: &State) -> Result<What, Refusal> {
    if state.freeze.is_none() {
        return Err(Refusal::Usage(format!("`{}` is not frozen", args.environment)));
    }
    Ok(What::Unfrozen { reason: reason(&args.reason)? })
}
