use piton::{clients::http::Ask, model::Span};
use reqwest::Method;
use serde_json::Value;

use crate::cluster::{Cluster, Options};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: sample, namespace: NS }
spec:
  replicas: 2
  selector: { matchLabels: { app: sample } }
  template:
    metadata: { labels: { app: sample } }
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: sample
        image: sample:VERSION
        readinessProbe: { httpGet: { path: /ready, port: 8080 }, periodSeconds: 1 }
";

#[tokio::test]
async fn a_deployment_answers_real_requests_and_rolls() {
    let (cluster, namespace) = world("serves", &["1.0.0", "1.1.0"]).await;
    for version in ["1.0.0", "1.1.0"] {
        cluster.apply(&deployment(&namespace, version)).await;
        cluster.wait_until(&format!("{version} is rolled out"), || rolled_out(cluster, &namespace)).await;
        for pod in pods(cluster, &namespace, version).await {
            let address = pod["status"]["podIP"].as_str().expect("a ready pod has an address");
            assert_eq!(version_at(address).await, version);
        }
    }
}

#[tokio::test]
async fn a_crash_loop_shows_with_its_real_last_words() {
    let (cluster, namespace) = world("crashes", &["1.1.0-crash"]).await;
    cluster.apply(&deployment(&namespace, "1.1.0-crash")).await;
    let looping = || async {
        let pods = cluster.list("pods", &namespace, "app=sample").await;
        let container = &pods.first().ok_or("no pod")?["status"]["containerStatuses"][0];
        let is_so = container["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        if is_so { Ok(pods[0].clone()) } else { Err(container.to_string()) }
    };
    let pod = cluster.wait_until("a crash loop", looping).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1, "{pod}");
    let name = pod["metadata"]["name"].as_str().expect("a name");
    let said = cluster.kubectl(&["logs", name, "--previous", "--namespace", &namespace]).await;
    assert!(said.contains("cannot start: no such table: users"), "{said}");
}

#[tokio::test]
async fn a_probe_that_fails_keeps_a_pod_from_being_ready() {
    let (cluster, namespace) = world("mute", &["1.1.0-mute"]).await;
    cluster.apply(&deployment(&namespace, "1.1.0-mute")).await;
    let refused = || async {
        let events = cluster.list("events", &namespace, "").await;
        let said: Vec<_> = events.iter().filter(|event| event["reason"] == "Unhealthy").collect();
        let first = said.first().ok_or("no probe has failed")?;
        Ok::<_, &str>(first["message"].as_str().or(first["note"].as_str()).unwrap_or_default().to_owned())
    };
    let message = cluster.wait_until("a failed probe", refused).await;
    assert!(message.starts_with("Readiness probe failed: Get \"http://10."), "{message}");
    let pods = cluster.list("pods", &namespace, "app=sample").await;
    assert!(pods.iter().all(|pod| pod["status"]["containerStatuses"][0]["ready"] == false), "{pods:?}");
}

/// The cluster of this group, a fresh namespace, and images of these versions.
async fn world(prefix: &str, versions: &'static [&'static str]) -> (&'static Cluster, String) {
    let cluster = Cluster::shared_with(Options { nodes: 0, real_node: true, ..Options::default() }).await;
    let import = move || {
        for version in versions {
            cluster.real_node().sample_image(version).expect("the runtime takes the image");
        }
    };
    tokio::task::spawn_blocking(import).await.expect("no panic");
    (cluster, cluster.namespace(prefix).await)
}

fn deployment(namespace: &str, version: &str) -> String {
    DEPLOYMENT.replace("NS", namespace).replace("VERSION", version)
}

async fn rolled_out(cluster: &Cluster, namespace: &str) -> Result<(), String> {
    let found = cluster.get("Deployment", namespace, "sample").await.ok_or("it is gone")?;
    let status = &found["status"];
    let current = status["observedGeneration"] == found["metadata"]["generation"];
    let all = ["replicas", "updatedReplicas", "readyReplicas"].iter().all(|field| status[*field] == 2);
    if current && all { Ok(()) } else { Err(status.to_string()) }
}

/// Ready pods of a version that are not on their way out.
async fn pods(cluster: &Cluster, namespace: &str, version: &str) -> Vec<Value> {
    let mut pods = cluster.list("pods", namespace, "app=sample").await;
    let image = format!("sample:{version}");
    pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null() && pod["spec"]["containers"][0]["image"] == image);
    assert_eq!(pods.len(), 2, "{pods:?}");
    pods
}

async fn version_at(address: &str) -> String {
    let ask = Ask::new(Method::GET, format!("http://{address}:8080/version"), Span::seconds(20));
    let answer = ask.send().await.unwrap_or_else(|error| panic!("{error}"));
    let body: Value = serde_json::from_slice(&answer.body).expect("it answers JSON");
    body["version"].as_str().expect("a version").to_owned()
}
