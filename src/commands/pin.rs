use clap::Args;

use super::{Assignment, Refusal, Until, reason};
use crate::{
    engine::State,
    model::{self, Actor, ComponentName, EnvironmentName, Stamp, What},
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

#[derive(Debug, Args)]
pub struct Unpin {
    pub component: ComponentName,
    #[arg(long = "in", value_name = "ENV")]
    pub environment: EnvironmentName,
    #[arg(long, default_value = "no longer needed")]
    pub reason: String,
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

pub fn unpin(args: &Unpin, pipeline: &Pipeline, state: &State) -> Result<What, Refusal> {
    known(&args.component, pipeline)?;
    if !state.pins.contains_key(&args.component) {
        let pinned: Vec<&str> = state.pins.keys().map(ComponentName::as_str).collect();
        let there =
            if pinned.is_empty() { "nothing is".to_owned() } else { format!("pinned are: {}", pinned.join(", ")) };
        return Err(Refusal::Usage(format!("`{}` is not pinned in `{}`; {there}", args.component, args.environment)));
    }
    Ok(What::Unpinned { component: args.component.clone(), reason: reason(&args.reason)? })
}

/// Refuses a component that the pipeline does not have.
pub fn known(component: &ComponentName, pipeline: &Pipeline) -> Result<(), Refusal> {
    if pipeline.components.contains_key(component) {
        return Ok(());
    }
    let names = pipeline.components.keys().map(ComponentName::as_str).collect::<Vec<_>>().join("`, `");
    Err(Refusal::Usage(format!("unknown component `{component}`; known are `{names}`")))
}
