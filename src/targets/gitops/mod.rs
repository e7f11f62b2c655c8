#![doc = include_str!("README.md")]

mod apps;
mod config;
mod follow;
mod guard;
mod inventory;
mod live;
mod note;
mod pods;

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use serde_json::Value;
use tokio::{sync::OnceCell, time::Instant};

pub use self::config::Config;
use self::{
    apps::Seen,
    config::Unit,
    follow::{Before, Follow},
    pods::Pods,
};
use super::{Act, Difference, Done, Entry, Live, Rehearsal, Sights, Site, Target, TargetError};
use crate::{
    clients::kube::{Cluster, KubeError},
    model::{CommitId, Portion, Release, Share},
    pipeline::{Fault, Kind, Node, Splits, TargetKind, checked},
    targets::kubernetes::rollout,
};

/// The kind `gitops`.
pub const ENTRY: Entry = Entry {
    kind: TargetKind {
        kind: Kind {
            name: "gitops",
            about: "pushes a branch that Argo CD or Flux follows, and waits until it is synced and healthy",
            help: HELP,
            example: EXAMPLE,
            check,
            schema: |generator| generator.subschema_for::<Config>(),
        },
        splits,
    },
    build: |config, site| Ok(Box::new(GitOpsTarget::new(config, site)?)),
};

const HELP: &str = "\
Puts the release on `branch` as one commit with exactly its tree, on top of what is there, never by force; the message says what
it is and carries the lease's number, so that an older runner is refused. Then it waits, by a watch and not by asking again and
again, until the Argo CD `application`, the Flux `kustomization` or the Flux `helmrelease` is healthy at that very commit.

Meanwhile it looks at the pods of what the tool makes. One that is visibly broken (it crashes, its image cannot be pulled) ends the
wait within seconds, with the pod, its node and its log, long before the tool's own time-outs; and a Kustomization without
`wait: true`, which says that it is ready as soon as it is applied, is not believed before its Deployments, StatefulSets and
DaemonSets are ready. The gate `workload` goes on looking. Where the tool deploys to another cluster than its own, `workloads` says
which (`{identity, context, kubeconfig}`); without it, and with `pods: false`, the tool's word counts alone. It needs the right to
read workloads, ReplicaSets, pods, logs and events, and for a `helmrelease` the Secrets in which Helm keeps its revisions.

The way back pushes, too: one more commit with the last known-good tree, before anything is asked of the cluster, so that an API
server that is away does not hold it up. Flux takes it up only when its health checks of the commit
before are over: give it a short `timeout`, or the feature gate `CancelHealthCheckOnNewRevision`.

Drift is a branch whose head is not piton's commit with this release (who, when), a tool that is not at the head, is suspended or
follows something else, and objects that Argo CD calls out of sync. Before a release becomes the way back, and every day, its images
are looked up in their registries, and it is tried whether the tool would take it.

Before anything is pushed, the object must be there, follow this branch, and sync by itself; one that is suspended is refused. An
object that says `Degraded` or that its health checks failed at our commit ends the wait at once, with its message; what it said
before the push does not count. One that never takes up the commit within the time is not the release's fault, and what its
source says is told. A commit that somebody else pushes on top ends the wait, too.

`members` are several such objects, each with a branch of its own, for waves. `nudge: false` leaves out the annotation that asks
the tool to look at once (`reconcile.fluxcd.io/requestedAt` on the GitRepository, `argocd.argoproj.io/refresh` on the Application);
without the right to set it, the tool's own interval counts.

A `helmrelease` needs a chart from a GitRepository, best with `reconcileStrategy: Revision`: otherwise a change that leaves the
chart's version alone changes nothing. `cluster.identity` is the UID of the namespace `kube-system`:
  kubectl get namespace kube-system -o jsonpath={.metadata.uid}";

const EXAMPLE: &str = "\
gitops:
  branch: deploy/production
  kustomization: {name: hub, namespace: flux-system}
  cluster: {identity: 0e2f1a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b, context: prod}
  within: 10m
";

/// How many members are worked on at the same time.
const AT_ONCE: usize = 4;
/// How often a push is tried that others come before.
const RACES_MAX: usize = 5;

fn check(node: &Node) -> Result<Value, Fault> {
    let config: Config = node.read()?;
    config.units().map_err(|why| node.fault(why))?;
    checked::<Config>(node)
}

fn splits(config: &Value) -> Splits {
    // The configuration was checked before; one that was not splits nothing.
    let config: Option<Config> = serde_json::from_value(config.clone()).ok();
    let members = config.map(|config| config.members).unwrap_or_default();
    Splits { by_share: false, members: members.into_keys().collect(), ..Splits::default() }
}

/// A target that is one or more branches, each with an object that follows it.
pub struct GitOpsTarget {
    config: Config,
    units: Vec<Unit>,
    site: Site,
    /// A standing look at the pods of each unit, from the first time that somebody asks.
    standing: Vec<OnceCell<rollout::Standing>>,
}

impl GitOpsTarget {
    /// Takes a checked configuration.
    pub fn new(config: &Value, site: Site) -> Result<GitOpsTarget, TargetError> {
        let config: Config = serde_json::from_value(config.clone())
            .map_err(|error| world("cannot read the configuration of the target `gitops`", error))?;
        let units = config.units().map_err(|what| TargetError::World { what, source: None })?;
        let standing = units.iter().map(|_| OnceCell::new()).collect();
        Ok(GitOpsTarget { config, units, site, standing })
    }

    async fn perform_act(&self, act: &Act, fence: u64) -> Result<Done, TargetError> {
        let note = match act {
            Act::Apply { release } => self.apply(release, fence).await?,
            Act::Shift { release, to } => self.shift(release, to, fence).await?,
            Act::Retreat { from: _, to: Some(to) } => self.go_back(to, fence).await?,
            Act::Retreat { from, to: None } => self.take_out(from, fence).await?,
            Act::Settle { .. } => "nothing to take down".to_owned(),
        };
        self.site.progress.clear();
        Ok(Done { note, renderer: None })
    }

    /// Nothing is pushed yet; only what would stand in the way is looked for.
    async fn apply(&self, release: &Release, fence: u64) -> Result<String, TargetError> {
        let looked: Vec<_> = self.units.iter().map(|unit| self.ready_for(unit, fence).boxed()).collect();
        stream::iter(looked).buffered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(format!("release {} can be pushed", release.tree.short()))
    }

    async fn ready_for(&self, unit: &Unit, fence: u64) -> Result<(), TargetError> {
        let cluster = unit.cluster.connect().await?;
        self.look(&cluster, unit, true).await?;
        self.head(unit, fence).await.map(drop)
    }

    async fn shift(&self, release: &Release, to: &Portion, fence: u64) -> Result<String, TargetError> {
        let units: Vec<&Unit> = match to {
            Portion::Share(share) if *share == Share::WHOLE => self.units.iter().collect(),
            Portion::Share(share) => {
                let what = format!("cannot move {share} of the users: a branch has one release");
                return Err(TargetError::World { what, source: None });
            }
            Portion::Members(names) => names.iter().map(|name| self.member(name)).collect::<Result<_, _>>()?,
        };
        let several = units.len() > 1;
        let deployed: Vec<_> = units.into_iter().map(|unit| self.deploy(unit, release, fence).boxed()).collect();
        let notes: Result<Vec<String>, _> = stream::iter(deployed).buffer_unordered(AT_ONCE).try_collect().await;
        let notes = notes.map_err(|error: TargetError| error.among_others(several))?;
        Ok(notes.join("; "))
    }

    /// Every unit goes back, also when another one cannot.
    async fn go_back(&self, to: &Release, fence: u64) -> Result<String, TargetError> {
        let deployed: Vec<_> = self.units.iter().map(|unit| self.deploy_back(unit, to, fence).boxed()).collect();
        let ended: Vec<_> = stream::iter(deployed).buffer_unordered(AT_ONCE).collect().await;
        super::helm::all_or_first(ended)
    }

    /// There is nothing to go back to; a branch cannot say that nothing should be there.
    async fn take_out(&self, from: &Release, fence: u64) -> Result<String, TargetError> {
        for unit in &self.units {
            if self.head(unit, fence).await?.is_some_and(|head| head.tree == from.tree) {
                let (branch, release) = (&unit.branch, from.tree.short());
                let what = format!(
                    "{unit}: there is no release to go back to, and release {release} is on `{branch}`: push one that \
                     is good, or delete the object"
                );
                return Err(TargetError::World { what, source: None });
            }
        }
        Ok(format!("release {} is on no branch", from.tree.short()))
    }

    async fn deploy(&self, unit: &Unit, release: &Release, fence: u64) -> Result<String, TargetError> {
        let until = Instant::now() + self.config.within.as_duration();
        let cluster = unit.cluster.connect().await?;
        let (seen, watched) = self.look(&cluster, unit, true).await?;
        let before = Before::of(unit, &seen);
        let pods = self.pods(unit, &cluster, &seen, until).await?;
        let head = self.head(unit, fence).await?;
        let over_shoulder = head.is_none_or(|head| before.commit.as_deref() == Some(head.commit.as_str()));
        let commit = self.push(unit, release, false, fence).await?;
        self.nudge(unit, &cluster, &seen).await;
        let (cluster, commit, before) = (&cluster, &commit, &before);
        Follow { target: self, cluster, unit, commit, before, pods, over_shoulder, back: false, until }
            .run(watched)
            .await
    }

    /// Pushes before anything is asked of the cluster: the tool goes back whether or not anybody can look.
    async fn deploy_back(&self, unit: &Unit, release: &Release, fence: u64) -> Result<String, TargetError> {
        let until = Instant::now() + self.config.within.as_duration();
        let commit = &self.push(unit, release, true, fence).await?;
        let unseen = |error: TargetError| {
            let (at, branch) = (commit.short(), &unit.branch);
            let what = format!("{unit}: the way back is pushed to `{branch}` as {at}; whether it is taken is unknown");
            world(&what, error)
        };
        let cluster = unit.cluster.connect().await.map_err(unseen)?;
        // Whatever stands in the way may be gone before the time is over.
        let (seen, watched) = self.look(&cluster, unit, false).await.map_err(unseen)?;
        // What it says so early is of the commit before, also where it is at ours.
        let before = &Before::of(unit, &seen);
        // The tool's own word is enough.
        let pods = self.pods(unit, &cluster, &seen, until).await.unwrap_or_default();
        self.nudge(unit, &cluster, &seen).await;
        let cluster = &cluster;
        Follow { target: self, cluster, unit, commit, before, pods, over_shoulder: false, back: true, until }
            .run(watched)
            .await
    }

    /// Asks the tool to look at its branch; without the right to ask, its own interval counts.
    async fn nudge(&self, unit: &Unit, cluster: &Cluster, seen: &Seen) {
        let Some(object) = seen.object(unit).filter(|_| self.config.nudge) else { return };
        if let Err(error) = apps::nudge(cluster, unit, object).await {
            tracing::warn!(%error, "{unit}: cannot ask it to look at once; its own interval counts");
        }
    }

    /// The unit's pods as they are, where they can be looked at.
    async fn pods<'a>(
        &'a self,
        unit: &'a Unit,
        cluster: &Cluster,
        seen: &Seen,
        until: Instant,
    ) -> Result<Option<Pods<'a>>, TargetError> {
        let (Some(workloads), Some(object)) = (self.workloads(unit, cluster, seen).await?, seen.object(unit)) else {
            return Ok(None);
        };
        Ok(Some(Pods::before(workloads, unit, object, &self.site.progress, until).await))
    }

    /// The cluster in which the unit's pods can be looked at; `None`: nobody said which it is, or nobody is to look.
    async fn workloads(&self, unit: &Unit, own: &Cluster, seen: &Seen) -> Result<Option<Cluster>, TargetError> {
        let Some(object) = seen.object(unit).filter(|_| self.config.pods) else { return Ok(None) };
        match (&unit.workloads, inventory::elsewhere(unit, object)) {
            (Some(cluster), _) => cluster.connect().await.map(Some),
            (None, None) => Ok(Some(own.clone())),
            (None, Some(_)) => Ok(None),
        }
    }

    /// What the cluster says of the unit, and which objects will tell more.
    async fn look(
        &self,
        cluster: &Cluster,
        unit: &Unit,
        strict: bool,
    ) -> Result<(Seen, Vec<crate::clients::kube::ObjectId>), TargetError> {
        let cannot = |error: KubeError| world(&format!("{unit}: cannot look at it"), error);
        let id = apps::id(unit);
        let Some(object) = apps::get(cluster, &id).await.map_err(cannot)? else {
            let what = format!("{unit} is not there: make it, and let it follow the branch `{}`", unit.branch);
            return Err(TargetError::World { what, source: None });
        };
        let source = match apps::source(unit, &object) {
            Some(source) => apps::get(cluster, &source).await.map_err(cannot)?,
            None => None,
        };
        if let Some(what) = apps::obstacle(unit, &object, source.as_ref()).filter(|_| strict) {
            return Err(TargetError::World { what, source: None });
        }
        let mut seen = Seen::default();
        let mut watched: Vec<_> = [id.clone()].into_iter().chain(apps::source(unit, &object)).collect();
        if let Some(chart) = apps::chart(unit, &object) {
            if let Some(found) = apps::get(cluster, &chart).await.map_err(cannot)? {
                seen.0.insert(chart.clone(), found);
            }
            watched.push(chart);
        }
        seen.0.insert(id, object);
        Ok((seen, watched))
    }

    /// The branch's head, unless a newer lease or another environment pushed it.
    async fn head(&self, unit: &Unit, fence: u64) -> Result<Option<super::Head>, TargetError> {
        let head = self.site.trees.head(&unit.branch).await?;
        let Some(pusher) = head.as_ref().and_then(|head| note::read(&head.message)) else { return Ok(head) };
        if pusher.environment != self.site.environment.as_str() {
            let (branch, theirs) = (&unit.branch, pusher.environment);
            let what = format!("the branch `{branch}` is of the environment `{theirs}`: two cannot share one");
            return Err(TargetError::World { what, source: None });
        }
        match pusher.fence > fence {
            true => Err(TargetError::Fenced { ours: fence, seen: pusher.fence }),
            false => Ok(head),
        }
    }

    /// Puts the release on the branch; nothing when this lease put it there before.
    async fn push(&self, unit: &Unit, release: &Release, back: bool, fence: u64) -> Result<CommitId, TargetError> {
        for _ in 0..RACES_MAX {
            let head = self.head(unit, fence).await?;
            if let Some(head) = &head
                && head.tree == release.tree
                && note::read(&head.message).is_some_and(|pusher| pusher.fence == fence)
            {
                return Ok(head.commit.clone());
            }
            let message = note::write(&self.site.environment, release, back, fence);
            let seen = head.as_ref().map(|head| &head.commit);
            if let Some(commit) = self.site.trees.publish(&unit.branch, &release.tree, &message, seen).await? {
                self.site.progress.say(format!("{unit}: {} is pushed to `{}`", commit.short(), unit.branch));
                return Ok(commit);
            }
        }
        let what = format!("lost {RACES_MAX} races for the branch `{}`: who else pushes to it?", unit.branch);
        Err(TargetError::World { what, source: None })
    }

    fn member(&self, name: &str) -> Result<&Unit, TargetError> {
        let found = self.units.iter().find(|unit| unit.member.as_deref() == Some(name));
        found.ok_or_else(|| {
            let known: Vec<&str> = self.units.iter().filter_map(|unit| unit.member.as_deref()).collect();
            let what = format!("there is no member `{name}`; there are `{}`", known.join("`, `"));
            TargetError::World { what, source: None }
        })
    }
}

impl Target for GitOpsTarget {
    fn perform<'a>(&'a self, act: &'a Act, fence: u64) -> BoxFuture<'a, Result<Done, TargetError>> {
        Box::pin(self.perform_act(act, fence))
    }

    fn live(&self) -> BoxFuture<'_, Result<Live, TargetError>> {
        Box::pin(live::look(self))
    }

    fn sights(&self) -> Sights {
        Sights { drift: true, way_back: true }
    }

    fn drift<'a>(
        &'a self,
        release: &'a Release,
        _digests: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<Vec<Difference>, TargetError>> {
        Box::pin(guard::drift(self, release))
    }

    fn rehearse<'a>(&'a self, release: &'a Release) -> BoxFuture<'a, Result<Rehearsal, TargetError>> {
        Box::pin(async { Ok(guard::rehearse(self, release).await) })
    }
}

fn world(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> TargetError {
    TargetError::World { what: what.to_owned(), source: Some(Box::new(source)) }
}
