use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Actor, CommitId, ComponentName, EnvironmentName, GateName, Span, Stamp, TreeId, Version};

/// The set of all component versions plus configuration: one commit's tree, immutable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Exactly what is deployed: the source's tree with pins and quarantines applied.
    pub tree: TreeId,
    /// The commit of the source branch it comes from.
    pub source: CommitId,
    pub versions: BTreeMap<ComponentName, Version>,
}

/// One component going from one value to another; `None` where the value is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bump {
    pub component: ComponentName,
    pub from: Option<Version>,
    pub to: Option<Version>,
}

/// A component that keeps its value although the source has another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub component: ComponentName,
    pub at: Option<Version>,
    pub wanted: Option<Version>,
    pub by: HeldBy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    Pin {
        reason: String,
        until: Option<Stamp>,
    },
    Quarantine {
        reason: String,
        until: Option<Stamp>,
    },
    /// The environment before this one has not proven the version.
    Unproven {
        environment: EnvironmentName,
    },
    /// Its turn comes after the bumps that go first.
    NextStep,
}

/// How one file differs between two releases; `diff` is a unified diff, or empty for binary and opaque files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    pub path: String,
    pub added: usize,
    pub removed: usize,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
}

/// What kind of step a promotion is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanKind {
    /// The smallest next step of the source branch.
    Bump,
    /// Only files outside any component change.
    Content,
    /// To a pinned version, or back to the source's after an unpin.
    Pin,
    /// To a commit that a person named, all at once.
    Jump,
    /// The first release of an environment.
    First,
}

/// One promotion, complete: whoever carries it out has nothing left to decide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub environment: EnvironmentName,
    pub kind: PlanKind,
    pub release: Release,
    /// Where a rollback goes; `None` for the first release.
    pub back: Option<Release>,
    pub bumps: Vec<Bump>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileChange>,
    /// Files outside any component that change: path and new blob id (`None`: removed). A rollback quarantines them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<(String, Option<String>)>,
    pub steps: Vec<Step>,
    pub gates: BTreeMap<GateName, GateSpec>,
    pub limits: Limits,
    pub watch: WatchSpec,
    /// Subject and author of the source commit, for people.
    pub subject: String,
    pub author: Option<Actor>,
    /// The source commit is done with when this plan is: nothing of it waits for a further step.
    pub completes_source: bool,
    /// What would turn the release into objects where this was planned, and its version: `helm v3.21.4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renderer: Option<String>,
}

impl Plan {
    /// What it brings, in a few words.
    pub fn headline(&self) -> String {
        match self.bumps.as_slice() {
            [] => format!("{} ({})", self.release.source.short(), self.subject),
            bumps => bumps.iter().map(Bump::to_string).collect::<Vec<_>>().join(", "),
        }
    }
}

impl fmt::Display for Bump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{} {from} → {to}", self.component),
            (None, Some(to)) => write!(f, "{} {to}", self.component),
            (_, None) => write!(f, "{} as what is around it has it", self.component),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Gates that must pass before anything is touched.
    Check { gates: Vec<GateName> },
    /// The release is brought up beside what is live.
    Deploy,
    /// A share of the users is moved, then held there while gates look.
    Shift { to: Portion, hold: Span, gates: Vec<GateName> },
    /// Gates that must pass with all users on the release.
    Prove { gates: Vec<GateName> },
    /// Longer time under the same gates; at its end the release is known good.
    Bake { time: Span, gates: Vec<GateName> },
}

impl Step {
    pub fn gates(&self) -> &[GateName] {
        match self {
            Step::Deploy => &[],
            Step::Check { gates } | Step::Shift { gates, .. } | Step::Prove { gates } | Step::Bake { gates, .. } => {
                gates
            }
        }
    }

    /// The time this step takes at least.
    pub fn soak(&self) -> Span {
        match self {
            Step::Check { .. } | Step::Deploy | Step::Prove { .. } => Span(0),
            Step::Shift { hold, .. } => *hold,
            Step::Bake { time, .. } => *time,
        }
    }
}

/// Who is moved to the release in a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Portion {
    Share(Share),
    /// These members (clusters, hubs), and those of the steps before.
    Members(Vec<String>),
}

impl Portion {
    pub const ALL: Portion = Portion::Share(Share::WHOLE);

    pub fn is_all(&self) -> bool {
        *self == Portion::ALL
    }
}

impl fmt::Display for Portion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Portion::Share(share) => f.pad(&share.to_string()),
            Portion::Members(names) => f.pad(&names.join(", ")),
        }
    }
}

/// A share of the users in hundredths of a percent, 0 to 10 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(u16);

impl Share {
    pub const NONE: Share = Share(0);
    pub const WHOLE: Share = Share(10_000);

    pub fn of_hundredths(hundredths: u16) -> Option<Share> {
        (hundredths <= 10_000).then_some(Share(hundredths))
    }

    pub fn hundredths(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", f64::from(self.0) / 100.0))
    }
}

/// Why a text is not a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a share; write a percentage from `0%` to `100%`, at most two decimals")]
pub struct ShareError(pub String);

impl FromStr for Share {
    type Err = ShareError;
    fn from_str(text: &str) -> Result<Share, ShareError> {
        let wrong = || ShareError(text.chars().take(40).collect());
        let number = text.strip_suffix('%').ok_or_else(wrong)?.trim();
        let percent: f64 = number.parse().map_err(|_| wrong())?;
        let hundredths = (percent * 100.0).round();
        if !(0.0..=10_000.0).contains(&hundredths) || (hundredths - percent * 100.0).abs() > 1e-6 {
            return Err(wrong());
        }
        Ok(Share(hundredths as u16))
    }
}

impl TryFrom<String> for Share {
    type Error = ShareError;
    fn try_from(text: String) -> Result<Share, ShareError> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> String {
        share.to_string()
    }
}

/// One gate, as the engine and the judge need it. `with` is for the socket that looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateSpec {
    /// The kind of the gate: `http`, `kernel`, `metric`…
    pub kind: String,
    pub with: serde_json::Value,
    pub rule: Rule,
    /// Time from one look to the next.
    pub every: Span,
    /// The longest that one look may take.
    pub timeout: Span,
    pub on_fail: OnFail,
}

/// How readings become a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// `passes` good looks in a row pass; more than `tolerate` bad looks in one step fail.
    Expect { passes: u32, tolerate: u32 },
    /// Failed requests among ok and failed ones of an arm, since the step began.
    ErrorShare { arm: super::Arm, max: f64, requests_min: u64 },
    /// A latency quantile of an arm in milliseconds, since the step began.
    Latency { arm: super::Arm, quantile: f64, max_ms: u64, requests_min: u64 },
    /// So many people, none of them the author of the change when `not_author`.
    Approval { people: u32, not_author: bool },
    /// Only inside one of these windows, and never inside a freeze of the environment.
    Window(WindowRule),
}

impl Rule {
    /// Whether the verdict comes from the ledger and the clock alone, with no look at the world.
    pub fn needs_no_look(&self) -> bool {
        match self {
            Rule::Approval { .. } | Rule::Window(_) => true,
            Rule::Expect { .. } | Rule::ErrorShare { .. } | Rule::Latency { .. } => false,
        }
    }
}

/// When changes may go in: days and times of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRule {
    /// An IANA zone name, such as `Europe/Zurich`.
    pub zone: String,
    /// 1 is Monday, 7 is Sunday.
    pub days: Vec<u8>,
    /// Minutes since midnight, from and until (exclusive).
    pub from_minute: u16,
    pub until_minute: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// Go back at once.
    Rollback,
    /// Give people the investigation time first, then go back.
    Ask,
}

/// Every wait has an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From the start of a promotion to its end; then back. Time spent waiting for people before anything is
    /// touched does not count.
    pub deadline: Span,
    /// From the first bad sign to the rollback.
    pub investigate: Span,
    /// How long blind gates may hold a promotion; then back, with nobody blamed.
    pub blind: Span,
    /// How long a preflight may wait for approval or a window.
    pub preflight: Span,
    /// From the start of a rollback until it is called stuck.
    pub rollback: Span,
    pub rollback_tries: u32,
    pub rollback_pause: Span,
    /// How often a failed deploy or weight change is tried again before it counts as a failure.
    pub deploy_tries: u32,
    /// How long a rolled-back version stays out.
    pub quarantine: Option<Span>,
    /// How long automation waits before it tries again what failed, but not through the release: after the first such
    /// failure, the second… The last one repeats.
    #[serde(default = "pauses")]
    pub pauses: Vec<Span>,
}

/// A node that restarts is back in minutes, a quota or a right takes a person's morning; and whoever mends it says
/// `piton promote`, so that a longer wait costs little.
fn pauses() -> Vec<Span> {
    vec![Span::minutes(5), Span::minutes(15), Span::hours(1), Span::hours(4)]
}

impl Limits {
    /// How long automation waits after so many failures in a row that were not the release's, this one not counted.
    pub fn pause_after(&self, failures: u32) -> Span {
        let nth = usize::try_from(failures).unwrap_or(usize::MAX);
        self.pauses.get(nth).or(self.pauses.last()).copied().unwrap_or(Span(0))
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            deadline: Span::hours(2),
            investigate: Span::minutes(10),
            blind: Span::minutes(30),
            preflight: Span::hours(24),
            rollback: Span::minutes(5),
            rollback_tries: 5,
            rollback_pause: Span::seconds(5),
            deploy_tries: 2,
            quarantine: Some(Span::hours(14 * 24)),
            pauses: pauses(),
        }
    }
}

/// Looking on after the promotion, with the way back still armed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchSpec {
    pub time: Span,
    pub gates: Vec<GateName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        for (text, hundredths) in [("0%", 0), ("10%", 1_000), ("0.5%", 50), ("33.33%", 3_333), ("100%", 10_000)] {
            let share: Share = text.parse().expect(text);
            assert_eq!((share.hundredths(), share.to_string().as_str()), (hundredths, text));
        }
        for bad in ["10", "-1%", "101%", "1.234%", "%", "NaN%", ""] {
            assert!(bad.parse::<Share>().is_err(), "{bad:?} was accepted");
        }
    }
}
