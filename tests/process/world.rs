use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use piton::{
    model::{CommitId, EnvironmentName, Portion, Release, Share, TreeId},
    targets::{
        Act, Checkout, Done, Live, Site, Target, TargetError,
        process::{self, Process, Report},
    },
};
use serde_json::{Value, json};

/// Nothing here takes longer, however loaded the machine is.
pub const LONGEST: Duration = Duration::from_secs(60);

/// A state folder, a deploy repository of plain files, and what runs of it. Everything ends with it.
pub struct World {
    pub dir: tempfile::TempDir,
    pub trees: Arc<Trees>,
}

/// Trees by their ids.
#[derive(Default)]
pub struct Trees {
    files: Mutex<BTreeMap<TreeId, BTreeMap<String, String>>>,
    /// How often each tree was checked out.
    pub checkouts: Mutex<BTreeMap<TreeId, usize>>,
}

impl Checkout for Trees {
    fn checkout(&self, tree: &TreeId, dir: &Path) -> Result<(), TargetError> {
        let files = self.files.lock().expect("no panic").get(tree).cloned();
        let files = files.ok_or_else(|| TargetError::World { what: format!("no tree {tree}"), source: None })?;
        for (path, text) in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("room on the disk");
            fs::write(path, text).expect("room on the disk");
        }
        *self.checkouts.lock().expect("no panic").entry(tree.clone()).or_default() += 1;
        Ok(())
    }
}

impl World {
    pub fn new() -> World {
        World { dir: tempfile::tempdir().expect("a folder"), trees: Arc::default() }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn target(&self, config: Value) -> Process {
        let site = Site {
            environment: EnvironmentName::new("production").expect("a name"),
            owner: piton::targets::Owner { pipeline: "shop".into(), branch: "piton/production".into() },
            state_dir: self.state_dir(),
            trees: self.trees.clone(),
            program: env!("CARGO_BIN_EXE_piton").into(),
            progress: piton::targets::Progress::default(),
        };
        Process::new(&config, site).expect("a good configuration")
    }

    /// A release whose tree consists of these files.
    pub fn release(&self, files: &[(&str, &str)]) -> Release {
        let files: BTreeMap<String, String> = files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect();
        let text = format!("{files:?}");
        let id = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).expect("a hash").to_string();
        let tree = TreeId::new(&id).expect("an id");
        self.trees.files.lock().expect("no panic").insert(tree.clone(), files);
        Release { tree, source: CommitId::new(&id).expect("an id"), versions: BTreeMap::new() }
    }

    /// A release of the service `web` in this version, with this table of behaviours.
    pub fn web(&self, version: &str) -> Release {
        self.release(&[("web.yaml", &format!("name: web\nversion: {version}\nversions:\n{BEHAVIOURS}"))])
    }

    pub async fn report(&self) -> Report {
        process::report(&self.state_dir()).await.expect("it answers").expect("a supervisor runs")
    }

    pub async fn metrics(&self) -> String {
        let url = self.report().await.facts["metrics_url"].clone();
        get(&url).await.text()
    }

    /// Running processes that come from this world's instances.
    pub fn processes(&self) -> Vec<i32> {
        let Some(id) = self.id() else { return Vec::new() };
        let mark = format!("PITON_INSTANCE={id}/").into_bytes();
        let marked = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            is_running(*pid) && environment.split(|byte| *byte == 0).any(|v| v.starts_with(&mark))
        };
        let pids = fs::read_dir("/proc").expect("linux").flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(marked).collect()
    }

    fn id(&self) -> Option<String> {
        let record = fs::read_to_string(self.state_dir().join("supervisor.json")).ok()?;
        Some(serde_json::from_str::<Value>(&record).ok()?["id"].as_str()?.to_owned())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let state_dir = self.state_dir();
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(process::shutdown(&state_dir, false))
        });
        let ended = ended.join();
        if !std::thread::panicking() {
            ended.expect("no panic").expect("it ends");
            assert_eq!(self.processes(), Vec::<i32>::new(), "left over");
        }
        for pid in self.processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

const BEHAVIOURS: &str = "  1.1.9: { work_fails: true }
  1.2.0: { work_fails: true }
  crash: { at_start: crashes }
  mute: { at_start: never_listens }
  hang: { at_start: hangs }
  mortal: { dies_after: 1s }
  stubborn: { ignores_sigterm: true }
  forking: { forks: 4, ignores_sigterm: true }
  leaking: { leaks_kib: 1024 }
  slow: { slow: 300ms }
";

/// The service `web` with these changes of its configuration.
pub fn web_config(changes: Value) -> Value {
    let mut config = json!({
        "drain": "5s",
        "services": { "web": {
            "run": [env!("CARGO_BIN_EXE_piton"), "sample", "--port", "${port}", "--file", "web.yaml"],
            "ready": { "path": "/ready", "within": "30s" },
            "route": "/",
            "stop": "5s",
        } },
    });
    merge(&mut config, changes);
    config
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes,
    }
}

pub fn share(text: &str) -> Portion {
    Portion::Share(text.parse::<Share>().expect("a share"))
}

pub async fn apply(target: &dyn Target, release: &Release) -> Result<Done, TargetError> {
    target.perform(&Act::Apply { release: release.clone() }, 1).await
}

pub async fn shift(target: &dyn Target, release: &Release, to: &str) -> Result<Done, TargetError> {
    target.perform(&Act::Shift { release: release.clone(), to: share(to) }, 1).await
}

pub async fn retreat(target: &dyn Target, from: &Release, to: Option<&Release>) -> Result<Done, TargetError> {
    target.perform(&Act::Retreat { from: from.clone(), to: to.cloned() }, 1).await
}

pub async fn settle(target: &dyn Target, keep: Option<&Release>) -> Result<Done, TargetError> {
    target.perform(&Act::Settle { keep: keep.cloned() }, 1).await
}

/// Brings a first release all the way to all users, alone.
pub async fn establish(target: &dyn Target, release: &Release) {
    apply(target, release).await.expect("it applies");
    shift(target, release, "100%").await.expect("it shifts");
    settle(target, Some(release)).await.expect("it settles");
}

pub async fn live(target: &dyn Target) -> Live {
    target.live().await.expect("it can be looked at")
}

pub async fn url(target: &dyn Target) -> String {
    live(target).await.facts["url"].clone()
}

/// An answer, read to its end.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

pub fn client<B>() -> Client<HttpConnector, B>
where
    B: hyper::body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

pub async fn get(url: &str) -> Answer {
    get_with(url, &[]).await
}

pub async fn get_with(url: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client().request(request.body(Full::<Bytes>::default()).expect("a request"));
    read(within(response).await.expect("an answer")).await
}

pub async fn read(response: axum::http::Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = within(body.collect()).await.expect("a whole body").to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONGEST, future).await.expect("it takes too long")
}

/// Looks at the real thing until it is so, with an end.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let looking = async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    match tokio::time::timeout(LONGEST, looking).await {
        Ok(seen) => seen,
        Err(_) => panic!("waited {LONGEST:?} for {what}"),
    }
}

/// A zombie is not running.
pub fn is_running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
