use std::time::{Duration, Instant};

use piton::{
    clients::kube::{Cluster as Connection, Place},
    model::{Blame, Span},
    targets::kubernetes::rollout::{Config, Ended},
};

use crate::{
    cluster::{Cluster, Options},
    world::{World, patient},
};

async fn connect(kubeconfig: std::path::PathBuf) -> Connection {
    let place = Place { kubeconfig: Some(kubeconfig), context: None };
    Connection::connect(&place).await.expect("a good kubeconfig")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_deleted_by_hand_is_said() {
    let world = World::new().await;
    let object = [world.deployment(1, "1-never", "").await];
    let config = patient();
    let deleted = async {
        world
            .cluster
            .wait_until("the pod is watched", || async {
                !world.cluster.list("pods", &world.namespace, "app=web").await.is_empty()
            })
            .await;
        world.cluster.kubectl(&["delete", "deployment", "web", "--namespace", &world.namespace]).await;
        Instant::now()
    };
    let (story, _) = tokio::join!(world.watch(&object, &config), deleted);
    let trouble = story.trouble("deleted by hand");
    assert_eq!((trouble.reason.as_str(), trouble.blame), ("Deleted", Blame::World));
    assert!(trouble.message.contains("somebody deleted it"), "{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_may_go_and_come_back() {
    let cluster = Cluster::start(Options::default()).await;
    let world = World::of(&cluster).await;
    let object = [world.deployment(2, "1-slow-8s", "").await];
    let config = patient();
    let restarted = async {
        cluster
            .wait_until("the pods run", || async {
                let pods = cluster.list("pods", &world.namespace, "app=web").await;
                pods.len() == 2 && pods.iter().all(|pod| pod["status"]["phase"] == "Running")
            })
            .await;
        cluster.kill_apiserver();
        cluster.restart_apiserver().await;
    };
    let (story, ()) = tokio::join!(world.watch(&object, &config), restarted);
    assert_eq!(story.note(), "1 object with 2 pods ready");
    // It also comes back in time to see what is broken.
    world.deployment(2, "2-crash", "").await;
    let restarted = async {
        cluster.kill_apiserver();
        cluster.restart_apiserver().await;
    };
    let (story, ()) = tokio::join!(world.watch(&object, &config), restarted);
    story.trouble("a crash across a restart of the API server");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_no_verdict_and_ends_in_time() {
    let cluster = Cluster::start(Options { nodes: 1, ..Options::default() }).await;
    let world = World::of(&cluster).await;
    let object = [world.deployment(1, "1-slow-4s", "").await];
    cluster
        .wait_until("the pod runs", || async {
            let pods = cluster.list("pods", &world.namespace, "app=web").await;
            pods.iter().any(|pod| pod["status"]["phase"] == "Running")
        })
        .await;
    cluster.pause();
    let began = Instant::now();
    let config = Config::within(Span::seconds(15));
    let story = world.watch(&object, &config).await;
    let silent = began.elapsed();
    cluster.resume();
    let Ended::Unknown { why } = &story.ended else { panic!("{:?}", story.ended) };
    assert!(why.contains("cannot look at Deployment"), "{why}");
    assert!(silent < Duration::from_secs(60), "{silent:?}");
    // It is seen again as soon as it speaks again.
    let story = world.watch(&object, &patient()).await;
    assert_eq!(story.note(), "1 object with 1 pod ready");
}

const READER: &str = r#"[
    {apiGroups: [apps, batch, discovery.k8s.io], resources: ["*"], verbs: [get, list, watch]},
    {apiGroups: [""], resources: [pods, services, events], verbs: [get, list, watch]},
]"#;

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_read_logs_it_is_decided_all_the_same() {
    let world = World::new().await;
    let reader = connect(world.cluster.user("reader-without-logs", READER).await).await;
    let object = [world.deployment(1, "1-crash", "").await];
    let story = world.watch_as(&reader, &object, &patient(), "CrashLoopBackOff").await;
    let trouble = story.trouble("a crash without the right to read logs");
    assert!(trouble.log.is_empty() && trouble.message.contains("exit code 1"), "{trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_look_nobody_is_blamed() {
    let world = World::new().await;
    let stranger = connect(world.cluster.user("stranger", "[]").await).await;
    let object = [world.deployment(1, "1", "").await];
    let story = world.watch_as(&stranger, &object, &patient(), "").await;
    let Ended::Unknown { why } = &story.ended else { panic!("{:?}", story.ended) };
    assert!(why.contains("cannot look at Deployment") && why.contains("is forbidden"), "{why}");
    // Without pods it is still known how the Deployment does.
    let rules = "[{apiGroups: [apps], resources: [deployments], verbs: [get, list, watch]}]";
    let half_blind = connect(world.cluster.user("half-blind", rules).await).await;
    let story = world.watch_as(&half_blind, &object, &patient(), "").await;
    assert_eq!(story.note(), "1 object ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_is_named_and_is_not_the_releases_fault() {
    let cluster = Cluster::start(Options { nodes: 1, node_grace_seconds: 4, ..Options::default() }).await;
    let world = World::of(&cluster).await;
    let object = [world.deployment(1, "1-never", "").await];
    let node = cluster
        .wait_until("the pod runs", || async {
            let pods = cluster.list("pods", &world.namespace, "app=web").await;
            let running = pods.iter().find(|pod| pod["status"]["phase"] == "Running")?;
            running["spec"]["nodeName"].as_str().map(str::to_owned)
        })
        .await;
    cluster.kubelet().lose_node(&node);
    let story = world.watch(&object, &patient()).await;
    let trouble = story.trouble("a node that is gone");
    assert_eq!((trouble.node.as_deref(), trouble.blame), (Some(node.as_str()), Blame::World));
}
