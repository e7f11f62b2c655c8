//! Stories of what the watches tell, with the clock as a number.

mod crowd;
mod jobs;
mod signs;
mod way;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Config,
    feed::{Change, Need},
    judge::{Judge, Judged},
    picture::Picture,
    watched::Watched,
};
use crate::clients::kube::{KubeError, ObjectId};

/// A Deployment `web` of two replicas, one revision old and one new, as the watches tell of them.
struct World {
    picture: Picture,
    judge: Judge,
    begun: Instant,
    needs: Vec<Need>,
}

fn id(kind: &str, name: &str) -> ObjectId {
    let api_version = if kind == "Service" { "v1" } else { "apps/v1" };
    ObjectId {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: Some("hub".to_owned()),
        name: name.to_owned(),
    }
}

fn deployment(available: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "namespace": "hub", "name": "web", "uid": "d", "generation": 2,
            "annotations": { "deployment.kubernetes.io/revision": "2" },
        },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } } },
        },
        "status": { "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": available },
    })
}

fn replica_set(revision: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "namespace": "hub", "name": format!("web-{revision}"), "uid": format!("rs{revision}"),
            "annotations": { "deployment.kubernetes.io/revision": revision },
            "ownerReferences": [{ "uid": "d", "controller": true }],
        },
    })
}

fn pod(revision: &str, number: usize, state: Value, ready: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "hub", "name": format!("web-{revision}-{number}"), "uid": format!("p{revision}{number}"),
            "labels": { "app": "web" }, "ownerReferences": [{ "uid": format!("rs{revision}"), "controller": true }],
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [{ "name": "web", "readinessProbe": { "tcpSocket": { "port": 80 } } }],
        },
        "status": {
            "conditions": [
                { "type": "PodScheduled", "status": "True" },
                { "type": "Ready", "status": if ready { "True" } else { "False" } },
            ],
            "containerStatuses": [{ "name": "web", "ready": ready, "state": state, "restartCount": 0 }],
        },
    })
}

fn running() -> Value {
    json!({ "running": {} })
}

fn crash() -> Value {
    json!({ "waiting": { "reason": "CrashLoopBackOff" } })
}

fn unscheduled(number: usize) -> Value {
    let mut pod = pod("2", number, Value::Null, false);
    pod["spec"] = json!({});
    pod["status"] = json!({ "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }] });
    pod
}

impl World {
    fn new(wanted: Vec<ObjectId>) -> World {
        World::of(Watched::from(&wanted))
    }

    fn of(watched: Watched) -> World {
        let judge = Judge::new(&Config::default());
        let mut world = World { picture: Picture::new(watched), judge, begun: Instant::now(), needs: Vec::new() };
        world.open();
        world
    }

    fn open(&mut self) {
        let needs = self.picture.needs();
        self.picture.keep(&needs);
        self.needs = needs.into_iter().collect();
    }

    /// Every watch of this kind lists these.
    fn lists(mut self, kind: &str, objects: Vec<Value>) -> World {
        for need in self.needs.clone().into_iter().filter(|need| need.kind == kind) {
            self.picture.learn(need, Change::Listed(objects.clone()));
        }
        self.open();
        self
    }

    fn tells(mut self, kind: &str, change: impl Fn() -> Change) -> World {
        for need in self.needs.clone().into_iter().filter(|need| need.kind == kind) {
            self.picture.learn(need, change());
        }
        self.open();
        self
    }

    fn after(&mut self, seconds: u64) -> String {
        match self.judge.judge(&self.picture, self.begun + Duration::from_secs(seconds)) {
            Judged::Ready { note } => format!("ready: {note}"),
            Judged::Broken(trouble) => format!("broken: {}", trouble.headline()),
            Judged::Forbidden { why } => format!("forbidden: {why}"),
            Judged::Open { missing, .. } => format!("open: {}", super::in_words(&missing)),
        }
    }
}

/// The watches of a rolled-out Deployment with these pods.
fn rolled_out(available: i64, pods: Vec<Value>) -> World {
    World::new(vec![id("Deployment", "web")])
        .lists("Deployment", vec![deployment(available)])
        .lists("ReplicaSet", vec![replica_set("1"), replica_set("2")])
        .lists("Pod", pods)
}

#[test]
fn nothing_is_ready_before_it_was_looked_at() {
    let mut world = World::new(vec![id("Deployment", "web")]);
    assert_eq!(world.after(0), "open: deployment web: it has not been looked at yet");
    let mut world = world.lists("Deployment", vec![deployment(2)]);
    assert_eq!(world.after(0), "open: deployment web: its pods have not been looked at yet");
    let mut world = world.lists("ReplicaSet", vec![replica_set("2")]).lists("Pod", vec![pod("2", 1, running(), true)]);
    assert_eq!(world.after(0), "ready: 1 object with 1 pod ready");
}

#[test]
fn an_old_pod_that_crashes_is_not_blamed() {
    let pods = vec![pod("1", 1, crash(), false), pod("2", 1, running(), true), pod("2", 2, running(), true)];
    assert_eq!(rolled_out(2, pods).after(0), "ready: 1 object with 2 pods ready");
}

#[test]
fn a_new_pod_that_crashes_is() {
    let mut world = rolled_out(1, vec![pod("2", 1, running(), true), pod("2", 2, crash(), false)]);
    assert_eq!(world.after(0), "broken: Pod hub/web-2-2, container web, on node-1: CrashLoopBackOff");
}

#[test]
fn a_slow_pod_is_said_with_its_node_and_what_its_kubelet_complains_about() {
    let mut world = rolled_out(1, vec![pod("2", 1, running(), true), pod("2", 2, running(), false)]);
    assert_eq!(
        world.after(100),
        "open: deployment web: 1 of 2 replicas are available; web-2-2 on node-1: it runs and is not ready yet"
    );
    let warning = json!({
        "involvedObject": { "uid": "p22" }, "reason": "Unhealthy", "message": "Readiness probe failed: HTTP 503",
    });
    // A warning that was there before is old.
    let mut world = world.tells("Event", || Change::Listed(vec![warning.clone()]));
    assert!(!world.after(100).contains("503"));
    let mut world = world.tells("Event", || Change::Applied(warning.clone()));
    assert!(world.after(100).ends_with("it runs and is not ready yet (Readiness probe failed: HTTP 503)"));
}

#[test]
fn a_pod_without_room_is_given_a_moment() {
    let mut world = rolled_out(1, vec![pod("2", 1, running(), true), unscheduled(2)]);
    assert!(world.after(0).starts_with("open: deployment web: Pod hub/web-2-2: Unschedulable"));
    assert!(world.after(1).starts_with("open"));
    assert_eq!(world.after(2), "broken: Pod hub/web-2-2: Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.");
    // It found room in time: the next one has its own moment.
    let mut world = rolled_out(1, vec![unscheduled(2)]);
    assert!(world.after(0).starts_with("open"));
    let mut world = world.lists("Pod", vec![pod("2", 2, running(), false)]);
    assert!(world.after(1).starts_with("open"));
    let mut world = world.lists("Pod", vec![unscheduled(2)]);
    assert!(world.after(3).starts_with("open"));
    assert!(world.after(5).starts_with("broken"));
}

#[test]
fn what_was_broken_for_long_stays_broken_though_something_else_is_heard() {
    let mut world = rolled_out(1, vec![pod("2", 1, running(), true), unscheduled(2)]);
    assert!(world.after(0).starts_with("open"));
    assert!(world.after(2).starts_with("broken"));
    let mut world = world.lists("Pod", vec![pod("2", 1, running(), true), unscheduled(2)]);
    assert!(world.after(3).starts_with("broken"), "{}", world.after(3));
}

#[test]
fn what_the_release_does_wrong_is_not_hidden_by_a_node_that_is_away() {
    let (mut other, mut set, mut crashing) = (deployment(1), replica_set("2"), pod("2", 3, crash(), false));
    (other["metadata"]["name"], other["metadata"]["uid"]) = ("worker".into(), "w".into());
    other["spec"]["selector"] = json!({ "matchLabels": { "app": "worker" } });
    (set["metadata"]["name"], set["metadata"]["uid"]) = ("worker-2".into(), "rsw".into());
    set["metadata"]["ownerReferences"] = json!([{ "uid": "w", "controller": true }]);
    crashing["metadata"]["labels"] = json!({ "app": "worker" });
    crashing["metadata"]["ownerReferences"] = json!([{ "uid": "rsw", "controller": true }]);
    crashing["spec"]["nodeName"] = "node-2".into();
    let mut world = World::new(vec![id("Deployment", "web"), id("Deployment", "worker")])
        .lists("Deployment", vec![deployment(1), other])
        .lists("ReplicaSet", vec![replica_set("2"), set])
        .lists("Pod", vec![pod("2", 1, running(), false), crashing])
        .lists("Node", vec![node("node-1", "Unknown"), node("node-2", "True")]);
    world.after(0);
    assert!(world.after(5).contains("CrashLoopBackOff"), "{}", world.after(5));
}

fn node(name: &str, ready: &str) -> Value {
    let conditions = json!([{ "type": "Ready", "status": ready, "message": "Kubelet stopped posting node status." }]);
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name }, "status": { "conditions": conditions } })
}

/// A DaemonSet of two nodes, one of which is away: its pod there is of this generation.
fn daemon_set(there: &str, here: &str, ready_here: bool) -> World {
    let set = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "namespace": "hub", "name": "web", "uid": "ds", "generation": 2,
            "annotations": { "deprecated.daemonset.template.generation": "2" } },
        "spec": { "selector": { "matchLabels": { "app": "web" } } },
        "status": { "observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 1,
            "numberAvailable": 1 } });
    let on = |number: usize, node: &str, generation: &str, ready: bool| {
        let mut pod = pod("2", number, running(), ready);
        pod["metadata"]["ownerReferences"] = json!([{ "uid": "ds", "controller": true }]);
        pod["metadata"]["labels"]["pod-template-generation"] = generation.into();
        pod["spec"]["nodeName"] = node.into();
        pod
    };
    World::new(vec![id("DaemonSet", "web")])
        .lists("DaemonSet", vec![set])
        .lists("Pod", vec![on(1, "node-1", there, false), on(2, "node-2", here, ready_here)])
        .lists("Node", vec![node("node-1", "Unknown"), node("node-2", "True")])
}

#[test]
fn nobody_waits_for_a_daemon_on_a_node_that_is_away() {
    for there in ["1", "2"] {
        let mut world = daemon_set(there, "2", true);
        assert_eq!(world.after(5), "ready: 1 object with 1 pod ready", "its pod there is of generation {there}");
        let mut world = daemon_set(there, "2", false);
        assert!(world.after(5).starts_with("open"), "{}", world.after(5));
        let mut world = daemon_set(there, "1", true);
        assert!(world.after(5).starts_with("open"), "the other node has the old one: {}", world.after(5));
    }
}

#[test]
fn who_leaves_gives_room() {
    let mut leaving = pod("1", 1, running(), true);
    leaving["metadata"]["deletionTimestamp"] = "2026-11-21T13:00:00Z".into();
    let mut world = rolled_out(1, vec![unscheduled(2), leaving]);
    assert!(world.after(0).starts_with("open"));
    assert!(world.after(100).starts_with("open"));
    let mut world = world.lists("Pod", vec![unscheduled(2)]);
    assert!(world.after(101).starts_with("open"));
    assert!(world.after(103).starts_with("broken"));
}

#[test]
fn a_container_without_a_probe_must_stay_up() {
    let mut unprobed = pod("2", 1, running(), true);
    unprobed["spec"]["containers"][0] = json!({ "name": "web" });
    let mut world = rolled_out(2, vec![unprobed.clone()]);
    assert!(world.after(0).starts_with("open"));
    assert_eq!(world.after(1), "ready: 1 object with 1 pod ready");
    // It falls over within that moment.
    let mut world = rolled_out(2, vec![unprobed]);
    assert!(world.after(0).starts_with("open"));
    let mut world = world.lists("Pod", vec![pod("2", 1, crash(), false)]);
    assert!(world.after(1).starts_with("broken"), "{}", world.after(1));
}

#[test]
fn what_was_deleted_is_found_missing() {
    let mut world = rolled_out(1, Vec::new());
    assert!(world.after(0).starts_with("open"));
    let mut world = world.tells("Deployment", || Change::Gone(deployment(1)));
    assert_eq!(
        world.after(0),
        "broken: Deployment hub/web: Deleted: somebody deleted it while its rollout was watched"
    );
    let mut world = World::new(vec![id("Deployment", "web")]).lists("Deployment", Vec::new());
    assert_eq!(world.after(0), "broken: Deployment hub/web: Deleted: it is not there, though it was applied");
}

#[test]
fn a_lost_watch_is_no_news_and_a_forbidden_one_is_final_after_a_moment() {
    let lost = || Change::Lost(KubeError::Unreachable("connection refused".to_owned()));
    let mut world = World::new(vec![id("Deployment", "web")]).tells("Deployment", lost);
    assert!(world.after(60).contains("cannot look at it: the API server did not answer: connection refused"));
    let forbidden = || {
        let status = kube::core::Status { code: 403, message: "no, not you".to_owned(), ..Default::default() };
        Change::Lost(KubeError::Refused(Box::new(status)))
    };
    let mut world = World::new(vec![id("Deployment", "web")]).tells("Deployment", forbidden);
    assert!(world.after(0).starts_with("open"));
    assert_eq!(world.after(60), "forbidden: cannot look at Deployment hub/web: no, not you");
    // Pods that we may not see are not waited for.
    let world = World::new(vec![id("Deployment", "web")]).lists("Deployment", vec![deployment(2)]);
    let mut world = world.tells("Pod", forbidden).tells("ReplicaSet", forbidden);
    assert_eq!(world.after(0), "ready: 1 object ready");
}

#[test]
fn a_node_that_does_not_answer_is_named() {
    let world = rolled_out(1, vec![pod("2", 1, running(), false)]);
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" }, "status": { "conditions": [
        { "type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status." },
    ] } });
    let mut world = world.lists("Node", vec![node]);
    assert!(world.after(0).starts_with("open"));
    assert_eq!(
        world.after(2),
        "broken: Pod hub/web-2-1, on node-1: NodeNotReady: the node node-1 does not answer: Kubelet stopped posting \
         node \
         status."
    );
}

#[test]
fn a_service_is_waited_for_only_where_a_workload_of_ours_is_behind_it() {
    let service = |app: &str| {
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "hub", "name": "web" },
                "spec": { "selector": { "app": app } } })
    };
    let world = |app: &str| {
        World::new(vec![id("Deployment", "web"), id("Service", "web")])
            .lists("Deployment", vec![deployment(2)])
            .lists("Service", vec![service(app)])
            .lists("ReplicaSet", vec![replica_set("2")])
            .lists("Pod", vec![pod("2", 1, running(), true)])
    };
    assert_eq!(world("singleuser").after(0), "ready: 2 objects with 1 pod ready");
    let mut ours = world("web");
    assert_eq!(ours.after(0), "open: service web: it has no ready endpoints");
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "namespace": "hub", "name": "web-x", "labels": { "kubernetes.io/service-name": "web" } },
        "endpoints": [{ "conditions": { "ready": true } }],
    });
    assert_eq!(ours.lists("EndpointSlice", vec![slice]).after(0), "ready: 2 objects with 1 pod ready");
}

#[test]
fn many_objects_of_a_kind_are_watched_together() {
    let all = |n: usize| (0..n).map(|n| id("Deployment", &format!("web-{n}"))).collect::<Vec<_>>();
    let some = |n: usize| Picture::new(Watched::from(&all(n))).needs().len();
    assert_eq!((some(1), some(4), some(5), some(500)), (1, 4, 1, 1));
}
