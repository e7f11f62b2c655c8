//! A whole release in one place: rendered, written down, applied, watched, and what is wanted no more deleted.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::{
    apply::{self, Way, Wrote},
    conflicts, drift,
    fence::{self, Guard},
    health,
    manifest::Manifest,
    order,
    prune::{self, Leftovers, Pruned},
    render::Rendered,
    rollout::{self, Watched},
    stage::Stage,
};
use crate::{clients::kube::ObjectId, model::TreeId, targets::TargetError};

/// So many objects are named in a note.
const NAMED_MAX: usize = 5;
/// So many objects are asked for at once.
const AT_ONCE: usize = 8;

/// Asks the server whether it would take the release; users see nothing of it.
pub async fn rehearse(stage: &mut Stage<'_>, tree: &TreeId, rendered: &Rendered) -> Result<String, TargetError> {
    fence::check_objects(stage, &rendered.manifests).await?;
    stage.say("asking the server whether it would take the release");
    let tried = apply::try_all(stage, &rendered.manifests, tree).await?;
    let mut note =
        format!("{} would be applied: {} new, {} there", counted(rendered.manifests.len()), tried.new, tried.there);
    if tried.untried > 0 {
        note.push_str(&format!(", {} that wait for a namespace or kind of the release itself", tried.untried));
    }
    if let Some(renderer) = &rendered.renderer {
        note.push_str(&format!("; rendered by {renderer}"));
    }
    if !rendered.opaque.is_empty() {
        note.push_str(&format!("; encrypted and left alone: {}", rendered.opaque.join(", ")));
    }
    Ok(note)
}

/// Applies the release, watches until it is ready, and deletes what it replaces. All of it may be done again after any write.
pub async fn whole(stage: &mut Stage<'_>, tree: &TreeId, rendered: &Rendered, way: Way) -> Result<String, TargetError> {
    fence::check_objects(stage, &rendered.manifests).await?;
    let guard = announce(stage, tree, rendered).await?;
    let wrote = match apply::write(stage, &rendered.manifests, tree, way, &guard).await {
        Ok(wrote) => wrote,
        Err(error) => return Err(note_what_is_there(stage, error).await),
    };
    let watched = watch(stage, &rendered.manifests, way, &wrote.stayed).await;
    let ready = match watched {
        Ok(ready) => ready,
        Err(error) => return Err(note_what_is_there(stage, error).await),
    };
    guard.check_surely(&stage.held).await?;
    let wanted: Vec<ObjectId> = rendered.manifests.iter().map(|manifest| manifest.id.clone()).collect();
    let leftovers = match way {
        Way::Forward | Way::Over => Leftovers::Fail,
        Way::Back | Way::Through => Leftovers::Tell,
    };
    let pruned = match prune::prune(stage, &wanted, &guard, leftovers).await {
        Ok(pruned) => pruned,
        Err(error) => return Err(note_what_is_there(stage, error).await),
    };
    drop(guard);
    let inventory = &mut stage.held.inventory;
    inventory.stable = Some(tree.clone());
    inventory.renderer = rendered.renderer.clone();
    inventory.passing = passing(&rendered.manifests).collect();
    (inventory.doing, inventory.candidate, inventory.rolled) = (None, None, None);
    inventory.brought.clear();
    stage.held.keep().await?;
    Ok(note(&wrote, &pruned, &ready, rendered))
}

/// Applies some objects of the release beside what stands, and watches until they are ready.
pub async fn part(stage: &mut Stage<'_>, tree: &TreeId, part: &[Manifest]) -> Result<String, TargetError> {
    for manifest in part {
        stage.held.inventory.objects.want(&manifest.id);
    }
    stage.held.inventory.passing.extend(passing(part));
    stage.held.keep().await?;
    let guard = Guard::over(&stage.held);
    let wrote = apply::write(stage, part, tree, Way::Forward, &guard).await;
    drop(guard);
    match wrote {
        Ok(_) => stage.held.keep().await?,
        Err(error) => return Err(note_what_is_there(stage, error).await),
    }
    watch(stage, part, Way::Forward, &[]).await?;
    Ok(named(part.iter().map(|manifest| &manifest.id)))
}

/// Deletes what was made for a candidate that does not stay, by the rules of pruning.
pub async fn unbring(stage: &mut Stage<'_>) -> Result<Option<String>, TargetError> {
    let brought = stage.held.inventory.brought.clone();
    if brought.is_empty() {
        return Ok(None);
    }
    stage.held.keep().await?;
    let guard = Guard::over(&stage.held);
    let all = stage.held.inventory.objects.iter().map(|(id, _)| id);
    let stay: Vec<ObjectId> = all.filter(|id| !brought.contains(id)).cloned().collect();
    let pruned = match prune::prune(stage, &stay, &guard, Leftovers::Tell).await {
        Ok(pruned) => pruned,
        Err(error) => return Err(note_what_is_there(stage, error).await),
    };
    drop(guard);
    stage.held.inventory.brought.clear();
    stage.held.keep().await?;
    Ok(told(&pruned))
}

/// Those objects that would not stay as they are.
pub async fn changed(stage: &Stage<'_>, tree: &TreeId, manifests: Vec<Manifest>) -> Result<Vec<Manifest>, TargetError> {
    let ask = |manifest: Manifest| async move {
        let marked = stage.mark(&manifest, tree);
        let wanted = drift::Wanted { manifest: &manifest, marked, literal: false, manager: drift::MANAGER };
        let changes = drift::would_change(&stage.cluster, &wanted).await;
        let changes = changes.map_err(|error| super::refusals::about("compare", &manifest.id, &error))?;
        Ok::<_, TargetError>(changes.then_some(manifest))
    };
    let asked: Vec<_> = manifests.into_iter().map(|manifest| ask(manifest).boxed()).collect();
    let found: Vec<Option<Manifest>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Deletes all that we made here.
pub async fn nothing(stage: &mut Stage<'_>) -> Result<String, TargetError> {
    if !stage.held.is_there() {
        return Ok("nothing of ours is known here".to_owned());
    }
    // From the first deletion on nobody may take it for standing.
    let inventory = &mut stage.held.inventory;
    (inventory.stable, inventory.candidate, inventory.rolled) = (None, None, None);
    stage.held.keep().await?;
    let guard = Guard::over(&stage.held);
    let pruned = match prune::prune(stage, &[], &guard, Leftovers::Fail).await {
        Ok(pruned) => pruned,
        Err(error) => return Err(note_what_is_there(stage, error).await),
    };
    drop(guard);
    let inventory = &mut stage.held.inventory;
    (inventory.stable, inventory.candidate, inventory.doing, inventory.rolled) = (None, None, None, None);
    inventory.passing.clear();
    inventory.brought.clear();
    inventory.tracks.clear();
    stage.held.keep().await?;
    Ok(told(&pruned).unwrap_or_else(|| "there was nothing to take down".to_owned()))
}

/// Raises the number in the inventory, which is made where it is missing.
pub async fn claim(stage: &mut Stage<'_>, tree: &TreeId, rendered: &Rendered) -> Result<(), TargetError> {
    if !stage.held.is_there() {
        own_namespace(stage, tree, rendered).await?;
    }
    stage.held.keep().await
}

/// Writes down what is about to be made, under our number, and begins to watch for a newer one.
async fn announce(stage: &mut Stage<'_>, tree: &TreeId, rendered: &Rendered) -> Result<Guard, TargetError> {
    for manifest in &rendered.manifests {
        stage.held.inventory.objects.want(&manifest.id);
    }
    stage.held.inventory.passing.extend(passing(&rendered.manifests));
    stage.held.inventory.doing = Some(tree.clone());
    claim(stage, tree, rendered).await?;
    Ok(Guard::over(&stage.held))
}

/// The inventory lives in the target's namespace, which may come with the release: then that is the one object before it.
async fn own_namespace(stage: &mut Stage<'_>, tree: &TreeId, rendered: &Rendered) -> Result<(), TargetError> {
    let is_it = |m: &&Manifest| order::rank(&m.id) == order::Rank::Namespaces && m.id.name == stage.seat.namespace;
    let Some(manifest) = rendered.manifests.iter().find(is_it) else { return Ok(()) };
    let object = stage.mark(manifest, tree);
    let how = crate::clients::kube::How { force: stage.config.force(), ..Default::default() };
    let applied = stage.cluster.apply(&manifest.id, &object, super::inventory::MANAGER, how).await;
    let applied = applied.map_err(|error| super::refusals::of_apply(manifest, &error))?;
    stage.held.inventory.objects.applied(&manifest.id, &applied.metadata, applied.created);
    Ok(())
}

/// After a failure the UIDs that are known are written down; that this fails too says less than the failure itself.
async fn note_what_is_there(stage: &mut Stage<'_>, error: TargetError) -> TargetError {
    match (stage.held.keep().await, error) {
        (Err(fenced @ TargetError::Fenced { .. }), _) => fenced,
        (Ok(()) | Err(_), error) => error,
    }
}

/// Jobs that the cluster collects when they are done.
fn passing(manifests: &[Manifest]) -> impl Iterator<Item = ObjectId> {
    manifests.iter().filter(|m| health::is_collected_when_done(&m.object)).map(|m| m.id.clone())
}

async fn watch(
    stage: &Stage<'_>,
    manifests: &[Manifest],
    way: Way,
    stayed: &[ObjectId],
) -> Result<String, TargetError> {
    let ids = manifests.iter().map(|manifest| &manifest.id);
    let watched: Vec<ObjectId> = ids.filter(|id| !order::is_only_text(id) && !stayed.contains(id)).cloned().collect();
    if watched.is_empty() {
        return Ok("nothing of it needs to become ready".to_owned());
    }
    let watched = Watched::from(&watched).with_passing(passing(manifests));
    let watched = match way {
        Way::Back => watched.on_the_way_back(),
        Way::Forward | Way::Through | Way::Over => watched,
    };
    rollout::watch(&stage.cluster, watched, stage.config.rollout(), &stage.site.progress).await.into_result()
}

fn note(wrote: &Wrote, pruned: &Pruned, ready: &str, rendered: &Rendered) -> String {
    let mut parts =
        vec![format!("{} applied, {} of them new", counted(wrote.objects), wrote.created), ready.to_owned()];
    parts.extend(told(pruned));
    if !wrote.taken.is_empty() {
        parts.push(format!("taken from others: {}", conflicts::list(&wrote.taken)));
    }
    if !wrote.stayed.is_empty() {
        parts.push(format!("left as another release made it: {}", named(wrote.stayed.iter())));
    }
    if !wrote.left.is_empty() {
        parts.push(format!("left to others: {}", conflicts::list(&wrote.left)));
    }
    parts.extend(rendered.renderer.as_ref().map(|renderer| format!("rendered by {renderer}")));
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

fn told(pruned: &Pruned) -> Option<String> {
    let deleted = (!pruned.deleted.is_empty()).then(|| format!("deleted: {}", named(pruned.deleted.iter())));
    let kept = pruned.kept.iter().map(|(id, why)| format!("{id} ({why})")).take(NAMED_MAX).collect::<Vec<_>>();
    let kept = (!kept.is_empty()).then(|| format!("not deleted: {}", kept.join(", ")));
    let left = pruned.left.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>();
    let left = (!left.is_empty()).then(|| format!("left over until the next act: {}", left.join(", ")));
    let parts: Vec<String> = deleted.into_iter().chain(kept).chain(left).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn named<'a>(ids: impl ExactSizeIterator<Item = &'a ObjectId>) -> String {
    let more = ids.len().saturating_sub(NAMED_MAX);
    let mut text = ids.take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn counted(objects: usize) -> String {
    match objects {
        1 => "1 object".to_owned(),
        many => format!("{many} objects"),
    }
}
