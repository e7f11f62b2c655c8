//! Looks over the tool's shoulder: whether the pods of what it makes are visibly broken, which the tool itself may say
//! minutes later or never.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{
    config::{Tool, Unit},
    inventory,
};
use crate::{
    clients::kube::{Cluster, ObjectId},
    model::Span,
    targets::{
        Progress, TargetError,
        helm::{Shoulder, Storage, known_objects},
        kubernetes::{
            health::Trouble,
            rollout::{
                self, Ended,
                touched::{self, Mark},
            },
        },
    },
};

/// The cluster in which the tool's pods run, and how they were before the push.
pub struct Pods<'a> {
    cluster: Cluster,
    unit: &'a Unit,
    progress: &'a Progress,
    until: Instant,
    /// What the tool listed before, and how that was; what could not be looked at has no mark.
    listed: BTreeSet<ObjectId>,
    marks: BTreeMap<ObjectId, Mark>,
    /// Helm's memory, in which a new revision stands before anything of it is made.
    helm: Option<(Storage, String, u64)>,
}

impl<'a> Pods<'a> {
    /// Looks at everything before it is changed.
    pub async fn before(
        cluster: Cluster,
        unit: &'a Unit,
        object: &Value,
        progress: &'a Progress,
        until: Instant,
    ) -> Pods<'a> {
        let mut listed = inventory::objects(unit, object);
        let mut helm = None;
        if unit.tool == Tool::FluxHelmRelease {
            let (storage, namespace) = helm_memory(&cluster, unit, object);
            // Without the right to read it, the tool's own word counts.
            if let Ok(revisions) = storage.revisions().await
                && let Ok(known) = known_objects(&cluster, &storage, &namespace, &revisions).await
            {
                listed.extend(known);
                helm = Some((storage, namespace, revisions.last().map_or(0, |revision| revision.number)));
            }
        }
        listed.retain(touched::runs_pods);
        let marks = touched::marks(&cluster, &listed).await;
        Pods { cluster, unit, progress, until, listed, marks, helm }
    }

    /// Ends only when something that the tool has changed since is visibly broken; `told` is what it lists.
    pub async fn broken(&self, told: watch::Receiver<BTreeSet<ObjectId>>) -> Box<Trouble> {
        match &self.helm {
            Some((storage, namespace, last)) => {
                let (cluster, before, progress) = (&self.cluster, &self.marks, self.progress);
                let rollout = self.config();
                Shoulder { cluster, storage, namespace, last: *last, before, rollout, progress }.broken().await
            }
            // What a HelmRelease lists, it lists when all is over.
            None if self.unit.tool == Tool::FluxHelmRelease => std::future::pending().await,
            None => self.broken_of(told).await,
        }
    }

    async fn broken_of(&self, mut told: watch::Receiver<BTreeSet<ObjectId>>) -> Box<Trouble> {
        let config = self.config();
        let mut watched = FuturesUnordered::new();
        let mut known = BTreeSet::new();
        let unseen = |id: &ObjectId| self.listed.contains(id) && !self.marks.contains_key(id);
        loop {
            let mut listed = self.listed.clone();
            listed.extend(told.borrow_and_update().iter().filter(|id| touched::runs_pods(id)).cloned());
            for id in listed {
                if known.insert(id.clone()) && !unseen(&id) {
                    let before = self.marks.get(&id);
                    watched.push(touched::broken(&self.cluster, id, before, &config, self.progress));
                }
            }
            tokio::select! {
                Some(ended) = watched.next() => if let Some(trouble) = ended {
                    return trouble;
                },
                // Whoever tells waits for the end as well.
                more = told.changed() => if more.is_err() {
                    return std::future::pending().await;
                },
            }
        }
    }

    /// The tool says that all is well: waits until the pods say so, too. Gives what there is to note.
    pub async fn settled(&self, object: &Value) -> Result<Option<String>, TargetError> {
        let ids: Vec<ObjectId> = inventory::objects(self.unit, object).into_iter().filter(lasts).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        match rollout::watch(&self.cluster, &ids, &self.config(), self.progress).await {
            Ended::Ready { note } => Ok(Some(note)),
            Ended::Unknown { why } => Ok(Some(format!("by the tool's word alone: {why}"))),
            broken @ (Ended::Broken(_) | Ended::TimeOut { .. }) => broken.into_result().map(Some),
        }
    }

    fn config(&self) -> rollout::Config {
        let left_ms = self.until.saturating_duration_since(Instant::now()).as_millis();
        rollout::Config::within(Span(u64::try_from(left_ms).unwrap_or(u64::MAX)))
    }
}

/// Whether it is there for good: a Job may be cleared away when it is done.
pub fn lasts(id: &ObjectId) -> bool {
    id.group() == "apps" && matches!(id.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet")
}

/// Where Helm keeps the revisions of a HelmRelease, and the namespace of objects that name none.
fn helm_memory(cluster: &Cluster, unit: &Unit, object: &Value) -> (Storage, String) {
    let spec = &object["spec"];
    let own = unit.name.namespace.as_str();
    let target = spec["targetNamespace"].as_str();
    let composed = || match target {
        Some(target) => format!("{target}-{}", unit.name.name),
        None => unit.name.name.clone(),
    };
    let release = spec["releaseName"].as_str().map_or_else(composed, str::to_owned);
    let storage = Storage::new(cluster, spec["storageNamespace"].as_str().unwrap_or(own), &release);
    (storage, target.unwrap_or(own).to_owned())
}
