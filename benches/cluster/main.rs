//! piton beside its peers: the same story on the same cluster in the same run. `cargo bench --bench cluster` does all of
//! it; `-- --only piton,helm3` some of it, `-- --scale 100,1000` says how many promotions are in flight at once, and
//! `-- --scale none` leaves that part out. README.md says what is measured, and what was.

#[path = "../../tests/cluster/mod.rs"]
mod cluster;
mod pods;
mod scale;
mod story;
mod table;
mod tools;
mod usage;

use std::{path::PathBuf, time::Duration};

use cluster::{Cluster, Options, ports::Port};
use scale::Load;
use serde_json::{Value, json};
use story::Measured;
use tools::{Answer, Site};
use usage::Requests;

fn main() {
    let asked = Asked::read(std::env::args().skip(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let measured = runtime.block_on(stories(&asked));
    table::print(&measured);
    let loads = runtime.block_on(loads(&asked));
    table::print_loads(&loads);
    let machine = table::machine();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench-cluster.json");
    let raw =
        json!({ "machine": machine, "at": jiff::Timestamp::now().to_string(), "stories": measured, "loads": loads });
    write(&file, &raw);
    println!("\nraw figures: {}", file.display());
}

/// What the command line asks for.
struct Asked {
    only: Option<Vec<String>>,
    /// How many promotions are in flight at once.
    scale: Vec<usize>,
    stories: bool,
}

const SCALE: [usize; 2] = [100, 1000];

impl Asked {
    fn read(words: impl Iterator<Item = String>) -> Asked {
        let words: Vec<String> = words.collect();
        let after = |flag: &str| words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1));
        let list = |text: &String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let scale = after("--scale").map(|text| list(text).iter().filter_map(|number| number.parse().ok()).collect());
        let stories = !words.iter().any(|word| word == "--no-stories");
        Asked { only: after("--only").map(list), scale: scale.unwrap_or(SCALE.to_vec()), stories }
    }

    fn wants(&self, tool: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == tool))
    }
}

/// Every tool in a namespace of its own, one after the other.
async fn stories(asked: &Asked) -> Vec<Measured> {
    let dir = tempfile::Builder::new().prefix("piton-bench-").tempdir().expect("a temporary folder");
    let (log, policy) = (dir.path().join("audit.log"), dir.path().join("policy.yaml"));
    std::fs::write(&policy, usage::POLICY).expect("room on the disk");
    let flags = [("audit-log-path", &log), ("audit-policy-file", &policy)];
    let apiserver_flags = flags.iter().map(|(flag, path)| format!("--{flag}={}", path.display())).collect();
    let options = Options { ready_after: Duration::from_millis(200), apiserver_flags, ..Options::default() };
    let cluster = Cluster::start(options).await;
    let mut all = Vec::new();
    for (name, make) in tools::ALL.iter().filter(|(name, _)| asked.stories && asked.wants(name)) {
        cluster::programs::say(&format!("{name}: the story begins"));
        let namespace = cluster.namespace(name).await;
        let tools_dir = dir.path().join(name);
        std::fs::create_dir_all(&tools_dir).expect("room on the disk");
        let client = cluster.client().await.client;
        let site = Site { kubeconfig: cluster.kubeconfig().to_owned(), namespace, dir: tools_dir, client };
        let mut tool = make(site.clone());
        let measured = story::of(tool.as_mut(), &site, &Requests::in_log(&log)).await;
        if let Some(why) = &measured.failed {
            cluster::programs::say(&format!("{name}: SKIPPED from here on: {why}"));
        }
        drop(tool);
        cluster::programs::say(&serde_json::to_string(&measured).unwrap_or_default());
        // What is left running would be load for the next.
        let _ = cluster.try_kubectl(&["delete", "namespace", &site.namespace, "--wait=false"]).await;
        all.push(measured);
    }
    all
}

/// Every controller with many workloads, each in a cluster of its own.
async fn loads(asked: &Asked) -> Vec<Load> {
    let mut all = Vec::new();
    for promotions in &asked.scale {
        for name in ["argo-rollouts", "flagger"].into_iter().filter(|name| asked.wants(name)) {
            cluster::programs::say(&format!("{name}: {promotions} promotions"));
            match load(name, *promotions).await {
                Ok(load) => all.push(load),
                Err(why) => cluster::programs::say(&format!("{name} with {promotions}: SKIPPED: {why}")),
            }
        }
    }
    all
}

/// A controller's own limits of requests are set far off: what it takes is of interest, not what it is allowed.
async fn load(name: &'static str, promotions: usize) -> Answer<Load> {
    let dir = tempfile::Builder::new().prefix("piton-bench-").tempdir().map_err(|error| error.to_string())?;
    // A node takes 110 pods.
    let nodes = 3.max(2 * promotions / 100 + 1);
    let cluster = Cluster::start(Options { nodes, ..Options::default() }).await;
    let (namespace, client) = (cluster.namespace("scale").await, cluster.client().await.client);
    let kubeconfig = cluster.kubeconfig().to_owned();
    let site = Site { kubeconfig, namespace: namespace.clone(), dir: dir.path().to_owned(), client: client.clone() };
    let ports = [Port::reserve(), Port::reserve()];
    match name {
        "argo-rollouts" => {
            let controller = tools::argo::controller(&site, &ports, &["--qps=500", "--burst=1000"]).await?;
            scale::measure(name, &scale::argo(client, namespace), promotions, controller.0.id()).await
        }
        _ => {
            let more = ["-kubeconfig-qps=500", "-kubeconfig-burst=1000"];
            let controller = tools::flagger::controller(&site, &ports[0], &more).await?;
            scale::measure(name, &scale::flagger(client, namespace), promotions, controller.0.id()).await
        }
    }
}

fn write(file: &std::path::Path, raw: &Value) {
    let text = serde_json::to_string_pretty(raw).expect("it is JSON");
    let folder = file.parent().expect("it is in a folder");
    if let Err(error) = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(file, text)) {
        eprintln!("cannot write {}: {error}", file.display());
    }
}
