//! A namespace with workloads, and somebody who watches them.

use std::time::{Duration, Instant};

use piton::{
    clients::kube::{Cluster as Connection, ObjectId},
    model::Span,
    targets::{
        Progress,
        kubernetes::{
            health::Trouble,
            rollout::{self, Config, Ended},
        },
    },
};
use serde_json::Value;

use crate::cluster::Cluster;

/// Whatever is visibly broken is decided within this time, on the most loaded machine.
pub const DECIDED_WITHIN: Duration = Duration::from_secs(30);

pub struct World<'a> {
    pub cluster: &'a Cluster,
    pub connection: Connection,
    pub namespace: String,
}

/// How a watched rollout ended, and when.
pub struct Story {
    pub ended: Ended,
    pub took: Duration,
    /// From the moment the API server showed it until the decision.
    pub decided_after: Option<Duration>,
    /// What was said on the way.
    pub said: Vec<String>,
}

impl World<'static> {
    /// A fresh namespace of the cluster that all tests share.
    pub async fn new() -> World<'static> {
        World::of(Cluster::shared().await).await
    }
}

impl<'a> World<'a> {
    pub async fn of(cluster: &'a Cluster) -> World<'a> {
        World { cluster, connection: cluster.client().await, namespace: cluster.namespace("rollout").await }
    }

    pub fn id(&self, kind: &str, name: &str) -> ObjectId {
        let api_version = match kind {
            "Job" => "batch/v1",
            "Service" | "Pod" => "v1",
            _ => "apps/v1",
        };
        ObjectId {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: Some(self.namespace.clone()),
            name: name.to_owned(),
        }
    }

    /// Applies a Deployment `web`; its container does what the image's tag says. `more` goes into the container.
    pub async fn deployment(&self, replicas: u32, tag: &str, more: &str) -> ObjectId {
        self.workload("Deployment", &format!("replicas: {replicas}"), tag, more).await
    }

    /// Applies a workload `web` of any kind; `spec` and `more` are lines of YAML in flow form.
    pub async fn workload(&self, kind: &str, spec: &str, tag: &str, more: &str) -> ObjectId {
        let ready = "readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}";
        let more = if more.is_empty() { ready } else { more };
        let spec = if spec.is_empty() { String::new() } else { format!("{spec}, ") };
        self.cluster
            .apply(&format!(
                "{{apiVersion: apps/v1, kind: {kind}, metadata: {{namespace: {}, name: web}}, spec: {{{spec}\
                 selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{\
                 terminationGracePeriodSeconds: 1, containers: [{{name: web, image: \"example.org/web:{tag}\", \
                 {more}}}]}}}}}}}}",
                self.namespace
            ))
            .await;
        self.id(kind, "web")
    }

    pub async fn service(&self) -> ObjectId {
        self.cluster
            .apply(&format!(
                "{{apiVersion: v1, kind: Service, metadata: {{namespace: {}, name: web}}, \
                 spec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}}}",
                self.namespace
            ))
            .await;
        self.id("Service", "web")
    }

    /// Watches to the end.
    pub async fn watch(&self, objects: &[ObjectId], config: &Config) -> Story {
        self.watch_as(&self.connection, objects, config, "").await
    }

    /// Watches to the end through this connection, while another eye looks out for `sign` in a pod's or a workload's status.
    pub async fn watch_as(&self, with: &Connection, objects: &[ObjectId], config: &Config, sign: &str) -> Story {
        let progress = Progress::default();
        let mut lines = progress.follow();
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            while lines.changed().await.is_ok() {
                said.push(lines.borrow_and_update().clone());
            }
            said
        });
        let began = Instant::now();
        let watched = async {
            let ended = rollout::watch(with, objects, config, &progress).await;
            (ended, Instant::now())
        };
        let ((ended, at), seen) = tokio::join!(watched, self.seen(sign));
        drop(progress);
        let said = said.await.expect("it only listens");
        let decided_after = seen.map(|seen| at.saturating_duration_since(seen));
        Story { ended, took: at - began, decided_after, said }
    }

    /// When the API server first shows this sign on an object of the namespace.
    async fn seen(&self, sign: &str) -> Option<Instant> {
        if sign.is_empty() {
            return None;
        }
        self.cluster
            .wait_until(&format!("{sign} to be seen"), || async {
                let mut all = self.cluster.list("pods", &self.namespace, "").await;
                all.extend(self.cluster.list("jobs", &self.namespace, "").await);
                all.extend(self.cluster.list("replicasets", &self.namespace, "").await);
                all.iter().any(|object| object["status"].to_string().contains(sign))
            })
            .await;
        Some(Instant::now())
    }

    /// Waits until the Deployment `web` is fully rolled out, by somebody else's eye.
    pub async fn rolled_out(&self, replicas: i64) {
        self.cluster
            .wait_until("the Deployment is rolled out", || async {
                let object = self.cluster.get("Deployment", &self.namespace, "web").await;
                let status = object.map_or(Value::Null, |object| object["status"].clone());
                match status["availableReplicas"] == replicas && status["updatedReplicas"] == replicas {
                    true => Ok(()),
                    false => Err(status.to_string()),
                }
            })
            .await;
    }
}

impl Story {
    /// The trouble it ended with, decided soon after it could be seen.
    pub fn trouble(&self, what: &str) -> &Trouble {
        let Ended::Broken(trouble) = &self.ended else { panic!("{what}: {:?} after {:?}", self.ended, self.took) };
        if let Some(after) = self.decided_after {
            println!(
                "measured: {what}: decided {:.2} s after it could be seen, {:.2} s in all",
                after.as_secs_f64(),
                self.took.as_secs_f64()
            );
            assert!(after < DECIDED_WITHIN, "{what}: {after:?}");
        }
        trouble
    }

    pub fn note(&self) -> &str {
        match &self.ended {
            Ended::Ready { note } => note,
            other => panic!("{other:?} after {:?}: {:?}", self.took, self.said),
        }
    }
}

/// Patient, so that a loaded machine is no reason to give up.
pub fn patient() -> Config {
    Config::within(Span::minutes(2))
}
