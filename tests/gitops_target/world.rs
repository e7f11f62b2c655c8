use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::Ordering},
};

use piton::{
    ledger::Repository,
    model::{CommitId, EnvironmentName, Portion, Release, Share, TreeId},
    rack::Files,
    targets::{Act, Done, Live, Site, Target, TargetError, gitops::GitOpsTarget},
};
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    flux::{self, Host},
    tool::{CRDS, Tool},
};

pub const BRANCH: &str = "deploy/production";
/// Longer than any test: the tool never says that a Deployment with so much time makes no progress.
pub const PATIENT_SECONDS: u32 = 3600;

/// Who follows the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Played by `tool.rs`.
    ArgoCd,
    /// Real Flux with a `Kustomization`.
    Flux,
    /// Real Flux with a `HelmRelease`.
    FluxHelm,
}

enum Follower {
    Played(Tool),
    Real(Host),
}

/// A bare origin, a clone of it, a namespace, and a tool that follows a branch into it.
pub struct World {
    pub cluster: &'static Cluster,
    pub namespace: String,
    pub kind: Kind,
    follower: Follower,
    dir: tempfile::TempDir,
    identity: String,
}

impl World {
    pub async fn new(kind: Kind) -> World {
        let cluster = Cluster::shared().await;
        let dir = tempfile::tempdir().expect("a folder");
        git(dir.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
        git(dir.path(), &["clone", "--quiet", "origin.git", "clone"]);
        let namespace = cluster.namespace("apps").await;
        let follower = match kind {
            Kind::ArgoCd => {
                cluster.apply(CRDS).await;
                Follower::Played(Tool::start(cluster, &namespace, &dir.path().join("origin.git"), BRANCH).await)
            }
            Kind::Flux | Kind::FluxHelm => {
                flux::start(cluster).await;
                Follower::Real(Host::start(dir.path()).await)
            }
        };
        let identity = cluster.client().await.identity().await.expect("it answers");
        let world = World { cluster, namespace, kind, follower, dir, identity };
        world.follow(BRANCH, if kind == Kind::Flux { "wait: true" } else { "" }).await;
        world
    }

    /// Makes the tool's object, as a team would.
    pub async fn follow(&self, branch: &str, more: &str) {
        let namespace = &self.namespace;
        let yaml = match &self.follower {
            Follower::Played(_) => format!(
                "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: web, namespace: {namespace}}}\n\
                 spec: {{source: {{repoURL: x, path: ., targetRevision: {branch}}}, syncPolicy: {{automated: {{{more}}}}}}}\n"
            ),
            Follower::Real(host) => {
                let url = host.url();
                let repository = format!(
                    "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\n\
                     metadata: {{name: repo, namespace: {namespace}}}\n\
                     spec: {{url: '{url}', interval: 1h, ref: {{branch: {branch}}}}}\n---\n"
                );
                repository + &self.flux_object(more)
            }
        };
        self.cluster.apply(&yaml).await;
    }

    fn flux_object(&self, more: &str) -> String {
        let namespace = &self.namespace;
        match self.kind {
            Kind::FluxHelm => format!(
                "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\n\
                 metadata: {{name: web, namespace: {namespace}}}\n\
                 spec: {{interval: 1h, timeout: 30s, chart: {{spec: {{chart: ./chart, interval: 1h, \
                 reconcileStrategy: Revision, sourceRef: {{kind: GitRepository, name: repo}}}}}}, {more}}}\n"
            ),
            Kind::ArgoCd | Kind::Flux => format!(
                "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n\
                 metadata: {{name: web, namespace: {namespace}}}\n\
                 spec: {{interval: 1h, timeout: 30s, path: ./app, prune: true, targetNamespace: {namespace}, \
                 sourceRef: {{kind: GitRepository, name: repo}}, {more}}}\n"
            ),
        }
    }

    /// The tool does not look at its branch; real Flux then looks once an hour.
    pub fn look_away(&self, asleep: bool, config: &mut Value) {
        match &self.follower {
            Follower::Played(tool) => tool.asleep.store(asleep, Ordering::Relaxed),
            Follower::Real(_) => config["nudge"] = json!(!asleep),
        }
    }

    /// Whether the tool may fetch from the git host.
    pub fn forbid(&self, forbidden: bool) {
        let door = self.dir.path().join("forbidden");
        let done = if forbidden { std::fs::write(door, "") } else { std::fs::remove_file(door) };
        done.expect("a file");
    }

    pub fn config(&self) -> Value {
        let key = match self.kind {
            Kind::ArgoCd => "application",
            Kind::Flux => "kustomization",
            Kind::FluxHelm => "helmrelease",
        };
        json!({
            "branch": BRANCH, key: { "name": "web", "namespace": self.namespace }, "within": "60s",
            "cluster": { "identity": self.identity, "kubeconfig": self.cluster.kubeconfig() },
        })
    }

    /// A kubeconfig that names an API server where none listens.
    pub fn kubeconfig_of_nobody(&self) -> PathBuf {
        let text = std::fs::read_to_string(self.cluster.kubeconfig()).expect("it is there");
        let path = self.dir.path().join("nobody.kubeconfig");
        std::fs::write(&path, text.replace(&self.cluster.url(), "https://127.0.0.1:1")).expect("a file");
        path
    }

    pub fn target(&self, config: Value) -> GitOpsTarget {
        self.target_of("production", config)
    }

    pub fn target_of(&self, environment: &str, config: Value) -> GitOpsTarget {
        let repository = Repository::open(&self.clone(), Some("origin"), "piton").expect("it is a repository");
        let site = Site {
            environment: EnvironmentName::new(environment).expect("a name"),
            owner: piton::targets::Owner { pipeline: "shop".into(), branch: "piton/production".into() },
            state_dir: self.dir.path().join("state"),
            trees: Arc::new(Files(repository)),
            program: "piton".into(),
            progress: piton::targets::Progress::default(),
        };
        GitOpsTarget::new(&config, site).expect("a good configuration")
    }

    /// A commit on `main`, pushed, with this image, of which the tool soon says that it makes no progress.
    pub fn release(&self, tag: &str) -> Release {
        self.release_within(tag, 3)
    }

    /// The same where the Deployment has so many seconds to make progress.
    pub fn release_within(&self, tag: &str, seconds: u32) -> Release {
        self.release_of(&self.manifest(tag, seconds))
    }

    pub fn manifest(&self, tag: &str, seconds: u32) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: NAMESPACE}}\nspec:\n  replicas: 1\n  \
             progressDeadlineSeconds: {seconds}\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    \
             metadata: {{labels: {{app: web}}}}\n    spec: {{containers: [{{name: web, image: \"shop/web:{tag}\"}}]}}\n"
        )
    }

    pub fn release_of(&self, text: &str) -> Release {
        let clone = self.clone();
        for (file, text) in [
            ("app/app.yaml", text),
            ("chart/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n"),
            ("chart/templates/app.yaml", &text.replace("NAMESPACE", &self.namespace)),
        ] {
            std::fs::create_dir_all(clone.join(file).parent().expect("a folder")).expect("a folder");
            std::fs::write(clone.join(file), text).expect("a file");
        }
        git(&clone, &["add", "--all"]);
        git(
            &clone,
            &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "a release"],
        );
        git(&clone, &["push", "--quiet", "origin", "HEAD:main"]);
        Release {
            source: CommitId::new(git(&clone, &["rev-parse", "HEAD"])).expect("an id"),
            tree: TreeId::new(git(&clone, &["rev-parse", "HEAD^{tree}"])).expect("an id"),
            versions: BTreeMap::new(),
        }
    }

    /// Puts an empty commit on top of the branch that the tool follows.
    pub fn push_by_hand(&self, subject: &str) {
        let clone = self.clone();
        git(&clone, &["fetch", "--quiet", "origin", BRANCH]);
        git(&clone, &["checkout", "--quiet", "FETCH_HEAD"]);
        let who = ["-c", "user.name=mallory", "-c", "user.email=a@b"];
        git(&clone, &[&who[..], &["commit", "--quiet", "--allow-empty", "-m", subject]].concat());
        git(&clone, &["push", "--quiet", "origin", &format!("HEAD:{BRANCH}")]);
    }

    /// Flux looks at the branch at once, as when the git host calls it; what plays Argo CD always looks.
    pub async fn look_now(&self) {
        if let Follower::Real(_) = &self.follower {
            let requested = "reconcile.fluxcd.io/requestedAt=by-hand";
            let source = "gitrepositories.source.toolkit.fluxcd.io/repo";
            self.cluster.kubectl(&["annotate", "--overwrite", "--namespace", &self.namespace, source, requested]).await;
        }
    }

    pub fn clone(&self) -> PathBuf {
        self.dir.path().join("clone")
    }

    pub fn origin(&self) -> PathBuf {
        self.dir.path().join("origin.git")
    }

    /// The branch's commits, oldest first: subject and tree.
    pub fn log(&self) -> Vec<(String, String)> {
        let text = git(&self.origin(), &["log", "--reverse", "--format=%s|%T", BRANCH]);
        text.lines().filter_map(|line| line.split_once('|')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    }

    pub async fn image(&self) -> String {
        let found = self.cluster.get("Deployment", &self.namespace, "web").await.expect("it is there");
        found["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("text").to_owned()
    }
}

/// Runs git and gives what it printed.
pub fn git(dir: &Path, arguments: &[&str]) -> String {
    let ran = Command::new("git").args(arguments).current_dir(dir).output().expect("git is there");
    assert!(ran.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

pub async fn apply(target: &GitOpsTarget, release: &Release, fence: u64) -> Result<Done, TargetError> {
    target.perform(&Act::Apply { release: release.clone() }, fence).await
}

pub async fn shift(target: &GitOpsTarget, release: &Release, fence: u64) -> Result<Done, TargetError> {
    target.perform(&Act::Shift { release: release.clone(), to: Portion::Share(Share::WHOLE) }, fence).await
}

pub async fn back(
    target: &GitOpsTarget,
    from: &Release,
    to: Option<&Release>,
    fence: u64,
) -> Result<Done, TargetError> {
    target.perform(&Act::Retreat { from: from.clone(), to: to.cloned() }, fence).await
}

pub async fn live(target: &GitOpsTarget) -> Live {
    target.live().await.expect("it can be looked at")
}
