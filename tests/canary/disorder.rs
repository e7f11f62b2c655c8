//! Other hands in the middle of a canary: on routes, on its Deployment, on the number of pods; and releases that are no good.

use piton::targets::{TargetError, kubernetes::canary::Brought};
use serde_json::json;

use crate::{
    kinds::Kind,
    watcher::Watcher,
    world::{World, image, manifest, only_stable, release, share},
};

const ROUTES: &str = "httproutes.gateway.networking.k8s.io";

/// A canary with a share, by the Gateway API.
async fn at(to: &str) -> World {
    let world = World::with(Kind::Gateway).await;
    world.bring_up(2).await.expect("it comes up");
    world.shift(2, to).await.expect(to);
    world
}

async fn patch(world: &World, object: &str, kind: &str, patch: &str) {
    let (namespace, kind) = (world.namespace.as_str(), format!("--type={kind}"));
    let words = ["patch", object, "-n", namespace, &kind, "--field-manager=mallory", "-p", patch];
    world.cluster.kubectl(&words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_weight_is_told_and_not_taken_over() {
    let world = at("50%").await;
    let edit = r#"[{"op": "replace", "path": "/spec/rules/1/backendRefs/1/weight", "value": 10}]"#;
    patch(&world, &format!("{ROUTES}/web"), "json", edit).await;
    let refused = world.shift(2, "100%").await.expect_err("the numbers are not ours").to_string();
    assert!(refused.contains("piton wrote 50% (mallory, 20"), "{refused}");
    assert!(refused.contains("piton goes no further"), "{refused}");
    let seen = world.canary(&world.kube, 1).look().await.expect("a look");
    assert!(seen.foreign.iter().any(|what| what.contains("mallory")), "{seen:?}");
    let note = world.hand_back().await.expect("the way back is always open");
    assert!(note.contains("mallory"), "{note}");
    let route = world.get(ROUTES, "web").await.expect("a route");
    only_stable(&route);
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_deleted_does_not_keep_the_canary() {
    let world = at("50%").await;
    world.cluster.kubectl(&["delete", &format!("{ROUTES}/web"), "-n", &world.namespace]).await;
    let seen = world.canary(&world.kube, 1).look().await.expect("a look");
    assert!(seen.broken.iter().any(|what| what.contains("is gone")), "{seen:?}");
    let refused = world.shift(2, "100%").await.expect_err("there is no route").to_string();
    assert!(refused.contains("HTTPRoute") && refused.contains("is not there"), "{refused}");
    world.hand_back().await.expect("back");
    assert_eq!(world.get("Deployment", "web-piton-canary").await.map(|gone| gone["metadata"]["name"].clone()), None);
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_deleted_is_made_again_before_it_gets_more() {
    let world = at("50%").await;
    delete_canary(&world).await;
    let seen = world.canary(&world.kube, 1).look().await.expect("a look");
    assert!(seen.broken.iter().any(|what| what.contains("50% of the users are led to it")), "{seen:?}");
    let note = world.shift(2, "100%").await.expect("it goes on");
    assert!(note.contains("is gone, and was made again"), "{note}");
    assert_eq!(world.position().await, share("100%"));
    world.hand_back().await.expect("back");
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_deleted_before_the_promotion_ends_leaves_users_on_stable() {
    let world = at("100%").await;
    let before = world.stable_pods().await;
    delete_canary(&world).await;
    let note = world.canary(&world.kube, 1).hold(&release(2)).await.expect("held");
    assert!(note.contains("cannot carry the users"), "{note}");
    assert_eq!(world.position().await, share("0%"));
    assert_eq!(world.stable_pods().await, before);
    world.promote(&world.kube, 2).await.expect("promoted");
    world.stable_runs(2).await;
    world.gone().await;
}

async fn delete_canary(world: &World) {
    world.cluster.kubectl(&["delete", "deployment/web-piton-canary", "-n", &world.namespace]).await;
    let left = async || world.cluster.list("pods", &world.namespace, "piton.dev/canary=web-piton-canary").await.len();
    world.cluster.wait_until("its pods are gone", || async { left().await == 0 }).await;
    let ready = async || {
        let labels = "kubernetes.io/service-name=web-piton-canary";
        let slices = world.cluster.list("endpointslices", &world.namespace, labels).await;
        slices.iter().map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len)).sum::<usize>()
    };
    world.cluster.wait_until("its endpoints are gone", || async { ready().await == 0 }).await;
}

/// The number of pods is an autoscaler's: what is live counts, and the way back brings back what it took meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_autoscalers_number_is_the_measure() {
    let world = World::with(Kind::Gateway).await;
    let scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": world.namespace},
        "spec": {"minReplicas": 1, "maxReplicas": 8, "metrics": [],
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    });
    world.apply(&[manifest(scaler)]).await;
    let scale = async |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        world.cluster.kubectl(&["scale", "deployment/web", "-n", &world.namespace, &replicas]).await;
        world.stable_runs(1).await;
    };
    scale("6").await;
    world.bring_up(2).await.expect("it comes up");
    let pods = async |name: &str| world.get("Deployment", name).await.expect("there")["spec"]["replicas"].clone();
    for (to, wanted) in [("50%", 3), ("100%", 6)] {
        world.shift(2, to).await.expect(to);
        assert_eq!(pods("web-piton-canary").await, wanted, "{to}");
        assert_eq!(pods("web").await, 6, "{to}");
    }
    scale("2").await;
    let watcher = Watcher::of_pods(&world, 6, 0);
    let note = world.hand_back().await.expect("back");
    assert!(note.contains("was brought to 6 pods first"), "{note}");
    assert_eq!(pods("web").await, 6);
    world.bring_up(2).await.expect("it comes up");
    world.shift(2, "100%").await.expect("all");
    world.promote(&world.kube, 2).await.expect("promoted");
    assert_eq!(pods("web").await, 6, "a release's own number is not applied under an autoscaler");
    watcher.saw_nothing_wrong().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_crashes_never_gets_users() {
    let world = World::with(Kind::Gateway).await;
    let before = world.state().await;
    let watcher = Watcher::of(&world);
    match world.bring_up(9).await {
        Err(TargetError::Release(why)) => assert!(why.contains("web-piton-canary"), "{why}"),
        other => panic!("it crashes, and this is said: {other:?}"),
    }
    assert_eq!(world.position().await, share("0%"));
    world.hand_back().await.expect("back");
    world.cluster.wait_until("nothing is left", || async { world.state().await == before }).await;
    watcher.saw_nothing_wrong().await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_release_takes_over_only_after_the_users_are_back() {
    let world = at("50%").await;
    let watcher = Watcher::of(&world);
    let note = match world.bring_up(3).await.expect("it comes up") {
        Brought::Beside(note) | Brought::Alone(note) => note,
    };
    assert!(note.contains("on stable again"), "{note}");
    assert_eq!(world.position().await, share("0%"));
    world.shift(3, "50%").await.expect("half");
    let canary = world.get("Deployment", "web-piton-canary").await.expect("a canary");
    assert_eq!(canary["spec"]["template"]["spec"]["containers"][0]["image"], image(3));
    watcher.saw_nothing_wrong().await;
    world.hand_back().await.expect("back");
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_lease_moves_nobody() {
    let world = World::with(Kind::Gateway).await;
    let (second, manifests) = (release(2), world.manifests(2));
    world.canary(&world.kube, 5).bring_up(&second, &manifests).await.expect("it comes up");
    world.canary(&world.kube, 5).shift(&second, &manifests, share("50%")).await.expect("half");
    let older = world.canary(&world.kube, 3);
    let fenced = |error: TargetError| assert!(matches!(error, TargetError::Fenced { ours: 3, seen: 5 }), "{error}");
    fenced(older.shift(&second, &manifests, share("100%")).await.expect_err("too old"));
    fenced(older.hand_back(None).await.expect_err("too old"));
    fenced(older.bring_up(&release(3), &manifests).await.expect_err("too old"));
    assert_eq!(world.position().await, share("50%"));
    world.canary(&world.kube, 5).hand_back(None).await.expect("back");
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_judged_pods_is_told_and_not_promoted() {
    let world = at("50%").await;
    let edit = r#"{"spec": {"template": {"metadata": {"annotations": {"by": "hand"}}}}}"#;
    patch(&world, "deployment/web-piton-canary", "merge", edit).await;
    let note = world.shift(2, "100%").await.expect("all");
    assert!(note.contains("was edited: spec.template.metadata.annotations.by (mallory, 20"), "{note}");
    world.promote(&world.kube, 2).await.expect("promoted");
    let stable = world.get("Deployment", "web").await.expect("stable");
    assert!(stable["spec"]["template"]["metadata"]["annotations"]["by"].is_null(), "{stable}");
    world.gone().await;
}
