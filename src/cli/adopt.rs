use serde_json::json;

use super::{
    answer::{Answer, DONE, Failure, words},
    desk::Desk,
};
use crate::{
    commands::{self, Drift},
    engine::State,
    ledger::{Proposal, Proposed},
    model::{CommitId, Difference, DriftEnd, TreeId, What},
    pipeline::Environment,
    planner::{self, AdoptError},
    runner::{Goal, Seizure},
};

/// How often the commit is made anew on a branch that moved meanwhile.
const RACES_MAX: usize = 10;

/// `piton drift --adopt`: what is live becomes the wish, as a commit.
pub async fn run(
    desk: &Desk,
    environment: &Environment,
    args: &Drift,
    state: &State,
    found: &[Difference],
) -> Result<Answer, Failure> {
    let open = open_ones(desk, state, found);
    if open.is_empty() {
        return Ok(Answer::done("known_drift").with("environment", environment.name.as_str()));
    }
    let source = &desk.pipeline.source.branch;
    let branch = args.branch.clone().unwrap_or_else(|| source.clone());
    // The look was at what is live; without it there would be no differences.
    let Some(live) = &state.live else { return Err(Failure::usage("nothing is deployed that could be adopted")) };
    let (commit, files) = commit(desk, environment, args, &live.tree, &open, &branch).await?;
    let marks = commands::marks(&open)?;
    let make = |state: &State| {
        let how = DriftEnd::Adopted { commit: commit.clone(), branch: branch.clone(), marks: marks.clone() };
        // A promotion that waits was planned without this commit.
        let waiting = state.attempt.as_ref().filter(|attempt| attempt.touched.is_none());
        let again = waiting.map(|attempt| What::Aborted {
            attempt: attempt.id,
            reason: format!("what was changed by hand is adopted by {}; plan again", commit.short()),
        });
        Ok(std::iter::once(What::DriftEnded { how }).chain(again).collect())
    };
    let state = desk.append(&environment.name, make).await?.state;
    if state.attempt.as_ref().is_some_and(|attempt| attempt.aborted.is_some()) {
        desk.carry_on(environment, Goal::Ended { wait_for_people: false }, Seizure::Nobody).await?;
    }
    let (voice, name) = (&desk.voice, &environment.name);
    voice.say(format!("{} {name}: {} on `{branch}` says what is live", voice.good("✓"), commit.short()));
    if branch != *source {
        let word =
            format!("  merge `{branch}` into `{source}` before the next promotion: it would write over what is live");
        voice.say(voice.warn(word));
    }
    voice.say(voice.dim(format!(
        "  `piton promote {name} --to {}` brings it in at once; a step to a commit before it would go against what is live",
        commit.short()
    )));
    Ok(Answer::new(DONE, "complete", "adopted")
        .with("environment", name.as_str())
        .with("commit", commit.as_str())
        .with("branch", branch)
        .with("files", json!(files)))
}

/// As the target sees them, unshortened.
fn open_ones(desk: &Desk, state: &State, found: &[Difference]) -> Vec<Difference> {
    found.iter().filter(|d| !state.unknown(vec![(*d).clone()], desk.now()).is_empty()).cloned().collect()
}

async fn commit(
    desk: &Desk,
    environment: &Environment,
    args: &Drift,
    deployed: &TreeId,
    open: &[Difference],
    branch: &str,
) -> Result<(CommitId, Vec<String>), Failure> {
    let reason = commands::reason(&args.reason)?;
    for _ in 0..RACES_MAX {
        let tip = desk.repository.tip_of_source(&desk.pipeline.source.branch).await?;
        let before = desk.repository.tree_of(&tip)?;
        let (tree, files) = planner::adopt(&desk.pipeline, &desk.repository, deployed, &before, open)?;
        let proposal = Proposal {
            parent: tip.clone(),
            tree,
            message: message(environment, open, &reason),
            by: desk.me.actor.clone(),
            at: desk.now(),
        };
        let seen = Some(&tip).filter(|_| branch == desk.pipeline.source.branch);
        match desk.ledger.propose(&proposal, branch, seen).await? {
            Proposed::Pushed(commit) => return Ok((commit, files)),
            Proposed::Lost if seen.is_some() => {}
            Proposed::Lost => {
                return Err(Failure::usage(format!("there is a branch `{branch}` already")).hint("name another one"));
            }
            Proposed::Refused(why) => {
                let message = format!("the git host does not take a commit on `{branch}`: {why}");
                let hint = "`--branch NAME` writes it to a new branch, for a pull request";
                return Err(Failure::refused("push_refused", message).hint(hint));
            }
        }
    }
    Err(Failure::try_again("lost_race", format!("lost {RACES_MAX} races for `{branch}` in a row")))
}

fn message(environment: &Environment, open: &[Difference], reason: &str) -> String {
    let list: String = open.iter().map(|d| format!("- {}\n", d.clone().bounded())).collect();
    format!("Adopt what is live in {}\n\n{reason}\n\n{list}", environment.name)
}

impl From<AdoptError> for Failure {
    fn from(error: AdoptError) -> Failure {
        let message = words(&error);
        match &error {
            AdoptError::Moved { .. } => Failure::refused("not_adoptable", message)
                .hint("write what is live into the source branch by hand, or deploy over it with `--drop`"),
            AdoptError::NoPlace(_) | AdoptError::NotAValue { .. } => Failure::refused("not_adoptable", message)
                .hint("change the source branch by hand, or deploy over it with `--drop`"),
            AdoptError::NoFile { .. } => Failure::refused("not_adoptable", message),
            AdoptError::Edit { source, .. } => {
                Failure { hint: source.hint(), ..Failure::refused("not_adoptable", message) }
            }
            AdoptError::Trees(_) => Failure::try_again("git", message),
        }
    }
}
