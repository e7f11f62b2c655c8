//! The next step into an environment, and how it begins.

use std::sync::Arc;

use crate::{
    engine::State,
    ledger::{Appended, Freshness, Ledger, LedgerError, Opened, Page, Repository, RepositoryError, Settings, Signers},
    model::{Actor, CommitId, EnvironmentName, Event, Plan, Stamp, What},
    pipeline::{Environment, Pipeline},
    planner::{self, Context, PlanError, Planned, SourceCommit},
    runner::{self, Sockets},
};

/// How many commits of the source branch are looked at for the next step.
const COMMITS_MAX: usize = 1_000;

/// Why the next step is not known.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("there is no commit {0}")]
    NoCommit(CommitId),
}

/// Why nothing new may go in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBegun {
    #[error("`{environment}` is stuck {at} since {since}")]
    Stuck { environment: EnvironmentName, at: String, since: Stamp, advice: String },
    #[error(
        "the branch of `{environment}` holds commit {} by {author} that piton did not write: {why}",
        commit.short()
    )]
    Foreign { environment: EnvironmentName, commit: CommitId, author: Actor, why: String },
}

/// States from which nothing new may go in.
pub fn unsound(state: &State, environment: &EnvironmentName) -> Option<NotBegun> {
    let environment = environment.clone();
    if let Some(stuck) = &state.stuck {
        let (at, since, advice) = (stuck.at.clone(), stuck.since, stuck.advice.clone());
        return Some(NotBegun::Stuck { environment, at, since, advice });
    }
    let foreign = state.foreign.as_ref()?;
    let (commit, author, why) = (foreign.commit.clone(), foreign.author.clone(), foreign.why.clone());
    Some(NotBegun::Foreign { environment, commit, author, why })
}

/// How the ledger of a pipeline is kept.
pub fn settings(pipeline: &Pipeline) -> Settings {
    Settings {
        sign_with: pipeline.signing.key_variable.clone(),
        signers: pipeline.signing.allowed_signers.clone().map(Signers::InTree),
        ..Settings::default()
    }
}

/// Up to where the next step may lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upto {
    /// To the commit that a person named, and nowhere else.
    Named(CommitId),
    /// To this commit of the source branch, the newest one, through those before it.
    Newest(CommitId),
}

/// The next step into an environment, or to the commit that was named. `upstream` holds what the environments before it
/// have come to, in their order.
pub async fn next_step(
    repository: &Repository,
    pipeline: &Pipeline,
    environment: &Environment,
    state: &State,
    upstream: &[(EnvironmentName, State)],
    upto: &Upto,
    now: Stamp,
) -> Result<Planned, StepError> {
    let commits = match upto {
        Upto::Named(commit) => vec![commit_of(repository, commit).await?],
        Upto::Newest(tip) => waiting(repository, state, tip).await?,
    };
    let upstream: Vec<(&EnvironmentName, &State)> = upstream.iter().map(|(name, state)| (name, state)).collect();
    let context = Context { pipeline, environment, state, upstream: &upstream, trees: repository, now };
    Ok(match (upto, commits.first()) {
        (Upto::Named(_), Some(commit)) => planner::jump(&context, commit)?,
        (Upto::Named(_), None) | (Upto::Newest(_), _) => planner::plan(&context, &commits)?,
    })
}

/// The plan with what would render its release here. A machine that only plans need not have the renderer.
pub async fn with_renderer(planned: Planned, sockets: &dyn Sockets) -> Planned {
    let Planned::Next(plan) = planned else { return planned };
    let renderer = sockets.target().renderer().await.ok().flatten();
    Planned::Next(Box::new(Plan { renderer, ..*plan }))
}

/// The commit that a person means.
pub async fn resolve(repository: &Repository, pipeline: &Pipeline, text: &str) -> Result<CommitId, StepError> {
    // The newest commits may not be here yet; without the host what is here must do.
    let _ = repository.tip_of_source(&pipeline.source.branch).await;
    Ok(repository.resolve(text)?)
}

/// The commits of the source branch from the one that is done with.
async fn waiting(repository: &Repository, state: &State, tip: &CommitId) -> Result<Vec<SourceCommit>, StepError> {
    let mut commits = Vec::new();
    if let Some(done) = &state.source_done {
        commits.push(commit_of(repository, done).await?);
    }
    commits.extend(repository.first_parents(state.source_done.as_ref(), tip, COMMITS_MAX).await?);
    Ok(commits)
}

async fn commit_of(repository: &Repository, id: &CommitId) -> Result<SourceCommit, StepError> {
    let found = repository.first_parents(None, id, 1).await?;
    found.into_iter().next().ok_or_else(|| StepError::NoCommit(id.clone()))
}

/// What became of the first page of a promotion.
#[derive(Debug, Clone)]
pub enum Begun {
    /// What the environment has come to with it.
    Yes(Box<Opened>),
    /// Somebody was faster: what they began is what is carried on.
    BySomeoneElse,
}

/// Writes that the plan is under way, after what was opened.
pub async fn begin(
    ledger: &dyn Ledger,
    environment: &EnvironmentName,
    opened: &Opened,
    plan: Arc<Plan>,
    by: Actor,
    now: Stamp,
) -> Result<Begun, LedgerError> {
    let event = Event { at: now, by, what: What::Started { plan } };
    let page = runner::page(opened, vec![event]);
    match ledger.append(environment, opened.head.as_ref(), page.clone()).await {
        Ok(appended) => Ok(Begun::Yes(Box::new(after(opened.clone(), &page, &appended)))),
        Err(LedgerError::Lost { .. }) => Ok(Begun::BySomeoneElse),
        Err(error) => Err(error),
    }
}

/// What an environment has come to with a page that was taken.
pub fn after(mut opened: Opened, page: &Page, appended: &Appended) -> Opened {
    page.events.iter().for_each(|event| opened.state.apply(&appended.commit, event));
    let freshness = match appended.pushed {
        true => Freshness::Origin,
        false => Freshness::Mirror { why: "it is on its way to the origin".to_owned(), unpushed: 1 },
    };
    Opened { head: Some(appended.commit.clone()), tree: Some(page.tree.clone()), freshness, ..opened }
}
