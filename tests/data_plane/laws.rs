//! Looks all the time at what the route says and at what is ready behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use piton::model::Stamp;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    users::now,
    world::{CANARY, Kind},
};

/// From one look to the next.
const PACE: Duration = Duration::from_millis(50);

/// What was to be seen in one look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    pub at: Stamp,
    /// The weight of each Service; `None` without a route.
    pub weights: Option<BTreeMap<String, u64>>,
    /// The addresses of the ready pods behind each Service.
    pub ready: BTreeMap<String, BTreeSet<String>>,
}

/// A look that goes on beside a story.
pub struct Laws {
    looks: Arc<Mutex<Vec<Look>>>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Laws {
    pub fn of(cluster: &'static Cluster, namespace: &str, kind: Kind) -> Laws {
        let (looks, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (notes, end, namespace) = (looks.clone(), over.clone(), namespace.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            while !end.load(Ordering::Relaxed) {
                let look = runtime.block_on(look(cluster, &namespace, kind));
                notes.lock().unwrap_or_else(PoisonError::into_inner).push(look);
                std::thread::park_timeout(PACE);
            }
        });
        Laws { looks, over, thread: Some(thread) }
    }

    /// Ends it, with everything that was seen. At no moment were all users led to nothing, and some pod was always ready.
    pub fn were_kept(mut self) -> Vec<Look> {
        self.end();
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(looks.len() > 3, "it looked only {} times", looks.len());
        for pair in looks.windows(2) {
            // Before and after: what changed in between says nothing.
            let astray = |look: &Look| look.leads_all_astray() && look.weights == pair[0].weights;
            assert!(!pair.iter().all(astray), "all users were led to nothing: {pair:?}");
            assert!(!pair.iter().all(Look::has_nobody), "no pod at all was ready: {pair:?}");
        }
        looks
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Laws {
    fn drop(&mut self) {
        self.end();
    }
}

impl Look {
    pub fn weight(&self, service: &str) -> u64 {
        self.weights.as_ref().and_then(|weights| weights.get(service).copied()).unwrap_or(0)
    }

    pub fn ready(&self, service: &str) -> usize {
        self.ready.get(service).map_or(0, BTreeSet::len)
    }

    fn leads_all_astray(&self) -> bool {
        let Some(weights) = &self.weights else { return false };
        let led = |service: &str| self.ready(service) > 0;
        !weights.iter().any(|(service, weight)| *weight > 0 && led(service))
    }

    fn has_nobody(&self) -> bool {
        self.ready.values().all(BTreeSet::is_empty)
    }
}

/// The addresses that the canary's pods had.
pub fn canary_addresses(looks: &[Look]) -> BTreeSet<String> {
    looks.iter().filter_map(|look| look.ready.get(CANARY)).flatten().cloned().collect()
}

async fn look(cluster: &'static Cluster, namespace: &str, kind: Kind) -> Look {
    let route = cluster.get(kind.route_kind(), namespace, "web").await;
    let mut ready: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for slice in cluster.list("endpointslices", namespace, "").await {
        let service = &slice["metadata"]["labels"]["kubernetes.io/service-name"];
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        let up = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let addresses = up.filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned));
        ready.entry(service.as_str().unwrap_or_default().to_owned()).or_default().extend(addresses);
    }
    let weights = route.map(|route| {
        let backends = route.pointer(kind.backends()).and_then(Value::as_array).cloned().unwrap_or_default();
        let name = |backend: &Value| backend["name"].as_str().unwrap_or_default().to_owned();
        backends.iter().map(|backend| (name(backend), backend["weight"].as_u64().unwrap_or(1))).collect()
    });
    Look { at: now(), weights, ready }
}
