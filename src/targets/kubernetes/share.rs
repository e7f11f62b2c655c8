//! The acts where users move by share: a canary beside stable, and the whole release only at the end.

use super::{
    KubernetesTarget,
    apply::Way,
    canary::{Brought, Canary, Stable},
    deploy,
    render::Rendered,
    stage::Stage,
};
use crate::{
    model::{Release, Share},
    targets::TargetError,
};

impl KubernetesTarget {
    /// Gives the canary a share. Without a stable release beside which it could run, everybody gets the first one.
    pub(super) async fn shift_share(
        &self,
        seat: usize,
        release: &Release,
        share: Share,
        fence: u64,
    ) -> Result<String, TargetError> {
        let mut stage = self.stage(seat, fence).await?;
        if stage.held.inventory.stands(&release.tree) {
            return Ok(format!("everybody is on release {} already", release.tree.short()));
        }
        let rendered = stage.render(&release.tree, Way::Forward).await?;
        if !runs_beside(&stage, release).await? {
            return deploy::whole(&mut stage, &release.tree, &rendered, Way::Forward).await;
        }
        deploy::claim(&mut stage, &release.tree, &rendered).await?;
        let mut notes = Vec::new();
        if share == Share::WHOLE {
            notes.push(canary(&stage)?.prepare(release, &rendered.manifests, share).await?);
            notes.extend(roll_others(&mut stage, release, &rendered).await?);
        }
        notes.push(canary(&stage)?.shift(release, &rendered.manifests, share).await?);
        notes.retain(|note| !note.is_empty());
        Ok(notes.join("; "))
    }

    /// All users back on stable; where the release has reached stable too, what was good is applied first.
    pub(super) async fn share_back(
        &self,
        seat: usize,
        from: &Release,
        to: &Release,
        fence: u64,
    ) -> Result<String, TargetError> {
        let mut stage = self.stage(seat, fence).await?;
        let untouched = from.tree == to.tree || canary(&stage)?.stable_after(&from.tree).await? == Stable::Untouched;
        let stands = stage.held.inventory.stands(&to.tree);
        let mut notes = Vec::new();
        // Users first, wherever stable is as it was: what else is to be put right must not keep them waiting.
        let back = match untouched {
            true => Some(canary(&stage)?.hand_back(Some(from)).await),
            false => None,
        };
        match back {
            Some(Ok(note)) => notes.push(note),
            Some(Err(fenced @ TargetError::Fenced { .. })) => return Err(fenced),
            Some(Err(error)) if stands => return Err(error),
            // Stable may only need to be applied again.
            Some(Err(_)) | None => {}
        }
        if untouched && stands {
            notes.extend(deploy::unbring(&mut stage).await?);
            notes.retain(|note| !note.is_empty());
            stage.held.inventory.candidate = None;
            stage.held.keep().await?;
            return Ok(notes.join("; "));
        }
        let rendered = stage.render(&to.tree, Way::Back).await?;
        notes.push(deploy::whole(&mut stage, &to.tree, &rendered, Way::Back).await?);
        notes.push(canary(&stage)?.hand_back(Some(from)).await?);
        notes.retain(|note| !note.is_empty());
        Ok(notes.join("; "))
    }

    /// Stable gets the release while the canary carries the users; then they go to stable, and the canary goes.
    pub(super) async fn settle_share(&self, seat: usize, keep: &Release, fence: u64) -> Result<String, TargetError> {
        let mut stage = self.stage(seat, fence).await?;
        let mut notes = Vec::new();
        stage.held.keep().await?;
        if !stage.held.inventory.stands(&keep.tree) {
            notes.push(canary(&stage)?.hold(keep).await?);
            let rendered = stage.render(&keep.tree, Way::Through).await?;
            notes.push(deploy::whole(&mut stage, &keep.tree, &rendered, Way::Through).await?);
        }
        notes.push(canary(&stage)?.hand_back(None).await?);
        notes.extend(deploy::unbring(&mut stage).await?);
        notes.retain(|note| !note.is_empty());
        Ok(if notes.is_empty() { "nothing to take down".to_owned() } else { notes.join("; ") })
    }
}

/// Brings the canary up, with no users on it; before it what it may need and nobody else notices.
pub async fn bring_up(stage: &mut Stage<'_>, release: &Release, rendered: &Rendered) -> Result<String, TargetError> {
    stage.held.inventory.candidate = Some(release.tree.clone());
    deploy::claim(stage, &release.tree, rendered).await?;
    if let Some(note) = canary(stage)?.alone().await? {
        return Ok(note);
    }
    canary(stage)?.rehearse(release, &rendered.manifests).await?;
    let new = bring_new(stage, release, rendered).await?;
    match canary(stage)?.bring_up(release, &rendered.manifests).await? {
        Brought::Beside(note) | Brought::Alone(note) => {
            Ok(new.into_iter().chain([note]).collect::<Vec<_>>().join("; "))
        }
    }
}

/// What is new and changes nothing for stable. It is noted before it is made, so that the way back can take it away.
async fn bring_new(
    stage: &mut Stage<'_>,
    release: &Release,
    rendered: &Rendered,
) -> Result<Option<String>, TargetError> {
    let brought = stage.held.inventory.brought.clone();
    let new = canary(stage)?.newcomers(&rendered.manifests, |id| brought.contains(id)).await?;
    let inventory = &mut stage.held.inventory;
    // What stable has too, and somebody deleted, is not new: it comes back with the promotion, or with the way back.
    let mut new = new;
    new.retain(|manifest| brought.contains(&manifest.id) || inventory.objects.get(&manifest.id).is_none());
    if new.is_empty() {
        return Ok(None);
    }
    let first = new.iter().map(|manifest| &manifest.id).filter(|id| !brought.contains(id));
    inventory.brought.extend(first.cloned());
    let named = deploy::part(stage, &release.tree, &new).await?;
    Ok(Some(format!("new, and made first: {named}")))
}

/// With the last step goes what no canary tries and what is not stable's own, so that gates and bake judge it too.
async fn roll_others(
    stage: &mut Stage<'_>,
    release: &Release,
    rendered: &Rendered,
) -> Result<Option<String>, TargetError> {
    let others = canary(stage)?.others(&rendered.manifests).await?;
    let others = deploy::changed(stage, &release.tree, others).await?;
    if others.is_empty() {
        return Ok(None);
    }
    stage.held.inventory.rolled = Some(release.tree.clone());
    let named = deploy::part(stage, &release.tree, &others).await?;
    Ok(Some(format!("changed with the last step: {named}")))
}

/// Takes the canary down with everything else.
pub async fn take_down(stage: &Stage<'_>) -> Result<(), TargetError> {
    match stage.canary() {
        Some(canary) => canary.hand_back(None).await.map(drop),
        None => Ok(()),
    }
}

/// Whether another release is stable, or was and is to be gone back to; a stable Deployment that someone deleted is an error
/// later, and never a reason to give everybody the candidate.
async fn runs_beside(stage: &Stage<'_>, release: &Release) -> Result<bool, TargetError> {
    match &stage.held.inventory.stable {
        Some(stable) => Ok(*stable != release.tree),
        None => Ok(canary(stage)?.stable_after(&release.tree).await? == Stable::Untouched),
    }
}

fn canary<'b>(stage: &'b Stage<'_>) -> Result<Canary<'b>, TargetError> {
    stage.canary().ok_or_else(|| super::refusals::world("the target has no `canary`"))
}
