use clap::Args;

use super::{Refusal, Until, reason};
use crate::{
    engine::{MARKS_MAX, State},
    model::{Difference, DriftEnd, EnvironmentName, Stamp, What},
};

#[derive(Debug, Args)]
pub struct Drift {
    /// By default all.
    pub environment: Option<EnvironmentName>,
    /// Make it the wish: a commit on the source branch says from then on what is live.
    #[arg(long, requires = "environment", conflicts_with_all = ["drop", "ignore_until"])]
    pub adopt: bool,
    /// With `--adopt`: write the commit to this new branch, for a pull request.
    #[arg(long, value_name = "NAME", requires = "adopt")]
    pub branch: Option<String>,
    /// Deploy again what the ledger says, over what was changed.
    #[arg(long, requires = "environment", conflicts_with = "ignore_until")]
    pub drop: bool,
    /// Leave it as it is until then, and hold nothing up: `2h`, `3d` or a moment.
    #[arg(long, value_name = "END", requires = "environment")]
    pub ignore_until: Option<Until>,
    #[arg(long, default_value = "decided by hand")]
    pub reason: String,
}

/// Leaves these differences alone until then.
pub fn accept(args: &Drift, until: Until, found: &[Difference], now: Stamp) -> Result<What, Refusal> {
    let until = until.from(now);
    if until <= now {
        return Err(Refusal::Usage("that would end before it begins".to_owned()));
    }
    let how = DriftEnd::Accepted { until, reason: reason(&args.reason)?, marks: marks(found)? };
    Ok(What::DriftEnded { how })
}

/// Deploys again what is in the ledger.
pub fn drop_drift(args: &Drift, state: &State) -> Result<Vec<What>, Refusal> {
    let name = args.environment.as_ref().map_or("", EnvironmentName::as_str);
    let touched = state.attempt.as_ref().is_some_and(|attempt| attempt.touched.is_some());
    let Some(live) = state.live.clone().filter(|_| state.rollback.is_none() && !touched) else {
        return Err(Refusal::Policy(format!("`{name}` has nothing at rest that could be deployed again")));
    };
    let reason = reason(&args.reason)?;
    let ordered = What::RollbackOrdered {
        to: Some(live),
        scope: None,
        quarantine: Vec::new(),
        reason: format!("what was changed by hand is dropped: {reason}"),
    };
    Ok(vec![What::DriftEnded { how: DriftEnd::Dropped { reason } }, ordered])
}

/// What stands for the differences in the ledger.
pub fn marks(found: &[Difference]) -> Result<Vec<String>, Refusal> {
    if found.len() > MARKS_MAX {
        let count = found.len();
        return Err(Refusal::Policy(format!("{count} differences are too many to decide on at once; mend some first")));
    }
    Ok(found.iter().map(Difference::mark).collect())
}
