//! The good story and the bad one, by every router.

use futures_util::future::join_all;
use hyper::Method;
use piton::{
    model::Share,
    targets::kubernetes::canary::{Brought, Stable},
};
use serde_json::{Value, json};

use crate::{
    door::{Cut, Door},
    kinds::Kind,
    watcher::Watcher,
    world::{PODS, World, image, release, share},
};

/// More than an act makes.
const WRITES_MAX: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn every_router_promotes() {
    join_all(Kind::ALL.map(|kind| async move { promotes(World::with(kind).await).await })).await;
}

/// Whose way is looked at all the time; the looks of all would be the machine's main work.
const WATCHED: [Kind; 3] = [Kind::Nginx, Kind::Istio, Kind::Traefik];

async fn promotes(world: World) {
    let kind = world.kind;
    let watcher = WATCHED.contains(&kind).then(|| Watcher::of(&world));
    let before = world.state().await;
    let pods = world.stable_pods().await;
    let brought = world.bring_up(2).await.expect("it comes up");
    assert!(matches!(brought, Brought::Beside(_)), "{kind:?}: {brought:?}");
    assert_eq!(world.position().await, share("0%"), "{kind:?}");
    // Half of the users: with four pods a share that every router can say.
    for to in ["50%", "100%"] {
        let note = world.shift(2, to).await.unwrap_or_else(|error| panic!("{kind:?} to {to}: {error}"));
        assert!(note.contains("unverified"), "{kind:?}: {note}");
        assert_eq!(world.position().await, share(to), "{kind:?}");
        stable_is_untouched(&world, &before).await;
        assert_eq!(world.stable_pods().await, pods, "{kind:?} at {to}");
    }
    let canary = world.get("Deployment", "web-piton-canary").await.expect("a canary");
    assert_eq!(canary["spec"]["replicas"], PODS, "{kind:?}");
    assert_eq!(world.canary(&world.kube, 1).stable_after(&release(2).tree).await.expect("a look"), Stable::Untouched);
    world.promote(&world.kube, 2).await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    let after = world.state().await;
    assert_eq!(after["route"], before["route"], "{kind:?}");
    assert_eq!(after["ingresses"], before["ingresses"], "{kind:?}");
    assert_eq!(after["services"], before["services"], "{kind:?}");
    assert_eq!(after["configmaps"]["settings"], json!({"greeting": "hello from 2"}), "{kind:?}");
    assert_eq!(names(&after), names(&before), "{kind:?}");
    assert_eq!(after["deployments"]["web"][1]["spec"]["containers"][0]["image"], image(2), "{kind:?}");
    if let Some(watcher) = watcher {
        watcher.saw_nothing_wrong().await;
    }
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_router_aborts() {
    join_all(Kind::ALL.map(|kind| async move { aborts(World::with(kind).await).await })).await;
}

async fn aborts(world: World) {
    let kind = world.kind;
    let before = world.state().await;
    let pods = world.stable_pods().await;
    world.bring_up(2).await.expect("it comes up");
    for to in ["50%", "100%"] {
        world.shift(2, to).await.unwrap_or_else(|error| panic!("{kind:?} to {to}: {error}"));
    }
    let watcher = WATCHED.contains(&kind).then(|| Watcher::of(&world));
    let door = Door::open(&world.kube, WRITES_MAX, Cut::Before).await;
    let back = world.canary(&door.kube, 1).hand_back(None).await;
    let note = back.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    assert!(note.contains("on stable again"), "{kind:?}: {note}");
    users_went_first(kind, &door);
    if let Some(watcher) = watcher {
        watcher.saw_nothing_wrong().await;
    }
    world.cluster.wait_until("the canary is gone", || async { world.state().await == before }).await;
    assert_eq!(world.stable_pods().await, pods, "{kind:?}: going back restarts nothing");
    assert_eq!(world.hand_back().await.expect("again"), "", "{kind:?}: there is nothing left to do");
    world.gone().await;
}

/// By the order in which the server got the writes: all users are off the canary before anything of it is deleted.
fn users_went_first(kind: Kind, door: &Door) {
    let writes = door.writes.lock().expect("no panic while it is held");
    let told: Vec<String> = writes.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let first = writes.iter().position(|(method, ..)| *method == Method::DELETE).expect("something is deleted");
    if kind == Kind::Replicas {
        let pods = writes[..first].iter().filter(|(_, path, _)| path.contains("/pods/")).count();
        assert_eq!(pods, PODS as usize, "each is let out of the Service: {told:?}");
        return;
    }
    let wrote = |body: &[u8]| {
        let object: Value = serde_json::from_slice(body).ok()?;
        let record: Value =
            serde_json::from_str(object["metadata"]["annotations"]["piton.dev/traffic"].as_str()?).ok()?;
        serde_json::from_value::<Share>(record["share"].clone()).ok()
    };
    assert_eq!(wrote(&writes[0].2), Some(Share::NONE), "{kind:?}: {told:?}");
    assert!(first > 0, "{kind:?}: {told:?}");
}

/// Small shares, where the router can say them; never to a Service without pods.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_share_goes_where_there_are_ready_pods() {
    let world = World::with(Kind::Gateway).await;
    let watcher = Watcher::of(&world);
    world.bring_up(2).await.expect("it comes up");
    for to in ["0.5%", "12.34%", "100%"] {
        world.shift(2, to).await.expect(to);
        assert_eq!(world.position().await, share(to));
    }
    world.promote(&world.kube, 2).await.expect("it is promoted");
    world.bring_up(3).await.expect("it comes up");
    world.shift(3, "100%").await.expect("all");
    world.hand_back().await.expect("back");
    watcher.saw_nothing_wrong().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_share_says_how_coarse_it_is() {
    let world = World::with(Kind::Replicas).await;
    world.bring_up(2).await.expect("it comes up");
    let note = world.shift(2, "10%").await.expect("10%");
    assert!(note.contains("10% was asked for; 1 of 5 pods are 20%"), "{note}");
    assert_eq!(world.position().await, share("20%"));
    world.hand_back().await.expect("back");
    assert_eq!(world.position().await, share("0%"));
    world.gone().await;
}

/// Nothing that selects stable's pods selects the canary's, and it reads copies of what differs.
#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_beside_stable_and_not_in_it() {
    let world = World::with(Kind::Gateway).await;
    world
        .apply(&[crate::world::manifest(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": world.namespace},
            "spec": {"minAvailable": 3, "selector": {"matchLabels": {"team": "shop"}}},
        }))])
        .await;
    world.bring_up(2).await.expect("it comes up");
    world.shift(2, "50%").await.expect("half");
    let budget = || async { world.get("poddisruptionbudgets.policy", "web").await.expect("a budget") };
    let budget = world
        .cluster
        .wait_until("the budget counts", || async {
            let budget = budget().await;
            (budget["status"]["expectedPods"] == PODS).then_some(budget)
        })
        .await;
    assert_eq!(budget["status"]["currentHealthy"], PODS, "the canary's pods are not counted");
    let canary = world.get("Deployment", "web-piton-canary").await.expect("a canary");
    let container = &canary["spec"]["template"]["spec"]["containers"][0];
    let read = container["envFrom"][0]["configMapRef"]["name"].as_str().expect("a name");
    assert!(read.starts_with("settings-piton-"), "{read}");
    assert_eq!(container["envFrom"][1]["configMapRef"]["name"], "same");
    let copy = world.get("ConfigMap", read).await.expect("a copy");
    assert_eq!(copy["data"]["greeting"], "hello from 2");
    let stable = world.cluster.list("endpointslices", &world.namespace, "kubernetes.io/service-name=web").await;
    let pods: usize = stable.iter().map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(pods, PODS as usize);
    world.hand_back().await.expect("back");
    world.gone().await;
}

/// What stable reads and runs is what it was.
async fn stable_is_untouched(world: &World, before: &Value) {
    let state = world.state().await;
    for (kind, name) in [("deployments", "web"), ("configmaps", "settings"), ("configmaps", "same"), ("secrets", "key")]
    {
        assert_eq!(state[kind][name], before[kind][name], "{:?}: {kind} {name}", world.kind);
    }
}

fn names(state: &Value) -> Vec<String> {
    let kinds = state.as_object().expect("a map").iter();
    let inside = |(kind, all): (&String, &Value)| {
        let names = all.as_object().into_iter().flatten().map(|(name, _)| format!("{kind}/{name}"));
        names.collect::<Vec<_>>()
    };
    let mut names: Vec<String> = kinds.flat_map(inside).collect();
    names.sort();
    names
}

/// Testers and mirrors as the real definitions take them, and gone without a trace afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn testers_and_mirrors_are_what_the_definitions_allow() {
    join_all([Kind::Gateway, Kind::Istio].map(|kind| async move {
        let more = json!({"testers": {"header": {"x-canary": "yes"}}, "mirror": "10%"});
        let world = World::with_config(kind, more).await;
        let before = world.state().await;
        world.bring_up(2).await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        world.shift(2, "50%").await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let route = kind.route_of(&world).await.expect("a route");
        match kind {
            Kind::Istio => {
                assert_eq!(route["spec"]["http"][0]["match"][0]["headers"]["x-canary"], json!({"exact": "yes"}));
                assert_eq!(route["spec"]["http"][1]["mirrorPercentage"]["value"], 10);
            }
            _ => {
                let filter = &route["spec"]["rules"][1]["filters"][0]["requestMirror"];
                assert_eq!(filter["fraction"], json!({"numerator": 1_000, "denominator": 10_000}));
                let testers = world.get("httproutes.gateway.networking.k8s.io", "web-piton-testers").await;
                let testers = testers.expect("a route of ours");
                assert_eq!(testers["spec"]["rules"][0]["matches"][0]["headers"][0]["name"], "x-canary");
            }
        }
        world.hand_back().await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        world.cluster.wait_until("the canary is gone", || async { world.state().await == before }).await;
        world.gone().await;
    }))
    .await;
}

/// The definition of a GRPCRoute here is of a version without fractions.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_would_become_a_copy_of_everything_is_refused() {
    let world = World::with_config(Kind::Grpc, json!({"mirror": "10%"})).await;
    let before = world.state().await;
    let refused = world.bring_up(2).await.expect_err("all would be copied").to_string();
    assert!(refused.contains("knows no `fraction` of a mirror, and would copy every request"), "{refused}");
    assert_eq!(world.state().await, before, "it is said before anything is made");
    world.gone().await;
    let world = World::with_config(Kind::Grpc, json!({"mirror": "100%"})).await;
    world.bring_up(2).await.expect("a copy of everything is what was asked for");
    world.hand_back().await.expect("back");
    world.gone().await;
}
