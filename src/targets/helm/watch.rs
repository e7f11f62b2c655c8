//! Watches the objects of a release while Helm is still at work on them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    objects,
    storage::{Content, Revision, Status, Storage, StorageError},
};
use crate::{
    clients::kube::{Cluster, ObjectId},
    targets::{
        Progress,
        kubernetes::{
            health::Trouble,
            rollout::{
                self,
                touched::{self, Mark},
            },
        },
    },
};

/// What pods come from before an upgrade: of the last revision, and of the last that Helm took for good.
pub async fn known_objects(
    cluster: &Cluster,
    storage: &Storage,
    namespace: &str,
    revisions: &[Revision],
) -> Result<BTreeSet<ObjectId>, StorageError> {
    let last = revisions.last();
    let good = revisions.iter().rev().find(|revision| revision.status == Status::Deployed);
    let mut ids = BTreeSet::new();
    for revision in last.into_iter().chain(good.filter(|good| Some(*good) != last)) {
        let content = storage.content(revision).await?;
        let mut parsed = objects::parse(&content.manifest).unwrap_or_default();
        parsed.extend(content.hooks.iter().flat_map(|hook| objects::parse(hook).unwrap_or_default()));
        let names = objects::names(cluster, &parsed, namespace).await;
        ids.extend(names.into_iter().filter(touched::runs_pods));
    }
    Ok(ids)
}

/// What is needed to look over Helm's shoulder.
pub struct Shoulder<'a> {
    pub cluster: &'a Cluster,
    pub storage: &'a Storage,
    /// Of objects whose manifest names none.
    pub namespace: &'a str,
    /// The newest revision before Helm was started.
    pub last: u64,
    pub before: &'a BTreeMap<ObjectId, Mark>,
    pub rollout: rollout::Config,
    pub progress: &'a Progress,
}

impl Shoulder<'_> {
    /// Ends only when something that Helm has just changed is visibly broken. What was broken before, and waits for
    /// Helm to mend it, does not count.
    pub async fn broken(&self) -> Box<Trouble> {
        let content = self.coming().await;
        let manifests = std::iter::once(&content.manifest).chain(&content.hooks);
        let parsed: Vec<_> = manifests.filter_map(|text| objects::parse(text).ok()).flatten().collect();
        let ids = objects::names(self.cluster, &parsed, self.namespace).await;
        let watched = ids.into_iter().filter(touched::runs_pods).map(|id| {
            let before = self.before.get(&id);
            touched::broken(self.cluster, id, before, &self.rollout, self.progress)
        });
        let mut watched: FuturesUnordered<_> = watched.collect();
        while let Some(trouble) = watched.next().await {
            if let Some(trouble) = trouble {
                return trouble;
            }
        }
        // All is well; how it ends is Helm's to say.
        std::future::pending().await
    }

    /// What Helm writes down before it touches anything.
    async fn coming(&self) -> Content {
        let found = async {
            let revision = self.storage.next_after(self.last).await?;
            self.storage.content(&revision).await
        };
        match found.await {
            Ok(content) => content,
            // Helm will say itself what is wrong; the objects are looked at after it.
            Err(_) => std::future::pending().await,
        }
    }
}
