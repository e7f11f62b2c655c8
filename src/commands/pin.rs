use clap::Args;

use super::{Assignment, Refusal, Until, known, reason};
use crate::{
    model::{self, Actor, EnvironmentName, Stamp, What},
    pipeline::Pipeline,
};

#[derive(Debug, Args)]
pub struct Pin {
    /// `component=version`.
    pub what: Assignment,
    /// The environment.
    #[arg(long = "in", value_name = "ENV")]
    pub environment: EnvironmentName,
    /// When it ends: `2h`, `3d` or a moment.
    #[arg(long, required_unless_present = "forever")]
    pub until: Option<Until>,
    /// It has no end.
    #[arg(long, conflicts_with = "until")]
    pub forever: bool,
    #[arg(long)]
    pub reason: String,
    /// Only write the pin down; the next promotion brings it.
    #[arg(long)]
    pub no_deploy: bool,
}

pub fn pin(args: &Pin, pipeline: &Pipeline, by: &Actor, now: Stamp) -> Result<What, Refusal> {
    known(&args.what.component, pipeline)?;
    let until = args.until.map(|until| until.from(now));
    if until.is_some_and(|until| until <= now) {
        return Err(Refusal::Usage("the pin would end before it begins".to_owned()));
    }
    let pin = model::Pin {
        component: args.what.component.clone(),
        version: args.what.version.clone(),
        reason: reason(&args.reason)?,
        by: by.clone(),
        since: now,
        until,
    };
    Ok(What::Pinned { pin })
}
