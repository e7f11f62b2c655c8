//! What the containers of a pod say: the image, the configuration, and how they ended.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Blame, Health, Trouble, pods,
    read::{items, number, text},
};

/// A run longer than this is no failed start: the kubelet forgets its back-off after as long.
const SHORT_RUN_SECONDS_MAX: i64 = 600;
/// Exits that no restart mends: the program cannot be run at all.
const CANNOT_RUN: [i64; 2] = [126, 127];

/// The first trouble of any of its containers; init containers come first, because the others wait for them.
pub(super) fn trouble(pod: &Value, rule: &pods::Rule) -> Option<Health> {
    let status = &pod["status"];
    let init = items(&status["initContainerStatuses"]).filter_map(|c| of_container(pod, c, rule, true));
    let main = items(&status["containerStatuses"]).filter_map(|c| of_container(pod, c, rule, false));
    let mut found: Vec<Health> = init.chain(main).collect();
    let certain = found.iter().position(|health| matches!(health, Health::Broken(_)));
    (!found.is_empty()).then(|| found.swap_remove(certain.unwrap_or(0)))
}

/// Why a pod that has failed did: the container that ended badly.
pub(super) fn ended(pod: &Value, rule: &pods::Rule) -> Option<Health> {
    let mut all = items(&pod["status"]["initContainerStatuses"]).chain(items(&pod["status"]["containerStatuses"]));
    let bad = all.find(|c| number(&c["state"]["terminated"]["exitCode"]) != 0)?;
    Some(Health::broken(of_exit(pod, bad, &bad["state"]["terminated"], rule)))
}

fn of_container(pod: &Value, container: &Value, rule: &pods::Rule, is_init: bool) -> Option<Health> {
    let waiting = &container["state"]["waiting"];
    match text(&waiting["reason"]) {
        "" => of_runs(pod, container, rule, is_init),
        "CrashLoopBackOff" if rule.counted_by_job => None,
        // The kubelet says so from the second failure on, and more may be forgiven.
        "CrashLoopBackOff" if rule.restarts > 1 && number(&container["restartCount"]) < rule.restarts => None,
        "CrashLoopBackOff" => Some(Health::broken(crash_loop(pod, container, rule))),
        reason => of_waiting(pod, container, reason, text(&waiting["message"])),
    }
}

fn of_waiting(pod: &Value, container: &Value, reason: &str, message: &str) -> Option<Health> {
    let blamed = |blame| in_container(Trouble::of_pod(pod, reason, message, blame), container);
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" | "SignatureValidationFailed" => {
            Some(Health::broken(blamed(Blame::Release)))
        }
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            let mut trouble = blamed(Blame::Release);
            trouble.message = image_message(container, message);
            match is_registry_away(message) || reason == "RegistryUnavailable" {
                true => Some(Health::doubtful(Trouble { blame: Blame::World, ..trouble })),
                false => Some(Health::broken(trouble)),
            }
        }
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreStartHookError"
        | "PostStartHookError"
        | "PreCreateHookError"
        | "StartError"
        | "ContainerCannotRun" => match is_slow_node(message) {
            true => Some(Health::doubtful(blamed(Blame::World))),
            false => Some(Health::broken(blamed(Blame::Release))),
        },
        // `ContainerCreating`, `PodInitializing` and what later kubelets may say: it is under way.
        _ => None,
    }
}

/// The registry could not be asked, which says nothing about the image. The kubelet passes on the runtime's words.
fn is_registry_away(message: &str) -> bool {
    const SIGNS: [&str; 14] = [
        "no such host",
        "i/o timeout",
        "connection refused",
        "connection reset",
        "network is unreachable",
        "no route to host",
        "TLS handshake timeout",
        "Client.Timeout",
        "deadline exceeded",
        "toomanyrequests",
        "server misbehaving",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
    ];
    SIGNS.iter().any(|sign| message.contains(sign))
}

fn is_slow_node(message: &str) -> bool {
    ["timed out", "deadline exceeded", "is reserved for"].iter().any(|sign| message.contains(sign))
}

/// The kubelet's message names the image in every form but the shortest.
fn image_message(container: &Value, message: &str) -> String {
    let image = text(&container["image"]);
    let told = match message {
        "" => format!("cannot pull {image}"),
        message if message.contains(image) => message.to_owned(),
        message => format!("{image}: {message}"),
    };
    super::trouble::one_line(&told, 500)
}

/// A container that is not ready and has ended before, or has just ended.
fn of_runs(pod: &Value, container: &Value, rule: &pods::Rule, is_init: bool) -> Option<Health> {
    let just_now = &container["state"]["terminated"];
    let before = &container["lastState"]["terminated"];
    if container["ready"] == true || (is_init && !just_now.is_null() && number(&just_now["exitCode"]) == 0) {
        return None;
    }
    let last = if just_now.is_null() { before } else { just_now };
    if last.is_null() || rule.counted_by_job {
        return None;
    }
    let code = number(&last["exitCode"]);
    let starts_again = text(&pod["spec"]["restartPolicy"]) != "Never" || container_restarts(pod, container);
    let hopeless = text(&last["reason"]) == "OOMKilled"
        || CANNOT_RUN.contains(&code)
        || matches!(text(&last["reason"]), "StartError" | "ContainerCannotRun");
    let failures = number(&container["restartCount"]) + i64::from(!just_now.is_null());
    let repeated = code != 0 && failures > rule.restarts && is_short(last);
    let final_end = code != 0 && !starts_again && !just_now.is_null();
    (hopeless || repeated || final_end).then(|| Health::broken(of_exit(pod, container, last, rule)))
}

/// An init container with a restart policy of its own is a sidecar.
fn container_restarts(pod: &Value, container: &Value) -> bool {
    let spec = items(&pod["spec"]["initContainers"]).find(|spec| spec["name"] == container["name"]);
    spec.is_some_and(|spec| spec["restartPolicy"] == "Always")
}

fn is_short(run: &Value) -> bool {
    let moment = |key: &str| run[key].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    match (moment("startedAt"), moment("finishedAt")) {
        (Some(from), Some(until)) => until.as_second() - from.as_second() < SHORT_RUN_SECONDS_MAX,
        _ => true,
    }
}

fn crash_loop(pod: &Value, container: &Value, rule: &pods::Rule) -> Trouble {
    let last = &container["lastState"]["terminated"];
    let message = match last.is_null() {
        true => text(&container["state"]["waiting"]["message"]).to_owned(),
        false => end_in_words(container, last, rule),
    };
    in_container(Trouble::of_pod(pod, "CrashLoopBackOff", message, Blame::Release), container)
}

fn of_exit(pod: &Value, container: &Value, last: &Value, rule: &pods::Rule) -> Trouble {
    let reason = match text(&last["reason"]) {
        "" | "Error" | "Completed" => "Crashed",
        reason => reason,
    };
    in_container(Trouble::of_pod(pod, reason, end_in_words(container, last, rule), Blame::Release), container)
}

fn in_container(mut trouble: Trouble, container: &Value) -> Trouble {
    trouble.container = Some(text(&container["name"]).to_owned());
    trouble
}

/// `it ended with exit code 1, 3 restarts so far`
fn end_in_words(container: &Value, last: &Value, rule: &pods::Rule) -> String {
    let (code, signal) = (number(&last["exitCode"]), number(&last["signal"]));
    let mut words = match (text(&last["reason"]), code) {
        ("OOMKilled", _) => "it used more memory than its limit allows".to_owned(),
        (_, 137) => "it was killed: by its liveness or startup probe, or from outside (exit code 137)".to_owned(),
        (_, 0) if signal != 0 => format!("it was ended by signal {signal}"),
        (_, 0) => "it ended by itself (exit code 0), and it should keep running".to_owned(),
        (_, code) => format!("it ended with exit code {code}"),
    };
    match number(&container["restartCount"]) {
        0 => {}
        1 => words.push_str(", restarted once"),
        n => words.push_str(&format!(", restarted {n} times")),
    }
    let said = text(&last["message"]).trim();
    if !said.is_empty() && rule.quotes {
        words.push_str(&format!(": {said}"));
    }
    super::trouble::one_line(&words, 500)
}
