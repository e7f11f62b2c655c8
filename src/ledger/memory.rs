//! A ledger in memory, for the simulation and for tests: an origin that several working copies share, with switches to
//! make it misbehave. Nothing in it depends on chance or on a clock.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use git2::{ObjectType, Oid};

use super::{Appended, Durability, Entry, Freshness, GoodRef, Ledger, LedgerError, Opened, Page};
use crate::{
    engine::State,
    model::{Actor, CommitId, EnvironmentName, FileChange, Stamp, TreeId},
    planner::{Changed, Trees, TreesError},
};

/// One working copy of a ledger that lives in memory.
#[derive(Clone, Default)]
pub struct MemoryLedger {
    origin: Arc<Mutex<Origin>>,
    copy: Arc<Mutex<Copy>>,
}

/// When an append fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happened.
    Before,
    /// It took effect, and only the answer was lost.
    After,
}

#[derive(Default)]
struct Origin {
    environments: BTreeMap<EnvironmentName, Chain>,
    /// Makes every page different, as chance does elsewhere.
    pages: u64,
    unreachable: bool,
    races: u64,
    fault: Option<Fault>,
}

/// One environment's branch.
#[derive(Default, Clone)]
struct Chain {
    entries: Vec<Arc<Entry>>,
    state: Arc<State>,
    good: Option<CommitId>,
}

/// What a working copy remembers.
#[derive(Default)]
struct Copy {
    seen: BTreeMap<EnvironmentName, Seen>,
}

#[derive(Default, Clone)]
struct Seen {
    /// The origin's branch, as far as it was seen.
    mirrored: usize,
    state: Arc<State>,
    unpushed: Vec<Arc<Entry>>,
}

impl MemoryLedger {
    pub fn new() -> MemoryLedger {
        MemoryLedger::default()
    }

    /// Another working copy of the same origin, which has seen nothing yet.
    pub fn another(&self) -> MemoryLedger {
        MemoryLedger { origin: self.origin.clone(), copy: Arc::default() }
    }

    /// The origin answers no one, until this is called again.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.origin().unreachable = unreachable;
    }

    /// The next so many appends find that someone else was first.
    pub fn lose_next(&self, races: u64) {
        self.origin().races = races;
    }

    /// The next append that reaches the origin fails.
    pub fn fail_next(&self, fault: Fault) {
        self.origin().fault = Some(fault);
    }

    /// Where the origin's good ref points.
    pub fn good(&self, environment: &EnvironmentName) -> Option<CommitId> {
        self.origin().environments.get(environment)?.good.clone()
    }

    /// A commit that someone made by hand on the origin's branch.
    pub fn write_by_hand(&self, environment: &EnvironmentName, tree: &TreeId, at: Stamp, author: &Actor) -> CommitId {
        let mut origin = self.origin();
        let mut entry = origin.entry(environment, tree, "edit by hand");
        (entry.at, entry.author) = (at, author.clone());
        entry.foreign = Some("it was not written by piton".to_owned());
        let commit = entry.commit.clone();
        origin.environments.entry(environment.clone()).or_default().push(entry);
        commit
    }

    fn origin(&self) -> MutexGuard<'_, Origin> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy(&self) -> MutexGuard<'_, Copy> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_now(&self, environment: &EnvironmentName) -> Result<Opened, LedgerError> {
        let mut origin = self.origin();
        let mut copy = self.copy();
        if origin.unreachable {
            let seen = copy.seen.get(environment).filter(|seen| seen.mirrored + seen.unpushed.len() > 0);
            let seen = seen.ok_or_else(|| unreachable(environment))?;
            return Ok(seen.opened(&origin, environment));
        }
        let seen = copy.seen.entry(environment.clone()).or_default();
        for waiting in std::mem::take(&mut seen.unpushed) {
            // The same page on whatever the origin has: a new commit, as it has another parent.
            let mut entry = origin.entry(environment, &waiting.tree, &waiting.subject);
            entry.events = waiting.events.clone();
            (entry.at, entry.author) = (waiting.at, waiting.author.clone());
            origin.environments.entry(environment.clone()).or_default().push(entry);
        }
        Ok(follow(seen, origin.environments.get(environment)))
    }

    fn append_now(
        &self,
        environment: &EnvironmentName,
        seen: Option<&CommitId>,
        page: Page,
    ) -> Result<Appended, LedgerError> {
        let mut origin = self.origin();
        let mut copy = self.copy();
        let mine = copy.seen.entry(environment.clone()).or_default();
        if origin.unreachable {
            return match page.durability {
                Durability::Origin => Err(unreachable(environment)),
                Durability::Mirror => mine.append(&mut origin, environment, seen, page),
            };
        }
        if origin.races > 0 {
            origin.races -= 1;
            return Err(LedgerError::Lost { environment: environment.clone() });
        }
        let fault = origin.fault.take();
        if fault == Some(Fault::Before) {
            return Err(unreachable(environment));
        }
        let head = origin.environments.get(environment).and_then(Chain::head);
        if head != seen || !mine.unpushed.is_empty() {
            return Err(LedgerError::Lost { environment: environment.clone() });
        }
        let entry = origin.page(environment, page.tree, page.subject, page.events);
        let commit = entry.commit.clone();
        let chain = origin.environments.entry(environment.clone()).or_default();
        chain.push(entry);
        match page.good {
            Some(GoodRef::Here) => chain.good = Some(commit.clone()),
            Some(GoodRef::At(good)) => chain.good = Some(good),
            None => {}
        }
        if fault == Some(Fault::After) {
            return Err(unreachable(environment));
        }
        (mine.mirrored, mine.state) = (chain.entries.len(), chain.state.clone());
        Ok(Appended { commit, pushed: true })
    }

    fn pages_now(&self, environment: &EnvironmentName, before: Option<&CommitId>, most: usize) -> Vec<Entry> {
        let (origin, copy) = (self.origin(), self.copy());
        let chain = origin.environments.get(environment).map_or(&[][..], |chain| &chain.entries);
        let seen = copy.seen.get(environment);
        let mirrored = if origin.unreachable { seen.map_or(0, |seen| seen.mirrored) } else { chain.len() };
        let unpushed = seen.map_or(&[][..], |seen| &seen.unpushed);
        let newest_first = unpushed.iter().rev().chain(chain[..mirrored].iter().rev());
        let mut reached = before.is_none();
        let older = newest_first.filter(|entry| {
            let show = reached;
            reached = reached || Some(&entry.commit) == before;
            show
        });
        older.take(most).map(|entry| (**entry).clone()).collect()
    }
}

/// The copy catches up with the origin.
fn follow(seen: &mut Seen, chain: Option<&Chain>) -> Opened {
    let Some(chain) = chain else {
        return Opened { head: None, tree: None, state: State::default(), freshness: Freshness::Origin };
    };
    (seen.mirrored, seen.state) = (chain.entries.len(), chain.state.clone());
    let newest = chain.entries.last();
    Opened {
        head: newest.map(|entry| entry.commit.clone()),
        tree: newest.map(|entry| entry.tree.clone()),
        state: (*chain.state).clone(),
        freshness: Freshness::Origin,
    }
}

fn unreachable(environment: &EnvironmentName) -> LedgerError {
    LedgerError::Unreachable { environment: environment.clone(), why: "it was switched off".to_owned() }
}

impl Origin {
    fn page(
        &mut self,
        environment: &EnvironmentName,
        tree: TreeId,
        subject: String,
        events: Vec<crate::model::Event>,
    ) -> Entry {
        let mut entry = self.entry(environment, &tree, &subject);
        if let Some(first) = events.first() {
            (entry.at, entry.author) = (first.at, first.by.clone());
        }
        entry.events = events;
        entry
    }

    fn entry(&mut self, environment: &EnvironmentName, tree: &TreeId, subject: &str) -> Entry {
        self.pages += 1;
        Entry {
            commit: CommitId::new(digits("commit", &format!("{environment} {}", self.pages))).expect("40 digits"),
            tree: tree.clone(),
            at: Stamp(0),
            author: Actor::new("piton").expect("a good name"),
            subject: subject.to_owned(),
            events: Vec::new(),
            foreign: None,
        }
    }
}

impl Chain {
    fn head(&self) -> Option<&CommitId> {
        self.entries.last().map(|entry| &entry.commit)
    }

    fn push(&mut self, entry: Entry) {
        fold(&mut self.state, &entry);
        self.entries.push(Arc::new(entry));
    }
}

fn fold(state: &mut Arc<State>, entry: &Entry) {
    let state = Arc::make_mut(state);
    match &entry.foreign {
        None => entry.events.iter().for_each(|event| state.apply(&entry.commit, event)),
        Some(why) => state.apply_foreign(&entry.commit, entry.at, &entry.author, why),
    }
}

impl Seen {
    fn head<'a>(&'a self, origin: &'a Origin, environment: &EnvironmentName) -> Option<&'a Arc<Entry>> {
        let chain = origin.environments.get(environment);
        let mirrored = chain.and_then(|chain| chain.entries[..self.mirrored].last());
        self.unpushed.last().or(mirrored)
    }

    fn opened(&self, origin: &Origin, environment: &EnvironmentName) -> Opened {
        let newest = self.head(origin, environment);
        Opened {
            head: newest.map(|entry| entry.commit.clone()),
            tree: newest.map(|entry| entry.tree.clone()),
            state: (*self.state).clone(),
            freshness: Freshness::Mirror { why: "it was switched off".to_owned(), unpushed: self.unpushed.len() },
        }
    }

    fn append(
        &mut self,
        origin: &mut Origin,
        environment: &EnvironmentName,
        seen: Option<&CommitId>,
        page: Page,
    ) -> Result<Appended, LedgerError> {
        if self.head(origin, environment).map(|entry| &entry.commit) != seen {
            return Err(LedgerError::Lost { environment: environment.clone() });
        }
        let entry = origin.page(environment, page.tree, page.subject, page.events);
        let commit = entry.commit.clone();
        fold(&mut self.state, &entry);
        self.unpushed.push(Arc::new(entry));
        Ok(Appended { commit, pushed: false })
    }
}

impl Ledger for MemoryLedger {
    fn open<'a>(&'a self, environment: &'a EnvironmentName) -> BoxFuture<'a, Result<Opened, LedgerError>> {
        Box::pin(std::future::ready(self.open_now(environment)))
    }

    fn append<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        seen: Option<&'a CommitId>,
        page: Page,
    ) -> BoxFuture<'a, Result<Appended, LedgerError>> {
        Box::pin(std::future::ready(self.append_now(environment, seen, page)))
    }

    fn pages<'a>(
        &'a self,
        environment: &'a EnvironmentName,
        before: Option<&'a CommitId>,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, LedgerError>> {
        Box::pin(std::future::ready(Ok(self.pages_now(environment, before, most))))
    }
}

/// Forty digits that follow from the content, as git's do.
fn digits(kind: &str, content: &str) -> String {
    blob_id(format!("{kind}\0{content}").as_bytes())
}

fn blob_id(bytes: &[u8]) -> String {
    Oid::hash_object(ObjectType::Blob, bytes).map_or_else(|_| "0".repeat(40), |oid| oid.to_string())
}

/// Trees in memory: the same content has the same id.
#[derive(Clone, Default)]
pub struct MemoryTrees(Arc<Mutex<BTreeMap<TreeId, Arc<Files>>>>);

type Files = BTreeMap<String, Arc<[u8]>>;

impl MemoryTrees {
    pub fn new() -> MemoryTrees {
        MemoryTrees::default()
    }

    /// The tree of exactly these files.
    pub fn tree<'a>(&self, files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> TreeId {
        self.keep(files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes.into())).collect())
    }

    fn keep(&self, files: Files) -> TreeId {
        let listing: String = files.iter().map(|(path, bytes)| format!("{} {path}\n", blob_id(bytes))).collect();
        let id = TreeId::new(digits("tree", &listing)).expect("40 digits");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), Arc::new(files));
        id
    }

    fn files(&self, tree: &TreeId) -> Result<Arc<Files>, TreesError> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tree).cloned();
        found.ok_or_else(|| TreesError { doing: format!("read tree {tree}"), source: "there is no such tree".into() })
    }
}

impl Trees for MemoryTrees {
    fn read(&self, tree: &TreeId, path: &str) -> Result<Option<Vec<u8>>, TreesError> {
        Ok(self.files(tree)?.get(path).map(|bytes| bytes.to_vec()))
    }

    fn write(&self, base: &TreeId, files: &[(String, Vec<u8>)]) -> Result<TreeId, TreesError> {
        let mut all = (*self.files(base)?).clone();
        all.extend(files.iter().map(|(path, bytes)| (path.clone(), bytes.as_slice().into())));
        Ok(self.keep(all))
    }

    fn changed(&self, from: &TreeId, to: &TreeId) -> Result<Vec<Changed>, TreesError> {
        let (from, to) = (self.files(from)?, self.files(to)?);
        let mut paths: Vec<&String> = from.keys().chain(to.keys()).collect();
        paths.sort();
        paths.dedup();
        let id = |files: &Files, path: &str| files.get(path).map(|bytes| blob_id(bytes));
        let all =
            paths.into_iter().map(|path| Changed { path: path.clone(), old: id(&from, path), new: id(&to, path) });
        Ok(all.filter(|changed| changed.old != changed.new).collect())
    }

    fn diff(&self, from: &TreeId, to: &TreeId) -> Result<Vec<FileChange>, TreesError> {
        let (old, new) = (self.files(from)?, self.files(to)?);
        let change = |changed: Changed| {
            let side = |files: &Files| files.get(&changed.path).map_or(Vec::new(), |bytes| bytes.to_vec());
            file_change(&changed.path, &side(&old), &side(&new)).map_err(|source| TreesError {
                doing: format!("compare the trees {from} and {to}"),
                source: Box::new(source),
            })
        };
        self.changed(from, to)?.into_iter().map(change).collect()
    }
}

fn file_change(path: &str, old: &[u8], new: &[u8]) -> Result<FileChange, git2::Error> {
    let at = std::path::Path::new(path);
    let mut patch = git2::Patch::from_buffers(old, Some(at), new, Some(at), None)?;
    let (_, added, removed) = patch.line_stats()?;
    let text = if added + removed > 0 { String::from_utf8_lossy(&patch.to_buf()?).into_owned() } else { String::new() };
    Ok(FileChange { path: path.to_owned(), added, removed, diff: text })
}
