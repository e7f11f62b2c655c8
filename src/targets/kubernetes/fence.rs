//! Stops an act when someone with a newer lease begins one here: the number in the inventory is watched while objects are written.
//!
//! What is certain: an act that begins after the newer number was written is refused before its first write; one that is under way
//! starts no further request once the watch has told of it, or, while the watch is down, after the next rank; and it cannot write
//! the inventory. At most the requests under way at that moment still land. Where somebody deleted the inventory, the numbers on the
//! objects themselves tell who comes too late.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use tokio::task::JoinHandle;

use super::{
    inventory::{self, ENVIRONMENT_LABEL, Held},
    manifest::Manifest,
    refusals,
    stage::Stage,
};
use crate::{clients::kube::KubeError, targets::TargetError};

/// Objects that are looked at at the same time.
const AT_ONCE: usize = 8;

/// Watches as long as it is kept.
pub struct Guard {
    ours: u64,
    seen: Arc<Sight>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Sight {
    highest: AtomicU64,
    sees: AtomicBool,
}

impl Guard {
    /// Begins to watch after the inventory was written.
    pub fn over(held: &Held) -> Guard {
        let seen = Arc::new(Sight::default());
        seen.highest.store(held.fence, Ordering::Release);
        let watched = watch(
            held.configmaps().clone(),
            inventory::name(&held.environment),
            held.version().unwrap_or_default().to_owned(),
            seen.clone(),
        );
        Guard { ours: held.fence, seen, task: tokio::spawn(watched) }
    }

    /// Whether the act may go on, by what the watch has told.
    pub fn check(&self) -> Result<(), TargetError> {
        match self.seen.highest.load(Ordering::Acquire) {
            seen if seen > self.ours => Err(TargetError::Fenced { ours: self.ours, seen }),
            _ => Ok(()),
        }
    }

    /// The same; while the watch is down, the server is asked.
    pub async fn check_surely(&self, held: &Held) -> Result<(), TargetError> {
        if !self.seen.sees.load(Ordering::Acquire) {
            let there = held.fence_there().await?;
            self.seen.highest.fetch_max(there, Ordering::AcqRel);
        }
        self.check()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when the stream does; from then on the server is asked.
async fn watch(configmaps: Api<ConfigMap>, name: String, version: String, seen: Arc<Sight>) {
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let Ok(stream) = configmaps.watch_metadata(&params, &version).await else { return };
    seen.sees.store(true, Ordering::Release);
    let mut stream = std::pin::pin!(stream);
    while let Ok(Some(event)) = stream.try_next().await {
        match event {
            WatchEvent::Added(map) | WatchEvent::Modified(map) => {
                seen.highest.fetch_max(inventory::fence_of(&map.metadata), Ordering::AcqRel);
            }
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(_) => break,
        }
    }
    seen.sees.store(false, Ordering::Release);
}

/// Refuses whoever comes too late by the numbers on the objects themselves, where no inventory keeps the highest one.
pub async fn check_objects(stage: &Stage<'_>, manifests: &[Manifest]) -> Result<(), TargetError> {
    if stage.held.version().is_some() {
        return Ok(());
    }
    let looks = manifests.iter().map(|manifest| check_object(stage, manifest).boxed());
    let looks: Vec<_> = looks.collect();
    let seen: Vec<Result<(), TargetError>> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    seen.into_iter().collect()
}

async fn check_object(stage: &Stage<'_>, manifest: &Manifest) -> Result<(), TargetError> {
    let id = &manifest.id;
    let seen = match stage.cluster.seen(id).await {
        Ok(Some(seen)) => seen,
        // It comes with the release, and perhaps its kind does, too.
        Ok(None) | Err(KubeError::UnknownKind { .. }) => return Ok(()),
        Err(error) => return Err(refusals::about("look at", id, &error)),
    };
    let label = seen.labels.as_ref().and_then(|labels| labels.get(ENVIRONMENT_LABEL));
    let there = inventory::fence_of(&seen);
    match label.is_some_and(|label| label == stage.site.environment.as_str()) && there > stage.held.fence {
        true => Err(TargetError::Fenced { ours: stage.held.fence, seen: there }),
        false => Ok(()),
    }
}
