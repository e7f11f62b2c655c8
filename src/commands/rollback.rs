use std::str::FromStr;

use clap::Args;

use crate::model::{Actor, ComponentName, EnvironmentName, Quarantine, Quarantined, Release, Span, Stamp, Version};

#[derive(Debug, Args)]
pub struct Rollback {
    pub environment: EnvironmentName,
    /// `good`, a commit of the environment's branch or of the source branch, or a moment.
    #[arg(long, default_value = "good")]
    pub to: To,
    /// Only this component.
    #[arg(long)]
    pub component: Option<ComponentName>,
    #[arg(long, default_value = "rolled back by hand")]
    pub reason: String,
    /// Only show what it would do.
    #[arg(long)]
    pub dry_run: bool,
    /// Let automation bring the same versions back.
    #[arg(long)]
    pub no_quarantine: bool,
    /// Take the environment's branch as it is in the origin, although somebody rewrote or removed it.
    #[arg(long, conflicts_with = "dry_run")]
    pub accept_rewritten: bool,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    Good,
    Commit(String),
    /// What was live then.
    Time(Stamp),
    /// What was live so long ago.
    Ago(Span),
}

impl FromStr for To {
    type Err = String;
    fn from_str(text: &str) -> Result<To, String> {
        let hex = text.len() >= 4 && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match text {
            "good" => Ok(To::Good),
            _ if hex => Ok(To::Commit(text.to_ascii_lowercase())),
            _ => match (text.parse::<Stamp>(), text.parse::<Span>()) {
                (Ok(stamp), _) => Ok(To::Time(stamp)),
                (_, Ok(span)) => Ok(To::Ago(span)),
                (Err(_), Err(_)) => Err(format!(
                    "{text:?} is neither `good`, nor a commit, nor a moment such as `2026-01-31T09:30:00Z` or `2h` ago"
                )),
            },
        }
    }
}

/// What a rollback by hand keeps out: every version that it leaves.
pub fn quarantine_of(
    from: &Release,
    to: &Release,
    scope: Option<&ComponentName>,
    reason: &str,
    by: &Actor,
    now: Stamp,
) -> Vec<Quarantine> {
    let left = |(name, version): &(&ComponentName, &Version)| {
        scope.is_none_or(|scope| scope == *name) && to.versions.get(*name) != Some(*version)
    };
    let entry = |(component, version): (&ComponentName, &Version)| Quarantine {
        what: Quarantined::Version { component: component.clone(), version: version.clone() },
        reason: reason.to_owned(),
        by: by.clone(),
        since: now,
        until: Some(now + super::quarantine::QUARANTINE_LENGTH),
    };
    from.versions.iter().filter(left).map(entry).collect()
}
