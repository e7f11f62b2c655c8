//! Reads an environment's branch: from its head down to the last snapshot, and no further.

use std::{collections::HashSet, sync::Arc};

use git2::Oid;

use super::repository::{author_of, commit_id, shallow_ends, tree_id};
use crate::{
    engine::State,
    ledger::{
        Entry, LedgerError,
        page::{self, Message, SCHEMA},
    },
    model::{Actor, CommitId, Stamp, TreeId},
};

/// Writers are looked for among so many of the newest pages.
pub const WRITERS_SEEN: usize = 32;

/// An environment at one head.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub head: Oid,
    pub commit: CommitId,
    pub tree: TreeId,
    pub state: Arc<State>,
    /// The number of the newest page, commits by others counted in.
    pub number: u64,
    /// Pages that must be read on top of the newest snapshot.
    pub since_snapshot: u64,
    /// Who wrote the newest pages and when, newest first; foreign commits have no name.
    pub writers: Vec<(String, i64)>,
}

/// How a reading of a branch ended.
pub enum Reading<T> {
    Done(T),
    /// A shallow clone ended before everything was found, at this commit.
    CutOff(Oid),
}

/// One commit as it was read.
struct Node {
    oid: Oid,
    entry: Entry,
    message: Message,
    committed_s: i64,
}

/// Reads the state at `head`; what is `known` of an older head is built upon.
pub fn load(
    repo: &git2::Repository,
    branch: &str,
    head: Oid,
    known: Option<&Loaded>,
) -> Result<Reading<Loaded>, LedgerError> {
    if let Some(known) = known.filter(|k| k.head == head) {
        return Ok(Reading::Done(known.clone()));
    }
    let cut = shallow_ends(repo);
    let mut nodes = Vec::new();
    let mut base: Option<Base> = None;
    let mut next = Some(head);
    while let (Some(oid), None) = (next, &base) {
        if let Some(known) = known.filter(|k| k.head == oid) {
            base = Some(Base::Known(known.clone()));
            break;
        }
        let (node, parent) = read_node(repo, branch, oid)?;
        base = snapshot_of(&node.message).map(Base::Snapshot);
        nodes.push(node);
        if base.is_none() && cut.contains(&oid) {
            return Ok(Reading::CutOff(oid));
        }
        next = parent;
    }
    fold(repo, nodes, base).map(Reading::Done)
}

enum Base {
    Known(Loaded),
    /// The state before the oldest commit that was read.
    Snapshot(Arc<State>),
}

fn snapshot_of(message: &Message) -> Option<Arc<State>> {
    match message {
        // A snapshot in a form that cannot be read is no fault: the events below it tell the same.
        Message::Ours(read) => read.snapshot.as_deref().and_then(|json| serde_json::from_str(json).ok()).map(Arc::new),
        Message::Foreign(_) | Message::Newer(_) => None,
    }
}

/// Applies the commits, which come newest first, on top of what lies below them.
fn fold(repo: &git2::Repository, nodes: Vec<Node>, base: Option<Base>) -> Result<Loaded, LedgerError> {
    let newest = nodes.first().map(|node| (node.oid, node.entry.commit.clone(), node.entry.tree.clone()));
    let (mut state, mut number, mut since_snapshot, below) = match base {
        Some(Base::Known(known)) => (known.state, known.number, known.since_snapshot, known.writers),
        Some(Base::Snapshot(state)) => (state, 0, 0, Vec::new()),
        None => (Arc::default(), 0, 0, Vec::new()),
    };
    let seen = nodes.iter().map(|node| (writer_of(&node.message).to_owned(), node.committed_s));
    let writers: Vec<(String, i64)> = seen.chain(below).take(WRITERS_SEEN).collect();
    for node in nodes.iter().rev() {
        since_snapshot += 1;
        number = apply(Arc::make_mut(&mut state), node).unwrap_or(number + 1);
    }
    let (head, commit, tree) = newest.ok_or_else(|| not_ours("read an empty branch", repo.path()))?;
    Ok(Loaded { head, commit, tree, state, number, since_snapshot, writers })
}

fn not_ours(doing: &str, path: &std::path::Path) -> LedgerError {
    let source = git2::Error::from_str(&path.display().to_string());
    LedgerError::Git { doing: doing.to_owned(), source: Box::new(source) }
}

/// Takes one commit into the state; gives the number of the page, if it has one.
fn apply(state: &mut State, node: &Node) -> Option<u64> {
    let Entry { commit, at, author, .. } = &node.entry;
    match &node.message {
        Message::Ours(read) => {
            read.events.iter().for_each(|event| state.apply(commit, event));
            Some(read.number)
        }
        Message::Foreign(why) => {
            state.apply_foreign(commit, *at, author, why);
            None
        }
        Message::Newer(_) => None,
    }
}

fn writer_of(message: &Message) -> &str {
    match message {
        Message::Ours(read) => read.writer(),
        Message::Foreign(_) | Message::Newer(_) => "",
    }
}

/// At most `most` entries from `from` on, newest first.
pub fn entries(
    repo: &git2::Repository,
    branch: &str,
    from: Option<Oid>,
    most: usize,
) -> Result<Reading<Vec<Entry>>, LedgerError> {
    let cut = shallow_ends(repo);
    let mut found = Vec::new();
    let mut next = from;
    while let Some(oid) = next.filter(|_| found.len() < most) {
        let (node, parent) = read_node(repo, branch, oid)?;
        found.push(node.entry);
        if found.len() < most && cut.contains(&oid) {
            return Ok(Reading::CutOff(oid));
        }
        next = parent;
    }
    Ok(Reading::Done(found))
}

fn read_node(repo: &git2::Repository, branch: &str, oid: Oid) -> Result<(Node, Option<Oid>), LedgerError> {
    let doing = || format!("read commit {oid} of `{branch}`");
    let wrong = |source: git2::Error| LedgerError::Git { doing: doing(), source: Box::new(source) };
    let commit = repo.find_commit(oid).map_err(wrong)?;
    let message = page::read(commit.message_bytes());
    let id = commit_id(oid).map_err(|e| LedgerError::Git { doing: doing(), source: Box::new(e) })?;
    if let Message::Newer(schema) = message {
        return Err(LedgerError::Newer { branch: branch.to_owned(), commit: id, schema, known: SCHEMA });
    }
    let tree = tree_id(commit.tree_id()).map_err(|e| LedgerError::Git { doing: doing(), source: Box::new(e) })?;
    let entry = entry(&commit, id, tree, &message);
    let parent = commit.parent_ids().next();
    Ok((Node { oid, entry, message, committed_s: commit.time().seconds() }, parent))
}

fn entry(commit: &git2::Commit<'_>, id: CommitId, tree: TreeId, message: &Message) -> Entry {
    let by_commit = || (Stamp(commit.author().when().seconds().saturating_mul(1_000)), author_of(commit));
    let (events, foreign) = match message {
        Message::Ours(read) => (read.events.clone(), None),
        Message::Foreign(why) => (Vec::new(), Some(why.clone())),
        Message::Newer(schema) => (Vec::new(), Some(format!("it has the schema {schema}"))),
    };
    let (at, author): (Stamp, Actor) = match events.first() {
        Some(event) => (event.at, event.by.clone()),
        None => by_commit(),
    };
    let subject = String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default()).into_owned();
    Entry { commit: id, tree, at, author, subject, events, foreign }
}

/// The first-parent commits of `ours` that `theirs` does not have, newest first, and of `theirs` that ours does not have.
pub fn fork(repo: &git2::Repository, ours: Oid, theirs: Option<Oid>) -> Result<(Vec<Oid>, Vec<Oid>), git2::Error> {
    let (mut left, mut right) = (Side::new(Some(ours)), Side::new(theirs));
    while left.next.is_some() || right.next.is_some() {
        if left.step(repo, &mut right)? || right.step(repo, &mut left)? {
            break;
        }
    }
    Ok((left.seen, right.seen))
}

struct Side {
    seen: Vec<Oid>,
    index: HashSet<Oid>,
    next: Option<Oid>,
}

impl Side {
    fn new(next: Option<Oid>) -> Side {
        Side { seen: Vec::new(), index: HashSet::new(), next }
    }

    /// Goes one commit down; true when the other side has been there: what it saw from there on is common.
    fn step(&mut self, repo: &git2::Repository, other: &mut Side) -> Result<bool, git2::Error> {
        let Some(oid) = self.next else { return Ok(false) };
        if other.index.contains(&oid) {
            let common = other.seen.iter().position(|o| *o == oid).unwrap_or(other.seen.len());
            other.seen.truncate(common);
            return Ok(true);
        }
        // What a shallow clone does not have ends the line, like a first commit does.
        let parent = repo.find_commit(oid)?.parent_ids().next();
        self.next = parent.filter(|p| repo.odb().is_ok_and(|odb| odb.exists(*p)));
        self.seen.push(oid);
        self.index.insert(oid);
        Ok(false)
    }
}
