//! Watches the objects of a release while Helm is still at work on them.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use kube::runtime::{WatchStreamExt, watcher};

use super::{
    config::Unit,
    objects::{self, Mark},
    storage::{Content, Storage},
};
use crate::{
    clients::kube::{Cluster, ObjectId},
    targets::{
        Progress,
        kubernetes::{
            health::Trouble,
            rollout::{self, Ended},
        },
    },
};

/// What is needed to look over Helm's shoulder.
pub struct Shoulder<'a> {
    pub cluster: &'a Cluster,
    pub storage: &'a Storage,
    pub unit: &'a Unit,
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
        let ids = objects::names(self.cluster, &parsed, &self.unit.namespace).await;
        let watched = ids.into_iter().filter(objects::runs_pods).map(|id| self.broken_one(id));
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

    async fn broken_one(&self, id: ObjectId) -> Option<Box<Trouble>> {
        self.changed(&id).await?;
        match rollout::watch(self.cluster, std::slice::from_ref(&id), &self.rollout, self.progress).await {
            Ended::Broken(trouble) => Some(trouble),
            Ended::Ready { .. } | Ended::TimeOut { .. } | Ended::Unknown { .. } => None,
        }
    }

    /// Waits until Helm has put the object there, or changed what it should be.
    async fn changed(&self, id: &ObjectId) -> Option<()> {
        let api = self.cluster.api(id).await.ok()?;
        let before = self.before.get(id);
        let stream = watcher::watch_object(api, &id.name).default_backoff();
        let mut stream = std::pin::pin!(stream);
        loop {
            // A watch that breaks is begun again by the stream itself.
            if let Ok(Some(Some(found))) = stream.try_next().await
                && before != Some(&Mark::of(&found))
            {
                return Some(());
            }
        }
    }
}
