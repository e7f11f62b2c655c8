use clap::Args;

use super::{Refusal, known, reason};
use crate::{
    engine::State,
    model::{ComponentName, EnvironmentName, What},
    pipeline::Pipeline,
};

#[derive(Debug, Args)]
pub struct Unpin {
    pub component: ComponentName,
    #[arg(long = "in", value_name = "ENV")]
    pub environment: EnvironmentName,
    #[arg(long, default_value = "no longer needed")]
    pub reason: String,
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
