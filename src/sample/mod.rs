#![doc = include_str!("README.md")]

mod load;
mod routes;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

use crate::model::Span;

/// How `piton sample` is called.
#[derive(Debug, Clone)]
pub struct Options {
    pub host: IpAddr,
    pub port: u16,
    /// The file of the release with name, version and behaviours.
    pub file: PathBuf,
    /// Other services that `/work` asks for their part of the work.
    pub calls: Vec<String>,
}

/// The file of the release.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    version: String,
    /// How versions behave; one that is not named is good.
    #[serde(default)]
    versions: BTreeMap<String, Behaviour>,
}

/// What is wrong with a version; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Behaviour {
    at_start: AtStart,
    /// The page loads, and `/work` always fails.
    work_fails: bool,
    /// `/work` fails only under traffic that a staging environment never sees.
    fails_under: Option<Load>,
    /// `/work` takes so much longer.
    slow: Option<Span>,
    /// The process ends by itself after this time.
    dies_after: Option<Span>,
    /// Accepts no more connections after this time, and lives on.
    deaf_after: Option<Span>,
    ignores_sigterm: bool,
    /// Child processes: every second one leaves the process group.
    forks: u32,
    /// Memory that every `/work` keeps.
    leaks_kib: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AtStart {
    #[default]
    Listens,
    Crashes,
    NeverListens,
    /// Accepts connections and answers none.
    Hangs,
}

/// When `/work` fails, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    /// Requests for work within the last second.
    #[serde(default)]
    per_second: u32,
    /// Requests for work since the start.
    #[serde(default)]
    after: u64,
    /// How many of 100 fail then.
    #[serde(default = "all")]
    percent: u64,
}

fn all() -> u64 {
    100
}

/// Why the sample cannot run.
#[derive(Debug, thiserror::Error)]
enum SampleError {
    #[error("cannot read {file}")]
    Read { file: PathBuf, source: std::io::Error },
    #[error("{file} does not describe a sample service")]
    Form { file: PathBuf, source: serde_yaml::Error },
    #[error("{0}")]
    Crash(String),
    #[error("cannot {what}")]
    Io { what: String, source: std::io::Error },
}

/// Runs the service until SIGTERM or Ctrl-C.
pub fn run(options: &Options) -> ExitCode {
    match try_run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            eprintln!("piton sample: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

/// A child process that does nothing until it is killed.
pub fn idle() -> ExitCode {
    loop {
        std::thread::park();
    }
}

fn try_run(options: &Options) -> Result<(), SampleError> {
    let service = read(&options.file)?;
    let behaviour = service.versions.get(&service.version).cloned().unwrap_or_default();
    println!("{} {} starts on port {}", service.name, service.version, options.port);
    if behaviour.at_start == AtStart::Crashes {
        return Err(SampleError::Crash(format!(
            "{} {} cannot start: no such table: users",
            service.name, service.version
        )));
    }
    fork(behaviour.forks)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| SampleError::Io { what: "start a runtime".to_owned(), source })?;
    runtime.block_on(serve(options, service, behaviour))
}

fn read(file: &Path) -> Result<Service, SampleError> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|source| SampleError::Read { file: file.to_owned(), source })?;
    serde_yaml::from_str(&text).map_err(|source| SampleError::Form { file: file.to_owned(), source })
}

async fn serve(options: &Options, service: Service, behaviour: Behaviour) -> Result<(), SampleError> {
    let no_signal = |source| SampleError::Io { what: "listen for signals".to_owned(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let ignores = behaviour.ignores_sigterm;
    let told_to_end = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => if ignores { println!("SIGTERM is ignored") } else { return },
                _ = interrupt.recv() => return,
            }
        }
    };
    let dies_after = behaviour.dies_after;
    let dies = async {
        match dies_after {
            Some(after) => sleep(after.as_duration()).await,
            None => std::future::pending().await,
        }
    };
    let at_start = behaviour.at_start;
    let serving = async {
        match at_start {
            AtStart::NeverListens => std::future::pending().await,
            AtStart::Hangs => hang(options).await,
            AtStart::Listens | AtStart::Crashes => listen_and_answer(options, service, behaviour).await,
        }
    };
    tokio::select! {
        served = serving => served,
        () = dies => Err(SampleError::Crash("the pool of workers is gone: worker-3 lost its connection to the database".to_owned())),
        () = told_to_end => Ok(()),
    }
}

async fn listen_and_answer(options: &Options, service: Service, behaviour: Behaviour) -> Result<(), SampleError> {
    let listener = listen(options).await?;
    let deaf_after = behaviour.deaf_after;
    let app = routes::router(service, behaviour, options.calls.clone());
    let serving = async { axum::serve(listener, app).await };
    let served = match deaf_after {
        None => serving.await,
        Some(after) => match timeout(after.as_duration(), serving).await {
            Ok(served) => served,
            Err(_) => std::future::pending().await,
        },
    };
    served.map_err(|source| SampleError::Io { what: "serve".to_owned(), source })
}

async fn hang(options: &Options) -> Result<(), SampleError> {
    let listener = listen(options).await?;
    let mut held = Vec::new();
    loop {
        if let Ok(connection) = listener.accept().await {
            held.push(connection);
        }
    }
}

async fn listen(options: &Options) -> Result<TcpListener, SampleError> {
    let Options { host, port, .. } = options;
    let listening = TcpListener::bind((*host, *port)).await;
    listening.map_err(|source| SampleError::Io { what: format!("listen on port {port}"), source })
}

/// Starts children that nobody waits for.
fn fork(children: u32) -> Result<(), SampleError> {
    let cannot = |source| SampleError::Io { what: "start a child".to_owned(), source };
    let program = std::env::current_exe().map_err(cannot)?;
    for child in 0..children {
        let mut command = Command::new(&program);
        command.args(["sample", "--idle"]).stdin(Stdio::null());
        if child % 2 == 1 {
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        command.spawn().map_err(cannot)?;
    }
    Ok(())
}

/// The longest that a call to another service may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
