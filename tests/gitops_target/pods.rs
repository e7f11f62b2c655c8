//! What the cluster shows of a release before the tool says anything, or though it never does.

use std::time::{Duration, Instant};

use piton::targets::{Target, TargetError};

use crate::world::{Kind, PATIENT_SECONDS, World, back, live, shift};

/// A pod that is visibly broken is decided on within this time.
const DECIDED_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_under_argo_cd_is_decided_on_before_argo_cd_says_so() {
    a_broken_pod_is_decided_on(&World::new(Kind::ArgoCd).await, "2-crash", "CrashLoopBackOff").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_under_flux_is_decided_on_before_flux_says_so() {
    a_broken_pod_is_decided_on(&World::new(Kind::Flux).await, "2-pull", "ImagePull").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_chart_under_flux_is_decided_on_before_flux_says_so() {
    a_broken_pod_is_decided_on(&World::new(Kind::FluxHelm).await, "2-crash", "CrashLoopBackOff").await;
}

async fn a_broken_pod_is_decided_on(world: &World, tag: &str, reason: &str) {
    let target = world.target(world.config());
    let (one, bad) = (world.release("1"), world.release_within(tag, PATIENT_SECONDS));
    shift(&target, &one, 1).await.expect("it is good");
    let visible = async {
        let waits = || async { is_waiting(world, reason).await };
        world.cluster.wait_until("a pod that is visibly broken", waits).await;
        Instant::now()
    };
    let decided = async {
        let error = shift(&target, &bad, 1).await.expect_err("it cannot work");
        (error, Instant::now())
    };
    let (visible, (error, decided)) = tokio::join!(visible, decided);
    let took = decided.saturating_duration_since(visible);
    println!("{:?} {tag}: decided {:.2} s after it was visible", world.kind, took.as_secs_f64());
    let pod = format!("Pod {}/web-", world.namespace);
    assert!(matches!(&error, TargetError::Release(why) if why.contains(&pod) && why.contains("node-")), "{error}");
    assert!(took < DECIDED_WITHIN, "{took:?} after it was visible");
    back(&target, &bad, Some(&one), 1).await.expect("there is a way back");
    assert_eq!(world.image().await, "shop/web:1");
}

async fn is_waiting(world: &World, reason: &str) -> bool {
    let pods = world.cluster.list("pods", &world.namespace, "app=web").await;
    let waits = |pod: &serde_json::Value| {
        let said = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default();
        said.contains(reason)
    };
    pods.iter().any(waits)
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_that_checks_no_health_is_not_believed_before_the_pods_are_ready() {
    let world = World::new(Kind::Flux).await;
    world.follow(crate::world::BRANCH, "wait: false").await;
    let target = world.target(world.config());
    let one = world.release("1-slow-3s");
    let done = shift(&target, &one, 1).await.expect("it becomes ready");
    assert!(done.note.contains("1 object with 1 pod ready"), "{}", done.note);
    let error = shift(&target, &world.release_within("2-never", 5), 1).await.expect_err("it is never ready");
    assert!(matches!(&error, TargetError::Release(_)), "{error}");
    assert!(error.to_string().contains("ProgressDeadlineExceeded"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_breaks_later_is_a_fact_for_gates() {
    let world = World::new(Kind::Flux).await;
    let target = world.target(world.config());
    shift(&target, &world.release_within("1-fades-20s", PATIENT_SECONDS), 1).await.expect("it is good at first");
    let broken = || async {
        let facts = live(&target).await.facts;
        let said = facts.get("broken").filter(|said| said.contains("Pod ")).cloned();
        said.ok_or_else(|| format!("{facts:?}"))
    };
    let said = world.cluster.wait_until("the fact", broken).await;
    assert!(said.contains("/web-"), "{said}");
    assert!(target.sights().drift);
}
