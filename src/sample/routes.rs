use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response, Sse, sse::Event},
    routing::{any, get, post},
};
use futures_util::{SinkExt, Stream, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::{Behaviour, CALL_TIMEOUT, Service, load::Counter};

struct Running {
    service: Service,
    behaviour: Behaviour,
    calls: Vec<String>,
    client: Client<HttpConnector, Empty<Bytes>>,
    counter: Mutex<Counter>,
    leaked: Mutex<Vec<Vec<u8>>>,
}

type Shared = State<Arc<Running>>;

/// Everything the service answers.
pub fn router(service: Service, behaviour: Behaviour, calls: Vec<String>) -> Router {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (counter, leaked) = Default::default();
    let running = Arc::new(Running { service, behaviour, calls, client, counter, leaked });
    Router::new()
        .route("/", get(page))
        .route("/ready", get(|| async { "ready\n" }))
        .route("/health", get(|| async { "healthy\n" }))
        .route("/version", get(version))
        .route("/work", any(work))
        .route("/events", get(events))
        .route("/echo", post(echo))
        .route("/headers", get(headers))
        .route("/ws", get(web_socket))
        .with_state(running)
}

async fn page(State(running): Shared) -> Html<String> {
    let Service { name, version, .. } = &running.service;
    Html(format!("<!doctype html><title>{name}</title><h1>{name} {version}</h1><p>Everything looks fine.</p>\n"))
}

async fn version(State(running): Shared) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "name": running.service.name, "version": running.service.version }))
}

/// Does its own part of the work and asks the other services for theirs.
async fn work(State(running): Shared) -> Response {
    let Service { name, version, .. } = &running.service;
    let behaviour = &running.behaviour;
    if behaviour.leaks_kib > 0 {
        // Written to, so that the memory is really used.
        let kept = vec![1; behaviour.leaks_kib * 1024];
        running.leaked.lock().expect("no panic while it is held").push(kept);
    }
    if let Some(slow) = behaviour.slow {
        sleep(slow.as_duration()).await;
    }
    let load = behaviour.fails_under.as_ref();
    let overloaded = running.counter.lock().expect("no panic while it is held").count(load, Instant::now());
    if behaviour.work_fails || overloaded {
        let why = if overloaded { "too many open connections" } else { "unknown column `owner_id`" };
        println!("work failed: {why}");
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("{name} {version}: {why}\n")).into_response();
    }
    let mut done = format!("{name} {version}: {}\n", digits_of_two(400));
    for call in &running.calls {
        match running.ask(call).await {
            Ok(part) => done.push_str(&part),
            Err(why) => {
                println!("work failed: {why}");
                return (StatusCode::BAD_GATEWAY, format!("{name} {version}: {why}\n")).into_response();
            }
        }
    }
    done.into_response()
}

impl Running {
    async fn ask(&self, service: &str) -> Result<String, String> {
        let url = format!("{}/work", service.trim_end_matches('/'));
        let uri = url.parse().map_err(|error| format!("{url} is not an address: {error}"))?;
        let asking = async {
            let response = self.client.get(uri).await.map_err(|error| format!("{url}: {error}"))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| format!("{url}: {error}"))?;
            let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            if status.is_success() { Ok(text) } else { Err(format!("{url} answered {status}: {}", text.trim())) }
        };
        timeout(CALL_TIMEOUT, asking).await.map_err(|_| format!("{url} did not answer in time"))?
    }
}

/// Some honest computing: how many decimal digits a power of two has, by doubling it digit by digit.
fn digits_of_two(power: usize) -> usize {
    let mut digits = vec![1u8];
    for _ in 0..power {
        let mut carry = 0;
        for digit in &mut digits {
            let doubled = *digit * 2 + carry;
            (*digit, carry) = (doubled % 10, doubled / 10);
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    digits.len()
}

/// One event now and one every fifth of a second.
async fn events(State(running): Shared) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let version = running.service.version.clone();
    let ticks = futures_util::stream::unfold(0u64, |n| async move {
        if n > 0 {
            sleep(Duration::from_millis(200)).await;
        }
        Some((n, n + 1))
    });
    Sse::new(ticks.map(move |n| Ok(Event::default().data(format!("{version} {n}")))))
}

/// Sends every part of the body back as it comes in.
async fn echo(body: Body) -> Body {
    body
}

/// The headers as they arrived.
async fn headers(request: Request) -> String {
    let lines = request.headers().iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap_or("?")));
    lines.collect()
}

/// A WebSocket that sends every message back.
async fn web_socket(mut request: Request) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return (StatusCode::BAD_REQUEST, "this is a WebSocket\n").into_response();
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || ((message.is_text() || message.is_binary()) && socket.send(message).await.is_err())
            {
                break;
            }
        }
    });
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is a header value");
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
