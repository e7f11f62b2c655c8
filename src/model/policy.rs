use serde::{Deserialize, Serialize};

use super::{Actor, CommitId, ComponentName, Span, Stamp, Version};

/// Exactly this version, in this environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub component: ComponentName,
    pub version: Version,
    pub reason: String,
    pub by: Actor,
    pub since: Stamp,
    /// `None` is for ever, which a person had to say.
    pub until: Option<Stamp>,
}

/// Anything but this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub what: Quarantined,
    pub reason: String,
    pub by: Actor,
    pub since: Stamp,
    pub until: Option<Stamp>,
}

/// What a quarantine keeps out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quarantined {
    /// One version of one component.
    Version { component: ComponentName, version: Version },
    /// A change outside any component: these files with these contents (git blob ids), brought by this commit.
    /// A later commit that still carries all of them is kept out too.
    Content { commit: CommitId, files: Vec<(String, Option<String>)> },
}

/// Nothing new goes in until then; the way back stays open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    pub reason: String,
    pub by: Actor,
    pub since: Stamp,
    pub until: Option<Stamp>,
}

/// Who may act on an environment, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub holder: Actor,
    /// Chance, so that two holders never write the same commit.
    pub nonce: String,
    /// Grows with every new holder; what is deployed carries it, and an older number is refused there.
    pub fence: u64,
    pub until: Stamp,
}

impl Lease {
    /// How long a lease lasts when nothing renews it.
    pub const LENGTH: Span = Span::minutes(3);

    /// How far ahead another machine's clock may be.
    pub const SKEW_MAX: Span = Span::minutes(30);

    /// One that ends later than any lease can was taken by a clock that is wrong, and holds nobody up.
    pub fn is_live(&self, now: Stamp) -> bool {
        now < self.until && self.until <= now + Lease::LENGTH + Lease::SKEW_MAX
    }
}

/// Whether something with an end is still in force.
pub fn in_force(until: Option<Stamp>, now: Stamp) -> bool {
    until.is_none_or(|until| now < until)
}

impl Pin {
    pub fn in_force(&self, now: Stamp) -> bool {
        in_force(self.until, now)
    }
}

impl Quarantine {
    pub fn in_force(&self, now: Stamp) -> bool {
        in_force(self.until, now)
    }
}

impl Freeze {
    pub fn in_force(&self, now: Stamp) -> bool {
        in_force(self.until, now)
    }
}
