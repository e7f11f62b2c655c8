//! piton beside its peers: the same story on the same cluster in the same run. `cargo bench --bench cluster` does all of
//! it; `-- --only piton,helm3` some of it, `-- --scale 100,1000` says how many promotions are in flight at once, and
//! `-- --scale none` leaves that part out. README.md says what is measured, and what was.

#[path = "../../tests/cluster/mod.rs"]
mod cluster;
mod fleet;
mod pods;
mod scale;
mod story;
mod table;
mod tools;
mod usage;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cluster::{Cluster, Options, ports::Port};
use fleet::Fleet;
use scale::{Load, Probe};
use serde_json::json;
use story::Measured;
use tools::{Answer, Site};
use usage::Requests;

fn main() {
    let asked = Asked::read(std::env::args().skip(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let before = table::machine();
    let measured = runtime.block_on(stories(&asked));
    println!("{}", table::stories(&measured));
    let loads = runtime.block_on(loads(&asked));
    println!("\n{}", table::loads(&loads));
    let machine = json!({ "before": before, "after": table::machine(), "build": table::build() });
    let at = jiff::Timestamp::now().to_string();
    let raw = json!({ "machine": machine, "at": at, "stories": measured, "loads": loads });
    let text = serde_json::to_string_pretty(&raw).expect("it is JSON");
    let page = format!("{at}, {}\n\n{}\n\n{}\n", machine, table::stories(&measured), table::loads(&loads));
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target");
    for (name, text) in [("bench-cluster.json", text), ("bench-cluster.md", page)] {
        write(&folder.join(name), &text);
    }
}

/// What the command line asks for.
struct Asked {
    only: Option<Vec<String>>,
    /// How many promotions are in flight at once.
    scale: Vec<usize>,
    stories: bool,
    /// Where the tools' folders and the API server's audit log are left for people to read.
    keep: Option<PathBuf>,
    /// How long a controller is looked at while it rests.
    idle: Duration,
}

const SCALE: [usize; 2] = [100, 1000];
/// Unless PITON_BENCH_IDLE says otherwise.
const IDLE_SECONDS: u64 = 60;

impl Asked {
    fn read(words: impl Iterator<Item = String>) -> Asked {
        let words: Vec<String> = words.collect();
        let after = |flag: &str| words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1));
        let list = |text: &String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let scale = after("--scale").map(|text| list(text).iter().filter_map(|number| number.parse().ok()).collect());
        let stories = !words.iter().any(|word| word == "--no-stories");
        let keep = after("--keep").map(PathBuf::from);
        let idle = std::env::var("PITON_BENCH_IDLE").ok().and_then(|text| text.parse().ok());
        let idle = Duration::from_secs(idle.unwrap_or(IDLE_SECONDS));
        Asked { only: after("--only").map(list), scale: scale.unwrap_or(SCALE.to_vec()), stories, keep, idle }
    }

    fn wants(&self, tool: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == tool))
    }
}

/// Every tool in a namespace of its own, one after the other.
async fn stories(asked: &Asked) -> Vec<Measured> {
    let folder = tempfile::Builder::new().prefix("piton-bench-").tempdir().expect("a temporary folder");
    let dir = asked.keep.as_deref().unwrap_or(folder.path());
    std::fs::create_dir_all(dir).expect("room on the disk");
    let (log, apiserver_flags) = audited(dir);
    let options = Options { ready_after: Duration::from_millis(200), apiserver_flags, ..Options::default() };
    let cluster = Cluster::start(options).await;
    let mut all = Vec::new();
    for (name, make) in tools::ALL.iter().filter(|(name, _)| asked.stories && asked.wants(name)) {
        cluster::programs::say(&format!("{name}: the story begins"));
        let namespace = cluster.namespace(name).await;
        let tools_dir = dir.join(name);
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
        for name in ["piton-serve", "argo-rollouts", "flagger"].into_iter().filter(|name| asked.wants(name)) {
            cluster::programs::say(&format!("{name}: {promotions} promotions"));
            match load(asked, name, *promotions).await {
                Ok(load) => {
                    cluster::programs::say(&serde_json::to_string(&load).unwrap_or_default());
                    all.push(load);
                }
                Err(why) => cluster::programs::say(&format!("{name} with {promotions}: SKIPPED: {why}")),
            }
        }
    }
    all
}

/// A controller's own limits of requests are set far off: what it takes is of interest, not what it is allowed.
async fn load(asked: &Asked, name: &'static str, promotions: usize) -> Answer<Load> {
    let folder = tempfile::Builder::new().prefix("piton-bench-").tempdir().map_err(|error| error.to_string())?;
    let dir = asked.keep.as_ref().map_or(folder.path().to_owned(), |keep| keep.join(format!("{name}-{promotions}")));
    std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    // A node takes 110 pods.
    let nodes = 3.max(2 * promotions / 100 + 1);
    let (log, apiserver_flags) = audited(&dir);
    let cluster = Cluster::start(Options { nodes, apiserver_flags, ..Options::default() }).await;
    let (namespace, client) = (cluster.namespace("scale").await, cluster.client().await.client);
    let kubeconfig = cluster.kubeconfig().to_owned();
    let site = Site { kubeconfig, namespace: namespace.clone(), dir, client: client.clone() };
    let ports = [Port::reserve(), Port::reserve()];
    let probe = |agents| Probe { requests: Requests::in_log(&log), agents, idle: asked.idle };
    let began = Instant::now();
    match name {
        "piton-serve" => Fleet::new(site, promotions).await?.measure(&probe(&["piton"])).await,
        "argo-rollouts" => {
            let controller = tools::argo::controller(&site, &ports, &["--qps=500", "--burst=1000"]).await?;
            let address = format!("127.0.0.1:{}", ports[0].number);
            let started = (controller.0.id(), scale::ready_in(began, &address, "/healthz").await?);
            let probe = probe(tools::argo::AGENTS);
            scale::measure(name, &scale::argo(client, namespace), promotions, started, &probe).await
        }
        _ => {
            let more = ["-kubeconfig-qps=500", "-kubeconfig-burst=1000"];
            let controller = tools::flagger::controller(&site, &ports[0], &more).await?;
            let address = format!("127.0.0.1:{}", ports[0].number);
            let started = (controller.0.id(), scale::ready_in(began, &address, "/healthz").await?);
            let probe = probe(tools::flagger::AGENTS);
            scale::measure(name, &scale::flagger(client, namespace), promotions, started, &probe).await
        }
    }
}

/// Where the API server writes down who asked for what, and the flags that make it do so.
fn audited(dir: &Path) -> (PathBuf, Vec<String>) {
    let (log, policy) = (dir.join("audit.log"), dir.join("policy.yaml"));
    std::fs::write(&policy, usage::POLICY).expect("room on the disk");
    let flags = [("audit-log-path", &log), ("audit-policy-file", &policy)];
    let flags = flags.iter().map(|(flag, path)| format!("--{flag}={}", path.display()));
    // What is counted must not be moved to another file meanwhile.
    let flags = flags.chain(["--audit-log-maxsize=100000".to_owned()]).collect();
    (log, flags)
}

fn write(file: &Path, text: &str) {
    let folder = file.parent().expect("it is in a folder");
    match std::fs::create_dir_all(folder).and_then(|()| std::fs::write(file, text)) {
        Ok(()) => println!("written: {}", file.display()),
        Err(error) => eprintln!("cannot write {}: {error}", file.display()),
    }
}
