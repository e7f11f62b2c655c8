//! A small world for the ledger's tests: an origin, clones of it, and pages to write.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use piton::{
    ledger::{Durability, GitLedger, GoodRef, Opened, Page, Repository, Settings},
    model::{Actor, EnvironmentName, Event, Span, Stamp, TreeId, What},
};
use tempfile::TempDir;

/// A bare origin with one commit on `main`.
pub struct World {
    pub dir: TempDir,
}

impl World {
    pub fn new() -> World {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let world = World { dir };
        git(world.dir.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
        git(world.dir.path(), &["clone", "--quiet", "origin.git", "author"]);
        let author = world.path("author");
        std::fs::write(author.join("values.yaml"), "hub: 1.0.0\n").expect("a file");
        std::fs::write(author.join("run.sh"), "#!/bin/sh\n").expect("a file");
        commit_all(&author, "first");
        git(&author, &["push", "--quiet", "origin", "HEAD:main"]);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn origin(&self) -> PathBuf {
        self.path("origin.git")
    }

    /// A new clone of the origin.
    pub fn clone(&self, name: &str) -> PathBuf {
        git(self.dir.path(), &["clone", "--quiet", "origin.git", name]);
        self.path(name)
    }

    /// A ledger in a new clone.
    pub fn ledger(&self, name: &str) -> GitLedger {
        ledger_in(&self.clone(name), Some("origin"))
    }

    pub fn tree(&self) -> TreeId {
        tree_of(&self.origin(), "main")
    }
}

/// What a test waits for at most; the ledger's own patience is shorter here than outside.
pub fn settings() -> Settings {
    Settings { retry_after: Span(0), ..Settings::default() }
}

pub fn ledger_in(dir: &Path, remote: Option<&str>) -> GitLedger {
    ledger_with(dir, remote, settings())
}

pub fn ledger_with(dir: &Path, remote: Option<&str>, settings: Settings) -> GitLedger {
    GitLedger::new(Repository::open(dir, remote, "piton").expect("it is a repository"), settings)
}

pub fn tree_of(dir: &Path, commit: &str) -> TreeId {
    TreeId::new(git(dir, &["rev-parse", &format!("{commit}^{{tree}}")])).expect("git gives ids")
}

/// Runs git and gives what it printed.
pub fn git(dir: &Path, arguments: &[&str]) -> String {
    let ran = try_git(dir, arguments);
    ran.unwrap_or_else(|said| panic!("git {arguments:?} in {}: {said}", dir.display()))
}

pub fn try_git(dir: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(dir).env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Tester").env(format!("GIT_{who}_EMAIL"), "tester@example.org");
    }
    let output = command.output().expect("git is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

pub fn commit_all(dir: &Path, subject: &str) {
    git(dir, &["add", "--all"]);
    git(dir, &["commit", "--quiet", "--allow-empty", "-m", subject]);
}

pub fn environment(name: &str) -> EnvironmentName {
    EnvironmentName::new(name).expect("a good name")
}

pub fn event(reason: &str) -> Event {
    let by = Actor::new("alice <alice@example.org>").expect("a good name");
    Event { at: Stamp(1_795_249_268_417), by, what: What::Unfrozen { reason: reason.to_owned() } }
}

pub fn page(tree: &TreeId, reason: &str) -> Page {
    Page {
        subject: format!("unfreeze: {reason}"),
        events: vec![event(reason)],
        tree: tree.clone(),
        good: None,
        durability: Durability::Origin,
    }
}

pub fn good_page(tree: &TreeId, reason: &str) -> Page {
    Page { good: Some(GoodRef::Here), ..page(tree, reason) }
}

pub fn mirror_page(tree: &TreeId, reason: &str) -> Page {
    Page { durability: Durability::Mirror, ..page(tree, reason) }
}

/// The reasons of all events, oldest first.
pub async fn reasons(ledger: &dyn piton::ledger::Ledger, environment: &EnvironmentName) -> Vec<String> {
    let pages = ledger.pages(environment, None, 100_000).await.expect("the pages are there");
    let events = pages.into_iter().rev().flat_map(|entry| entry.events);
    events
        .map(|event| match event.what {
            What::Unfrozen { reason } => reason,
            other => format!("{other:?}"),
        })
        .collect()
}

/// Writes one page on whatever is there.
pub async fn write(ledger: &dyn piton::ledger::Ledger, environment: &EnvironmentName, page: Page) -> Opened {
    let opened = ledger.open(environment).await.expect("it opens");
    ledger.append(environment, opened.head.as_ref(), page).await.expect("it is taken");
    ledger.open(environment).await.expect("it opens again")
}
