//! The proxy of the target `process` against the bare service, and against nginx and HAProxy where they are installed,
//! all of them splitting 90 to 10 between the same two instances. Also: how fast a rollback reaches all users, and the
//! memory of an idle supervisor.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use piton::{
    model::{CommitId, EnvironmentName, Portion, Release, Share, TreeId},
    targets::{
        Act, Checkout, Site, Target, TargetError,
        process::{self, Process},
    },
};
use serde_json::json;
use tokio::net::TcpStream;

const CONNECTIONS: usize = 16;
const MEASURE: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_millis(500);
const PATH: &str = "/ready";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo test --benches` only wants to know that it runs.
    let quick = std::env::args().any(|argument| argument == "--test");
    let measure = if quick { Duration::from_millis(50) } else { MEASURE };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(bench(measure))
}

async fn bench(measure: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let state_dir = dir.path().join("state");
    let target = target(&state_dir)?;
    let (old, new) = (release('1')?, release('2')?);
    act(&target, Act::Apply { release: old.clone() }).await?;
    act(&target, Act::Shift { release: old.clone(), to: Portion::ALL }).await?;
    act(&target, Act::Settle { keep: Some(old.clone()) }).await?;
    let report = process::report(&state_dir).await?.ok_or("no supervisor")?;
    println!("idle supervisor: {} MB resident", resident_megabytes(report.pid)?);
    act(&target, Act::Apply { release: new.clone() }).await?;
    act(&target, Act::Shift { release: new.clone(), to: Portion::Share("10%".parse::<Share>()?) }).await?;

    let report = process::report(&state_dir).await?.ok_or("no supervisor")?;
    let proxy: u16 = report.facts["port"].parse()?;
    let ports: BTreeMap<&TreeId, u16> = report.instances.iter().map(|i| (&i.releases[0], i.port)).collect();
    let (old_port, new_port) = (ports[&old.tree], ports[&new.tree]);
    println!("{CONNECTIONS} connections, GET {PATH}, {measure:?} each");
    show("bare service", &load(old_port, measure).await?);
    show("piton", &load(proxy, measure).await?);
    for (name, start) in [("nginx", nginx as Start), ("haproxy", haproxy as Start)] {
        match start(dir.path(), old_port, new_port)? {
            Some((_running, port)) => show(name, &load(port, measure).await?),
            None => println!("{name:>14}: skipped, it is not installed"),
        }
    }
    rollback(&target, &old, &new, proxy).await?;
    process::shutdown(&state_dir, false).await?;
    Ok(())
}

/// Under load, from the order to the last answer of the new release.
async fn rollback(target: &Process, old: &Release, new: &Release, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    act(target, Act::Shift { release: new.clone(), to: Portion::ALL }).await?;
    let loading = tokio::spawn(watch_arm(port));
    tokio::time::sleep(WARM_UP).await;
    let ordered = Instant::now();
    act(target, Act::Retreat { from: new.clone(), to: Some(old.clone()) }).await?;
    let answered = ordered.elapsed();
    tokio::time::sleep(WARM_UP).await;
    loading.abort();
    let last = LAST_CANDIDATE.lock().map_err(|_| "a panic")?.ok_or("no request reached the candidate")?;
    println!(
        "rollback: all users back after {:?}, order answered after {answered:?}",
        last.saturating_duration_since(ordered)
    );
    Ok(())
}

static LAST_CANDIDATE: std::sync::Mutex<Option<Instant>> = std::sync::Mutex::new(None);

async fn watch_arm(port: u16) -> Result<(), String> {
    let mut connection = connect(port).await?;
    loop {
        let response = connection.send_request(request(port)).await.map_err(|error| error.to_string())?;
        if response.headers().get("x-piton-arm").is_some_and(|arm| arm == "candidate") {
            *LAST_CANDIDATE.lock().map_err(|_| "a panic")? = Some(Instant::now());
        }
        response.into_body().collect().await.map_err(|error| error.to_string())?;
    }
}

/// Latencies of all requests, sorted.
struct Load {
    latencies: Vec<Duration>,
    took: Duration,
}

async fn load(port: u16, measure: Duration) -> Result<Load, Box<dyn std::error::Error>> {
    run_load(port, WARM_UP.min(measure)).await?;
    run_load(port, measure).await
}

async fn run_load(port: u16, measure: Duration) -> Result<Load, Box<dyn std::error::Error>> {
    let began = Instant::now();
    let workers: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(worker(port, began + measure))).collect();
    let mut latencies = Vec::new();
    for worker in workers {
        latencies.extend(worker.await??);
    }
    latencies.sort_unstable();
    Ok(Load { latencies, took: began.elapsed() })
}

async fn worker(port: u16, until: Instant) -> Result<Vec<Duration>, String> {
    let mut connection = connect(port).await?;
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let response = connection.send_request(request(port)).await.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("answered {}", response.status()));
        }
        response.into_body().collect().await.map_err(|error| error.to_string())?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

async fn connect(port: u16) -> Result<SendRequest<Empty<Bytes>>, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(send)
}

fn request(port: u16) -> Request<Empty<Bytes>> {
    let request = Request::get(PATH).header("host", format!("127.0.0.1:{port}"));
    request.body(Empty::new()).expect("it is a constant")
}

fn show(name: &str, load: &Load) {
    let at = |share: f64| load.latencies[((load.latencies.len() - 1) as f64 * share) as usize];
    let per_second = load.latencies.len() as f64 / load.took.as_secs_f64();
    println!("{name:>14}: {per_second:>8.0} requests/s, median {:?}, 99% {:?}", at(0.5), at(0.99));
}

/// Starts another proxy with the same split; `None` where it is not installed.
type Start = fn(&Path, u16, u16) -> Result<Option<(Running, u16)>, Box<dyn std::error::Error>>;

/// Killed when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nginx(dir: &Path, old: u16, new: u16) -> Result<Option<(Running, u16)>, Box<dyn std::error::Error>> {
    let Some(program) = find("nginx") else { return Ok(None) };
    let port = free_port()?;
    let dir = dir.display();
    let config = format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
         events {{ worker_connections 512; }}
         http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
           uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; keepalive_requests 10000000;
           upstream both {{ server 127.0.0.1:{old} weight=9; server 127.0.0.1:{new} weight=1; keepalive 64;
             keepalive_requests 10000000; }}
           server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://both; proxy_http_version 1.1;
             proxy_set_header Connection ''; }} }} }}"
    );
    let file = format!("{dir}/nginx.conf");
    fs::write(&file, config)?;
    started(Command::new(program).args(["-c", &file]), port)
}

fn haproxy(dir: &Path, old: u16, new: u16) -> Result<Option<(Running, u16)>, Box<dyn std::error::Error>> {
    let Some(program) = find("haproxy") else { return Ok(None) };
    let port = free_port()?;
    let config = format!(
        "global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 30s\n  timeout server 30s\n\
         listen both\n  bind 127.0.0.1:{port}\n  balance roundrobin\n  http-reuse always\n\
         \x20 server old 127.0.0.1:{old} weight 90\n  server new 127.0.0.1:{new} weight 10\n"
    );
    let file = dir.join("haproxy.cfg");
    fs::write(&file, config)?;
    started(Command::new(program).arg("-f").arg(file).arg("-db"), port)
}

fn started(command: &mut Command, port: u16) -> Result<Option<(Running, u16)>, Box<dyn std::error::Error>> {
    let running = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            return Err(format!("nothing listens on port {port}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Some((running, port)))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn resident_megabytes(pid: u32) -> Result<f64, Box<dyn std::error::Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok((kilobytes / 102.4).round() / 10.0)
}

/// A good version of the sample service.
struct Sample;

impl Checkout for Sample {
    fn checkout(&self, tree: &TreeId, dir: &Path) -> Result<(), TargetError> {
        let written = fs::create_dir_all(dir)
            .and_then(|()| fs::write(dir.join("web.yaml"), format!("name: web\nversion: {}\n", tree.short())));
        let what = format!("cannot write {}", dir.display());
        written.map_err(|error| TargetError::World { what, source: Some(Box::new(error)) })
    }
}

fn target(state_dir: &Path) -> Result<Process, Box<dyn std::error::Error>> {
    let program = env!("CARGO_BIN_EXE_piton");
    let config = json!({ "services": { "web": {
        "run": [program, "sample", "--port", "${port}", "--file", "web.yaml"], "ready": { "path": "/ready" }, "route": "/",
    } } });
    let site = Site {
        environment: EnvironmentName::new("bench")?,
        owner: piton::targets::Owner { pipeline: "shop".into(), branch: "piton/bench".into() },
        state_dir: state_dir.to_owned(),
        trees: Arc::new(Sample),
        program: program.into(),
        progress: piton::targets::Progress::default(),
    };
    Ok(Process::new(&config, site)?)
}

fn release(digit: char) -> Result<Release, Box<dyn std::error::Error>> {
    let id = digit.to_string().repeat(40);
    Ok(Release { tree: TreeId::new(&id)?, source: CommitId::new(&id)?, versions: BTreeMap::new() })
}

async fn act(target: &Process, act: Act) -> Result<(), TargetError> {
    target.perform(&act, 1).await.map(drop)
}
