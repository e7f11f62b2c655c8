//! Hosts that refuse, hang and die, and disks that take nothing.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use piton::{
    engine::Holder,
    ledger::{Durability, Freshness, GitLedger, Ledger, LedgerError, Page, Settings},
    model::{Actor, Event, Span},
};

use crate::{
    alone::in_another_process,
    http::Host,
    ledger_world::{
        World, environment, event, git, good_page, ledger_in, ledger_with, mirror_page, page, reasons, settings, write,
    },
};

const PATIENCE: Span = Span::seconds(2);

fn impatient() -> Settings {
    let soon = PATIENCE;
    Settings { read_timeout: soon, fetch_timeout: soon, push_timeout: soon, ..settings() }
}

#[tokio::test]
async fn a_host_that_hangs_holds_up_no_rollback() {
    let world = World::new();
    let host = Host::start(world.dir.path());
    let dir = host.clone("one");
    let production = environment("production");
    write(&ledger_in(&dir, Some("origin")), &production, page(&world.tree(), "before")).await;

    host.behave("hang");
    // One question is waited for, then the host rests.
    let ledger = ledger_with(&dir, Some("origin"), Settings { retry_after: Span::minutes(5), ..impatient() });
    let opened = ledger.open(&production).await.expect("the mirror answers");
    let Freshness::Mirror { why, unpushed: 0 } = &opened.freshness else { panic!("{:?}", opened.freshness) };
    assert_eq!(why, "`git ls-remote` was killed after its time-out of 2s");

    let began = Instant::now();
    let (mut head, pages) = (opened.head, 5);
    for number in 0..pages {
        let appended = ledger.append(&production, head.as_ref(), mirror_page(&world.tree(), &format!("back {number}")));
        let appended = appended.await.expect("the mirror takes it");
        assert!(!appended.pushed);
        head = Some(appended.commit);
    }
    let again = ledger.open(&production).await.expect("the mirror answers");
    assert_eq!(again.head, head);
    assert!(matches!(again.freshness, Freshness::Mirror { unpushed: 5, .. }), "{:?}", again.freshness);
    assert!(began.elapsed() < PATIENCE.as_duration(), "it waited for the host: {:?}", began.elapsed());
    let refused = ledger.append(&production, head.as_ref(), page(&world.tree(), "new")).await;
    assert!(matches!(refused, Err(LedgerError::Unreachable { .. })), "{refused:?}");
    assert_eq!(ledger.flush(&production, Span::seconds(20)).await.expect("it gives up"), 5);

    host.behave("ok");
    let patient = ledger_in(&dir, Some("origin"));
    assert_eq!(patient.flush(&production, Span::seconds(60)).await.expect("it is pushed"), 0);
    let expected = ["before", "back 0", "back 1", "back 2", "back 3", "back 4"];
    let reader = ledger_in(&host.clone("reader"), Some("origin"));
    assert_eq!(reasons(&reader, &production).await, expected);
}

#[tokio::test]
async fn a_host_that_forbids_pushing_is_told_apart_from_a_lost_race() {
    let world = World::new();
    let host = Host::start(world.dir.path());
    let ledger = ledger_in(&host.clone("one"), Some("origin"));
    let production = environment("production");
    host.behave("forbid");
    let opened = ledger.open(&production).await.expect("reading is allowed");
    let error = ledger.append(&production, None, page(&world.tree(), "first")).await.expect_err("it is forbidden");
    assert_eq!((opened.freshness, error.is_of_the_host()), (Freshness::Origin, true), "{error:?}");
    assert!(error.to_string().contains("403"), "{error}");
}

#[tokio::test]
async fn what_a_hook_says_reaches_the_person() {
    let world = World::new();
    hook(&world, "pre-receive", "echo 'piton/production is protected' >&2; exit 1");
    let ledger = world.ledger("one");
    let production = environment("production");
    ledger.open(&production).await.expect("reading is allowed");
    let error = ledger.append(&production, None, good_page(&world.tree(), "first")).await.expect_err("it is refused");
    let LedgerError::Refused { why, .. } = &error else { panic!("{error:?}") };
    assert!(why.ends_with("piton/production is protected"), "{why}");

    // A rollback stays in the mirror, and says so.
    ledger.append(&production, None, mirror_page(&world.tree(), "back")).await.expect("the mirror takes it");
    let opened = ledger.open(&production).await.expect("the mirror answers");
    let Freshness::Mirror { why, unpushed: 1 } = &opened.freshness else { panic!("{:?}", opened.freshness) };
    assert!(why.contains("protected"), "{why}");
    hook(&world, "pre-receive", "exit 0");
    assert_eq!(ledger.open(&production).await.expect("it is pushed").freshness, Freshness::Origin);
}

#[tokio::test]
async fn a_host_that_takes_branches_only_still_keeps_the_ledger() {
    let world = World::new();
    hook(&world, "update", "case \"$1\" in refs/heads/*) exit 0;; *) echo 'no such refs here' >&2; exit 1;; esac");
    let ledger = world.ledger("one");
    let production = environment("production");
    let opened = write(&ledger, &production, good_page(&world.tree(), "first")).await;
    let head = opened.head.expect("it was written");
    assert_eq!(git(&world.origin(), &["rev-parse", "refs/heads/piton/production"]), head.as_str());
    let refused = ledger.repair_good(&production, &head).await;
    assert!(matches!(refused, Err(LedgerError::Refused { .. })), "{refused:?}");
    hook(&world, "update", "exit 0");
    assert!(ledger.repair_good(&production, &head).await.expect("it is repaired"));
    assert!(!ledger.repair_good(&production, &head).await.expect("nothing to repair"));
    assert_eq!(git(&world.origin(), &["rev-parse", "refs/piton/production/good"]), head.as_str());
}

#[tokio::test]
async fn a_push_whose_answer_is_lost_counts_if_it_arrived() {
    let world = World::new();
    let host = Host::start(world.dir.path());
    let ledger = ledger_in(&host.clone("one"), Some("origin"));
    let production = environment("production");
    let opened = write(&ledger, &production, page(&world.tree(), "first")).await;

    host.behave("die before");
    let error = ledger.append(&production, opened.head.as_ref(), page(&world.tree(), "lost")).await;
    assert!(error.as_ref().is_err_and(LedgerError::is_of_the_host), "{error:?}");
    assert_eq!(ledger.open(&production).await.expect("it opens").head, opened.head);

    host.behave("die after");
    let appended = ledger.append(&production, opened.head.as_ref(), page(&world.tree(), "arrived")).await;
    let appended = appended.expect("it arrived");
    assert!(appended.pushed);
    assert_eq!(ledger.open(&production).await.expect("it opens").head, Some(appended.commit));
    assert_eq!(reasons(&ledger, &production).await, ["first", "arrived"]);
}

#[tokio::test]
async fn a_push_counts_even_if_others_wrote_on_top_before_the_answer() {
    let world = World::new();
    let host = Host::start(world.dir.path());
    let ledger = ledger_in(&host.clone("one"), Some("origin"));
    let production = environment("production");
    let opened = write(&ledger, &production, page(&world.tree(), "first")).await;
    let script = "h=$(git rev-parse refs/heads/piton/production); \
        n=$(echo 'by hand' | git -c user.name=x -c user.email=x@y commit-tree $h^{tree} -p $h); \
        git update-ref refs/heads/piton/production $n";
    hook(&world, "post-receive", script);
    host.behave("die after");
    let appended = ledger.append(&production, opened.head.as_ref(), page(&world.tree(), "second")).await;
    let appended = appended.expect("it arrived");
    let entries = ledger.pages(&production, None, 9).await.expect("the pages are there");
    assert_eq!((entries.len(), entries[0].subject.as_str()), (3, "by hand"));
    assert_eq!(entries[1].commit, appended.commit);
}

#[tokio::test]
async fn both_refs_move_or_none() {
    let world = World::new();
    let (one, two) = (world.ledger("one"), world.ledger("two"));
    let production = environment("production");
    let first = write(&one, &production, good_page(&world.tree(), "first")).await;
    two.open(&production).await.expect("it opens");
    let second = write(&one, &production, page(&world.tree(), "second")).await;
    let lost = two.append(&production, first.head.as_ref(), good_page(&world.tree(), "late")).await;
    assert!(matches!(lost, Err(LedgerError::Lost { .. })), "{lost:?}");
    let at = |name: &str| git(&world.origin(), &["rev-parse", name]);
    assert_eq!(at("refs/heads/piton/production"), second.head.expect("it was written").as_str());
    assert_eq!(at("refs/piton/production/good"), first.head.expect("it was written").as_str());
}

#[tokio::test]
async fn a_missing_origin_leaves_the_mirror() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    let first = write(&ledger, &production, page(&world.tree(), "first")).await;
    let tree = world.tree();
    std::fs::rename(world.origin(), world.path("elsewhere.git")).expect("it moves");
    let fresh = ledger_in(&world.path("author"), Some("origin")).open(&production).await;
    assert!(matches!(fresh, Err(LedgerError::Unreachable { .. })), "never seen is not empty: {fresh:?}");
    let opened = ledger.open(&production).await.expect("the mirror answers");
    assert_eq!(opened.head, first.head);
    ledger.append(&production, opened.head.as_ref(), mirror_page(&tree, "back")).await.expect("the mirror takes it");
    assert_eq!(ledger.flush(&production, Span::seconds(20)).await.expect("it gives up"), 1);
    std::fs::rename(world.path("elsewhere.git"), world.origin()).expect("it moves back");
    // Another process of the same clone brings it.
    let later = ledger_in(&world.path("one"), Some("origin"));
    assert_eq!(later.open(&production).await.expect("it opens").freshness, Freshness::Origin);
    assert_eq!(reasons(&world.ledger("two"), &production).await, ["first", "back"]);
}

#[tokio::test]
async fn what_was_written_in_the_dark_goes_on_top_of_what_others_wrote() {
    let world = World::new();
    let production = environment("production");
    let (dark, other) = (world.ledger("dark"), world.ledger("other"));
    let tree = world.tree();
    write(&dark, &production, page(&tree, "first")).await;
    git(&world.path("dark"), &["remote", "set-url", "origin", "/nowhere"]);
    let mut head = dark.open(&production).await.expect("the mirror answers").head;
    for reason in ["back 1", "back 2"] {
        let written = Page { good: Some(piton::ledger::GoodRef::Here), ..mirror_page(&tree, reason) };
        head = Some(dark.append(&production, head.as_ref(), written).await.expect("the mirror takes it").commit);
    }
    for reason in ["other 1", "other 2"] {
        write(&other, &production, page(&tree, reason)).await;
    }
    git(&world.path("dark"), &["remote", "set-url", "origin", &world.origin().display().to_string()]);
    let opened = dark.open(&production).await.expect("it opens");
    assert_eq!(opened.freshness, Freshness::Origin);
    assert_ne!(opened.head, head, "the pages have other parents");
    assert_eq!(reasons(&dark, &production).await, ["first", "other 1", "other 2", "back 1", "back 2"]);
    let good = git(&world.origin(), &["rev-parse", "refs/piton/production/good"]);
    assert_eq!(opened.head.map(|h| h.to_string()), Some(good));
    let left = git(&world.path("dark"), &["for-each-ref", "refs/piton/local"]);
    assert_eq!(left, "");
}

#[tokio::test]
async fn two_who_go_back_at_the_same_moment_get_two_numbers() {
    let world = World::new();
    let production = environment("production");
    let tree = world.tree();
    let dark = world.ledger("dark");
    write(&dark, &production, page(&tree, "first")).await;
    let other = world.ledger("other");
    git(&world.path("dark"), &["remote", "set-url", "origin", "/nowhere"]);
    let mut asked = Vec::new();
    // Both see the same page; the pages of one wait in its clone.
    for (ledger, who, durability) in [(&dark, "ada", Durability::Mirror), (&other, "eve", Durability::Origin)] {
        let opened = ledger.open(&production).await.expect("it opens");
        let me = Holder { actor: Actor::new(who).expect("a good name"), nonce: who.to_owned() };
        let claim = opened.state.claim(&me, event("").at, true).expect("the way back may");
        let events = vec![Event { what: claim.expect("it is not held"), ..event("") }];
        let written = Page { events, durability, ..page(&tree, who) };
        ledger.append(&production, opened.head.as_ref(), written).await.expect("it is taken");
        asked.push(ledger.open(&production).await.expect("it opens").state.fence);
    }
    assert_eq!(asked[0], asked[1], "neither knew of the other");
    git(&world.path("dark"), &["remote", "set-url", "origin", &world.origin().display().to_string()]);
    for ledger in [&dark, &other] {
        let state = ledger.open(&production).await.expect("it opens").state;
        let holder = state.lease.as_ref().map(|lease| (lease.nonce.as_str(), lease.fence));
        assert_eq!(holder, Some(("ada", asked[1] + 1)), "who came later has a number of its own");
    }
}

#[tokio::test]
async fn a_rollback_is_pushed_in_the_background() {
    let world = World::new();
    let production = environment("production");
    let ledger = world.ledger("one");
    let first = write(&ledger, &production, page(&world.tree(), "first")).await;
    let mut head = first.head;
    for reason in ["back 1", "back 2", "back 3"] {
        let appended = ledger.append(&production, head.as_ref(), mirror_page(&world.tree(), reason)).await;
        head = Some(appended.expect("the mirror takes it").commit);
    }
    assert_eq!(ledger.flush(&production, Span::seconds(60)).await.expect("it is pushed"), 0);
    let origin = git(&world.origin(), &["rev-parse", "refs/heads/piton/production"]);
    assert_eq!(head.map(|h| h.to_string()), Some(origin));
}

#[test]
fn a_full_disk_is_a_sentence_and_nothing_is_half_done() {
    let world = World::new();
    world.clone("one");
    in_another_process("faults::full_disk", &[(WORLD, world.dir.path())]);
    let refs = git(&world.origin(), &["for-each-ref", "refs/heads/piton"]);
    assert_eq!(refs.lines().count(), 1, "{refs}");
    git(&world.path("one"), &["fsck", "--strict"]);
}

#[test]
fn a_read_only_disk_is_a_sentence() {
    let world = World::new();
    world.clone("one");
    // Nobody's home is not root's, where git would look for its configuration.
    in_another_process("faults::read_only_disk", &[(WORLD, world.dir.path()), ("HOME", world.dir.path())]);
    git(&world.path("one"), &["-c", "safe.directory=*", "fsck", "--strict"]);
}

const WORLD: &str = "PITON_TEST_WORLD";

/// The folder that the other process works in.
fn given_world() -> PathBuf {
    PathBuf::from(std::env::var(WORLD).expect("the test that starts this says where"))
}

#[test]
#[ignore = "started by another test, in a process of its own"]
fn full_disk() {
    let world = given_world();
    use nix::sys::{
        resource::{Resource, setrlimit},
        signal::{SigHandler, Signal, signal},
    };
    let ledger = ledger_in(&world.join("one"), Some("origin"));
    let production = environment("production");
    let tree = crate::ledger_world::tree_of(&world.join("origin.git"), "main");
    let first = block_on(write(&ledger, &production, page(&tree, "first")));
    // SAFETY: no handler of ours runs, and nothing else in this process has one for it.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.expect("it can be ignored");
    // No file can grow: what a full disk does, for this process and those it starts.
    setrlimit(Resource::RLIMIT_FSIZE, 0, nix::libc::RLIM_INFINITY).expect("a limit can be lowered");
    let append = |ledger: &GitLedger, durability| {
        let page = Page { durability, ..page(&tree, "too much") };
        block_on(ledger.append(&production, first.head.as_ref(), page)).expect_err("there is no room")
    };
    for durability in [Durability::Origin, Durability::Mirror] {
        let error = append(&ledger, durability);
        assert!(error.to_string().starts_with("cannot write a page of `production`"), "{error}");
    }
    let again = ledger_in(&world.join("one"), Some("origin"));
    assert_eq!(block_on(again.open(&production)).expect("reading needs no room").head, first.head);
}

#[test]
#[ignore = "started by another test, in a process of its own"]
fn read_only_disk() {
    let world = given_world();
    use nix::unistd::{Uid, chown, geteuid, setgid, setuid};
    let ledger = ledger_in(&world.join("one"), Some("origin"));
    let production = environment("production");
    let tree = crate::ledger_world::tree_of(&world.join("origin.git"), "main");
    let first = block_on(write(&ledger, &production, page(&tree, "first")));
    drop(ledger);
    let nobody = 65_534;
    for path in all_under(&world) {
        if geteuid().is_root() {
            // Nothing is read-only to root.
            chown(&path, Some(Uid::from_raw(nobody)), None).expect("root may give files away");
        }
        if path.starts_with(world.join("one")) && path.is_dir() {
            let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o555);
            std::fs::set_permissions(&path, read_only).expect("it is ours");
        }
    }
    if geteuid().is_root() {
        setgid(nobody.into()).expect("root may become anyone");
        setuid(nobody.into()).expect("root may become anyone");
    }
    let ledger = ledger_in(&world.join("one"), Some("origin"));
    let opened = block_on(ledger.open(&production)).expect("reading needs no writing");
    assert_eq!(opened.head, first.head);
    let error = block_on(ledger.append(&production, first.head.as_ref(), page(&tree, "second")));
    let error = error.expect_err("it cannot be written");
    assert!(error.to_string().starts_with("cannot write a page of `production`"), "{error}");
    for path in all_under(&world.join("one")).into_iter().filter(|path| path.is_dir()) {
        let writable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, writable).expect("it is ours");
    }
}

fn all_under(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while next < found.len() {
        if found[next].is_dir() && !found[next].is_symlink() {
            let entries = std::fs::read_dir(&found[next]).expect("it can be listed");
            let entries: Vec<PathBuf> = entries.map(|entry| entry.expect("it is there").path()).collect();
            found.extend(entries);
        }
        next += 1;
    }
    found
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(future)
}

pub fn hook(world: &World, name: &str, script: &str) {
    let path = world.origin().join("hooks").join(name);
    std::fs::create_dir_all(world.origin().join("hooks")).expect("a folder");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
}
