//! The ledger in the deploy repository: a branch per environment on the origin, and its mirror in this clone.

mod chain;
mod checkout;
mod glance;
mod look;
mod publish;
mod push;
mod repository;
mod sign;
mod source;
mod together;
mod trees;
mod turn;
mod write;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use git2::Oid;
use tokio::task::JoinHandle;

pub use checkout::CheckoutError;
pub use glance::Glance;
pub use publish::{Put, Tip};
pub use repository::{FETCH_TIMEOUT, READ_TIMEOUT, Repository, RepositoryError};
pub use sign::{SignError, Signers};
pub use source::{Proposal, Proposed};

use super::{Appended, Durability, Entry, Ledger, LedgerError, Opened, Page};
use crate::model::{CommitId, EnvironmentName, Span};
use chain::Loaded;

/// How the ledger deals with its git host.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For one question to the host.
    pub read_timeout: Span,
    /// For bringing what others wrote.
    pub fetch_timeout: Span,
    /// For one push.
    pub push_timeout: Span,
    /// A host that did not answer is not asked again for so long: a rollback writes several pages, and none of them
    /// shall wait for the same dead host again.
    pub retry_after: Span,
    /// Pages are signed with the ssh key whose file is named by this environment variable.
    pub sign_with: Option<String>,
    /// A head that none of these has signed is refused.
    pub signers: Option<Signers>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            read_timeout: READ_TIMEOUT,
            fetch_timeout: FETCH_TIMEOUT,
            push_timeout: Span::seconds(30),
            retry_after: Span::seconds(10),
            sign_with: None,
            signers: None,
        }
    }
}

/// The ledger of one deploy repository, seen from one clone. Clones of this value share everything.
#[derive(Clone)]
pub struct GitLedger(Arc<Shared>);

struct Shared {
    repository: Repository,
    settings: Settings,
    /// Names this running piton among the writers.
    writer: String,
    lanes: Mutex<BTreeMap<EnvironmentName, Arc<Lane>>>,
}

/// What is known of one environment between two calls.
#[derive(Default)]
struct Lane {
    /// Held while the network is used; whoever came first goes first.
    network: Arc<tokio::sync::Mutex<()>>,
    view: Mutex<View>,
}

#[derive(Default)]
struct View {
    loaded: Option<Loaded>,
    /// A look that was just made, because a push was refused, need not be made again.
    looked_at: Option<Instant>,
    /// Since when, and why, the host does not answer.
    down: Option<(Instant, String)>,
    good: Option<Oid>,
    trusted: Option<Oid>,
    /// How long a push takes here, about.
    slot: Option<Duration>,
    pushing: Vec<JoinHandle<()>>,
}

impl GitLedger {
    pub fn new(repository: Repository, settings: Settings) -> GitLedger {
        let writer = nonce().chars().take(8).collect();
        GitLedger(Arc::new(Shared { repository, settings, writer, lanes: Mutex::default() }))
    }

    /// The clone that this ledger is kept in.
    pub fn repository(&self) -> &Repository {
        &self.0.repository
    }

    fn remote(&self) -> Option<&str> {
        self.0.repository.remote()
    }

    fn lane(&self, environment: &EnvironmentName) -> Arc<Lane> {
        let mut lanes = self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(environment.clone()).or_default().clone()
    }

    /// Where the refs of an environment are.
    fn names(&self, environment: &EnvironmentName) -> Names {
        let prefix = self.0.repository.prefix();
        Names {
            short: format!("{prefix}/{environment}"),
            branch: format!("refs/heads/{prefix}/{environment}"),
            good: format!("refs/{prefix}/{environment}/good"),
            mirror: format!("refs/{prefix}/mirror/{environment}"),
            local: format!("refs/{prefix}/local/{environment}"),
            tracking: self.remote().map(|remote| format!("refs/remotes/{remote}/{prefix}/{environment}")),
        }
    }
}

impl Lane {
    fn view<T>(&self, work: impl FnOnce(&mut View) -> T) -> T {
        work(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The refs of one environment.
#[derive(Debug, Clone)]
struct Names {
    /// The branch, as people say it.
    short: String,
    branch: String,
    good: String,
    /// What the origin had when it was seen last.
    mirror: String,
    /// The same with what was written here since; there only while something waits to be pushed.
    local: String,
    /// Where a plain `git fetch` of the user leaves the branch.
    tracking: Option<String>,
}

impl Ledger for GitLedger {
    fn open<'a>(&'a self, environment: &'a EnvironmentName) -> BoxFuture<'a, Result<Opened, LedgerError>> {
        Box::pin(self.open_one(environment))
    }

    fn append<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        seen: Option<&'a CommitId>,
        page: Page,
    ) -> BoxFuture<'a, Result<Appended, LedgerError>> {
        Box::pin(async move {
            match (self.remote(), page.durability) {
                (None, _) => self.append_here(environment, seen, &page).await,
                (Some(_), Durability::Origin) => self.append_to_origin(environment, seen, &page).await,
                (Some(_), Durability::Mirror) => self.append_to_mirror(environment, seen, &page).await,
            }
        })
    }

    fn pages<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        before: Option<&'a CommitId>,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, LedgerError>> {
        Box::pin(self.read_pages(environment, before, most))
    }

    fn courtesy(&self, environment: &EnvironmentName) -> Span {
        const SLOT_DEFAULT: Duration = Duration::from_millis(50);
        let now_s = jiff::Timestamp::now().as_second();
        let wait = self.lane(environment).view(|view| {
            let writers = view.loaded.as_ref().map_or(&[][..], |loaded| &loaded.writers);
            turn::stand_back(writers, &self.0.writer, now_s, view.slot.unwrap_or(SLOT_DEFAULT))
        });
        Span(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Chance in sixteen digits.
fn nonce() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("every system we run on gives random bytes");
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

/// A failure of the clone or its host, said of an environment.
fn failed(environment: &EnvironmentName, error: RepositoryError) -> LedgerError {
    match error {
        RepositoryError::Unreachable { why, .. } => LedgerError::Unreachable { environment: environment.clone(), why },
        RepositoryError::Git { doing, source } => LedgerError::Git { doing, source },
        other => LedgerError::Git { doing: format!("keep the ledger of `{environment}`"), source: Box::new(other) },
    }
}
