//! One instance of a service: started, watched until it is ready, started again when it ends, stopped with all that
//! came from it.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::{
    process::{Child, Command},
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    log::Log,
    ports,
    proc::{self, Identity, MARK},
    ready,
    secrets::Secrets,
};
use crate::{
    clients::process::Redaction,
    model::{Span, TreeId},
    targets::process::{config::Ready, wire::InstanceReport},
};

/// How often an instance that was never ready is tried: a port may be taken in the moment between choosing and
/// listening, but a release that cannot start is to be told soon.
const START_TRIES: usize = 3;
/// Restarts are counted within this time.
const RESTART_WINDOW: Duration = Duration::from_secs(60);
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A crashed instance is tried again at this pace: it may be the only one that users have.
const CRASHED_PAUSE: Duration = Duration::from_secs(30);
const POLL_PAUSE: Duration = Duration::from_millis(50);
/// After SIGKILL a process is gone as soon as the kernel gets to it.
const KILL_WITHIN: Duration = Duration::from_secs(5);

/// Stands for the port, which is chosen anew at every start. No argument and no variable can hold this character.
pub const PORT_PLACE: &str = "\0";

/// How to start an instance; everything in it but the port is known.
#[derive(Clone)]
pub struct Start {
    pub service: String,
    pub index: u16,
    pub dir: PathBuf,
    /// [`PORT_PLACE`] still stands in both.
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub secrets: Secrets,
    pub secret_names: Vec<String>,
    pub ready: Ready,
    pub stop: Span,
    pub restarts: u32,
    /// The first part of the value by which its processes are known; chance is added to it, so that an instance and
    /// the one that takes its place are two.
    pub mark: String,
    pub log: Log,
}

/// What is written down of an instance, so that another supervisor finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    #[serde(flatten)]
    pub identity: Identity,
    pub port: u16,
    pub mark: String,
}

/// How an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Starting,
    Ready,
    /// Not ready in time, or ended too often; it is still tried, slowly.
    Failed(String),
    Stopped,
}

pub struct Instance {
    pub start: Start,
    condition: watch::Sender<Condition>,
    port: AtomicU16,
    restarts: AtomicU32,
    process: Mutex<Option<Recorded>>,
    stop: CancellationToken,
    /// Cuts a pause between two starts short.
    kick: Notify,
    /// What is worth telling about its end, such as a SIGTERM that it ignored.
    remark: Mutex<Option<String>>,
    /// Called whenever what is written down has changed.
    record: Box<dyn Fn() + Send + Sync>,
}

impl Instance {
    /// Starts it, or takes over the running process that was written down.
    pub fn launch(mut start: Start, adopt: Option<Recorded>, record: Box<dyn Fn() + Send + Sync>) -> Arc<Instance> {
        let adopt = adopt.filter(|recorded| recorded.identity.is_running());
        start.mark = match &adopt {
            Some(recorded) => recorded.mark.clone(),
            None => format!("{}/{}", start.mark, chance()),
        };
        let instance = Arc::new(Instance {
            start,
            condition: watch::Sender::new(Condition::Starting),
            port: AtomicU16::new(adopt.as_ref().map_or(0, |recorded| recorded.port)),
            restarts: AtomicU32::new(0),
            process: Mutex::new(adopt.clone()),
            stop: CancellationToken::new(),
            kick: Notify::new(),
            remark: Mutex::new(None),
            record,
        });
        tokio::spawn(keep(instance.clone(), adopt));
        instance
    }

    pub fn condition(&self) -> Condition {
        self.condition.borrow().clone()
    }

    pub fn is_ready(&self) -> bool {
        *self.condition.borrow() == Condition::Ready
    }

    pub fn port(&self) -> u16 {
        self.port.load(Ordering::Acquire)
    }

    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub fn process(&self) -> Option<Recorded> {
        self.process.lock().expect("no panic while it is held").clone()
    }

    /// Waits until it is ready, or has failed. One that failed before is tried again at once.
    pub async fn settled(&self) -> Result<(), String> {
        let had_failed = self.condition.send_if_modified(|condition| {
            let failed = matches!(condition, Condition::Failed(_));
            if failed {
                *condition = Condition::Starting;
            }
            failed
        });
        if had_failed {
            self.kick.notify_waiters();
        }
        let mut seen = self.condition.subscribe();
        let settled = seen.wait_for(|condition| *condition != Condition::Starting).await;
        match settled.as_deref() {
            Ok(Condition::Ready) => Ok(()),
            Ok(Condition::Failed(why)) => Err(why.clone()),
            Ok(Condition::Starting | Condition::Stopped) | Err(_) => Err(format!("{} was stopped", self.name())),
        }
    }

    /// Stops it with everything that came from it, and waits for that; says what was remarkable.
    pub async fn stop(&self) -> Option<String> {
        self.stop.cancel();
        let mut seen = self.condition.subscribe();
        // An error means that its task is gone, which is what we wait for.
        let _ = seen.wait_for(|condition| *condition == Condition::Stopped).await;
        self.remark.lock().expect("no panic while it is held").take()
    }

    /// Why it is not ready and will not be soon.
    pub fn trouble(&self) -> Option<String> {
        match self.condition() {
            Condition::Failed(why) => Some(why),
            Condition::Starting | Condition::Ready | Condition::Stopped => None,
        }
    }

    /// What people and tests are told of it.
    pub fn report(&self, releases: &[TreeId]) -> InstanceReport {
        let condition = match self.condition() {
            Condition::Starting => "starting".to_owned(),
            Condition::Ready => "ready".to_owned(),
            Condition::Failed(why) => format!("failed: {why}"),
            Condition::Stopped => "stopped".to_owned(),
        };
        InstanceReport {
            service: self.start.service.clone(),
            index: self.start.index,
            releases: releases.to_vec(),
            dir: self.start.dir.clone(),
            port: self.port(),
            pid: self.process().map(|recorded| recorded.identity.pid),
            restarts: self.restarts(),
            condition,
        }
    }

    /// As people are told: `web` instance 0.
    pub fn name(&self) -> String {
        format!("`{}` instance {}", self.start.service, self.start.index)
    }

    fn redaction(&self) -> Redaction {
        let secrets = self.start.secrets.of(&self.start.service, &self.start.secret_names);
        Redaction::of_values(secrets.unwrap_or_default().into_values())
    }

    /// A sentence with the last lines of the log behind it.
    fn with_log(&self, sentence: String, log_start: u64) -> String {
        match self.start.log.last_lines(log_start, &self.redaction()) {
            Some(lines) => format!("{sentence}; its log ends with: {lines}"),
            None => format!("{sentence}; it wrote nothing to its log"),
        }
    }

    fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }

    fn now_runs(&self, recorded: Option<Recorded>) {
        if let Some(recorded) = &recorded {
            self.port.store(recorded.port, Ordering::Release);
        }
        *self.process.lock().expect("no panic while it is held") = recorded;
        (self.record)();
    }
}

/// A process that we started, or that a supervisor before us did.
enum Process {
    Child(Child, Recorded),
    Adopted(Recorded),
}

/// Why attending to a process ended.
enum Ended {
    Exited { how: String, was_ready: bool },
    ToldToStop,
    ToldToStartAnew,
}

/// The one loop around an instance, from its first start to its stop.
async fn keep(instance: Arc<Instance>, mut adopt: Option<Recorded>) {
    let mut ends: VecDeque<Instant> = VecDeque::new();
    let mut was_ready_once = adopt.is_some();
    while !instance.stop.is_cancelled() {
        let log_start = instance.start.log.end();
        let how = match adopt.take().map_or_else(|| instance.spawn(), |recorded| Ok(Process::Adopted(recorded))) {
            Err(why) => why,
            Ok(mut process) => {
                instance.now_runs(Some(process.recorded().clone()));
                match attend(&instance, &mut process, log_start).await {
                    Ended::ToldToStop => {
                        let remark = terminate(&instance, &mut process).await;
                        *instance.remark.lock().expect("no panic while it is held") = remark;
                        break;
                    }
                    Ended::ToldToStartAnew => {
                        terminate(&instance, &mut process).await;
                        ends.clear();
                        continue;
                    }
                    Ended::Exited { how, was_ready } => {
                        was_ready_once |= was_ready;
                        instance.set(Condition::Starting);
                        clear_away(&instance, process.group()).await;
                        how
                    }
                }
            }
        };
        instance.now_runs(None);
        ends.push_back(Instant::now());
        let pause = instance.after_end(&mut ends, was_ready_once, &how, log_start);
        tokio::select! {
            () = sleep(pause) => {}
            () = instance.kick.notified() => ends.clear(),
            () = instance.stop.cancelled() => {}
        }
        instance.restarts.fetch_add(1, Ordering::Relaxed);
    }
    instance.now_runs(None);
    instance.set(Condition::Stopped);
}

impl Instance {
    /// Decides what an end means, and how long to wait before the next start.
    fn after_end(&self, ends: &mut VecDeque<Instant>, was_ready: bool, how: &str, log_start: u64) -> Duration {
        let now = Instant::now();
        while ends.front().is_some_and(|end| now.duration_since(*end) > RESTART_WINDOW) {
            ends.pop_front();
        }
        let times = ends.len();
        let sentence = if !was_ready && times >= START_TRIES {
            Some(format!("{} never became ready: {how}, {times} times", self.name()))
        } else if was_ready && times > self.start.restarts as usize {
            Some(format!("{} crashed: it ended {times} times within a minute, the last time it {how}", self.name()))
        } else {
            None
        };
        match sentence {
            Some(sentence) => {
                self.set(Condition::Failed(self.with_log(sentence, log_start)));
                CRASHED_PAUSE
            }
            None => {
                self.set(Condition::Starting);
                let doublings = u32::try_from(times.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
                (RESTART_PAUSE_MIN * 2u32.pow(doublings)).min(RESTART_PAUSE_MAX)
            }
        }
    }

    fn spawn(&self) -> Result<Process, String> {
        let start = &self.start;
        let port = ports::free().map_err(|error| format!("found no free port: {error}"))?;
        let with_port = |text: &String| text.replace(PORT_PLACE, &port.to_string());
        let argv: Vec<String> = start.argv.iter().map(with_port).collect();
        let program = argv.first().cloned().unwrap_or_default();
        let could_not = |error: std::io::Error| format!("could not start `{program}`: {error}");
        let log = start.log.open().map_err(could_not)?;
        let mut command = Command::new(in_release(&program, &start.dir));
        command.args(&argv[1..]).current_dir(&start.dir).env_clear();
        command.envs(crate::clients::process::kept_environment());
        command.envs(start.env.iter().map(|(name, value)| (name, with_port(value))));
        command.envs(start.secrets.of(&start.service, &start.secret_names)?);
        command.env(MARK, &start.mark);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(could_not)?).stderr(log).process_group(0);
        let child = command.spawn().map_err(could_not)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or("ended before it was seen")?;
        // A process that has ended already cannot be mistaken for another: its number is ours until it is waited for.
        let identity = Identity::of(pid).unwrap_or(Identity { pid, started: 0 });
        Ok(Process::Child(child, Recorded { identity, port, mark: start.mark.clone() }))
    }
}

/// Distinct for every launch; no secret.
fn chance() -> String {
    // Where the system gives no chance, the time will do.
    let number = getrandom::u64().unwrap_or_else(|_| jiff::Timestamp::now().as_nanosecond() as u64);
    format!("{number:016x}")
}

/// A program path with a slash is meant relative to the release.
fn in_release(program: &str, dir: &std::path::Path) -> PathBuf {
    if program.contains('/') { dir.join(program) } else { PathBuf::from(program) }
}

impl Process {
    fn recorded(&self) -> &Recorded {
        match self {
            Process::Child(_, recorded) | Process::Adopted(recorded) => recorded,
        }
    }

    /// Every instance leads its own group.
    fn group(&self) -> i32 {
        self.recorded().identity.pid
    }

    async fn exited(&mut self) -> String {
        match self {
            Process::Child(child, _) => match child.wait().await {
                Ok(status) => how_it_ended(status),
                Err(error) => format!("was lost: {error}"),
            },
            Process::Adopted(recorded) => {
                while recorded.identity.is_running() {
                    sleep(POLL_PAUSE).await;
                }
                "ended".to_owned()
            }
        }
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Watches a process from its start to its end, or until it is to be stopped.
async fn attend(instance: &Instance, process: &mut Process, log_start: u64) -> Ended {
    let port = process.recorded().port;
    tokio::select! {
        how = process.exited() => Ended::Exited { how, was_ready: instance.is_ready() },
        never = watch_readiness(instance, port, log_start) => match never {},
        () = instance.kick.notified() => Ended::ToldToStartAnew,
        () = instance.stop.cancelled() => Ended::ToldToStop,
    }
}

/// Looks until the instance is ready, which may also be after its time.
async fn watch_readiness(instance: &Instance, port: u16, log_start: u64) -> Infallible {
    let limit = &instance.start.ready;
    let deadline = Instant::now() + limit.within.as_duration();
    while let Err(seen) = ready::check(port, limit.path.as_deref()).await {
        if Instant::now() >= deadline && instance.condition() == Condition::Starting {
            let sentence = format!("{} was not ready within {}: {seen}", instance.name(), limit.within);
            instance.set(Condition::Failed(instance.with_log(sentence, log_start)));
        }
        sleep(POLL_PAUSE).await;
    }
    instance.set(Condition::Ready);
    std::future::pending().await
}

/// SIGTERM to the whole group, SIGKILL to what is left of it after the grace.
async fn terminate(instance: &Instance, process: &mut Process) -> Option<String> {
    let group = process.group();
    proc::signal_group(group, Signal::SIGTERM);
    // Those that left the group are told too.
    for pid in marked_as(instance).await {
        proc::signal(pid, Signal::SIGTERM);
    }
    let grace = instance.start.stop;
    let all_gone = async {
        process.exited().await;
        while proc::group_runs(group) || !marked_as(instance).await.is_empty() {
            sleep(POLL_PAUSE).await;
        }
    };
    let remark = match timeout(grace.as_duration(), all_gone).await {
        Ok(()) => None,
        Err(_) => Some(format!("{} ignored SIGTERM for {grace} and was killed", instance.name())),
    };
    clear_away(instance, group).await;
    if let Process::Child(child, _) = process {
        // Reaps it; it was killed above.
        let _ = timeout(KILL_WITHIN, child.wait()).await;
    }
    remark
}

/// The processes of an instance, also those that left its group.
async fn marked_as(instance: &Instance) -> Vec<i32> {
    let mark = instance.start.mark.clone();
    let marked = move || proc::marked().into_iter().filter(|(_, seen)| *seen == mark).map(|(pid, _)| pid).collect();
    tokio::task::spawn_blocking(marked).await.unwrap_or_default()
}

/// Kills what is left of an instance: its group, and what left the group but carries the mark.
async fn clear_away(instance: &Instance, group: i32) {
    proc::signal_group(group, Signal::SIGKILL);
    let mark = instance.start.mark.clone();
    // A panic in there would leave nothing worse than a process that the next sweep finds.
    let _ = tokio::task::spawn_blocking(move || proc::kill_marked(|seen| seen == mark, KILL_WITHIN)).await;
}
