//! Plays nodes: their leases, and the pods that the scheduler gives them. What a pod does is said by its image's tag.

pub mod behaviour;
mod config;
pub mod container;
mod events;
mod logs;
mod pod;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt, utils::Backoff, watcher},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use container::Pace;
use events::Voice;
use logs::Logs;

/// Until a broken watch or an unwritten lease is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What all pods here share.
pub struct World {
    client: Client,
    voice: Voice,
    logs: Logs,
    pace: Pace,
    addresses: AtomicU32,
    /// Nodes that are away: their leases are not renewed, and nothing happens on them.
    lost: watch::Sender<BTreeSet<String>>,
}

/// The nodes that we play.
pub struct FakeKubelet {
    world: Arc<World>,
    pub nodes: Vec<String>,
}

impl FakeKubelet {
    /// Registers `node-1`, `node-2`… and begins to play them.
    pub async fn start(client: Client, nodes: usize, pace: Pace, grace: Duration, folder: &Path) -> io::Result<Self> {
        let logs = Logs::default();
        let port = logs::serve(logs.clone(), &folder.join("certs")).await?;
        let voice = Voice::start(client.clone());
        let (lost, _) = watch::channel(BTreeSet::new());
        let world = Arc::new(World { client, voice, logs, pace, addresses: AtomicU32::new(0), lost });
        let nodes: Vec<_> = (1..=nodes).map(|number| format!("node-{number}")).collect();
        for name in &nodes {
            register(&world.client, name, port).await.map_err(io::Error::other)?;
            tokio::spawn(keep_lease(world.clone(), name.clone(), grace / 4));
        }
        tokio::spawn(play(world.clone(), nodes.iter().cloned().collect()));
        Ok(FakeKubelet { world, nodes })
    }

    /// A node falls silent: what ran there stays as it is, and the controllers find out after `node_grace_seconds`.
    pub fn lose_node(&self, name: &str) {
        assert!(self.nodes.iter().any(|node| node == name), "we do not play the node {name}");
        self.world.lost.send_modify(|lost| {
            lost.insert(name.to_owned());
        });
    }

    /// The node is back, and heeds what it has missed.
    pub fn find_node(&self, name: &str) {
        self.world.lost.send_modify(|lost| {
            lost.remove(name);
        });
    }
}

impl World {
    /// Waits as long as the node is away.
    async fn node_is_there(&self, name: &str) {
        let mut lost = self.lost.subscribe();
        // It fails only where the world ends.
        let _ = lost.wait_for(|lost| !lost.contains(name)).await;
    }

    /// An address from the range for benchmarks (RFC 2544), to which nothing is routed.
    fn next_address(&self) -> String {
        let [_, high, middle, low] = (self.addresses.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes();
        format!("198.{}.{middle}.{low}", 18 + high % 2)
    }
}

fn pods() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"))
}

/// Follows all pods, and gives each of ours a life of its own.
async fn play(world: Arc<World>, nodes: BTreeSet<String>) {
    let api: Api<DynamicObject> = Api::all_with(world.client.clone(), &pods());
    let bound = watcher::Config::default().fields("spec.nodeName!=");
    let mut changes = pin!(watcher(api, bound).backoff(Steady));
    let mut lives: BTreeMap<String, watch::Sender<DynamicObject>> = BTreeMap::new();
    let mut listed = BTreeSet::new();
    loop {
        // An error is a watch that begins again by itself.
        let Ok(change) = changes.try_next().await else { continue };
        match change {
            None => return,
            Some(watcher::Event::Init) => listed.clear(),
            Some(watcher::Event::InitApply(pod)) => {
                listed.insert(pod.uid().unwrap_or_default());
                tell(&world, &nodes, &mut lives, pod);
            }
            Some(watcher::Event::InitDone) => lives.retain(|uid, _| listed.contains(uid)),
            Some(watcher::Event::Apply(pod)) => tell(&world, &nodes, &mut lives, pod),
            Some(watcher::Event::Delete(pod)) => drop(lives.remove(&pod.uid().unwrap_or_default())),
        }
    }
}

fn tell(
    world: &Arc<World>,
    nodes: &BTreeSet<String>,
    lives: &mut BTreeMap<String, watch::Sender<DynamicObject>>,
    pod: DynamicObject,
) {
    let ours = pod.data["spec"]["nodeName"].as_str().is_some_and(|node| nodes.contains(node));
    let uid = pod.uid().unwrap_or_default();
    match lives.get(&uid) {
        Some(life) => drop(life.send_replace(pod)),
        None if ours => {
            let (sender, receiver) = watch::channel(pod);
            tokio::spawn(pod::Life::new(world.clone(), receiver).live());
            lives.insert(uid, sender);
        }
        None => {}
    }
}

async fn register(client: &Client, name: &str, port: u16) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": format!("zone-{name}"),
    });
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    let ours = PatchParams::apply("kubelet").force();
    nodes.patch(name, &ours, &Patch::Apply(&node)).await?;
    let status = json!({"status": node_status(name, port)});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

fn node_status(name: &str, port: u16) -> Value {
    let now = Timestamp::now();
    let room = json!({"cpu": "16", "memory": "64Gi", "pods": "1000", "ephemeral-storage": "100Gi"});
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "a node of the tests",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    json!({
        "capacity": room,
        "allocatable": room,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "kubeletVersion": "v1.36.3", "containerRuntimeVersion": "fake://1", "operatingSystem": "linux",
            "architecture": "amd64", "machineID": name, "systemUUID": name, "bootID": name, "kernelVersion": "6",
            "osImage": "tests", "kubeProxyVersion": "",
        },
    })
}

/// Renews the node's lease, and says that it is ready again where the controllers had given it up.
async fn keep_lease(world: Arc<World>, name: String, pace: Duration) {
    let lease_kind = ApiResource::from_gvk(&GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease"));
    let leases: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), "kube-node-lease", &lease_kind);
    let nodes: Api<Node> = Api::all(world.client.clone());
    loop {
        world.node_is_there(&name).await;
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now});
        let lease =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec});
        let renewed = leases.patch(&name, &PatchParams::apply("kubelet").force(), &Patch::Apply(&lease)).await;
        let ready = say_ready(&nodes, &name).await;
        let pause = if renewed.is_ok() && ready.is_ok() { pace.min(Duration::from_secs(5)) } else { AGAIN_AFTER };
        // polls a real condition: a lease is renewed at a fixed pace
        tokio::time::sleep(pause).await;
    }
}

async fn say_ready(nodes: &Api<Node>, name: &str) -> Result<(), kube::Error> {
    let node = nodes.get(name).await?;
    let status = node.status.unwrap_or_default();
    let ready = status.conditions.iter().flatten().find(|one| one.type_ == "Ready");
    if ready.is_some_and(|ready| ready.status == "True") {
        return Ok(());
    }
    let port = status.daemon_endpoints.and_then(|ends| ends.kubelet_endpoint).map_or(0, |end| end.port);
    let status = json!({"status": node_status(name, u16::try_from(port).unwrap_or(0))});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.map(drop)
}

/// The same short pause before each new try: the API server of a test is back soon.
struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(AGAIN_AFTER)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}
