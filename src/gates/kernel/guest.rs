use std::{collections::BTreeMap, time::Duration};

use reqwest::{Method, Url};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Deadline, Trouble};
use crate::{
    clients::http::{Answer, Ask, HttpError, Secret, dated},
    gates::facts::excerpt,
    model::{Span, Stamp},
};

/// A user made for one look. Server and user go when the guest leaves, and also when it is dropped.
pub(super) struct Guest {
    hub: Url,
    token: Secret,
    name: String,
    gone: bool,
}

/// From one question after the server's start to the next.
const POLL_PAUSE: Duration = Duration::from_millis(250);

/// How long the clean-up may go on after the look is over.
const CLEAN_UP_SECONDS_MAX: u64 = 60;

/// A Hub that answers 202 is still stopping the server, and refuses to delete its user until then.
const CLEAN_UP_PAUSE: Duration = Duration::from_millis(500);

impl Guest {
    /// Makes a user with a fresh name.
    pub async fn invite(hub: &str, token: Secret, prefix: &str, deadline: Deadline) -> Result<Guest, Trouble> {
        let hub = api_root(hub)?;
        let name = format!("{prefix}-{}", super::wire::random_id(4)?);
        let url = format!("{hub}users/{name}");
        // The guest exists before the request: an answer that gets lost may have made the user all the same.
        let mut guest = Guest { hub, token, name, gone: false };
        let answer = match guest.ask(Method::POST, &url, deadline.left()).send().await {
            Ok(answer) => answer,
            Err(error) => {
                guest.gone = error.is_ours();
                return Err(error.into());
            }
        };
        if answer.status == 201 {
            return Ok(guest);
        }
        guest.gone = true;
        Err(refusal("the Hub", &answer))
    }

    /// Starts the user's server, waits until it is ready, and gives its address.
    pub async fn start_server(&self, options: &BTreeMap<String, Value>, deadline: Deadline) -> Result<String, Trouble> {
        let url = format!("{}users/{}/server", self.hub, self.name);
        let answer = self.ask(Method::POST, &url, deadline.left()).json(&json!(options)).send().await?;
        match answer.status {
            201 | 202 => self.wait_for_server(deadline).await,
            _ => Err(refusal("the Hub", &answer)),
        }
    }

    async fn wait_for_server(&self, deadline: Deadline) -> Result<String, Trouble> {
        let url = format!("{}users/{}", self.hub, self.name);
        let late = || Trouble::Bad(format!("not ready within {}", deadline.allowed));
        while !deadline.is_over() {
            let answer = match self.ask(Method::GET, &url, deadline.left()).send().await {
                Err(HttpError::TimedOut { .. } | HttpError::BodyTimedOut { .. }) => return Err(late()),
                other => other?,
            };
            if answer.status != 200 {
                return Err(refusal("the Hub", &answer));
            }
            let user: Value = serde_json::from_slice(&answer.body)
                .map_err(|error| Trouble::Bad(format!("the Hub's answer is not JSON: {error}")))?;
            // The Hub forgets a server whose start failed.
            let server = user.pointer("/servers/").ok_or_else(|| Trouble::Bad("its start failed".to_owned()))?;
            if server["ready"] == json!(true) {
                return self.address(server);
            }
            tokio::time::sleep_until((Instant::now() + POLL_PAUSE).min(deadline.at)).await;
        }
        Err(late())
    }

    fn address(&self, server: &Value) -> Result<String, Trouble> {
        let path = server["url"].as_str().unwrap_or_default();
        let joined = self.hub.join(path).ok().filter(|url| !path.is_empty() && url.origin() == self.hub.origin());
        joined
            .map(String::from)
            .ok_or_else(|| Trouble::Bad(format!("the Hub gives it the address `{}`", excerpt(path))))
    }

    /// Removes server and user. What is not done by `until` goes on in the background.
    pub async fn leave(mut self, until: Instant) {
        self.gone = true;
        let removal = tokio::spawn(remove(self.hub.clone(), self.token.clone(), self.name.clone()));
        // Running out of time only means that nobody waits for the removal.
        let _ = tokio::time::timeout_at(until, removal).await;
    }

    fn ask(&self, method: Method, url: &str, timeout: Span) -> Ask {
        hub_ask(method, url, &self.token, timeout)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (self.gone, tokio::runtime::Handle::try_current()) {
            runtime.spawn(remove(self.hub.clone(), self.token.clone(), self.name.clone()));
        }
    }
}

/// Asks for the removal of server and user until both are gone; the first must be stopped before the second goes.
async fn remove(hub: Url, token: Secret, name: String) {
    let end = Instant::now() + Duration::from_secs(CLEAN_UP_SECONDS_MAX);
    let (server, user) = (format!("{hub}users/{name}/server"), format!("{hub}users/{name}"));
    while Instant::now() < end {
        let delete = |url: &str| hub_ask(Method::DELETE, url, &token, Span::seconds(15));
        // Whatever is said about the server, the answer about the user decides.
        let _ = delete(&server).send().await;
        if let Ok(answer) = delete(&user).send().await
            && matches!(answer.status, 204 | 404 | 401 | 403)
        {
            return sweep(&hub, &token, &name).await;
        }
        tokio::time::sleep(CLEAN_UP_PAUSE).await;
    }
    tracing::warn!(user = name, "could not remove the user of a kernel gate from the Hub");
}

/// Removes what looks left behind when they were killed: users with our prefix, older than any look can be.
async fn sweep(hub: &Url, token: &Secret, name: &str) {
    let Some((prefix, _)) = name.rsplit_once('-') else { return };
    // Hubs that do not know the filter give everyone, and are filtered here.
    let url = format!("{hub}users?name_filter={prefix}-");
    let Ok(answer) = hub_ask(Method::GET, &url, token, Span::seconds(15)).send().await else { return };
    // The Hub says when they came, and how late it is there: our own clock may say something else.
    let Some(now) = dated(&answer.headers) else { return };
    let users: Vec<Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
    let mine = |user: &&Value| user["name"].as_str().is_some_and(|name| is_ours(name, prefix));
    let old =
        |user: &&Value| user["created"].as_str().and_then(|text| text.parse().ok()).is_some_and(|at| is_old(at, now));
    let names = users.iter().filter(mine).filter(old).filter_map(|user| user["name"].as_str());
    for name in names.take(SWEEP_MAX) {
        for url in [format!("{hub}users/{name}/server"), format!("{hub}users/{name}")] {
            // One that does not go now is found again by the next look.
            let _ = hub_ask(Method::DELETE, &url, token, Span::seconds(15)).send().await;
        }
    }
}

/// How many are removed after one look.
const SWEEP_MAX: usize = 5;

/// No look lasts so long.
const LEFT_BEHIND_AFTER: Span = Span::hours(2);

fn is_ours(name: &str, prefix: &str) -> bool {
    let ending = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
    ending.is_some_and(|ending| ending.len() == 8 && ending.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_old(created: Stamp, now: Stamp) -> bool {
    now.since(created) > LEFT_BEHIND_AFTER
}

fn hub_ask(method: Method, url: &str, token: &Secret, timeout: Span) -> Ask {
    Ask::new(method, url, timeout).secret_header("authorization", token.after("token "))
}

fn api_root(hub: &str) -> Result<Url, Trouble> {
    let text = format!("{}/hub/api/", hub.trim_end_matches('/'));
    Url::parse(&text).map_err(|error| Trouble::Blind(format!("`{}` is no address of a Hub: {error}", excerpt(hub))))
}

/// What an answer with the wrong status means. A token that is refused says nothing about the release.
pub(super) fn refusal(who: &str, answer: &Answer) -> Trouble {
    match answer.status {
        401 | 403 => Trouble::Blind(format!("{who} refuses our token ({}): {}", answer.status, reason(answer))),
        status => Trouble::Bad(format!("{who} answered {status}: {}", reason(answer))),
    }
}

/// Hub and server put their reason under `message`.
fn reason(answer: &Answer) -> String {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = document["message"].as_str().map(str::to_owned);
    excerpt(&message.unwrap_or_else(|| answer.text()))
}
