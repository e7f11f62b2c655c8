//! Writes the objects of a release by server-side apply, in order, some at a time; or only tries it.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    runtime::wait::{await_condition, conditions},
};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    conflicts::{self, Conflict},
    fence::Guard,
    inventory::{ENVIRONMENT_LABEL, MANAGER},
    manifest::Manifest,
    order::{self, Rank},
    refusals::{self, world},
    scope,
    stage::Stage,
    traffic::hand::Hand,
};
use crate::{
    clients::kube::{Applied, How, KubeError, ObjectId},
    model::TreeId,
    targets::TargetError,
};

/// So many requests are under way at once.
const AT_ONCE: usize = 8;
/// A lost race with another writer of the object is run again at once, so often.
const RACES_MAX: u32 = 5;
/// How long a server that is away, or too busy, is waited for.
const AWAY_WITHIN: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// A log has so many lines at most of what is under way, however large a release is.
const STEPS_MAX: usize = 100;
/// How long a new CRD may take until its kind is served.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(60);

/// Which way a release is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To users: a field that someone else has stops it, unless the pipeline says `force`.
    Forward,
    /// Back to what was good: a hand edit must not stand in the way, except one that keeps more replicas up.
    Back,
    /// To stable, what users are on already: the same, for what has proven itself must not stop halfway.
    Through,
    /// Over what was changed by hand: everything is as the release says afterwards.
    Over,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wrote {
    pub objects: usize,
    pub created: usize,
    /// Fields that were taken from others.
    pub taken: Vec<Conflict>,
    /// Fields that were left to others.
    pub left: Vec<Conflict>,
    /// Jobs of another release that cannot be changed, and were left as they are.
    pub stayed: Vec<ObjectId>,
}

/// What trying it told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tried {
    pub there: usize,
    pub new: usize,
    /// Those that need a namespace or a kind that comes with the release itself.
    pub untried: usize,
}

/// Why one object was not applied.
enum Refused {
    Conflicts(Vec<Conflict>),
    Other(TargetError),
}

/// Applies everything in order. What the server said of each object is in the inventory afterwards, also after a failure.
pub async fn write(
    stage: &mut Stage<'_>,
    manifests: &[Manifest],
    tree: &TreeId,
    way: Way,
    guard: &Guard,
) -> Result<Wrote, TargetError> {
    let total = manifests.len();
    let mut wrote = Wrote::default();
    let mut conflicts = Vec::new();
    for (rank, same) in order::ranks(manifests) {
        guard.check_surely(&stage.held).await?;
        let run = Run { total, before: wrote.objects, ..Run::new(stage, tree, way, guard) };
        let results = run.all(&same).await;
        let noted = run.noted();
        wrote.taken.extend(noted.taken);
        wrote.left.extend(noted.left);
        wrote.stayed.extend(noted.stayed);
        let mut failure = None;
        for (manifest, result) in same.iter().zip(results) {
            match result {
                Some(Ok(applied)) => {
                    wrote.objects += 1;
                    wrote.created += usize::from(applied.created);
                    stage.held.inventory.objects.applied(&manifest.id, &applied.metadata, applied.created);
                }
                Some(Err(Refused::Conflicts(found))) => conflicts.extend(found),
                // The first by name, whichever came first in time.
                Some(Err(Refused::Other(error))) => failure = failure.or(Some(error)),
                None => {}
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if !conflicts.is_empty() {
            return Err(conflicts::refusal(&conflicts, wrote.objects));
        }
        if rank == Rank::Definitions {
            established(stage, &same).await?;
        }
    }
    Ok(wrote)
}

/// Asks the server whether it would take everything, and changes nothing. All conflicts are told at once.
pub async fn try_all(stage: &Stage<'_>, manifests: &[Manifest], tree: &TreeId) -> Result<Tried, TargetError> {
    let mut tried = Tried::default();
    let (mut new_namespaces, mut conflicts) = (Vec::new(), Vec::new());
    let (total, asked) = (manifests.len(), AtomicUsize::new(0));
    let try_one = |manifest| -> BoxFuture<'_, Result<Applied, Refused>> {
        let (trying, asked) = (try_one(stage, manifest, tree), &asked);
        Box::pin(async move {
            let result = trying.await;
            let done = asked.fetch_add(1, Ordering::Relaxed) + 1;
            // Of a few nobody wants to know how many are left.
            if total > STEPS_MAX && is_a_step(done, total) {
                stage.say(format!("asking the server whether it would take the release: {done} of {total}"));
            }
            result
        })
    };
    for (rank, same) in order::ranks(manifests) {
        let mut able = Vec::new();
        for manifest in same {
            let known = match stage.cluster.is_namespaced(&manifest.id).await {
                Ok(_) => true,
                // A kind that the release's own CRDs bring.
                Err(KubeError::UnknownKind { .. }) => false,
                Err(error) => return Err(refusals::about("try", &manifest.id, &error)),
            };
            match known && !scope::stands_on_new(&manifest.id, &new_namespaces) {
                true => able.push(manifest),
                false => tried.untried += 1,
            }
        }
        let results = join_some(able.iter().map(|manifest| try_one(*manifest))).await;
        for (manifest, result) in able.iter().zip(results) {
            match result {
                Ok(applied) if applied.created => {
                    tried.new += 1;
                    if rank == Rank::Namespaces {
                        new_namespaces.push(manifest.id.name.clone());
                    }
                }
                Ok(_) => tried.there += 1,
                Err(Refused::Conflicts(found)) => conflicts.extend(found),
                Err(Refused::Other(error)) => return Err(error),
            }
        }
    }
    match conflicts.is_empty() {
        true => Ok(tried),
        false => Err(conflicts::refusal(&conflicts, 0)),
    }
}

fn try_one<'b>(
    stage: &'b Stage<'_>,
    manifest: &'b Manifest,
    tree: &'b TreeId,
) -> BoxFuture<'b, Result<Applied, Refused>> {
    Box::pin(async move {
        let object = stage.mark(manifest, tree);
        let mut how = How { dry_run: true, strict: true, force: stage.config.force() };
        let mut patience = Patience::default();
        loop {
            let error = match stage.cluster.apply(&manifest.id, &object, MANAGER, how).await {
                Ok(applied) if applied.created => return Ok(applied),
                Ok(applied) => return free(stage, manifest).await.map(|()| applied).map_err(Refused::Other),
                Err(error) => error,
            };
            let conflicts = conflicts_in(manifest, &error);
            if conflicts::are_ours(&conflicts) && !how.force {
                how.force = true;
                continue;
            }
            if !conflicts.is_empty() {
                return Err(Refused::Conflicts(conflicts));
            }
            if !patience.again(&error).await {
                return Err(Refused::Other(refusals::of_apply(manifest, &error)));
            }
        }
    })
}

/// Refuses to take over an object that another environment of ours has, or that a controller made and would change back.
async fn free(stage: &Stage<'_>, manifest: &Manifest) -> Result<(), TargetError> {
    let id = &manifest.id;
    if stage.held.inventory.objects.get(id).is_some() {
        return Ok(());
    }
    let seen = stage.cluster.seen(id).await.map_err(|error| refusals::about("look at", id, &error))?;
    let Some(seen) = seen else { return Ok(()) };
    let label = seen.labels.as_ref().and_then(|labels| labels.get(ENVIRONMENT_LABEL));
    if let Some(other) = label.filter(|label| *label != stage.site.environment.as_str()) {
        return Err(world(format!(
            "{}: {id} belongs to the environment `{other}` of piton; give one of them another name or namespace, or take the \
             label `{ENVIRONMENT_LABEL}` off",
            manifest.spot()
        )));
    }
    let controller = seen.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    match controller {
        Some(owner) => Err(world(format!(
            "{}: {id} was made by {} {}, which would change it back; give it another name",
            manifest.spot(),
            owner.kind,
            owner.name
        ))),
        None => Ok(()),
    }
}

/// Results in the order of the futures, with some of them under way at once.
async fn join_some<'b, T: Send + 'b>(futures: impl Iterator<Item = BoxFuture<'b, T>>) -> Vec<T> {
    let futures: Vec<BoxFuture<'b, T>> = futures.collect();
    stream::iter(futures).buffered(AT_ONCE).collect().await
}

/// Whether so much is done that people should hear of it.
fn is_a_step(done: usize, total: usize) -> bool {
    done == total || done.is_multiple_of((total / STEPS_MAX).max(1))
}

/// Objects of one rank being applied.
struct Run<'b, 'a> {
    stage: &'b Stage<'a>,
    tree: &'b TreeId,
    way: Way,
    guard: &'b Guard,
    total: usize,
    before: usize,
    done: AtomicUsize,
    /// One has failed: no further one is begun.
    stop: AtomicBool,
    taken: Mutex<Vec<Conflict>>,
    left: Mutex<Vec<Conflict>>,
    stayed: Mutex<Vec<ObjectId>>,
}

impl<'b, 'a> Run<'b, 'a> {
    fn new(stage: &'b Stage<'a>, tree: &'b TreeId, way: Way, guard: &'b Guard) -> Run<'b, 'a> {
        Run {
            stage,
            tree,
            way,
            guard,
            total: 0,
            before: 0,
            done: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            taken: Mutex::default(),
            left: Mutex::default(),
            stayed: Mutex::default(),
        }
    }

    /// In the order of the manifests; `None`: not begun any more.
    async fn all(&self, manifests: &[&Manifest]) -> Vec<Option<Result<Applied, Refused>>> {
        join_some(manifests.iter().map(|manifest| self.unless_stopped(manifest))).await
    }

    fn noted(self) -> Wrote {
        fn inner<T>(list: Mutex<Vec<T>>) -> Vec<T> {
            list.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
        let (taken, left, stayed) = (inner(self.taken), inner(self.left), inner(self.stayed));
        Wrote { taken, left, stayed, ..Wrote::default() }
    }

    fn unless_stopped<'c>(&'c self, manifest: &'c Manifest) -> BoxFuture<'c, Option<Result<Applied, Refused>>> {
        Box::pin(async move {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let result = match self.guard.check() {
                Ok(()) => self.one(manifest).await,
                Err(fenced) => Err(Refused::Other(fenced)),
            };
            // Conflicts of all objects are told at once; anything else ends it.
            if matches!(result, Err(Refused::Other(_))) {
                self.stop.store(true, Ordering::Relaxed);
            }
            let done = self.before + self.done.fetch_add(1, Ordering::Relaxed) + 1;
            if is_a_step(done, self.total) {
                self.stage.say(format!("applied {done} of {}: {}", self.total, manifest.id));
            }
            Some(result)
        })
    }

    /// Applies one object: again where that helps, and with force where it may be used.
    async fn one(&self, manifest: &Manifest) -> Result<Applied, Refused> {
        let mut object = self.stage.mark(manifest, self.tree);
        let (mut patience, mut how) = (Patience::default(), How::default());
        loop {
            let error = match self.stage.cluster.apply(&manifest.id, &object, MANAGER, how).await {
                Ok(applied) if applied.metadata.deletion_timestamp.is_some() => {
                    self.until_gone(manifest, applied).await.map_err(Refused::Other)?;
                    continue;
                }
                Ok(applied) => return Ok(applied),
                Err(error) => error,
            };
            let conflicts = conflicts_in(manifest, &error);
            if conflicts::are_ours(&conflicts) && !how.force {
                how.force = true;
                continue;
            }
            if !conflicts.is_empty() && !how.force && (self.way != Way::Forward || self.stage.config.force()) {
                how.force = true;
                let live = self.replicas_there(manifest, &conflicts).await.map_err(Refused::Other)?;
                self.overrule(conflicts, live, &mut object);
                continue;
            }
            if !conflicts.is_empty() {
                return Err(Refused::Conflicts(conflicts));
            }
            if self.way != Way::Forward && manifest.id.kind == "Job" && error.is_immutable() {
                return self.stays(manifest).await.map_err(Refused::Other);
            }
            if !patience.again(&error).await {
                return Err(Refused::Other(refusals::of_apply(manifest, &error)));
            }
        }
    }

    /// What ran once cannot be made to have run otherwise: users must not wait for it on the way back.
    async fn stays(&self, manifest: &Manifest) -> Result<Applied, TargetError> {
        let id = &manifest.id;
        let seen = self.stage.cluster.seen(id).await.map_err(|error| refusals::about("look at", id, &error))?;
        self.stayed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(id.clone());
        Ok(Applied { metadata: seen.unwrap_or_default(), created: false })
    }

    /// How many replicas there are, where somebody else has set their number.
    async fn replicas_there(&self, manifest: &Manifest, conflicts: &[Conflict]) -> Result<Option<u64>, TargetError> {
        if !conflicts.iter().any(|conflict| conflict.field == conflicts::REPLICAS) {
            return Ok(None);
        }
        let hand =
            Hand { cluster: &self.stage.cluster, fence: self.stage.held.fence, owner: String::new(), held: None };
        Ok(hand.get(&manifest.id).await?.and_then(|live| live["spec"]["replicas"].as_u64()))
    }

    /// Notes what is taken from others.
    fn overrule(&self, conflicts: Vec<Conflict>, live: Option<u64>, object: &mut Value) {
        let leaves_more = conflicts::leaves_more(self.way, live, object);
        let keeps = |conflict: &Conflict| leaves_more && conflict.field == conflicts::REPLICAS;
        let (left, taken): (Vec<Conflict>, Vec<Conflict>) = conflicts.into_iter().partition(keeps);
        if let (false, Some(spec)) = (left.is_empty(), object.get_mut("spec").and_then(Value::as_object_mut)) {
            spec.remove("replicas");
        }
        self.left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(left);
        self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(taken);
    }

    /// The server takes changes to an object that is being deleted, and then it is gone with them.
    async fn until_gone(&self, manifest: &Manifest, applied: Applied) -> Result<(), TargetError> {
        let id = &manifest.id;
        self.stage.say(format!("waiting until {id}, which is being deleted, is gone"));
        let uid = applied.metadata.uid.unwrap_or_default();
        let api = self.stage.cluster.api(id).await.map_err(|error| refusals::about("find", id, &error))?;
        let within = self.stage.config.within();
        let gone = timeout(within.as_duration(), await_condition(api, &id.name, conditions::is_deleted(&uid))).await;
        match gone {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(world(format!("cannot see whether {id} is gone: {error}"))),
            Err(_) => Err(world(format!(
                "{id} has been marked for deletion and is not gone after {within}; look at its `metadata.finalizers`"
            ))),
        }
    }
}

fn conflicts_in(manifest: &Manifest, error: &KubeError) -> Vec<Conflict> {
    match error {
        KubeError::Refused(status) if status.code == 409 => conflicts::of(manifest, status),
        KubeError::Refused(_) | KubeError::Config(_) | KubeError::Unreachable(_) | KubeError::UnknownKind { .. } => {
            Vec::new()
        }
    }
}

/// How long and how often the same request is made again.
#[derive(Debug, Default)]
struct Patience {
    races: u32,
    tries: u32,
    since: Option<Instant>,
}

impl Patience {
    /// Waits, and says whether another try is worth it.
    async fn again(&mut self, error: &KubeError) -> bool {
        let asked = match error {
            KubeError::Refused(status) if status.code == 409 => {
                self.races += 1;
                return self.races <= RACES_MAX;
            }
            KubeError::Refused(status) if matches!(status.code, 429 | 502 | 503 | 504) => {
                status.details.as_ref().map_or(0, |details| details.retry_after_seconds)
            }
            KubeError::Unreachable(_) => 0,
            KubeError::Refused(_) | KubeError::Config(_) | KubeError::UnknownKind { .. } => return false,
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        let pause = (PAUSE * 2_u32.saturating_pow(self.tries)).min(PAUSE_MAX).max(Duration::from_secs(asked.into()));
        self.tries += 1;
        if since.elapsed() + pause > AWAY_WITHIN {
            return false;
        }
        sleep(pause).await;
        true
    }
}

/// Waits until the kinds of new CRDs are served.
async fn established(stage: &Stage<'_>, crds: &[&Manifest]) -> Result<(), TargetError> {
    stage.say("waiting until the new kinds are served");
    let api: Api<CustomResourceDefinition> = Api::all(stage.cluster.client.clone());
    let waits = crds.iter().map(|crd| {
        let api = api.clone();
        async move {
            let waited =
                timeout(ESTABLISHED_WITHIN, await_condition(api, &crd.id.name, conditions::is_crd_established()));
            match waited.await {
                Ok(Ok(_)) => served(stage, crd).await,
                Ok(Err(error)) => Err(world(format!("cannot see whether {} is established: {error}", crd.id))),
                Err(_) => Err(TargetError::Release(format!(
                    "{}: {} is not established after {} s; `kubectl describe crd` says why",
                    crd.spot(),
                    crd.id,
                    ESTABLISHED_WITHIN.as_secs()
                ))),
            }
        }
    });
    join_all(waits).await.into_iter().collect()
}

/// The list of kinds lags a little behind the condition.
async fn served(stage: &Stage<'_>, crd: &Manifest) -> Result<(), TargetError> {
    let spec = &crd.object["spec"];
    let versions = spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true);
    let since = Instant::now();
    for version in versions.filter_map(|version| version["name"].as_str()) {
        let mut id = crd.id.clone();
        id.api_version = format!("{}/{version}", spec["group"].as_str().unwrap_or_default());
        id.kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
        while let Err(error) = stage.cluster.is_namespaced(&id).await {
            if since.elapsed() > ESTABLISHED_WITHIN {
                return Err(refusals::of_apply(crd, &error));
            }
            sleep(PAUSE).await;
        }
    }
    Ok(())
}
