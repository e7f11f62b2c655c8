//! One environment of the target in a namespace of its own, and releases made of texts.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use piton::{
    model::{CommitId, Portion, Release, TreeId},
    targets::{Act, Checkout, Done, Live, Site, Target, TargetError, kubernetes::KubernetesTarget},
};
use serde_json::{Value, json};

use crate::cluster::Cluster;

pub struct World {
    pub cluster: &'static Cluster,
    pub namespace: String,
    pub identity: String,
    dir: tempfile::TempDir,
    files: Arc<Files>,
}

/// The files of each release.
#[derive(Default)]
struct Files(Mutex<BTreeMap<TreeId, BTreeMap<String, Vec<u8>>>>);

impl Checkout for Files {
    fn checkout(&self, tree: &TreeId, dir: &Path) -> Result<(), TargetError> {
        for (path, bytes) in &self.0.lock().expect("no test panics with it")[tree] {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        }
        Ok(())
    }
}

impl World {
    pub async fn new(prefix: &str) -> World {
        World::in_cluster(Cluster::shared().await, prefix).await
    }

    pub async fn in_cluster(cluster: &'static Cluster, prefix: &str) -> World {
        let namespace = cluster.namespace(prefix).await;
        let identity = cluster.client().await.identity().await.expect("kube-system is there");
        let dir = tempfile::Builder::new().prefix("piton-test-").tempdir().expect("a folder");
        World { cluster, namespace, identity, dir, files: Arc::default() }
    }

    /// A release of these files; `NS` in them stands for the namespace.
    pub fn release(&self, name: char, files: &[(&str, &str)]) -> Release {
        let tree: TreeId = name.to_string().repeat(40).parse().expect("a tree id");
        let text = |(path, text): &(&str, &str)| (path.to_string(), text.replace("NS", &self.namespace).into_bytes());
        let files = files.iter().map(text).collect();
        self.files.0.lock().expect("no test panics with it").insert(tree.clone(), files);
        let source: CommitId = name.to_string().repeat(40).parse().expect("a commit id");
        Release { tree, source, versions: BTreeMap::new() }
    }

    pub fn config(&self) -> Value {
        json!({
            "cluster": {"identity": self.identity, "kubeconfig": self.cluster.kubeconfig()},
            "namespace": self.namespace,
            "manifests": ["deploy"],
            "rollout": {"within": "60s"},
        })
    }

    pub fn target(&self) -> KubernetesTarget {
        self.target_with(|_| {})
    }

    pub fn target_with(&self, change: impl FnOnce(&mut Value)) -> KubernetesTarget {
        self.target_as("piton/staging", "staging", change)
    }

    /// The target of the pipeline whose environment has this branch.
    pub fn target_of(&self, branch: &str, change: impl FnOnce(&mut Value)) -> KubernetesTarget {
        self.target_as(branch, "staging", change)
    }

    /// The same place as another environment of the pipeline has it.
    pub fn target_for(&self, environment: &str, change: impl FnOnce(&mut Value)) -> KubernetesTarget {
        self.target_as(&format!("piton/{environment}"), environment, change)
    }

    fn target_as(&self, branch: &str, environment: &str, change: impl FnOnce(&mut Value)) -> KubernetesTarget {
        let mut config = self.config();
        change(&mut config);
        let site = Site {
            environment: environment.parse().expect("a name"),
            owner: piton::targets::Owner { pipeline: "shop".into(), branch: branch.into() },
            state_dir: self.dir.path().join("state"),
            trees: self.files.clone(),
            program: "/nowhere".into(),
            progress: Default::default(),
        };
        KubernetesTarget::new(&config, site).expect("a good configuration")
    }

    pub async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.cluster.get(kind, &self.namespace, name).await
    }

    pub async fn inventory(&self) -> Value {
        let map = self.get("ConfigMap", "piton-staging").await.expect("there is an inventory");
        serde_json::from_str(map["data"]["inventory.json"].as_str().expect("it is text")).expect("it is JSON")
    }
}

/// Every act by its name.
pub async fn apply(target: &KubernetesTarget, release: &Release, fence: u64) -> Result<Done, TargetError> {
    target.perform(&Act::Apply { release: release.clone() }, fence).await
}

pub async fn shift(target: &KubernetesTarget, release: &Release, fence: u64) -> Result<Done, TargetError> {
    target.perform(&Act::Shift { release: release.clone(), to: Portion::ALL }, fence).await
}

pub async fn retreat(
    target: &KubernetesTarget,
    from: &Release,
    to: Option<&Release>,
    fence: u64,
) -> Result<Done, TargetError> {
    target.perform(&Act::Retreat { from: from.clone(), to: to.cloned() }, fence).await
}

/// As the engine promotes: try, move, settle.
pub async fn promote(target: &KubernetesTarget, release: &Release, fence: u64) -> String {
    apply(target, release, fence).await.expect("it can be applied");
    let done = shift(target, release, fence).await.expect("it becomes live");
    target.perform(&Act::Settle { keep: Some(release.clone()) }, fence).await.expect("it settles");
    done.note
}

pub async fn live(target: &KubernetesTarget) -> Live {
    target.live().await.expect("it can be seen")
}

pub fn deployment(name: &str, tag: &str, replicas: u32, rest: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: main
          image: shop/{name}:{tag}
{rest}"
    )
}

pub fn configmap(name: &str, key: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{{key}: '{value}'}}\n")
}
