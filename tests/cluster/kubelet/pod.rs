//! The life of one pod on a node that we play.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    World,
    behaviour::Behaviour,
    config,
    container::{Container, Phase, Restarts},
    events::{About, Said},
    logs,
};

/// Until what could not be written or mounted is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// A program that heeds SIGTERM is gone after this time.
const STOPS: Duration = Duration::from_millis(50);

/// Everything a kubelet knows of one pod.
pub struct Life {
    world: Arc<World>,
    pods: watch::Receiver<DynamicObject>,
    about: About,
    inits: Vec<Container>,
    mains: Vec<Container>,
    mounted: bool,
    address: String,
    started_at: Timestamp,
    /// Each condition with the moment of its last change.
    conditions: BTreeMap<&'static str, (Value, Timestamp)>,
    written: Value,
}

/// The pod is not there any more.
struct Gone;

impl Life {
    pub fn new(world: Arc<World>, pods: watch::Receiver<DynamicObject>) -> Life {
        let pod = pods.borrow().clone();
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let (uid, spec) = (pod.uid().unwrap_or_default(), &pod.data["spec"]);
        let node = spec["nodeName"].as_str().unwrap_or_default().to_owned();
        let title = format!("{name}_{namespace}({uid})");
        let says = pod.annotations().get("piton.test/log").cloned().unwrap_or_default();
        let restarts = match spec["restartPolicy"].as_str() {
            Some("Never") => Restarts::Never,
            Some("OnFailure") => Restarts::OnFailure,
            _ => Restarts::Always,
        };
        let all = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
        let init = |spec: &Value| {
            let sidecar = spec["restartPolicy"] == "Always";
            let once = if restarts == Restarts::Never { Restarts::Never } else { Restarts::OnFailure };
            Container::new(spec, if sidecar { Restarts::Always } else { once }, &title, &says)
        };
        Life {
            about: About { node, namespace, pod: name, uid, field: None },
            inits: all("initContainers").iter().map(init).collect(),
            mains: all("containers").iter().map(|spec| Container::new(spec, restarts, &title, &says)).collect(),
            mounted: false,
            address: world.next_address(),
            started_at: Timestamp::now(),
            conditions: BTreeMap::new(),
            written: Value::Null,
            world,
            pods,
        }
    }

    /// Lives until the pod is gone.
    pub async fn live(mut self) {
        while self.one_turn().await.is_ok() {}
        self.world.logs.forget(&self.about);
    }

    async fn one_turn(&mut self) -> Result<(), Gone> {
        self.world.node_is_there(&self.about.node).await;
        let grace = {
            let pod = self.pods.borrow_and_update();
            pod.metadata.deletion_timestamp.as_ref().map(|_| pod.metadata.deletion_grace_period_seconds.unwrap_or(0))
        };
        if let Some(seconds) = grace {
            self.end(Duration::from_secs(seconds.max(0).cast_unsigned())).await;
            return Err(Gone);
        }
        let next = self.advance().await;
        self.publish_logs();
        self.write().await?;
        let next = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            changed = self.pods.changed() => changed.map_err(|_| Gone),
            () = tokio::time::sleep_until(next) => Ok(()),
        }
    }

    /// Does what is due, and says when the next thing is.
    async fn advance(&mut self) -> Option<Instant> {
        if !self.mounted {
            if let Some(lost) = config::missing_volume(&self.world.client, &self.pod()).await {
                self.world.voice.say(&self.about, Said::warning("FailedMount", lost));
                return Some(Instant::now() + AGAIN_AFTER);
            }
            self.mounted = true;
        }
        let mut initialized = true;
        for at in 0..self.inits.len() {
            self.advance_one(true, at).await;
            let init = &self.inits[at];
            if !(init.succeeded() || init.restarts == Restarts::Always && init.is_ready()) {
                initialized = false;
                break;
            }
        }
        if initialized {
            for at in 0..self.mains.len() {
                self.advance_one(false, at).await;
            }
        }
        self.inits.iter().chain(&self.mains).filter_map(|container| container.next).min()
    }

    async fn advance_one(&mut self, is_init: bool, at: usize) {
        let (pod, now, pace) = (self.pod(), Instant::now(), self.world.pace);
        let container = if is_init { &mut self.inits[at] } else { &mut self.mains[at] };
        let starts = matches!(container.phase, Phase::Creating | Phase::ConfigError(_));
        let said = if starts && container.next.is_none_or(|next| next <= now) {
            let missing = match container.behaviour {
                Behaviour::Config => {
                    Some(format!("couldn't find key missing in ConfigMap {}/settings", self.about.namespace))
                }
                _ => config::missing_key(&self.world.client, &pod, &container.name).await,
            };
            match missing {
                Some(_) => container.lacks(missing, now),
                None => container.start(pace, now),
            }
        } else {
            if pod.annotations().contains_key("piton.test/end") {
                container.told_to_end(now);
            }
            container.step(pace, now)
        };
        let list = if is_init { "initContainers" } else { "containers" };
        let about = About { field: Some(format!("spec.{list}{{{}}}", container.name)), ..self.about.clone() };
        said.into_iter().for_each(|said| self.world.voice.say(&about, said));
    }

    fn pod(&self) -> DynamicObject {
        self.pods.borrow().clone()
    }

    fn publish_logs(&self) {
        for container in self.inits.iter().chain(&self.mains) {
            self.world.logs.publish(&self.about, &container.name, logs::Lines::of(container));
        }
    }

    /// Writes the status where it has changed.
    async fn write(&mut self) -> Result<(), Gone> {
        let status = self.status();
        if status == self.written {
            return Ok(());
        }
        let body = json!({"metadata": {"uid": self.about.uid}, "status": status});
        loop {
            match self.api().patch_status(&self.about.pod, &PatchParams::default(), &Patch::Merge(&body)).await {
                Ok(_) => break,
                Err(kube::Error::Api(refusal)) if [404, 409].contains(&refusal.code) => return Err(Gone),
                // polls a real condition: the API server is down, or slow
                Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
        self.written = status;
        Ok(())
    }

    fn status(&mut self) -> Value {
        let initialized =
            self.inits.iter().all(|one| one.succeeded() || one.restarts == Restarts::Always && one.is_ready());
        let statuses = |list: &[Container]| list.iter().map(Container::status).collect::<Vec<_>>();
        let mut mains = statuses(&self.mains);
        if !initialized {
            for status in &mut mains {
                status["state"] = json!({"waiting": {"reason": "PodInitializing"}});
            }
        }
        let (phase, conditions) = (self.phase(initialized), self.all_conditions(initialized));
        json!({
            "phase": phase,
            "conditions": conditions,
            "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}],
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "qosClass": "BestEffort",
            "startTime": self.started_at,
            "initContainerStatuses": statuses(&self.inits),
            "containerStatuses": mains,
        })
    }

    fn phase(&self, initialized: bool) -> &'static str {
        let ended_badly = |one: &Container| one.phase == Phase::Ended && !one.succeeded();
        let has_run = |one: &Container| one.ended.is_some() || matches!(one.phase, Phase::Running { .. });
        let all_ended = self.mains.iter().all(|one| one.phase == Phase::Ended);
        match () {
            () if self.inits.iter().any(ended_badly) => "Failed",
            () if !initialized || !self.mains.iter().all(has_run) => "Pending",
            () if all_ended && self.mains.iter().any(ended_badly) => "Failed",
            () if all_ended => "Succeeded",
            () => "Running",
        }
    }

    /// Our conditions as they are, and everybody else's as they were.
    fn all_conditions(&mut self, initialized: bool) -> Vec<Value> {
        let pod = self.pod();
        let known = pod.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let gates = pod.data["spec"]["readinessGates"].as_array().cloned().unwrap_or_default();
        let is_true = |kind: &Value| known.iter().any(|one| one["type"] == *kind && one["status"] == "True");
        let gates = gates.iter().all(|gate| is_true(&gate["conditionType"]));
        let unready: Vec<_> = self.mains.iter().filter(|one| !one.is_ready()).map(|one| one.name.as_str()).collect();
        let done = !self.mains.is_empty() && self.mains.iter().all(Container::succeeded);
        let why = match (unready.is_empty(), done) {
            (true, _) => Value::Null,
            (false, true) => json!({"reason": "PodCompleted"}),
            (false, false) => {
                let message = format!("containers with unready status: [{}]", unready.join(" "));
                json!({"reason": "ContainersNotReady", "message": message})
            }
        };
        let ready_why = match (&why, gates) {
            (Value::Null, false) => {
                json!({"reason": "ReadinessGatesNotReady", "message": "a readiness gate is not True"})
            }
            (why, _) => why.clone(),
        };
        let (is_ready, containers) = (ready_why.is_null(), why.is_null());
        let mut all = vec![
            self.condition("PodReadyToStartContainers", self.mounted, Value::Null),
            self.condition("Initialized", initialized, Value::Null),
            self.condition("Ready", is_ready, ready_why),
            self.condition("ContainersReady", containers, why),
        ];
        let ours = |one: &Value| self.conditions.keys().any(|kind| one["type"] == *kind);
        all.extend(known.into_iter().filter(|one| !ours(one)));
        all
    }

    fn condition(&mut self, kind: &'static str, holds: bool, why: Value) -> Value {
        let mut condition = json!({"type": kind, "status": if holds { "True" } else { "False" }});
        let known = self.conditions.get(kind).filter(|(status, _)| *status == condition["status"]);
        let since = known.map_or_else(Timestamp::now, |(_, since)| *since);
        self.conditions.insert(kind, (condition["status"].clone(), since));
        condition["lastTransitionTime"] = json!(since);
        for field in ["reason", "message"] {
            if let Some(text) = why.get(field) {
                condition[field] = text.clone();
            }
        }
        condition
    }

    /// Stops the containers and takes the pod away.
    async fn end(&mut self, grace: Duration) {
        let running = self.mains.iter().filter(|one| matches!(one.phase, Phase::Running { .. })).collect::<Vec<_>>();
        for container in &running {
            let about = About { field: Some(format!("spec.containers{{{}}}", container.name)), ..self.about.clone() };
            self.world.voice.say(&about, Said::normal("Killing", format!("Stopping container {}", container.name)));
        }
        let stubborn = running.iter().any(|one| one.behaviour == Behaviour::Stubborn);
        let stops = if stubborn { grace } else { STOPS.min(grace) };
        // A deletion that is made shorter, or the end of the pod, ends the wait.
        let gone = async { while self.pods.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(stops, gone).await;
        let preconditions = Preconditions { uid: Some(self.about.uid.clone()), ..Preconditions::default() };
        let now = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }.grace_period(0);
        loop {
            self.world.node_is_there(&self.about.node).await;
            match self.api().delete(&self.about.pod, &now).await {
                Ok(_) => break,
                Err(kube::Error::Api(refusal)) if [404, 409].contains(&refusal.code) => break,
                // polls a real condition: the API server is down, or slow
                Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    }

    fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.world.client.clone(), &self.about.namespace, &super::pods())
    }
}
