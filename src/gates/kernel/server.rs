use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::{
    Deadline, Trouble,
    guest::refusal,
    hearing::Hearing,
    wire::{self, Encoding, Message},
};
use crate::{
    clients::http::{Ask, HttpError, Secret, WebSocket, open_web_socket},
    gates::facts::excerpt,
    model::Span,
};

/// A single-user server, or a notebook server.
pub(super) struct Server {
    url: String,
    token: Option<Secret>,
}

/// From one question after a kernel that has not answered yet to the next.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// A kernel that is being stopped answers soon, or its server takes it down.
const STOP_SECONDS_MAX: u64 = 5;

impl Server {
    pub fn new(url: String, token: Option<Secret>) -> Server {
        let url = if url.ends_with('/') { url } else { format!("{url}/") };
        Server { url, token }
    }

    /// Whether the server is up and accepts our token. Old servers have no `api/status`.
    pub async fn check(&self, deadline: Deadline) -> Result<(), Trouble> {
        let answer = self.ask(Method::GET, "api/status", deadline.left()).send().await?;
        match answer.status {
            200 => Ok(()),
            404 => {
                let older = self.ask(Method::GET, "api", deadline.left()).send().await?;
                if older.status == 200 { Ok(()) } else { Err(refusal("the server", &older)) }
            }
            _ => Err(refusal("the server", &answer)),
        }
    }

    /// Starts a kernel and gives its id. That says nothing yet: kernels that die at once get one, too.
    pub async fn start_kernel(&self, name: Option<&str>, deadline: Deadline) -> Result<String, Trouble> {
        let body = name.map_or_else(|| json!({}), |name| json!({"name": name}));
        let answer = self.ask(Method::POST, "api/kernels", deadline.left()).json(&body).send().await?;
        if answer.status != 201 {
            return Err(refusal("the server", &answer));
        }
        let kernel: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let id = kernel["id"].as_str().filter(|id| id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
        id.map(str::to_owned)
            .ok_or_else(|| Trouble::Bad(format!("the server gives no id: {}", excerpt(&answer.text()))))
    }

    /// Opens the kernel's WebSocket, which the server answers only after the kernel has; gives up early when the
    /// kernel is seen to be dead.
    pub async fn open(&self, kernel: &str, deadline: Deadline) -> Result<Session, Trouble> {
        let session = wire::random_id(16)?;
        let path = format!("api/kernels/{kernel}/channels?session_id={session}");
        let ask = self.ask(Method::GET, &path, deadline.left());
        let dead = async {
            loop {
                tokio::time::sleep(WATCH_PAUSE).await;
                if let Err(trouble @ Trouble::Bad(_)) = self.check_kernel(kernel, deadline).await {
                    return trouble;
                }
            }
        };
        let opened = tokio::select! {
            opened = open_web_socket(&ask, &[wire::BINARY_PROTOCOL]) => opened,
            trouble = dead => return Err(trouble),
        };
        match opened {
            Ok((socket, chosen)) => Ok(Session { socket, encoding: Encoding::chosen(chosen.as_deref()), id: session }),
            Err(HttpError::TimedOut { .. }) => {
                Err(Trouble::Bad(format!("the kernel never answered: no WebSocket within {}", deadline.allowed)))
            }
            Err(HttpError::NoUpgrade { status: 401 | 403, .. }) => {
                Err(Trouble::Blind("the server refuses our token on the WebSocket".to_owned()))
            }
            Err(HttpError::NoUpgrade { status: 404, .. }) => Err(Trouble::Bad("the kernel is gone".to_owned())),
            Err(error) => Err(Trouble::from(error).during("no WebSocket")),
        }
    }

    /// Whether the server still knows the kernel as living.
    pub async fn check_kernel(&self, kernel: &str, deadline: Deadline) -> Result<(), Trouble> {
        let answer = self.ask(Method::GET, &format!("api/kernels/{kernel}"), deadline.left()).send().await?;
        match answer.status {
            200 => {}
            404 => return Err(Trouble::Bad("the kernel died: its server has forgotten it".to_owned())),
            _ => return Err(refusal("the server", &answer)),
        }
        let state: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match state["execution_state"].as_str() {
            Some(state @ ("dead" | "restarting" | "autorestarting")) => {
                Err(Trouble::Bad(format!("the kernel died: its state is `{state}`")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Stops the kernel; a server that does not want to is no news.
    pub async fn stop_kernel(&self, kernel: &str) {
        let path = format!("api/kernels/{kernel}");
        let _ = self.ask(Method::DELETE, &path, Span::seconds(STOP_SECONDS_MAX)).send().await;
    }

    fn ask(&self, method: Method, path: &str, timeout: Span) -> Ask {
        let ask = Ask::new(method, format!("{}{path}", self.url), timeout);
        match &self.token {
            Some(token) => ask.secret_header("authorization", token.after("token ")),
            None => ask,
        }
    }
}

/// An open WebSocket to a kernel.
pub(super) struct Session {
    socket: WebSocket,
    encoding: Encoding,
    id: String,
}

impl Session {
    /// Executes the code and waits until the kernel has replied *and* given the expected result.
    pub async fn execute(&mut self, code: &str, expected: &str, deadline: Deadline) -> Result<(), Trouble> {
        let request = Message::execute_request(&self.id, code)?;
        let mut hearing = Hearing::of(request.id(), expected);
        let frame = self.encoding.encode(&request);
        self.socket.send(frame).await.map_err(|error| Trouble::Bad(format!("cannot send the code: {error}")))?;
        loop {
            match tokio::time::timeout_at(deadline.at, self.next()).await {
                Err(_) => return Err(Trouble::Bad(hearing.silence(deadline.allowed))),
                Ok(message) => match hearing.hear(&message?) {
                    None => {}
                    Some(Ok(())) => return Ok(()),
                    Some(Err(why)) => return Err(Trouble::Bad(why)),
                },
            }
        }
    }

    /// Listens for a while: a kernel that dies meanwhile says so.
    pub async fn hold(&mut self, time: Span, end: Instant) -> Result<(), Trouble> {
        let until = (Instant::now() + time.as_duration()).min(end);
        loop {
            match tokio::time::timeout_at(until, self.next()).await {
                Err(_) => return Ok(()),
                Ok(message) => {
                    if let Some(why) = message?.death() {
                        return Err(Trouble::Bad(why));
                    }
                }
            }
        }
    }

    pub async fn close(mut self) {
        // Whatever comes of it, the kernel is stopped next.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }

    /// The next message that can be read; others are skipped.
    async fn next(&mut self) -> Result<Message, Trouble> {
        loop {
            match self.socket.next().await {
                Some(Ok(frame @ (Frame::Text(_) | Frame::Binary(_)))) => {
                    if let Some(message) = self.encoding.decode(&frame) {
                        return Ok(message);
                    }
                }
                Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => {}
                Some(Ok(Frame::Close(_))) | None => {
                    return Err(Trouble::Bad("the server closed the WebSocket".to_owned()));
                }
                Some(Err(error)) => return Err(Trouble::Bad(format!("the WebSocket broke: {error}"))),
            }
        }
    }
}
