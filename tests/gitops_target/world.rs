use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
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
    tool::{CRDS, Kind, Tool},
};

pub const BRANCH: &str = "deploy/production";

/// A bare origin, a clone of it, a namespace, and a tool that follows a branch into it.
pub struct World {
    pub cluster: &'static Cluster,
    pub namespace: String,
    pub tool: Tool,
    kind: Kind,
    dir: tempfile::TempDir,
    identity: String,
}

impl World {
    pub async fn new(kind: Kind) -> World {
        let cluster = Cluster::shared().await;
        let dir = tempfile::tempdir().expect("a folder");
        git(dir.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
        git(dir.path(), &["clone", "--quiet", "origin.git", "clone"]);
        cluster.apply(CRDS).await;
        let namespace = cluster.namespace("apps").await;
        let tool = Tool::start(cluster, kind, &namespace, &dir.path().join("origin.git"), BRANCH).await;
        let identity = cluster.client().await.identity().await.expect("it answers");
        let world = World { cluster, namespace, tool, kind, dir, identity };
        world.follow(BRANCH, "").await;
        world
    }

    /// Makes the tool's object, as a team would.
    pub async fn follow(&self, branch: &str, more: &str) {
        let namespace = &self.namespace;
        let yaml = match self.kind {
            Kind::ArgoCd => format!(
                "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: web, namespace: {namespace}}}\n\
                 spec: {{source: {{repoURL: x, path: ., targetRevision: {branch}}}, syncPolicy: {{automated: {{{more}}}}}}}\n"
            ),
            Kind::Flux => format!(
                "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: repo, namespace: {namespace}}}\n\
                 spec: {{url: x, interval: 1h, ref: {{branch: {branch}}}}}\n---\n\
                 apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: web, namespace: {namespace}}}\n\
                 spec: {{interval: 1h, path: ., prune: true, sourceRef: {{kind: GitRepository, name: repo}}, {more}}}\n"
            ),
        };
        self.cluster.apply(&yaml).await;
    }

    pub fn config(&self) -> Value {
        let key = match self.kind {
            Kind::ArgoCd => "application",
            Kind::Flux => "kustomization",
        };
        json!({
            "branch": BRANCH, key: { "name": "web", "namespace": self.namespace }, "within": "60s",
            "cluster": { "identity": self.identity, "kubeconfig": self.cluster.kubeconfig() },
        })
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

    /// A commit on `main`, pushed, with this image.
    pub fn release(&self, tag: &str) -> Release {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: NAMESPACE}}\nspec:\n  replicas: 1\n  \
             progressDeadlineSeconds: 3\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    \
             metadata: {{labels: {{app: web}}}}\n    spec: {{containers: [{{name: web, image: \"shop/web:{tag}\"}}]}}\n"
        );
        self.release_of(&text)
    }

    pub fn release_of(&self, text: &str) -> Release {
        let clone = self.clone();
        std::fs::write(clone.join("app.yaml"), text).expect("a file");
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
