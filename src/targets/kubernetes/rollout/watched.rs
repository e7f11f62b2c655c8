//! What is watched, and what is known of it beforehand.

use std::collections::BTreeSet;

use crate::clients::kube::ObjectId;

/// The objects of a rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    pub(super) objects: Vec<ObjectId>,
    /// Jobs that the cluster collects when they are done: not to be there is how they end.
    pub(super) passing: BTreeSet<ObjectId>,
    /// Whether pods of the revision that is left make way, see `free.rs`.
    pub(super) makes_way: bool,
}

impl Watched {
    /// The same; these Jobs are collected when they are done.
    pub fn with_passing(mut self, jobs: impl IntoIterator<Item = ObjectId>) -> Watched {
        self.passing.extend(jobs);
        self
    }

    /// The same on the way back: what is broken makes way for what was good.
    pub fn on_the_way_back(mut self) -> Watched {
        self.makes_way = true;
        self
    }
}

impl<T: AsRef<[ObjectId]> + ?Sized> From<&T> for Watched {
    fn from(objects: &T) -> Watched {
        Watched { objects: objects.as_ref().to_vec(), ..Watched::default() }
    }
}
