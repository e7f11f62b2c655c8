//! A small data plane of our own: it leads each request by what the HTTPRoute says at that moment, and the pods behind a
//! Service answer with the version that they really run. It can also be deaf, as a router is that has not heard yet.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use axum::{Json, Router, extract::State};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    cluster::Cluster,
    kinds::Kind,
    world::{World, release, share},
};

struct Plane {
    cluster: &'static Cluster,
    namespace: std::sync::OnceLock<String>,
    requests: AtomicU64,
    deaf: AtomicBool,
}

async fn serve(plane: Arc<Plane>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(answer).with_state(plane);
    (url, tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") }))
}

async fn answer(State(plane): State<Arc<Plane>>) -> Json<Value> {
    let namespace = plane.namespace.get().expect("a world");
    let number = plane.requests.fetch_add(1, Ordering::Relaxed);
    let route = plane.cluster.get("httproutes.gateway.networking.k8s.io", namespace, "web").await.expect("a route");
    let backends = route["spec"]["rules"][1]["backendRefs"].as_array().cloned().unwrap_or_default();
    let weight = |backend: &Value| backend["weight"].as_u64().unwrap_or(1);
    let total: u64 = backends.iter().map(weight).sum();
    // Spread evenly over the weights, whatever the order of requests.
    let mut at = number.wrapping_mul(7_919) % total.max(1);
    let chosen = backends.iter().find(|backend| {
        let hit = at < weight(backend);
        at = at.saturating_sub(weight(backend));
        hit
    });
    let service = chosen.and_then(|backend| backend["name"].as_str()).unwrap_or("web");
    let deployment = if plane.deaf.load(Ordering::Relaxed) { "web" } else { service };
    let pods = plane.cluster.get("Deployment", namespace, deployment).await.expect("pods");
    let image = pods["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
    let version = image.split(':').nth(1).and_then(|tag| tag.split(".0-").next()).unwrap_or_default().to_owned();
    Json(json!({ "version": version }))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_that_arrives_is_counted() {
    let cluster = Cluster::shared().await;
    let (namespace, requests) = Default::default();
    let plane = Arc::new(Plane { cluster, namespace, requests, deaf: AtomicBool::new(false) });
    let (url, serving) = serve(plane.clone()).await;
    let verify =
        json!({"verify": {"url": url, "json": "$.version", "is": "${version.web}", "samples": 100, "within": "1s"}});
    let world = World::with_config(Kind::Gateway, verify).await;
    plane.namespace.set(world.namespace.clone()).expect("once");
    world.bring_up(2).await.expect("it comes up");
    let note = world.shift(2, "30%").await.expect("30%");
    assert!(note.contains("of 100 answers came from the canary"), "{note}");
    plane.deaf.store(true, Ordering::Relaxed);
    let refused = world.shift(2, "60%").await.expect_err("nothing arrives").to_string();
    assert!(refused.contains("the router does not do so yet: 0 of 100 answers came from the canary"), "{refused}");
    plane.deaf.store(false, Ordering::Relaxed);
    let note = world.shift(2, "100%").await.expect("all");
    assert!(note.contains("100 of 100 answers"), "{note}");
    let note = world.canary(&world.kube, 1).hand_back(Some(&release(2))).await.expect("back");
    assert!(note.contains("0 of 100 answers came from the canary"), "{note}");
    assert_eq!(world.position().await, share("0%"));
    serving.abort();
    world.gone().await;
}
