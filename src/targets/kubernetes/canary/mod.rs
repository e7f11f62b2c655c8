#![doc = include_str!("README.md")]

mod back;
mod capacity;
mod config;
mod copies;
mod dress;
mod forward;
mod joined;
mod labels;
mod names;
mod parts;
mod ready;
mod shape;
mod verify;

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use tokio::time::Instant;

pub use self::{
    config::{Config, Track},
    names::TREE,
    shape::hold_replicas,
};
use super::{
    manifest::Manifest,
    rollout,
    traffic::{
        Pair, Router,
        hand::{Hand, wrong},
        steer::Steer,
    },
};
use crate::{
    clients::kube::{Cluster, ObjectId},
    model::{Release, Share, Span, TreeId},
    targets::{Progress, TargetError},
};

/// So much time is left for the last look of an act, however late it is.
const LEFT_MIN: Duration = Duration::from_secs(1);

/// The canaries of an environment, for one act under one lease.
pub struct Canary<'a> {
    pub cluster: &'a Cluster,
    pub config: &'a Config,
    /// Where tracks are that name no namespace.
    pub namespace: &'a str,
    pub fence: u64,
    /// How pods are watched until they are ready.
    pub rollout: &'a rollout::Config,
    pub progress: &'a Progress,
}

/// Whether a release came up beside another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brought {
    Beside(String),
    /// There is nothing yet beside which it could run: the first release is simply applied.
    Alone(String),
}

/// What is there of the canaries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The tree that the canary runs; `None` without a canary.
    pub tree: Option<TreeId>,
    /// What the canary gets.
    pub share: Share,
    /// What somebody else did to routes or to the canary, a sentence each.
    pub foreign: Vec<String>,
    /// What is visibly wrong, a sentence each.
    pub broken: Vec<String>,
}

/// What the stable Deployments run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stable {
    /// None of them carries the candidate.
    Untouched,
    /// The candidate was applied to one of them, or one is gone: only applying the old release again brings it back.
    Changed,
}

impl Canary<'_> {
    /// Why there is nothing yet beside which the release could run.
    pub async fn alone(&self) -> Result<Option<String>, TargetError> {
        for stand in self.stands() {
            if stand.stable().await?.is_none() {
                let stable = stand.stable_id();
                return Ok(Some(format!("{stable} is not there yet; the first release is applied as it is")));
            }
        }
        Ok(None)
    }

    /// Refuses what could not come up, or what nobody could be led to, before anything is made.
    pub async fn rehearse(&self, release: &Release, manifests: &[Manifest]) -> Result<(), TargetError> {
        for stand in self.stands() {
            // What runs already was tried before.
            if stand.canary().await?.as_ref().and_then(tree_of).as_ref() != Some(&release.tree) {
                stand.rehearse(manifests).await?;
            }
        }
        Ok(())
    }

    /// Brings the release up beside stable, with no users on it.
    pub async fn bring_up(&self, release: &Release, manifests: &[Manifest]) -> Result<Brought, TargetError> {
        if let Some(note) = self.alone().await? {
            return Ok(Brought::Alone(note));
        }
        let mut notes = Vec::new();
        for stand in self.stands() {
            notes.push(stand.bring_up(release, manifests).await?);
        }
        Ok(Brought::Beside(notes.join("; ")))
    }

    /// Makes the canary ready for a share of the users, and moves nobody.
    pub async fn prepare(
        &self,
        release: &Release,
        manifests: &[Manifest],
        share: Share,
    ) -> Result<String, TargetError> {
        let mut notes = Vec::new();
        for stand in self.stands() {
            notes.extend(stand.prepare(release, manifests, share).await?);
        }
        Ok(notes.join("; "))
    }

    /// Gives the canary a share of the users, after it is ready for them; up to all of them.
    pub async fn shift(&self, release: &Release, manifests: &[Manifest], share: Share) -> Result<String, TargetError> {
        // All are ready before the first moves: a release is moved as a whole.
        let mut notes = vec![self.prepare(release, manifests, share).await?];
        notes.retain(|note| !note.is_empty());
        for stand in self.stands() {
            notes.push(stand.shift(release, share).await?);
        }
        Ok(notes.join("; "))
    }

    /// Before a release is applied to stable: the canary carries all users, or none.
    pub async fn hold(&self, keep: &Release) -> Result<String, TargetError> {
        let mut notes = Vec::new();
        for stand in self.stands() {
            notes.extend(stand.hold(keep).await?);
        }
        Ok(notes.join("; "))
    }

    /// Writes into manifests what users' routes say at this moment, so that applying them moves nobody.
    pub async fn shape(&self, manifests: &mut [Manifest]) -> Result<(), TargetError> {
        for stand in self.stands() {
            stand.shape(manifests).await?;
        }
        Ok(())
    }

    /// Puts all users on stable, when it has the capacity, and takes the canary down. `from` is what the canary ran, where
    /// it is known. A track that fails keeps its canary, and no other track waits for it.
    pub async fn hand_back(&self, from: Option<&Release>) -> Result<String, TargetError> {
        let stands = self.stands();
        let mut notes = Vec::new();
        let (mut free, mut moved, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        // First all users, then the rest: what is cleaned up can wait.
        let backs = join_all(stands.iter().map(|stand| stand.users_back().boxed())).await;
        for (stand, back) in stands.iter().zip(backs) {
            match back {
                Ok(back) => {
                    notes.extend(back.notes);
                    moved.extend(back.users.then_some(stand));
                    free.push(stand);
                }
                Err(error) => failed.push(error),
            }
        }
        notes.extend(join_all(moved.iter().map(|stand| stand.drained(from).boxed())).await.into_iter().flatten());
        for stand in free {
            failed.extend(stand.take_down().await.err());
        }
        match all_of(failed) {
            None => Ok(notes.join("; ")),
            Some(error) => Err(error),
        }
    }

    /// Whether the stable Deployments can be gone back to as they are.
    pub async fn stable_after(&self, from: &TreeId) -> Result<Stable, TargetError> {
        for stand in self.stands() {
            let Some(stable) = stand.stable().await? else { return Ok(Stable::Changed) };
            if stable["metadata"]["annotations"][TREE] == from.to_string().as_str() {
                return Ok(Stable::Changed);
            }
        }
        Ok(Stable::Untouched)
    }

    /// The Deployments beside stable, whether or not they are there.
    pub fn deployments(&self) -> Vec<ObjectId> {
        self.stands().iter().map(Stand::canary_id).collect()
    }

    /// What is there.
    pub async fn look(&self) -> Result<Seen, TargetError> {
        let mut seen = Seen::default();
        for stand in self.stands() {
            stand.look(&mut seen).await?;
        }
        Ok(seen)
    }

    /// A hand that only reads.
    fn hand(&self) -> Hand<'_> {
        Hand { cluster: self.cluster, fence: self.fence, owner: String::new() }
    }

    fn stands(&self) -> Vec<Stand<'_>> {
        // However many canaries there are and whatever each waits for, one act has the time of one rollout.
        let until = Instant::now() + self.rollout.within.as_duration();
        let stand = |track| Stand {
            until,
            pair: Track::pair(track, self.namespace),
            hand: Hand { cluster: self.cluster, fence: self.fence, owner: names::beside(&track.deployment) },
            home: self.namespace,
            name: names::beside(&track.deployment),
            track,
            rollout: self.rollout,
            progress: self.progress,
        };
        self.config.tracks.iter().map(stand).collect()
    }
}

/// One canary beside its stable Deployment.
struct Stand<'a> {
    hand: Hand<'a>,
    track: &'a Track,
    /// Where objects of the release are that name no namespace.
    home: &'a str,
    pair: Pair,
    /// The canary's Deployment.
    name: String,
    rollout: &'a rollout::Config,
    progress: &'a Progress,
    /// When everything that the act waits for must be there.
    until: Instant,
}

impl Stand<'_> {
    /// What is left of the time; a moment is always left, for what is ready already.
    fn within(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(LEFT_MIN)
    }

    /// The same for watching a rollout.
    fn rollout_left(&self) -> rollout::Config {
        let left = u64::try_from(self.within().as_millis()).unwrap_or(u64::MAX);
        rollout::Config { within: Span(left), ..self.rollout.clone() }
    }

    fn namespace(&self) -> &str {
        &self.pair.namespace
    }

    fn stable_id(&self) -> ObjectId {
        id("apps/v1", "Deployment", self.namespace(), &self.track.deployment)
    }

    fn canary_id(&self) -> ObjectId {
        id("apps/v1", "Deployment", self.namespace(), &self.name)
    }

    fn service_id(&self, name: &str) -> ObjectId {
        id("v1", "Service", self.namespace(), name)
    }

    async fn stable(&self) -> Result<Option<serde_json::Value>, TargetError> {
        self.hand.get(&self.stable_id()).await
    }

    async fn canary(&self) -> Result<Option<serde_json::Value>, TargetError> {
        self.hand.own(&self.canary_id()).await
    }

    fn steer(&self) -> Steer<'_> {
        Steer { hand: self.hand.clone(), router: &self.track.router, pair: &self.pair, extras: self.track.extras() }
    }

    /// The Service whose endpoints are the canary's pods; without a router they are in none until users come.
    fn canary_service(&self) -> Option<&str> {
        match &self.track.router {
            Router::Replicas => None,
            Router::Istio(istio) if istio.subsets.is_some() => Some(&self.pair.stable),
            Router::Gateway(_) | Router::Istio(_) | Router::Nginx(_) | Router::Traefik(_) | Router::Generic(_) => {
                Some(&self.pair.canary)
            }
        }
    }
}

/// Several failures as one; that somebody newer acts says more than all the others.
fn all_of(mut failed: Vec<TargetError>) -> Option<TargetError> {
    if let Some(fenced) = failed.iter().position(|error| matches!(error, TargetError::Fenced { .. })) {
        return Some(failed.swap_remove(fenced));
    }
    match failed.len() {
        0 | 1 => failed.pop(),
        _ => Some(wrong(failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))),
    }
}

/// The tree that an object of ours is of.
fn tree_of(object: &serde_json::Value) -> Option<TreeId> {
    object["metadata"]["annotations"][TREE].as_str().and_then(|text| text.parse().ok())
}

fn replicas_of(workload: &serde_json::Value) -> u32 {
    workload["spec"]["replicas"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
}

fn id(api_version: &str, kind: &str, namespace: &str, name: &str) -> ObjectId {
    ObjectId {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    }
}

/// An object of the release, by kind and name; one without a namespace is in the target's.
fn find<'m>(manifests: &'m [Manifest], wanted: &ObjectId, namespace: &str) -> Option<&'m Manifest> {
    manifests.iter().find(|manifest| is(&manifest.id, wanted, namespace))
}

fn is(found: &ObjectId, wanted: &ObjectId, namespace: &str) -> bool {
    let place = found.namespace.as_deref().unwrap_or(namespace);
    found.kind == wanted.kind
        && found.group() == wanted.group()
        && found.name == wanted.name
        && Some(place) == wanted.namespace.as_deref()
}

fn missing(what: &ObjectId, why: &str) -> TargetError {
    wrong(format!("{what} is not there; {why}"))
}
