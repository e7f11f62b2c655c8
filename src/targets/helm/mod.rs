#![doc = include_str!("README.md")]

mod charts;
mod cluster;
mod config;
mod deploy;
mod drift;
mod failure;
mod flags;
mod live;
mod objects;
mod oci;
mod program;
mod record;
mod storage;
mod stuck;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use serde_json::Value;
use tokio::sync::OnceCell;

pub use self::{cluster::ClusterConfig, config::Config};
use self::{
    config::Unit,
    deploy::{Deploy, Rehearsed, Way},
    program::Helm,
    record::Record,
    storage::{Status, StorageError},
};
pub(super) use self::{
    storage::Storage,
    watch::{Shoulder, known_objects},
};
use super::{Act, Difference, Done, Entry, Live, Rehearsal, Sights, Site, Target, TargetError, kubernetes::proof};
use crate::{
    clients::kube::Cluster,
    model::{Portion, Release, Share},
    pipeline::{Fault, Kind, Node, Splits, TargetKind, checked},
};

/// The kind `helm`.
pub const ENTRY: Entry = Entry {
    kind: TargetKind {
        kind: Kind {
            name: "helm",
            about: "upgrades Helm releases, watches them itself, and goes back to the last good tree",
            help: HELP,
            example: EXAMPLE,
            check,
            schema: |generator| generator.subschema_for::<Config>(),
        },
        splits,
    },
    build: |config, site| Ok(Box::new(HelmTarget::new(config, site)?)),
};

const HELP: &str = "\
Runs `helm upgrade --install` (Helm 3 or 4) with the chart, the values files and the flags of the release's tree, and hooks as they
are in the chart. Before users see anything, the release is rendered against the cluster and every object is put to the API server
as a dry run, so that a template that fails, an admission refusal or a field that cannot change is found first.

Helm waits for nothing but its hooks: piton watches the objects of the release itself, also while Helm is at work on hooks. A pod
that is visibly broken ends the upgrade within seconds: Helm is killed, its open revision is marked as failed, and piton goes back.

The way back is the last known-good tree once more: its own chart, its own values, a new revision; never Helm's `rollback` and
never a value from Helm's memory. What a failed upgrade added (fields, containers, objects) is removed with it. A revision that a
killed Helm left in `pending-upgrade` is marked as failed by the way back; a deploy forward is refused and says since when. While
Helm is at work the number of the lease is watched: where a newer runner begins, the Helm of the older one is killed first.

`chart` is a folder of the tree, or `{from, version, digest}` of a packaged one: `oci://…`, or a repository with `name`. Only
exactly that content is deployed, and it is kept, so that going back needs no registry. `digests` names a file of the tree with a
digest for each version, for a `version` such as `${version.hub}`. For `oci://`, the digest is what `helm push` printed (of the
manifest, which is looked up in the registry) or that of the package; a registry on this machine is spoken to without TLS. What the
chart depends on must lie in its `charts/`; `dependencies: update` fetches it at the deploy. A link in the chart or among the values files
that leads out of the release is refused. `hooks: skip` runs none.

Drift is a revision that piton did not deploy (`helm upgrade` by hand, with its time), and fields of the objects in the manifest of
piton's own revision that are not as it says, with the manager that changed them and when; what others set besides is theirs. Before a
release becomes the way back, and every day, it is rendered and tried, and its images are looked up in their registries.

`members` are releases of the same chart in other namespaces or clusters, for waves; their `values` and `set` come after those
of all. In `values`, `set` and `version`: `${environment}`, `${member}`, `${tree}`, `${source}`, `${version.COMPONENT}`.

`cluster.identity` is the UID of the namespace `kube-system` and is checked before anything is written:
  kubectl get namespace kube-system -o jsonpath={.metadata.uid}
Flags that would work against all this are refused with the reason: `--wait`, `--atomic`, `--reuse-values`, `--kube-context`…
The ConfigMap `piton-ENVIRONMENT` beside each release holds what was deployed and the lease's number: an older runner is refused,
and so is another pipeline with an environment of the same name.";

const EXAMPLE: &str = "\
helm:
  release: hub
  namespace: hub
  chart: charts/hub
  values: [config/common.yaml, 'config/${environment}.yaml']
  set: ['hub.image.tag=${version.hub}']
  flags: [--create-namespace]
  cluster: {identity: 0e2f1a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b, context: prod}
  within: 10m
";

/// How many members are worked on at the same time.
const AT_ONCE: usize = 4;
/// How many checkouts stay on the disk.
const CHECKOUTS_KEPT: usize = 5;

fn check(node: &Node) -> Result<Value, Fault> {
    let config: Config = node.read()?;
    config.units().map_err(|why| node.fault(why))?;
    checked::<Config>(node)
}

fn splits(config: &Value) -> Splits {
    // The configuration was checked before; one that was not splits nothing.
    let config: Option<Config> = serde_json::from_value(config.clone()).ok();
    let members = config.map(|config| config.members).unwrap_or_default();
    Splits { members: members.into_keys().collect(), ..Splits::default() }
}

/// A target that is one or more Helm releases.
pub struct HelmTarget {
    config: Config,
    units: Vec<Unit>,
    site: Site,
    helm: Helm,
    version: OnceCell<String>,
}

/// Where one unit lives.
pub struct Place {
    cluster: Cluster,
    storage: Storage,
    record: Record,
}

impl HelmTarget {
    /// Takes a checked configuration.
    pub fn new(config: &Value, mut site: Site) -> Result<HelmTarget, TargetError> {
        let config: Config = serde_json::from_value(config.clone())
            .map_err(|error| world("cannot read the configuration of the target `helm`", error))?;
        let units = config.units().map_err(|what| TargetError::World { what, source: None })?;
        site.state_dir = std::path::absolute(&site.state_dir)
            .map_err(|error| world(&format!("cannot find the folder {}", site.state_dir.display()), error))?;
        Ok(HelmTarget { helm: Helm::new(&config), units, config, site, version: OnceCell::new() })
    }

    async fn perform_act(&self, act: &Act, fence: u64) -> Result<Done, TargetError> {
        let note = match act {
            Act::Apply { release } => self.apply(release, fence).await?,
            Act::Shift { release, to } => self.shift(release, to, fence).await?,
            // Over what was changed by hand.
            Act::Retreat { from, to: Some(to) } if from.tree == to.tree => self.go_back(to, fence, Way::Over).await?,
            Act::Retreat { from: _, to: Some(to) } => self.go_back(to, fence, Way::Back).await?,
            Act::Retreat { from, to: None } => self.take_out(from, fence).await?,
            Act::Settle { .. } => "nothing to take down".to_owned(),
        };
        self.site.progress.clear();
        Ok(Done { note, renderer: None })
    }

    async fn apply(&self, release: &Release, fence: u64) -> Result<String, TargetError> {
        let rehearsed =
            self.units.iter().map(|unit| self.deploy(unit, release, fence, Way::Forward).rehearse().boxed());
        let charts: Vec<Rehearsed> = stream::iter(each(rehearsed)).buffered(AT_ONCE).try_collect().await?;
        let version = self.version().await?;
        let note = |done: Rehearsed| format!("rendered {} {} by Helm {version}", done.chart, done.digest);
        let notes: BTreeSet<String> = charts.into_iter().map(note).collect();
        Ok(notes.into_iter().collect::<Vec<_>>().join("; "))
    }

    async fn shift(&self, release: &Release, to: &Portion, fence: u64) -> Result<String, TargetError> {
        let units: Vec<&Unit> = match to {
            Portion::Share(share) if *share == Share::WHOLE => self.units.iter().collect(),
            Portion::Share(share) => {
                let what = format!("cannot move {share} of the users: a Helm release has all of them or none");
                return Err(TargetError::World { what, source: None });
            }
            Portion::Members(names) => names.iter().map(|name| self.member(name)).collect::<Result<_, _>>()?,
        };
        let several = units.len() > 1;
        // The first that fails ends the others: what they left open is mended by the way back.
        let deployed = units.into_iter().map(|unit| self.deploy(unit, release, fence, Way::Forward).run().boxed());
        let notes: Result<Vec<String>, _> = stream::iter(each(deployed)).buffer_unordered(AT_ONCE).try_collect().await;
        let notes = notes.map_err(|error: TargetError| error.among_others(several))?;
        self.prune(release);
        Ok(notes.join("; "))
    }

    /// Every unit goes back, also when another one cannot.
    async fn go_back(&self, to: &Release, fence: u64, way: Way) -> Result<String, TargetError> {
        let deployed = self.units.iter().map(|unit| self.deploy(unit, to, fence, way).run().boxed());
        let ended: Vec<_> = stream::iter(each(deployed)).buffer_unordered(AT_ONCE).collect().await;
        self.prune(to);
        all_or_first(ended)
    }

    async fn take_out(&self, from: &Release, fence: u64) -> Result<String, TargetError> {
        let taken = self.units.iter().map(|unit| self.take_out_one(unit, from, fence).boxed());
        all_or_first(stream::iter(each(taken)).buffer_unordered(AT_ONCE).collect().await)
    }

    /// Piton has nothing to go back to. What Helm had before piton came is still better than nothing.
    async fn take_out_one(&self, unit: &Unit, from: &Release, fence: u64) -> Result<String, TargetError> {
        let place = self.place(unit).await?;
        place.record.check(fence).await?;
        let revisions = place.storage.revisions().await?;
        let Some(last) = revisions.last() else { return Ok(format!("{unit}: it is not there")) };
        if last.tree.is_none() && stuck::pending(&revisions).is_none() {
            return Ok(format!("{unit}: release {} never came here", from.tree.short()));
        }
        let known = place.record.change(fence, |_| ()).await?;
        let revisions = deploy::alone(&place, &known, fence).await?;
        place.record.change(fence, |known| *known = record::Known::default()).await?;
        if let Some(open) = stuck::pending(&revisions) {
            stuck::end(&place, open).await?;
        }
        // An install that Helm gave up waiting for may well serve, and its claims hold data: better than taken down.
        let was_good = |status: &Status| matches!(status, Status::Deployed | Status::Superseded);
        let failed = |status: &Status| *status == Status::Failed;
        let foreign = || revisions.iter().rev().filter(|revision| revision.tree.is_none());
        let before = foreign().find(|revision| was_good(&revision.status));
        let before = before.or_else(|| foreign().find(|revision| failed(&revision.status)));
        match before {
            Some(before) => {
                let rollback = self.helm.rollback(unit, before.number, self.config.hooks);
                place.record.while_ours(fence, rollback).await?;
                Ok(format!("{unit}: revision {}, which was there before piton came, is deployed again", before.number))
            }
            None => {
                place.record.while_ours(fence, self.helm.uninstall(unit, self.config.hooks)).await?;
                Ok(format!("{unit}: taken down, as there was nothing before it"))
            }
        }
    }

    fn deploy<'a>(&'a self, unit: &'a Unit, release: &'a Release, fence: u64, way: Way) -> Deploy<'a> {
        Deploy { target: self, unit, release, fence, way }
    }

    /// Connects to the unit's cluster, which must be the one that is meant.
    async fn place(&self, unit: &Unit) -> Result<Place, TargetError> {
        let cluster = unit.cluster.connect().await?;
        let storage = Storage::new(&cluster, &unit.namespace, &unit.release);
        let record = Record::new(&cluster, &unit.namespace, &self.site, &unit.release);
        Ok(Place { cluster, storage, record })
    }

    async fn version(&self) -> Result<&str, TargetError> {
        self.version.get_or_try_init(|| self.helm.version()).await.map(String::as_str)
    }

    fn member(&self, name: &str) -> Result<&Unit, TargetError> {
        let found = self.units.iter().find(|unit| unit.member.as_deref() == Some(name));
        found.ok_or_else(|| {
            let known: Vec<&str> = self.units.iter().filter_map(|unit| unit.member.as_deref()).collect();
            let what = format!("there is no member `{name}`; there are `{}`", known.join("`, `"));
            TargetError::World { what, source: None }
        })
    }

    /// Old checkouts go; a failure costs disk space and is told at the next full disk.
    fn prune(&self, needed: &Release) {
        let needed = [needed.tree.as_str().into()];
        if let Err(error) = super::checkouts::prune(&self.site.state_dir, &needed, CHECKOUTS_KEPT) {
            tracing::warn!(%error, "cannot remove old checkouts in {}", self.site.state_dir.display());
        }
    }
}

impl Target for HelmTarget {
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
        digests: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<Vec<Difference>, TargetError>> {
        Box::pin(drift::see(self, release, digests))
    }

    fn rehearse<'a>(&'a self, release: &'a Release) -> BoxFuture<'a, Result<Rehearsal, TargetError>> {
        Box::pin(async move {
            let mut rehearsal = Rehearsal::default();
            for unit in &self.units {
                // Nothing is written, so that the number cannot be too old.
                match self.deploy(unit, release, u64::MAX, Way::Back).rehearse().await {
                    Ok(Rehearsed { chart, digest, objects }) => {
                        let images = proof::images(&objects.iter().collect::<Vec<_>>()).await;
                        rehearsal.digests.insert(chart, digest);
                        rehearsal.digests.extend(images.digests);
                        rehearsal.obstacles.extend(images.obstacles);
                        rehearsal.blind = rehearsal.blind.or(images.blind);
                    }
                    Err(TargetError::Release(why)) => rehearsal.obstacles.push(why),
                    Err(
                        error
                        @ (TargetError::World { .. } | TargetError::Unreached { .. } | TargetError::Fenced { .. }),
                    ) => {
                        rehearsal.blind.get_or_insert(super::sentence(&error));
                    }
                }
            }
            Ok(rehearsal)
        })
    }
}

/// One future for each unit, none of them begun.
fn each<'a, T>(of: impl Iterator<Item = BoxFuture<'a, T>>) -> Vec<BoxFuture<'a, T>> {
    of.collect()
}

/// The notes, or the first error with the sentences of the others.
pub(super) fn all_or_first(ended: Vec<Result<String, TargetError>>) -> Result<String, TargetError> {
    let (good, bad): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
    let mut errors = bad.into_iter().filter_map(Result::err);
    let Some(first) = errors.next() else {
        return Ok(good.into_iter().flatten().collect::<Vec<_>>().join("; "));
    };
    let others: Vec<String> = errors.map(|error| error.to_string()).collect();
    if others.is_empty() {
        return Err(first);
    }
    let what = format!("{first}; also: {}", others.join("; "));
    Err(TargetError::World { what, source: None })
}

impl From<StorageError> for TargetError {
    fn from(error: StorageError) -> TargetError {
        TargetError::World { what: "cannot work with what Helm remembers".to_owned(), source: Some(Box::new(error)) }
    }
}

fn world(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> TargetError {
    TargetError::World { what: what.to_owned(), source: Some(Box::new(source)) }
}
