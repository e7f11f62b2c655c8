//! Somebody who never looks away: which pods users reach, and whether there was a moment without any.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    runtime::watcher::{self, Event},
};
use piton::clients::kube::{Cluster, Place};
use tokio_util::sync::CancellationToken;

/// Watches the pods behind the Service of one namespace, with a connection of its own that no fault touches.
pub struct Watchman {
    seen: Arc<Mutex<Seen>>,
    off_duty: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// The version of every pod that is ready and stays, by UID.
    serving: BTreeMap<String, String>,
    on_duty: bool,
    /// What was left in the moment without anybody.
    gap: Option<String>,
}

impl Watchman {
    pub fn of(kubeconfig: &Path, namespace: &str) -> Watchman {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let off_duty = CancellationToken::new();
        let (place, namespace) =
            (Place { kubeconfig: Some(kubeconfig.to_owned()), context: None }, namespace.to_owned());
        let (notes, over) = (seen.clone(), off_duty.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let cluster = Cluster::connect(&place).await.expect("the file is right");
                let pods: Api<Pod> = Api::namespaced(cluster.client, &namespace);
                let config = watcher::Config::default().labels("app=web");
                let mut events = watcher::watcher(pods, config).boxed();
                loop {
                    tokio::select! {
                        // While the API server is away nothing is known, and nothing is noted.
                        event = events.next() => if let Some(Ok(event)) = event { lock(&notes).take(event) },
                        () = over.cancelled() => break,
                    }
                }
            });
        });
        Watchman { seen, off_duty, thread: Some(thread) }
    }

    /// From here on somebody must be served at every moment.
    pub fn begin(&self) {
        lock(&self.seen).on_duty = true;
    }

    pub fn was_always_served(&self) -> bool {
        lock(&self.seen).gap.is_none()
    }

    /// The versions of the pods that users reach.
    pub fn serving(&self) -> Vec<String> {
        lock(&self.seen).serving.values().cloned().collect()
    }
}

impl Drop for Watchman {
    fn drop(&mut self) {
        self.off_duty.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Seen {
    fn take(&mut self, event: Event<Pod>) {
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                match is_serving(&pod) {
                    true => self.serving.insert(uid, version(&pod)),
                    false => self.serving.remove(&uid),
                };
            }
            Event::Delete(pod) => {
                self.serving.remove(&pod.metadata.uid.unwrap_or_default());
            }
            Event::Init | Event::InitDone => {}
        }
        if self.on_duty && self.serving.is_empty() && self.gap.is_none() {
            self.gap = Some("nothing".to_owned());
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_serving(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

fn version(pod: &Pod) -> String {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let image = container.and_then(|container| container.image.as_deref()).unwrap_or_default();
    image.rsplit(':').next().unwrap_or_default().to_owned()
}
