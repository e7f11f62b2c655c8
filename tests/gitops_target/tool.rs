//! Argo CD in small, with a switch for misbehaviour: it applies what is on the branch and writes status as its
//! documented API has it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::api::{Patch, PatchParams};
use piton::clients::kube::ObjectId;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::cluster::Cluster;

/// From one look at the branch and the cluster to the next.
const PACE: Duration = Duration::from_millis(50);

/// The CRD as far as it matters here: without a status of its own, as the real one.
pub const CRDS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: applications.argoproj.io}
spec:
  group: argoproj.io
  scope: Namespaced
  names: {plural: applications, singular: application, kind: Application}
  versions:
  - {name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
"#;

/// The tool at work on one object, until it is dropped.
pub struct Tool {
    worker: JoinHandle<()>,
    /// It does not look at its branch.
    pub asleep: Arc<AtomicBool>,
}

struct Worker {
    cluster: &'static Cluster,
    client: piton::clients::kube::Cluster,
    namespace: String,
    origin: PathBuf,
    branch: String,
    asleep: Arc<AtomicBool>,
    /// What was written last, so that a status is written only when it changes.
    written: Value,
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Tool {
    pub async fn start(cluster: &'static Cluster, namespace: &str, origin: &Path, branch: &str) -> Tool {
        let asleep = Arc::new(AtomicBool::new(false));
        let mut worker = Worker {
            cluster,
            client: cluster.client().await,
            namespace: namespace.to_owned(),
            origin: origin.to_owned(),
            branch: branch.to_owned(),
            asleep: asleep.clone(),
            written: Value::Null,
        };
        let work = async move {
            let mut at = None;
            loop {
                if let Err(why) = worker.turn(&mut at).await {
                    println!("the tool: {why}");
                }
                // polls a real condition
                tokio::time::sleep(PACE).await;
            }
        };
        Tool { worker: tokio::spawn(work), asleep }
    }
}

impl Worker {
    /// One reconciliation: the newest commit, its manifests, how they are doing.
    async fn turn(&mut self, at: &mut Option<String>) -> Result<(), String> {
        if self.asleep.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some((commit, manifests)) = self.newest() else { return Ok(()) };
        if at.as_deref() != Some(&commit) {
            let applied = self.cluster.apply_as("the-tool", &manifests.replace("NAMESPACE", &self.namespace)).await;
            if let Err(why) = applied {
                return self.write(failed(&commit, &why)).await;
            }
            *at = Some(commit.clone());
        }
        let health = self.health().await;
        self.write(status(&commit, &self.namespace, &health)).await
    }

    fn newest(&self) -> Option<(String, String)> {
        let repo = git2::Repository::open_bare(&self.origin).ok()?;
        let commit = repo.find_reference(&format!("refs/heads/{}", self.branch)).ok()?.peel_to_commit().ok()?;
        let entry = commit.tree().ok()?.get_path(Path::new("app/app.yaml")).ok().map(|entry| entry.id());
        let text = entry.and_then(|id| Some(String::from_utf8_lossy(repo.find_blob(id).ok()?.content()).into_owned()));
        Some((commit.id().to_string(), text.unwrap_or_default()))
    }

    /// `Healthy`, `Progressing` or `Degraded`, by Argo CD's rules for a Deployment; for a moment after a change it
    /// still says what was so before, as the real one may.
    async fn health(&self) -> (String, String) {
        let said = |word: &str, why: &str| (word.to_owned(), why.to_owned());
        let Some(found) = self.cluster.get("Deployment", &self.namespace, "web").await else {
            return said("Progressing", "no Deployment yet");
        };
        let (status, wanted) = (&found["status"], &found["spec"]["replicas"]);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|c| c["reason"] == "ProgressDeadlineExceeded") {
            return said("Degraded", "Deployment \"web\" exceeded its progress deadline");
        }
        let seen = status["observedGeneration"] == found["metadata"]["generation"];
        let all = ["updatedReplicas", "availableReplicas", "replicas"].iter().all(|key| status[*key] == *wanted);
        if seen && all { said("Healthy", "") } else { said("Progressing", "Waiting for rollout to finish") }
    }

    async fn write(&mut self, status: Value) -> Result<(), String> {
        if status == self.written {
            return Ok(());
        }
        let (api_version, kind) = ("argoproj.io/v1alpha1".to_owned(), "Application".to_owned());
        let id = ObjectId { api_version, kind, namespace: Some(self.namespace.clone()), name: "web".to_owned() };
        let api = self.client.api(&id).await.map_err(|error| error.to_string())?;
        let patch = Patch::Merge(json!({ "status": status }));
        let written = api.patch("web", &PatchParams::default(), &patch).await;
        written.map_err(|error| error.to_string())?;
        self.written = status;
        Ok(())
    }
}

fn status(commit: &str, namespace: &str, (health, why): &(String, String)) -> Value {
    let web = json!({
        "group": "apps", "version": "v1", "kind": "Deployment", "namespace": namespace, "name": "web", "status": "Synced",
    });
    json!({
        "resources": [web],
        "sync": { "status": "Synced", "revision": commit },
        "health": { "status": health, "message": why },
        "operationState": { "phase": "Succeeded", "message": "", "syncResult": { "revision": commit } },
    })
}

fn failed(commit: &str, why: &str) -> Value {
    json!({
        "sync": { "status": "OutOfSync", "revision": commit },
        "health": { "status": "Healthy" },
        "operationState": { "phase": "Failed", "message": why, "syncResult": { "revision": commit } },
    })
}
