use serde_json::json;

use super::{
    answer::{Answer, DONE, Failure},
    desk::Desk,
    promote,
};
use crate::{
    commands::{self, Rollback, To},
    engine::State,
    ledger::{Entry, Ledger},
    model::{ComponentName, Lease, Release, Stamp, TreeId, What},
    pipeline::Environment,
    planner::{self, Context},
    runner::{Goal, Outcome, Seizure},
};

/// How many pages of the branch are searched for a commit or a moment.
const PAGES_MAX: usize = 5_000;

/// `piton rollback`: needs no gate, no metrics source, no notification and no git host.
pub async fn run(desk: &Desk, args: &Rollback) -> Result<Answer, Failure> {
    let environment = desk.environment(&args.environment)?;
    if let Some(component) = &args.component {
        commands::known(component, &desk.pipeline)?;
    }
    let fence = accept_rewritten(desk, args).await?;
    let opened = desk.read_anyway(&args.environment).await?;
    let whole = destination(desk, environment, &opened.state, &args.to).await?;
    let to = match &args.component {
        Some(component) => only(desk, environment, &opened.state, component, &whole)?,
        None => whole,
    };
    let standing = opened.state.standing().cloned();
    if standing.as_ref().is_some_and(|from| from.tree == to.tree)
        && opened.state.stuck.is_none()
        && opened.state.foreign.is_none()
        && !opened.state.is_busy()
    {
        desk.voice.say(format!("{} {} is there already", desk.voice.good("✓"), environment.name));
        return Ok(Answer::done("already_there").with("environment", environment.name.as_str()));
    }
    say(desk, environment, standing.as_ref(), &to);
    for component in overruled(&opened.state, &to, args.component.as_ref()) {
        desk.voice.say(desk.voice.warn(format!("  the pin of {component} ends with it")));
    }
    if args.dry_run {
        return Ok(Answer::done("planned").with("environment", environment.name.as_str()).with("to", json!(to)));
    }
    let make = |state: &State| {
        let scope = args.component.as_ref();
        // Somebody may have written in between: what is good is asked again.
        let good = state.way_back().map(|good| good.release.clone());
        let to = good.filter(|_| args.to == To::Good && scope.is_none()).unwrap_or_else(|| to.clone());
        let quarantine = match (state.standing(), args.no_quarantine) {
            (Some(from), false) => commands::quarantine_of(from, &to, scope, &args.reason, &desk.me.actor, desk.now()),
            (Some(_), true) | (None, _) => Vec::new(),
        };
        let ordered = What::RollbackOrdered {
            to: Some(to.clone()),
            scope: args.component.clone(),
            quarantine,
            reason: args.reason.clone(),
        };
        // Whoever orders another version knows better than the pin.
        let unpinned = overruled(state, &to, args.component.as_ref()).into_iter();
        let unpinned = unpinned.map(|component| What::Unpinned { component, reason: args.reason.clone() });
        // The lease is taken in the same page: whoever acts here is fenced off from now on.
        let claim = state
            .claim(&desk.me, desk.now(), true)
            .map_err(|taken| Failure::try_again("lease_taken", taken.to_string()))?;
        let claim = claim.map(|what| past(fence, what));
        Ok(claim.into_iter().chain(unpinned).chain([ordered]).collect())
    };
    desk.append_anyway(&args.environment, opened, make).await?;
    // The order is only here so far: the origin is looked at before anything is done, as somebody may have acted meanwhile.
    let goal = Goal::Ended { wait_for_people: true };
    let (outcome, state) = desk.carry_on(environment, goal, Seizure::ForTheWayBack).await?;
    let answer = promote::conclude(desk, environment, &outcome, &state);
    Ok(match (&outcome, answer.reason_code) {
        // That it went back is what was asked for.
        (Outcome::Ended, "rolled_back") => match promote::tidied(desk, &state) {
            Some(untidy) => untidy.with("environment", environment.name.as_str()),
            None => Answer { code: DONE, decision: "complete", ..answer },
        },
        _ => answer,
    })
}

/// Takes the branch as it is, where that was asked for; gives the highest fencing number that was seen before.
async fn accept_rewritten(desk: &Desk, args: &Rollback) -> Result<u64, Failure> {
    if !args.accept_rewritten {
        return Ok(0);
    }
    let seen = desk.ledger.open_mirror(&args.environment).await?.state.fence;
    desk.ledger.accept_rewritten(&args.environment).await?;
    Ok(seen)
}

/// What is deployed has seen the number of the old history, and refuses an older one.
fn past(fence: u64, what: What) -> What {
    let What::Leased { lease } = what else { return what };
    What::Leased { lease: Lease { fence: lease.fence.max(fence + 1), ..lease } }
}

/// The release that the words mean.
async fn destination(desk: &Desk, environment: &Environment, state: &State, to: &To) -> Result<Release, Failure> {
    let name = &environment.name;
    match to {
        To::Good => state.way_back().map(|good| good.release.clone()).ok_or_else(|| {
            Failure::refused("no_known_good", format!("`{name}` has no known-good release to go back to"))
                .hint("name a commit with `--to COMMIT`")
        }),
        To::Commit(text) => at_commit(desk, environment, state, text).await,
        To::Time(stamp) => at_time(desk, environment, state, *stamp).await,
        To::Ago(span) => at_time(desk, environment, state, Stamp(desk.now().0 - span.0 as i64)).await,
    }
}

async fn at_commit(desk: &Desk, environment: &Environment, state: &State, text: &str) -> Result<Release, Failure> {
    let entries = desk.ledger.pages(&environment.name, None, PAGES_MAX).await?;
    if let Some(entry) = entries.iter().find(|entry| entry.commit.as_str().starts_with(text)) {
        return release_of(desk, state, &entries, entry);
    }
    let commit = desk.repository.resolve(text)?;
    let tree = desk.repository.tree_of(&commit)?;
    let versions = planner::versions_in(&desk.pipeline, &desk.repository, &tree)?;
    Ok(Release { tree, source: commit, versions })
}

async fn at_time(desk: &Desk, environment: &Environment, state: &State, at: Stamp) -> Result<Release, Failure> {
    let entries = desk.ledger.pages(&environment.name, None, PAGES_MAX).await?;
    let entry = entries
        .iter()
        .find(|entry| entry.at <= at)
        .ok_or_else(|| Failure::usage(format!("the ledger of `{}` does not reach back to {at}", environment.name)))?;
    release_of(desk, state, &entries, entry)
}

fn release_of(desk: &Desk, state: &State, entries: &[Entry], entry: &Entry) -> Result<Release, Failure> {
    if entry.tree == TreeId::empty() {
        let message = format!("nothing was deployed at {} yet, {}", entry.commit.short(), entry.at);
        return Err(Failure::usage(message).hint("name a later commit or moment"));
    }
    let planned = entries.iter().flat_map(|e| &e.events).find_map(|event| match &event.what {
        What::Started { plan } if plan.release.tree == entry.tree => Some(plan.release.clone()),
        _ => None,
    });
    if let Some(release) = planned {
        return Ok(release);
    }
    let versions = planner::versions_in(&desk.pipeline, &desk.repository, &entry.tree)?;
    let source = state.standing().map(|r| r.source.clone()).or_else(|| state.source_done.clone());
    let source = source.unwrap_or_else(|| entry.commit.clone());
    Ok(Release { tree: entry.tree.clone(), source, versions })
}

/// What is live with only this component as it is in `whole`.
fn only(
    desk: &Desk,
    environment: &Environment,
    state: &State,
    component: &ComponentName,
    whole: &Release,
) -> Result<Release, Failure> {
    let context = Context {
        pipeline: &desk.pipeline,
        environment,
        state,
        upstream: &[],
        trees: &desk.repository,
        now: desk.now(),
    };
    let release = planner::without(&context, component, whole.versions.get(component))?;
    release.ok_or_else(|| Failure::refused("nothing_live", format!("nothing is live in `{}`", environment.name)))
}

/// Pins that the release goes against.
fn overruled(state: &State, to: &Release, scope: Option<&ComponentName>) -> Vec<ComponentName> {
    let against = |(name, pin): &(&ComponentName, &crate::model::Pin)| {
        scope.is_none_or(|scope| scope == *name) && to.versions.get(*name) != Some(&pin.version)
    };
    state.pins.iter().filter(against).map(|(name, _)| name.clone()).collect()
}

/// What will happen, before it does.
fn say(desk: &Desk, environment: &Environment, from: Option<&Release>, to: &Release) {
    let voice = &desk.voice;
    voice.say(voice.bold(format!("{}: back to {}", environment.name, to.tree.short())));
    let names = desk.pipeline.components.iter();
    for (name, component) in names {
        let was = from.and_then(|from| from.versions.get(name));
        let will = to.versions.get(name);
        if was == will {
            continue;
        }
        let text = |v: Option<&crate::model::Version>| v.map_or("(absent)".to_owned(), |v| v.to_string());
        let restarts = component.restarts.as_ref().map_or(String::new(), |what| format!("; restarts {what}"));
        voice.say(format!("  {}  {} → {}{restarts}", voice.note(name), voice.dim(text(was)), voice.bold(text(will))));
    }
}
