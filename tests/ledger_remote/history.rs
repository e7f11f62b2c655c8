//! Branches that others have touched, and clones without history.

use std::path::Path;

use piton::{
    ledger::{Freshness, GitLedger, Ledger, LedgerError, Page},
    model::{Actor, Event, Freeze, Stamp, TreeId, What},
};

use crate::ledger_world::{
    World, commit_all, environment, git, ledger_in, mirror_page, page, reasons, tree_of, try_git, write,
};

const BRANCH: &str = "refs/heads/piton/production";

#[tokio::test]
async fn a_force_pushed_branch_is_refused_until_a_person_accepts_it() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    let first = write(&ledger, &production, page(&world.tree(), "first")).await.head.expect("it was written");
    let second = write(&ledger, &production, page(&world.tree(), "second")).await.head.expect("it was written");
    git(&world.origin(), &["update-ref", BRANCH, first.as_str()]);
    let error = ledger.open(&production).await.expect_err("it was rewritten");
    assert_eq!(
        error.to_string(),
        format!(
            "`piton/production` was rewritten: {second} was its head and is no longer part of it (it is now at {first})"
        )
    );
    let append = ledger.append(&production, Some(&second), page(&world.tree(), "third")).await;
    assert!(matches!(append, Err(LedgerError::Rewritten { .. })), "{append:?}");
    // The way back stays open: it goes on from what was seen.
    let mirror = ledger.open_mirror(&production).await.expect("the mirror answers");
    assert_eq!(mirror.head, Some(second.clone()));
    ledger.append(&production, Some(&second), mirror_page(&world.tree(), "back")).await.expect("the mirror takes it");

    let opened = ledger.accept_rewritten(&production).await.expect("it is accepted");
    assert_eq!(opened.freshness, Freshness::Origin);
    assert_eq!(reasons(&ledger, &production).await, ["first", "back"]);
    git(&world.origin(), &["merge-base", "--is-ancestor", first.as_str(), BRANCH]);
}

#[tokio::test]
async fn a_deleted_branch_is_refused_too() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    write(&ledger, &production, page(&world.tree(), "first")).await;
    git(&world.origin(), &["update-ref", "-d", BRANCH]);
    let error = ledger.open(&production).await.expect_err("it is gone");
    assert!(matches!(error, LedgerError::Vanished { .. }), "{error:?}");
    assert_eq!(ledger.accept_rewritten(&production).await.expect("it is accepted").head, None);
    write(&ledger, &production, page(&world.tree(), "again")).await;
    assert_eq!(reasons(&ledger, &production).await, ["again"]);
}

#[tokio::test]
async fn a_merge_that_hides_our_pages_is_a_rewrite() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    write(&ledger, &production, page(&world.tree(), "first")).await;
    // Our pages are the second parent: first parents are what everyone reads.
    let dir = world.clone("hand");
    git(
        &dir,
        &["merge", "--quiet", "--allow-unrelated-histories", "-s", "ours", "-m", "merge", "origin/piton/production"],
    );
    git(&dir, &["push", "--quiet", "origin", "HEAD:piton/production"]);
    let error = ledger.open(&production).await.expect_err("our pages are not on the line");
    assert!(matches!(error, LedgerError::Rewritten { .. }), "{error:?}");
}

#[tokio::test]
async fn a_version_edited_by_hand_is_seen_and_built_upon() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    write(&ledger, &production, page(&world.tree(), "first")).await;
    let dir = world.clone("hand");
    git(&dir, &["checkout", "--quiet", "piton/production"]);
    std::fs::write(dir.join("values.yaml"), "hub: 6.6.6\n").expect("a file");
    commit_all(&dir, "quick fix\n\nPiton-Event: {}");
    git(&dir, &["push", "--quiet"]);
    let opened = ledger.open(&production).await.expect("it opens");
    assert_eq!(opened.tree, Some(tree_of(&dir, "HEAD")));
    let entries = ledger.pages(&production, None, 1).await.expect("the pages are there");
    assert_eq!(entries[0].foreign.as_deref(), Some("it was not written by piton"));
    assert_eq!((entries[0].author.as_str(), entries[0].subject.as_str()), ("Tester", "quick fix"));
    write(&ledger, &production, page(&world.tree(), "second")).await;
    assert_eq!(reasons(&ledger, &production).await, ["first", "second"]);
}

#[tokio::test]
async fn garbage_trailers_are_foreign_and_a_newer_schema_is_refused() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    write(&ledger, &production, page(&world.tree(), "first")).await;
    add_commit(&world.origin(), "x\n\nPiton-Schema: 1\nPiton-Page: 2\nPiton-Event: {\"event\":\"never heard of\"}\n");
    add_commit(&world.origin(), "x\n\nPiton-Schema: one\n");
    ledger.open(&production).await.expect("it opens");
    let entries = ledger.pages(&production, None, 2).await.expect("the pages are there");
    let whys: Vec<&str> = entries.iter().filter_map(|entry| entry.foreign.as_deref()).collect();
    assert_eq!(whys[0], "its schema is not a number");
    assert!(whys[1].starts_with("its trailers hold an event that cannot be read: "), "{whys:?}");

    add_commit(&world.origin(), "x\n\nPiton-Schema: 2\n");
    let error = ledger.open(&production).await.expect_err("it is from the future");
    let LedgerError::Newer { schema: 2, known: 1, .. } = error else { panic!("{error:?}") };
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_told_by_the_events_below() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    let frozen = |reason: &str| Event {
        at: Stamp(1),
        by: Actor::new("alice").expect("a good name"),
        what: What::Frozen {
            freeze: Freeze {
                reason: reason.to_owned(),
                by: Actor::new("alice").expect("a good name"),
                since: Stamp(1),
                until: None,
            },
        },
    };
    let opened =
        write(&ledger, &production, Page { events: vec![frozen("exams")], ..page(&world.tree(), "freeze") }).await;
    for (number, snapshot) in [(2, "{\"live\":42}"), (3, "{")] {
        let nothing = "x\n\nPiton-Schema: 1\nPiton-Page: ";
        add_commit(&world.origin(), &format!("{nothing}{number}\nPiton-Snapshot: {snapshot}\n"));
    }
    let again = world.ledger("two").open(&production).await.expect("it opens");
    assert!(opened.state.freeze.is_some());
    assert_eq!(again.state, opened.state);
}

#[tokio::test]
async fn opening_reads_no_further_than_the_last_snapshot() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    for number in 0..80 {
        write_one(&ledger, &world.tree(), &number.to_string()).await;
    }
    let log =
        git(&world.origin(), &["log", "--format=%H %(trailers:key=Piton-Snapshot,valueonly,separator=%x2C)", BRANCH]);
    let with_snapshot: Vec<usize> = log.lines().enumerate().filter(|(_, l)| l.len() > 41).map(|(n, _)| n).collect();
    assert_eq!(log.lines().count(), 80);
    assert_eq!(with_snapshot, [15, 47], "pages from the head that carry a snapshot");
    // What lies below the snapshot is taken away: opening must not notice.
    let url = format!("file://{}", world.origin().display());
    git(world.dir.path(), &["clone", "--quiet", "--depth=20", "--branch=piton/production", &url, "shallow"]);
    git(&world.path("shallow"), &["remote", "set-url", "origin", "/nowhere"]);
    let shallow = ledger_in(&world.path("shallow"), Some("origin"));
    let opened = shallow.open(&production).await.expect("the snapshot is near");
    let whole = ledger.open(&production).await.expect("it opens");
    assert_eq!((opened.head, opened.state == whole.state), (whole.head, true));
}

#[tokio::test]
async fn a_clone_without_history_gets_what_it_needs() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    for number in 0..40 {
        write_one(&ledger, &world.tree(), &number.to_string()).await;
    }
    for number in 0..5 {
        add_commit(&world.origin(), &format!("by hand {number}"));
    }
    let url = format!("file://{}", world.origin().display());
    git(world.dir.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"]);
    let shallow = ledger_in(&world.path("shallow"), Some("origin"));
    assert_eq!(reasons(&shallow, &production).await.len(), 40);
    write(&shallow, &production, page(&world.tree(), "from the shallow one")).await;
    ledger.open(&production).await.expect("it opens");
    assert_eq!(reasons(&ledger, &production).await.len(), 41);
}

#[tokio::test]
async fn clocks_that_go_backwards_change_no_order() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    write(&ledger, &production, page(&world.tree(), "first")).await;
    // Each commit is older than its parent, by years.
    for year in [2020, 2010, 2000] {
        let head = git(&world.origin(), &["rev-parse", BRANCH]);
        let date = format!("{year}-01-01T00:00:00Z");
        let tree = format!("{head}^{{tree}}");
        let output = std::process::Command::new("git")
            .args([
                "-c",
                "user.name=x",
                "-c",
                "user.email=x@y",
                "commit-tree",
                &tree,
                "-p",
                &head,
                "-m",
                &year.to_string(),
            ])
            .envs([("GIT_COMMITTER_DATE", &date), ("GIT_AUTHOR_DATE", &date)])
            .current_dir(world.origin())
            .output()
            .expect("git starts");
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        git(&world.origin(), &["update-ref", BRANCH, &id, &head]);
        ledger.open(&production).await.expect("it is no rewrite");
    }
    write(&ledger, &production, page(&world.tree(), "last")).await;
    let entries = ledger.pages(&production, None, 9).await.expect("the pages are there");
    let subjects: Vec<&str> = entries.iter().map(|entry| entry.subject.as_str()).collect();
    assert_eq!(subjects, ["unfreeze: last", "2000", "2010", "2020", "unfreeze: first"]);
}

async fn write_one(ledger: &GitLedger, tree: &TreeId, reason: &str) {
    let production = environment("production");
    let opened = ledger.open(&production).await.expect("it opens");
    ledger.append(&production, opened.head.as_ref(), page(tree, reason)).await.expect("it is taken");
}

/// Adds a commit to the origin's branch, with the tree as it is.
fn add_commit(origin: &Path, message: &str) {
    let head = git(origin, &["rev-parse", BRANCH]);
    let tree = format!("{head}^{{tree}}");
    let made = try_git(
        origin,
        &["-c", "user.name=x", "-c", "user.email=x@y", "commit-tree", &tree, "-p", &head, "-m", message],
    );
    git(origin, &["update-ref", BRANCH, &made.expect("a commit"), &head]);
}
