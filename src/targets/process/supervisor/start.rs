//! From the first moment of a supervisor to its last: lock, take over what a killed one left, serve, end.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs::{self, File, Permissions, TryLockError},
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Supervisor, assemble,
    book::Book,
    control, lock,
    meters::Meters,
    ports, proc,
    proxy::Gateway,
    record::{self, Record},
    unit::UnitRecord,
};
use crate::targets::process::wire::Brought;

/// What the one who started us waits for on our standard output.
pub const READY_LINE: &str = "ready";
/// Another supervisor runs; whoever wanted one has it.
pub const EXIT_TAKEN: u8 = 75;
const EXIT_STUCK: u8 = 5;
/// The environment's port may still be held by connections of the supervisor before.
const BIND_TRIES: usize = 50;
const BIND_PAUSE: Duration = Duration::from_millis(100);
const LOG_ROTATION_EVERY: Duration = Duration::from_secs(30);
const SWEEP_WITHIN: Duration = Duration::from_secs(5);
const OPEN_FILES_WANTED: u64 = 65_536;
/// Proxying is waiting; more threads would only cost memory.
const THREADS_MAX: usize = 4;

/// Runs the supervisor of a state folder until it is told to end. Says why when it cannot.
pub fn supervise(state_dir: &Path) -> ExitCode {
    // A leader of a group already has what this gives: a session that no terminal ends.
    let _ = nix::unistd::setsid();
    allow_many_connections();
    match run(state_dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("piton supervise: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            // Where the log's disk is full, whoever started us still hears it.
            let _ = writeln!(io::stdout(), "{text}");
            let _ = writeln!(io::stderr(), "{text}");
            let taken = matches!(error.downcast_ref(), Some(StartError::Running(_)));
            ExitCode::from(if taken { EXIT_TAKEN } else { EXIT_STUCK })
        }
    }
}

/// Every request takes two open files; the usual 1024 would end at some 500 users.
fn allow_many_connections() {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    // Not more than asked for here: some programs that inherit it walk through all that are possible. A failure only
    // leaves the usual limit.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES_WANTED), hard);
}

/// Why a supervisor cannot start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("another supervisor runs for {0}")]
    Running(String),
    #[error("cannot use the folder {folder}")]
    Folder { folder: String, source: io::Error },
    #[error("cannot listen on port {port}")]
    Port { port: u16, source: io::Error },
}

fn run(state_dir: &Path) -> Result<(), Box<dyn Error>> {
    let folder = |source| StartError::Folder { folder: state_dir.display().to_string(), source };
    fs::create_dir_all(state_dir).map_err(folder)?;
    fs::set_permissions(state_dir, Permissions::from_mode(0o700)).map_err(folder)?;
    let state_dir = fs::canonicalize(state_dir).map_err(folder)?;
    let _lock = hold_lock(&state_dir)?;
    let record = record::read(&state_dir)?.unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(serve(&state_dir, record))
}

/// Two supervisors of one folder would start everything twice. The kernel lets go of the lock when we end, however.
fn hold_lock(state_dir: &Path) -> Result<File, StartError> {
    let folder = state_dir.display().to_string();
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(state_dir.join("supervisor.lock"));
    let file = file.map_err(|source| StartError::Folder { folder: folder.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Running(folder)),
        Err(TryLockError::Error(source)) => Err(StartError::Folder { folder, source }),
    }
}

async fn serve(state_dir: &Path, record: Record) -> Result<(), Box<dyn Error>> {
    let mut asked_to_end = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let supervisor = new_supervisor(state_dir, &record)?;
    sweep(&record).await;
    let metrics = bind_again(record.ports.metrics).await?;
    lock(&supervisor.book).ports.metrics = metrics.local_addr()?.port();
    let _metrics = control::open_metrics(supervisor.clone(), metrics);
    // Whatever is started from here on carries the id by which the next supervisor finds it.
    record::write(state_dir, &Record { id: lock(&supervisor.book).id.clone(), ..record.clone() })?;
    resume(&supervisor, record).await?;
    supervisor.write_down();
    let _control = control::open(supervisor.clone())?;
    tell_ready();
    let mut rotation = interval(LOG_ROTATION_EVERY);
    rotation.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = supervisor.quit.cancelled() => break,
            _ = rotation.tick() => supervisor.tidy_logs(),
            _ = asked_to_end.0.recv() => end_in_background(&supervisor),
            _ = asked_to_end.1.recv() => end_in_background(&supervisor),
        }
    }
    // The answer to the one who ordered the end is still on its way.
    sleep(Duration::from_millis(50)).await;
    Ok(())
}

fn end_in_background(supervisor: &Arc<Supervisor>) {
    let supervisor = supervisor.clone();
    tokio::spawn(async move {
        let _turn = supervisor.turn_at_once().await;
        supervisor.shutdown(true).await
    });
}

fn new_supervisor(state_dir: &Path, record: &Record) -> Result<Arc<Supervisor>, Box<dyn Error>> {
    let id = if record.id.is_empty() { new_id()? } else { record.id.clone() };
    let (fence, ports) = (record.fence, record.ports.clone());
    let book = Book { id, fence, ports, ..Book::default() };
    Ok(Arc::new_cyclic(|me| Supervisor {
        me: me.clone(),
        state_dir: state_dir.to_owned(),
        gateway: Arc::new(Gateway::default()),
        meters: Meters::default(),
        book: Mutex::new(book),
        turn: tokio::sync::Mutex::new(()),
        overtake: Mutex::new(CancellationToken::new()),
        hurrying: AtomicUsize::new(0),
        doors: Mutex::new(BTreeMap::new()),
        leaving: TaskTracker::new(),
        cut: CancellationToken::new(),
        quit: CancellationToken::new(),
    }))
}

fn new_id() -> io::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Ends every process of this folder that is not written down as a running instance of a release: those of releases
/// that were being taken down, and one that was started in the moment before the kill.
async fn sweep(record: &Record) {
    if record.id.is_empty() {
        return;
    }
    let recorded = record.units.values().flat_map(|unit| unit.instances.iter().flatten());
    let running = recorded.filter(|recorded| recorded.identity.is_running());
    let keep: BTreeSet<String> = running.map(|recorded| recorded.mark.clone()).collect();
    let ours = format!("{}/", record.id);
    kill_in_background(move |mark| mark.starts_with(&ours) && !keep.contains(mark)).await;
}

/// Brings up again what ran before, taking over the processes that still do.
async fn resume(supervisor: &Arc<Supervisor>, record: Record) -> Result<(), Box<dyn Error>> {
    let on_arms = [&record.arms.candidate, &record.arms.stable];
    let newest =
        on_arms.into_iter().flatten().find_map(|tree| record.releases.iter().find(|r| r.tree == *tree)).cloned();
    for release in record.releases {
        let tree = release.tree.clone();
        match resume_release(supervisor, release, &record.units).await {
            Ok(()) => {}
            Err(why) => eprintln!("piton supervise: cannot bring up release {} again: {why}", tree.short()),
        }
    }
    supervisor.set_arms(record.arms);
    let Some(newest) = newest else { return Ok(()) };
    let mut last = None;
    for _ in 0..BIND_TRIES {
        match supervisor.open_doors(&newest).await {
            Ok(()) => return Ok(()),
            Err(refusal) => last = Some(refusal),
        }
        sleep(BIND_PAUSE).await;
    }
    Err(last.map_or_else(|| "cannot open the ports".into(), |refusal| Box::new(refusal) as Box<dyn Error>))
}

async fn resume_release(
    supervisor: &Arc<Supervisor>,
    release: Brought,
    units: &BTreeMap<String, UnitRecord>,
) -> Result<(), String> {
    let running = match supervisor.assemble(release.clone(), units).await {
        Ok(running) => running,
        // An internal port was taken meanwhile. What runs was told that port: it has to be started anew.
        Err(_) => {
            let keys: Vec<String> =
                assemble::keys(&release).map_err(|error| error.to_string())?.into_values().collect();
            let of_release = units.iter().filter(|(key, _)| keys.contains(key)).map(|(_, unit)| unit);
            let marks: BTreeSet<String> =
                of_release.flat_map(|unit| unit.instances.iter().flatten()).map(|r| r.mark.clone()).collect();
            kill_in_background(move |mark| marks.contains(mark)).await;
            supervisor.assemble(release, &BTreeMap::new()).await.map_err(|refusal| refusal.to_string())?
        }
    };
    lock(&supervisor.book).releases.insert(running.brought.tree.clone(), running);
    Ok(())
}

async fn kill_in_background(wanted: impl Fn(&str) -> bool + Send + 'static) {
    // A panic in there would leave only what the next sweep finds.
    let _ = tokio::task::spawn_blocking(move || proc::kill_marked(wanted, SWEEP_WITHIN)).await;
}

async fn bind_again(port: u16) -> Result<tokio::net::TcpListener, StartError> {
    let loopback = Ipv4Addr::LOCALHOST.into();
    match ports::listen(loopback, port).await {
        Ok(listener) => Ok(listener),
        // Nobody relies on this port staying the same; the fact says where it is.
        Err(_) => ports::listen(loopback, 0).await.map_err(|source| StartError::Port { port: 0, source }),
    }
}

/// The one who started us may be gone, or may never have listened.
fn tell_ready() {
    let _ = writeln!(io::stdout(), "{READY_LINE}").and_then(|()| io::stdout().flush());
}
