//! The promise: what is visibly broken is decided within three seconds of its first sign, though nothing more is heard.

use super::*;

const PROMISED: Duration = Duration::from_secs(3);

impl World {
    /// How long after now it is called broken and why, when nothing more is heard; `None`: it would wait for ever.
    fn decided(&mut self) -> Option<(Duration, String)> {
        let mut now = self.begun;
        loop {
            match self.judge.judge(&self.picture, now) {
                Judged::Broken(trouble) => return Some((now - self.begun, trouble.headline())),
                Judged::Open { again, .. } => now = again.filter(|again| *again > now)?,
                Judged::Ready { .. } | Judged::Forbidden { .. } => return None,
            }
        }
    }

    fn warned(self, about: &str, reason: &str, message: &str) -> World {
        let event = json!({ "involvedObject": { "uid": about }, "reason": reason, "message": message });
        self.tells("Event", || Change::Listed(Vec::new())).tells("Event", || Change::Applied(event.clone()))
    }
}

fn waiting(reason: &str, message: &str) -> World {
    rolled_out(1, vec![pod("2", 1, json!({ "waiting": { "reason": reason, "message": message } }), false)])
}

/// A container that has ended so after so many restarts, and starts again.
fn ended(code: i64, reason: &str, restarts: i64) -> World {
    let mut pod = pod("2", 1, running(), false);
    let last = json!({ "terminated": { "exitCode": code, "reason": reason } });
    pod["status"]["containerStatuses"][0]["lastState"] = last;
    pod["status"]["containerStatuses"][0]["restartCount"] = restarts.into();
    rolled_out(1, vec![pod])
}

fn deployment_says(kind: &str, reason: &str, message: &str) -> World {
    let mut object = deployment(1);
    let status = if kind == "ReplicaFailure" { "True" } else { "False" };
    object["status"]["conditions"] = json!([{ "type": kind, "status": status, "reason": reason, "message": message }]);
    World::new(vec![id("Deployment", "web")])
        .lists("Deployment", vec![object])
        .lists("ReplicaSet", vec![replica_set("2")])
        .lists("Pod", Vec::new())
}

fn probed_at(port: Value) -> World {
    let mut pod = pod("2", 1, running(), false);
    pod["spec"]["containers"][0]["readinessProbe"] = json!({ "httpGet": { "port": port } });
    rolled_out(1, vec![pod])
}

fn failed_job() -> World {
    let mut job = json!({ "apiVersion": "batch/v1", "kind": "Job" });
    job["metadata"] = json!({ "namespace": "hub", "name": "web", "uid": "j" });
    job["status"] =
        json!({ "conditions": [{ "type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded" }] });
    World::new(vec![ObjectId { api_version: "batch/v1".to_owned(), ..id("Job", "web") }]).lists("Job", vec![job])
}

fn silent_node() -> World {
    let conditions =
        json!([{ "type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status." }]);
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" },
                       "status": { "conditions": conditions } });
    rolled_out(1, vec![pod("2", 1, running(), false)]).lists("Node", vec![node])
}

fn set_without_pods() -> World {
    let set = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": { "namespace": "hub", "name": "web", "uid": "s", "generation": 1 },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "web" } } },
        "status": { "observedGeneration": 1 } });
    World::new(vec![id("StatefulSet", "web")]).lists("StatefulSet", vec![set]).lists("Pod", Vec::new())
}

#[test]
fn every_sign_is_decided_in_time() {
    let started = || rolled_out(1, vec![pod("2", 1, json!({ "waiting": { "reason": "ContainerCreating" } }), false)]);
    let signs: Vec<(&str, World)> = vec![
        ("ErrImagePull", waiting("ErrImagePull", "not found")),
        ("ImagePullBackOff", waiting("ImagePullBackOff", "Back-off pulling image")),
        ("InvalidImageName", waiting("InvalidImageName", "")),
        ("i/o timeout", waiting("ErrImagePull", "dial tcp: i/o timeout")),
        ("RegistryUnavailable", waiting("RegistryUnavailable", "")),
        ("CrashLoopBackOff", waiting("CrashLoopBackOff", "back-off 10s")),
        ("Crashed", ended(1, "Error", 2)),
        ("OOMKilled", ended(137, "OOMKilled", 1)),
        ("exit code 127", ended(127, "Error", 1)),
        ("CreateContainerConfigError", waiting("CreateContainerConfigError", "secret \"key\" not found")),
        ("CreateContainerError", waiting("CreateContainerError", "context deadline exceeded")),
        ("RunContainerError", waiting("RunContainerError", "exec: \"/web\": no such file")),
        ("Unschedulable", rolled_out(1, vec![unscheduled(1)])),
        ("ProbePortUnknown", probed_at("metrics".into())),
        ("FailedMount", started().warned("p21", "FailedMount", "configmap \"settings\" not found")),
        ("exceeded quota", deployment_says("ReplicaFailure", "FailedCreate", "exceeded quota: small")),
        ("PodSecurity", deployment_says("ReplicaFailure", "FailedCreate", "violates PodSecurity \"restricted\"")),
        ("ProgressDeadlineExceeded", deployment_says("Progressing", "ProgressDeadlineExceeded", "too late")),
        ("violates PodSecurity", set_without_pods().warned("s", "FailedCreate", "pod web-0 violates PodSecurity")),
        ("forbidden", set_without_pods().warned("s", "FailedCreate", "exceeded quota: forbidden")),
        ("NodeNotReady", silent_node()),
        ("DeadlineExceeded", failed_job()),
        ("Deleted", rolled_out(1, Vec::new()).tells("Deployment", || Change::Gone(deployment(1)))),
    ];
    for (sign, mut world) in signs {
        let (after, headline) = world.decided().unwrap_or_else(|| panic!("{sign} is waited for: {}", world.after(3)));
        assert!(headline.contains(sign), "{sign}: {headline}");
        assert!(after <= PROMISED, "{sign} after {after:?}: {headline}");
    }
}

#[test]
fn what_is_only_slow_is_not_called_broken() {
    let slow = [
        rolled_out(1, vec![pod("2", 1, running(), false)]),
        rolled_out(1, vec![pod("2", 1, json!({ "waiting": { "reason": "ContainerCreating" } }), false)]),
        ended(1, "Error", 1),
        probed_at(8080.into()),
        set_without_pods(),
    ];
    for mut world in slow {
        assert_eq!(world.decided(), None);
    }
}

#[test]
fn endpoints_that_may_not_be_looked_at_are_not_missing() {
    let refused = || {
        let status =
            kube::core::Status { code: 403, message: "cannot list endpointslices".to_owned(), ..Default::default() };
        Change::Lost(KubeError::Refused(Box::new(status)))
    };
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "hub", "name": "web" },
                          "spec": { "selector": { "app": "web" } } });
    let mut world = World::new(vec![id("Deployment", "web"), id("Service", "web")])
        .lists("Deployment", vec![deployment(2)])
        .lists("Service", vec![service])
        .lists("ReplicaSet", vec![replica_set("2")])
        .lists("Pod", vec![pod("2", 1, running(), true)])
        .tells("EndpointSlice", refused);
    assert!(world.after(0).starts_with("open"));
    assert_eq!(world.after(60), "forbidden: cannot look at Service hub/web: cannot list endpointslices");
}

#[test]
fn nodes_that_may_not_be_looked_at_are_said_and_not_asked_for_again() {
    let refused = || {
        let status = kube::core::Status { code: 403, message: "cannot list nodes".to_owned(), ..Default::default() };
        Change::Lost(KubeError::Refused(Box::new(status)))
    };
    let world = rolled_out(1, vec![pod("2", 1, running(), false)]);
    assert!(world.needs.iter().any(|need| need.kind == "Node"));
    let mut world = world.tells("Node", refused);
    assert!(world.needs.iter().all(|need| need.kind != "Node"));
    let said = world.after(0);
    assert!(
        said.ends_with("it runs and is not ready yet; whether its node answers is not known: cannot list nodes"),
        "{said}"
    );
    // A server that is away is asked again.
    let away = || Change::Lost(KubeError::Unreachable("connection refused".to_owned()));
    let world = rolled_out(1, vec![pod("2", 1, running(), false)]).tells("Node", away);
    assert!(world.needs.iter().any(|need| need.kind == "Node"));
}
