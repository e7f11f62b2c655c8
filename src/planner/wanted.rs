use std::collections::BTreeMap;

use super::{Context, PlanError, SourceCommit, Trees};
use crate::{
    edit,
    engine::State,
    model::{Bump, ComponentName, EnvironmentName, Held, HeldBy, Quarantined, Stamp, TreeId, Version},
    pipeline::{Component, Pace, Pipeline},
};

/// What a source commit asks for in this environment, after everything that holds it back.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub tree: TreeId,
    pub versions: BTreeMap<ComponentName, Version>,
    pub bumps: Vec<Bump>,
    pub held: Vec<Held>,
    /// Changed files that no bump explains, with their new blob ids.
    pub content: Vec<(String, Option<String>)>,
    /// Bumps of the same commit that wait for a further step.
    pub later: bool,
}

/// The values of all components in a tree.
pub fn versions_in(
    pipeline: &Pipeline,
    trees: &dyn Trees,
    tree: &TreeId,
) -> Result<BTreeMap<ComponentName, Version>, PlanError> {
    let mut versions = BTreeMap::new();
    for (name, component) in &pipeline.components {
        if let Some(version) = version_in(name, component, trees, tree)? {
            versions.insert(name.clone(), version);
        }
    }
    Ok(versions)
}

fn version_in(
    name: &ComponentName,
    component: &Component,
    trees: &dyn Trees,
    tree: &TreeId,
) -> Result<Option<Version>, PlanError> {
    let place = &component.place;
    let Some(bytes) = trees.read(tree, &place.file)? else {
        if component.within.is_some() {
            return Ok(None);
        }
        return Err(PlanError::NoFile { component: name.clone(), file: place.file.clone(), tree: tree.clone() });
    };
    match edit::read(&bytes, place) {
        Ok(None) if component.within.is_none() => {
            Err(PlanError::NoValue { component: name.clone(), file: place.file.clone(), tree: tree.clone() })
        }
        Ok(version) => Ok(version),
        Err(source) => Err(PlanError::Edit { component: name.clone(), file: place.file.clone(), source }),
    }
}

/// The tree with these components set to these values; `None` takes an optional value out.
pub fn compose(
    pipeline: &Pipeline,
    trees: &dyn Trees,
    base: &TreeId,
    values: &[(ComponentName, Option<Version>)],
) -> Result<TreeId, PlanError> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, value) in values {
        let Some(component) = pipeline.components.get(name) else { continue };
        let place = &component.place;
        let bytes = match files.remove(&place.file) {
            Some(bytes) => bytes,
            None => trees.read(base, &place.file)?.ok_or_else(|| PlanError::NoFile {
                component: name.clone(),
                file: place.file.clone(),
                tree: base.clone(),
            })?,
        };
        let wrong = |source| PlanError::Edit { component: name.clone(), file: place.file.clone(), source };
        let there = edit::read(&bytes, place).map_err(wrong)?;
        let changed = match (there, value) {
            (Some(old), Some(new)) if old == *new => bytes,
            (Some(_), Some(new)) => edit::write(&bytes, place, None, new).map_err(wrong)?,
            (None, Some(_)) if component.within.is_none() => {
                let file = place.file.clone();
                return Err(PlanError::NoValue { component: name.clone(), file, tree: base.clone() });
            }
            (None, Some(new)) => edit::insert(&bytes, place, new).map_err(wrong)?,
            (Some(_), None) => edit::remove(&bytes, place, None).map_err(wrong)?,
            (None, None) => bytes,
        };
        files.insert(place.file.clone(), changed);
    }
    let files: Vec<(String, Vec<u8>)> = files.into_iter().collect();
    if files.is_empty() {
        return Ok(base.clone());
    }
    Ok(trees.write(base, &files)?)
}

/// What the commit asks for here: its tree, with every held component at the value it has now.
pub(super) fn wanted(context: &Context, commit: &SourceCommit) -> Result<Wanted, PlanError> {
    let Context { pipeline, state, trees, now, .. } = *context;
    let asked = versions_in(pipeline, trees, &commit.tree)?;
    let live = state.live.as_ref();
    let live_versions = live.map(|l| l.versions.clone()).unwrap_or_default();
    let mut values: BTreeMap<ComponentName, Option<Version>> = BTreeMap::new();
    let mut held = Vec::new();
    for name in pipeline.components.keys() {
        let theirs = asked.get(name);
        let ours = live_versions.get(name);
        let (value, by) = decide(context, name, theirs, ours, live.is_some());
        if let Some(by) = by {
            held.push(Held { component: name.clone(), at: value.clone(), wanted: theirs.cloned(), by });
        }
        values.insert(name.clone(), value);
    }
    hold_bundles(pipeline, &live_versions, &mut values, &mut held);
    refuse_quarantined_first(state, &values, live.is_none(), now)?;
    let differing = values.iter().filter(|(name, value)| asked.get(*name) != value.as_ref());
    let sets: Vec<_> = differing.map(|(name, value)| (name.clone(), value.clone())).collect();
    let tree = compose(pipeline, trees, &commit.tree, &sets)?;
    let bumps = bumps_between(&live_versions, &values);
    let whole = Wanted { tree, versions: present(&values), bumps, held, content: Vec::new(), later: false };
    narrow(context, whole)
}

/// The value a component gets, and why it is not the one the source has.
fn decide(
    context: &Context,
    name: &ComponentName,
    theirs: Option<&Version>,
    ours: Option<&Version>,
    deployed: bool,
) -> (Option<Version>, Option<HeldBy>) {
    let Context { state, upstream, now, .. } = *context;
    if let Some(pin) = state.pin(name, now) {
        let by = HeldBy::Pin { reason: pin.reason.clone(), until: pin.until };
        return (Some(pin.version.clone()), (theirs != Some(&pin.version)).then_some(by));
    }
    let Some(version) = theirs.filter(|theirs| deployed && Some(*theirs) != ours) else {
        return (theirs.cloned(), None);
    };
    let quarantine = upstream.iter().map(|(_, s)| *s).chain([state]).find_map(|s| s.quarantine(name, version, now));
    if let Some(q) = quarantine {
        return (ours.cloned(), Some(HeldBy::Quarantine { reason: q.reason.clone(), until: q.until }));
    }
    match upstream.iter().find(|(_, s)| !proven(s, name, version)) {
        Some((environment, _)) => {
            (ours.cloned(), Some(HeldBy::Unproven { environment: EnvironmentName::clone(environment) }))
        }
        None => (Some(version.clone()), None),
    }
}

fn proven(upstream: &State, name: &ComponentName, version: &Version) -> bool {
    upstream.proven.get(name).is_some_and(|versions| versions.contains(version))
}

/// A bundle moves together or not at all.
fn hold_bundles(
    pipeline: &Pipeline,
    live: &BTreeMap<ComponentName, Version>,
    values: &mut BTreeMap<ComponentName, Option<Version>>,
    held: &mut Vec<Held>,
) {
    for bundle in &pipeline.bundles {
        let Some(first) = held.iter().find(|h| bundle.contains(&h.component)).cloned() else { continue };
        if matches!(first.by, HeldBy::Pin { .. }) {
            continue;
        }
        for name in bundle {
            let Some(value) = values.get_mut(name).filter(|v| v.as_ref() != live.get(name)) else { continue };
            let wanted = value.clone();
            *value = live.get(name).cloned();
            held.push(Held { component: name.clone(), at: value.clone(), wanted, by: first.by.clone() });
        }
    }
}

/// A first release has no value to hold a component at.
fn refuse_quarantined_first(
    state: &State,
    values: &BTreeMap<ComponentName, Option<Version>>,
    first: bool,
    now: Stamp,
) -> Result<(), PlanError> {
    let versions = values.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (name, version) in versions {
        let pinned = state.pin(name, now).is_some();
        if let Some(q) = state.quarantine(name, version, now).filter(|_| first || pinned) {
            return Err(PlanError::Quarantined {
                component: name.clone(),
                version: version.clone(),
                reason: q.reason.clone(),
            });
        }
    }
    Ok(())
}

fn bumps_between(
    live: &BTreeMap<ComponentName, Version>,
    values: &BTreeMap<ComponentName, Option<Version>>,
) -> Vec<Bump> {
    let changed = values.iter().filter(|(name, value)| live.get(*name) != value.as_ref());
    changed
        .map(|(name, value)| Bump { component: name.clone(), from: live.get(name).cloned(), to: value.clone() })
        .collect()
}

fn present(values: &BTreeMap<ComponentName, Option<Version>>) -> BTreeMap<ComponentName, Version> {
    values.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
}

/// Takes the smallest part of it that stands for itself, and names the files that no bump explains.
fn narrow(context: &Context, mut whole: Wanted) -> Result<Wanted, PlanError> {
    let Context { pipeline, state, trees, now, .. } = *context;
    let Some(live) = state.live.as_ref() else { return Ok(whole) };
    let of_bumps = |bumps: &[Bump]| -> Vec<(ComponentName, Option<Version>)> {
        bumps.iter().map(|b| (b.component.clone(), b.to.clone())).collect()
    };
    let explained = compose(pipeline, trees, &live.tree, &of_bumps(&whole.bumps));
    // A bump whose place the live tree does not have comes with the files that bring the place.
    let base = match explained {
        Ok(tree) => tree,
        Err(PlanError::NoFile { .. } | PlanError::NoValue { .. } | PlanError::Edit { .. }) => live.tree.clone(),
        Err(error) => return Err(error),
    };
    if base != whole.tree {
        let changed = trees.changed(&base, &whole.tree)?;
        whole.content = changed.into_iter().map(|c| (c.path, c.new)).collect();
        refuse_quarantined_content(state, &whole.content, now)?;
        return Ok(whole);
    }
    if context.environment.pace != Pace::Bump || whole.bumps.len() < 2 {
        return Ok(whole);
    }
    let first = first_group(pipeline, &whole.bumps);
    if first.len() == whole.bumps.len() {
        return Ok(whole);
    }
    let (now_bumps, later): (Vec<Bump>, Vec<Bump>) =
        whole.bumps.into_iter().partition(|b| first.contains(&b.component));
    let tree = compose(pipeline, trees, &live.tree, &of_bumps(&now_bumps))?;
    let mut versions = live.versions.clone();
    for bump in &now_bumps {
        match &bump.to {
            Some(version) => versions.insert(bump.component.clone(), version.clone()),
            None => versions.remove(&bump.component),
        };
    }
    let waiting = later.into_iter();
    let waiting = waiting.map(|b| Held { component: b.component, at: b.from, wanted: b.to, by: HeldBy::NextStep });
    whole.held.extend(waiting);
    Ok(Wanted { tree, versions, bumps: now_bumps, held: whole.held, content: Vec::new(), later: true })
}

/// The components of the bump that goes first: a pinned one before all, then the smallest step, its bundle with it.
fn first_group(pipeline: &Pipeline, bumps: &[Bump]) -> Vec<ComponentName> {
    let size = |bump: &&Bump| {
        let order = pipeline.components.get(&bump.component).map(|c| c.order).unwrap_or_default();
        let step = match (&bump.from, &bump.to) {
            (Some(from), Some(to)) => Some(crate::versions::step(order, from, to)),
            (None, _) | (_, None) => None,
        };
        (step.is_none(), step, bump.component.clone())
    };
    let Some(first) = bumps.iter().min_by_key(size) else { return Vec::new() };
    let bundle = pipeline.bundles.iter().find(|bundle| bundle.contains(&first.component));
    match bundle {
        Some(bundle) => bundle.iter().cloned().collect(),
        None => vec![first.component.clone()],
    }
}

fn refuse_quarantined_content(
    state: &State,
    content: &[(String, Option<String>)],
    now: Stamp,
) -> Result<(), PlanError> {
    for quarantine in state.quarantines.iter().filter(|q| q.in_force(now)) {
        if let Quarantined::Content { commit, files } = &quarantine.what
            && files.iter().all(|file| content.contains(file))
        {
            let files = files.iter().map(|(path, _)| path.clone()).collect();
            return Err(PlanError::QuarantinedContent {
                commit: commit.clone(),
                files,
                reason: quarantine.reason.clone(),
            });
        }
    }
    Ok(())
}
