use clap::Args;

use super::{Refusal, Until, reason};
use crate::model::{self, Actor, EnvironmentName, Stamp, What};

#[derive(Debug, Args)]
pub struct Freeze {
    pub environment: EnvironmentName,
    /// When it ends: `2h`, `3d` or a moment.
    #[arg(long, required_unless_present = "forever")]
    pub until: Option<Until>,
    /// It has no end.
    #[arg(long, conflicts_with = "until")]
    pub forever: bool,
    #[arg(long)]
    pub reason: String,
}

pub fn freeze(args: &Freeze, by: &Actor, now: Stamp) -> Result<What, Refusal> {
    let until = args.until.map(|until| until.from(now));
    if until.is_some_and(|until| until <= now) {
        return Err(Refusal::Usage("the freeze would end before it begins".to_owned()));
    }
    let freeze = model::Freeze { reason: reason(&args.reason)?, by: by.clone(), since: now, until };
    Ok(What::Frozen { freeze })
}
