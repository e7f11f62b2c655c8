//! Releases that a killed Helm left open, older runners, wrong clusters, and what the cluster refuses.

use std::time::Duration;

use piton::targets::{Act, Target, TargetError};
use serde_json::json;

use crate::world::{World, apply, back, deploy, live, timed, whole};

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_release_of_helm_3_is_explained_and_the_way_back_mends_it() {
    a_stuck_release_is_explained_and_mended(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_release_of_helm_4_is_explained_and_the_way_back_mends_it() {
    a_stuck_release_is_explained_and_mended(4).await;
}

async fn a_stuck_release_is_explained_and_mended(major: u32) {
    let world = World::new(major).await;
    let target = world.target(world.config());
    let good = world.release("1", "");
    deploy(&target, &good, 1).await.expect("it is good");
    // Somebody's Helm is killed while it waits for a hook.
    let hanging = world.files(&world.release("2", "debug: true\nextra: true\nhook: 2-never"));
    let (chart, values) =
        (hanging.join("chart").display().to_string(), hanging.join("prod.yaml").display().to_string());
    let mut helm = world.helm_command(&["upgrade", "web", &chart, "--values", &values]).spawn().expect("it starts");
    let at_its_hook = || async { world.cluster.get("Job", &world.namespace, "web-migrate").await };
    world.cluster.wait_until("Helm waits for its hook", at_its_hook).await;
    helm.kill().await.expect("it can be killed");
    assert_eq!(world.history().await.pop(), Some((2, "pending-upgrade".to_owned())));

    let next = world.release("3", "");
    for refused in [apply(&target, &next, 1).await, shift(&target, &next, 1).await] {
        let error = refused.expect_err("Helm would refuse it, too");
        assert!(matches!(error, TargetError::World { .. }), "{error}");
        let said = error.to_string();
        for words in
            ["stuck in `pending-upgrade` since 20", "revision 2", "`piton rollback` mends it", &world.namespace]
        {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    let seen = live(&target).await;
    assert!(seen.facts["unfinished"].contains("pending-upgrade"), "{seen:?}");

    let done = back(&target, &next, Some(&good), 1).await.expect("the way back is never stuck");
    assert!(done.note.contains("revision 2 was left open and is marked as failed"), "{}", done.note);
    let container = world.container("web").await;
    assert_eq!((&container["image"], &container["env"]), (&json!("shop/web:1"), &json!(null)));
    let extra = || async { world.cluster.get("Deployment", &world.namespace, "web-extra").await.is_none() };
    world.cluster.wait_until("what was half deployed is gone", extra).await;
    deploy(&target, &next, 1).await.expect("and forward again");
}

async fn shift(
    target: &impl Target,
    release: &piton::model::Release,
    fence: u64,
) -> Result<piton::targets::Done, TargetError> {
    target.perform(&Act::Shift { release: release.clone(), to: whole() }, fence).await
}

/// A runner that is killed leaves its own revision open; whoever does the same again goes on from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_was_cut_off_can_be_done_again() {
    let world = World::new(4).await;
    let target = world.target(world.config());
    deploy(&target, &world.release("1", ""), 1).await.expect("it is good");
    let next = world.release("2", "hook: 2-slow-3600s");
    let cut_off = async {
        tokio::select! {
            done = shift(&target, &next, 1) => panic!("its hook never ends: {done:?}"),
            _ = world.cluster.wait_until("Helm waits for its hook", || async {
                world.cluster.get("Job", &world.namespace, "web-migrate").await
            }) => {}
        }
    };
    cut_off.await;
    assert_eq!(world.history().await.pop(), Some((2, "pending-upgrade".to_owned())), "Helm went with the act");
    let mut config = world.config();
    config["hooks"] = json!("skip");
    let done = shift(&world.target(config), &next, 2).await.expect("it was ours");
    assert!(done.note.contains("was left open"), "{}", done.note);
    assert_eq!(world.container("web").await["image"], "shop/web:2");
}

/// What Helm remembers is changed last: a release that comes to nothing leaves no trace there.
#[tokio::test(flavor = "multi_thread")]
async fn what_helm_remembers_stays_where_a_release_cannot_be_rendered() {
    let world = World::new(4).await;
    let target = world.target(world.config());
    deploy(&target, &world.release("1", ""), 1).await.expect("it is good");
    shift(&target, &world.release("2", "hook: 2-pull"), 1).await.expect_err("its hook cannot run");
    let before = world.history().await;
    assert_eq!(before, [(1, "deployed".to_owned()), (2, "failed".to_owned())]);
    let incomplete = world.release_with(&[]);
    shift(&target, &incomplete, 1).await.expect_err("its values are missing");
    assert_eq!(world.history().await, before);
    let wrong = world.release_with(&[("chart/templates/wrong.yaml", "{{ fail \"no\" }}"), ("prod.yaml", "tag: 3")]);
    shift(&target, &wrong, 1).await.expect_err("it cannot be rendered");
    assert_eq!(world.history().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_runner_is_refused() {
    let world = World::new(4).await;
    let target = world.target(world.config());
    let (one, two) = (world.release("1", ""), world.release("2", ""));
    deploy(&target, &one, 7).await.expect("it is good");
    let acts = [
        Act::Apply { release: two.clone() },
        Act::Shift { release: two.clone(), to: whole() },
        Act::Retreat { from: one.clone(), to: Some(two.clone()) },
        Act::Retreat { from: one.clone(), to: None },
    ];
    for act in acts {
        let refused = target.perform(&act, 6).await;
        assert!(matches!(refused, Err(TargetError::Fenced { ours: 6, seen: 7 })), "{act:?}: {refused:?}");
    }
    assert_eq!(world.history().await, [(1, "deployed".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_runner_never_writes_beside_the_helm_3_of_an_older_one() {
    a_newer_runner_never_writes_beside_an_older_one(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_runner_never_writes_beside_the_helm_4_of_an_older_one() {
    a_newer_runner_never_writes_beside_an_older_one(4).await;
}

async fn a_newer_runner_never_writes_beside_an_older_one(major: u32) {
    let world = World::new(major).await;
    let (program, log) = world.watched_helm();
    let mut config = world.config();
    config["program"] = json!(program);
    let (older, newer) = (world.target(config.clone()), world.target(config));
    let (good, slow) = (world.release("1", ""), world.release("2", "hook: 2-slow-3600s"));
    deploy(&older, &good, 1).await.expect("it is good");
    let ways_back = async {
        at_its_hook(&world).await;
        timed("the way back", back(&newer, &slow, Some(&good), 2)).await.0
    };
    let (fenced, restored) = tokio::join!(shift(&older, &slow, 1), ways_back);
    let done = restored.expect("the newer runner goes back");
    assert!(done.note.contains("revision 2 was left open and is marked as failed"), "{}", done.note);
    assert!(matches!(fenced, Err(TargetError::Fenced { ours: 1, seen: 2 })), "{fenced:?}");
    assert_eq!(std::fs::read_to_string(&log).expect("Helm was at work"), "begins\n".repeat(3), "one at a time");
    assert_eq!(world.container("web").await["image"], "shop/web:1");
    let statuses: Vec<String> = world.history().await.into_iter().map(|(_, status)| status).collect();
    assert_eq!(statuses, ["superseded", "superseded", "deployed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_runner_still_installs_is_taken_down_after_its_helm() {
    let world = World::new(4).await;
    let (program, log) = world.watched_helm();
    let mut config = world.config();
    config["program"] = json!(program);
    let (older, newer) = (world.target(config.clone()), world.target(config));
    let slow = world.release("1", "hook: 1-slow-3600s");
    let ways_back = async {
        at_its_hook(&world).await;
        back(&newer, &slow, None, 2).await
    };
    let (fenced, taken) = tokio::join!(shift(&older, &slow, 1), ways_back);
    assert!(taken.expect("it is taken down").note.contains("taken down"));
    assert!(matches!(fenced, Err(TargetError::Fenced { ours: 1, seen: 2 })), "{fenced:?}");
    assert_eq!(std::fs::read_to_string(&log).expect("Helm was at work"), "begins\n".repeat(2), "one at a time");
    let gone = || async { world.cluster.get("Deployment", &world.namespace, "web").await.is_none() };
    world.cluster.wait_until("it is gone", gone).await;
}

async fn at_its_hook(world: &World) {
    let hook = || async { world.cluster.get("Job", &world.namespace, "web-migrate").await };
    world.cluster.wait_until("Helm waits for its hook", hook).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused() {
    let world = World::new(4).await;
    let mut config = world.config();
    config["cluster"]["identity"] = json!("00000000-0000-4000-8000-000000000000");
    let error = deploy(&world.target(config), &world.release("1", ""), 1).await.expect_err("it is another");
    assert!(error.to_string().contains("this is another cluster"), "{error}");
}

/// All of it is said before anything is changed.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_refuses_is_found_by_the_dry_run() {
    let world = World::new(3).await;
    let target = world.target(world.config());
    deploy(&target, &world.release("1", ""), 1).await.expect("it is good");
    let cases = [
        (world.release("2", "selector: other"), "selector"),
        (world.release("2", "replicas: many"), "replicas"),
        (
            world.release_with(&[("prod.yaml", "tag: 2"), ("chart/templates/bad.yaml", "{{ fail \"no such luck\" }}")]),
            "no such luck",
        ),
        (world.release_with(&[("other.yaml", "tag: 2")]), "no values file `prod.yaml`"),
    ];
    for (release, words) in cases {
        let error = apply(&target, &release, 1).await.expect_err(words);
        assert!(matches!(error, TargetError::Release(_)), "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    assert_eq!(world.history().await, [(1, "deployed".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_merely_slow_gets_its_time() {
    let world = World::new(4).await;
    let target = world.target(world.config());
    let began = std::time::Instant::now();
    deploy(&target, &world.release("1-slow-4s", "replicas: 1"), 1).await.expect("it is slow, not broken");
    assert!(began.elapsed() >= Duration::from_secs(4));
}
