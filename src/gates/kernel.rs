mod guest;
mod hearing;
mod server;
mod wire;

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use self::{guest::Guest, server::Server};
use super::{
    Entry, Gate, Scene, expand,
    expectation::{expect_rule, once},
};
use crate::{
    clients::{
        http::{HttpError, Secret},
        process::Redaction,
    },
    model::{Saw, Span},
    pipeline::{GateKind, Kind, checked},
};

pub const ENTRY: Entry = Entry {
    kind: GateKind {
        kind: Kind {
            name: "kernel",
            about: "executes code in a Jupyter kernel, as a user would, and checks the result",
            help: HELP,
            example: EXAMPLE,
            check: checked::<Config>,
            schema: |generator| generator.subschema_for::<Config>(),
        },
        rule: expect_rule,
    },
    build: |config| Ok(Box::new(serde_json::from_value::<Config>(config.clone())?)),
};

const HELP: &str = "\
Does what a user does: starts a server, starts a kernel, opens its WebSocket, executes `code`, and compares the result with
`expect`. Good is only a result together with an `execute_reply` that says `ok`, both in answer to our own request, and a second
time after `hold`: a kernel that calls itself idle and executes nothing is bad, and so is one that dies, restarts, or never answers.

With `hub`, the gate makes a fresh user through the Hub's API each time (`user` and a random ending) and removes server and user
afterwards, also when it gives up; what a killed process left behind is removed after some hours by the next look. The token needs the scopes admin:users, admin:servers and access:servers. With
`server`, it uses a running single-user or notebook server. `token` names the environment variable that holds the token; a token that is
refused is blind: nothing is known.

`within` limits the phases: the server's start, the kernel's first answer, one execution. All of it happens within `timeout`: give it
a minute or more, since the same probe takes four seconds on a quiet machine and twenty on a busy one. The note has the time of each phase.
`1+1` finds a broken kernel; for a broken library, write a snippet that uses it.";

const EXAMPLE: &str = "\
- kernel:
    hub: \"${url}\"
    token: HUB_TOKEN
    code: 1+1
    expect: \"2\"
    within: {server: 60s, handshake: 30s, execute: 20s}
  name: kernel
  every: 1m
  timeout: 2m
";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Form", into = "Form")]
#[schemars(with = "Form")]
struct Config {
    form: Form,
    place: Place,
}

/// Where the kernel is started.
#[derive(Debug, Clone)]
enum Place {
    Hub { url: String, token: String },
    Server { url: String, token: Option<String> },
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "KernelGate")]
struct Form {
    /// The address of a JupyterHub, without `/hub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hub: Option<String>,
    /// The address of a running server, such as `http://127.0.0.1:8888/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// The environment variable that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// How the names of the users begin that the gate makes.
    #[serde(default = "user")]
    user: UserPrefix,
    /// What the Hub passes to the spawner as the user's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, Value>,
    /// The kernel's name; the server's default unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    #[serde(default = "code")]
    code: String,
    /// The result, as the kernel writes it in plain text.
    #[serde(default = "expected")]
    expect: String,
    /// The code is executed again after so long, because kernels also die late; not at all with `0s`.
    #[serde(default = "hold")]
    hold: Span,
    #[serde(default)]
    within: Within,
    /// Good looks in a row that pass.
    #[serde(default = "once")]
    passes: NonZeroU32,
    /// Bad looks in one step that are forgiven.
    #[serde(default)]
    tolerate: u32,
}

/// The longest that each phase may take.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Within {
    server: Span,
    handshake: Span,
    execute: Span,
}

impl Default for Within {
    fn default() -> Within {
        Within { server: Span::seconds(60), handshake: Span::seconds(30), execute: Span::seconds(20) }
    }
}

fn user() -> UserPrefix {
    UserPrefix("piton-probe".to_owned())
}

fn code() -> String {
    "1+1".to_owned()
}

fn expected() -> String {
    "2".to_owned()
}

fn hold() -> Span {
    Span::seconds(5)
}

/// The first part of a user's name: lower-case letters, digits and `-`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
struct UserPrefix(String);

impl TryFrom<String> for UserPrefix {
    type Error = String;
    fn try_from(text: String) -> Result<UserPrefix, String> {
        let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match text.starts_with(|c: char| c.is_ascii_lowercase()) && text.len() <= 40 && text.chars().all(right) {
            true => Ok(UserPrefix(text)),
            false => {
                Err(format!("`{text}` cannot begin a user name; use at most 40 of a-z, 0-9 and `-`, first a letter"))
            }
        }
    }
}

impl From<UserPrefix> for String {
    fn from(prefix: UserPrefix) -> String {
        prefix.0
    }
}

impl TryFrom<Form> for Config {
    type Error = String;
    fn try_from(form: Form) -> Result<Config, String> {
        let place = match (form.hub.clone(), form.server.clone(), form.token.clone()) {
            (Some(url), None, Some(token)) => Place::Hub { url, token },
            (Some(_), None, None) => {
                return Err("a Hub needs `token`: the environment variable that holds a token of it".to_owned());
            }
            (None, Some(url), token) => Place::Server { url, token },
            (None, None, _) => return Err("a kernel gate needs `hub` or `server`".to_owned()),
            (Some(_), Some(_), _) => return Err("`hub` and `server` exclude each other".to_owned()),
        };
        Ok(Config { form, place })
    }
}

impl From<Config> for Form {
    fn from(config: Config) -> Form {
        config.form
    }
}

/// Why a look ends without a good result.
#[derive(Debug)]
enum Trouble {
    Bad(String),
    Blind(String),
}

impl From<HttpError> for Trouble {
    fn from(error: HttpError) -> Trouble {
        match error.is_ours() {
            true => Trouble::Blind(error.to_string()),
            false => Trouble::Bad(error.to_string()),
        }
    }
}

impl Trouble {
    /// Says in which phase it was.
    fn during(self, phase: &str) -> Trouble {
        match self {
            Trouble::Bad(why) => Trouble::Bad(format!("{phase}: {why}")),
            Trouble::Blind(why) => Trouble::Blind(format!("{phase}: {why}")),
        }
    }
}

/// The end of a phase, and of the whole look.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Instant,
    /// What is said when it is over.
    allowed: Span,
}

impl Deadline {
    fn left(self) -> Span {
        Span(u64::try_from(self.at.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(0).max(1))
    }

    fn is_over(self) -> bool {
        Instant::now() >= self.at
    }
}

/// The part of the look's time that is kept for cleaning up.
const CLEAN_UP_SHARE: u32 = 8;
const CLEAN_UP_MAX: Duration = Duration::from_secs(5);

/// The question whether the kernel still lives is not part of the execution's time.
const CHECK_MAX: Span = Span::seconds(10);

impl Gate for Config {
    fn look<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Saw> {
        Box::pin(async move {
            let start = Instant::now();
            let whole = scene.timeout.as_duration();
            let end = start + whole;
            let work_end = end - (whole / CLEAN_UP_SHARE).min(CLEAN_UP_MAX);
            let token = match self.token() {
                Ok(token) => token,
                Err(error) => return Saw::Blind(error.to_string()),
            };
            let secrets = Redaction::of_values(token.iter().map(|token| token.reveal().to_owned()));
            let outcome = match &self.place {
                Place::Hub { url, .. } => self.through_hub(url, token, scene, work_end, end).await,
                Place::Server { url, .. } => self.on_server(url, token, scene, work_end).await,
            };
            match outcome {
                Ok(note) => Saw::Good(secrets.apply(&note)),
                Err(Trouble::Bad(why)) => Saw::Bad(secrets.apply(&why)),
                Err(Trouble::Blind(why)) => Saw::Blind(secrets.apply(&why)),
            }
        })
    }
}

impl Config {
    fn token(&self) -> Result<Option<Secret>, HttpError> {
        match &self.place {
            Place::Hub { token, .. } | Place::Server { token: Some(token), .. } => {
                Secret::from_variable(token).map(Some)
            }
            Place::Server { token: None, .. } => Ok(None),
        }
    }

    async fn through_hub(
        &self,
        url: &str,
        token: Option<Secret>,
        scene: &Scene,
        work_end: Instant,
        end: Instant,
    ) -> Result<String, Trouble> {
        let url = expand(url, &scene.facts).map_err(Trouble::Blind)?;
        let token = token.ok_or_else(|| Trouble::Blind("there is no token for the Hub".to_owned()))?;
        let deadline = phase(self.form.within.server, work_end);
        let started = Instant::now();
        // From here on a server may be running: the guest removes it and its user, whatever happens.
        let guest = Guest::invite(&url, token.clone(), &self.form.user.0, deadline)
            .await
            .map_err(|trouble| trouble.during("no user on the Hub"))?;
        let outcome = async {
            let address = guest
                .start_server(&self.form.options, deadline)
                .await
                .map_err(|trouble| trouble.during("no server"))?;
            let server = Server::new(address, Some(token));
            server.check(deadline).await.map_err(|trouble| trouble.during("no server"))?;
            let took = started.elapsed();
            let note = self.use_server(&server, work_end).await.map_err(|t| after_server(t, took))?;
            Ok(format!("{note}, server {}", seconds(took)))
        }
        .await;
        guest.leave(end).await;
        outcome
    }

    async fn on_server(
        &self,
        url: &str,
        token: Option<Secret>,
        scene: &Scene,
        work_end: Instant,
    ) -> Result<String, Trouble> {
        let url = expand(url, &scene.facts).map_err(Trouble::Blind)?;
        let server = Server::new(url, token);
        let deadline = phase(self.form.within.server, work_end);
        server.check(deadline).await.map_err(|trouble| trouble.during("no server"))?;
        self.use_server(&server, work_end).await
    }

    /// Everything from the kernel's start to its end; the note says what came out and how long it took.
    async fn use_server(&self, server: &Server, work_end: Instant) -> Result<String, Trouble> {
        let deadline = phase(self.form.within.handshake, work_end);
        let started = Instant::now();
        let kernel = server
            .start_kernel(self.form.kernel.as_deref(), deadline)
            .await
            .map_err(|trouble| trouble.during("no kernel"))?;
        let outcome = self.use_kernel(server, &kernel, started, deadline, work_end).await;
        server.stop_kernel(&kernel).await;
        outcome
    }

    async fn use_kernel(
        &self,
        server: &Server,
        kernel: &str,
        started: Instant,
        deadline: Deadline,
        work_end: Instant,
    ) -> Result<String, Trouble> {
        let mut session = server.open(kernel, deadline).await?;
        let handshake = started.elapsed();
        let mut times = Vec::new();
        for round in 0..self.rounds() {
            if round > 0 {
                session.hold(self.form.hold, work_end).await?;
            }
            let started = Instant::now();
            let deadline = phase(self.form.within.execute, work_end);
            session.execute(&self.form.code, &self.form.expect, deadline).await?;
            server.check_kernel(kernel, phase(CHECK_MAX, work_end)).await?;
            times.push(seconds(started.elapsed()));
        }
        session.close().await;
        let expected = super::facts::excerpt(&self.form.expect);
        Ok(format!("`{expected}`; handshake {}, execute {}", seconds(handshake), times.join(" and ")))
    }

    fn rounds(&self) -> u32 {
        if self.form.hold == Span(0) { 1 } else { 2 }
    }
}

fn after_server(trouble: Trouble, took: Duration) -> Trouble {
    match trouble {
        Trouble::Bad(why) => Trouble::Bad(format!("{why} (server {})", seconds(took))),
        Trouble::Blind(why) => Trouble::Blind(why),
    }
}

/// A phase that may take so long, but ends with the look.
fn phase(allowed: Span, end: Instant) -> Deadline {
    let now = Instant::now();
    let left = Span(u64::try_from(end.saturating_duration_since(now).as_millis()).unwrap_or(0));
    let allowed = allowed.min(left);
    Deadline { at: now + allowed.as_duration(), allowed }
}

fn seconds(time: Duration) -> String {
    format!("{:.2}s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_or_a_server_and_not_both() {
        let read = |text: &str| serde_json::from_str::<Config>(text).map_err(|error| error.to_string());
        assert!(read(r#"{"hub": "${url}", "token": "T"}"#).is_ok());
        assert!(read(r#"{"server": "${url}"}"#).is_ok());
        for (wrong, says) in [
            (r#"{}"#, "needs `hub` or `server`"),
            (r#"{"hub": "a", "server": "b", "token": "T"}"#, "exclude each other"),
            (r#"{"hub": "a"}"#, "needs `token`"),
            (r#"{"server": "a", "user": "Ä"}"#, "cannot begin a user name"),
            (r#"{"server": "a", "within": {"sever": "1s"}}"#, "unknown field"),
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.contains(says), "{error}");
        }
    }
}
