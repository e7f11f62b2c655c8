use piton::{
    model::Span,
    targets::kubernetes::rollout::{Config, Ended, Glance, Standing, Watched},
};

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
        let story = world.watch(Watched::from(&object).on_the_way_back(), &patient()).await;
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
    let job = |name: &str, tag: &str| job(&world, name, tag, "backoffLimit: 0");
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

/// Two pods, each of which is ready as long as its gate stands open.
async fn gated(world: &World<'_>, tag: &str) {
    world
        .cluster
        .apply(&format!(
            "{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{namespace: {}, name: web}}, spec: {{replicas: 2, \
             serviceName: web, selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, \
             spec: {{terminationGracePeriodSeconds: 1, readinessGates: [{{conditionType: example.org/open}}], \
             containers: [{{name: web, image: \"example.org/web:{tag}\", \
             readinessProbe: {{httpGet: {{path: /, port: 8080}}}}}}]}}}}}}}}",
            world.namespace
        ))
        .await;
}

/// Opens or closes a pod's gate until the pod shows it; its UID.
async fn gate(world: &World<'_>, pod: &str, status: &str) -> String {
    let patch = format!(r#"{{"status":{{"conditions":[{{"type":"example.org/open","status":"{status}"}}]}}}}"#);
    let look = || async {
        let live = world.cluster.get("Pod", &world.namespace, pod).await.ok_or("it is not there")?;
        let conditions = live["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let shown = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == status);
        if shown {
            return Ok(live["metadata"]["uid"].as_str().expect("a UID").to_owned());
        }
        let ns = world.namespace.as_str();
        let words = ["patch", "-n", ns, "pod", pod, "--subresource=status", "--type=strategic", "-p", &patch];
        // It may be gone at this moment.
        let _ = world.cluster.try_kubectl(&words).await;
        Err("its gate is moved")
    };
    world.cluster.wait_until(&format!("{pod} is ready: {status}"), look).await
}

async fn uid(world: &World<'_>, pod: &str) -> Option<String> {
    let live = world.cluster.get("Pod", &world.namespace, pod).await?;
    live["metadata"]["uid"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_pod_that_is_not_ready_is_left_alone_on_the_way_forward_and_under_a_budget() {
    let world = World::new().await;
    let object = [world.id("StatefulSet", "web")];
    let short = Config::within(Span::seconds(6));
    gated(&world, "1").await;
    gate(&world, "web-0", "True").await;
    gate(&world, "web-1", "True").await;
    assert_eq!(world.watch(&object, &patient()).await.note(), "1 object with 2 pods ready");
    let before = gate(&world, "web-0", "False").await;

    gated(&world, "2").await;
    let story = world.watch(&object, &short).await;
    assert!(matches!(story.ended, Ended::TimeOut { .. }), "{:?}", story.ended);
    assert_eq!(uid(&world, "web-0").await.as_ref(), Some(&before), "{:?}", story.said);

    // On the way back it makes way, unless a budget says no.
    world
        .cluster
        .apply(&format!(
            "{{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {{namespace: {}, name: web}}, \
             spec: {{minAvailable: 2, selector: {{matchLabels: {{app: web}}}}}}}}",
            world.namespace
        ))
        .await;
    let counted = || async {
        let budget = world.cluster.get("PodDisruptionBudget", &world.namespace, "web").await.expect("it is there");
        budget["status"]["desiredHealthy"] == 2
            && budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
    };
    world.cluster.wait_until("the budget is counted", counted).await;
    let back = || Watched::from(&object).on_the_way_back();
    let story = world.watch(back(), &short).await;
    let Ended::TimeOut { missing, .. } = &story.ended else { panic!("{:?}", story.ended) };
    assert_eq!(missing[0].0.name, "web-0");
    assert!(missing[0].1.contains("cannot be evicted") && missing[0].1.contains("disruption budget"), "{missing:?}");
    assert_eq!(uid(&world, "web-0").await.as_ref(), Some(&before));

    world.cluster.kubectl(&["delete", "-n", &world.namespace, "poddisruptionbudget", "web"]).await;
    let (config, replaced) = (patient(), || async { uid(&world, "web-0").await.is_some_and(|uid| uid != before) });
    tokio::select! {
        story = world.watch(back(), &config) => panic!("its gate is closed: {:?}", story.ended),
        () = async { world.cluster.wait_until("it made way", replaced).await; } => {}
    }
}

fn ended_at_its_time(ended: &Ended, why: &str) {
    let Ended::TimeOut { after, missing } = ended else { panic!("{ended:?}") };
    assert_eq!(*after, Span::seconds(5));
    assert!(missing.iter().any(|(_, said)| said.contains(why)), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_ends_ends_at_its_time() {
    let world = World::new().await;
    let short = Config::within(Span::seconds(5));
    let object = [world.workload("StatefulSet", "replicas: 1, serviceName: web", "1-never", "").await];
    ended_at_its_time(&world.watch(&object, &short).await.ended, "0 of 1 replicas are ready");
    world.cluster.apply(&job(&world, "endless", "1-slow-600s", "backoffLimit: 0")).await;
    ended_at_its_time(&world.watch(&[world.id("Job", "endless")], &short).await.ended, "0 of 1 done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_collected_is_done() {
    let world = World::new().await;
    world.cluster.apply(&job(&world, "brief", "1", "ttlSecondsAfterFinished: 1")).await;
    let object = [world.id("Job", "brief")];
    assert_eq!(world.watch(&object, &patient()).await.note(), "1 object ready");
    let gone = || async { world.cluster.get("Job", &world.namespace, "brief").await.is_none() };
    world.cluster.wait_until("it is collected", gone).await;
    let watched = || Watched::from(&object).with_passing(object.clone());
    assert_eq!(world.watch(watched(), &patient()).await.note(), "1 object ready");
    let standing = Standing::new(&world.connection, &Config::default());
    let glance = standing.glance(watched()).await;
    assert!(matches!(glance, Glance::Well { .. }), "{glance:?}");
    // Whoever does not know that it is collected misses it.
    let story = world.watch(&object, &patient()).await;
    assert_eq!(story.trouble("a Job that is missing").reason, "Deleted");
}

fn job(world: &World<'_>, name: &str, tag: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{namespace: {}, name: {name}}}, spec: {{{spec}, template: {{spec: \
         {{restartPolicy: Never, containers: [{{name: main, image: \"example.org/migrate:{tag}\"}}]}}}}}}}}",
        world.namespace
    )
}
