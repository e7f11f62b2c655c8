//! Looks all the time whether users are led to something that has no ready pod.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use serde_json::Value;

use crate::{cluster::Cluster, kinds::Kind, world::World};

/// A look that goes on beside a story.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Vec<String>>>,
    looks: tokio::task::JoinHandle<usize>,
}

impl Watcher {
    /// Looks at the HTTPRoute of a world.
    pub fn of(world: &World) -> Watcher {
        assert_eq!(world.kind, Kind::Gateway, "it reads HTTPRoutes");
        let stop = Arc::new(AtomicBool::new(false));
        let found = Arc::new(Mutex::new(Vec::new()));
        let looks = tokio::spawn(look(world.cluster, world.namespace.clone(), stop.clone(), found.clone()));
        Watcher { stop, found, looks }
    }

    /// Ends the look; nobody was ever led astray.
    pub async fn saw_nothing_wrong(self) {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.looks.await.expect("it looked");
        let found = self.found.lock().expect("no panic while it is held").clone();
        assert!(found.is_empty(), "users were led to nothing: {}", found.join("; "));
        assert!(looks > 3, "it looked only {looks} times");
    }
}

async fn look(
    cluster: &'static Cluster,
    namespace: String,
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Vec<String>>>,
) -> usize {
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        let before = ready(cluster, &namespace).await;
        let Some(route) = cluster.get("httproutes.gateway.networking.k8s.io", &namespace, "web").await else {
            continue;
        };
        let after = ready(cluster, &namespace).await;
        for backend in route["spec"]["rules"][1]["backendRefs"].as_array().into_iter().flatten() {
            let name = backend["name"].as_str().unwrap_or_default();
            let led = backend["weight"].as_u64().unwrap_or(1) > 0;
            let nobody =
                |ready: &[(String, usize)]| !ready.iter().any(|(service, count)| service == name && *count > 0);
            // Before and after: what changed in between says nothing.
            if led && nobody(&before) && nobody(&after) {
                let what = format!("{name} with {} and {before:?}", route["spec"]["rules"][1]["backendRefs"]);
                found.lock().expect("no panic while it is held").push(what);
            }
        }
        looks += 1;
    }
    looks
}

/// How many ready endpoints each Service has.
async fn ready(cluster: &Cluster, namespace: &str) -> Vec<(String, usize)> {
    let count = |slice: &Value| {
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
    };
    let slices = cluster.list("endpointslices", namespace, "").await;
    let service = |slice: &Value| {
        slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default().to_owned()
    };
    slices.iter().map(|slice| (service(slice), count(slice))).collect()
}
