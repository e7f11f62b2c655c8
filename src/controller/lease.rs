//! Leader election over a Kubernetes Lease. Clocks of other machines are never believed: a lease that has not changed
//! for its length, by our own steady clock, is free. Who cannot renew in time leads no more, and the program ends.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use crate::{
    clients::kube::{Cluster, KubeError},
    commands::{FollowName, LeaseName},
    model::Span,
};

/// How a standby tells the leader that a repository has news: an annotation whose value changes.
const LOOK_ANNOTATION: &str = "look.piton.dev/";
/// How often a write that met another one is tried again at once.
const CONFLICTS_MAX: usize = 4;

/// The usual three.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// A lease that did not change for so long is free.
    pub duration: Span,
    /// A leader that could not renew for so long leads no more; shorter than the duration.
    pub deadline: Span,
    /// From one try to the next.
    pub retry: Span,
}

/// Whether we lead, by our own steady clock. Cheap enough to be asked before anything is begun.
#[derive(Debug, Clone)]
pub struct Hold(Arc<Held>);

#[derive(Debug)]
struct Held {
    base: Instant,
    /// In milliseconds since the base.
    until: AtomicU64,
}

/// Where this replica stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known yet, and why.
    Unknown(String),
    Standby {
        leader: String,
    },
    Leading(Term),
    /// The program must end.
    Lost(String),
}

/// A leader's term.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Term {
    /// How often the Lease changed hands.
    pub transitions: i32,
    /// Who led before, if it did not let go by itself.
    pub predecessor: Option<String>,
}

/// One replica's part in the election.
pub struct Election {
    api: Api<Lease>,
    name: LeaseName,
    identity: String,
    times: LeaseTimes,
    hold: Hold,
    /// The Lease as we wrote it last.
    ours: Option<Lease>,
    /// What others wrote last, and when we saw it.
    seen: Option<(LeaseSpec, Instant)>,
    term: Option<Term>,
    /// The hints of standbys as they were seen last, and whether we have looked at all.
    looks: BTreeMap<String, String>,
    has_heard: bool,
    to_look: mpsc::Sender<String>,
    metrics: Metrics,
}

enum Round {
    Ours(Term),
    Theirs(String),
}

impl Hold {
    /// Nobody to ask: we always lead.
    pub fn for_ever() -> Hold {
        Hold(Arc::new(Held { base: Instant::now(), until: AtomicU64::new(u64::MAX) }))
    }

    pub fn not_yet() -> Hold {
        Hold(Arc::new(Held { base: Instant::now(), until: AtomicU64::new(0) }))
    }

    pub fn is_held(&self) -> bool {
        self.left() > Duration::ZERO
    }

    fn left(&self) -> Duration {
        let until = self.0.until.load(Ordering::Acquire);
        if until == u64::MAX {
            return Duration::MAX;
        }
        Duration::from_millis(until).saturating_sub(self.0.base.elapsed())
    }

    /// Counted from before the request was sent: from then on others count, too.
    fn renewed(&self, sent: Instant, deadline: Span) {
        let until = sent.duration_since(self.0.base) + deadline.as_duration();
        self.0.until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX - 1), Ordering::Release);
    }

    fn drop_it(&self) {
        self.0.until.store(0, Ordering::Release);
    }
}

impl Election {
    pub fn new(
        cluster: &Cluster,
        name: LeaseName,
        identity: String,
        times: LeaseTimes,
        hold: Hold,
        to_look: mpsc::Sender<String>,
        metrics: Metrics,
    ) -> Election {
        let api = Api::namespaced(cluster.client.clone(), &name.namespace);
        let (ours, seen, term, looks, has_heard) = (None, None, None, BTreeMap::new(), false);
        Election { api, name, identity, times, hold, ours, seen, term, looks, has_heard, to_look, metrics }
    }

    /// Takes part until the term is lost, or until `resign`, which lets the Lease go.
    pub async fn run(mut self, standing: watch::Sender<Standing>, resign: CancellationToken) {
        loop {
            let sent = Instant::now();
            self.metrics.asked_cluster("lease");
            let round = tokio::time::timeout(self.patience(), self.once()).await;
            match round {
                Ok(Ok(Round::Ours(term))) => self.won(sent, term, &standing),
                Ok(Ok(Round::Theirs(leader))) if self.term.is_some() => {
                    return self.lost(&standing, format!("{leader} has taken it"));
                }
                Ok(Ok(Round::Theirs(leader))) => say(&standing, Standing::Standby { leader }),
                Ok(Err(error)) => self.failed(&standing, &error.to_string()),
                Err(_) => self.failed(&standing, "the API server did not answer in time"),
            }
            if self.term.is_some() && !self.hold.is_held() {
                return self.lost(&standing, format!("it could not be renewed for {}", self.times.deadline));
            }
            tokio::select! {
                biased;
                () = resign.cancelled() => return self.release().await,
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
    }

    fn won(&mut self, sent: Instant, term: Term, standing: &watch::Sender<Standing>) {
        self.hold.renewed(sent, self.times.deadline);
        if self.term.is_none() {
            tracing::info!(lease = %self.name, transitions = term.transitions, "this replica leads");
            self.term = Some(term.clone());
            say(standing, Standing::Leading(term));
        }
    }

    fn lost(&self, standing: &watch::Sender<Standing>, why: String) {
        self.hold.drop_it();
        say(standing, Standing::Lost(format!("lost the Lease {}: {why}", self.name)));
    }

    fn failed(&self, standing: &watch::Sender<Standing>, why: &str) {
        let why = format!("cannot keep the Lease {}: {why}", self.name);
        if self.term.is_some() {
            tracing::warn!("{why}");
            return;
        }
        let new = Standing::Unknown(why.clone());
        if *standing.borrow() != new {
            tracing::error!("{why}");
        }
        say(standing, new);
    }

    /// A request of a leader may not outlast what is left of its term.
    fn patience(&self) -> Duration {
        let longest = self.times.deadline.as_duration() / 2;
        if self.term.is_some() { longest.min(self.hold.left()) } else { longest }
    }

    fn pause(&self) -> Duration {
        let retry = self.times.retry.as_duration();
        if self.term.is_some() { retry.min(self.hold.left()) } else { retry }
    }

    async fn once(&mut self) -> Result<Round, KubeError> {
        for _ in 0..CONFLICTS_MAX {
            let lease = match self.ours.take() {
                Some(lease) => Some(lease),
                None => self.api.get_opt(&self.name.name).await?,
            };
            let Some(lease) = lease else {
                match self.api.create(&PostParams::default(), &self.first()).await {
                    Ok(lease) => return Ok(self.wrote(lease, Term::default())),
                    Err(error) if is_conflict(&error) => continue,
                    Err(error) => return Err(error.into()),
                }
            };
            self.hear(&lease);
            let (term, next) = match self.claim(&lease) {
                Ok(claim) => claim,
                Err(leader) => return Ok(Round::Theirs(leader)),
            };
            match self.api.replace(&self.name.name, &PostParams::default(), &next).await {
                Ok(lease) => return Ok(self.wrote(lease, term)),
                // Somebody wrote meanwhile: look again.
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Nobody has taken it: only the hold says when it is over.
        Err(KubeError::Unreachable("others write the Lease all the time".to_owned()))
    }

    fn wrote(&mut self, lease: Lease, term: Term) -> Round {
        self.hear(&lease);
        self.ours = Some(lease);
        Round::Ours(self.term.clone().unwrap_or(term))
    }

    /// The Lease as it is to be written to make it ours, or whose it is.
    fn claim(&mut self, lease: &Lease) -> Result<(Term, Lease), String> {
        let spec = lease.spec.clone().unwrap_or_default();
        let free = self.is_free(&spec);
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty());
        let transitions = spec.lease_transitions.unwrap_or(0);
        let (term, acquired) = match holder {
            Some(holder) if holder == self.identity => {
                (Term { transitions, predecessor: None }, spec.acquire_time.clone())
            }
            Some(holder) if !free => return Err(holder),
            predecessor => (Term { transitions: transitions.saturating_add(1), predecessor }, None),
        };
        let spec = self.spec(term.transitions, acquired);
        Ok((term, Lease { metadata: lease.metadata.clone(), spec: Some(spec) }))
    }

    /// Whether the holder has shown no life for the lease's own length, as long as we have been looking.
    fn is_free(&mut self, spec: &LeaseSpec) -> bool {
        let now = Instant::now();
        let since = match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            Some(_) | None => {
                self.seen = Some((spec.clone(), now));
                now
            }
        };
        let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let length = seconds.map_or(self.times.duration.as_duration(), Duration::from_secs);
        now.duration_since(since) >= length
    }

    fn first(&self) -> Lease {
        let metadata = ObjectMeta { name: Some(self.name.name.clone()), ..ObjectMeta::default() };
        Lease { metadata, spec: Some(self.spec(0, None)) }
    }

    fn spec(&self, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(jiff::Timestamp::now());
        let seconds = self.times.duration.0.div_ceil(1_000);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// What standbys have written on the Lease.
    fn hear(&mut self, lease: &Lease) {
        // What stood there before we came is old.
        let known = std::mem::replace(&mut self.has_heard, true);
        for (name, value) in lease.metadata.annotations.iter().flatten() {
            let Some(followed) = name.strip_prefix(LOOK_ANNOTATION) else { continue };
            let before = self.looks.insert(followed.to_owned(), value.clone());
            if before.as_ref() != Some(value) && known {
                // A full queue means that it is looked at anyway.
                let _ = self.to_look.try_send(followed.to_owned());
            }
        }
    }

    /// Lets the Lease go, so that the next one need not wait for its end.
    async fn release(mut self) {
        self.hold.drop_it();
        if self.term.is_none() {
            return;
        }
        let released = tokio::time::timeout(self.times.deadline.as_duration() / 2, self.let_go()).await;
        match released {
            Ok(Ok(())) => tracing::info!(lease = %self.name, "the Lease is released"),
            Ok(Err(error)) => tracing::warn!(lease = %self.name, %error, "the Lease could not be released"),
            Err(_) => tracing::warn!(lease = %self.name, "the Lease could not be released in time"),
        }
    }

    async fn let_go(&mut self) -> Result<(), KubeError> {
        for _ in 0..CONFLICTS_MAX {
            let Some(mut lease) = self.api.get_opt(&self.name.name).await? else { return Ok(()) };
            let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
            else {
                return Ok(());
            };
            (spec.holder_identity, spec.lease_duration_seconds) = (Some(String::new()), Some(1));
            match self.api.replace(&self.name.name, &PostParams::default(), &lease).await {
                Ok(_) => return Ok(()),
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Tells the leader, through the Lease, that a repository has news.
pub async fn tell_leader(cluster: &Cluster, name: &LeaseName, followed: &FollowName) -> Result<(), KubeError> {
    let api: Api<Lease> = Api::namespaced(cluster.client.clone(), &name.namespace);
    let annotation = format!("{LOOK_ANNOTATION}{followed}");
    let patch = json!({ "metadata": { "annotations": { annotation: jiff::Timestamp::now().to_string() } } });
    api.patch_metadata(&name.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn say(standing: &watch::Sender<Standing>, new: Standing) {
    standing.send_if_modified(|old| {
        let changed = *old != new;
        *old = new;
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_ends_by_our_own_clock() {
        let hold = Hold::not_yet();
        assert!(!hold.is_held());
        hold.renewed(Instant::now(), Span::minutes(1));
        assert!(hold.is_held());
        hold.renewed(Instant::now(), Span(0));
        assert!(!hold.is_held(), "its deadline is over");
        assert!(Hold::for_ever().is_held());
    }
}
