//! A StatefulSet that keeps its order waits for every pod to be ready before it replaces the next, also for a pod of
//! the very revision that it is to leave: after a bad release it would never go back by itself. Such a pod serves
//! nobody and is to be replaced in any case, so it is deleted; this is the remedy of Kubernetes' documentation.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{picture::Picture, related, related::text};
use crate::{
    clients::kube::Cluster,
    targets::kubernetes::health::{self, pods},
};

/// How long a pod in the way may still become ready.
const MEND_WITHIN: Duration = Duration::from_secs(2);
const DELETED_WITHIN: Duration = Duration::from_secs(5);

/// Pods of a revision before that hold up their StatefulSet, and since when.
#[derive(Default)]
pub(super) struct InTheWay {
    since: BTreeMap<String, Instant>,
}

/// One pod to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stuck {
    pub namespace: String,
    pub name: String,
    uid: String,
}

impl InTheWay {
    /// The pods that have been in the way for long enough, and when to ask again for those that have not.
    pub fn ripe(&mut self, picture: &Picture, now: Instant) -> (Vec<Stuck>, Option<Instant>) {
        let mut known = std::mem::take(&mut self.since);
        let (mut ripe, mut again) = (Vec::new(), None);
        for pod in picture.wanted.iter().filter_map(|id| picture.object(id)).flat_map(|set| of_set(picture, set)) {
            let uid = text(&pod["metadata"]["uid"]).to_owned();
            let since = known.remove(&uid).unwrap_or(now);
            let end = since + MEND_WITHIN;
            if now < end {
                again = Some(again.map_or(end, |at: Instant| at.min(end)));
                self.since.insert(uid, since);
                continue;
            }
            let word = |key: &str| text(&pod["metadata"][key]).to_owned();
            ripe.push(Stuck { namespace: word("namespace"), name: word("name"), uid });
        }
        (ripe, again)
    }
}

fn of_set<'a>(picture: &'a Picture, set: &'a Value) -> Vec<&'a Value> {
    let spec = &set["spec"];
    let ordered = spec["podManagementPolicy"] != "Parallel" && spec["updateStrategy"]["type"] != "OnDelete";
    if set["kind"] != "StatefulSet" || !ordered || !health::is_observed(set) {
        return Vec::new();
    }
    let revision = text(&set["status"]["updateRevision"]);
    let partition = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
    let in_the_way = |pod: &&Value| {
        let meta = &pod["metadata"];
        let number = text(&meta["name"]).rsplit('-').next().and_then(|n| n.parse::<i64>().ok());
        let old = text(&meta["labels"]["controller-revision-hash"]) != revision && number >= Some(partition);
        old && !revision.is_empty() && meta["deletionTimestamp"].is_null() && !pods::is_ready(pod)
    };
    related::own_pods(picture, set).into_iter().filter(in_the_way).collect()
}

/// Deletes it, if it is still the same pod. What goes wrong shows in the StatefulSet, which then makes no progress.
pub(super) async fn delete(cluster: &Cluster, pod: &Stuck) {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &pod.namespace);
    let same = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
    let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
    match timeout(DELETED_WITHIN, pods.delete(&pod.name, &params)).await {
        Ok(Ok(_)) => tracing::info!(pod = pod.name, "deleted: it held up the rollout of its StatefulSet"),
        Ok(Err(error)) => tracing::warn!(pod = pod.name, %error, "it holds up its StatefulSet and cannot be deleted"),
        Err(_) => tracing::warn!(pod = pod.name, "it holds up its StatefulSet and was not deleted in time"),
    }
}
