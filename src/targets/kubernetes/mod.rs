#![doc = include_str!("README.md")]

mod apply;
pub mod canary;
mod config;
mod conflicts;
mod deploy;
pub mod drift;
mod fence;
mod glob;
mod guard;
pub mod health;
pub mod inventory;
mod live;
pub mod manifest;
mod order;
pub mod proof;
mod prune;
mod refusals;
pub mod render;
pub mod rollout;
mod scope;
mod share;
pub mod stage;
pub mod traffic;

use std::collections::BTreeMap;

use futures_util::future::{BoxFuture, join_all};
use serde_json::Value;
use tokio::sync::OnceCell;

pub use self::config::{Config, Seat};
use self::{
    apply::Way,
    refusals::world,
    stage::{Renderers, Stage},
};
use super::{Act, Difference, Done, Entry, Live, Rehearsal, Sights, Site, Target, TargetError};
use crate::{
    clients::kube::Cluster,
    model::{Portion, Release},
    pipeline::{Kind, Splits, TargetKind, checked},
};

/// The kind `kubernetes`.
pub const ENTRY: Entry = Entry {
    kind: TargetKind {
        kind: Kind {
            name: "kubernetes",
            about: "applies the release's manifests, overlay or chart to a cluster, and watches until they are ready",
            help: HELP,
            example: EXAMPLE,
            check: checked::<Config>,
            schema: |generator| generator.subschema_for::<config::Written>(),
        },
        splits,
    },
    build: |config, site| Ok(Box::new(KubernetesTarget::new(config, site)?)),
};

const HELP: &str = "\
A release is rendered from its own files: `manifests` (files, folders, `*` and `**`), `kustomize` (an overlay; `kustomize` or `kubectl` must be
there) or `helm` (`helm template`; dependencies must lie in the chart, hooks are refused). `renderer` names the version that must render it.

`cluster.identity` is the UID of the namespace `kube-system`, compared before every act; a wrong context cannot do harm:
  kubectl get namespace kube-system -o jsonpath='{.metadata.uid}'
The refusal of a wrong identity names the one that was found. `context` and `kubeconfig` say how to get there; without them, KUBECONFIG, the
home folder or the pod's own account does.

First the server is asked whether it would take everything (dry run): admission, quotas and unknown fields are seen before users are moved.
Then namespaces, CRDs (until they are served), rules and accounts, ConfigMaps and Secrets, Services, workloads, the rest and admission
webhooks are applied in this order, server-side, as field manager `piton`. A field that someone else has set to another value is named,
with its manager, and nothing is applied, unless `force: true` takes such fields over. On the way back all fields are taken, and
named, except a `spec.replicas` that is not smaller than the release's: it may be what keeps the service up.

Drift is what applying the release again would change (fields that it sets, with the manager that changed them and when), objects that are
missing, and workloads whose pods are not all this release's, run two images under one tag, or another image than the tag led to when
the release was looked up first. Values of Secrets are never shown. Before a
release becomes the way back, and every day, its images are looked up in their registries (with the logins of `docker login`) and its
objects are tried.

The ConfigMap `piton-ENVIRONMENT` lists what piton made, and says for which pipeline: two with an environment of the same name want two
namespaces, and the second is refused. `prune` deletes what an earlier release made and this one lacks: only what
piton made itself, what is still labelled as its own, and never a namespace, CRD or volume claim unless `prune_also` names that kind; a
StatefulSet that would take its claims along (`whenDeleted: Delete`) counts as one.

`rollout` says how the end is awaited. A pod that is visibly broken (its image cannot be pulled, it crashes, its configuration is missing)
ends it at once, with the pod, its node, the reason and the last lines of its log; a pod that is merely slow has its time, `within`. One
failed start of a container is forgiven (`restarts`); a pod without room on any node is given `unschedulable_grace`, which wants to be
minutes where an autoscaler brings nodes; a container without a readiness probe must stay up for `steady`. The log's last lines (ten at
most, of 200 characters) are shown to people and go into the ledger: `logs: false` where programs write secrets there. On the way back
a pod of the release that is left which is not ready and holds up its StatefulSet is evicted, if disruption budgets allow it. A Job with
`ttlSecondsAfterFinished` may be gone when it is done. The gate `workload` goes on looking while users move.

Encrypted files (git-crypt, sops, age, PGP, ansible-vault) are never read: under `manifests` they are refused unless `opaque` names them.

`members` are several clusters or namespaces, moved in the waves of the pipeline; each may have its own `cluster`, `namespace`,
`manifests`, `kustomize` or `values`.";

const EXAMPLE: &str = "\
kubernetes:
  cluster: {identity: 8e3f7f0c-6a3a-4d39-9c0e-2f1f6a4c1d11, context: production}
  namespace: shop
  manifests: [deploy, 'crds/*.yaml']
  opaque: ['deploy/**/*.enc.yaml']
  prune: true
  rollout: {within: 5m}
";

fn splits(config: &Value) -> Splits {
    // The configuration was checked before; one that was not splits nothing.
    let config: Option<Config> = serde_json::from_value(config.clone()).ok();
    let canary = config.as_ref().and_then(|config| config.canary());
    Splits {
        by_share: canary.is_some(),
        unit_hundredths: canary.map_or(Splits::default().unit_hundredths, canary::Config::unit_hundredths),
        members: config.as_ref().map(Config::members).unwrap_or_default(),
    }
}

/// A target that is one or several clusters.
pub struct KubernetesTarget {
    config: Config,
    site: Site,
    /// In the order of the configuration's seats.
    places: Vec<Place>,
    renderers: Renderers,
}

/// What is kept of one seat between acts.
#[derive(Default)]
struct Place {
    cluster: OnceCell<Cluster>,
    standing: OnceCell<rollout::Standing>,
}

impl KubernetesTarget {
    /// Takes a checked configuration; nothing is sent yet.
    pub fn new(config: &Value, mut site: Site) -> Result<KubernetesTarget, TargetError> {
        let cannot = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| TargetError::World {
            what: what.to_owned(),
            source: Some(error),
        };
        let config: Config = serde_json::from_value(config.clone())
            .map_err(|error| cannot("cannot read the configuration of the target `kubernetes`", error.into()))?;
        site.state_dir = std::path::absolute(&site.state_dir)
            .map_err(|error| cannot("cannot find the folder for what piton keeps", error.into()))?;
        let places = config.seats.iter().map(|_| Place::default()).collect();
        Ok(KubernetesTarget { config, site, places, renderers: Renderers::default() })
    }

    async fn perform_act(&self, act: &Act, fence: u64) -> Result<Done, TargetError> {
        // What an act rendered that was broken off is not this one's.
        self.renderers.take();
        let done = match act {
            Act::Apply { release } => self.everywhere(|seat| self.prepare(seat, release, fence)).await,
            Act::Shift { release, to: Portion::Members(names) } => self.shift_members(names, release, fence).await,
            Act::Shift { release, to: Portion::Share(share) } if self.config.canary().is_some() => {
                self.everywhere(|seat| self.shift_share(seat, release, *share, fence)).await
            }
            Act::Shift { release, to } if to.is_all() => self.everywhere(|seat| self.go(seat, release, fence)).await,
            Act::Shift { to, .. } => Err(world(format!(
                "cannot move {to} of the users: without a `canary` the target moves all of them at once"
            ))),
            // Back to where it is: what was changed by hand is written over.
            Act::Retreat { from, to: Some(to) } if from.tree == to.tree => {
                self.everywhere(|seat| self.go_over(seat, to, fence)).await
            }
            Act::Retreat { from, to: Some(to) } => self.everywhere(|seat| self.retreat(seat, from, to, fence)).await,
            Act::Retreat { to: None, .. } | Act::Settle { keep: None } => {
                self.everywhere(|seat| self.take_down(seat, fence)).await
            }
            Act::Settle { keep: Some(keep) } => self.everywhere(|seat| self.settle(seat, keep, fence)).await,
        };
        self.site.progress.clear();
        let renderer = self.renderers.take();
        Ok(Done { note: done?, renderer })
    }

    /// Does the same in all places at once; one that fails fails it all, and its note says which it is.
    async fn everywhere<F: Future<Output = Result<String, TargetError>>>(
        &self,
        act: impl Fn(usize) -> F,
    ) -> Result<String, TargetError> {
        let all: Vec<usize> = (0..self.places.len()).collect();
        self.at(&all, act).await
    }

    async fn at<F: Future<Output = Result<String, TargetError>>>(
        &self,
        seats: &[usize],
        act: impl Fn(usize) -> F,
    ) -> Result<String, TargetError> {
        let one = |seat: usize| {
            let doing = act(seat);
            async move {
                let of = stage::of_member(&self.config.seats[seat]);
                match doing.await {
                    Ok(note) => Ok(format!("{of}{note}")),
                    Err(TargetError::Release(why)) => Err(TargetError::Release(of + &why)),
                    Err(TargetError::World { what, source }) => Err(TargetError::World { what: of + &what, source }),
                    Err(TargetError::Unreached { what, source }) => {
                        Err(TargetError::Unreached { what: of + &what, source })
                    }
                    Err(fenced @ TargetError::Fenced { .. }) => Err(fenced),
                }
            }
        };
        // One place that cannot be reached must not stop what is under way in the others, least of all the way back.
        let done = join_all(seats.iter().map(|seat| one(*seat))).await;
        // That nothing was done is known only where no place at all was reached.
        let nowhere = done.iter().all(|done| matches!(done, Err(TargetError::Unreached { .. })));
        let notes: Result<Vec<String>, TargetError> = done.into_iter().collect();
        Ok(notes.map_err(|error| error.among_others(!nowhere))?.join("; "))
    }

    async fn shift_members(&self, names: &[String], release: &Release, fence: u64) -> Result<String, TargetError> {
        let mut seats = Vec::new();
        for name in names {
            let seat = self.config.seats.iter().position(|seat| seat.member.as_ref() == Some(name));
            let known = || self.config.members().join("`, `");
            seats.push(seat.ok_or_else(|| world(format!("there is no member `{name}`; there are `{}`", known())))?);
        }
        self.at(&seats, |seat| self.go(seat, release, fence)).await
    }

    /// Users see nothing of it: the release is rendered and tried.
    async fn prepare(&self, seat: usize, release: &Release, fence: u64) -> Result<String, TargetError> {
        let mut stage = self.stage(seat, fence).await?;
        let rendered = stage.render(&release.tree, Way::Forward).await?;
        let note = deploy::rehearse(&mut stage, &release.tree, &rendered).await?;
        if self.config.canary().is_some() {
            return Ok(format!("{note}; {}", share::bring_up(&mut stage, release, &rendered).await?));
        }
        // Without an inventory there is nobody to fence off, and perhaps no namespace to keep it in.
        if stage.held.is_there() {
            stage.held.inventory.candidate = Some(release.tree.clone());
            stage.held.keep().await?;
        }
        Ok(note)
    }

    async fn go(&self, seat: usize, release: &Release, fence: u64) -> Result<String, TargetError> {
        let mut stage = self.stage(seat, fence).await?;
        stage.check_ways()?;
        let rendered = stage.render(&release.tree, Way::Forward).await?;
        deploy::whole(&mut stage, &release.tree, &rendered, Way::Forward).await
    }

    /// By share where there is a canary, also one that the pipeline has forgotten.
    async fn retreat(&self, seat: usize, from: &Release, to: &Release, fence: u64) -> Result<String, TargetError> {
        let stage = self.stage(seat, fence).await?;
        match stage.canary().is_some() {
            true => self.share_back(stage, from, to).await,
            false => self.go_back(stage, to).await,
        }
    }

    async fn go_back(&self, mut stage: Stage<'_>, to: &Release) -> Result<String, TargetError> {
        if stage.held.inventory.stands(&to.tree) {
            stage.held.inventory.candidate = None;
            stage.held.keep().await?;
            return Ok(format!("release {} was never left", to.tree.short()));
        }
        let rendered = stage.render(&to.tree, Way::Back).await?;
        deploy::whole(&mut stage, &to.tree, &rendered, Way::Back).await
    }

    async fn go_over(&self, seat: usize, release: &Release, fence: u64) -> Result<String, TargetError> {
        let mut stage = self.stage(seat, fence).await?;
        let rendered = stage.render(&release.tree, Way::Over).await?;
        deploy::whole(&mut stage, &release.tree, &rendered, Way::Over).await
    }

    async fn settle(&self, seat: usize, keep: &Release, fence: u64) -> Result<String, TargetError> {
        let stage = self.stage(seat, fence).await?;
        if stage.canary().is_some() {
            return self.settle_share(stage, keep).await;
        }
        if stage.held.inventory.stands(&keep.tree) {
            return Ok("nothing to take down".to_owned());
        }
        // Someone was killed in between, or the inventory is gone: applying it again says what is there.
        self.go_back(stage, keep).await
    }

    async fn take_down(&self, seat: usize, fence: u64) -> Result<String, TargetError> {
        let mut stage = self.stage(seat, fence).await?;
        share::take_down(&stage).await?;
        deploy::nothing(&mut stage).await
    }

    async fn stage(&self, seat: usize, fence: u64) -> Result<Stage<'_>, TargetError> {
        let cluster = self.cluster(seat).await?.clone();
        Stage::enter(cluster, &self.config, &self.config.seats[seat], &self.site, fence, &self.renderers).await
    }

    async fn cluster(&self, seat: usize) -> Result<&Cluster, TargetError> {
        self.places[seat].cluster.get_or_try_init(|| stage::connect(&self.config.seats[seat])).await
    }
}

impl Target for KubernetesTarget {
    fn perform<'a>(&'a self, act: &'a Act, fence: u64) -> BoxFuture<'a, Result<Done, TargetError>> {
        Box::pin(self.perform_act(act, fence))
    }

    fn live(&self) -> BoxFuture<'_, Result<Live, TargetError>> {
        Box::pin(self.look())
    }

    fn renderer(&self) -> BoxFuture<'_, Result<Option<String>, TargetError>> {
        Box::pin(async {
            let found = Renderers::default();
            for seat in &self.config.seats {
                render::renderer(&self.site, seat).await?.iter().for_each(|renderer| found.note(renderer));
            }
            Ok(found.take())
        })
    }

    fn sights(&self) -> Sights {
        Sights { drift: true, way_back: true }
    }

    fn drift<'a>(
        &'a self,
        release: &'a Release,
        digests: &'a BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<Vec<Difference>, TargetError>> {
        Box::pin(self.see_drift(release, digests))
    }

    fn rehearse<'a>(&'a self, release: &'a Release) -> BoxFuture<'a, Result<Rehearsal, TargetError>> {
        Box::pin(self.try_out(release))
    }
}
