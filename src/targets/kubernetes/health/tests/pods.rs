use serde_json::{Value, json};

use super::{check, say};
use crate::targets::kubernetes::health::pods::{Rule, of};

/// A pod on `node-2` with one container `web`, its status as given.
fn pod(status: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "hub", "name": "web-1",
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true }],
        },
        "spec": {
            "nodeName": "node-2", "restartPolicy": "Always",
            "containers": [{ "name": "web", "image": "web:2", "ports": [{ "containerPort": 8080, "name": "http" }] }],
        },
        "status": status,
    })
}

fn container(state: Value) -> Value {
    let mut all = json!({
        "name": "web", "image": "web:2", "imageID": "", "ready": false, "started": false, "restartCount": 0, "lastState": {},
    });
    for (key, value) in state.as_object().expect("a mapping") {
        all[key] = value.clone();
    }
    all
}

/// A scheduled pod that is not ready, with this container.
fn with(state: Value) -> Value {
    pod(json!({
        "phase": "Pending",
        "conditions": [
            { "type": "PodScheduled", "status": "True" },
            { "type": "Initialized", "status": "True" },
            { "type": "Ready", "status": "False", "reason": "ContainersNotReady",
              "message": "containers with unready status: [web]" },
        ],
        "containerStatuses": [container(state)],
    }))
}

fn waiting(reason: &str, message: &str) -> Value {
    with(json!({ "state": { "waiting": { "reason": reason, "message": message } } }))
}

fn ended(code: i64, reason: &str, seconds: i64) -> Value {
    json!({ "terminated": {
        "exitCode": code, "reason": reason, "startedAt": "2026-11-21T13:00:00Z",
        "finishedAt": format!("2026-11-21T13:{:02}:{:02}Z", seconds / 60, seconds % 60),
    } })
}

fn unscheduled(reason: &str, message: &str) -> Value {
    let mut pod = pod(json!({
        "phase": "Pending",
        "conditions": [{ "type": "PodScheduled", "status": "False", "reason": reason, "message": message }],
    }));
    pod["spec"].as_object_mut().expect("a mapping").remove("nodeName");
    pod
}

#[test]
fn pods_that_come_up() {
    let running = json!({ "running": { "startedAt": "2026-11-21T13:00:00Z" } });
    let rows = vec![
        ("new", pod(json!({ "phase": "Pending" })), "progressing: it is starting"),
        ("being made", waiting("ContainerCreating", ""), "progressing: its containers are being made"),
        ("slow", with(json!({ "state": running })), "progressing: it runs and is not ready yet"),
        (
            "failed once",
            with(json!({ "state": running, "restartCount": 1, "lastState": ended(1, "Error", 2) })),
            "progressing: it runs and is not ready yet, restarted once",
        ),
        (
            "failed after a long life",
            with(json!({ "state": running, "restartCount": 7, "lastState": ended(1, "Error", 3000) })),
            "progressing: it runs and is not ready yet, restarted 7 times",
        ),
        (
            "ready",
            pod(json!({
                "phase": "Running",
                "conditions": [{ "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "True" }],
                "containerStatuses": [container(json!({
                    "state": running, "ready": true, "restartCount": 3, "lastState": ended(1, "Error", 2),
                }))],
            })),
            "ready",
        ),
        ("done", pod(json!({ "phase": "Succeeded" })), "ready"),
    ];
    check(rows, |pod| of(pod, &Rule::default()));
}

#[test]
fn images_that_cannot_be_pulled() {
    let rows = vec![
        (
            "not found",
            waiting(
                "ErrImagePull",
                "rpc error: code = NotFound desc = failed to resolve reference \"web:2\": not found",
            ),
            "broken, by the release: Pod hub/web-1, container web, on node-2: ErrImagePull: rpc error: code = \
             NotFound desc = \
             failed to resolve reference \"web:2\": not found",
        ),
        (
            "backing off",
            waiting("ImagePullBackOff", "Back-off pulling image \"web:2\""),
            "broken, by the release: Pod hub/web-1, container web, on node-2: ImagePullBackOff: Back-off pulling \
             image \"web:2\"",
        ),
        (
            "no message",
            waiting("ErrImagePull", ""),
            "broken, by the release: Pod hub/web-1, container web, on node-2: ErrImagePull: cannot pull web:2",
        ),
        (
            "bad name",
            waiting("InvalidImageName", "Failed to apply default image tag \"WEB::\": couldn't parse image name"),
            "broken, by the release: Pod hub/web-1, container web, on node-2: InvalidImageName: Failed to apply \
             default image \
             tag \"WEB::\": couldn't parse image name",
        ),
        (
            "no registry",
            waiting("ErrImagePull", "dial tcp: lookup registry.example on 10.96.0.10:53: no such host"),
            "doubtful, by the world: Pod hub/web-1, container web, on node-2: ErrImagePull: web:2: dial tcp: lookup \
             registry.example on 10.96.0.10:53: no such host",
        ),
    ];
    check(rows, |pod| of(pod, &Rule::default()));
}

#[test]
fn containers_that_end() {
    let crash_loop =
        json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container" } });
    let running = json!({ "running": {} });
    let place = "broken, by the release: Pod hub/web-1, container web, on node-2";
    let rows =
        vec![
        (
            "crash loop",
            with(json!({ "state": crash_loop, "restartCount": 2, "lastState": ended(1, "Error", 1) })),
            format!("{place}: CrashLoopBackOff: it ended with exit code 1, restarted 2 times"),
        ),
        (
            "ends well and should not",
            with(json!({ "state": crash_loop, "restartCount": 1, "lastState": ended(0, "Completed", 1) })),
            format!(
                "{place}: CrashLoopBackOff: it ended by itself (exit code 0), and it should keep running, restarted \
                 once"
            ),
        ),
        (
            "no last state",
            with(json!({ "state": crash_loop, "restartCount": 1 })),
            format!("{place}: CrashLoopBackOff: back-off 10s restarting failed container"),
        ),
        (
            "runs again after the second failure",
            with(json!({ "state": running, "restartCount": 2, "lastState": ended(3, "Error", 1) })),
            format!("{place}: Crashed: it ended with exit code 3, restarted 2 times"),
        ),
        (
            "just ended for the second time",
            with(json!({ "state": ended(3, "Error", 1), "restartCount": 1 })),
            format!("{place}: Crashed: it ended with exit code 3, restarted once"),
        ),
        (
            "killed by its probe again",
            with(json!({ "state": running, "restartCount": 2, "lastState": ended(137, "Error", 30) })),
            format!(
                "{place}: Crashed: it was killed: by its liveness or startup probe, or from outside (exit code 137), \
                 restarted 2 times"
            ),
        ),
        (
            "out of memory",
            with(json!({ "state": running, "restartCount": 1, "lastState": ended(137, "OOMKilled", 1) })),
            format!("{place}: OOMKilled: it used more memory than its limit allows, restarted once"),
        ),
        (
            "no such program",
            with(json!({ "state": ended(127, "Error", 0) })),
            format!("{place}: Crashed: it ended with exit code 127"),
        ),
        (
            "cannot be started",
            waiting("RunContainerError", "exec: \"webb\": executable file not found in $PATH"),
            format!("{place}: RunContainerError: exec: \"webb\": executable file not found in $PATH"),
        ),
        (
            "no such ConfigMap",
            waiting("CreateContainerConfigError", "configmap \"settings\" not found"),
            format!("{place}: CreateContainerConfigError: configmap \"settings\" not found"),
        ),
        (
            "a slow node",
            waiting("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting for the \
             condition"),
            "doubtful, by the world: Pod hub/web-1, container web, on node-2: CreateContainerConfigError: failed to \
             sync \
             configmap cache: timed out waiting for the condition"
                .to_owned(),
        ),
    ];
    let rows = rows.iter().map(|(name, pod, said)| (*name, pod.clone(), said.as_str())).collect();
    check(rows, |pod| of(pod, &Rule::default()));
}

#[test]
fn init_containers_come_first() {
    let mut pod = with(json!({ "state": { "waiting": { "reason": "PodInitializing" } } }));
    pod["spec"]["initContainers"] = json!([{ "name": "migrate" }, { "name": "mesh", "restartPolicy": "Always" }]);
    pod["status"]["conditions"][1] = json!({
        "type": "Initialized", "status": "False", "reason": "ContainersNotInitialized",
        "message": "containers with incomplete status: [migrate]",
    });
    let mut init = container(json!({ "state": ended(0, "Completed", 2) }));
    init["name"] = "migrate".into();
    pod["status"]["initContainerStatuses"] = json!([init]);
    let health = of(&pod, &Rule::default());
    assert_eq!(say(&health), "progressing: its init containers run: containers with incomplete status: [migrate]");

    init["state"] = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
    init["lastState"] = ended(9, "Error", 1);
    init["restartCount"] = 1.into();
    pod["status"]["initContainerStatuses"] = json!([init]);
    let said = say(&of(&pod, &Rule::default()));
    assert!(said.contains("container migrate, on node-2: CrashLoopBackOff: it ended with exit code 9"), "{said}");

    pod["spec"]["restartPolicy"] = "Never".into();
    init["state"] = ended(9, "Error", 1);
    init["restartCount"] = 0.into();
    pod["status"]["initContainerStatuses"] = json!([init]);
    let said = say(&of(&pod, &Rule::default()));
    assert!(said.starts_with("broken") && said.contains("container migrate"), "{said}");
    // A sidecar starts again whatever the pod's policy.
    init["name"] = "mesh".into();
    pod["status"]["initContainerStatuses"] = json!([init]);
    assert!(say(&of(&pod, &Rule::default())).starts_with("progressing"));
}

#[test]
fn pods_without_a_node() {
    let full = "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption \
     victims \
                found for incoming pod.";
    let away = "0/3 nodes are available: 2 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 1 node(s) \
     were \
                unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    let mixed = "0/3 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 2 \
     Insufficient \
                 memory.";
    let volume = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found";
    let mut nominated = unscheduled("Unschedulable", full);
    nominated["status"]["nominatedNodeName"] = "node-1".into();
    let rows = [
        ("full", unscheduled("Unschedulable", full), format!("doubtful, by the release: Pod hub/web-1: Unschedulable: \
         {full}")),
        ("away", unscheduled("Unschedulable", away), format!("doubtful, by the world: Pod hub/web-1: Unschedulable: \
         {away}")),
        (
            "mixed",
            unscheduled("Unschedulable", mixed),
            format!("doubtful, by the release: Pod hub/web-1: Unschedulable: {mixed}"),
        ),
        ("volume", unscheduled("Unschedulable", volume), "progressing: its volume is being made".to_owned()),
        ("preempting", nominated, "progressing: others make room for it on a node".to_owned()),
        (
            "gated",
            unscheduled("SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates"),
            "progressing: it is held back by a scheduling gate: Scheduling is blocked due to non-empty scheduling gates"
                .to_owned(),
        ),
    ];
    let rows = rows.iter().map(|(name, pod, said)| (*name, pod.clone(), said.as_str())).collect();
    check(rows, |pod| of(pod, &Rule::default()));
}

#[test]
fn the_node_is_to_blame_for_what_it_does() {
    let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." });
    let mut alone = pod(evicted.clone());
    alone["metadata"].as_object_mut().expect("a mapping").remove("ownerReferences");
    let mut lost = pod(json!({ "phase": "Running", "reason": "NodeLost", "message": "Node node-2 is unresponsive" }));
    lost["metadata"]["deletionTimestamp"] = "2026-11-21T13:00:00Z".into();
    let rows = vec![
        ("replaced", pod(evicted), "progressing: its node gave it up (Evicted): another takes its place"),
        (
            "alone",
            alone,
            "broken, by the world: Pod hub/web-1, on node-2: Evicted: The node was low on resource: memory.",
        ),
        ("lost", lost, "broken, by the world: Pod hub/web-1, on node-2: NodeLost: Node node-2 is unresponsive"),
        (
            "past its deadline",
            pod(json!({ "phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active too long" })),
            "broken, by the release: Pod hub/web-1, on node-2: DeadlineExceeded: Pod was active too long",
        ),
    ];
    check(rows, |pod| of(pod, &Rule::default()));
}

#[test]
fn a_probe_at_a_port_that_is_not_there_can_never_pass() {
    let mut pod = with(json!({ "state": { "running": {} } }));
    pod["spec"]["containers"][0]["readinessProbe"] = json!({ "httpGet": { "path": "/", "port": "http" } });
    assert!(say(&of(&pod, &Rule::default())).starts_with("progressing"));
    pod["spec"]["containers"][0]["readinessProbe"] = json!({ "httpGet": { "path": "/", "port": 9999 } });
    assert!(say(&of(&pod, &Rule::default())).starts_with("progressing"));
    pod["spec"]["containers"][0]["readinessProbe"] = json!({ "httpGet": { "path": "/", "port": "htpp" } });
    assert_eq!(
        say(&of(&pod, &Rule::default())),
        "broken, by the release: Pod hub/web-1, container web, on node-2: ProbePortUnknown: its readinessProbe asks \
         the port \
         `htpp`, which this container does not have"
    );
}

#[test]
fn a_job_counts_the_failures_of_its_pods_itself() {
    let rule = Rule { counted_by_job: true, ..Rule::default() };
    let crash = with(json!({ "state": ended(1, "Error", 1), "restartCount": 5 }));
    assert!(say(&of(&crash, &rule)).starts_with("progressing"));
    assert!(say(&of(&pod(json!({ "phase": "Failed" })), &rule)).starts_with("progressing"));
    assert!(say(&of(&waiting("ImagePullBackOff", "not found"), &rule)).starts_with("broken"));
}
