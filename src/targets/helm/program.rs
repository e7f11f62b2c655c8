//! The program `helm`: its arguments, and its failures as sentences.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    cluster::ClusterConfig,
    config::{Config, Hooks, Packaged, Unit},
    failure,
    storage::TREE_LABEL,
};
use crate::{
    clients::{
        process::{Program, Ran},
        registry::speaks_plain_http,
    },
    model::{Span, TreeId},
    targets::TargetError,
};

/// A manifest and all hooks of a large release, as Helm prints them.
const PRINTED_BYTES_MAX: usize = 64 * 1024 * 1024;
const VERSION_WITHIN: Span = Span::seconds(30);
/// Where the API server is for a program in a pod, or for one that its user has told.
const SURROUNDINGS: [&str; 3] = ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];

/// The team's own Helm.
#[derive(Debug, Clone)]
pub struct Helm {
    program: String,
    env: BTreeMap<String, String>,
    secrets: Vec<String>,
    within: Span,
}

/// One upgrade, all values put in.
#[derive(Debug, Clone)]
pub struct Upgrade<'a> {
    pub unit: &'a Unit,
    pub chart: &'a Path,
    /// The release tree's files.
    pub dir: &'a Path,
    pub values: Vec<String>,
    pub set: Vec<String>,
    pub flags: &'a [String],
    pub hooks: Hooks,
    pub tree: &'a TreeId,
    pub description: String,
}

impl Helm {
    pub fn new(config: &Config) -> Helm {
        let surroundings =
            SURROUNDINGS.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        Helm {
            program: config.program.clone(),
            env: surroundings.chain(config.env.clone()).collect(),
            secrets: config.secrets.clone(),
            within: config.within,
        }
    }

    /// Such as `v4.2.4`; anything but Helm 3 and 4 is refused.
    pub async fn version(&self) -> Result<String, TargetError> {
        let arguments = ["version", "--template", "{{.Version}}"].map(str::to_owned);
        let ran = self.run(arguments.to_vec(), None, VERSION_WITHIN).await?;
        let version = ran.stdout.trim().to_owned();
        match ran.succeeded() && (version.starts_with("v3.") || version.starts_with("v4.")) {
            true => Ok(version),
            false => {
                let said = ran.sentence(&self.program);
                let what = format!("piton works with Helm 3 and 4, and `{}` is neither: {said}", self.program);
                Err(TargetError::World { what, source: None })
            }
        }
    }

    /// Deploys; Helm itself waits for nothing but hooks.
    pub async fn upgrade(&self, upgrade: &Upgrade<'_>) -> Result<Ran, TargetError> {
        let mut arguments = upgrade.arguments();
        arguments.push(format!("--timeout={}s", (self.within.0 / 1000).max(1)));
        arguments.push(format!("--labels={TREE_LABEL}={}", upgrade.tree));
        arguments.push(format!("--description={}", upgrade.description));
        self.run(arguments, Some(upgrade.dir), self.within).await
    }

    /// Renders against the cluster and changes nothing; gives what would be applied.
    pub async fn render(&self, upgrade: &Upgrade<'_>) -> Result<String, TargetError> {
        let mut arguments = upgrade.arguments();
        arguments.extend(["--dry-run=server", "--output=json"].map(str::to_owned));
        let ran = self.run(arguments, Some(upgrade.dir), self.within).await?;
        if !ran.succeeded() {
            return Err(failure::of(&format!("cannot render {}", upgrade.unit), &ran));
        }
        // What is printed before the release is a warning.
        let json = ran.stdout.find("{\"name\"").map_or("", |at| &ran.stdout[at..]);
        let mut releases = serde_json::Deserializer::from_str(json).into_iter::<serde_json::Value>();
        let manifest =
            releases.next().and_then(Result::ok).and_then(|release| release["manifest"].as_str().map(str::to_owned));
        manifest.ok_or_else(|| {
            let what = format!("cannot read what `helm upgrade --dry-run` printed for {}", upgrade.unit);
            TargetError::World { what, source: None }
        })
    }

    /// Takes a release down, without waiting for its objects.
    pub async fn uninstall(&self, unit: &Unit, hooks: Hooks) -> Result<(), TargetError> {
        let mut arguments = vec!["uninstall".to_owned(), unit.release.clone()];
        arguments.extend(place(unit));
        arguments.push("--ignore-not-found".to_owned());
        arguments.extend((hooks == Hooks::Skip).then(|| "--no-hooks".to_owned()));
        let ran = self.run(arguments, None, self.within).await?;
        ended(&format!("cannot take down {unit}"), &ran)
    }

    /// Goes to a revision that only Helm knows.
    pub async fn rollback(&self, unit: &Unit, revision: u64, hooks: Hooks) -> Result<(), TargetError> {
        let mut arguments = vec!["rollback".to_owned(), unit.release.clone(), revision.to_string()];
        arguments.extend(place(unit));
        arguments.extend((hooks == Hooks::Skip).then(|| "--no-hooks".to_owned()));
        let ran = self.run(arguments, None, self.within).await?;
        ended(&format!("cannot go to revision {revision} of {unit}"), &ran)
    }

    /// Brings a packaged chart into an empty folder.
    pub async fn pull(&self, packaged: &Packaged, version: &str, into: &Path) -> Result<PathBuf, TargetError> {
        let mut arguments = vec!["pull".to_owned()];
        match &packaged.name {
            Some(name) => arguments.extend([name.clone(), format!("--repo={}", packaged.from)]),
            None => arguments.push(packaged.from.clone()),
        }
        let registry = packaged.from.strip_prefix("oci://").and_then(|rest| rest.split('/').next());
        arguments.extend(registry.is_some_and(speaks_plain_http).then(|| "--plain-http".to_owned()));
        arguments.extend([format!("--version={version}"), format!("--destination={}", into.display())]);
        let ran = self.run(arguments, None, self.within).await?;
        let what = format!("cannot fetch the chart {} {version}", packaged.from);
        if !ran.succeeded() {
            return Err(TargetError::World { what: format!("{what}: {}", failure::said(&ran)), source: None });
        }
        let packages = std::fs::read_dir(into).into_iter().flatten().flatten().map(|entry| entry.path());
        let package = packages.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "tgz"));
        package.ok_or_else(|| TargetError::World { what: format!("{what}: `helm pull` left no package"), source: None })
    }

    /// Fills `charts/` from the network.
    pub async fn update_dependencies(&self, chart: &Path) -> Result<(), TargetError> {
        let arguments = vec!["dependency".to_owned(), "update".to_owned(), chart.display().to_string()];
        let ran = self.run(arguments, None, self.within).await?;
        match ran.succeeded() {
            true => Ok(()),
            false => {
                let what = format!("cannot fetch the charts that the chart depends on: {}", failure::said(&ran));
                Err(TargetError::World { what, source: None })
            }
        }
    }

    async fn run(&self, arguments: Vec<String>, dir: Option<&Path>, within: Span) -> Result<Ran, TargetError> {
        let mut program = Program::new(std::iter::once(self.program.clone()).chain(arguments), within);
        program.dir = dir.map(Path::to_owned);
        program.env = self.env.clone();
        program.secrets = self.secrets.clone();
        program.output_kept_bytes = PRINTED_BYTES_MAX;
        let what = || format!("cannot run `{}`", self.program);
        program.run().await.map_err(|error| TargetError::World { what: what(), source: Some(Box::new(error)) })
    }
}

impl Upgrade<'_> {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["upgrade".to_owned(), self.unit.release.clone(), self.chart.display().to_string()];
        arguments.push("--install".to_owned());
        arguments.extend(place(self.unit));
        arguments.extend(self.values.iter().map(|file| format!("--values={file}")));
        arguments.extend(self.set.iter().map(|text| format!("--set={text}")));
        arguments.extend((self.hooks == Hooks::Skip).then(|| "--no-hooks".to_owned()));
        arguments.extend(self.flags.iter().cloned());
        arguments
    }
}

/// Which cluster, which namespace.
fn place(unit: &Unit) -> Vec<String> {
    let ClusterConfig { identity: _, context, kubeconfig } = &unit.cluster;
    let mut arguments = vec![format!("--namespace={}", unit.namespace)];
    arguments.extend(context.iter().map(|context| format!("--kube-context={context}")));
    // The program runs in another folder.
    let file = kubeconfig.iter().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()));
    arguments.extend(file.map(|file| format!("--kubeconfig={}", file.display())));
    arguments
}

fn ended(what: &str, ran: &Ran) -> Result<(), TargetError> {
    if ran.succeeded() { Ok(()) } else { Err(failure::of(what, ran)) }
}
