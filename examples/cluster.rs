//! Brings the test cluster up for a person to play with, and takes it down completely on Ctrl-C:
//! `cargo run --example cluster`.

#[path = "../tests/cluster/mod.rs"]
mod cluster;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use cluster::{Cluster, Options, programs};
use tokio::signal::unix::{SignalKind, signal};

/// A real control plane on loopback, with nodes that a fake kubelet plays.
#[derive(Debug, Parser)]
struct Words {
    /// How many nodes are played.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let words = Words::parse();
    let kubectl = tokio::task::spawn_blocking(|| programs::KUBECTL.path()).await.expect("kubectl builds");
    let ended = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let cluster = Cluster::start(Options { nodes: words.nodes, ..Options::default() }).await;
    let page = PAGE
        .replace("@SECONDS@", &format!("{:.1}", cluster.started_in.as_secs_f64()))
        .replace("@KUBECONFIG@", &cluster.kubeconfig().display().to_string())
        .replace("@BIN@", &kubectl.parent().expect("it is in a folder").display().to_string())
        .replace("@FOLDER@", &cluster.folder().display().to_string());
    let mut out = io::stdout();
    // Nobody may be reading.
    let _ = out.write_all(page.as_bytes()).and_then(|()| out.flush());
    wait(ended).await;
    let folder = cluster.folder();
    drop(cluster);
    println!("the cluster is gone{}", if folder.exists() { ", but not its folder" } else { "" });
    if folder.exists() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Waits for the first of the signals that ask for the end.
async fn wait(signals: [io::Result<tokio::signal::unix::Signal>; 3]) {
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
