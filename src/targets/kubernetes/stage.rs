//! One cluster and namespace in which an act is under way: the connection, checked; the inventory, held; and who acts.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use super::{
    apply::Way,
    canary::{self, Canary, Track},
    config::{Config, Seat},
    inventory::{self, Held, Inventory},
    manifest::Manifest,
    refusals::{with_hint, world},
    render::{self, Rendered},
    scope,
};
use crate::{
    clients::kube::{Cluster, KubeError},
    model::TreeId,
    targets::{Site, TargetError},
};

/// What every part of an act needs.
pub struct Stage<'a> {
    pub cluster: Cluster,
    pub config: &'a Config,
    pub seat: &'a Seat,
    pub site: &'a Site,
    pub held: Held,
    renderers: &'a Renderers,
}

/// What rendered releases during one act.
#[derive(Default)]
pub struct Renderers(Mutex<BTreeSet<String>>);

impl Renderers {
    pub fn note(&self, renderer: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(renderer.to_owned());
    }

    /// All of them since this was asked last; several places may have several.
    pub fn take(&self) -> Option<String> {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (!all.is_empty()).then(|| all.into_iter().collect::<Vec<_>>().join(", "))
    }
}

impl<'a> Stage<'a> {
    /// Makes sure that this is the cluster that is meant, and that nobody newer acts here. Nothing is written yet.
    pub async fn enter(
        cluster: Cluster,
        config: &'a Config,
        seat: &'a Seat,
        site: &'a Site,
        fence: u64,
        renderers: &'a Renderers,
    ) -> Result<Stage<'a>, TargetError> {
        // What is read of a cluster that is not the right one is thrown away.
        let held = inventory::hold(&cluster, &seat.namespace, site, fence);
        let (identified, held) = tokio::join!(identify(&cluster, seat), held);
        identified?;
        let held = held?;
        Ok(Stage { cluster, config, seat, site, held, renderers })
    }

    /// The objects of a release for this place, with their namespaces filled in. The way back takes any version of the
    /// renderer: what it would make is close to what was, and the inventory and the ledger say which it was.
    pub async fn render(&self, tree: &TreeId, way: Way) -> Result<Rendered, TargetError> {
        self.say(format!("rendering release {}", tree.short()));
        let wanted = match way {
            Way::Forward | Way::Through => self.config.renderer(),
            Way::Back | Way::Over => None,
        };
        // The kinds are needed as soon as there are objects.
        let rendering = render::render(self.site, self.config, self.seat, tree, wanted);
        let (rendered, ()) = tokio::join!(rendering, self.cluster.learn_kinds());
        let mut rendered = rendered?;
        rendered.renderer.iter().for_each(|renderer| self.renderers.note(renderer));
        self.complete(&mut rendered.manifests).await?;
        // Users' weights and an autoscaler's numbers are not the release's to change.
        canary::hold_replicas(&self.cluster, &self.seat.namespace, &mut rendered.manifests).await?;
        if let Some(canary) = self.canary() {
            canary.shape(&mut rendered.manifests).await?;
        }
        Ok(rendered)
    }

    /// Fills the namespaces in. Two that were told apart only by a missing namespace are found out here.
    pub async fn complete(&self, manifests: &mut [Manifest]) -> Result<(), TargetError> {
        scope::complete(&self.cluster, &self.seat.namespace, manifests).await?;
        super::manifest::check(manifests).map_err(|error| TargetError::Release(error.to_string()))
    }

    /// The canaries of this environment, where it has some.
    pub fn canary(&self) -> Option<Canary<'_>> {
        let mut canary = canary_of(&self.cluster, self.config, self.seat, self.site, &self.held.inventory)?;
        canary.held = Some(&self.held);
        Some(canary)
    }

    /// Refuses to go on with a canary whose users would come by another way than they do: that one would be forgotten.
    pub fn check_ways(&self) -> Result<(), TargetError> {
        let (up, wanted) = (&self.held.inventory.tracks, self.config.canary().map_or(&[][..], |config| &config.tracks));
        let same = |track: &Track| wanted.iter().any(|wanted| wanted.leads_like(track));
        if up.is_empty() || (up.len() == wanted.len() && up.iter().all(same)) {
            return Ok(());
        }
        let names: Vec<_> = up.iter().map(|track| track.deployment.as_str()).collect();
        Err(world(format!(
            "a canary of `{}` is up, and the pipeline's `canary` says something else than when it came up: put it back until \
             the promotion is over; the way back goes by what it said then",
            names.join("`, `")
        )))
    }

    /// Tells those who watch.
    pub fn say(&self, line: impl Into<String>) {
        let line = line.into();
        self.site.progress.say(match &self.seat.member {
            Some(member) => format!("{member}: {line}"),
            None => line,
        });
    }

    /// As `tree`, `environment` and `fence` are written on an object.
    pub fn mark(&self, manifest: &Manifest, tree: &TreeId) -> serde_json::Value {
        let mut object = manifest.object.clone();
        let fence = self.held.fence.to_string();
        let annotations = [(inventory::TREE_ANNOTATION, tree.as_str()), (inventory::FENCE_ANNOTATION, fence.as_str())];
        let environment = Some((inventory::ENVIRONMENT_LABEL, self.site.environment.as_str()));
        let of = self.held.uid().map(|uid| (inventory::INVENTORY_LABEL, uid));
        let labels: Vec<(&str, &str)> = environment.into_iter().chain(of).collect();
        scope::mark(&mut object, &labels, &annotations);
        object
    }
}

/// The canaries of one place: those that are up, or else those of the pipeline.
pub fn canary_of<'b>(
    cluster: &'b Cluster,
    config: &'b Config,
    seat: &'b Seat,
    site: &'b Site,
    inventory: &Inventory,
) -> Option<Canary<'b>> {
    let (namespace, rollout, progress) = (seat.namespace.as_str(), config.rollout(), &site.progress);
    let wanted = config.canary().map_or(&[][..], |config| &config.tracks);
    // Users may be on what came up, however the pipeline was edited since; of the same way, the pipeline knows more.
    let newest = |up: &Track| wanted.iter().find(|wanted| wanted.leads_like(up)).unwrap_or(up).clone();
    let tracks: Vec<Track> = match inventory.tracks.as_slice() {
        [] => wanted.to_vec(),
        up => up.iter().map(newest).collect(),
    };
    let canary = Canary { cluster, tracks, namespace, fence: inventory.fence, held: None, rollout, progress };
    (!canary.tracks.is_empty()).then_some(canary)
}

/// Refuses any cluster but the one that is meant.
pub async fn identify(cluster: &Cluster, seat: &Seat) -> Result<(), TargetError> {
    let found = cluster.identity().await.map_err(|error| {
        unreached(format!("cannot tell which cluster this is, so nothing was done: {}", with_hint(&error)))
    })?;
    match found == seat.identity {
        true => Ok(()),
        false => Err(unreached(format!(
            "{}this is another cluster than the pipeline means, so nothing was done: the identity of the one {} is `{found}`, the \
             pipeline says `{}`; look at `context` and `kubeconfig`, or write the identity found into the pipeline",
            of_member(seat),
            seat.place
                .context
                .as_ref()
                .map_or("found here".to_owned(), |context| format!("behind the context `{context}`")),
            seat.identity
        ))),
    }
}

/// Connects; nothing is sent yet.
pub async fn connect(seat: &Seat) -> Result<Cluster, TargetError> {
    let connected = Cluster::shared(&seat.place).await;
    connected.map_err(|error: KubeError| TargetError::Unreached {
        what: format!("{}cannot find the cluster", of_member(seat)),
        source: Some(Box::new(error)),
    })
}

fn unreached(what: String) -> TargetError {
    TargetError::Unreached { what, source: None }
}

/// The beginning of a sentence about one of several places.
pub fn of_member(seat: &Seat) -> String {
    seat.member.as_ref().map(|member| format!("member `{member}`: ")).unwrap_or_default()
}
