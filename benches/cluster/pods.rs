//! What an onlooker sees of a workload's pods, with the moment each thing was seen.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use tokio::{sync::watch, task::JoinHandle};

/// The pods of one namespace, as they are from one moment to the next.
pub struct Onlooker {
    seen: watch::Receiver<Pods>,
    task: JoinHandle<()>,
}

/// By UID.
#[derive(Debug, Clone, Default)]
pub struct Pods(BTreeMap<String, One>);

#[derive(Debug, Clone)]
struct One {
    tag: String,
    ready: bool,
    going: bool,
    /// Since when a container of it waits with a reason that is visibly bad.
    broken: Option<Instant>,
}

impl Onlooker {
    pub fn of(client: &Client, namespace: &str) -> Onlooker {
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let (send, seen) = watch::channel(Pods::default());
        let task = tokio::spawn(async move {
            let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
            while let Some(event) = events.next().await {
                let Ok(event) = event else { continue };
                send.send_modify(|pods| pods.take(event));
            }
        });
        Onlooker { seen, task }
    }

    /// The moment in which this was first seen to be so, or what was there at the end of the time.
    pub async fn until(&self, within: Duration, so: impl Fn(&Pods) -> bool) -> Result<Instant, String> {
        let mut seen = self.seen.clone();
        let waited = tokio::time::timeout(within, seen.wait_for(so)).await;
        match waited {
            Ok(Ok(_)) => Ok(Instant::now()),
            Ok(Err(_)) | Err(_) => Err(format!("not within {within:?}: {:?}", self.seen.borrow().0)),
        }
    }

    /// When the first pod with this tag was seen to be broken.
    pub fn broken(&self, tag: &str) -> Option<Instant> {
        let pods = self.seen.borrow();
        pods.0.values().filter(|pod| pod.tag == tag).filter_map(|pod| pod.broken).min()
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pods {
    /// So many pods serve this tag, and no pod with another one is left.
    pub fn only(&self, tag: &str, replicas: usize) -> bool {
        let serving = self.0.values().filter(|pod| pod.tag == tag && pod.ready && !pod.going).count();
        serving >= replicas && self.0.values().all(|pod| pod.tag == tag || pod.going)
    }

    /// So many pods serve this tag, and none with that one is left.
    pub fn back(&self, to: &str, from: &str, replicas: usize) -> bool {
        let serving = self.0.values().filter(|pod| pod.tag == to && pod.ready && !pod.going).count();
        serving >= replicas && self.0.values().all(|pod| pod.tag != from || pod.going)
    }

    /// A pod with this tag is there.
    pub fn any(&self, tag: &str) -> bool {
        self.0.values().any(|pod| pod.tag == tag)
    }

    fn take(&mut self, event: Event<Pod>) {
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let before = self.0.get(&uid).and_then(|one| one.broken);
                let broken = before.or_else(|| is_broken(&pod).then(Instant::now));
                self.0.insert(uid, One { broken, ..one(&pod) });
            }
            // A pod that was seen to be broken and is gone stays known as going, for the moment in which it was seen.
            Event::Delete(pod) => {
                if let Some(one) = self.0.get_mut(&pod.metadata.uid.unwrap_or_default()) {
                    (one.going, one.ready) = (true, false);
                }
            }
            Event::Init | Event::InitDone => {}
        }
    }
}

fn one(pod: &Pod) -> One {
    let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()).and_then(|c| c.image.clone());
    let tag = image.as_deref().and_then(|image| image.rsplit(':').next()).unwrap_or_default().to_owned();
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
    One { tag, ready, going: pod.metadata.deletion_timestamp.is_some(), broken: None }
}

fn is_broken(pod: &Pod) -> bool {
    let containers = pod.status.iter().filter_map(|status| status.container_statuses.as_ref()).flatten();
    let waiting = containers.filter_map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    waiting.into_iter().any(|reason| matches!(reason, "CrashLoopBackOff" | "ImagePullBackOff" | "ErrImagePull"))
}
