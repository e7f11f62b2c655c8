//! Real Flux: its controllers as plain processes beside the control plane, and a git host that they fetch from.

use std::path::{Path, PathBuf};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use tokio::{sync::OnceCell, task::JoinHandle};

use super::{
    cluster::{Cluster, needs, ports::Port, programs},
    git_http,
};

#[used]
#[unsafe(link_section = ".init_array")]
static NEEDS: extern "C" fn() = needs::flux;

/// The port on which fetched sources are handed on; it stays reserved as long as the process lives.
static STARTED: OnceCell<Port> = OnceCell::const_new();

/// Starts the controllers when they are first asked for; they end with the cluster.
pub async fn start(cluster: &'static Cluster) {
    STARTED.get_or_init(|| launch(cluster)).await;
}

async fn launch(cluster: &'static Cluster) -> Port {
    let built = tokio::task::spawn_blocking(|| programs::FLUX.map(|program| program.crds()));
    for crds in built.await.expect("Flux builds") {
        cluster.apply(&crds).await;
    }
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number);
    let [source, kustomize, helm] = &programs::FLUX;
    let storage = [
        format!("--storage-path={}", cluster.folder().display()),
        format!("--storage-addr={address}"),
        format!("--storage-adv-addr={address}"),
    ];
    cluster.run_beside(source, &flags(&storage));
    cluster.run_beside(kustomize, &flags(&["--feature-gates=CancelHealthCheckOnNewRevision=true".to_owned()]));
    cluster.run_beside(helm, &flags(&[]));
    port
}

fn flags(own: &[String]) -> Vec<String> {
    let common = ["--metrics-addr=0", "--health-addr=0", "--events-addr=", "--watch-all-namespaces=true"];
    let quick = ["--kube-api-qps=500", "--kube-api-burst=1000", "--concurrent=8"];
    common.iter().chain(&quick).map(|flag| (*flag).to_owned()).chain(own.iter().cloned()).collect()
}

/// Serves the repositories of a folder over HTTP until it is dropped.
pub struct Host {
    port: u16,
    server: JoinHandle<()>,
}

impl Host {
    pub async fn start(root: &Path) -> Host {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let app = Router::new().fallback(answer).with_state(root.to_owned());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Host { port, server }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/origin.git", self.port)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A file `forbidden` beside the repositories closes the door.
async fn answer(State(root): State<PathBuf>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    match root.join("forbidden").exists() {
        true => (StatusCode::FORBIDDEN, "this repository is private").into_response(),
        false => git_http::answer(root, method, uri, headers, body).await,
    }
}
