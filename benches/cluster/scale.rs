//! What a controller takes while many promotions are in flight, and while nothing happens.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    tools::{Answer, image, until},
    usage::{self, Requests},
};

/// How long a controller is looked at in the middle of its promotions.
const SAMPLE: Duration = Duration::from_secs(60);
/// Requests of ours at once, when the workloads are made.
const AT_ONCE: usize = 24;
/// Making thousands of workloads takes longer than any story.
const LONGEST: Duration = Duration::from_secs(1800);
/// After the last change that was waited for: what is written and watched because of it comes to rest.
const CALM: Duration = Duration::from_secs(20);

/// One controller with so many workloads.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    pub tool: &'static str,
    pub promotions: usize,
    /// From the start of the program until it says that it is ready.
    pub ready_in: Option<f64>,
    /// From the change of all workloads until all of them are in the middle of it.
    pub reached_in: f64,
    pub idle: Sample,
    pub in_flight: Sample,
}

#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    pub seconds: f64,
    /// Of one core, with the programs that it runs.
    pub cpu_percent: f64,
    /// Of this, the programs that it runs.
    pub children_percent: f64,
    pub resident_mib: f64,
    pub threads: u64,
    /// Requests to the API server, by its audit log.
    pub requests_per_second: f64,
    /// Of the git host.
    pub pushes_per_second: f64,
    pub looks_per_second: f64,
}

/// What a controller has asked of its git host so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub pushes: u64,
    pub looks: u64,
}

/// Looks at a controller.
pub struct Probe {
    pub requests: Requests,
    /// What the controller calls itself before the API server.
    pub agents: &'static [&'static str],
    /// How long it is looked at while it rests.
    pub idle: Duration,
}

impl Probe {
    pub async fn idle(&self, pid: u32, look: &(dyn Fn() -> Seen + Sync)) -> Answer<Sample> {
        self.sample(pid, self.idle, look).await
    }

    pub async fn in_flight(&self, pid: u32, look: &(dyn Fn() -> Seen + Sync)) -> Answer<Sample> {
        self.sample(pid, SAMPLE, look).await
    }

    /// What the process takes over this time.
    async fn sample(&self, pid: u32, time: Duration, look: &(dyn Fn() -> Seen + Sync)) -> Answer<Sample> {
        tokio::time::sleep(CALM).await;
        let gone = || "the controller has ended".to_owned();
        let (mark, seen_before) = (self.requests.mark(), look());
        let before = usage::of(pid).ok_or_else(gone)?;
        tokio::time::sleep(time).await;
        let after = usage::of(pid).ok_or_else(gone)?;
        let seen = look();
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        let percent = |took: Duration| took.as_secs_f64() / seconds * 100.0;
        let children = after.children_cpu.saturating_sub(before.children_cpu);
        let requests = usage::own(&self.requests.since(mark), self.agents);
        Ok(Sample {
            seconds,
            cpu_percent: percent(after.cpu.saturating_sub(before.cpu) + children),
            children_percent: percent(children),
            resident_mib: after.resident_bytes as f64 / 1024.0 / 1024.0,
            threads: after.threads,
            requests_per_second: requests as f64 / seconds,
            pushes_per_second: seen.pushes.saturating_sub(seen_before.pushes) as f64 / seconds,
            looks_per_second: seen.looks.saturating_sub(seen_before.looks) as f64 / seconds,
        })
    }
}

/// One plain HTTP question; the status and the body.
pub fn ask(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned()))
}

/// The sum of a metric over its series with this label.
pub fn metric(address: &str, name: &str, label: &str) -> f64 {
    let page = ask(address, "/metrics").map(|answer| answer.1).unwrap_or_default();
    let ours = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// From the start of a controller until it answers there.
pub async fn ready_in(began: Instant, address: &str, path: &str) -> Answer<f64> {
    let answers = || async { Ok(ask(address, path).is_ok_and(|answer| answer.0 == 200).then_some(())) };
    until("the controller to be ready", LONGEST, Duration::from_millis(20), answers).await?;
    Ok(began.elapsed().as_secs_f64())
}

/// A kind of workload that a controller leads through a promotion.
pub struct Workloads {
    pub client: Client,
    pub namespace: String,
    pub kind: GroupVersionKind,
    /// The object of that name, and what else it needs.
    pub objects: fn(&str) -> Vec<Value>,
    /// The object that is changed to begin a promotion, and how.
    pub change: fn(&str) -> (GroupVersionKind, Value),
    /// Whether it rests, and whether it is in the middle of a promotion.
    pub rests: fn(&Value) -> bool,
    pub moves: fn(&Value) -> bool,
}

/// Makes the workloads, looks at the controller while they rest, changes them all, and looks again.
pub async fn measure(
    tool: &'static str,
    workloads: &Workloads,
    promotions: usize,
    (pid, ready_in): (u32, f64),
    probe: &Probe,
) -> Answer<Load> {
    let names: Vec<String> = (0..promotions).map(|number| format!("web-{number}")).collect();
    let make = |name: &String| {
        let objects = (workloads.objects)(name);
        async move {
            for object in objects {
                workloads.put(object).await?;
            }
            Ok(())
        }
    };
    all(stream::iter(&names).map(make).buffer_unordered(AT_ONCE)).await?;
    workloads.until_all(promotions, "rest", workloads.rests).await?;
    let idle = probe.idle(pid, &Seen::default).await?;
    let began = Instant::now();
    let change = |name: &String| {
        let (kind, patch) = (workloads.change)(name);
        let name = name.clone();
        async move {
            let api = workloads.api(&kind);
            let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
            patched.map(drop).map_err(|error| error.to_string())
        }
    };
    all(stream::iter(&names).map(change).buffer_unordered(AT_ONCE)).await?;
    workloads.until_all(promotions, "are in the middle", workloads.moves).await?;
    let reached_in = began.elapsed().as_secs_f64();
    let in_flight = probe.in_flight(pid, &Seen::default).await?;
    Ok(Load { tool, promotions, ready_in: Some(ready_in), reached_in, idle, in_flight })
}

async fn all(results: impl futures_util::Stream<Item = Answer<()>>) -> Answer<()> {
    let results: Vec<Answer<()>> = results.collect().await;
    results.into_iter().collect()
}

impl Workloads {
    fn api(&self, kind: &GroupVersionKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::from_gvk(kind))
    }

    async fn put(&self, object: Value) -> Answer<()> {
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let api = self.api(&GroupVersionKind::gvk(group, version, &kind));
        let applied = api.patch(&name, &PatchParams::apply("bench").force(), &Patch::Apply(&object)).await;
        applied.map(drop).map_err(|error| format!("cannot make {kind} {name}: {error}"))
    }

    async fn until_all(&self, count: usize, what: &str, so: fn(&Value) -> bool) -> Answer<()> {
        let began = Instant::now();
        let api = self.api(&self.kind);
        until(&format!("all {count} workloads to {what}"), LONGEST, Duration::from_secs(2), || async {
            let list = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let found = list.items.iter().filter(|item| serde_json::to_value(item).is_ok_and(|value| so(&value)));
            let found = found.count();
            if began.elapsed().as_secs() % 30 < 2 {
                crate::cluster::programs::say(&format!("{found} of {count} {what}"));
            }
            Ok((found >= count).then_some(()))
        })
        .await
    }
}

/// Rollouts that stop in the middle until somebody says go on.
pub fn argo(client: Client, namespace: String) -> Workloads {
    Workloads {
        client,
        namespace,
        kind: GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout"),
        objects: |name| {
            vec![json!({
                "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": { "name": name },
                "spec": {
                    "replicas": 1,
                    "selector": { "matchLabels": { "app": name } },
                    "strategy": { "canary": { "steps": [{ "setWeight": 50 }, { "pause": {} }] } },
                    "template": template(name, "1.0.0"),
                },
            })]
        },
        change: |name| {
            let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout");
            (kind, json!({ "spec": { "template": template(name, "1.1.0") } }))
        },
        rests: |rollout| rollout["status"]["phase"] == "Healthy",
        moves: |rollout| rollout["status"]["phase"] == "Paused",
    }
}

/// Canaries whose analysis goes on for hours.
pub fn flagger(client: Client, namespace: String) -> Workloads {
    Workloads {
        client,
        namespace,
        kind: GroupVersionKind::gvk("flagger.app", "v1beta1", "Canary"),
        objects: |name| {
            let deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
                "spec": {
                    "replicas": 1,
                    "selector": { "matchLabels": { "app": name } },
                    "template": template(name, "1.0.0"),
                },
            });
            let canary = json!({
                "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": { "name": name },
                "spec": {
                    "provider": "kubernetes",
                    "targetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
                    "service": { "port": 80 },
                    "analysis": { "interval": "10s", "threshold": 1000, "iterations": 1000 },
                },
            });
            vec![deployment, canary]
        },
        change: |name| {
            let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
            (kind, json!({ "spec": { "template": template(name, "1.1.0") } }))
        },
        rests: |canary| canary["status"]["phase"] == "Initialized",
        moves: |canary| canary["status"]["phase"] == "Progressing" && canary["status"]["iterations"] != 0,
    }
}

fn template(name: &str, tag: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": name } },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": [{ "name": "web", "image": image(tag) }] },
    })
}
