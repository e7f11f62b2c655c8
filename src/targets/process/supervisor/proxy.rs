//! Passes requests on to the instances: streams both ways, upgrades, and counts how each request ended.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
        header::{self, CONNECTION, CONTENT_TYPE, EXPECT, HOST, SET_COOKIE, UPGRADE},
    },
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use hyper::{
    body::{Bytes, Frame, Incoming, SizeHint},
    upgrade::OnUpgrade,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};

use super::{
    meters::{Class, Tally, Whose},
    routing::{ARM_HEADER, Door, NoChoice, RELEASE_HEADER, Routing},
    unit::Unit,
};

/// Loopback answers at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than after what any common server closes an idle connection: a request must not meet the close half-way.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// A client that leaves after waiting this long leaves because of us.
const PATIENCE: Duration = Duration::from_secs(1);

/// Headers that belong to one connection and not to the request.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// All proxying of one environment.
pub struct Gateway {
    routing: RwLock<Arc<Routing>>,
    client: Client<HttpConnector, Attempt>,
    visitors: AtomicU64,
    answer_ms: AtomicU64,
}

/// One request on its way, and to whom it is counted.
struct Passage {
    unit: Arc<Unit>,
    counting: Counting,
    peer: SocketAddr,
}

impl Default for Gateway {
    fn default() -> Gateway {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            .build(connector);
        Gateway { routing: RwLock::default(), client, visitors: AtomicU64::new(0), answer_ms: AtomicU64::new(60_000) }
    }
}

impl Gateway {
    pub fn routing(&self) -> Arc<Routing> {
        self.routing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next request sees the new routing as a whole.
    pub fn set_routing(&self, routing: Routing, answer: Duration) {
        self.answer_ms.store(u64::try_from(answer.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        *self.routing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routing);
    }

    /// Serves one of the environment's own ports.
    pub fn open(self: &Arc<Gateway>, door: Door, listener: TcpListener) -> JoinHandle<()> {
        let gateway = self.clone();
        serve(listener, move |peer, request| {
            let gateway = gateway.clone();
            async move { gateway.user_request(door, peer, request).await }
        })
    }

    /// Serves the port by which other services of the release reach a unit, once there is a unit.
    pub fn open_internal(
        self: &Arc<Gateway>,
        unit: tokio::sync::watch::Receiver<Option<Arc<Unit>>>,
        listener: TcpListener,
    ) -> JoinHandle<()> {
        let gateway = self.clone();
        serve(listener, move |peer, request| {
            let (gateway, unit) = (gateway.clone(), unit.borrow().clone());
            async move {
                let Some(unit) = unit else {
                    return plain(StatusCode::SERVICE_UNAVAILABLE, "this service is starting");
                };
                let tally = unit.tally.read().unwrap_or_else(PoisonError::into_inner).clone();
                let counting = Counting::new(&unit, tally, Whose::Internal);
                gateway.pass(Passage { unit, counting, peer }, request).await
            }
        })
    }

    async fn user_request(&self, door: Door, peer: SocketAddr, request: Request) -> Response {
        let routing = self.routing();
        let choice = match routing.choose(door, request.uri().path(), request.headers(), &self.visitors) {
            Ok(choice) => choice,
            Err(NoChoice::NothingThere) => return plain(StatusCode::SERVICE_UNAVAILABLE, "no release is live here"),
            Err(NoChoice::NoRoute) => return plain(StatusCode::NOT_FOUND, "no service has a route for this path"),
        };
        let counting = Counting::new(&choice.route.unit, Some(choice.route.tally.clone()), choice.whose);
        let passage = Passage { unit: choice.route.unit.clone(), counting, peer };
        let mut response = self.pass(passage, request).await;
        let headers = response.headers_mut();
        headers.insert(ARM_HEADER, HeaderValue::from_static(choice.release.arm.name()));
        headers.insert(RELEASE_HEADER, header_value(choice.release.tree.short()));
        if let Some(cookie) = &choice.cookie {
            headers.append(SET_COOKIE, header_value(cookie));
        }
        response
    }

    /// Sends the request to one instance, or to the next when nobody listens there, and the answer back.
    async fn pass(&self, passage: Passage, mut request: Request) -> Response {
        let Passage { unit, mut counting, peer } = passage;
        let users_side = asked_upgrade(request.headers()).map(|kind| (kind, hyper::upgrade::on(&mut request)));
        prepare(request.headers_mut(), peer, users_side.as_ref().map(|(kind, _)| kind));
        let answer = self.ask(&unit, request).await;
        let mut response = match answer {
            Ok(response) => response,
            Err((status, why)) => {
                counting.ends_as(Class::Failed);
                return plain(status, &why);
            }
        };
        counting.answered(Class::of_status(response.status().as_u16()));
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some((_, users_side)) = users_side else {
                counting.ends_as(Class::Failed);
                return plain(StatusCode::BAD_GATEWAY, "the service changed the protocol without being asked");
            };
            counting.count();
            let service_side = hyper::upgrade::on(&mut response);
            tokio::spawn(join(users_side, service_side, counting, unit.severed()));
            return response.map(|_| Body::empty()).into_response();
        }
        remove_hop_by_hop(response.headers_mut());
        if is_event_stream(response.headers()) {
            counting.count();
        }
        let severed = unit.severed();
        response
            .map(|body| Body::new(Answer { body, counting, severed: Box::pin(severed.cancelled_owned()) }))
            .into_response()
    }

    async fn ask(&self, unit: &Unit, request: Request) -> Result<Response<Incoming>, (StatusCode, String)> {
        let (parts, body) = request.into_parts();
        let body = Arc::new(Shared { body: Mutex::new(body), touched: AtomicBool::new(false) });
        let mut refused = None;
        for instance in unit.in_turn() {
            let sent = CancellationToken::new();
            let mut attempt = axum::http::Request::new(Attempt { shared: body.clone(), sent: sent.clone() });
            *attempt.method_mut() = parts.method.clone();
            *attempt.uri_mut() = upstream_uri(instance.port(), &parts.uri);
            *attempt.headers_mut() = parts.headers.clone();
            let limit = Duration::from_millis(self.answer_ms.load(Ordering::Relaxed));
            let too_late = async {
                sent.cancelled().await;
                sleep(limit).await;
            };
            let error = tokio::select! {
                answer = self.client.request(attempt) => match answer {
                    Ok(response) => return Ok(response),
                    Err(error) => error,
                },
                () = too_late => {
                    let why = format!("{} gave no answer within {} s", instance.name(), limit.as_secs());
                    return Err((StatusCode::GATEWAY_TIMEOUT, why));
                }
            };
            let why = format!("{} broke off before it answered", instance.name());
            if !error.is_connect() || body.touched.load(Ordering::Acquire) {
                return Err((StatusCode::BAD_GATEWAY, why));
            }
            refused = Some(format!("{} refused the connection", instance.name()));
        }
        let why = refused.unwrap_or_else(|| format!("no instance of `{}` is ready", unit.service));
        Err((StatusCode::SERVICE_UNAVAILABLE, why))
    }
}

/// Serves every request of a listener with one function, until the task is ended.
fn serve<F, R>(listener: TcpListener, respond: F) -> JoinHandle<()>
where
    F: Fn(SocketAddr, Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    let listener = listener.tap_io(|stream| {
        // Without it small answers wait; a failure costs only time.
        let _ = stream.set_nodelay(true);
    });
    let handler = move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
        let respond = respond.clone();
        async move { respond(peer, request).await }
    };
    let app = axum::Router::new().fallback(handler).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move {
        // It ends only with the task.
        let _ = axum::serve(listener, app).await;
    })
}

fn plain(status: StatusCode, why: &str) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], format!("piton: {why}\n")).into_response()
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-"))
}

fn upstream_uri(port: u16, asked: &Uri) -> Uri {
    let path = asked.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").authority(format!("127.0.0.1:{port}")).path_and_query(path);
    uri.build().expect("the path was a path before")
}

fn asked_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")))
    };
    headers.get_all(CONNECTION).iter().any(asked).then(|| headers.get(UPGRADE).cloned()).flatten()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().starts_with("text/event-stream"))
}

/// Makes a user's headers those of the request to the instance.
fn prepare(headers: &mut HeaderMap, peer: SocketAddr, upgrade: Option<&HeaderValue>) {
    remove_hop_by_hop(headers);
    // The proxy answers this one itself.
    headers.remove(EXPECT);
    headers.remove(ARM_HEADER);
    if let Some(kind) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, kind.clone());
    }
    let forwarded_for = HeaderName::from_static("x-forwarded-for");
    let before = headers.get_all(&forwarded_for).iter().filter_map(|value| value.to_str().ok());
    let chain = before.map(str::to_owned).chain([peer.ip().to_string()]).collect::<Vec<_>>().join(", ");
    headers.insert(forwarded_for, header_value(&chain));
    headers.entry("x-forwarded-proto").or_insert(HeaderValue::from_static("http"));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.entry("x-forwarded-host").or_insert(host);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> =
        named.flat_map(|text| text.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(header::TRAILER);
}

/// Bytes both ways until one side ends, or the unit is taken down.
async fn join(users: OnUpgrade, service: OnUpgrade, counting: Counting, severed: CancellationToken) {
    let joined = async {
        let (Ok(users), Ok(service)) = tokio::join!(users, service) else { return };
        let (mut users, mut service) = (TokioIo::new(users), TokioIo::new(service));
        // Either side may simply be gone; there is nobody to tell.
        let _ = tokio::io::copy_bidirectional(&mut users, &mut service).await;
    };
    tokio::select! {
        () = joined => {}
        () = severed.cancelled() => {}
    }
    drop(counting);
}

/// Counts a request once, however it ends, and keeps its unit from being stopped meanwhile.
struct Counting {
    tally: Option<Arc<Tally>>,
    whose: Whose,
    began: Instant,
    latency: Option<Duration>,
    class: Option<Class>,
    _visit: TaskTrackerToken,
}

impl Counting {
    fn new(unit: &Unit, tally: Option<Arc<Tally>>, whose: Whose) -> Counting {
        Counting { tally, whose, began: Instant::now(), latency: None, class: None, _visit: unit.visit() }
    }

    fn answered(&mut self, class: Class) {
        self.latency = Some(self.began.elapsed());
        self.class = Some(class);
    }

    fn ends_as(&mut self, class: Class) {
        self.latency.get_or_insert(self.began.elapsed());
        self.class = Some(class);
    }

    /// Counts it now: what follows may last for hours.
    fn count(&mut self) {
        let Some(tally) = self.tally.take() else { return };
        let waited = self.began.elapsed();
        let left = if waited >= PATIENCE { Class::Failed } else { Class::Client };
        tally.count(self.whose, self.class.unwrap_or(left), Some(self.latency.unwrap_or(waited)));
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.count();
    }
}

/// A request's body, which a second attempt may take over as long as nothing of it was read.
struct Shared {
    body: Mutex<Body>,
    touched: AtomicBool,
}

/// The body as one attempt sees it.
struct Attempt {
    shared: Arc<Shared>,
    /// Ends when all of it is sent: only then the service's time to answer begins.
    sent: CancellationToken,
}

impl hyper::body::Body for Attempt {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.shared.touched.store(true, Ordering::Release);
        let mut body = self.shared.body.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.shared.body.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.body.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.sent.cancel();
    }
}

/// An answer's body on its way to the user.
struct Answer {
    body: Incoming,
    counting: Counting,
    severed: Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
}

/// The unit was taken down while the answer was under way.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("the service broke off its answer")]
    Broken(#[from] hyper::Error),
    #[error("the release was taken down")]
    Severed,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if self.severed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(AnswerError::Severed)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(_)) = &frame {
            self.counting.ends_as(Class::Failed);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(AnswerError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
