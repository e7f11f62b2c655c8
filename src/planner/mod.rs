#![doc = include_str!("README.md")]

mod adopt;
mod invariants;
mod wanted;

use crate::{
    edit,
    engine::State,
    model::{
        Actor, Bump, CommitId, ComponentName, EnvironmentName, FileChange, Held, InvariantName, Plan, PlanKind,
        Portion, Release, Span, Stamp, Step, TreeId, Version,
    },
    pipeline::{Environment, Pace, Pipeline},
};

pub use adopt::{AdoptError, adopt};
pub use wanted::{compose, versions_in};

/// Content by its id: the same id always gives the same bytes, so that asking is as pure as calculating.
pub trait Trees {
    /// The bytes of a file; `None` where the tree has no such file.
    fn read(&self, tree: &TreeId, path: &str) -> Result<Option<Vec<u8>>, TreesError>;

    /// The tree with these files changed; the rest, modes included, stays as it was.
    fn write(&self, base: &TreeId, files: &[(String, Vec<u8>)]) -> Result<TreeId, TreesError>;

    /// The files that differ, each with its old and new blob id.
    fn changed(&self, from: &TreeId, to: &TreeId) -> Result<Vec<Changed>, TreesError>;

    /// The same for people, with unified diffs of text files.
    fn diff(&self, from: &TreeId, to: &TreeId) -> Result<Vec<FileChange>, TreesError>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub path: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// One commit of the source branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceCommit {
    pub id: CommitId,
    pub tree: TreeId,
    pub at: Stamp,
    pub subject: String,
    pub author: Actor,
}

/// Why content could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct TreesError {
    pub doing: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub pipeline: &'a Pipeline,
    pub environment: &'a Environment,
    pub state: &'a State,
    /// The environments that this one comes after.
    pub upstream: &'a [(&'a EnvironmentName, &'a State)],
    pub trees: &'a dyn Trees,
    pub now: Stamp,
}

/// What the planner says.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    Next(Box<Plan>),
    /// Everything is where it should be; the components that are held back all the same.
    UpToDate {
        held: Vec<Held>,
    },
}

/// Why no plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("component `{component}`: there is no file `{file}` in tree {tree}")]
    NoFile { component: ComponentName, file: String, tree: TreeId },
    #[error("component `{component}`: `{file}` has no value at its place in tree {tree}")]
    NoValue { component: ComponentName, file: String, tree: TreeId },
    #[error("component `{component}`: `{file}` cannot be read or changed there")]
    Edit {
        component: ComponentName,
        file: String,
        #[source]
        source: edit::EditError,
    },
    #[error("`{component}` {version} is in quarantine ({reason}) and there is no other value to hold it at")]
    Quarantined { component: ComponentName, version: Version, reason: String },
    #[error("the change of {} by commit {commit} is in quarantine ({reason})", files.join(", "))]
    QuarantinedContent { commit: CommitId, files: Vec<String>, reason: String },
    #[error("release {} breaks the invariant `{invariant}`: {why}", tree.short())]
    Invariant { invariant: InvariantName, why: String, tree: TreeId },
    #[error("the invariant `{invariant}` cannot be checked")]
    InvariantUnread {
        invariant: InvariantName,
        #[source]
        source: edit::EditError,
    },
    #[error(transparent)]
    Trees(#[from] TreesError),
}

/// The smallest next step. `commits` are the source's first-parent commits, oldest first, from the one that is done with
/// (it is asked again: a pin, an unpin or the end of a quarantine changes what it means here).
pub fn plan(context: &Context, commits: &[SourceCommit]) -> Result<Planned, PlanError> {
    let stepping: Vec<&SourceCommit> =
        begun(context.state, commits).iter().filter(|c| is_stepping_stone(context, c)).collect();
    let stepping = match context.environment.pace {
        Pace::Bump | Pace::Commit => stepping.as_slice(),
        Pace::Latest => &stepping[stepping.len().saturating_sub(1)..],
    };
    // The first release is the newest there is: there is nothing to go step by step from.
    let stepping = if context.state.live.is_none() { &stepping[stepping.len().saturating_sub(1)..] } else { stepping };
    let mut held = Vec::new();
    let mut kept_out = None;
    for commit in stepping {
        let wanted = match wanted::wanted(context, commit) {
            Ok(wanted) => wanted,
            // A commit that takes the change back may come later.
            Err(error @ PlanError::QuarantinedContent { .. }) => {
                kept_out = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        if context.state.live.as_ref().is_none_or(|live| live.tree != wanted.tree) {
            match keeping_invariants(context, commit, wanted) {
                Ok(wanted) => return Ok(Planned::Next(Box::new(make(context, commit, wanted, None)?))),
                Err(error @ (PlanError::Invariant { .. } | PlanError::InvariantUnread { .. })) => {
                    kept_out = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        kept_out = None;
        held = wanted.held;
    }
    match kept_out {
        Some(error) => Err(error),
        None => Ok(Planned::UpToDate { held }),
    }
}

/// What is wanted, when every invariant holds of it and of all that the commit brings: half of a commit is not begun when
/// the other half may never follow. What only the half breaks, the whole may keep: a weight that goes from one member to
/// another is two components in one commit.
fn keeping_invariants(
    context: &Context,
    commit: &SourceCommit,
    wanted: wanted::Wanted,
) -> Result<wanted::Wanted, PlanError> {
    let check = |tree| invariants::check(&context.environment.invariants, context.trees, tree);
    if !wanted.later || context.environment.invariants.is_empty() {
        return check(&wanted.tree).map(|()| wanted);
    }
    let environment = Environment { pace: Pace::Commit, ..context.environment.clone() };
    let whole = wanted::wanted(&Context { environment: &environment, ..*context }, commit)?;
    check(&whole.tree)?;
    match check(&wanted.tree) {
        Ok(()) => Ok(wanted),
        Err(PlanError::Invariant { .. }) => Ok(whole),
        Err(error) => Err(error),
    }
}

/// The commits from the one that what is live comes from: of a commit that was split, the ones before it are behind us,
/// and asking them again would undo its first bumps.
fn begun<'a>(state: &State, commits: &'a [SourceCommit]) -> &'a [SourceCommit] {
    let live = state.live.as_ref().map(|live| &live.source);
    let at = commits.iter().position(|commit| Some(&commit.id) == live);
    &commits[at.unwrap_or(0)..]
}

/// To one commit, all at once, because a person says so.
pub fn jump(context: &Context, commit: &SourceCommit) -> Result<Planned, PlanError> {
    let whole = Environment { pace: Pace::Latest, ..context.environment.clone() };
    let context = Context { environment: &whole, upstream: &[], ..*context };
    let wanted = wanted::wanted(&context, commit)?;
    if context.state.live.as_ref().is_some_and(|live| live.tree == wanted.tree) {
        return Ok(Planned::UpToDate { held: wanted.held });
    }
    let wanted = keeping_invariants(&context, commit, wanted)?;
    Ok(Planned::Next(Box::new(make(&context, commit, wanted, Some(PlanKind::Jump))?)))
}

/// The release in which one component is back at an earlier value, and everything else as it is live.
pub fn without(
    context: &Context,
    component: &ComponentName,
    version: Option<&Version>,
) -> Result<Option<Release>, PlanError> {
    let Some(live) = context.state.standing() else { return Ok(None) };
    let values = [(component.clone(), version.cloned())];
    let tree = wanted::compose(context.pipeline, context.trees, &live.tree, &values)?;
    // One component's earlier value beside the others' is a release that nobody has proven yet.
    invariants::check(&context.environment.invariants, context.trees, &tree)?;
    let versions = wanted::versions_in(context.pipeline, context.trees, &tree)?;
    Ok(Some(Release { tree, source: live.source.clone(), versions }))
}

fn is_stepping_stone(context: &Context, commit: &SourceCommit) -> bool {
    let done = context.state.source_done.as_ref() == Some(&commit.id);
    done || context.upstream.iter().all(|(_, upstream)| upstream.proven_sources.contains(&commit.id))
}

fn make(
    context: &Context,
    commit: &SourceCommit,
    wanted: wanted::Wanted,
    kind: Option<PlanKind>,
) -> Result<Plan, PlanError> {
    let Context { environment, state, trees, .. } = *context;
    let back = state.live.clone();
    let files = match &back {
        Some(back) => trees.diff(&back.tree, &wanted.tree)?,
        None => Vec::new(),
    };
    let pinned = |bump: &Bump| state.pins.get(&bump.component).map(|pin| &pin.version) == bump.to.as_ref();
    let kind = kind.unwrap_or_else(|| match (&back, wanted.bumps.as_slice()) {
        (None, _) => PlanKind::First,
        (Some(_), []) => PlanKind::Content,
        (Some(_), bumps) if bumps.iter().all(pinned) => PlanKind::Pin,
        (Some(_), _) => PlanKind::Bump,
    });
    Ok(Plan {
        environment: environment.name.clone(),
        kind,
        release: Release { tree: wanted.tree, source: commit.id.clone(), versions: wanted.versions },
        back,
        bumps: wanted.bumps,
        held: wanted.held,
        files,
        content: wanted.content,
        steps: steps(environment),
        gates: environment.gates.clone(),
        limits: environment.limits.clone(),
        watch: environment.watch.clone(),
        subject: commit.subject.clone(),
        author: Some(commit.author.clone()),
        completes_source: !wanted.later,
        renderer: None,
    })
}

/// The steps that every promotion into the environment takes.
pub fn steps(environment: &Environment) -> Vec<Step> {
    let during = || environment.during.clone();
    let mut steps = vec![Step::Check { gates: environment.before.clone() }, Step::Deploy];
    let shift = |(to, hold): &(Portion, Span)| Step::Shift { to: to.clone(), hold: *hold, gates: during() };
    steps.extend(environment.canary.iter().map(shift));
    if !environment.canary.last().is_some_and(|(to, _)| to.is_all()) {
        steps.push(Step::Shift { to: Portion::ALL, hold: Span(0), gates: during() });
    }
    if !environment.proof.is_empty() {
        steps.push(Step::Prove { gates: environment.proof.clone() });
    }
    if environment.bake.0 > 0 {
        steps.push(Step::Bake { time: environment.bake, gates: during() });
    }
    steps
}

/// The least time the plan takes: what is never shortened.
pub fn least_time(plan: &Plan) -> Span {
    Span(plan.steps.iter().map(|step| step.soak().0).sum())
}

#[cfg(test)]
mod tests;
