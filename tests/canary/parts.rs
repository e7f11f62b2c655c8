//! Releases that are more than the Deployment that is tried: what else they bring is made first, or judged with the last step,
//! and goes again on the way back.

use piton::targets::{Act, TargetError, kubernetes::KubernetesTarget};
use serde_json::{Value, json};

use crate::{
    kinds::Kind,
    target::{act, target, to},
    world::{World, release},
};

/// What a release has beside the shop itself.
fn more(number: u8) -> Vec<Value> {
    let how = if number == 3 { "crash" } else { "good" };
    let mut all = vec![deployment("worker", &format!("shop/worker:{number}.0.0-{how}"))];
    if number == 1 {
        return all;
    }
    all.push(account("web"));
    all.push(account("teams"));
    all.push(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}}));
    all.push(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"},
        "spec": {"hard": {"pods": "100"}}}));
    all.push(deployment("cache", "shop/cache:1.0.0-good"));
    all.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cache"},
        "spec": {"selector": {"app": "cache"}, "ports": [{"port": 80}]}}));
    all
}

fn account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
}

fn deployment(name: &str, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": name, "image": image, "envFrom": [{"configMapRef": {"name": "settings"}}]}],
        }},
    }})
}

/// From the second release on the shop's pods need an account of their own.
fn text(world: &World, number: u8) -> String {
    let mut all: Vec<Value> = world.manifests(number).into_iter().map(|manifest| manifest.object).collect();
    for object in &mut all {
        object["metadata"].as_object_mut().expect("a map").remove("annotations");
        if object["kind"] == "Deployment" && number > 1 {
            object["spec"]["template"]["spec"]["serviceAccountName"] = "web".into();
        }
    }
    all.extend(more(number));
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n")
}

async fn shop(dir: &std::path::Path) -> (World, KubernetesTarget) {
    let world = World::with(Kind::Gateway).await;
    // One that another made before.
    world.cluster.kubectl(&["create", "serviceaccount", "teams", "-n", &world.namespace]).await;
    let texts = [1, 2, 3].map(|number| (release(number).tree, text(&world, number)));
    let target = target(&world, dir, texts.into()).await;
    for of_first in [Act::Apply { release: release(1) }, Act::Settle { keep: Some(release(1)) }] {
        act(&target, of_first).await;
    }
    (world, target)
}

/// The image of a workload, and the ConfigMap that it reads.
async fn runs(world: &World, name: &str) -> (String, String) {
    let found = world.get("Deployment", name).await.unwrap_or_else(|| panic!("{name} is there"));
    let container = &found["spec"]["template"]["spec"]["containers"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&container["image"]), text(&container["envFrom"][0]["configMapRef"]["name"]))
}

async fn there(world: &World, kind: &str, name: &str) -> bool {
    world.get(kind, name).await.is_some_and(|object| object["metadata"]["deletionTimestamp"].is_null())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_release_brings_is_there_before_its_canary_and_goes_with_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (world, target) = shop(dir.path()).await;
    let pods = world.stable_pods().await;
    let second = release(2);

    let note = act(&target, Act::Apply { release: second.clone() }).await;
    assert!(note.contains("new, and made first: ") && note.contains("ServiceAccount"), "{note}");
    // Noticed by all, and so not before the last step.
    assert!(!there(&world, "ResourceQuota", "quota").await);
    assert!(there(&world, "Deployment", "cache").await && there(&world, "Service", "cache").await);
    assert!(runs(&world, "cache").await.1.starts_with("settings-piton-"), "it reads what the release says");
    assert_eq!(runs(&world, "worker").await.0, "shop/worker:1.0.0-good");

    act(&target, to(&second, "50%")).await;
    assert_eq!(runs(&world, "worker").await.0, "shop/worker:1.0.0-good");
    let note = act(&target, to(&second, "100%")).await;
    assert!(note.contains("changed with the last step: ") && note.contains("worker"), "{note}");
    let (image, reads) = runs(&world, "worker").await;
    assert_eq!(image, "shop/worker:2.0.0-good");
    assert!(reads.starts_with("settings-piton-"), "stable's pods still read the other: {reads}");
    assert!(there(&world, "ResourceQuota", "quota").await);
    assert_eq!(world.stable_pods().await, pods, "stable is what it was");
    let settings = world.get("ConfigMap", "settings").await.expect("settings");
    assert_eq!(settings["data"]["greeting"], "hello from 1");

    act(&target, Act::Retreat { from: second.clone(), to: Some(release(1)) }).await;
    assert_eq!(world.stable_pods().await, pods, "nothing of stable was restarted");
    assert_eq!(runs(&world, "worker").await, ("shop/worker:1.0.0-good".to_owned(), "settings".to_owned()));
    for (kind, name) in
        [("ServiceAccount", "web"), ("Deployment", "cache"), ("Service", "cache"), ("ResourceQuota", "quota")]
    {
        assert!(!there(&world, kind, name).await, "{kind} {name} was the release's");
    }
    assert!(there(&world, "ServiceAccount", "teams").await, "it was there before");
    assert!(there(&world, "PersistentVolumeClaim", "disk").await, "what holds data stays unless the pipeline says so");

    // From a step before the last one only what was made first is to be taken away.
    act(&target, Act::Apply { release: second.clone() }).await;
    let note = act(&target, Act::Retreat { from: second.clone(), to: Some(release(1)) }).await;
    assert!(note.contains("deleted: ") && !note.contains("applied"), "{note}");
    assert!(!there(&world, "ServiceAccount", "web").await);
    assert_eq!(world.stable_pods().await, pods);

    for portion in ["50%", "100%"] {
        act(&target, Act::Apply { release: second.clone() }).await;
        act(&target, to(&second, portion)).await;
    }
    act(&target, Act::Settle { keep: Some(second.clone()) }).await;
    assert_eq!(runs(&world, "worker").await, ("shop/worker:2.0.0-good".to_owned(), "settings".to_owned()));
    assert!(there(&world, "ServiceAccount", "web").await && there(&world, "Deployment", "cache").await);
    world.stable_runs(2).await;
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_whose_other_workload_crashes_does_not_get_all_users() {
    let dir = tempfile::tempdir().expect("a folder");
    let (world, target) = shop(dir.path()).await;
    let pods = world.stable_pods().await;
    let third = release(3);
    act(&target, Act::Apply { release: third.clone() }).await;
    act(&target, to(&third, "50%")).await;
    match piton::targets::Target::perform(&target, &to(&third, "100%"), 1).await {
        Err(TargetError::Release(why)) => assert!(why.contains("worker"), "{why}"),
        other => panic!("it crashes, and this is said before anyone calls the release good: {other:?}"),
    }
    act(&target, Act::Retreat { from: third, to: Some(release(1)) }).await;
    assert_eq!(runs(&world, "worker").await.0, "shop/worker:1.0.0-good");
    assert_eq!(world.stable_pods().await, pods, "nothing of stable was restarted");
    world.gone().await;
}
