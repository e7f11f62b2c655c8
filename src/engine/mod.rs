use serde::{Deserialize, Serialize};

use crate::model::{Actor, CommitId, Event, Stamp};

/// Where one environment stands: the fold of its events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {}

impl State {
    /// Takes in one event of the commit that holds it.
    pub fn apply(&mut self, _commit: &CommitId, _event: &Event) {}

    /// Takes in a commit that piton did not write, or whose events cannot be read.
    pub fn apply_foreign(&mut self, _commit: &CommitId, _at: Stamp, _author: &Actor, _why: &str) {}
}
