use piton::{
    model::{Blame, Span},
    targets::kubernetes::rollout::Config,
};

use crate::world::{World, patient};

const PROBE: &str = "readinessProbe: {httpGet: {path: /, port: 8080}}";

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_decided_with_pod_reason_node_and_log() {
    let world = World::new().await;
    let object = world.deployment(3, "2-exit-7", "").await;
    let story = world.watch_as(&world.connection, &[object], &patient(), "CrashLoopBackOff").await;
    let trouble = story.trouble("crash loop");
    assert!(["CrashLoopBackOff", "Crashed"].contains(&trouble.reason.as_str()), "{trouble}");
    assert!(trouble.message.contains("it ended with exit code 7"), "{trouble}");
    assert_eq!((trouble.object.kind.as_str(), trouble.container.as_deref()), ("Pod", Some("web")));
    assert!(trouble.object.name.starts_with("web-") && trouble.node.is_some(), "{trouble}");
    assert!(trouble.log.iter().any(|line| line.contains("cannot work: exit code 7")), "{trouble}");
    assert_eq!(trouble.blame, Blame::Release);
    println!("{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_stay_out_where_nobody_wants_them() {
    let world = World::new().await;
    let object = world.deployment(1, "2-crash", "").await;
    let story = world.watch(&[object], &Config { logs: false, ..patient() }).await;
    assert!(story.trouble("crash without a log").log.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled() {
    let world = World::new().await;
    let object = world.deployment(2, "2-pull", "").await;
    let story = world.watch_as(&world.connection, &[object], &patient(), "ErrImagePull").await;
    let trouble = story.trouble("image pull");
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&trouble.reason.as_str()), "{trouble}");
    assert!(trouble.message.contains("example.org/web:2-pull"), "{trouble}");
    assert!(trouble.node.is_some() && trouble.log.is_empty(), "{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_that_is_not_there() {
    let world = World::new().await;
    let env = format!("{PROBE}, env: [{{name: A, valueFrom: {{configMapKeyRef: {{name: settings, key: a}}}}}}]");
    let object = world.deployment(1, "2", &env).await;
    let story = world.watch_as(&world.connection, &[object], &patient(), "CreateContainerConfigError").await;
    let trouble = story.trouble("missing ConfigMap");
    assert_eq!(trouble.reason, "CreateContainerConfigError");
    assert!(trouble.message.contains("settings"), "{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_no_node_has_room_for() {
    let world = World::new().await;
    let object = world.deployment(1, "2", &format!("{PROBE}, resources: {{requests: {{cpu: \"4000\"}}}}")).await;
    let story = world.watch_as(&world.connection, &[object], &patient(), "Unschedulable").await;
    let trouble = story.trouble("unschedulable");
    assert_eq!((trouble.reason.as_str(), trouble.blame), ("Unschedulable", Blame::Release));
    assert!(trouble.message.contains("Insufficient cpu"), "{trouble}");
    assert_eq!(trouble.node, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_is_given_its_time() {
    let world = World::new().await;
    let object = world.deployment(1, "2", &format!("{PROBE}, resources: {{requests: {{cpu: \"4000\"}}}}")).await;
    let config = Config { unschedulable_grace: Span::minutes(5), within: Span::seconds(6), ..patient() };
    let story = world.watch(&[object], &config).await;
    let error = story.ended.into_result().expect_err("it never finds room").to_string();
    assert!(error.starts_with("not ready within 6s: deployment web: Pod "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_at_a_port_that_is_not_there() {
    let world = World::new().await;
    let probe = "ports: [{containerPort: 8080, name: http}], readinessProbe: {httpGet: {path: /, port: htpp}}";
    let object = world.deployment(1, "2-never", probe).await;
    let story = world.watch(&[object], &patient()).await;
    assert_eq!(story.trouble("impossible probe").reason, "ProbePortUnknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up() {
    let world = World::new().await;
    let quota = "{{apiVersion: v1, kind: ResourceQuota, metadata: {{namespace: NS, name: few}}, spec: {{hard: {{pods: \
     \"1\"}}}}}}";
    world.cluster.apply(&quota.replace("{{", "{").replace("}}", "}").replace("NS", &world.namespace)).await;
    // The quota's controller counts before it refuses.
    world
        .cluster
        .wait_until("the quota is counted", || async {
            let quota = world.cluster.get("ResourceQuota", &world.namespace, "few").await;
            quota.is_some_and(|quota| quota["status"]["hard"]["pods"] == "1")
        })
        .await;
    let object = world.deployment(2, "2", "").await;
    let story = world.watch_as(&world.connection, &[object], &patient(), "exceeded quota").await;
    let trouble = story.trouble("quota");
    assert_eq!((trouble.reason.as_str(), trouble.blame), ("FailedCreate", Blame::World));
    assert!(trouble.message.contains("exceeded quota: few"), "{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_pod_that_crashes_is_not_blamed_on_the_new_release() {
    let world = World::new().await;
    let object = world.deployment(2, "1-crash", "").await;
    let first = world.watch(std::slice::from_ref(&object), &patient()).await;
    first.trouble("the old release");
    world.deployment(2, "2", "").await;
    let story = world.watch(&[object], &patient()).await;
    assert_eq!(story.note(), "1 object with 2 pods ready");
}
