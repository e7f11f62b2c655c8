#![doc = include_str!("README.md")]

mod describe;
pub mod git;
pub mod memory;
mod page;

use std::time::Instant;

use futures_util::future::BoxFuture;

use crate::{
    engine::State,
    model::{Actor, CommitId, EnvironmentName, Event, Span, Stamp, TreeId},
};

pub use describe::describe;
pub use git::{
    CheckoutError, GitLedger, Glance, Proposal, Proposed, Put, Repository, RepositoryError, Settings, SignError,
    Signers, Tip,
};
pub use memory::{Fault, MemoryLedger, MemoryTrees};

/// The shared record of every environment.
pub trait Ledger: Send + Sync {
    /// Reads where an environment stands: from the origin, or from the mirror when the origin cannot be reached.
    fn open<'a>(&'a self, environment: &'a EnvironmentName) -> BoxFuture<'a, Result<Opened, LedgerError>>;

    /// Adds one page after the head that the writer saw (`None`: the environment has none yet), and moves the good ref
    /// with it when `good` is given. A lost race is `LedgerError::Lost`: open again and ask again.
    fn append<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        seen: Option<&'a CommitId>,
        page: Page,
    ) -> BoxFuture<'a, Result<Appended, LedgerError>>;

    /// The newest pages, newest first: at most `most`, older than `before` when that is given.
    fn pages<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        before: Option<&'a CommitId>,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, LedgerError>>;

    /// How long a writer that is in no hurry stands back before it writes, so that the others get their turn.
    fn courtesy(&self, _environment: &EnvironmentName) -> Span {
        Span(0)
    }
}

/// How often a writer stands back for others before it takes its turn anyway.
const COURTESIES_MAX: usize = 8;

/// Writes what `write` makes of the newest state, and asks it again after a lost race, at most for `limit`. `None` from
/// `write`: there is nothing to write.
pub async fn append_with(
    ledger: &dyn Ledger,
    environment: &EnvironmentName,
    limit: Span,
    mut write: impl FnMut(&Opened) -> Option<Page>,
) -> Result<Option<Appended>, LedgerError> {
    let began = Instant::now();
    let mut courtesies = 0;
    loop {
        let opened = ledger.open(environment).await?;
        let wait = ledger.courtesy(environment);
        if wait > Span(0) && courtesies < COURTESIES_MAX {
            courtesies += 1;
            tokio::time::sleep(wait.as_duration()).await;
            continue;
        }
        let Some(page) = write(&opened) else { return Ok(None) };
        match ledger.append(environment, opened.head.as_ref(), page).await {
            Err(LedgerError::Lost { .. }) if began.elapsed() < limit.as_duration() => {}
            done => return done.map(Some),
        }
    }
}

/// One environment as it was read.
#[derive(Debug, Clone)]
pub struct Opened {
    /// `None`: nothing was ever written.
    pub head: Option<CommitId>,
    pub tree: Option<TreeId>,
    pub state: State,
    pub freshness: Freshness,
}

/// Where a reading of the ledger comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    Origin,
    /// The origin could not be reached: this is what was seen last, plus what was written here since.
    Mirror {
        why: String,
        unpushed: usize,
    },
}

/// What is to be written as one commit.
#[derive(Debug, Clone)]
pub struct Page {
    /// The first line, for people.
    pub subject: String,
    pub events: Vec<Event>,
    /// The tree of the commit: exactly what is deployed, or being deployed.
    pub tree: TreeId,
    /// The commit that the good ref shall point at after this: `Here` is the new one.
    pub good: Option<GoodRef>,
    pub durability: Durability,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoodRef {
    Here,
    At(CommitId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In the origin before this returns.
    Origin,
    /// In the mirror before this returns, in the origin as soon as it can be reached: a rollback waits for no host.
    Mirror,
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    pub commit: CommitId,
    /// Whether the origin has it, too.
    pub pushed: bool,
}

/// One commit of an environment's branch, read back.
#[derive(Debug, Clone)]
pub struct Entry {
    pub commit: CommitId,
    pub tree: TreeId,
    pub at: Stamp,
    pub author: Actor,
    pub subject: String,
    pub events: Vec<Event>,
    /// Why this commit is not one of ours: written by hand, or its trailers cannot be read.
    pub foreign: Option<String>,
}

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("someone else wrote to `{environment}` first")]
    Lost { environment: EnvironmentName },
    #[error("cannot reach the git host of `{environment}`: {why}")]
    Unreachable { environment: EnvironmentName, why: String },
    #[error("the git host does not take what is written to `{environment}`: {why}")]
    Refused { environment: EnvironmentName, why: String },
    #[error("`{branch}` is gone from the origin: {seen} was its head")]
    Vanished { branch: String, seen: CommitId },
    #[error("`{branch}` was rewritten: {seen} was its head and is no longer part of it (it is now at {found})")]
    Rewritten { branch: String, seen: CommitId, found: CommitId },
    #[error(
        "commit {commit} of `{branch}` was written by a newer piton (schema {schema}, this one reads up to {known})"
    )]
    Newer { branch: String, commit: CommitId, schema: u32, known: u32 },
    #[error("commit {commit} of `{branch}` is not signed by an allowed signer: {why}")]
    Unsigned { branch: String, commit: CommitId, why: String },
    #[error("cannot {doing}")]
    Git {
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LedgerError {
    /// Whether the git host is at fault, so that the mirror can stand in for it.
    pub fn is_of_the_host(&self) -> bool {
        match self {
            LedgerError::Unreachable { .. } | LedgerError::Refused { .. } => true,
            LedgerError::Lost { .. }
            | LedgerError::Rewritten { .. }
            | LedgerError::Vanished { .. }
            | LedgerError::Newer { .. }
            | LedgerError::Unsigned { .. }
            | LedgerError::Git { .. } => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            LedgerError::Lost { .. } => Some("try again: what was decided rests on an older state"),
            LedgerError::Unreachable { .. } => Some("try `git fetch`; a rollback works without the host"),
            LedgerError::Refused { .. } => {
                Some("let piton push to its branches: see branch protection and the permissions of the token")
            }
            LedgerError::Rewritten { .. } | LedgerError::Vanished { .. } => {
                Some("find out who did that; `piton rollback ENV --accept-rewritten` goes on with the branch as it is")
            }
            LedgerError::Newer { .. } => Some("use the newer piton here, too"),
            LedgerError::Unsigned { .. } => {
                Some("find out who wrote it; allowed signers are in the file of the settings")
            }
            LedgerError::Git { .. } => None,
        }
    }
}
