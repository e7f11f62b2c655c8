//! What somebody changed by hand is named, and the way back is tried.

use std::collections::BTreeMap;

use piton::{model::Release, targets::Target};

use crate::{
    registry::Registry,
    world::{World, deploy},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_hand_is_named_with_helm_3() {
    what_was_changed_by_hand_is_named(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_hand_is_named_with_helm_4() {
    what_was_changed_by_hand_is_named(4).await;
}

async fn what_was_changed_by_hand_is_named(major: u32) {
    let world = World::new(major).await;
    let target = world.target(world.config());
    let one = world.release("1", "");
    deploy(&target, &one, 1).await.expect("it is good");
    assert_eq!(seen(&world, &one).await, [] as [&str; 0]);
    let ns = world.namespace.clone();
    let kubectl = async |words: &[&str]| world.cluster.kubectl(&[&["--namespace", &ns], words].concat()).await;
    // What the manifest does not say is nobody's business.
    kubectl(&["label", "deployment/web", "team=a"]).await;
    assert_eq!(seen(&world, &one).await, [] as [&str; 0]);
    kubectl(&["scale", "deployment/web", "--replicas=3"]).await;
    kubectl(&["patch", "configmap/web-settings", "--patch", r#"{"data": {"greeting": "hi"}}"#]).await;
    world.cluster.wait_until("the scaled Deployment", || scaled(&world)).await;
    let found = seen(&world, &one).await;
    let replicas = format!("Deployment {ns}/web spec.replicas is 3 and should be 2 (kubectl");
    let greeting = format!("ConfigMap {ns}/web-settings data.greeting is hi and should be hello (kubectl-patch, 2");
    assert!(found.len() == 2 && found.iter().any(|one| one.starts_with(&replicas)), "{found:?}");
    assert!(found.iter().any(|one| one.starts_with(&greeting)), "{found:?}");

    let chart = world.files(&world.release("2", "")).join("chart");
    world.by_hand(&["upgrade", "web", &chart.display().to_string(), "--set=tag=2,replicas=3,greeting=hi"]).await;
    let found = seen(&world, &one).await;
    let revision = format!("Helm release {ns}/web revision is 2 (deployed: Upgrade complete) and should be 1 (");
    assert!(found.iter().any(|one| one.starts_with(&revision)), "{found:?}");
    assert!(found.iter().any(|one| one.contains("image is shop/web:2 and should be shop/web:1")), "{found:?}");
    kubectl(&["delete", "configmap/web-settings"]).await;
    let found = seen(&world, &one).await;
    assert!(found.contains(&format!("ConfigMap {ns}/web-settings is missing")), "{found:?}");
    world.by_hand(&["uninstall", "web"]).await;
    assert_eq!(seen(&world, &one).await, [format!("Helm release {ns}/web is missing")]);
}

async fn seen(world: &World, release: &Release) -> Vec<String> {
    let found = world.target(world.config()).drift(release, &BTreeMap::new()).await.expect("it can be compared");
    found.iter().map(ToString::to_string).collect()
}

async fn scaled(world: &World) -> bool {
    let found = world.cluster.get("Deployment", &world.namespace, "web").await.expect("it is there");
    found["status"]["updatedReplicas"] == 3
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_needs_the_images() {
    let world = World::new(4).await;
    let registry = Registry::start(&world).await;
    let pushed = registry.push(&world).await;
    // To whoever asks for a manifest, a chart is there as an image is.
    let image = pushed.from.trim_start_matches("oci://").to_owned();
    let target = world.target(world.config());
    let values = |tag: &str| world.release(tag, &format!("image: {image}\n"));
    let (good, gone) = (values("1.0.0"), values("9.9.9"));
    deploy(&target, &good, 1).await.expect("it is good");
    let rehearsal = target.rehearse(&good).await.expect("it can be tried");
    assert_eq!((rehearsal.obstacles.clone(), rehearsal.blind), (vec![], None));
    assert_eq!(rehearsal.digests.get(&format!("{image}:1.0.0")), Some(&pushed.manifest), "{:?}", rehearsal.digests);
    let rehearsal = target.rehearse(&gone).await.expect("it can be tried");
    assert_eq!(rehearsal.obstacles, [format!("image `{image}:9.9.9` is not in its registry any more")]);
    drop(registry);
    let rehearsal = target.rehearse(&good).await.expect("it can be tried");
    assert!(rehearsal.blind.is_some_and(|why| why.contains(&image)), "{:?}", rehearsal.obstacles);
}
