//! Brings the test cluster up for a person to play with, and takes it down completely on Ctrl-C:
//! `cargo run --example cluster`.

#[path = "../tests/cluster/mod.rs"]
mod cluster;

use std::{
    io::{self, Write},
    pin::pin,
    process::ExitCode,
};

use clap::Parser;
use cluster::{Cluster, Options, programs};
use tokio::signal::unix::{SignalKind, signal};

/// A real control plane on loopback, with nodes that a fake kubelet plays.
#[derive(Debug, Parser)]
struct Words {
    /// How many nodes are played: 3, and none beside a real node.
    #[arg(long)]
    nodes: Option<usize>,
    /// Also a real node with real pods, which needs root; it knows the images `sample:1.0.0`, `sample:1.1.0`, `sample:1.1.0-crash`.
    #[arg(long)]
    real_node: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let words = Words::parse();
    let kubectl = tokio::task::spawn_blocking(|| programs::KUBECTL.path()).await.expect("kubectl builds");
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let nodes = words.nodes.unwrap_or(if words.real_node { 0 } else { 3 });
    let options = Options { nodes, real_node: words.real_node, ..Options::default() };
    let mut ended = pin!(ended(signals));
    let cluster = tokio::select! {
        cluster = Cluster::start(options) => cluster,
        // What was started so far ends with this process.
        () = &mut ended => return ExitCode::FAILURE,
    };
    if words.real_node {
        for version in ["1.0.0", "1.1.0", "1.1.0-crash"] {
            cluster.real_node().sample_image(version).expect("the image can be made");
        }
    }
    let page = PAGE
        .replace("@SECONDS@", &format!("{:.1}", cluster.started_in.as_secs_f64()))
        .replace("@KUBECONFIG@", &cluster.kubeconfig().display().to_string())
        .replace("@BIN@", &kubectl.parent().expect("it is in a folder").display().to_string())
        .replace("@FOLDER@", &cluster.folder().display().to_string());
    let mut out = io::stdout();
    // Nobody may be reading.
    let _ = out.write_all(page.as_bytes()).and_then(|()| out.flush());
    ended.await;
    let folder = cluster.folder();
    drop(cluster);
    println!("the cluster is gone{}", if folder.exists() { ", but not its folder" } else { "" });
    if folder.exists() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Waits for the first of the signals that ask for the end.
async fn ended(signals: [io::Result<tokio::signal::unix::Signal>; 3]) {
    let mut waits = tokio::task::JoinSet::new();
    for signal in signals {
        let mut signal = signal.expect("signals can be waited for");
        waits.spawn(async move { signal.recv().await });
    }
    waits.join_next().await;
}

const PAGE: &str = r#"
A cluster is up in @SECONDS@ s. In another terminal:

    export KUBECONFIG=@KUBECONFIG@
    export PATH=@BIN@:$PATH

    kubectl get nodes
    kubectl create deployment web --image=web:1.0.0 --replicas=3
    kubectl set image deployment/web web=web:1.1.0-crash    # a version that crashes; also -pull, -never, -config, -slow-5s
    kubectl get pods --watch
    kubectl logs deployment/web
    kubectl rollout undo deployment/web

What else a tag can do: tests/cluster/README.md. Logs of the programs: @FOLDER@
Ctrl-C takes everything down.
"#;
