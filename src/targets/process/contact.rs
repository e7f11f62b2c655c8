//! Speaks with the supervisor of a state folder, and starts one where there is none.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request as HttpRequest, body::Bytes};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::UnixStream,
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{
    supervisor::{EXIT_TAKEN, ORDERS_PATH, READY_LINE, REPORT_PATH, short_socket_path},
    wire::{Refusal, Report, Request},
};
use crate::{clients::process::last_lines, targets::TargetError};

/// A new supervisor first takes over, or clears away, what a killed one left.
const START_WITHIN: Duration = Duration::from_secs(30);
const START_PAUSE: Duration = Duration::from_millis(20);
const REPORT_WITHIN: Duration = Duration::from_secs(10);

/// Why the supervisor cannot be spoken with.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    #[error("no supervisor runs for {0}")]
    None(PathBuf),
    #[error("cannot reach the supervisor of {folder}")]
    Reach { folder: PathBuf, source: io::Error },
    #[error("lost the supervisor of {folder} before it answered: {why}")]
    Lost { folder: PathBuf, why: String },
    #[error("the supervisor of {folder} did not answer within {after:?}")]
    Slow { folder: PathBuf, after: Duration },
    #[error("cannot start a supervisor for {folder}: {why}")]
    Start { folder: PathBuf, why: String },
}

impl From<ContactError> for TargetError {
    fn from(error: ContactError) -> TargetError {
        TargetError::World {
            what: error.to_string(),
            source: std::error::Error::source(&error).map(|s| s.to_string().into()),
        }
    }
}

/// Gives one order and waits for its outcome.
pub async fn order(
    state_dir: &Path,
    request: &Request,
    within: Duration,
) -> Result<Result<String, Refusal>, ContactError> {
    let body = serde_json::to_vec(request).map_err(|error| lost(state_dir, &error))?;
    ask(state_dir, Method::POST, ORDERS_PATH, body, within).await
}

/// Asks what is up. A supervisor that is lost while it is asked is on its way out: then the next look finds none.
pub async fn report(state_dir: &Path) -> Result<Report, ContactError> {
    let deadline = Instant::now() + REPORT_WITHIN;
    loop {
        match ask(state_dir, Method::GET, REPORT_PATH, Vec::new(), REPORT_WITHIN).await {
            Err(ContactError::Lost { .. }) if Instant::now() < deadline => sleep(START_PAUSE).await,
            answered => return answered,
        }
    }
}

/// Makes sure that a supervisor runs, and leaves it running when we end.
pub async fn ensure(state_dir: &Path, program: &Path) -> Result<(), ContactError> {
    let deadline = Instant::now() + START_WITHIN;
    loop {
        match report(state_dir).await {
            Ok(_) => return Ok(()),
            Err(ContactError::None(_)) => {}
            Err(error) => return Err(error),
        }
        match start(state_dir, program).await {
            Ok(Started::Ready) => return Ok(()),
            // Another runner may have been faster, or an old supervisor may be on its way out.
            Ok(Started::Taken) if Instant::now() < deadline => sleep(START_PAUSE).await,
            Ok(Started::Taken) => {
                let why = "another one holds its folder and does not answer".to_owned();
                return Err(ContactError::Start { folder: state_dir.to_owned(), why });
            }
            Err(why) => return Err(ContactError::Start { folder: state_dir.to_owned(), why }),
        }
    }
}

/// Waits until the supervisor, which has said that everything is down, is gone itself: until it lets go of its lock.
pub async fn gone(state_dir: &Path) -> Result<(), ContactError> {
    let path = state_dir.join("supervisor.lock");
    let waiting = tokio::task::spawn_blocking(move || fs::File::open(path)?.lock());
    match timeout(START_WITHIN, waiting).await {
        // A folder that is gone has no supervisor either.
        Ok(_) => Ok(()),
        Err(_) => Err(ContactError::Slow { folder: state_dir.to_owned(), after: START_WITHIN }),
    }
}

/// What became of a supervisor that was started.
enum Started {
    Ready,
    /// It found another one there and ended.
    Taken,
}

/// Starts a supervisor that outlives us, and waits for its word that it is ready.
async fn start(state_dir: &Path, program: &Path) -> Result<Started, String> {
    fs::create_dir_all(state_dir).map_err(|error| format!("cannot make the folder: {error}"))?;
    let log_path = state_dir.join("supervisor.log");
    let log = fs::OpenOptions::new().create(true).append(true).open(&log_path);
    let log = log.map_err(|error| format!("cannot write {}: {error}", log_path.display()))?;
    let log_start = log.metadata().map_or(0, |meta| meta.len());
    let mut command = Command::new(program);
    command.arg("supervise").arg("--state").arg(state_dir).current_dir("/").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(log).kill_on_drop(false);
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
    let stdout = child.stdout.take().ok_or("its output is not ours")?;
    let mut line = String::new();
    let read = timeout(START_WITHIN, BufReader::new(stdout).read_line(&mut line)).await;
    match read {
        Ok(Ok(n)) if n > 0 && line.trim_end() == READY_LINE => return Ok(Started::Ready),
        Ok(_) => {}
        Err(_) => return Err(format!("it was not ready within {START_WITHIN:?}")),
    }
    // Its output is closed: it has ended, or is about to.
    match timeout(START_WITHIN, child.wait()).await {
        Ok(Ok(status)) if status.code() == Some(i32::from(EXIT_TAKEN)) => Ok(Started::Taken),
        // Where the disk of its log is full, it has told us all the same.
        _ if !line.trim().is_empty() => Err(line.trim().to_owned()),
        _ => Err(written_since(&log_path, log_start).unwrap_or_else(|| "it ended without a word".to_owned())),
    }
}

fn written_since(path: &Path, start: u64) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    last_lines(&text)
}

async fn ask<T: DeserializeOwned>(
    state_dir: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
    within: Duration,
) -> Result<T, ContactError> {
    let folder = || state_dir.to_owned();
    let stream = connect(state_dir).await?;
    let asking = async {
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer.
        tokio::spawn(connection);
        let request = HttpRequest::builder().method(method).uri(path).header("host", "supervisor");
        let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(body)));
        let request = request.expect("method and path are constants");
        let response = send.send_request(request).await?;
        Ok::<_, hyper::Error>((response.status(), response.into_body().collect().await?.to_bytes()))
    };
    let (status, answer) = match timeout(within, asking).await {
        Ok(answered) => answered.map_err(|error| lost(state_dir, &error))?,
        Err(_) => return Err(ContactError::Slow { folder: folder(), after: within }),
    };
    if !status.is_success() {
        let why = format!("{status}: {}", String::from_utf8_lossy(&answer));
        return Err(ContactError::Lost { folder: folder(), why });
    }
    serde_json::from_slice(&answer).map_err(|error| lost(state_dir, &error))
}

async fn connect(state_dir: &Path) -> Result<UnixStream, ContactError> {
    let nobody = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    let connected = match short_socket_path(state_dir) {
        Ok((_dir, path)) => UnixStream::connect(path).await,
        Err(error) => Err(error),
    };
    connected.map_err(|source| match nobody(&source) {
        true => ContactError::None(state_dir.to_owned()),
        false => ContactError::Reach { folder: state_dir.to_owned(), source },
    })
}

fn lost(state_dir: &Path, error: &dyn std::error::Error) -> ContactError {
    ContactError::Lost { folder: state_dir.to_owned(), why: error.to_string() }
}
