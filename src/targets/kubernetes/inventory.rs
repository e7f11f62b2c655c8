//! What we know of our own in a cluster: one ConfigMap per environment, changed only by compare-and-swap. It names an object before
//! that is made, so that a runner killed at any moment leaves nothing that nobody knows of.

mod entries;
mod keep;

use std::collections::BTreeSet;

use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

pub use self::{
    entries::{Entries, Entry, made_since},
    keep::{Held, fence_of, hold, look},
};
use crate::{
    clients::kube::ObjectId,
    model::{EnvironmentName, TreeId},
};

const SCHEMA: u32 = 1;
/// What a ConfigMap holds at most, with some room for its metadata.
const BYTES_MAX: usize = 1_000_000;

/// The name under which we apply fields.
pub const MANAGER: &str = "piton";
/// On each object that we apply: the environment it belongs to.
pub const ENVIRONMENT_LABEL: &str = "piton.dev/environment";
/// On each object that we apply: the UID of the ConfigMap that lists it.
pub const INVENTORY_LABEL: &str = "piton.dev/inventory";
/// On each object that we apply: the tree it was applied from.
pub const TREE_ANNOTATION: &str = "piton.dev/tree";
/// On each object that we apply, and on the inventory: the number of the lease that it was written under.
pub const FENCE_ANNOTATION: &str = "piton.dev/fence";

/// The content of the ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    schema: u32,
    /// The highest number that anyone acted with.
    pub fence: u64,
    /// The release that users are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<TreeId>,
    /// The release that was tried last, before its users come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<TreeId>,
    /// A release whose objects are being written: whoever finds this knows that the end was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<TreeId>,
    /// What rendered the stable release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renderer: Option<String>,
    /// A release that has all but stable's own already, since the last step of its canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled: Option<TreeId>,
    /// What was made for the candidate before its canary came up, and goes again when it does not stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brought: Vec<ObjectId>,
    /// Jobs among the objects that the cluster collects when they are done.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub passing: BTreeSet<ObjectId>,
    #[serde(default)]
    pub objects: Entries,
}

impl Inventory {
    /// The releases that it speaks of.
    fn trees(&self) -> Vec<&TreeId> {
        [&self.stable, &self.candidate, &self.doing, &self.rolled].into_iter().flatten().collect()
    }

    /// Whether users are on this release and nothing of another is under way.
    pub fn stands(&self, tree: &TreeId) -> bool {
        self.stable.as_ref() == Some(tree) && self.doing.is_none() && self.rolled.is_none()
    }
}

/// The ConfigMap's name.
pub fn name(environment: &EnvironmentName) -> String {
    format!("piton-{environment}")
}

/// The moment of an object's creation in seconds, by the server's clock.
fn created_at(metadata: &ObjectMeta) -> Option<i64> {
    metadata.creation_timestamp.as_ref().map(|time| time.0.as_second())
}
