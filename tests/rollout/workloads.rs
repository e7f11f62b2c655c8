use crate::world::{World, patient};

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_is_waited_for_and_its_broken_pod_is_found() {
    let world = World::new().await;
    let object = [world.workload("StatefulSet", "replicas: 3, serviceName: web", "1", "").await];
    assert_eq!(world.watch(&object, &patient()).await.note(), "1 object with 3 pods ready");
    world.workload("StatefulSet", "replicas: 3, serviceName: web", "2-crash", "").await;
    let story = world.watch_as(&world.connection, &object, &patient(), "CrashLoopBackOff").await;
    let trouble = story.trouble("crash in a StatefulSet");
    assert_eq!(trouble.object.name, "web-2", "the last one is replaced first: {trouble}");
    assert!(!trouble.log.is_empty(), "{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_of_a_stateful_set_is_not_held_up_by_what_is_broken() {
    let world = World::new().await;
    let spec = "replicas: 3, serviceName: web";
    let object = [world.workload("StatefulSet", spec, "1", "").await];
    assert_eq!(world.watch(&object, &patient()).await.note(), "1 object with 3 pods ready");
    for bad in ["2-crash", "3-never", "4-pull"] {
        world.workload("StatefulSet", spec, bad, "").await;
        world
            .cluster
            .wait_until("the bad pod is there", || async {
                let pods = world.cluster.list("pods", &world.namespace, "app=web").await;
                let image = format!("example.org/web:{bad}");
                pods.iter().any(|pod| pod["spec"]["containers"][0]["image"] == image.as_str())
            })
            .await;
        world.workload("StatefulSet", spec, "1", "").await;
        let story = world.watch(&object, &patient()).await;
        assert_eq!(story.note(), "1 object with 3 pods ready");
        println!("measured: back from {bad} in a StatefulSet: {:.2} s", story.took.as_secs_f64());
        let said = story.said.join("\n");
        assert!(said.contains("pod web-2 of the revision before holds up its StatefulSet"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_is_waited_for_and_its_broken_pod_is_found() {
    let world = World::new().await;
    let object = [world.workload("DaemonSet", "", "1", "").await];
    assert_eq!(world.watch(&object, &patient()).await.note(), "1 object with 3 pods ready");
    world.workload("DaemonSet", "", "2", "").await;
    let story = world.watch(&object, &patient()).await;
    assert_eq!(story.note(), "1 object with 3 pods ready");
    world.workload("DaemonSet", "", "3-pull", "").await;
    let story = world.watch_as(&world.connection, &object, &patient(), "ErrImagePull").await;
    let trouble = story.trouble("pull in a DaemonSet");
    assert!(trouble.message.contains("web:3-pull"), "{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_waited_for_to_its_end() {
    let world = World::new().await;
    let job = |name: &str, tag: &str| {
        format!(
            "{{apiVersion: batch/v1, kind: Job, metadata: {{namespace: {}, name: {name}}}, spec: {{backoffLimit: 0, \
             template: {{spec: {{restartPolicy: Never, containers: [{{name: main, image: \
             \"example.org/migrate:{tag}\"}}]}}}}}}}}",
            world.namespace
        )
    };
    world.cluster.apply(&job("good", "1")).await;
    assert_eq!(world.watch(&[world.id("Job", "good")], &patient()).await.note(), "1 object ready");
    world.cluster.apply(&job("bad", "1-exit-3")).await;
    let story = world.watch_as(&world.connection, &[world.id("Job", "bad")], &patient(), "BackoffLimitExceeded").await;
    let trouble = story.trouble("failed Job");
    assert_eq!((trouble.object.kind.as_str(), trouble.reason.as_str()), ("Job", "BackoffLimitExceeded"));
    assert!(trouble.message.contains("it ended with exit code 3"), "{trouble}");
    assert!(trouble.log.iter().any(|line| line.contains("cannot work: exit code 3")), "{trouble}");
    world.cluster.apply(&job("unpulled", "1-pull")).await;
    let story = world.watch(&[world.id("Job", "unpulled")], &patient()).await;
    assert!(story.trouble("a Job's image").reason.contains("Image"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_that_may_not_make_its_pods_says_why() {
    let world = World::new().await;
    // Whoever may run here must not do so as root.
    world
        .cluster
        .apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {}, labels: {{\
             pod-security.kubernetes.io/enforce: restricted}}}}}}",
            world.namespace
        ))
        .await;
    let object = [world.workload("StatefulSet", "replicas: 1, serviceName: web", "1", "").await];
    let story = world.watch(&object, &patient()).await;
    let trouble = story.trouble("pod security");
    assert_eq!(trouble.reason, "FailedCreate");
    assert!(trouble.message.contains("violates PodSecurity"), "{trouble}");
}
