//! A little JupyterHub with servers and kernels, all in this process, and a switch for each way in which they fail.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{secret, serve};

/// How the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Good,
    /// The Hub answers 202, and the server takes a few questions to be ready.
    SlowSpawn,
    /// 202, and then the server is gone from the user.
    SpawnFails,
    /// 500 at once.
    SpawnRefused,
    NeverReady,
    /// The kernel is created and forgotten at once; the WebSocket is never answered.
    KernelDiesAtOnce,
    /// The kernel is listed as living, and the WebSocket is never answered.
    NoHandshake,
    /// Busy, input, idle; and then nothing.
    NeverExecutes,
    /// As before, but replies to other requests arrive.
    StrayReplies,
    Restarts,
    WrongResult,
    /// Dies after the first execution.
    DiesLater,
    /// A reply that says ok, and no result.
    NoResult,
    ServerCloses,
}

/// The world, and what stands in it.
pub struct World {
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    mood: Mood,
    /// Whether the server knows the binary subprotocol.
    binary: bool,
    /// Users, and whether they have a server.
    users: watch::Sender<BTreeMap<String, Option<Spawn>>>,
    kernels: Mutex<usize>,
    chosen: Mutex<Vec<bool>>,
}

/// A server, by the number of times that somebody asked whether it is ready.
#[derive(Debug, Clone, Copy)]
pub struct Spawn {
    asked: u32,
}

const KERNEL_ID: &str = "5a1d0c2e-kernel";

impl World {
    pub async fn new(mood: Mood) -> World {
        World::speaking(mood, true).await
    }

    pub async fn speaking(mood: Mood, binary: bool) -> World {
        let users = watch::Sender::new(BTreeMap::new());
        let inner = Arc::new(Inner { mood, binary, users, kernels: Mutex::new(0), chosen: Mutex::default() });
        let hub = Router::new()
            .route("/users", get(show_users))
            .route("/users/{user}", get(show_user).post(make_user).delete(delete_user))
            .route("/users/{user}/server", post(start_server).delete(stop_server));
        let server = Router::new()
            .route("/api/status", get(|| async { Json(json!({"kernels": 0})) }))
            .route("/api/kernels", post(start_kernel))
            .route("/api/kernels/{id}", get(show_kernel).delete(stop_kernel))
            .route("/api/kernels/{id}/channels", get(channels));
        let router = Router::new()
            .nest("/hub/api", hub)
            .nest("/user/{user}", server)
            .layer(middleware::from_fn(only_with_the_token))
            .with_state(inner.clone());
        World { url: serve(router).await, inner }
    }

    /// The address of a server that runs without a Hub.
    pub fn server(&self) -> String {
        format!("{}/user/alone/", self.url)
    }

    /// Users who are there already, each with a running server.
    pub fn with_users(self, names: &[&str]) -> World {
        self.inner.users.send_modify(|users| {
            users.extend(names.iter().map(|name| ((*name).to_owned(), Some(Spawn { asked: 0 }))));
        });
        self
    }

    pub fn users(&self) -> Vec<String> {
        self.inner.users.borrow().keys().cloned().collect()
    }

    pub fn watch_users(&self) -> watch::Receiver<BTreeMap<String, Option<Spawn>>> {
        self.inner.users.subscribe()
    }

    pub fn kernels(&self) -> usize {
        *self.inner.kernels.lock().expect("nobody panicked")
    }

    /// For each WebSocket whether it spoke the binary subprotocol.
    pub fn chosen(&self) -> Vec<bool> {
        self.inner.chosen.lock().expect("nobody panicked").clone()
    }
}

async fn only_with_the_token(request: Request, next: Next) -> Response {
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if sent == Some(&format!("token {}", secret())) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, Json(json!({"message": "'_xsrf' argument missing from POST"}))).into_response()
}

type Shared = State<Arc<Inner>>;

async fn make_user(State(world): Shared, Path(user): Path<String>) -> StatusCode {
    world.users.send_modify(|users| {
        users.insert(user, None);
    });
    StatusCode::CREATED
}

/// Users who are there from the beginning were made long ago.
async fn show_users(State(world): Shared) -> Json<Value> {
    let users = world.users.borrow();
    let all = users.keys().map(|name| json!({"name": name, "created": "2017-03-23T20:00:00.000000Z"}));
    Json(all.collect())
}

async fn show_user(State(world): Shared, Path(user): Path<String>) -> Response {
    let mut spawn = None;
    world.users.send_modify(|users| {
        if let Some(Some(server)) = users.get_mut(&user) {
            server.asked += 1;
            spawn = Some(*server);
        }
    });
    let servers = match spawn {
        _ if world.mood == Mood::SpawnFails => json!({}),
        None => json!({}),
        Some(spawn) => {
            let ready = match world.mood {
                Mood::NeverReady => false,
                Mood::SlowSpawn => spawn.asked > 2,
                _ => true,
            };
            json!({"": {"ready": ready, "pending": if ready { None } else { Some("spawn") }, "url": format!("/user/{user}/")}})
        }
    };
    Json(json!({"name": user, "servers": servers})).into_response()
}

async fn start_server(State(world): Shared, Path(user): Path<String>) -> Response {
    if world.mood == Mood::SpawnRefused {
        let why = json!({"message": "Error: ImagePullBackOff"});
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(why)).into_response();
    }
    world.users.send_modify(|users| {
        users.insert(user, Some(Spawn { asked: 0 }));
    });
    let slow = matches!(world.mood, Mood::SlowSpawn | Mood::SpawnFails | Mood::NeverReady);
    if slow { StatusCode::ACCEPTED } else { StatusCode::CREATED }.into_response()
}

async fn stop_server(State(world): Shared, Path(user): Path<String>) -> StatusCode {
    world.users.send_modify(|users| {
        users.insert(user, None);
    });
    StatusCode::NO_CONTENT
}

/// As the real one, it refuses to delete a user whose server runs.
async fn delete_user(State(world): Shared, Path(user): Path<String>) -> StatusCode {
    let running = world.users.borrow().get(&user).copied().flatten().is_some();
    if running {
        return StatusCode::BAD_REQUEST;
    }
    world.users.send_modify(|users| {
        users.remove(&user);
    });
    StatusCode::NO_CONTENT
}

async fn start_kernel(State(world): Shared) -> Response {
    *world.kernels.lock().expect("nobody panicked") += 1;
    (StatusCode::CREATED, Json(json!({"id": KERNEL_ID, "execution_state": "starting"}))).into_response()
}

async fn show_kernel(State(world): Shared) -> Response {
    match world.mood {
        Mood::KernelDiesAtOnce => StatusCode::NOT_FOUND.into_response(),
        _ => Json(json!({"id": KERNEL_ID, "execution_state": "idle"})).into_response(),
    }
}

async fn stop_kernel(State(world): Shared) -> StatusCode {
    *world.kernels.lock().expect("nobody panicked") -= 1;
    StatusCode::NO_CONTENT
}

async fn channels(State(world): Shared, headers: HeaderMap, request: Request) -> Response {
    if matches!(world.mood, Mood::KernelDiesAtOnce | Mood::NoHandshake) {
        std::future::pending::<()>().await;
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else { return StatusCode::BAD_REQUEST.into_response() };
    let accept = derive_accept_key(key.as_bytes());
    let binary =
        world.binary && headers.get(header::SEC_WEBSOCKET_PROTOCOL).is_some_and(|offered| offered == BINARY_PROTOCOL);
    world.chosen.lock().expect("nobody panicked").push(binary);
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            be_a_kernel(socket, world.mood, binary).await;
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let set = response.headers_mut();
    set.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    set.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    set.insert(header::SEC_WEBSOCKET_ACCEPT, accept.parse().expect("base 64"));
    if binary {
        set.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BINARY_PROTOCOL));
    }
    response
}

const BINARY_PROTOCOL: &str = "v1.kernel.websocket.jupyter.org";

async fn be_a_kernel<S>(mut socket: WebSocketStream<S>, mood: Mood, binary: bool)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut executed = 0;
    while let Some(Ok(frame)) = socket.next().await {
        let Some(request) = read(&frame) else { continue };
        let mine = request["msg_id"].clone();
        for (channel, kind, parent, content) in answers(mood, &mine) {
            let header = json!({"msg_id": "k", "msg_type": kind, "version": "5.3"});
            let parent = json!({"msg_id": parent});
            let _ = socket.send(write(binary, channel, &header, &parent, &content)).await;
        }
        executed += 1;
        if mood == Mood::ServerCloses {
            let _ = socket.close(None).await;
        }
        if mood == Mood::DiesLater && executed == 1 {
            let (header, content) = (json!({"msg_type": "status"}), json!({"execution_state": "restarting"}));
            let _ = socket.send(write(binary, "iopub", &header, &json!({}), &content)).await;
        }
    }
}

/// What the kernel says after a request: channel, type, parent, content.
fn answers(mood: Mood, mine: &Value) -> Vec<(&'static str, &'static str, Value, Value)> {
    let status = |parent: &Value, state: &str| ("iopub", "status", parent.clone(), json!({"execution_state": state}));
    let reply = |parent: &Value| ("shell", "execute_reply", parent.clone(), json!({"status": "ok"}));
    let result =
        |parent: &Value, text: &str| ("iopub", "execute_result", parent.clone(), json!({"data": {"text/plain": text}}));
    let (other, input) = (json!("other"), ("iopub", "execute_input", mine.clone(), json!({"code": "1+1"})));
    let begin = vec![status(&other, "idle"), status(mine, "busy"), input];
    let rest = match mood {
        Mood::NeverExecutes => vec![status(mine, "idle")],
        Mood::StrayReplies => vec![
            ("shell", "kernel_info_reply", other.clone(), json!({"status": "ok"})),
            reply(&other),
            result(&other, "2"),
            status(mine, "idle"),
        ],
        Mood::Restarts => vec![status(&json!(""), "restarting")],
        Mood::WrongResult => vec![result(mine, "3"), status(mine, "idle"), reply(mine)],
        Mood::NoResult => vec![reply(mine), status(mine, "idle")],
        Mood::ServerCloses => vec![],
        // In this order the result alone must not be enough.
        _ => vec![result(mine, "2"), status(mine, "idle"), reply(mine)],
    };
    begin.into_iter().chain(rest).collect()
}

/// The header of a request, in either form.
fn read(frame: &Message) -> Option<Value> {
    match frame {
        Message::Text(text) => serde_json::from_str::<Value>(text.as_str()).ok().map(|mut m| m["header"].take()),
        Message::Binary(bytes) => {
            let number =
                |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("8 bytes")) as usize;
            serde_json::from_slice(&bytes[number(2)..number(3)]).ok()
        }
        _ => None,
    }
}

fn write(binary: bool, channel: &str, header: &Value, parent: &Value, content: &Value) -> Message {
    if !binary {
        let message = json!({"channel": channel, "header": header, "parent_header": parent, "content": content});
        return Message::text(message.to_string());
    }
    let parts = [channel.to_owned(), header.to_string(), parent.to_string(), "{}".to_owned(), content.to_string()];
    let mut at = 8 * (parts.len() + 2);
    let mut numbers = vec![parts.len() + 1, at];
    for part in &parts {
        at += part.len();
        numbers.push(at);
    }
    let head: Vec<u8> = numbers.into_iter().flat_map(|number| (number as u64).to_le_bytes()).collect();
    Message::binary([head, parts.concat().into_bytes()].concat())
}
