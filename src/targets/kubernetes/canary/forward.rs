//! The canary comes up, gets the capacity for a share, and then the share.

use serde_json::Value;

use super::{
    Stand, capacity, copies,
    dress::{self, Dress},
    find, id,
    labels::{self, Labels, Selectors},
    names::{BASE, CANARY, TREE},
    ready::{self, Whose},
    replicas_of, tree_of, verify,
};
use crate::{
    model::{Release, Share},
    targets::{
        TargetError,
        kubernetes::{
            manifest::Manifest,
            rollout,
            traffic::{Extras, Router, hand::wrong, replicas, steer::Foreign},
        },
    },
};

impl Stand<'_> {
    /// The release's pods beside stable's, one of them for a start, and nobody led to them.
    pub async fn bring_up(&self, release: &Release, manifests: &[Manifest]) -> Result<String, TargetError> {
        let live = self.canary().await?;
        if let Some(live) = &live {
            self.hand.check_fence(live)?;
        }
        let same = live.as_ref().filter(|live| tree_of(live).as_ref() == Some(&release.tree));
        let mut notes = Vec::new();
        let pods = match same {
            // What runs already is not made again: stable's configuration may have changed since, the judged pods must not.
            Some(live) => {
                self.apply_service(release).await?;
                replicas_of(live)
            }
            None => {
                // Another release's canary must have no users when its pods are replaced.
                notes.extend(self.users_back().await?.notes);
                self.rehearse(manifests).await?;
                self.dress_up(release, manifests, 1).await?;
                1
            }
        };
        self.wait_ready(release, pods).await?;
        if self.track.extras() != Extras::default() && same.is_none() {
            self.steer().set(Share::NONE, Foreign::Override).await?;
        }
        notes.extend(same.and_then(|live| self.edited(live)));
        let beside = self.stable().await?.as_ref().map_or(0, replicas_of);
        notes.push(format!("{}: {pods} of release {} beside {beside}", self.canary_id(), release.tree.short()));
        Ok(notes.join("; "))
    }

    /// Capacity for a share, and ready.
    pub async fn prepare(
        &self,
        release: &Release,
        manifests: &[Manifest],
        share: Share,
    ) -> Result<Vec<String>, TargetError> {
        let mut notes = Vec::new();
        let live = match self.canary().await? {
            Some(live) if tree_of(&live).as_ref() == Some(&release.tree) => live,
            other => {
                let gone = if other.is_none() { "is gone" } else { "is of another release" };
                notes.push(format!("{} {gone}, and was made again", self.canary_id()));
                notes.push(self.bring_up(release, manifests).await?);
                let made = self.canary().await?;
                made.ok_or_else(|| super::missing(&self.canary_id(), "it was deleted while it came up"))?
            }
        };
        self.hand.check_fence(&live)?;
        notes.extend(self.edited(&live));
        self.apply_service(release).await?;
        let pods = self.pods_for(&live, share).await?;
        let have = replicas_of(&live);
        if have < pods {
            self.hand.scale(&self.canary_id(), pods).await?;
        }
        self.wait_ready(release, pods.max(have)).await?;
        Ok(notes)
    }

    /// How many pods a share needs, of those that stable really has: an autoscaler's number, not the manifest's.
    async fn pods_for(&self, canary: &Value, share: Share) -> Result<u32, TargetError> {
        let stable = self.stable().await?;
        let stable =
            stable.ok_or_else(|| super::missing(&self.stable_id(), "there is nothing to measure a share by"))?;
        let base = base_of(canary).max(replicas_of(&stable));
        Ok(match &self.track.router {
            Router::Replicas if share != Share::WHOLE => replicas::joined(replicas_of(&stable), share),
            Router::Replicas
            | Router::Gateway(_)
            | Router::Istio(_)
            | Router::Nginx(_)
            | Router::Traefik(_)
            | Router::Generic(_) => capacity::canary(base, share),
        })
    }

    /// The weight, once the pods for it are ready.
    pub async fn shift(&self, release: &Release, share: Share) -> Result<String, TargetError> {
        self.move_users(Some(&release.tree), share, Foreign::Refuse).await?;
        let said = match &self.track.router {
            Router::Replicas => {
                let stable = self.stable().await?.as_ref().map_or(0, replicas_of);
                replicas::coarse(stable, share)
            }
            Router::Gateway(_) | Router::Istio(_) | Router::Nginx(_) | Router::Traefik(_) | Router::Generic(_) => {
                format!("{share} by {}", self.track.router.name())
            }
        };
        let to = format!("{} gets {said}", self.canary_id());
        Ok(format!("{to}; {}", self.verified(release, share).await?))
    }

    async fn verified(&self, release: &Release, share: Share) -> Result<String, TargetError> {
        let Some(wanted) = &self.track.verify else {
            return Ok("that it arrives is unverified: there is no `verify`".to_owned());
        };
        self.progress.say(format!("counting whose answers come from {}", wanted.url));
        match verify::verify(wanted, release, share, self.images().await?).await {
            verify::Arrived::As(seen) => Ok(seen),
            verify::Arrived::Alike(why) => Ok(format!("that it arrives is unverified: {why}")),
            // Not seen is not arrived: nobody goes further on a way that nobody can see.
            verify::Arrived::Unknown(why) => {
                let id = self.canary_id();
                Err(wrong(format!("{id} was given {share}, and whether it arrives cannot be seen: {why}")))
            }
            verify::Arrived::Not(seen) => {
                let id = self.canary_id();
                Err(wrong(format!("{id} was given {share}, but the router does not do so yet: {seen}")))
            }
        }
    }

    /// Whether the canary runs what stable runs.
    pub async fn images(&self) -> Result<verify::Images, TargetError> {
        let (stable, canary) = (self.stable().await?, self.canary().await?);
        let same = stable.as_ref().map(images_of) == canary.as_ref().map(images_of);
        Ok(if same { verify::Images::Same } else { verify::Images::Others })
    }

    fn edited(&self, live: &Value) -> Option<String> {
        let edits = dress::edits(live)?;
        let canary = self.canary_id();
        Some(format!("{canary} was edited: {edits}; what is promoted is the release's own specification, not the edit"))
    }

    /// Whether the release has what a canary is made of, its names are free, and users could be led to it.
    pub async fn rehearse(&self, manifests: &[Manifest]) -> Result<(), TargetError> {
        self.hand.check_free(&self.canary_id()).await?;
        if self.has_own_service() {
            self.hand.check_free(&self.service_id(&self.pair.canary)).await?;
        }
        let found = self.wanted(manifests)?;
        self.check_claims(&found.object, manifests).await?;
        self.steer().rehearse(Share::WHOLE).await
    }

    /// The release's Deployment.
    fn wanted<'m>(&self, manifests: &'m [Manifest]) -> Result<&'m Manifest, TargetError> {
        let wanted = self.stable_id();
        find(manifests, &wanted, self.home).ok_or_else(|| {
            TargetError::Release(format!("the release has no {wanted}, which the pipeline's `canary` names"))
        })
    }

    /// Copies first, then the Service, then the pods that need both.
    async fn dress_up(&self, release: &Release, manifests: &[Manifest], pods: u32) -> Result<(), TargetError> {
        let wanted = self.stable_id();
        let found = self.wanted(manifests)?;
        let stable = self.stable().await?;
        let stable = stable.ok_or_else(|| super::missing(&wanted, "there is nothing to run a canary beside"))?;
        let base = replicas_of(&stable);
        let selectors = self.selectors(&found.object).await?;
        let read = copies::references(&found.object["spec"]["template"]["spec"]);
        let renames = self.copy_configuration(read, manifests).await?;
        let dress = Dress {
            deployment: &found.object,
            name: &self.name,
            namespace: self.namespace(),
            tree: &release.tree,
            renames: &renames,
            selectors: &selectors,
            replicas: pods,
            base,
        };
        let dressed = dress.deployment().map_err(|why| TargetError::Release(format!("{wanted}: {why}")))?;
        self.apply_service(release).await?;
        self.hand.apply(dressed).await?;
        Ok(())
    }

    async fn check_claims(&self, deployment: &Value, manifests: &[Manifest]) -> Result<(), TargetError> {
        for name in dress::claims(deployment) {
            let claim = id("v1", "PersistentVolumeClaim", self.namespace(), &name);
            let coming = || find(manifests, &claim, self.home).map(|manifest| manifest.object.clone());
            let claim = self.hand.get(&claim).await?.or_else(coming);
            if let Some(claim) = claim {
                dress::shareable(&name, &claim)
                    .map_err(|why| TargetError::Release(format!("{}: {why}", self.stable_id())))?;
            }
        }
        Ok(())
    }

    /// What selects stable's pods and must not select the canary's.
    async fn selectors(&self, deployment: &Value) -> Result<Selectors, TargetError> {
        let pods = dress::pod_labels(deployment);
        let services = self.hand.list(&self.service_id(""), "").await?;
        let budgets = self.hand.list(&id("policy/v1", "PodDisruptionBudget", self.namespace(), ""), "").await?;
        let own = labels::read(&deployment["spec"]["selector"]["matchLabels"]);
        let of_services = services.iter().map(|service| labels::read(&service["spec"]["selector"]));
        let of_budgets = budgets.iter().map(|budget| labels::read(&budget["spec"]["selector"]["matchLabels"]));
        let all = [own].into_iter().chain(of_services).chain(of_budgets);
        let keep = match self.track.shares_service() {
            true => self.stable_selector().await?,
            false => Labels::new(),
        };
        let escape = all.filter(|selector| labels::matches(selector, &pods) && *selector != keep).collect();
        Ok(Selectors { escape, keep })
    }

    /// What the stable Service selects by, without our own word in it.
    pub async fn stable_selector(&self) -> Result<Labels, TargetError> {
        let id = self.service_id(&self.pair.stable);
        let service = self.hand.get(&id).await?;
        let service = service.ok_or_else(|| super::missing(&id, "the pipeline's `canary` names it"))?;
        let mut selector = labels::read(&service["spec"]["selector"]);
        selector.remove(CANARY);
        Ok(selector)
    }

    /// Whether the canary has a Service of our own.
    fn has_own_service(&self) -> bool {
        self.pair.owned && self.canary_service() == Some(&self.pair.canary)
    }

    async fn apply_service(&self, release: &Release) -> Result<(), TargetError> {
        if !self.has_own_service() {
            return Ok(());
        }
        let id = self.service_id(&self.pair.stable);
        let stable = self.hand.get(&id).await?;
        let stable = stable.ok_or_else(|| super::missing(&id, "the pipeline's `canary` names it"))?;
        let service = dress::service(&stable, &self.pair, &self.name, &release.tree);
        self.hand.apply(service).await.map(drop)
    }

    /// The rollout is over, and the router's list of endpoints has so many of them.
    pub async fn wait_ready(&self, release: &Release, pods: u32) -> Result<(), TargetError> {
        let canary = [self.canary_id()];
        rollout::watch(self.hand.cluster, &canary, &self.rollout_left(), self.progress).await.into_result()?;
        match self.canary_service() {
            Some(service) => {
                let which = (self.namespace(), service, Whose::Of(&self.name));
                ready::wait_endpoints(&self.hand, which, pods, self.within(), self.progress).await
            }
            None => self.wait_pods(release, pods).await,
        }
    }

    async fn wait_pods(&self, release: &Release, pods: u32) -> Result<(), TargetError> {
        let labels = format!("{CANARY}={},{TREE}={}", self.name, release.tree);
        let kind = id("v1", "Pod", self.namespace(), "");
        let canary = self.canary_id();
        ready::wait(&self.hand, &kind, &labels, self.within(), self.progress, |known| {
            let ready = known.values().filter(|pod| ready::pod_is_ready(pod)).count();
            let enough = u32::try_from(ready).unwrap_or(u32::MAX) >= pods;
            (!enough).then(|| format!("{canary}: {ready} of {pods} pods are ready"))
        })
        .await
    }
}

/// How many pods stable had when the canary came up.
pub fn base_of(canary: &Value) -> u32 {
    canary["metadata"]["annotations"][BASE].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The images of a Deployment's containers, in their order.
fn images_of(deployment: &Value) -> Vec<&Value> {
    let spec = &deployment["spec"]["template"]["spec"];
    let lists = ["initContainers", "containers"].into_iter().filter_map(|key| spec[key].as_array());
    lists.flatten().map(|container| &container["image"]).collect()
}
