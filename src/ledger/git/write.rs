//! Writing: a page becomes a commit in memory, and the commit the head of what we may write to.

use std::sync::Arc;

use git2::{ObjectType, Oid, Signature, Time};

use super::{
    GitLedger,
    chain::Loaded,
    failed,
    look::id,
    nonce,
    repository::{RepositoryError, parse_oid},
    sign,
};
use crate::{
    ledger::{
        Appended, GoodRef, LedgerError, Page,
        page::{self, Draft, SNAPSHOT_PAGES},
    },
    model::{Actor, CommitId, EnvironmentName, Event},
};

/// Who commits; the author is whoever the first event is by.
const COMMITTER: &str = "piton";
const EMAIL: &str = "piton@invalid";

/// What is written, wherever it comes from.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    pub subject: String,
    pub events: Vec<Event>,
    pub tree: Oid,
    pub good: Option<GoodRef>,
}

impl GitLedger {
    /// This repository is the origin itself.
    pub(super) async fn append_here(
        &self,
        environment: &EnvironmentName,
        seen: Option<&CommitId>,
        page: &Page,
    ) -> Result<Appended, LedgerError> {
        let names = self.names(environment);
        let lane = self.lane(environment);
        let _turn = lane.network.lock().await;
        let branch = names.branch.clone();
        let head = self.0.repository.on_thread(move |r| refuse_checked_out(r, &branch)).await;
        let head = head.map_err(|e| failed(environment, e))?;
        let base = self.base(environment, head, seen).await?;
        let good = page.good.clone();
        let loaded = self.write_page(environment, base.as_ref(), self.sheet(environment, page)?).await?;
        if !self.move_ref(environment, &names.branch, head, Some(loaded.head)).await? {
            return Err(LedgerError::Lost { environment: environment.clone() });
        }
        if let Some(to) = self.good_of(environment, good.as_ref(), loaded.head)? {
            let name = names.good.clone();
            let set = move |r: &super::Repository| r.with(|g| g.reference(&name, to, true, "piton: good").map(drop));
            // It only follows the branch, and is repaired from there.
            if let Err(error) = self.0.repository.on_thread(set).await {
                tracing::warn!(%environment, %error, "the good ref lags behind");
            }
        }
        Ok(self.known(environment, loaded, true))
    }

    pub(super) async fn append_to_origin(
        &self,
        environment: &EnvironmentName,
        seen: Option<&CommitId>,
        page: &Page,
    ) -> Result<Appended, LedgerError> {
        let lane = self.lane(environment);
        let _turn = lane.network.lock().await;
        let (mirror, local) = self.heads(environment).await?;
        let base = self.base(environment, local.or(mirror), seen).await?;
        let good = page.good.clone();
        let loaded = self.write_page(environment, base.as_ref(), self.sheet(environment, page)?).await?;
        let good = self.good_of(environment, good.as_ref(), loaded.head)?;
        self.push_head(environment, mirror, loaded.head, good).await?;
        if local.is_some() {
            // It was below the new head; false: more was written there meanwhile, which waits for its own push.
            self.move_ref(environment, &self.names(environment).local, local, None).await?;
        }
        Ok(self.known(environment, loaded, true))
    }

    /// Touches no network: whatever holds a push up does not hold this up.
    pub(super) async fn append_to_mirror(
        &self,
        environment: &EnvironmentName,
        seen: Option<&CommitId>,
        page: &Page,
    ) -> Result<Appended, LedgerError> {
        let (mirror, local) = self.heads(environment).await?;
        let base = self.base(environment, local.or(mirror), seen).await?;
        let loaded = self.write_page(environment, base.as_ref(), self.sheet(environment, page)?).await?;
        if !self.move_ref(environment, &self.names(environment).local, local, Some(loaded.head)).await? {
            return Err(LedgerError::Lost { environment: environment.clone() });
        }
        let appended = self.known(environment, loaded, false);
        self.push_in_background(environment);
        Ok(appended)
    }

    /// The head to write after, if it is the one that the writer saw.
    async fn base(
        &self,
        environment: &EnvironmentName,
        head: Option<Oid>,
        seen: Option<&CommitId>,
    ) -> Result<Option<Loaded>, LedgerError> {
        if head.map(|oid| oid.to_string()).as_deref() != seen.map(CommitId::as_str) {
            return Err(LedgerError::Lost { environment: environment.clone() });
        }
        match head {
            Some(head) => self.load(environment, head).await.map(Some),
            None => Ok(None),
        }
    }

    fn sheet(&self, environment: &EnvironmentName, page: &Page) -> Result<Sheet, LedgerError> {
        let tree = parse_oid(page.tree.as_str()).map_err(|e| failed(environment, e))?;
        Ok(Sheet { subject: page.subject.clone(), events: page.events.clone(), tree, good: page.good.clone() })
    }

    pub(super) fn good_of(
        &self,
        environment: &EnvironmentName,
        good: Option<&GoodRef>,
        here: Oid,
    ) -> Result<Option<Oid>, LedgerError> {
        match good {
            None => Ok(None),
            Some(GoodRef::Here) => Ok(Some(here)),
            Some(GoodRef::At(commit)) => parse_oid(commit.as_str()).map(Some).map_err(|e| failed(environment, e)),
        }
    }

    fn known(&self, environment: &EnvironmentName, loaded: Loaded, pushed: bool) -> Appended {
        let commit = loaded.commit.clone();
        self.lane(environment).view(|view| view.loaded = Some(loaded));
        Appended { commit, pushed }
    }

    /// Makes the commit, in memory and as an object, but as the head of nothing.
    pub(super) async fn write_page(
        &self,
        environment: &EnvironmentName,
        base: Option<&Loaded>,
        sheet: Sheet,
    ) -> Result<Loaded, LedgerError> {
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| LedgerError::Git {
            doing: format!("write a page of `{environment}`"),
            source,
        };
        let nonce = format!("{}-{}", self.0.writer, nonce());
        let snapshot = base.filter(|b| b.since_snapshot >= SNAPSHOT_PAGES);
        let number = base.map_or(1, |b| b.number + 1);
        let draft = Draft {
            subject: &sheet.subject,
            events: &sheet.events,
            number,
            nonce: &nonce,
            good: sheet.good.as_ref(),
            snapshot: snapshot.map(|b| &*b.state),
        };
        let message = page::write(&draft).map_err(|e| wrong(Box::new(e)))?;
        let (parent, tree) = (base.map(|b| b.head), sheet.tree);
        let by = sheet.events.first().map(|event| (event.by.clone(), event.at.0.div_euclid(1_000).max(0)));
        let make = move |r: &super::Repository| r.with(|g| commit_bytes(g, parent, tree, &message, by));
        let bytes = self.0.repository.on_thread(make).await.map_err(|e| wrong(Box::new(e)))?;
        let signature = match &self.0.settings.sign_with {
            Some(variable) => Some(sign::sign(variable, bytes.as_bytes()).await.map_err(|e| wrong(Box::new(e)))?),
            None => None,
        };
        let store = move |r: &super::Repository| r.with(|g| store_commit(g, &bytes, signature.as_deref()));
        let head = self.0.repository.on_thread(store).await.map_err(|e| wrong(Box::new(e)))?;
        self.after(environment, base, head, number, &sheet, snapshot.is_some())
    }

    /// What is known of the environment when the page is its newest.
    fn after(
        &self,
        environment: &EnvironmentName,
        base: Option<&Loaded>,
        head: Oid,
        number: u64,
        sheet: &Sheet,
        snapshot: bool,
    ) -> Result<Loaded, LedgerError> {
        let commit = id(environment, head)?;
        let mut state = base.map(|b| b.state.clone()).unwrap_or_default();
        let folded = Arc::make_mut(&mut state);
        sheet.events.iter().for_each(|event| folded.apply(&commit, event));
        let me = (self.0.writer.clone(), jiff::Timestamp::now().as_second());
        let before = base.map(|b| b.writers.iter().cloned()).into_iter().flatten();
        Ok(Loaded {
            head,
            commit,
            tree: super::repository::tree_id(sheet.tree).map_err(|e| failed(environment, e))?,
            state,
            number,
            since_snapshot: if snapshot { 1 } else { base.map_or(0, |b| b.since_snapshot) + 1 },
            writers: std::iter::once(me).chain(before).take(super::chain::WRITERS_SEEN).collect(),
        })
    }
}

/// The commit as git stores it; its author is the one who did the first thing, at that time.
pub(super) fn commit_bytes(
    repo: &git2::Repository,
    parent: Option<Oid>,
    tree: Oid,
    message: &str,
    by: Option<(Actor, i64)>,
) -> Result<String, git2::Error> {
    let now_s = jiff::Timestamp::now().as_second();
    let committer = Signature::new(COMMITTER, EMAIL, &Time::new(now_s, 0))?;
    let author = match by {
        Some((actor, at_s)) => Signature::new(&signature_name(&actor), EMAIL, &Time::new(at_s, 0))?,
        None => committer.clone(),
    };
    let tree = repo.find_tree(tree)?;
    let parent = parent.map(|oid| repo.find_commit(oid)).transpose()?;
    let parents: Vec<_> = parent.iter().collect();
    let bytes = repo.commit_create_buffer(&author, &committer, message, &tree, &parents)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The actor as far as git allows it as a name; the event holds all of it.
fn signature_name(actor: &Actor) -> String {
    let name: String = actor.as_str().chars().filter(|c| !matches!(c, '<' | '>' | '\n' | '\0')).collect();
    // Git strips these off the ends, and refuses a name of nothing else.
    let name = name.trim_matches(|c: char| c.is_whitespace() || c.is_control() || ".,:;\"\\'".contains(c));
    if name.is_empty() { COMMITTER.to_owned() } else { name.to_owned() }
}

pub(super) fn store_commit(repo: &git2::Repository, bytes: &str, signature: Option<&str>) -> Result<Oid, git2::Error> {
    match signature {
        Some(signature) => repo.commit_signed(bytes, signature.trim_end(), None),
        None => repo.odb()?.write(ObjectType::Commit, bytes.as_bytes()),
    }
}

/// The branch's head; a branch that is checked out here cannot move without the work tree.
pub(super) fn refuse_checked_out(repository: &super::Repository, branch: &str) -> Result<Option<Oid>, RepositoryError> {
    let checked_out = repository.with(|repo| {
        let head = repo.find_reference("HEAD").ok().and_then(|h| h.symbolic_target().ok().flatten().map(str::to_owned));
        !repo.is_bare() && head.as_deref() == Some(branch)
    });
    match checked_out {
        true => Err(RepositoryError::CheckedOut { branch: branch.trim_start_matches("refs/heads/").to_owned() }),
        false => repository.local_ref(branch),
    }
}
