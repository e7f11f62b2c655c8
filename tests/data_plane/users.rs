//! Somebody who asks all the time, and writes down what came back.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use piton::model::Stamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::until_or;

/// From one question to the next.
const PACE: Duration = Duration::from_millis(10);
/// Longer than any honest answer, on the most loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came back: the version that answered, or what went wrong.
#[derive(Debug, Clone)]
pub struct Answer {
    /// When it was asked.
    pub at: Stamp,
    pub said: Result<String, String>,
}

pub struct Users {
    seen: Arc<Mutex<Vec<Answer>>>,
    over: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Users {
    /// Asks this address for its version from here on, with these headers.
    pub fn of(url: &str, headers: &[(&'static str, &'static str)]) -> Users {
        let (seen, over) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
        let (notes, end, url, headers) = (seen.clone(), over.clone(), url.to_owned(), headers.to_vec());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let client = Client::builder(TokioExecutor::new()).build_http();
                let mut ticks = tokio::time::interval(PACE);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while !end.is_cancelled() {
                    ticks.tick().await;
                    let at = now();
                    let asking = tokio::time::timeout(PATIENCE, ask(&client, &url, &headers));
                    let said = asking.await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
                    lock(&notes).push(Answer { at, said });
                }
            });
        });
        Users { seen, over, thread: Some(thread) }
    }

    /// What came back so far.
    pub fn answers(&self) -> Vec<Answer> {
        lock(&self.seen).clone()
    }

    /// Waits until this version answers somebody who asks from here on.
    pub fn until_served(&self, version: &str) {
        let since = now();
        let served = || {
            let answers = self.answers();
            let served = |answer: &&Answer| answer.at > since && answer.said.as_deref() == Ok(version);
            answers.iter().find(served).map(drop)
        };
        until_or(&format!("{version} to answer"), served, || self.told());
    }

    /// Ends it; nobody was ever turned away.
    pub fn were_all_served(mut self) -> Vec<Answer> {
        self.end();
        let answers = self.answers();
        let failed: Vec<_> = answers.iter().filter(|answer| answer.said.is_err()).collect();
        assert!(failed.is_empty(), "{} of {} requests failed: {}", failed.len(), answers.len(), self.told());
        answers
    }

    /// Ends it; what came back.
    pub fn end(&mut self) -> Vec<Answer> {
        self.over.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.answers()
    }

    /// Runs of equal answers, in their order.
    pub fn told(&self) -> String {
        let mut runs: Vec<(String, usize)> = Vec::new();
        for answer in self.answers() {
            let said = answer.said.unwrap_or_else(|why| format!("({why})"));
            match runs.last_mut() {
                Some((last, count)) if *last == said => *count += 1,
                _ => runs.push((said, 1)),
            }
        }
        let text: Vec<String> = runs.iter().map(|(said, count)| format!("{count} {said}")).collect();
        text[text.len().saturating_sub(40)..].join(", ")
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.end();
    }
}

async fn ask(
    client: &Client<hyper_util::client::legacy::connect::HttpConnector, Empty<Bytes>>,
    url: &str,
    headers: &[(&'static str, &'static str)],
) -> Result<String, String> {
    let mut request = Request::get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::new()).expect("a good request");
    let answer = client.request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    match body["version"].as_str().filter(|_| status.is_success()) {
        Some(version) => Ok(version.to_owned()),
        None => Err(status.to_string()),
    }
}

pub fn now() -> Stamp {
    Stamp(jiff::Timestamp::now().as_millisecond())
}

fn lock(seen: &Mutex<Vec<Answer>>) -> MutexGuard<'_, Vec<Answer>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
