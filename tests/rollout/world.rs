//! A namespace with workloads, and somebody who watches them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use piton::{
    clients::kube::{Cluster as Connection, ObjectId},
    model::Span,
    targets::{
        Progress,
        kubernetes::{
            health::Trouble,
            rollout::{
                self, Config, Ended, Watched,
                feed::{self, Change, Need, Pace},
            },
        },
    },
};
use serde_json::Value;

use crate::cluster::Cluster;

/// Whatever is visibly broken is decided within this time, by the test's own clock.
pub const DECIDED_WITHIN: Duration = Duration::from_secs(3);

/// A clock that goes as fast as this machine lets this program work: on a loaded one its seconds are longer, for the one who
/// watches as for the test. What waits for nothing but itself takes the same time by it everywhere.
struct Clock {
    ticks: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

const TICK: Duration = Duration::from_millis(10);

impl Clock {
    fn start() -> Clock {
        let ticks = Arc::new(AtomicU32::new(0));
        let counted = ticks.clone();
        let task = tokio::spawn(async move {
            loop {
                // polls a real condition: how fast this machine lets the program go; nobody waits for it
                tokio::time::sleep(TICK).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Clock { ticks, task }
    }

    fn now(&self) -> Duration {
        TICK * self.ticks.load(Ordering::Relaxed)
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub struct World<'a> {
    pub cluster: &'a Cluster,
    pub connection: Connection,
    pub namespace: String,
}

/// How a watched rollout ended, and when.
pub struct Story {
    pub ended: Ended,
    pub took: Duration,
    /// From the moment another watch was told of it until the decision, by the test's own clock.
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
    pub async fn watch(&self, objects: impl Into<Watched>, config: &Config) -> Story {
        self.watch_as(&self.connection, objects, config, "").await
    }

    /// Watches to the end through this connection, while another eye looks out for `sign` in a pod's or a workload's status.
    pub async fn watch_as(&self, with: &Connection, objects: impl Into<Watched>, config: &Config, sign: &str) -> Story {
        let progress = Progress::default();
        let mut lines = progress.follow();
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            while lines.changed().await.is_ok() {
                said.push(lines.borrow_and_update().text.clone());
            }
            said
        });
        let (began, clock) = (Instant::now(), Clock::start());
        let watched = async {
            let ended = rollout::watch(with, objects, config, &progress).await;
            (ended, Instant::now(), clock.now())
        };
        let ((ended, at, decided), seen) = tokio::join!(watched, self.seen(sign, &clock));
        drop(progress);
        let said = said.await.expect("it only listens");
        let decided_after = seen.map(|seen| decided.saturating_sub(seen));
        Story { ended, took: at - began, decided_after, said }
    }

    /// When a watch of the test's own is first told of this sign on an object of the namespace: the control.
    async fn seen(&self, sign: &str, clock: &Clock) -> Option<Duration> {
        if sign.is_empty() {
            return None;
        }
        let (tell, mut told) = tokio::sync::mpsc::channel(256);
        let kinds = [("v1", "Pod"), ("batch/v1", "Job"), ("apps/v1", "ReplicaSet")];
        let _watches = kinds.map(|(api_version, kind)| {
            let need = Need {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                namespace: Some(self.namespace.clone()),
                labels: None,
                fields: None,
                among: Vec::new(),
            };
            feed::open(&self.connection, need, Pace::ROLLOUT, tell.clone())
        });
        let shows = |object: &Value| object["status"].to_string().contains(sign);
        let heard = async {
            while let Some((_, change)) = told.recv().await {
                let seen = match &change {
                    Change::Listed(objects) => objects.iter().any(shows),
                    Change::Applied(object) | Change::Gone(object) => shows(object),
                    Change::Resumed | Change::Lost(_) => false,
                };
                if seen {
                    return;
                }
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(120), heard).await;
        heard.unwrap_or_else(|_| panic!("{sign} is not seen"));
        Some(clock.now())
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
                "measured: {what}: decided {:.2} s by the test's clock after it could be seen, {:.2} s in all",
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
