//! The tools that are held against each other. Each does the same with its own means.

pub mod argo;
pub mod flagger;
mod helm;
mod kubectl;
mod piton;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use kube::Client;
use serde_json::Value;

use crate::cluster::programs::GoProgram;

/// What every tool is told to wait for a change that does not become ready.
pub const PATIENCE_SECONDS: u32 = 15;
/// Pods of the workload.
pub const REPLICAS: usize = 5;
/// No story of any tool takes longer.
pub const LONGEST: Duration = Duration::from_secs(300);

pub type Answer<T> = Result<T, String>;

/// Where a tool works.
#[derive(Clone)]
pub struct Site {
    pub kubeconfig: PathBuf,
    pub namespace: String,
    /// The tool's own folder.
    pub dir: PathBuf,
    pub client: Client,
}

/// How a change ended, as the tool says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Good,
    WentBack,
}

/// One tool in its namespace.
pub trait Tool: Send + Sync {
    fn name(&self) -> &'static str;

    /// What it calls itself before the API server.
    fn agents(&self) -> &'static [&'static str];

    /// How often a good change and the way back are tried; the middle of them is shown.
    fn times(&self) -> usize {
        3
    }

    /// How long its program takes to start and to find that there is nothing to do; nothing where it runs all the time.
    fn startup(&self) -> BoxFuture<'_, Answer<Option<f64>>> {
        Box::pin(async { Ok(None) })
    }

    /// Starts what must run, and brings the first version of the workload up.
    fn start<'a>(&'a mut self, tag: &'a str) -> BoxFuture<'a, Answer<()>>;

    /// Brings this version in, and waits until the tool says that it is over.
    fn change<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, Answer<Ending>>;

    /// Goes back from one version to the one before it, because a person says so.
    fn back<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, Answer<()>>;

    /// After a change that was not good: what a person must do before the next one.
    fn mend<'a>(&'a self, good: &'a str) -> BoxFuture<'a, Answer<()>>;
}

/// How a tool is made.
type Make = fn(Site) -> Box<dyn Tool>;

/// Every tool, ours first.
pub const ALL: &[(&str, Make)] = &[
    ("piton", piton::rolling),
    ("piton-canary", piton::canary),
    ("helm3", helm::three),
    ("helm4", helm::four),
    ("kubectl", kubectl::make),
    ("argo-rollouts", argo::make),
    ("flagger", flagger::make),
];

impl Site {
    /// Runs a program to its end: what it printed, or what it complained.
    pub async fn run(&self, program: &Path, words: &[&str]) -> Answer<String> {
        self.run_with(program, words, &[]).await
    }

    pub async fn run_with(&self, program: &Path, words: &[&str], variables: &[(&str, &str)]) -> Answer<String> {
        let mut command = tokio::process::Command::new(program);
        command.args(words).current_dir(&self.dir).env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.dir);
        command.envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LONGEST, command.output()).await;
        let output = output.map_err(|_| format!("{} {words:?} took too long", program.display()))?;
        let output = output.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match output.status.success() {
            true => Ok(out.into_owned()),
            false => Err(format!("{} {words:?} ended with {}: {out}{err}", program.display(), output.status)),
        }
    }

    pub async fn kubectl(&self, words: &[&str]) -> Answer<String> {
        let namespace = format!("--namespace={}", self.namespace);
        let words: Vec<&str> = [namespace.as_str()].into_iter().chain(words.iter().copied()).collect();
        self.run(&built(crate::cluster::programs::KUBECTL).await?, &words).await
    }

    pub async fn apply(&self, name: &str, text: &str) -> Answer<()> {
        let path = self.write(name, text)?;
        let file = format!("--filename={}", path.display());
        self.kubectl(&["apply", "--server-side", "--force-conflicts", &file]).await.map(drop)
    }

    pub fn write(&self, name: &str, text: &str) -> Answer<PathBuf> {
        let path = self.dir.join(name);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&path, text)).map_err(|error| format!("cannot write {name}: {error}"))?;
        Ok(path)
    }

    /// An object as it is.
    pub async fn get(&self, group: &str, version: &str, kind: &str, name: &str) -> Answer<Value> {
        let kind = kube::core::GroupVersionKind::gvk(group, version, kind);
        let resource = kube::api::ApiResource::from_gvk(&kind);
        let api: kube::Api<kube::api::DynamicObject> =
            kube::Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let found = api.get(name).await.map_err(|error| error.to_string())?;
        serde_json::to_value(found).map_err(|error| error.to_string())
    }

    /// Starts a controller, whose words go to a log in the tool's folder.
    pub fn start(&self, program: &Path, words: &[String]) -> Answer<std::process::Child> {
        let log = std::fs::File::create(self.dir.join("controller.log")).map_err(|error| error.to_string())?;
        let err = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = std::process::Command::new(program);
        command.args(words).current_dir(&self.dir).env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.dir);
        command.stdin(Stdio::null()).stdout(log).stderr(err);
        command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))
    }
}

/// A controller that ends with its tool.
pub struct Controller(pub std::process::Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds a program, or says why there is none.
pub async fn built(program: GoProgram) -> Answer<PathBuf> {
    let built = tokio::task::spawn_blocking(move || program.path()).await;
    built.map_err(|_| format!("{} cannot be built", program.name))
}

/// Where the module of a program lies unpacked: its CRDs are there.
pub fn module_folder(program: GoProgram) -> Answer<PathBuf> {
    let mut go = std::process::Command::new("go");
    go.args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", program.version_of]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(program.folder);
    let output = go.current_dir(folder).output().map_err(|error| format!("cannot run go: {error}"))?;
    let place = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() && !place.is_empty() {
        true => Ok(place.into()),
        false => Err(format!("go list: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// The least time of five that a program takes to say its version.
pub async fn bare_start(site: &Site, program: &Path, words: &[&str]) -> Answer<Option<f64>> {
    let mut least = f64::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        site.run(program, words).await?;
        least = least.min(began.elapsed().as_secs_f64());
    }
    Ok(Some(least))
}

/// Often enough for the figures, seldom enough to be no load.
pub const PACE: Duration = Duration::from_millis(50);

/// Looks until it is so.
pub async fn until<T, F: Future<Output = Answer<Option<T>>>>(
    what: &str,
    longest: Duration,
    pace: Duration,
    mut look: impl FnMut() -> F,
) -> Answer<T> {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if began.elapsed() > longest {
            return Err(format!("waited {longest:?} for {what}"));
        }
        tokio::time::sleep(pace).await;
    }
}

/// The image of the workload; what its pods do follows from the tag.
pub fn image(tag: &str) -> String {
    format!("registry.test/web:{tag}")
}

/// The workload and its service.
pub fn workload(tag: &str) -> String {
    deployment(tag) + SERVICE
}

pub fn deployment(tag: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web }}
spec:
  replicas: {REPLICAS}
  progressDeadlineSeconds: {PATIENCE_SECONDS}
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{ name: web, image: {} }}]
",
        image(tag)
    )
}

/// The service alone.
pub fn service() -> &'static str {
    SERVICE.trim_start_matches("---\n")
}

pub const SERVICE: &str = "---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
";
