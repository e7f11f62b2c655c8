//! A GitOps tool in small, with switches for misbehaviour.

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

/// Whose API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    ArgoCd,
    Flux,
}

/// The CRDs as far as they matter here: with and without a status of its own, as the real ones.
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
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: kustomizations.kustomize.toolkit.fluxcd.io}
spec:
  group: kustomize.toolkit.fluxcd.io
  scope: Namespaced
  names: {plural: kustomizations, singular: kustomization, kind: Kustomization}
  versions:
  - {name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gitrepositories.source.toolkit.fluxcd.io}
spec:
  group: source.toolkit.fluxcd.io
  scope: Namespaced
  names: {plural: gitrepositories, singular: gitrepository, kind: GitRepository}
  versions:
  - {name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
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
    kind: Kind,
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
    pub async fn start(cluster: &'static Cluster, kind: Kind, namespace: &str, origin: &Path, branch: &str) -> Tool {
        let asleep = Arc::new(AtomicBool::new(false));
        let mut worker = Worker {
            cluster,
            client: cluster.client().await,
            kind,
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
                return self.write(self.failed(&commit, &why)).await;
            }
            *at = Some(commit.clone());
        }
        let health = self.health().await;
        let status = match self.kind {
            Kind::ArgoCd => argo(&commit, &health),
            Kind::Flux => flux(&self.branch, &commit, &health),
        };
        self.write(status).await
    }

    fn newest(&self) -> Option<(String, String)> {
        let repo = git2::Repository::open_bare(&self.origin).ok()?;
        let commit = repo.find_reference(&format!("refs/heads/{}", self.branch)).ok()?.peel_to_commit().ok()?;
        let entry = commit.tree().ok()?.get_name("app.yaml").map(|entry| entry.id());
        let text = entry.and_then(|id| Some(String::from_utf8_lossy(repo.find_blob(id).ok()?.content()).into_owned()));
        Some((commit.id().to_string(), text.unwrap_or_default()))
    }

    /// `Healthy`, `Progressing` or `Degraded`, by the rules that both tools have for a Deployment; for a moment after a
    /// change it still says what was so before, as theirs may.
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

    fn failed(&self, commit: &str, why: &str) -> Value {
        match self.kind {
            Kind::ArgoCd => json!({
                "sync": { "status": "OutOfSync", "revision": commit },
                "health": { "status": "Healthy" },
                "operationState": { "phase": "Failed", "message": why, "syncResult": { "revision": commit } },
            }),
            Kind::Flux => flux_status(&self.branch, commit, None, "False", "BuildFailed", why),
        }
    }

    async fn write(&mut self, status: Value) -> Result<(), String> {
        if status == self.written {
            return Ok(());
        }
        let (api_version, kind) = match self.kind {
            Kind::ArgoCd => ("argoproj.io/v1alpha1", "Application"),
            Kind::Flux => ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
        };
        let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
        let id = ObjectId { api_version, kind, namespace: Some(self.namespace.clone()), name: "web".to_owned() };
        let api = self.client.api(&id).await.map_err(|error| error.to_string())?;
        let patch = Patch::Merge(json!({ "status": status }));
        let written = match self.kind {
            Kind::ArgoCd => api.patch("web", &PatchParams::default(), &patch).await,
            Kind::Flux => api.patch_status("web", &PatchParams::default(), &patch).await,
        };
        written.map_err(|error| error.to_string())?;
        self.written = status;
        Ok(())
    }
}

fn argo(commit: &str, (health, why): &(String, String)) -> Value {
    json!({
        "sync": { "status": "Synced", "revision": commit },
        "health": { "status": health, "message": why },
        "operationState": { "phase": "Succeeded", "message": "", "syncResult": { "revision": commit } },
    })
}

fn flux(branch: &str, commit: &str, (health, why): &(String, String)) -> Value {
    match health.as_str() {
        "Healthy" => flux_status(branch, commit, Some(commit), "True", "ReconciliationSucceeded", "Applied revision"),
        "Degraded" => {
            flux_status(branch, commit, None, "False", "HealthCheckFailed", &format!("health check failed: {why}"))
        }
        _ => flux_status(branch, commit, None, "Unknown", "Progressing", why),
    }
}

/// `applied` stays what it was where it is not said.
fn flux_status(branch: &str, attempted: &str, applied: Option<&str>, ready: &str, reason: &str, why: &str) -> Value {
    let revision = |commit: &str| format!("{branch}@sha1:{commit}");
    let mut status = json!({
        "observedGeneration": 1,
        "lastAttemptedRevision": revision(attempted),
        "conditions": [{ "type": "Ready", "status": ready, "reason": reason, "message": why, "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z" }],
    });
    if let Some(applied) = applied {
        status["lastAppliedRevision"] = revision(applied).into();
    }
    status
}
