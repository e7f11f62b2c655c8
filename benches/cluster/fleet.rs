//! `piton serve` with many deploy repositories: a pipeline with one environment for each workload, as teams of services have it.

use std::{
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    cluster::ports::Port,
    scale::{self, Load, Probe, Seen},
    tools::{Answer, Controller, Site, image, until},
};

/// A deploy repository of so many services.
const SERVICES_PER_REPOSITORY: usize = 25;
/// Making thousands of workloads takes longer than any story.
const LONGEST: Duration = Duration::from_secs(1800);
const PACE: Duration = Duration::from_secs(1);

/// The repositories, and who follows them.
pub struct Fleet {
    site: Site,
    identity: String,
    services: usize,
    port: Port,
}

impl Fleet {
    pub async fn new(site: Site, services: usize) -> Answer<Fleet> {
        let words = ["get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}"];
        let identity = site.kubectl(&words).await?.trim().to_owned();
        Ok(Fleet { site, identity, services, port: Port::reserve() })
    }

    /// Brings the first version in, looks at the controller while it rests, brings the second one in, and looks again.
    pub async fn measure(&self, probe: &Probe) -> Answer<Load> {
        for number in 0..self.repositories() {
            self.make(number).await?;
        }
        let began = Instant::now();
        let (controller, address) = self.serve()?;
        let ready_in = scale::ready_in(began, &address, "/readyz").await?;
        let services = self.services;
        self.until_counted(&address, "promoted", services).await?;
        let began_in = began.elapsed().as_secs_f64();
        crate::cluster::programs::say(&format!("piton serve: {services} first versions after {began_in:.0} s"));
        let look = || Seen { pushes: git_runs(&address, "push"), looks: git_runs(&address, "look") };
        let idle = probe.idle(controller.0.id(), &look).await?;
        let began = Instant::now();
        for number in 0..self.repositories() {
            self.change(number).await?;
        }
        self.until_all_soak().await?;
        let reached_in = began.elapsed().as_secs_f64();
        let in_flight = probe.in_flight(controller.0.id(), &look).await?;
        let ended = ["rolled_back", "refused", "stuck"].map(|result| promotions(&address, result)).iter().sum::<u64>();
        match (promotions(&address, "promoted"), ended) {
            (promoted, 0) if promoted == services as u64 => {}
            (promoted, ended) => return Err(format!("{promoted} promoted, {ended} ended otherwise: none should end")),
        }
        Ok(Load { tool: "piton serve", promotions: services, ready_in: Some(ready_in), reached_in, idle, in_flight })
    }

    fn repositories(&self) -> usize {
        self.services.div_ceil(SERVICES_PER_REPOSITORY)
    }

    fn numbers(&self, repository: usize) -> std::ops::Range<usize> {
        let first = repository * SERVICES_PER_REPOSITORY;
        first..self.services.min(first + SERVICES_PER_REPOSITORY)
    }

    fn folder(&self, repository: usize) -> PathBuf {
        self.site.dir.join(format!("deploy-{repository}"))
    }

    async fn make(&self, repository: usize) -> Answer<()> {
        let (root, origin) = (self.site.dir.clone(), format!("origin-{repository}.git"));
        git(&self.site, &root, &["init", "--quiet", "--bare", "--initial-branch=main", &origin]).await?;
        git(&self.site, &root, &["clone", "--quiet", &origin, &format!("deploy-{repository}")]).await?;
        git(&self.site, &self.folder(repository), &["checkout", "--quiet", "-B", "main"]).await?;
        self.write(repository, "1.0.0", "0s").await
    }

    /// The bake of the second version outlasts every measurement.
    async fn change(&self, repository: usize) -> Answer<()> {
        self.write(repository, "1.1.0", "6h").await
    }

    async fn write(&self, repository: usize, tag: &str, bake: &str) -> Answer<()> {
        for number in self.numbers(repository) {
            let file = |folder: &str| format!("deploy-{repository}/{folder}/web-{number}.yaml");
            self.site.write(&file("pipelines"), &self.pipeline(number, bake))?;
            self.site.write(&file("deploy"), &workload(number, tag))?;
        }
        let folder = self.folder(repository);
        git(&self.site, &folder, &["add", "--all"]).await?;
        git(&self.site, &folder, &["commit", "--quiet", "--message", tag]).await?;
        git(&self.site, &folder, &["push", "--quiet", "origin", "main"]).await.map(drop)
    }

    fn pipeline(&self, number: usize, bake: &str) -> String {
        let (kubeconfig, namespace, identity) =
            (self.site.kubeconfig.display(), &self.site.namespace, self.identity.as_str());
        format!(
            "name: web-{number}
components:
  web: {{ file: deploy/web-{number}.yaml, path: \"spec.template.spec.containers[name=web].image\", part: tag }}
environments:
  web-{number}:
    target:
      kubernetes:
        cluster: {{ identity: \"{identity}\", kubeconfig: \"{kubeconfig}\" }}
        namespace: {namespace}
        manifests: [deploy/web-{number}.yaml]
        rollout: {{ within: 30m, steady: 0s }}
    gates: {{ during: [{{ workload: {{}}, name: pods, every: 30s }}] }}
    drift: {{ every: 10m }}
    bake: {bake}
    deadline: 12h
"
        )
    }

    fn serve(&self) -> Answer<(Controller, String)> {
        let address = format!("127.0.0.1:{}", self.port.number);
        let follows = (0..self.repositories())
            .map(|number| format!("shop-{number}={}", self.site.dir.join(format!("origin-{number}.git")).display()));
        let follows = follows.collect::<Vec<_>>().join(" ");
        let state = self.site.dir.join("state").display().to_string();
        let words = ["serve", "--no-lease", "--listen", &address, "--others", "30s", "--state-dir", &state];
        let log = std::fs::File::create(self.site.dir.join("controller.log")).map_err(|error| error.to_string())?;
        let err = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_piton"));
        command.args(words).env("PITON_FOLLOW", follows).env("PITON_ACTOR", "bench").env("HOME", &self.site.dir);
        command.stdin(std::process::Stdio::null()).stdout(log).stderr(err);
        let child: Child = command.spawn().map_err(|error| format!("cannot start piton: {error}"))?;
        Ok((Controller(child), address))
    }

    async fn until_counted(&self, address: &str, result: &str, wanted: usize) -> Answer<()> {
        let began = Instant::now();
        let log = self.site.dir.join("controller.log");
        let what = format!("{wanted} promotions to be {result}");
        let counted = until(&what, LONGEST, PACE, || async {
            let found = promotions(address, result);
            said_now_and_then(began, &format!("piton serve: {found} of {wanted} {result}"));
            Ok((found >= wanted as u64).then_some(()))
        });
        counted.await.map_err(|why| format!("{why}; {}", tail(&log)))
    }

    /// Every environment's newest page is of the second promotion, after its users were moved.
    async fn until_all_soak(&self) -> Answer<()> {
        let began = Instant::now();
        let log = self.site.dir.join("controller.log");
        let reached = until("all promotions to soak", LONGEST, Duration::from_secs(2), || async {
            let mut found = 0;
            for number in 0..self.repositories() {
                let origin = self.site.dir.join(format!("origin-{number}.git"));
                let words = ["for-each-ref", "--format=%(contents:subject)", "refs/heads/piton"];
                let subjects = git(&self.site, &origin, &words).await?;
                found += subjects.lines().filter(|subject| soaks(subject)).count();
            }
            said_now_and_then(began, &format!("piton serve: {found} of {} soak", self.services));
            Ok((found >= self.services).then_some(()))
        });
        reached.await.map_err(|why| format!("{why}; {}", tail(&log)))
    }
}

/// The check is the step before users are moved.
fn soaks(subject: &str) -> bool {
    let of_the_second = subject.strip_prefix("#2: ");
    of_the_second
        .is_some_and(|what| what.starts_with("gate ") || (what.starts_with("step ") && !what.starts_with("step 1 ")))
}

fn said_now_and_then(began: Instant, what: &str) {
    if began.elapsed().as_secs() % 20 < 2 {
        crate::cluster::programs::say(what);
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// The sum of a counter over all its series with this label.
fn promotions(address: &str, result: &str) -> u64 {
    scale::metric(address, "piton_promotions_total", &format!("result=\"{result}\"")) as u64
}

fn git_runs(address: &str, operation: &str) -> u64 {
    scale::metric(address, "piton_git_duration_seconds_count", &format!("operation=\"{operation}\"")) as u64
}

async fn git(site: &Site, dir: &Path, words: &[&str]) -> Answer<String> {
    let dir = dir.display().to_string();
    let words: Vec<&str> = ["-C", &dir].into_iter().chain(words.iter().copied()).collect();
    let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    site.run_with(Path::new("git"), &words, &who.map(|name| (name, "bench"))).await
}

fn workload(number: usize, tag: &str) -> String {
    let name = format!("web-{number}");
    let image: Value = image(tag).into();
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  replicas: 1
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{ name: web, image: {image} }}]
"
    )
}
