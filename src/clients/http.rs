//! Speaks HTTP: time limits, bodies with a limit, secrets that reach no text, and failures sorted by whose they are.

use std::{
    error::Error,
    fmt, io,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Instant,
};

use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::{
    Client, Method, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{DATE, HeaderMap, HeaderName, HeaderValue},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    process::Redaction,
    secrets::{self, SecretError},
};
use crate::model::{Span, Stamp};

/// What is read of a body unless the caller says otherwise.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Redirects followed when asked to.
const REDIRECTS_MAX: usize = 10;

/// A value that must reach no log, error or reading.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Reads it from our own environment or from its file; the error names the variable.
    pub fn from_variable(name: &str) -> Result<Secret, HttpError> {
        match secrets::value(name) {
            Ok(value) if !value.trim().is_empty() => Ok(Secret(value.trim().to_owned())),
            Ok(_) | Err(SecretError::Missing(_)) => Err(HttpError::Secret { variable: name.to_owned() }),
            Err(error @ SecretError::Unread { .. }) => Err(HttpError::SecretFile(error)),
        }
    }

    pub fn of(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value itself, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The same with something before it, such as `token ` in an `Authorization` header.
    pub fn after(&self, prefix: &str) -> Secret {
        Secret(format!("{prefix}{}", self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Ask {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(String, String)>,
    /// Headers whose values are secrets.
    pub secret_headers: Vec<(String, Secret)>,
    pub body: Option<Vec<u8>>,
    /// From the start to the last byte of the body that is read.
    pub timeout: Span,
    /// What is read of the body at most; nothing of it with 0.
    pub body_bytes_max: usize,
    pub follow_redirects: bool,
    /// The address itself is a secret, as those of chat hooks are: only its host is ever shown.
    pub secret_url: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// The first part of the body.
    pub body: Vec<u8>,
    /// Whether there was more of it.
    pub cut: bool,
    pub took: Span,
}

/// When a server answered, by its own clock, in whole seconds; `None`: it does not say.
pub fn dated(headers: &HeaderMap) -> Option<Stamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let at = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Stamp(at.as_millisecond()))
}

impl Answer {
    /// The body as text, invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no answer. No variant holds a secret; URLs are shown without credentials and query.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("`{url}` is not an address that can be asked: {why}")]
    Url { url: String, why: String },
    #[error("the header `{name}` has a name or value that cannot be sent")]
    Header { name: String },
    #[error("the environment variable `{variable}` is not set")]
    Secret { variable: String },
    #[error(transparent)]
    SecretFile(SecretError),
    #[error("cannot make an HTTP client")]
    Client {
        #[source]
        source: reqwest::Error,
    },
    #[error("cannot resolve the name `{host}`")]
    Name { host: String },
    #[error("cannot connect to {url}: {why}")]
    Connect { url: String, why: String },
    #[error("cannot speak TLS with {url}: {why}")]
    Tls { url: String, why: String, ours: bool },
    #[error("no answer from {url} within {after}")]
    TimedOut { url: String, after: Span },
    #[error("{url} answered {status}, and its body was not complete within {after}")]
    BodyTimedOut { url: String, status: u16, after: Span },
    #[error("{url} broke the connection: {why}")]
    Broken { url: String, why: String },
    #[error("{url} answered {status}, not with a WebSocket")]
    NoUpgrade { url: String, status: u16, body: String },
}

impl HttpError {
    /// Whether the cause is on our side of the connection, so that nothing is known of the other side.
    pub fn is_ours(&self) -> bool {
        match self {
            HttpError::Url { .. }
            | HttpError::Header { .. }
            | HttpError::Secret { .. }
            | HttpError::SecretFile(_)
            | HttpError::Client { .. }
            | HttpError::Name { .. } => true,
            HttpError::Tls { ours, .. } => *ours,
            HttpError::Connect { .. }
            | HttpError::TimedOut { .. }
            | HttpError::BodyTimedOut { .. }
            | HttpError::Broken { .. }
            | HttpError::NoUpgrade { .. } => false,
        }
    }
}

impl Ask {
    pub fn new(method: Method, url: impl Into<String>, timeout: Span) -> Ask {
        Ask {
            method,
            url: url.into(),
            headers: Vec::new(),
            secret_headers: Vec::new(),
            body: None,
            timeout,
            body_bytes_max: BODY_BYTES_MAX,
            follow_redirects: false,
            secret_url: false,
        }
    }

    pub fn get(url: impl Into<String>, timeout: Span) -> Ask {
        Ask::new(Method::GET, url, timeout)
    }

    pub fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn secret_header(mut self, name: &str, value: Secret) -> Ask {
        self.secret_headers.push((name.to_owned(), value));
        self
    }

    /// Sends the value as JSON.
    pub fn json(mut self, value: &serde_json::Value) -> Ask {
        self.body = Some(value.to_string().into_bytes());
        self.header("content-type", "application/json")
    }

    /// Asks, and waits for the answer and the part of the body that is wanted.
    pub async fn send(&self) -> Result<Answer, HttpError> {
        let start = Instant::now();
        let url = self.parsed()?;
        let request =
            self.request(Flavor { loopback: is_loopback(&url), follow: self.follow_redirects, upgrade: false })?;
        let deadline = tokio::time::Instant::now() + self.timeout.as_duration();
        let mut response = tokio::time::timeout_at(deadline, request.send())
            .await
            .map_err(|_| HttpError::TimedOut { url: self.shown(&url), after: self.timeout })?
            .map_err(|error| self.sorted(&url, &error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let (body, cut) = tokio::time::timeout_at(deadline, read_body(response, self.body_bytes_max))
            .await
            .map_err(|_| HttpError::BodyTimedOut { url: self.shown(&url), status, after: self.timeout })?
            .map_err(|error| self.sorted(&url, &error))?;
        let took = Span(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
        Ok(Answer { status, headers, body, cut, took })
    }

    fn parsed(&self) -> Result<Url, HttpError> {
        let wrong = |why: String| {
            let url = if self.secret_url { "•••".to_owned() } else { self.redaction().apply(&self.url) };
            HttpError::Url { url, why }
        };
        let url = Url::parse(&self.url).map_err(|error| wrong(error.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(url),
            other => Err(wrong(format!("the scheme is `{other}`; it must be `http` or `https`"))),
        }
    }

    fn request(&self, flavor: Flavor) -> Result<reqwest::RequestBuilder, HttpError> {
        let client = flavor.client().map_err(|source| HttpError::Client { source: source.without_url() })?;
        let mut request = client.request(self.method.clone(), self.parsed()?);
        let plain = self.headers.iter().map(|(name, value)| (name, value.as_str(), false));
        let secret = self.secret_headers.iter().map(|(name, value)| (name, value.reveal(), true));
        for (name, value, is_secret) in plain.chain(secret) {
            let wrong = || HttpError::Header { name: name.clone() };
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            value.set_sensitive(is_secret);
            request = request.header(header, value);
        }
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        Ok(request)
    }

    fn redaction(&self) -> Redaction {
        Redaction::of_values(self.secret_headers.iter().map(|(_, secret)| secret.reveal().to_owned()))
    }

    /// The address as it may be shown: no credentials, no query, and of a secret one only the host.
    fn shown(&self, url: &Url) -> String {
        let mut url = url.clone();
        // Both only fail for addresses without a host, which were refused before.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let had_query = url.query().is_some();
        url.set_query(None);
        url.set_fragment(None);
        if self.secret_url {
            url.set_path("");
            return format!("{url}…");
        }
        format!("{url}{}", if had_query { "?…" } else { "" })
    }

    /// Finds out from the chain of causes whose failure it is.
    fn sorted(&self, url: &Url, error: &reqwest::Error) -> HttpError {
        let url_text = self.shown(url);
        let mut cause: Option<&(dyn Error + 'static)> = error.source();
        let mut deepest = String::new();
        while let Some(error) = cause {
            if let Some(unknown) = error.downcast_ref::<NameUnknown>() {
                return HttpError::Name { host: unknown.0.clone() };
            }
            if let Some(tls) = tls_cause(error) {
                return HttpError::Tls { url: url_text, why: tls.to_string(), ours: tls_is_ours(tls) };
            }
            deepest = error.to_string();
            cause = error.source();
        }
        let why = self.redaction().apply(&deepest);
        match error.is_connect() {
            true => HttpError::Connect { url: url_text, why },
            false => HttpError::Broken { url: url_text, why },
        }
    }
}

/// A WebSocket over whatever the HTTP client connected.
pub type WebSocket = WebSocketStream<reqwest::Upgraded>;

/// The largest message that is taken from a WebSocket.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Opens a WebSocket and says which of the offered subprotocols the server chose. The URL is an `http` or `https` one.
pub async fn open_web_socket(ask: &Ask, protocols: &[&str]) -> Result<(WebSocket, Option<String>), HttpError> {
    let url = ask.parsed()?;
    let key = generate_key();
    let mut ask = ask.clone();
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", key.as_str()),
    ] {
        ask = ask.header(name, value);
    }
    if !protocols.is_empty() {
        ask = ask.header("sec-websocket-protocol", &protocols.join(", "));
    }
    let handshake = async {
        let flavor = Flavor { loopback: is_loopback(&url), follow: false, upgrade: true };
        let response = ask.request(flavor)?.send().await.map_err(|error| ask.sorted(&url, &error))?;
        let accepted = response.headers().get("sec-websocket-accept").map(HeaderValue::as_bytes);
        let right = accepted == Some(derive_accept_key(key.as_bytes()).as_bytes());
        if response.status() != StatusCode::SWITCHING_PROTOCOLS || !right {
            let status = response.status().as_u16();
            let (body, _) = read_body(response, 2_000).await.unwrap_or_default();
            let body = ask.redaction().apply(&String::from_utf8_lossy(&body));
            return Err(HttpError::NoUpgrade { url: ask.shown(&url), status, body });
        }
        let chosen = response.headers().get("sec-websocket-protocol").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let stream = response.upgrade().await.map_err(|error| ask.sorted(&url, &error))?;
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        Ok((WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits)).await, chosen))
    };
    tokio::time::timeout(ask.timeout.as_duration(), handshake)
        .await
        .map_err(|_| HttpError::TimedOut { url: ask.shown(&url), after: ask.timeout })?
}

async fn read_body(mut response: reqwest::Response, max: usize) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    if max == 0 {
        return Ok((body, true));
    }
    while let Some(chunk) = response.chunk().await? {
        let room = max - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((body, true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, false))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Input and output errors hide what they wrap from the chain of causes, one in the other.
fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inside = error.downcast_ref::<io::Error>().and_then(|io| io.get_ref());
    inside.and_then(|inner| tls_cause(inner)).or_else(|| error.downcast_ref())
}

/// An unknown issuer means that our store of trusted certificates lacks it, or is empty.
fn tls_is_ours(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)
            | rustls::Error::FailedToGetRandomBytes
            | rustls::Error::FailedToGetCurrentTime
            | rustls::Error::General(_)
            | rustls::Error::Other(_)
    )
}

/// The few ways in which clients differ; each is made once, when it is first needed.
#[derive(Debug, Clone, Copy)]
struct Flavor {
    /// A proxy of the environment never stands between us and this machine.
    loopback: bool,
    follow: bool,
    /// WebSockets need HTTP/1.1.
    upgrade: bool,
}

static CLIENTS: [OnceLock<Client>; 8] = [const { OnceLock::new() }; 8];

impl Flavor {
    fn client(self) -> Result<&'static Client, reqwest::Error> {
        let slot = usize::from(self.loopback) + 2 * usize::from(self.follow) + 4 * usize::from(self.upgrade);
        if let Some(client) = CLIENTS[slot].get() {
            return Ok(client);
        }
        // Another thread may have been faster; its client is as good.
        let made = self.make()?;
        Ok(CLIENTS[slot].get_or_init(|| made))
    }

    fn make(self) -> Result<Client, reqwest::Error> {
        install_tls_provider();
        // Without any trusted certificate on the machine the usual client cannot be made at all, although plain HTTP
        // needs none; then we trust nobody, and only TLS connections fail.
        self.builder().build().or_else(|_| self.builder().tls_certs_only([]).build())
    }

    fn builder(self) -> reqwest::ClientBuilder {
        let redirects = match self.follow {
            true => reqwest::redirect::Policy::limited(REDIRECTS_MAX),
            false => reqwest::redirect::Policy::none(),
        };
        let mut builder = Client::builder()
            .user_agent(concat!("piton/", env!("CARGO_PKG_VERSION")))
            .redirect(redirects)
            .referer(false)
            // A look is a look at a new connection, and no connection outlives the runtime that made it.
            .pool_max_idle_per_host(0)
            .dns_resolver(Arc::new(System));
        if self.loopback {
            builder = builder.no_proxy();
        }
        if self.upgrade {
            builder = builder.http1_only();
        }
        builder
    }
}

/// Makes ring the process's TLS provider; may be called any number of times.
pub fn install_tls_provider() {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The system's resolver, with an error that can be recognised.
struct System;

#[derive(Debug, thiserror::Error)]
#[error("cannot resolve the name `{0}`")]
struct NameUnknown(String);

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await.map(|found| found.collect::<Vec<_>>());
            match found {
                Ok(found) => Ok(Box::new(found.into_iter()) as Addrs),
                Err(_) => Err(NameUnknown(host).into()),
            }
        })
    }
}
