//! Waiting for what is really so, with an end and a reason.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use super::{Cluster, LONGEST};

/// From one look at the real thing to the next.
const PACE: Duration = Duration::from_millis(50);
/// One look may hang where the API server is paused.
const LOOK_WITHIN: Duration = Duration::from_secs(20);

/// What one look gives: what was waited for, or what is to be seen so far.
pub trait Look<T> {
    fn seen(self) -> Result<T, String>;
}

impl<T> Look<T> for Option<T> {
    fn seen(self) -> Result<T, String> {
        self.ok_or_else(|| "it is not so".to_owned())
    }
}

impl Look<()> for bool {
    fn seen(self) -> Result<(), String> {
        self.then_some(()).seen()
    }
}

impl<T, E: Display> Look<T> for Result<T, E> {
    fn seen(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

impl Cluster {
    /// Looks until it is so: the closure gives an `Option`, a `bool`, or a `Result` whose error says what is to be seen so far.
    pub async fn wait_until<T, L: Look<T>, F: Future<Output = L>>(&self, what: &str, look: impl FnMut() -> F) -> T {
        match until(what, LONGEST, look).await {
            Ok(seen) => seen,
            Err(why) => panic!("{why}\n{}", self.picture().await),
        }
    }

    /// What a person would look at first.
    async fn picture(&self) -> String {
        let pods = self.try_kubectl(&["get", "pods", "--all-namespaces", "--output=wide"]).await;
        let events = self.try_kubectl(&["get", "events", "--all-namespaces", "--field-selector=type=Warning"]).await;
        let text = |result: Result<String, String>| result.unwrap_or_else(|why| why);
        format!("--- pods\n{}\n--- warnings\n{}\n{}", text(pods), text(events), self.logs())
    }
}

/// Looks until it is so or the time is over.
pub async fn until<T, L: Look<T>, F: Future<Output = L>>(
    what: &str,
    longest: Duration,
    mut look: impl FnMut() -> F,
) -> Result<T, String> {
    let began = Instant::now();
    loop {
        let seen = match tokio::time::timeout(LOOK_WITHIN, look()).await {
            Ok(look) => look.seen(),
            Err(_) => Err(format!("one look took more than {LOOK_WITHIN:?}")),
        };
        match seen {
            Ok(seen) => return Ok(seen),
            Err(so_far) if began.elapsed() > longest => return Err(format!("waited {longest:?} for {what}: {so_far}")),
            // polls a real condition
            Err(_) => tokio::time::sleep(PACE).await,
        }
    }
}
