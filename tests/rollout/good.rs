use piton::{
    model::Span,
    targets::kubernetes::rollout::{Config, Ended},
};

use crate::world::{World, patient};

#[tokio::test(flavor = "multi_thread")]
async fn a_good_rollout_ends_when_its_pods_are_ready() {
    let world = World::new().await;
    let objects = [world.deployment(3, "1", "").await, world.service().await];
    let story = world.watch(&objects, &patient()).await;
    assert_eq!(story.note(), "2 objects with 3 pods ready");
    println!("measured: good, new: {:.2} s", story.took.as_secs_f64());
    world.deployment(3, "2", "").await;
    let story = world.watch(&objects, &patient()).await;
    assert_eq!(story.note(), "2 objects with 3 pods ready");
    println!("measured: good, rolling: {:.2} s", story.took.as_secs_f64());
    // Nothing to do is done at once, and truly: the new version is what runs.
    let pods = world.cluster.list("pods", &world.namespace, "app=web").await;
    let running = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    assert!(running.into_iter().all(|pod| pod["spec"]["containers"][0]["image"] == "example.org/web:2"), "{pods:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_pod_has_its_time_and_is_said_meanwhile() {
    let world = World::new().await;
    let object = world.deployment(2, "1-slow-5s", "").await;
    let story = world.watch(&[object], &patient()).await;
    assert_eq!(story.note(), "1 object with 2 pods ready");
    let said = story.said.join("\n");
    assert!(said.contains("deployment web: 0 of 2 replicas are available; web-"), "{said}");
    assert!(said.contains("it runs and is not ready yet"), "{said}");
    assert_eq!(story.said.last().map(String::as_str), Some(""), "the line is taken away at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_never_ready_uses_its_time_and_no_more() {
    let world = World::new().await;
    let object = world.deployment(1, "1-never", "").await;
    let story = world.watch(std::slice::from_ref(&object), &Config::within(Span::seconds(8))).await;
    let Ended::TimeOut { after, missing } = &story.ended else { panic!("{:?}", story.ended) };
    assert_eq!((*after, &missing[0].0), (Span::seconds(8), &object));
    assert!(missing[0].1.contains("it runs and is not ready yet"), "{missing:?}");
    assert!(missing[0].1.contains("Readiness probe failed: HTTP probe failed with statuscode: 503"), "{missing:?}");
    println!("measured: never ready with 8 s: {:.2} s", story.took.as_secs_f64());
}
