//! Objects that another program is at work on, such as Helm or a GitOps tool: whether one of them is visibly broken
//! after it was changed. What was broken before, and waits for that program to mend it, does not count.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use kube::{
    api::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};

use super::{Config, Ended, watch};
use crate::{
    clients::kube::{Cluster, ObjectId},
    targets::{Progress, kubernetes::health::Trouble},
};

/// How many objects are asked for at the same time.
const AT_ONCE: usize = 8;

/// Which incarnation of an object it is, and which of its specifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    uid: Option<String>,
    generation: Option<i64>,
}

impl Mark {
    fn of(object: &DynamicObject) -> Mark {
        Mark { uid: object.metadata.uid.clone(), generation: object.metadata.generation }
    }
}

/// Whether pods come from it.
pub fn runs_pods(id: &ObjectId) -> bool {
    matches!(
        (id.group(), id.kind.as_str()),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch", "Job") | ("", "Pod")
    )
}

/// How these objects are before anything is done; those that are not there are left out.
pub async fn marks(cluster: &Cluster, ids: &BTreeSet<ObjectId>) -> BTreeMap<ObjectId, Mark> {
    let looks: Vec<_> = ids.iter().map(|id| mark(cluster, id).boxed()).collect();
    let found: Vec<Option<(ObjectId, Mark)>> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    found.into_iter().flatten().collect()
}

async fn mark(cluster: &Cluster, id: &ObjectId) -> Option<(ObjectId, Mark)> {
    let found = cluster.api(id).await.ok()?.get_opt(&id.name).await.ok()??;
    Some((id.clone(), Mark::of(&found)))
}

/// Waits until the object is there, or is another one than before, and then until it is ready or visibly broken;
/// only the latter is told.
pub async fn broken(
    cluster: &Cluster,
    id: ObjectId,
    before: Option<&Mark>,
    config: &Config,
    progress: &Progress,
) -> Option<Box<Trouble>> {
    changed(cluster, &id, before).await?;
    match watch(cluster, std::slice::from_ref(&id), config, progress).await {
        Ended::Broken(trouble) => Some(trouble),
        Ended::Ready { .. } | Ended::TimeOut { .. } | Ended::Unknown { .. } => None,
    }
}

async fn changed(cluster: &Cluster, id: &ObjectId, before: Option<&Mark>) -> Option<()> {
    let api = cluster.api(id).await.ok()?;
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
