//! The life of one container, as a real kubelet reports it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{behaviour::Behaviour, events::Said};

/// A program that ends does so after this time.
const RUNS: Duration = Duration::from_millis(100);
/// From a failed pull to being told that there is a pause before the next.
const PULL_ERROR_SHOWS: Duration = Duration::from_millis(500);
/// The longest pause between two starts or pulls.
const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// A probe's and a mount's next try.
const PROBE_PERIOD: Duration = Duration::from_secs(2);

/// How fast things go here.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From a container's start to its readiness.
    pub ready_after: Duration,
    /// The first pause of a crash loop and of a pull; each further one is twice as long.
    pub back_off: Duration,
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Creating,
    PullError,
    PullBackOff,
    ConfigError(String),
    Running { ready: bool },
    CrashLoop { pause: Duration },
    Ended,
}

/// One container of a pod.
#[derive(Debug, Clone)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub behaviour: Behaviour,
    pub phase: Phase,
    /// When the next thing happens by itself.
    pub next: Option<Instant>,
    /// Started again after its end; a Job's container is not, or only after a failure.
    pub restarts: Restarts,
    pub restart_count: u32,
    pulls_failed: u32,
    /// How it ended the last time.
    pub ended: Option<Ended>,
    started_at: Option<Timestamp>,
    /// The lines of the run before and of the last run.
    pub logs: [Vec<String>; 2],
    /// More lines of each run.
    says: Vec<String>,
    pod: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarts {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone)]
pub struct Ended {
    pub code: i32,
    started: Timestamp,
    finished: Timestamp,
    run: u32,
}

impl Container {
    /// `pod` is how a kubelet names a pod in messages: `NAME_NAMESPACE(UID)`; `says` are more lines of its log.
    pub fn new(spec: &Value, restarts: Restarts, pod: &str, says: &str) -> Container {
        let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
        Container {
            name: text("name"),
            behaviour: Behaviour::of(&text("image")),
            image: text("image"),
            phase: Phase::Creating,
            next: None,
            restarts,
            restart_count: 0,
            pulls_failed: 0,
            ended: None,
            started_at: None,
            logs: [Vec::new(), Vec::new()],
            says: says.lines().map(str::to_owned).collect(),
            pod: pod.to_owned(),
        }
    }

    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running { ready: true }
    }

    /// It has ended for good, and well.
    pub fn succeeded(&self) -> bool {
        self.phase == Phase::Ended && self.ended.as_ref().is_some_and(|ended| ended.code == 0)
    }

    /// What it misses, as the real kubelet says it; `None`: nothing.
    pub fn lacks(&mut self, missing: Option<String>, now: Instant) -> Vec<Said> {
        let Some(missing) = missing else { return Vec::new() };
        self.next = Some(now + PROBE_PERIOD);
        let said = Said::warning("Failed", format!("Error: {missing}"));
        self.phase = Phase::ConfigError(missing);
        vec![said]
    }

    /// The first start, or another try of it.
    pub fn start(&mut self, pace: Pace, now: Instant) -> Vec<Said> {
        let pulling = Said::normal("Pulling", format!("Pulling image \"{}\"", self.image));
        if self.behaviour == Behaviour::Pull {
            self.phase = Phase::PullError;
            self.next = Some(now + PULL_ERROR_SHOWS);
            let failed = format!("Failed to pull image \"{}\": {}", self.image, self.pull_error());
            let error = Said::warning("Failed", "Error: ErrImagePull".to_owned());
            return vec![pulling, Said::warning("Failed", failed), error];
        }
        let pulled = format!(
            "Successfully pulled image \"{}\" in 12ms (12ms including waiting). Image size: 1024 bytes.",
            self.image
        );
        let mut said = vec![pulling, Said::normal("Pulled", pulled)];
        said.extend(self.run(pace, now));
        said
    }

    fn run(&mut self, pace: Pace, now: Instant) -> Vec<Said> {
        self.started_at = Some(Timestamp::now());
        self.phase = Phase::Running { ready: false };
        let until = match self.behaviour {
            Behaviour::Ends { .. } => RUNS,
            Behaviour::Slow(time) => time,
            Behaviour::Never => PROBE_PERIOD.min(pace.ready_after * 2),
            Behaviour::Good
            | Behaviour::Fades(_)
            | Behaviour::FadesWhenTold
            | Behaviour::Stubborn
            | Behaviour::Pull
            | Behaviour::Config => pace.ready_after,
        };
        self.next = Some(now + until);
        let [_, last] = std::mem::take(&mut self.logs);
        let first = format!("{}: starting {}", self.name, self.image);
        self.logs = [last, [first].into_iter().chain(self.says.iter().cloned()).collect()];
        vec![
            Said::normal("Created", "Container created".to_owned()),
            Said::normal("Started", "Container started".to_owned()),
        ]
    }

    /// Somebody has said that it is to end, if it is of those that heed it.
    pub fn told_to_end(&mut self, now: Instant) {
        if self.behaviour == Behaviour::FadesWhenTold && self.is_ready() {
            self.next = Some(now);
        }
    }

    /// What happens by itself at this time.
    pub fn step(&mut self, pace: Pace, now: Instant) -> Vec<Said> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        self.next = None;
        match self.phase.clone() {
            Phase::Running { ready } => self.step_running(ready, pace, now),
            Phase::PullError => {
                self.phase = Phase::PullBackOff;
                self.next = Some(now + pause(pace, self.pulls_failed));
                self.pulls_failed += 1;
                let message = format!("Back-off pulling image \"{}\"", self.image);
                vec![Said::normal("BackOff", message), Said::warning("Failed", "Error: ImagePullBackOff".to_owned())]
            }
            Phase::PullBackOff => self.start(pace, now),
            Phase::CrashLoop { .. } => self.run_again(pace, now),
            Phase::Creating | Phase::ConfigError(_) | Phase::Ended => Vec::new(),
        }
    }

    fn step_running(&mut self, ready: bool, pace: Pace, now: Instant) -> Vec<Said> {
        match self.behaviour {
            Behaviour::Ends { code } => self.end(code, pace, now),
            Behaviour::Fades(_) | Behaviour::FadesWhenTold if ready => self.end(1, pace, now),
            Behaviour::Never => {
                self.next = Some(now + PROBE_PERIOD);
                vec![Said::warning(
                    "Unhealthy",
                    "Readiness probe failed: HTTP probe failed with statuscode: 503".to_owned(),
                )]
            }
            // A Job's container is done when a service's would be ready.
            _ if self.restarts != Restarts::Always => self.end(0, pace, now),
            Behaviour::Fades(time) => {
                self.next = Some(now + time);
                self.say_ready()
            }
            Behaviour::Good
            | Behaviour::FadesWhenTold
            | Behaviour::Slow(_)
            | Behaviour::Stubborn
            | Behaviour::Pull
            | Behaviour::Config => self.say_ready(),
        }
    }

    fn say_ready(&mut self) -> Vec<Said> {
        self.phase = Phase::Running { ready: true };
        self.logs[1].push(format!("{}: ready", self.name));
        Vec::new()
    }

    fn end(&mut self, code: i32, pace: Pace, now: Instant) -> Vec<Said> {
        let (started, finished) = (self.started_at.unwrap_or_else(Timestamp::now), Timestamp::now());
        if code != 0 {
            self.logs[1].push(format!("panic: {} cannot work: exit code {code}", self.image));
        }
        self.ended = Some(Ended { code, started, finished, run: self.restart_count });
        let again = match self.restarts {
            Restarts::Always => true,
            Restarts::OnFailure => code != 0,
            Restarts::Never => false,
        };
        if !again {
            self.phase = Phase::Ended;
            return Vec::new();
        }
        // The first restart comes at once, the next ones after a pause.
        if self.restart_count == 0 {
            return self.run_again(pace, now);
        }
        let pause = pause(pace, self.restart_count - 1);
        self.next = Some(now + pause);
        self.phase = Phase::CrashLoop { pause };
        let message = format!("Back-off restarting failed container {} in pod {}", self.name, self.pod);
        vec![Said::warning("BackOff", message)]
    }

    fn run_again(&mut self, pace: Pace, now: Instant) -> Vec<Said> {
        self.restart_count += 1;
        let present =
            format!("Container image \"{}\" already present on machine and can be accessed by the pod", self.image);
        let mut said = vec![Said::normal("Pulled", present)];
        said.extend(self.run(pace, now));
        said
    }

    fn pull_error(&self) -> String {
        let image = full_name(&self.image);
        format!(
            "rpc error: code = NotFound desc = failed to pull and unpack image \"{image}\": failed to resolve \
             reference \"{image}\": {image}: not found"
        )
    }

    /// The entry of `containerStatuses`.
    pub fn status(&self) -> Value {
        let waiting = |reason: &str, message: String| json!({"waiting": {"reason": reason, "message": message}});
        let state = match &self.phase {
            Phase::Creating => json!({"waiting": {"reason": "ContainerCreating"}}),
            Phase::PullError => waiting("ErrImagePull", self.pull_error()),
            Phase::PullBackOff => {
                let message = format!("Back-off pulling image \"{}\": ErrImagePull: {}", self.image, self.pull_error());
                waiting("ImagePullBackOff", message)
            }
            Phase::ConfigError(missing) => waiting("CreateContainerConfigError", missing.clone()),
            Phase::Running { .. } => json!({"running": {"startedAt": self.started_at}}),
            Phase::CrashLoop { pause } => waiting("CrashLoopBackOff", self.crash_loop(*pause)),
            Phase::Ended => json!({"terminated": self.ended.as_ref().map(|ended| ended.status(&self.name))}),
        };
        let last = self.ended.as_ref().filter(|_| self.phase != Phase::Ended);
        let last = last.map_or(json!({}), |ended| json!({"terminated": ended.status(&self.name)}));
        let runs = matches!(self.phase, Phase::Running { .. });
        let digest = git2::Oid::hash_object(git2::ObjectType::Blob, self.image.as_bytes()).expect("bytes have a hash");
        let started = self.started_at.is_some();
        json!({
            "name": self.name,
            "image": if started { full_name(&self.image) } else { self.image.clone() },
            "imageID": if started { format!("{}@sha256:{digest}{}", repository(&self.image), "0".repeat(24)) } else { String::new() },
            "containerID": if started { format!("containerd://{digest}{:024}", self.restart_count) } else { String::new() },
            "ready": self.is_ready() || (self.restarts != Restarts::Always && self.succeeded()),
            "started": runs,
            "restartCount": self.restart_count,
            "state": state,
            "lastState": last,
        })
    }

    fn crash_loop(&self, pause: Duration) -> String {
        let pause = match pause.as_secs() {
            whole @ 0..60 => format!("{whole}s"),
            whole => format!("{}m{}s", whole / 60, whole % 60),
        };
        format!("back-off {pause} restarting failed container={} pod={}", self.name, self.pod)
    }
}

impl Ended {
    fn status(&self, name: &str) -> Value {
        let reason = match self.code {
            0 => "Completed",
            137 => "OOMKilled",
            _ => "Error",
        };
        json!({
            "exitCode": self.code,
            "reason": reason,
            "startedAt": self.started,
            "finishedAt": self.finished,
            "containerID": format!("containerd://{name}-{}", self.run),
        })
    }
}

/// Each pause is twice as long as the one before.
fn pause(pace: Pace, pauses_before: u32) -> Duration {
    (pace.back_off * 2u32.pow(pauses_before.min(10))).min(BACK_OFF_MAX)
}

fn repository(image: &str) -> String {
    let full = full_name(image);
    let named = full.split('@').next().unwrap_or_default();
    let colon = named.rfind(':').filter(|at| !named[*at..].contains('/'));
    colon.map_or(named, |at| &named[..at]).to_owned()
}

/// The name with the registry that is meant where none is named.
fn full_name(image: &str) -> String {
    let first = image.split('/').next().unwrap_or_default();
    let tagged = if image.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) { "" } else { ":latest" };
    match (image.contains('/'), first.contains(['.', ':']) || first == "localhost") {
        (true, true) => format!("{image}{tagged}"),
        (true, false) => format!("docker.io/{image}{tagged}"),
        (false, _) => format!("docker.io/library/{image}{tagged}"),
    }
}
