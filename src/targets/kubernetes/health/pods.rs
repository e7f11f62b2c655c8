//! What a pod's status says: coming up, ready, or visibly broken, with the container and the node.

use serde_json::Value;

use super::{
    Blame, Health, Trouble, containers,
    read::{Condition, condition, items, number, text},
};

/// How a pod is to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How often a container may fail at its start before that counts: what it needs may come up a moment after it.
    pub restarts: i64,
    /// A Job counts the failures of its pods itself.
    pub counted_by_job: bool,
    /// Whether the last words of a container may be told: some programs write secrets there.
    pub quotes: bool,
}

impl Default for Rule {
    fn default() -> Rule {
        Rule { restarts: 1, counted_by_job: false, quotes: true }
    }
}

/// A pod. `Doubtful` is one that finds no room, or no registry, at this moment.
pub fn of(pod: &Value, rule: &Rule) -> Health {
    let status = &pod["status"];
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return gone_with_its_node(pod).unwrap_or_else(|| Health::progressing("it is being deleted"));
    }
    match text(&status["phase"]) {
        "Succeeded" => return Health::Ready,
        "Failed" => return failed(pod, rule),
        _ => {}
    }
    if let Some(scheduled) = condition(status, "PodScheduled").filter(|c| !c.is_true()) {
        return unscheduled(pod, scheduled);
    }
    if let Some(trouble) = containers::trouble(pod, rule) {
        return trouble;
    }
    if condition(status, "Ready").is_some_and(|c| c.is_true()) {
        return Health::Ready;
    }
    gone_with_its_node(pod).or_else(|| impossible_probe(pod)).unwrap_or_else(|| Health::progressing(stage(pod)))
}

fn unscheduled(pod: &Value, scheduled: Condition<'_>) -> Health {
    if scheduled.reason != "Unschedulable" {
        return Health::progressing(match scheduled.reason {
            "SchedulingGated" => format!("it is held back by a scheduling gate: {}", scheduled.message),
            _ => format!("it has no node yet: {}", scheduled.said()),
        });
    }
    let message = scheduled.message;
    // The scheduler has chosen a node and others make room on it.
    if !text(&pod["status"]["nominatedNodeName"]).is_empty() {
        return Health::progressing("others make room for it on a node");
    }
    if message.contains("unbound immediate PersistentVolumeClaims") {
        return Health::progressing("its volume is being made");
    }
    let blame = if only_nodes_are_to_blame(message) { Blame::World } else { Blame::Release };
    Health::doubtful(Trouble::of_pod(pod, "Unschedulable", message, blame))
}

/// Whether every node is out of service, by the taints that Kubernetes itself puts on such nodes.
fn only_nodes_are_to_blame(message: &str) -> bool {
    let about = message.split_once(':').map_or(message, |(_, about)| about);
    let about = about.split(" preemption:").next().unwrap_or(about);
    let mut reasons = about.split(", ").map(str::trim).filter(|reason| !reason.is_empty()).peekable();
    let out_of_service = |reason: &str| {
        reason.contains("{node.kubernetes.io/") || reason.contains("were unschedulable") || reason.contains("not ready")
    };
    message.starts_with("no nodes available") || (reasons.peek().is_some() && reasons.all(out_of_service))
}

fn failed(pod: &Value, rule: &Rule) -> Health {
    let status = &pod["status"];
    let (reason, message) = (text(&status["reason"]), text(&status["message"]));
    match reason {
        // The node gave it up; what made the pod makes another.
        "Evicted"
        | "NodeAffinity"
        | "NodeLost"
        | "NodeShutdown"
        | "Shutdown"
        | "Terminated"
        | "Preempting"
        | "UnexpectedAdmissionError"
        | "OutOfcpu"
        | "OutOfmemory"
        | "OutOfpods" => {
            let replaced = items(&pod["metadata"]["ownerReferences"]).any(|owner| owner["controller"] == true);
            match replaced {
                true => Health::progressing(format!("its node gave it up ({reason}): another takes its place")),
                false => Health::broken(Trouble::of_pod(pod, reason, message, Blame::World)),
            }
        }
        _ if rule.counted_by_job => Health::progressing("it failed; its Job may try again"),
        "" => containers::ended(pod, rule).unwrap_or_else(|| {
            Health::broken(Trouble::of_pod(pod, "Failed", "all of its containers have ended", Blame::Release))
        }),
        reason => Health::broken(Trouble::of_pod(pod, reason, message, Blame::Release)),
    }
}

/// The node does not answer any more, and the control plane has given up on this pod.
fn gone_with_its_node(pod: &Value) -> Option<Health> {
    let status = &pod["status"];
    let lost = text(&status["reason"]) == "NodeLost";
    let tainted = condition(status, "DisruptionTarget").filter(|c| c.is_true() && c.reason == "DeletionByTaintManager");
    match (lost, tainted) {
        (true, _) => Some(Health::broken(Trouble::of_pod(pod, "NodeLost", text(&status["message"]), Blame::World))),
        (false, Some(c)) => Some(Health::broken(Trouble::of_pod(pod, "NodeLost", c.message, Blame::World))),
        (false, None) => None,
    }
}

/// A probe at a port by a name that no container has can never pass. A number is no proof: ports need not be declared.
fn impossible_probe(pod: &Value) -> Option<Health> {
    for container in items(&pod["spec"]["containers"]) {
        for probe in ["readinessProbe", "startupProbe", "livenessProbe"] {
            let probe_of = |how: &str| container[probe][how]["port"].as_str();
            let Some(port) = probe_of("httpGet").or_else(|| probe_of("tcpSocket")) else { continue };
            let is_number = port.parse::<u16>().is_ok();
            if is_number || items(&container["ports"]).any(|declared| declared["name"] == port) {
                continue;
            }
            let message = format!("its {probe} asks the port `{port}`, which this container does not have");
            let trouble = Trouble::of_pod(pod, "ProbePortUnknown", message, Blame::Release);
            let container = Some(text(&container["name"]).to_owned());
            return Some(Health::broken(Trouble { container, ..trouble }));
        }
    }
    None
}

/// How far a pod is that is coming up.
fn stage(pod: &Value) -> String {
    let status = &pod["status"];
    let waits = |list: &str| items(&status[list]).find_map(|c| c["state"]["waiting"]["reason"].as_str());
    let running = items(&status["containerStatuses"]).filter(|c| !c["state"]["running"].is_null()).count();
    let all = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    if let Some(done) = condition(status, "Initialized").filter(|c| c.is_false()) {
        return format!("its init containers run: {}", done.said());
    }
    match waits("containerStatuses") {
        Some("ContainerCreating" | "PodInitializing") => "its containers are being made".to_owned(),
        Some(reason) => format!("{reason}, the kubelet tries again"),
        None if running < all || all == 0 => "it is starting".to_owned(),
        None => format!("it runs and is not ready yet{}", restarts(status)),
    }
}

fn restarts(status: &Value) -> String {
    match items(&status["containerStatuses"]).map(|c| number(&c["restartCount"])).sum::<i64>() {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        n => format!(", restarted {n} times"),
    }
}

/// Whether it serves: ready and not on its way out.
pub fn is_ready(pod: &Value) -> bool {
    let leaves = !pod["metadata"]["deletionTimestamp"].is_null();
    !leaves && condition(&pod["status"], "Ready").is_some_and(|c| c.is_true())
}
