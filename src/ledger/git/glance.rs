//! One look at all refs of an origin that many environments share: a controller with thousands of them asks the host as
//! often as one with a single one.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::{
    clients::git::{Git, GitError},
    model::Span,
};

/// What an origin's refs were a moment ago. Clones of this value share it.
#[derive(Clone)]
pub struct Glance(Arc<Shared>);

struct Shared {
    /// For how long what was seen counts.
    fresh: Duration,
    seen: Mutex<Option<Seen>>,
}

struct Seen {
    at: Instant,
    /// The refs, or why the host did not say.
    refs: Result<BTreeMap<String, String>, String>,
}

impl Glance {
    pub fn new(fresh: Span) -> Glance {
        Glance(Arc::new(Shared { fresh: fresh.as_duration(), seen: Mutex::default() }))
    }

    /// Where these refs point; the host is asked if what was seen is too old. Who comes meanwhile waits for the answer.
    pub(super) async fn refs(
        &self,
        git: &Git,
        remote: &str,
        names: &[String],
        timeout: Span,
    ) -> Result<BTreeMap<String, String>, GitError> {
        let mut seen = self.0.seen.lock().await;
        if seen.as_ref().is_none_or(|seen| seen.at.elapsed() >= self.0.fresh) {
            let began = Instant::now();
            let refs = git.all_refs(remote, timeout).await.map_err(|error| error.to_string());
            // A host that is down counts from its answer, so that those who wait do not ask it one after the other.
            let at = if refs.is_ok() { began } else { Instant::now() };
            *seen = Some(Seen { at, refs });
        }
        match seen.as_ref().map(|seen| &seen.refs) {
            Some(Ok(refs)) => {
                let found = names.iter().filter_map(|name| refs.get(name).map(|id| (name.clone(), id.clone())));
                Ok(found.collect())
            }
            Some(Err(why)) => Err(GitError::Failed(why.clone())),
            None => Ok(BTreeMap::new()),
        }
    }

    /// All refs as they were seen last; nothing if they never were.
    pub async fn seen(&self) -> BTreeMap<String, String> {
        match self.0.seen.lock().await.as_ref() {
            Some(Seen { refs: Ok(refs), .. }) => refs.clone(),
            Some(Seen { refs: Err(_), .. }) | None => BTreeMap::new(),
        }
    }

    /// What was seen does not count any more: somebody knows better.
    pub async fn forget(&self) {
        *self.0.seen.lock().await = None;
    }

    /// We moved this ref ourselves.
    pub(super) async fn moved(&self, name: &str, to: &str) {
        if let Some(Seen { refs: Ok(refs), .. }) = self.0.seen.lock().await.as_mut() {
            refs.insert(name.to_owned(), to.to_owned());
        }
    }
}
