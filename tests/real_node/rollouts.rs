//! A rollout that is watched on a real node: what a real kubelet says of what is broken, and how soon that is decided.

use piton::{
    model::{Blame, Span},
    targets::kubernetes::rollout::Config,
};

use crate::{
    cluster::node::NAME,
    cluster_with,
    world::{Story, World, patient},
};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: NS }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: IMAGE
        readinessProbe: { httpGet: { path: PROBED, port: 8080 }, periodSeconds: 1 }
        resources: RESOURCES
";

/// Rolls an image out and watches it, while another eye looks out for a sign of what is wrong.
async fn watched(image: &str, probed: &str, resources: &str, config: &Config, sign: &str) -> Story {
    let version = image.strip_prefix("sample:").map(str::to_owned);
    let world = World::of(cluster_with(version.into_iter().collect()).await).await;
    let text = DEPLOYMENT.replace("NS", &world.namespace).replace("IMAGE", image).replace("PROBED", probed);
    world.cluster.apply(&text.replace("RESOURCES", resources)).await;
    world.watch_as(&world.connection, &[world.id("Deployment", "web")], config, sign).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_registry_that_cannot_be_found() {
    let story = watched("registry.invalid/web:1", "/ready", "{}", &patient(), "ErrImagePull").await;
    let trouble = story.trouble("a real kubelet: a registry without an address");
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&trouble.reason.as_str()), "{trouble}");
    assert!(trouble.message.contains("registry.invalid/web:1"), "{trouble}");
    // The image may be good: the registry could not be asked.
    assert_eq!((trouble.blame, trouble.node.as_deref()), (Blame::World, Some(NAME)), "{trouble}");
    println!("{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_exits() {
    let story = watched("sample:2.0.0-crash", "/ready", "{}", &patient(), "CrashLoopBackOff").await;
    let trouble = story.trouble("a real kubelet: a process that exits");
    assert!(["CrashLoopBackOff", "Crashed"].contains(&trouble.reason.as_str()), "{trouble}");
    assert!(trouble.message.contains("it ended with exit code 1"), "{trouble}");
    assert!(trouble.log.iter().any(|line| line.contains("cannot start: no such table: users")), "{trouble}");
    assert_eq!((trouble.blame, trouble.node.as_deref()), (Blame::Release, Some(NAME)), "{trouble}");
    println!("{trouble}");
}

/// Every probe takes memory for good, until the limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_takes_more_memory_than_its_limit() {
    let limit = "{ limits: { memory: 160Mi } }";
    let story = watched("sample:2.0.0-leaky", "/work", limit, &patient(), "OOMKilled").await;
    let trouble = story.trouble("a real kubelet: more memory than the limit");
    assert_eq!(trouble.reason, "OOMKilled", "{trouble}");
    assert!(trouble.message.contains("it used more memory than its limit allows"), "{trouble}");
    assert_eq!((trouble.blame, trouble.node.as_deref()), (Blame::Release, Some(NAME)), "{trouble}");
    println!("{trouble}");
}

/// It may only be slow: it has its time, and then the probe's own words are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_readiness_probe_that_fails() {
    let config = Config { within: Span::seconds(20), ..patient() };
    let story = watched("sample:2.0.0-mute", "/ready", "{}", &config, "").await;
    let took = story.took;
    let error = story.ended.into_result().expect_err("it is never ready").to_string();
    println!("measured: a real kubelet: a probe that fails: given up after {:.2} s: {error}", took.as_secs_f64());
    assert!(error.starts_with("not ready within 20s: deployment web: "), "{error}");
    assert!(error.contains("Readiness probe failed: Get \"http://10."), "{error}");
}
