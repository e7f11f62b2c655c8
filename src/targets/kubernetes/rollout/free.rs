//! A StatefulSet that keeps its order waits for every pod to be ready before it replaces the next, also for a pod of
//! the very revision that it is to leave: after a bad release it would never go back by itself. Such a pod serves
//! nobody and is to be replaced in any case, so on the way back it is evicted; to take it away is the remedy of
//! Kubernetes' documentation, and by eviction a disruption budget has its say. On the way forward nobody is in the way:
//! an old pod that is not ready for a moment may hold data that others wait for.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, EvictParams, Preconditions},
};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{picture::Picture, related, related::text};
use crate::{
    clients::kube::{Cluster, KubeError, ObjectId},
    targets::kubernetes::{
        health::{self, pods},
        refusals,
    },
};

/// How long a pod in the way may still become ready.
const MEND_WITHIN: Duration = Duration::from_secs(2);
/// After a no it is asked again as late as this.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(5);
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Pods of the revision that is left which hold up their StatefulSet: each is asked to go at its moment.
#[derive(Default)]
pub(super) struct InTheWay {
    due: BTreeMap<String, Instant>,
    /// Those who stay, and why.
    stays: BTreeMap<String, (ObjectId, String)>,
}

/// One pod to evict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stuck {
    pub id: ObjectId,
    pub uid: String,
}

impl InTheWay {
    /// The pods whose moment has come, at most one of each StatefulSet, and when to ask again.
    pub fn ripe(&mut self, picture: &Picture, now: Instant) -> (Vec<Stuck>, Option<Instant>) {
        let mut known = std::mem::take(&mut self.due);
        let mut stays = std::mem::take(&mut self.stays);
        let (mut ripe, mut again) = (Vec::new(), None);
        let sets = picture.wanted.iter().filter_map(|id| picture.object(id));
        for pod in sets.filter_map(|set| of_set(picture, set)) {
            let uid = text(&pod["metadata"]["uid"]).to_owned();
            let due = known.remove(&uid).unwrap_or(now + MEND_WITHIN);
            self.due.insert(uid.clone(), due);
            self.stays.extend(stays.remove_entry(&uid));
            match ObjectId::of(pod).filter(|_| now >= due) {
                Some(id) => ripe.push(Stuck { id, uid }),
                None => again = Some(again.map_or(due, |at: Instant| at.min(due))),
            }
        }
        (ripe, again)
    }

    /// What the API server said to it.
    pub fn answered(&mut self, pod: &Stuck, answer: Result<(), String>, now: Instant) {
        self.due.insert(pod.uid.clone(), now + ASKED_AGAIN_AFTER);
        match answer {
            Ok(()) => drop(self.stays.remove(&pod.uid)),
            Err(why) => {
                let why =
                    format!("it is of the revision before, holds up its StatefulSet and cannot be evicted: {why}");
                self.stays.insert(pod.uid.clone(), (pod.id.clone(), why));
            }
        }
    }

    /// Pods that hold up their StatefulSet and stay, with the reason.
    pub fn who_stay(&self) -> impl Iterator<Item = &(ObjectId, String)> {
        self.stays.values()
    }
}

/// The one pod of a StatefulSet that is in the way: of all that are not ready the one with the highest number, if it is
/// of the revision that is left. Pods above it that are missing come only when it is gone: the controller makes none
/// while a lower one is not ready.
fn of_set<'a>(picture: &'a Picture, set: &'a Value) -> Option<&'a Value> {
    let spec = &set["spec"];
    let ordered = spec["podManagementPolicy"] != "Parallel" && spec["updateStrategy"]["type"] != "OnDelete";
    if set["kind"] != "StatefulSet" || !ordered || !health::is_observed(set) {
        return None;
    }
    let revision = text(&set["status"]["updateRevision"]);
    let partition = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
    let number = |pod: &Value| text(&pod["metadata"]["name"]).rsplit('-').next().and_then(|n| n.parse::<i64>().ok());
    let unready = related::own_pods(picture, set).into_iter().filter(|pod| !pods::is_ready(pod));
    let highest = unready.filter(|pod| number(pod).is_some()).max_by_key(|pod| number(pod))?;
    let meta = &highest["metadata"];
    let old = text(&meta["labels"]["controller-revision-hash"]) != revision && number(highest) >= Some(partition);
    (old && !revision.is_empty() && meta["deletionTimestamp"].is_null()).then_some(highest)
}

/// Asks the API server to evict it, if it is still the same pod; why it is not, otherwise.
pub(super) async fn evict(cluster: &Cluster, pod: &Stuck) -> Result<(), String> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), pod.id.namespace.as_deref().unwrap_or_default());
    let same = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
    let options = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
    let params = EvictParams { delete_options: Some(options), ..EvictParams::default() };
    let why = match timeout(ANSWERED_WITHIN, pods.evict(&pod.id.name, &params)).await {
        Ok(Ok(_)) => {
            tracing::info!(pod = pod.id.name, "evicted: it held up the way back of its StatefulSet");
            return Ok(());
        }
        Ok(Err(error)) => match KubeError::from(error) {
            // Another pod has its name, or none: it is out of the way.
            error if matches!(error.code(), Some(404 | 409)) => return Ok(()),
            error => refusals::with_hint(&error),
        },
        // The client itself asks again where a disruption budget says "not now".
        Err(_) => format!("no yes within {} s, as where a disruption budget allows none", ANSWERED_WITHIN.as_secs()),
    };
    tracing::warn!(pod = pod.id.name, why, "it holds up the way back of its StatefulSet and cannot be evicted");
    Err(why)
}
