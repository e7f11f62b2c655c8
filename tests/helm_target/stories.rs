//! Upgrades that go well, upgrades that break, and the way back.

use std::time::Duration;

use piton::targets::TargetError;
use serde_json::{Value, json};

use crate::world::{World, apply, back, deploy, live, timed};

/// A machine under load is slow; a time-out of Helm's would be much later.
const BROKEN_WITHIN_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_good_upgrade_is_live_with_helm_3() {
    a_good_upgrade_is_live(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_upgrade_is_live_with_helm_4() {
    a_good_upgrade_is_live(4).await;
}

async fn a_good_upgrade_is_live(major: u32) {
    let world = World::new(major).await;
    let target = world.target(world.config());
    let (one, two) = (world.release("1", ""), world.release("2", "greeting: hi"));
    assert!(live(&target).await.releases.is_empty(), "nothing is there");
    let applied = apply(&target, &one, 1).await.expect("it can be deployed");
    assert!(
        applied.note.contains("chart chart sha256:") && applied.note.contains(&format!("Helm v{major}.")),
        "{}",
        applied.note
    );
    assert!(world.cluster.get("Deployment", &world.namespace, "web").await.is_none(), "a dry run makes nothing");
    deploy(&target, &one, 1).await.expect("it is good");
    let (done, _) = timed(&format!("helm {major}: good upgrade"), deploy(&target, &two, 1)).await;
    let note = done.expect("it is good").note;
    assert!(note.contains("revision 2 with chart sha256:") && note.contains(&format!("Helm v{major}.")), "{note}");
    let seen = live(&target).await;
    assert_eq!(seen.releases.get(&two.tree), Some(&10_000), "{seen:?}");
    assert_eq!(seen.facts.get("unfinished"), None);
    assert_eq!(world.container("web").await["image"], "shop/web:2");
    // Twice is once.
    let again = deploy(&target, &two, 1).await.expect("it is there");
    assert!(again.note.contains("is there already"), "{}", again.note);
    assert_eq!(world.history().await, [(1, "superseded".to_owned()), (2, "deployed".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_is_gone_back_from_with_helm_3() {
    a_broken_release_is_gone_back_from(3, "crash").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_is_gone_back_from_with_helm_4() {
    a_broken_release_is_gone_back_from(4, "crash").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_is_gone_back_from_with_helm_3() {
    a_broken_release_is_gone_back_from(3, "pull").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_is_gone_back_from_with_helm_4() {
    a_broken_release_is_gone_back_from(4, "pull").await;
}

async fn a_broken_release_is_gone_back_from(major: u32, how: &str) {
    let world = World::new(major).await;
    let target = world.target(world.config());
    let good = world.release("1", "");
    let bad = world.release(&format!("2-{how}"), "greeting: hi\nextra: true\ndebug: true");
    deploy(&target, &good, 1).await.expect("it is good");
    let (broken, took) = timed(&format!("helm {major}: {how} decided"), deploy(&target, &bad, 1)).await;
    let error = broken.expect_err("it is broken");
    assert!(matches!(error, TargetError::Release(_)), "{error}");
    assert!(error.to_string().contains("web"), "{error}");
    assert!(took < BROKEN_WITHIN_MAX, "{took:?}");
    let (returned, _) = timed(&format!("helm {major}: {how} rolled back"), back(&target, &bad, Some(&good), 1)).await;
    returned.expect("there is a way back");
    assert_restored(&world).await;
    assert_eq!(live(&target).await.releases.get(&good.tree), Some(&10_000));
    let again = back(&target, &bad, Some(&good), 1).await.expect("twice is once");
    assert!(again.note.contains("is there already"), "{}", again.note);
}

/// The tree again, and nothing of the bad release: no field, no object.
async fn assert_restored(world: &World) {
    let container = world.container("web").await;
    assert_eq!(container["image"], "shop/web:1");
    assert_eq!(container["env"], Value::Null, "what the bad release added is gone");
    let settings = world.cluster.get("ConfigMap", &world.namespace, "web-settings").await.expect("it is there");
    assert_eq!(settings["data"], json!({ "greeting": "hello" }));
    let gone = || async { world.cluster.get("Deployment", &world.namespace, "web-extra").await.is_none() };
    world.cluster.wait_until("what the bad release made is gone", gone).await;
    let open =
        world.history().await.into_iter().filter(|(_, status)| status == "deployed" || status.starts_with("pending"));
    assert_eq!(open.count(), 1, "{:?}", world.history().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_cannot_run_ends_helm_3_at_once() {
    a_hook_that_cannot_run_ends_helm_at_once(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_cannot_run_ends_helm_4_at_once() {
    a_hook_that_cannot_run_ends_helm_at_once(4).await;
}

/// Helm itself would wait for the Job until its time-out.
async fn a_hook_that_cannot_run_ends_helm_at_once(major: u32) {
    let world = World::new(major).await;
    let target = world.target(world.config());
    let good = world.release("1", "hook: 1-exit-0");
    deploy(&target, &good, 1).await.expect("its hook ends well");
    let job = world.cluster.get("Job", &world.namespace, "web-migrate").await.expect("the hook ran");
    assert_eq!(job["status"]["succeeded"], 1, "{job}");
    let bad = world.release("2", "extra: true\ndebug: true\nhook: 2-pull");
    let (broken, took) =
        timed(&format!("helm {major}: hook that cannot be pulled decided"), deploy(&target, &bad, 1)).await;
    let error = broken.expect_err("its hook cannot run").to_string();
    assert!(error.contains("web-migrate"), "{error}");
    assert!(took < BROKEN_WITHIN_MAX, "{took:?}");
    let last = world.history().await.pop().expect("it has one");
    assert_eq!(last, (2, "failed".to_owned()), "Helm was killed, and its revision is not left open");
    back(&target, &bad, Some(&good), 1).await.expect("there is a way back");
    assert_restored(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_is_told_as_helm_tells_it() {
    let world = World::new(4).await;
    let target = world.target(world.config());
    let bad = world.release("1", "hook: 1-exit-3");
    let error = deploy(&target, &bad, 1).await.expect_err("its hook fails");
    assert!(matches!(&error, TargetError::Release(why) if why.contains("web-migrate")), "{error}");
    back(&target, &bad, None, 1).await.expect("it is taken down");
    assert!(live(&target).await.releases.is_empty());
    let gone = || async { world.cluster.get("Deployment", &world.namespace, "web").await.is_none() };
    world.cluster.wait_until("the only release is taken down", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_before_piton_is_not_taken_down() {
    let world = World::new(3).await;
    let target = world.target(world.config());
    let before = world.files(&world.release("0", ""));
    let (chart, values) = (before.join("chart"), before.join("prod.yaml"));
    let words = ["upgrade", "--install", "web", &chart.display().to_string(), "-f", &values.display().to_string()];
    world.by_hand(&words).await;
    let seen = live(&target).await;
    assert!(seen.releases.is_empty() && seen.facts["foreign"].contains("revision 1"), "{seen:?}");
    let bad = world.release("1-crash", "");
    deploy(&target, &bad, 1).await.expect_err("it is broken");
    let done = back(&target, &bad, None, 1).await.expect("Helm knows what was there");
    assert!(done.note.contains("revision 1, which was there before piton came"), "{}", done.note);
    assert_eq!(world.container("web").await["image"], "shop/web:0");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_moved_one_by_one_and_go_back_together() {
    let world = World::new(4).await;
    let mut config = world.config();
    let other = world.cluster.namespace("shop").await;
    config["members"] = json!({
        "a": { "set": ["replicas=1"] },
        "b": { "namespace": other, "values": ["${member}.yaml"] },
    });
    let target = world.target(config);
    let of = |tag: &str| {
        world.release_with(&[("prod.yaml", &format!("tag: {tag}")), ("b.yaml", "replicas: 1\ngreeting: b")])
    };
    let (one, two) = (of("1"), of("2"));
    deploy(&target, &one, 1).await.expect("it is good");
    let shift =
        piton::targets::Act::Shift { release: two.clone(), to: piton::model::Portion::Members(vec!["a".to_owned()]) };
    piton::targets::Target::perform(&target, &shift, 1).await.expect("it is good");
    assert_eq!(live(&target).await.releases.values().copied().collect::<Vec<_>>(), [5_000, 5_000]);
    let settings = world.cluster.get("ConfigMap", &other, "web-settings").await.expect("it is there");
    assert_eq!(settings["data"]["greeting"], "b");
    back(&target, &two, Some(&one), 1).await.expect("there is a way back");
    assert_eq!(live(&target).await.releases.get(&one.tree), Some(&10_000));
}
