//! What goes on in the middle of a canary while others do something else: a newer lease, and another pipeline file.

use piton::targets::{Act, Target, TargetError, kubernetes::KubernetesTarget};
use serde_json::json;

use crate::{
    kinds::Kind,
    target::{act, target, target_with, text, to},
    world::{World, release, share},
};

/// A release with a workload beside the shop, whose second version is slow to come.
fn with_worker(world: &World, number: u8) -> String {
    let how = if number == 2 { "slow-4s" } else { "good" };
    let worker = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "worker"}, "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "worker"}},
        "template": {"metadata": {"labels": {"app": "worker"}}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "worker", "image": format!("shop/worker:{number}.0.0-{how}")}],
        }},
    }});
    format!("{}\n---\n{worker}", text(world, number))
}

async fn establish(target: &KubernetesTarget) {
    for of_first in [Act::Apply { release: release(1) }, Act::Settle { keep: Some(release(1)) }] {
        act(target, of_first).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_overtaken_moves_nobody_to_a_canary_that_is_gone() {
    let world = World::with(Kind::Gateway).await;
    let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let texts = || [1, 2].map(|number| (release(number).tree, with_worker(&world, number))).into();
    let older = target(&world, here.path(), texts()).await;
    let newer = target(&world, there.path(), texts()).await;
    establish(&older).await;
    act(&older, Act::Apply { release: release(2) }).await;
    act(&older, to(&release(2), "50%")).await;

    // It waits for the slow worker when somebody takes everything back, with all that carried the newer number.
    let whole = to(&release(2), "100%");
    let rolls = older.perform(&whole, 1);
    let goes_back = async {
        let rolled = async || {
            let worker = world.get("Deployment", "worker").await?;
            let image = worker["spec"]["template"]["spec"]["containers"][0]["image"].as_str()?.to_owned();
            image.ends_with("slow-4s").then_some(())
        };
        world.cluster.wait_until("the worker rolls", rolled).await;
        let back = Act::Retreat { from: release(2), to: Some(release(1)) };
        newer.perform(&back, 2).await.expect("users go back")
    };
    let (overtaken, _) = tokio::join!(rolls, goes_back);
    match overtaken {
        Err(TargetError::Fenced { ours: 1, seen: 2 }) => {}
        other => panic!("a newer lease acts there: {other:?}"),
    }
    assert_eq!(world.position().await, share("0%"));
    world.gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_go_back_by_the_way_they_came_whatever_the_pipeline_says_since() {
    let world = World::with(Kind::Gateway).await;
    let dir = tempfile::tempdir().expect("a folder");
    let texts = || [1, 2].map(|number| (release(number).tree, text(&world, number))).into();
    let as_it_was = target(&world, dir.path(), texts()).await;
    establish(&as_it_was).await;
    let pods = world.stable_pods().await;
    let another = json!({"canary": {"deployment": "web", "service": "web", "drain": "0s",
        "router": {"gateway": {"routes": ["another"]}}}});
    for (since, edited) in [("without a canary", json!({})), ("with another route", another)] {
        let edited = target_with(&world, dir.path(), texts(), edited).await;
        act(&as_it_was, Act::Apply { release: release(2) }).await;
        act(&as_it_was, to(&release(2), "50%")).await;
        assert_eq!(world.position().await, share("50%"), "{since}");
        let refused = edited.perform(&to(&release(2), "100%"), 1).await.expect_err(since).to_string();
        assert!(
            refused.contains("a canary of `web` is up, and the pipeline's `canary` says something else"),
            "{refused}"
        );
        let live = edited.live().await.expect("it can be seen");
        assert_eq!(live.releases.get(&release(2).tree), Some(&5_000), "{since}");
        act(&edited, Act::Retreat { from: release(2), to: Some(release(1)) }).await;
        assert_eq!(world.position().await, share("0%"), "{since}");
        assert_eq!(world.stable_pods().await, pods, "{since}: nothing of stable was restarted");
        assert!(world.get("Deployment", "web-piton-canary").await.is_none(), "{since}");
    }
}
