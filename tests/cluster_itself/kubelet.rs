use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, Options};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: NAME, namespace: NS }
spec: { restartPolicy: RESTARTS, containers: [{ name: web, image: 'shop/web:1.0.0-TAG' }] }
";

/// Each tag, and what is to be seen of its pod: a JSON pointer, and what must stand there.
const SEEN: [(&str, &[(&str, &str)]); 6] = [
    ("good", &[("/phase", "Running"), ("/containerStatuses/0/ready", "true")]),
    ("slow-2s", &[("/containerStatuses/0/ready", "false"), ("/containerStatuses/0/started", "true")]),
    (
        "crash",
        &[
            ("/phase", "Running"),
            ("/containerStatuses/0/state/waiting/reason", "CrashLoopBackOff"),
            ("/containerStatuses/0/state/waiting/message", "back-off 10s restarting failed container=web pod=crash_"),
            ("/containerStatuses/0/lastState/terminated/exitCode", "1"),
            ("/containerStatuses/0/restartCount", "1"),
        ],
    ),
    (
        "pull",
        &[
            ("/phase", "Pending"),
            ("/containerStatuses/0/state/waiting/reason", "ImagePullBackOff"),
            ("/containerStatuses/0/state/waiting/message", "docker.io/shop/web:1.0.0-pull: not found"),
        ],
    ),
    ("never", &[("/phase", "Running"), ("/containerStatuses/0/ready", "false")]),
    (
        "config",
        &[
            ("/containerStatuses/0/state/waiting/reason", "CreateContainerConfigError"),
            ("/containerStatuses/0/state/waiting/message", "couldn't find key missing in ConfigMap"),
        ],
    ),
];

#[tokio::test]
async fn each_tag_shows_what_a_real_kubelet_reports() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("tags").await;
    for (tag, _) in SEEN {
        cluster.apply(&pod(&namespace, tag, tag, "Always")).await;
    }
    for (tag, expected) in SEEN {
        let look = || async { seen(&status(cluster, &namespace, tag).await, expected) };
        cluster.wait_until(&format!("the tag {tag}"), look).await;
    }
    let crashed = status(cluster, &namespace, "crash").await;
    let ready = crashed["conditions"].as_array().expect("conditions").iter().find(|one| one["type"] == "Ready");
    let ready = ready.expect("there is always one");
    assert_eq!((&ready["status"], &ready["reason"]), (&"False".into(), &"ContainersNotReady".into()), "{ready}");
    for (pod, event) in [
        ("crash", "Back-off restarting failed container web in pod crash_"),
        ("pull", "Error: ImagePullBackOff"),
        ("never", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        ("config", "Error: couldn't find key missing in ConfigMap"),
    ] {
        cluster.wait_until(event, || async { has_event(cluster, &namespace, pod, event).await }).await;
    }
}

#[tokio::test]
async fn a_crashing_pod_has_logs_that_kubectl_reads() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("logs").await;
    cluster.apply(&pod(&namespace, "dies", "exit-3", "Always")).await;
    let words = ["logs", "dies", "--previous", "--namespace", &namespace];
    let last = |text: String| text.contains("cannot work: exit code 3").then_some(()).ok_or(text);
    cluster.wait_until("its last words", || async { cluster.try_kubectl(&words).await.and_then(last) }).await;
    cluster.apply(&pod(&namespace, "waits", "pull", "Always")).await;
    let words = ["logs", "waits", "--namespace", &namespace];
    let none = |said: &String| said.contains("is waiting to start: trying and failing to pull image");
    cluster.wait_until("no log yet", || async { cluster.try_kubectl(&words).await.err().filter(none) }).await;
}

#[tokio::test]
async fn a_deployment_rolls_and_its_pods_go() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("roll").await;
    let ready = |replicas: i64| {
        let namespace = namespace.clone();
        async move {
            let found = cluster.get("Deployment", &namespace, "web").await?;
            let status = &found["status"];
            let current = status["observedGeneration"] == found["metadata"]["generation"];
            (current && status["availableReplicas"] == replicas && status["replicas"] == replicas).then_some(())
        }
    };
    cluster.apply(&DEPLOYMENT.replace("NS", &namespace)).await;
    cluster.wait_until("three pods", || ready(3)).await;
    cluster.apply(&DEPLOYMENT.replace("NS", &namespace).replace("1.0.0", "1.1.0")).await;
    cluster.wait_until("three new pods", || ready(3)).await;
    cluster.kubectl(&["delete", "deployment", "web", "--namespace", &namespace]).await;
    cluster.wait_until("no pod", || async { cluster.list("pods", &namespace, "").await.is_empty() }).await;
}

#[tokio::test]
async fn jobs_end_as_their_tags_say() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("jobs").await;
    for (name, tag, condition) in [("well", "good", "Complete"), ("badly", "exit-7", "Failed")] {
        cluster.apply(&JOB.replace("NS", &namespace).replace("NAME", name).replace("TAG", tag)).await;
        let holds = |job: &Value| {
            let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|one| one["type"] == condition && one["status"] == "True")
        };
        let look = || async { cluster.get("Job", &namespace, name).await.filter(holds) };
        cluster.wait_until(&format!("the job {name}"), look).await;
    }
}

#[tokio::test]
async fn a_container_waits_for_a_config_map_that_is_not_there() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("config").await;
    let from = "image: a:1, envFrom: [{ configMapRef: { name: settings } }]";
    cluster.apply(&pod(&namespace, "web", "good", "Always").replace("image: 'shop/web:1.0.0-good'", from)).await;
    let lost = [("/containerStatuses/0/state/waiting/message", "configmap \"settings\" not found")];
    let look = || async { seen(&status(cluster, &namespace, "web").await, &lost) };
    cluster.wait_until("it says what it misses", look).await;
    let config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: NS}}";
    cluster.apply(&config.replace("NS", &namespace)).await;
    let ready = [("/containerStatuses/0/ready", "true")];
    cluster.wait_until("it runs", || async { seen(&status(cluster, &namespace, "web").await, &ready) }).await;
}

#[tokio::test]
async fn a_lost_node_is_given_up_and_found_again() {
    let options = Options { nodes: 1, node_grace_seconds: 4, ..Options::default() };
    let cluster = Cluster::start(options).await;
    let ready = |wanted: &'static str| {
        let cluster = &cluster;
        async move {
            let node = cluster.get("Node", "", "node-1").await.ok_or("no node")?;
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is_so = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == wanted);
            if is_so { Ok(()) } else { Err(format!("{conditions:?}")) }
        }
    };
    let namespace = cluster.namespace("lost").await;
    cluster.apply(&pod(&namespace, "stays", "good", "Always")).await;
    let pod_ready = |wanted: &'static str| {
        let (cluster, namespace) = (&cluster, &namespace);
        async move {
            let status = status(cluster, namespace, "stays").await;
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let is_so = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == wanted);
            if is_so { Ok(()) } else { Err(format!("{conditions:?}")) }
        }
    };
    cluster.wait_until("the node is ready", || ready("True")).await;
    cluster.wait_until("the pod is ready", || pod_ready("True")).await;
    cluster.kubelet().lose_node("node-1");
    cluster.wait_until("the node is given up", || ready("Unknown")).await;
    cluster.wait_until("its pod is called not ready", || pod_ready("False")).await;
    cluster.kubelet().find_node("node-1");
    cluster.wait_until("the node is ready again", || ready("True")).await;
    cluster.wait_until("its pod is ready again", || pod_ready("True")).await;
}

#[tokio::test]
async fn pods_go_on_after_the_api_server_was_away() {
    let cluster = Cluster::start(Options { back_off: Duration::from_millis(500), ..Options::default() }).await;
    let namespace = cluster.namespace("away").await;
    cluster.apply(&pod(&namespace, "loops", "crash", "Always")).await;
    let restarts = |least: i64| {
        let (cluster, namespace) = (&cluster, &namespace);
        async move {
            status(cluster, namespace, "loops").await["containerStatuses"][0]["restartCount"].as_i64() >= Some(least)
        }
    };
    cluster.wait_until("it crashes", || restarts(2)).await;
    cluster.restart_apiserver().await;
    cluster.wait_until("it crashes on", || restarts(4)).await;
}

fn pod(namespace: &str, name: &str, tag: &str, restarts: &str) -> String {
    POD.replace("NAME", name).replace("NS", namespace).replace("TAG", tag).replace("RESTARTS", restarts)
}

async fn status(cluster: &Cluster, namespace: &str, pod: &str) -> Value {
    cluster.get("Pod", namespace, pod).await.map(|pod| pod["status"].clone()).unwrap_or_default()
}

async fn has_event(cluster: &Cluster, namespace: &str, pod: &str, message: &str) -> bool {
    let events = cluster.list("events", namespace, "").await;
    let about = |event: &&Value| event["involvedObject"]["name"] == pod || event["regarding"]["name"] == pod;
    let text = |event: &Value| format!("{}{}", event["message"], event["note"]);
    events.iter().filter(about).any(|event| text(event).contains(message))
}

/// Text is looked for, everything else must be equal.
fn seen(status: &Value, expected: &[(&str, &str)]) -> Result<(), String> {
    for (place, wanted) in expected {
        let found = status.pointer(place).unwrap_or(&Value::Null);
        let holds = found.as_str().map_or_else(|| *found == plain(wanted), |text| text.contains(wanted));
        if !holds {
            return Err(format!("{place} is {found} and not {wanted} in {status}"));
        }
    }
    Ok(())
}

/// A number, `true`, `false` or `null`; everything else is text.
fn plain(text: &str) -> Value {
    text.parse().unwrap_or_else(|_| text.into())
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: NS }
spec:
  replicas: 3
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: web, image: 'web:1.0.0' }] }
";

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: { name: NAME, namespace: NS }
spec:
  backoffLimit: 0
  template:
    spec: { restartPolicy: Never, containers: [{ name: work, image: 'work:TAG' }] }
";
