//! What the controller serves: health, readiness, metrics and webhooks.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
};

use super::{hook, house::House, lease::Standing};
use crate::{
    clients::{clock::Clock, http::Secret},
    commands::FollowName,
};

/// Larger than any push that people make; what is larger is found by the next poll.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bodies that are read at the same time.
const BODIES_MAX: usize = 4;
/// For how long a body may take: whoever stops in the middle must not keep others out.
const BODY_WITHIN: Duration = Duration::from_secs(5);
/// For how long a connection may say nothing: short, for the cluster's probes wait behind those that do.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Connections that are open at the same time.
const CONNECTIONS_MAX: usize = 256;
/// After a connection could not be taken, as when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Deliveries that are remembered, so that one that is sent again makes no work.
const DELIVERIES_MAX: usize = 1_000;

/// What answers stand on.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    house: Arc<House>,
    /// The variable of the webhooks' secret.
    hook_secret: String,
    nudges: BTreeMap<FollowName, mpsc::Sender<()>>,
    /// Where a standby's webhooks go: to the leader.
    to_leader: Option<mpsc::Sender<FollowName>>,
    deliveries: Mutex<VecDeque<String>>,
    bodies: Semaphore,
}

impl Desk {
    pub fn new(
        house: Arc<House>,
        hook_secret: String,
        nudges: BTreeMap<FollowName, mpsc::Sender<()>>,
        to_leader: Option<mpsc::Sender<FollowName>>,
    ) -> Desk {
        let (deliveries, bodies) = (Mutex::default(), Semaphore::new(BODIES_MAX));
        Desk(Arc::new(Inner { house, hook_secret, nudges, to_leader, deliveries, bodies }))
    }

    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/hooks/{repository}", post(hooks))
            .with_state(self)
    }
}

/// Answers for ever. `axum::serve` has no limits for those who connect and say nothing.
pub async fn answer(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            // Whoever goes in the middle takes nothing along.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_WITHIN)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

type Plain = (StatusCode, String);

/// Whether every loop makes progress.
async fn healthz(State(desk): State<Desk>) -> Plain {
    let house = &desk.0.house;
    let pulses = house.pulses();
    let dead: Vec<String> = pulses
        .iter()
        .filter(|(_, pulse)| !pulse.is_alive(house.poll))
        .map(|(name, pulse)| format!("{name}: no progress for {} s\n", pulse.at.elapsed().as_secs()))
        .collect();
    match dead.is_empty() {
        true => (StatusCode::OK, "alive\n".to_owned()),
        false => (StatusCode::INTERNAL_SERVER_ERROR, dead.concat()),
    }
}

/// Whether it can do its part: it leads or stands by, and has every repository.
async fn readyz(State(desk): State<Desk>) -> Plain {
    let house = &desk.0.house;
    let (ready, place) = match &*house.standing.borrow() {
        Standing::Leading(_) => (true, "leader\n".to_owned()),
        Standing::Standby { leader } => (true, format!("standby behind {leader}\n")),
        Standing::Unknown(why) | Standing::Lost(why) => (false, format!("{why}\n")),
    };
    let mut page = place;
    let mut all = ready;
    for (name, pulse) in house.pulses() {
        all &= pulse.ready;
        page.push_str(&format!("{name}: {}\n", if pulse.ready { "cloned" } else { "not cloned yet" }));
        for sentence in &pulse.wrong {
            page.push_str(&format!("{name}: {sentence}\n"));
        }
    }
    (if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, page)
}

async fn metrics(State(desk): State<Desk>) -> Response {
    let page = desk.0.house.metrics.page();
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page).into_response()
}

/// A hint that a repository has news. Whatever is wrong with it, the answer says nothing.
async fn hooks(State(desk): State<Desk>, Path(name): Path<String>, headers: HeaderMap, body: Body) -> StatusCode {
    let inner = &desk.0;
    let Some((followed, nudge)) = inner.nudges.iter().find(|(followed, _)| followed.as_str() == name) else {
        return StatusCode::UNAUTHORIZED;
    };
    let Ok(Ok(turn)) = tokio::time::timeout(BODY_WITHIN, inner.bodies.acquire()).await else {
        return StatusCode::SERVICE_UNAVAILABLE;
    };
    let body = match tokio::time::timeout(BODY_WITHIN, axum::body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE,
        Err(_) => return StatusCode::REQUEST_TIMEOUT,
    };
    drop(turn);
    let now = inner.house.clock.now().0 / 1_000;
    let metrics = &inner.house.metrics;
    if !hook::is_signed(&headers, &body, &inner.secrets(), now) {
        metrics.webhook(&name, "refused");
        tracing::warn!(repository = name, "a webhook without a right signature was refused");
        return StatusCode::UNAUTHORIZED;
    }
    if hook::delivery(&headers).is_some_and(|id| inner.is_repeated(&id)) {
        metrics.webhook(&name, "repeated");
        return StatusCode::ACCEPTED;
    }
    metrics.webhook(&name, "accepted");
    // A full queue means that it is looked at anyway.
    let _ = nudge.try_send(());
    if let Some(to_leader) = inner.to_leader.as_ref().filter(|_| !inner.house.leads()) {
        let _ = to_leader.try_send(followed.clone());
    }
    StatusCode::ACCEPTED
}

impl Inner {
    /// Read anew each time: a secret that was changed counts at once. A line each, so that two can count for a while.
    fn secrets(&self) -> Vec<Secret> {
        let Ok(secret) = Secret::from_variable(&self.hook_secret) else { return Vec::new() };
        secret.reveal().lines().map(str::trim).filter(|line| !line.is_empty()).map(Secret::of).collect()
    }

    fn is_repeated(&self, id: &str) -> bool {
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        if deliveries.iter().any(|known| known == id) {
            return true;
        }
        if deliveries.len() == DELIVERIES_MAX {
            deliveries.pop_front();
        }
        deliveries.push_back(id.to_owned());
        false
    }
}
