//! A door in front of an API server that can refuse, hang up, dawdle and fall silent. It speaks plain HTTP to whoever comes
//! in, and hands their credentials on to the server behind it.

use std::{
    convert::Infallible,
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What is wrong with the requests that a rule is about.
#[derive(Debug, Clone, Copy)]
pub enum Ill {
    /// Answered by the door with this code and a `Status`.
    Refused(u16),
    /// The connection is closed without an answer, and nothing reaches the server.
    HungUp,
    /// Done by the server, and then the connection is closed without an answer.
    DoneAndHungUp,
    /// Never answered.
    Unanswered,
    /// Answered, after this time.
    Late(Duration),
    /// A watch that says at once that its resource version is too old.
    Gone,
}

/// Which requests are ill, and how often that is so.
#[derive(Debug, Clone)]
pub struct Rule {
    pub method: &'static str,
    /// A piece of the path with its query.
    pub path: String,
    pub ill: Ill,
    pub times: usize,
}

/// The door; it is closed when this is dropped.
pub struct Door {
    pub kubeconfig: PathBuf,
    state: Arc<State>,
    closing: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct State {
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<String>>,
    silent: watch::Sender<bool>,
    /// Requests that no server answered.
    in_vain: AtomicUsize,
}

impl Door {
    /// Opens a door before the server of a kubeconfig; `dir` is for the kubeconfig of those who use the door.
    pub fn before(kubeconfig: &Path, dir: &Path) -> Door {
        let state = Arc::new(State {
            rules: Mutex::default(),
            asked: Mutex::default(),
            silent: watch::channel(false).0,
            in_vain: AtomicUsize::new(0),
        });
        let closing = CancellationToken::new();
        let (send, address) = std::sync::mpsc::channel();
        let (behind, inside, closed) = (kubeconfig.to_owned(), state.clone(), closing.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                send.send(listener.local_addr().expect("an address")).expect("somebody waits for it");
                tokio::select! {
                    () = serve(listener, client(&behind).await, inside) => {}
                    () = closed.cancelled() => {}
                }
            });
        });
        let address = address.recv().expect("the door opens");
        let outside = dir.join(format!("door-{}.yaml", address.port()));
        fs::write(&outside, through(address, kubeconfig)).expect("room on the disk");
        let kubeconfig = outside;
        Door { kubeconfig, state, closing, thread: Some(thread) }
    }

    /// From here on the requests with this method and this piece of a path are ill, so many times.
    pub fn make(&self, method: &'static str, path: &str, ill: Ill, times: usize) {
        self.rules().push(Rule { method, path: path.to_owned(), ill, times });
    }

    /// All is well again.
    pub fn heal(&self) {
        self.rules().clear();
        self.silence(false);
    }

    /// Whether watches say nothing, neither those that are open nor new ones.
    pub fn silence(&self, silent: bool) {
        self.state.silent.send_replace(silent);
    }

    /// How often a rule has been used up since it was made: how many of `times` are left of the rules.
    pub fn left(&self) -> usize {
        self.rules().iter().map(|rule| rule.times).sum()
    }

    /// How many requests no server answered.
    pub fn in_vain(&self) -> usize {
        self.state.in_vain.load(Ordering::Relaxed)
    }

    /// Every request so far: `PATCH /apis/apps/v1/…?…`.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.state.asked).clone()
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        lock(&self.state.rules)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closing.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "door with {:?}, asked:\n{}", *self.rules(), self.asked().join("\n"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kubeconfig with the door as its server; the users stay who they are.
fn through(address: SocketAddr, kubeconfig: &Path) -> String {
    let text = fs::read_to_string(kubeconfig).expect("a kubeconfig");
    let mut config: Value = serde_yaml::from_str(&text).expect("a kubeconfig");
    for cluster in config["clusters"].as_array_mut().into_iter().flatten() {
        cluster["cluster"] = json!({ "server": format!("http://{address}") });
    }
    config.to_string()
}

/// A client without credentials of its own.
async fn client(kubeconfig: &Path) -> kube::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut file = kube::config::Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    file.auth_infos.iter_mut().for_each(|user| user.auth_info = None);
    let mut config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.expect("a good kubeconfig");
    // What the server says reaches those at the door as it is.
    config.default_retry = false;
    config.read_timeout = None;
    kube::Client::try_from(config).expect("a client")
}

async fn serve(listener: TcpListener, behind: kube::Client, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (behind, state) = (behind.clone(), state.clone());
        connections.spawn(async move {
            let answer = service_fn(|request| answer(request, &behind, &state));
            // A connection that is closed in the middle is what the door is for.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Why a connection is closed without an answer.
#[derive(Debug)]
struct HangUp;

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the door hangs up")
    }
}

impl std::error::Error for HangUp {}

async fn answer(request: Request<Incoming>, behind: &kube::Client, state: &State) -> Result<Response<Body>, HangUp> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    lock(&state.asked).push(format!("{} {target}", request.method()));
    let is_watch = target.contains("watch=true") || target.contains("watch=1");
    match state.ill(request.method().as_str(), &target) {
        None => pass(request, &target, is_watch, behind, state).await,
        Some(Ill::Refused(code)) => Ok(refusal(code)),
        Some(Ill::HungUp) => Err(HangUp),
        Some(Ill::DoneAndHungUp) => {
            let _ = pass(request, &target, is_watch, behind, state).await;
            Err(HangUp)
        }
        Some(Ill::Unanswered) => std::future::pending().await,
        Some(Ill::Late(by)) => {
            tokio::time::timeout(by, std::future::pending::<Infallible>()).await.ok();
            pass(request, &target, is_watch, behind, state).await
        }
        Some(Ill::Gone) => Ok(gone()),
    }
}

impl State {
    /// What is wrong with this request; the rule is used up by one.
    fn ill(&self, method: &str, target: &str) -> Option<Ill> {
        let mut rules = lock(&self.rules);
        let applies = |rule: &&mut Rule| {
            rule.times > 0 && (rule.method == method || rule.method == "*") && target.contains(&rule.path)
        };
        let rule = rules.iter_mut().find(applies)?;
        rule.times -= 1;
        Some(rule.ill)
    }
}

async fn pass(
    request: Request<Incoming>,
    target: &str,
    is_watch: bool,
    behind: &kube::Client,
    state: &State,
) -> Result<Response<Body>, HangUp> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| HangUp)?.to_bytes();
    let mut onward = Request::builder().method(parts.method).uri(target);
    for (name, value) in parts.headers.iter().filter(|(name, _)| is_passed_on(name)) {
        onward = onward.header(name, value);
    }
    let onward = onward.body(kube::client::Body::from(body.to_vec())).map_err(|_| HangUp)?;
    // A server that is away looks to those at the door as it does without one.
    let answered = behind.send(onward).await.map_err(|_| {
        state.in_vain.fetch_add(1, Ordering::Relaxed);
        HangUp
    });
    let (parts, body) = answered?.into_parts();
    let silent = is_watch.then(|| state.silent.subscribe());
    let frames = stream::unfold((body, silent), |(mut body, silent)| async move {
        let frame = body.frame().await?;
        let frame = frame.map_err(std::io::Error::other);
        let mut silent = silent;
        if let Some(silent) = &mut silent {
            // Nothing more is said until the silence is over.
            silent.wait_for(|silent| !silent).await.ok()?;
        }
        Some((frame, (body, silent)))
    });
    let mut response = Response::builder().status(parts.status);
    for (name, value) in parts.headers.iter().filter(|(name, _)| is_passed_on(name)) {
        response = response.header(name, value);
    }
    response.body(StreamBody::new(frames).boxed_unsync()).map_err(|_| HangUp)
}

fn is_passed_on(name: &header::HeaderName) -> bool {
    ![header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name)
}

fn refusal(code: u16) -> Response<Body> {
    let status = StatusCode::from_u16(code).expect("a code");
    let reason = status.canonical_reason().unwrap_or_default().replace(' ', "");
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": format!("the door answers {code}"),
    });
    json_response(status, body.to_string())
}

fn gone() -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version",
    });
    json_response(StatusCode::OK, format!("{}\n", json!({ "type": "ERROR", "object": status })))
}

fn json_response(status: StatusCode, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    response.body(body).expect("a response")
}
