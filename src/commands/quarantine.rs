use clap::Args;

use super::{Assignment, Refusal, Until, known, reason};
use crate::{
    engine::State,
    model::{self, Actor, EnvironmentName, Quarantined, Span, Stamp, What},
    pipeline::Pipeline,
};

#[derive(Debug, Args)]
pub struct QuarantineArgs {
    /// `component=version`; with `--end` also the commit of a quarantined change of files.
    pub what: String,
    #[arg(long = "in", value_name = "ENV")]
    pub environment: EnvironmentName,
    /// When it ends; 14 days by default.
    #[arg(long)]
    pub until: Option<Until>,
    /// It has no end.
    #[arg(long, conflicts_with = "until")]
    pub forever: bool,
    #[arg(long)]
    pub reason: String,
    /// End the quarantine.
    #[arg(long, conflicts_with_all = ["until", "forever"])]
    pub end: bool,
}

/// How long a quarantine lasts when nothing is said.
pub const QUARANTINE_LENGTH: Span = Span::hours(14 * 24);

pub fn quarantine(args: &QuarantineArgs, pipeline: &Pipeline, by: &Actor, now: Stamp) -> Result<What, Refusal> {
    let Assignment { component, version } = args.what.parse().map_err(Refusal::Usage)?;
    known(&component, pipeline)?;
    let until = match (args.forever, args.until) {
        (true, _) => None,
        (false, Some(until)) => Some(until.from(now)),
        (false, None) => Some(now + QUARANTINE_LENGTH),
    };
    if until.is_some_and(|until| until <= now) {
        return Err(Refusal::Usage("the quarantine would end before it begins".to_owned()));
    }
    let what = Quarantined::Version { component, version };
    let quarantine = model::Quarantine { what, reason: reason(&args.reason)?, by: by.clone(), since: now, until };
    Ok(What::Quarantined { quarantine })
}

pub fn unquarantine(args: &QuarantineArgs, state: &State) -> Result<What, Refusal> {
    let named = |what: &Quarantined| match what {
        Quarantined::Version { component, version } => format!("{component}={version}") == args.what,
        Quarantined::Content { commit, .. } => args.what.len() >= 7 && commit.as_str().starts_with(&args.what),
    };
    let found = state.quarantines.iter().find(|q| named(&q.what));
    let found = found
        .ok_or_else(|| Refusal::Usage(format!("`{}` is not in quarantine in `{}`", args.what, args.environment)))?;
    Ok(What::Unquarantined { what: found.what.clone(), reason: reason(&args.reason)? })
}
