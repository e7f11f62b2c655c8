//! Looks all the time whether users are led to something that has too few ready pods for them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;

use crate::{
    cluster::Cluster,
    kinds::Kind,
    world::{PODS, World},
};

/// Between two looks, so that the machine gets to do something else too.
const PAUSE: Duration = Duration::from_millis(20);

/// A look that goes on beside a story.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Vec<String>>>,
    looks: tokio::task::JoinHandle<usize>,
}

/// What is looked at, and how many pods all users need.
#[derive(Clone)]
struct Sight {
    cluster: &'static Cluster,
    namespace: String,
    kind: Kind,
    pods: u64,
    /// So many fewer are allowed for: a Deployment that is rolled under its users does without.
    spare: u64,
}

impl Watcher {
    /// Looks at the route of a world: each Service has the pods for its part of the users.
    pub fn of(world: &World) -> Watcher {
        Watcher::of_pods(world, PODS, 0)
    }

    /// The same with another number of pods for all users, and some that may be missing.
    pub fn of_pods(world: &World, pods: u32, spare: u32) -> Watcher {
        let (cluster, namespace, kind) = (world.cluster, world.namespace.clone(), world.kind);
        let sight = Sight { cluster, namespace, kind, pods: pods.into(), spare: spare.into() };
        let stop = Arc::new(AtomicBool::new(false));
        let found = Arc::new(Mutex::new(Vec::new()));
        let looks = tokio::spawn(look(sight, stop.clone(), found.clone()));
        Watcher { stop, found, looks }
    }

    /// Ends the look; nobody was ever led astray.
    pub async fn saw_nothing_wrong(self) {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.looks.await.expect("it looked");
        let found = self.found.lock().expect("no panic while it is held").clone();
        assert!(found.is_empty(), "users were led where there was no room for them: {}", found.join("; "));
        assert!(looks > 3, "it looked only {looks} times");
    }
}

async fn look(sight: Sight, stop: Arc<AtomicBool>, found: Arc<Mutex<Vec<String>>>) -> usize {
    let mut looks = 0;
    let mut pace = tokio::time::interval(PAUSE);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let before = ready(sight.cluster, &sight.namespace).await;
        let Some(led) = sight.kind.led(sight.cluster, &sight.namespace).await else { continue };
        let after = ready(sight.cluster, &sight.namespace).await;
        for (service, needed) in needed(&led, sight.pods) {
            let few = |ready: &[(String, u64)]| {
                let all: u64 = ready.iter().filter(|(name, _)| *name == service).map(|(_, count)| count).sum();
                all < needed.saturating_sub(sight.spare).max(u64::from(needed > 0))
            };
            // Before and after: what changed in between says nothing.
            if few(&before) && few(&after) {
                let what = format!("{service} needs {needed} pods by {led:?}, and there are {before:?}");
                found.lock().expect("no panic while it is held").push(what);
            }
        }
        looks += 1;
    }
    looks
}

/// The pods that each Service needs for its part. A weight is a whole number: a hundredth of a pod is none.
fn needed(led: &[(String, u64)], pods: u64) -> Vec<(String, u64)> {
    let total = led.iter().map(|(_, weight)| weight).sum::<u64>().max(1);
    let hundredths = |weight: u64| weight * pods * 100 / total;
    led.iter().map(|(service, weight)| (service.clone(), of_hundredths(hundredths(*weight), *weight))).collect()
}

fn of_hundredths(hundredths: u64, weight: u64) -> u64 {
    hundredths.saturating_sub(1).div_ceil(100).max(u64::from(weight > 0))
}

#[test]
fn a_part_needs_its_pods() {
    let needed = |web: u64, canary: u64, pods: u64| {
        let led = [("web".to_owned(), web), ("canary".to_owned(), canary)];
        needed(&led, pods).into_iter().map(|(_, needed)| needed).collect::<Vec<_>>()
    };
    assert_eq!(needed(10_000, 0, 4), [4, 0]);
    assert_eq!(needed(5_000, 5_000, 4), [2, 2]);
    assert_eq!(needed(4_999, 5_001, 4), [2, 2]);
    assert_eq!(needed(4_000, 6_000, 4), [2, 3]);
    assert_eq!(needed(9_950, 50, 4), [4, 1]);
    assert_eq!(needed(3_334, 6_666, 6), [2, 4]);
}

/// How many ready endpoints each Service has.
async fn ready(cluster: &Cluster, namespace: &str) -> Vec<(String, u64)> {
    let count = |slice: &Value| {
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count() as u64
    };
    let slices = cluster.list("endpointslices", namespace, "").await;
    let service = |slice: &Value| {
        slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default().to_owned()
    };
    slices.iter().map(|slice| (service(slice), count(slice))).collect()
}
