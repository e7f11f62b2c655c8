//! What every ledger promises, tried on each kind: git with an origin, git on its own, and memory.

mod ledger_world;

use std::sync::Arc;

use ledger_world::{World, environment, good_page, ledger_in, mirror_page, page, reasons, write};
use piton::{
    engine::State,
    ledger::{Fault, Freshness, Ledger, LedgerError, MemoryLedger, MemoryTrees, Page, append_with},
    model::{Actor, ComponentName, Event, Pin, Span, Stamp, TreeId, Version, What},
    planner::Trees,
};

/// Two working copies of one ledger, and a tree to write.
struct Pair {
    name: &'static str,
    one: Arc<dyn Ledger>,
    two: Arc<dyn Ledger>,
    tree: TreeId,
    _world: Option<World>,
}

fn every_kind() -> Vec<Pair> {
    let memory = MemoryLedger::new();
    let tree = MemoryTrees::new().tree([("values.yaml", &b"hub: 1.0.0\n"[..])]);
    let two = Arc::new(memory.another());
    let memory = Pair { name: "memory", one: Arc::new(memory), two, tree, _world: None };

    let world = World::new();
    let (one, two) = (Arc::new(world.ledger("one")), Arc::new(world.ledger("two")));
    let git = Pair { name: "git", one, two, tree: world.tree(), _world: Some(world) };

    let world = World::new();
    let (one, two) = (ledger_in(&world.origin(), None), ledger_in(&world.origin(), None));
    let alone =
        Pair { name: "git alone", one: Arc::new(one), two: Arc::new(two), tree: world.tree(), _world: Some(world) };
    vec![memory, git, alone]
}

#[tokio::test]
async fn what_one_writes_the_other_reads() {
    for Pair { name, one, two, tree, _world } in every_kind() {
        let production = environment("production");
        let empty = one.open(&production).await.expect(name);
        assert_eq!((empty.head, empty.tree, empty.freshness), (None, None, Freshness::Origin), "{name}");
        let opened = write(&*one, &production, page(&tree, "first")).await;
        write(&*one, &production, good_page(&tree, "second")).await;
        let seen = two.open(&production).await.expect(name);
        assert_eq!((seen.tree.as_ref(), &seen.freshness), (Some(&tree), &Freshness::Origin), "{name}");
        assert_ne!(seen.head, opened.head, "{name}");
        assert_eq!(reasons(&*two, &production).await, ["first", "second"], "{name}");
        assert_eq!(two.open(&environment("staging")).await.expect(name).head, None, "{name}");
    }
}

#[tokio::test]
async fn a_writer_with_an_old_head_loses() {
    for Pair { name, one, two, tree, _world } in every_kind() {
        let production = environment("production");
        let old = write(&*one, &production, page(&tree, "first")).await;
        two.open(&production).await.expect(name);
        write(&*one, &production, page(&tree, "second")).await;
        for (seen, reason) in [(old.head.as_ref(), "late"), (None, "very late")] {
            let lost = two.append(&production, seen, page(&tree, reason)).await;
            assert!(matches!(lost, Err(LedgerError::Lost { .. })), "{name}: {lost:?}");
        }
        let now = two.open(&production).await.expect(name);
        two.append(&production, now.head.as_ref(), page(&tree, "third")).await.expect(name);
        one.open(&production).await.expect(name);
        assert_eq!(reasons(&*one, &production).await, ["first", "second", "third"], "{name}");
    }
}

#[tokio::test]
async fn pages_come_in_portions_newest_first() {
    for Pair { name, one, two: _, tree, _world } in every_kind() {
        let production = environment("production");
        for number in 0..5 {
            write(&*one, &production, page(&tree, &number.to_string())).await;
        }
        let subjects =
            |entries: &[piton::ledger::Entry]| -> Vec<String> { entries.iter().map(|e| e.subject.clone()).collect() };
        let newest = one.pages(&production, None, 2).await.expect(name);
        assert_eq!(subjects(&newest), ["unfreeze: 4", "unfreeze: 3"], "{name}");
        let older = one.pages(&production, Some(&newest[1].commit), 9).await.expect(name);
        assert_eq!(subjects(&older), ["unfreeze: 2", "unfreeze: 1", "unfreeze: 0"], "{name}");
        assert_eq!(
            (older[0].author.as_str(), older[0].at.0),
            ("alice <alice@example.org>", 1_795_249_268_417),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_state_is_the_fold_of_the_events_however_it_is_read() {
    for Pair { name, one, two, tree, _world } in every_kind() {
        let production = environment("production");
        let mut expected = State::default();
        for number in 0..70_i64 {
            let opened = one.open(&production).await.expect(name);
            let events = vec![pinned(number % 9, number), pinned(number % 7, number + 1_000)];
            let page = Page { events: events.clone(), ..page(&tree, "pin") };
            let appended = one.append(&production, opened.head.as_ref(), page).await.expect(name);
            events.iter().for_each(|event| expected.apply(&appended.commit, event));
        }
        // The one that wrote it, one that sees all of it for the first time, and one that has seen a part of it.
        assert_eq!(one.open(&production).await.expect(name).state, expected, "{name}");
        assert_eq!(two.open(&production).await.expect(name).state, expected, "{name}");
        let last = pinned(3, 5_000);
        let opened = one.open(&production).await.expect(name);
        let more = Page { events: vec![last.clone()], ..page(&tree, "pin") };
        let appended = one.append(&production, opened.head.as_ref(), more).await.expect(name);
        expected.apply(&appended.commit, &last);
        assert_eq!(two.open(&production).await.expect(name).state, expected, "{name}");
        assert!(expected != State::default(), "the events say something");
    }
}

fn pinned(component: i64, at: i64) -> Event {
    let by = Actor::new("alice").expect("a good name");
    let pin = Pin {
        component: ComponentName::new(format!("component-{component}")).expect("a good name"),
        version: Version::new(format!("1.0.{at}")).expect("a good version"),
        reason: "because".to_owned(),
        by: by.clone(),
        since: Stamp(at),
        until: None,
    };
    Event { at: Stamp(at), by, what: What::Pinned { pin } }
}

#[tokio::test]
async fn writers_that_share_a_ledger_lose_nothing() {
    for Pair { name, one, two: _, tree, _world } in every_kind() {
        let tasks = (0..4).map(|writer| {
            let (one, tree) = (one.clone(), tree.clone());
            tokio::spawn(async move {
                for number in 0..3 {
                    let reason = format!("{writer}.{number}");
                    let limit = Span::minutes(10);
                    let write = |_: &_| Some(page(&tree, &reason));
                    append_with(&*one, &environment("production"), limit, write).await.expect("it is taken in the end");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect(name);
        }
        let mut written = reasons(&*one, &environment("production")).await;
        written.sort();
        let expected: Vec<String> = (0..4).flat_map(|w| (0..3).map(move |n| format!("{w}.{n}"))).collect();
        assert_eq!(written, expected, "{name}");
    }
}

#[tokio::test]
async fn nothing_to_write_writes_nothing() {
    for Pair { name, one, two: _, tree: _, _world } in every_kind() {
        let nothing = append_with(&*one, &environment("production"), Span::seconds(60), |_| None).await;
        assert_eq!(nothing.expect(name), None, "{name}");
        assert_eq!(one.open(&environment("production")).await.expect(name).head, None, "{name}");
    }
}

#[tokio::test]
async fn memory_misbehaves_as_it_is_told() {
    let (one, tree) = (MemoryLedger::new(), MemoryTrees::new().tree([("a", &b"1"[..])]));
    let two = one.another();
    let production = environment("production");
    let head = write(&one, &production, good_page(&tree, "first")).await.head;
    assert_eq!(one.good(&production), head);

    one.lose_next(2);
    for _ in 0..2 {
        let lost = one.append(&production, head.as_ref(), page(&tree, "x")).await;
        assert!(matches!(lost, Err(LedgerError::Lost { .. })), "{lost:?}");
    }
    one.fail_next(Fault::Before);
    assert!(one.append(&production, head.as_ref(), page(&tree, "x")).await.is_err());
    assert_eq!(one.open(&production).await.expect("it opens").head, head);
    one.fail_next(Fault::After);
    assert!(one.append(&production, head.as_ref(), page(&tree, "second")).await.is_err());
    let head = one.open(&production).await.expect("it opens").head;
    assert_eq!(reasons(&one, &production).await, ["first", "second"]);

    one.set_unreachable(true);
    let never_seen = two.open(&production).await;
    assert!(matches!(never_seen, Err(LedgerError::Unreachable { .. })), "{never_seen:?}");
    assert!(one.append(&production, head.as_ref(), page(&tree, "x")).await.is_err());
    let dark = one.append(&production, head.as_ref(), mirror_page(&tree, "back")).await.expect("the mirror takes it");
    assert!(!dark.pushed);
    let opened = one.open(&production).await.expect("the mirror answers");
    assert!(matches!(opened.freshness, Freshness::Mirror { unpushed: 1, .. }), "{:?}", opened.freshness);
    assert_eq!(opened.head, Some(dark.commit));

    one.set_unreachable(false);
    write(&two, &production, page(&tree, "other")).await;
    assert_eq!(one.open(&production).await.expect("it opens").freshness, Freshness::Origin);
    let by = Actor::new("bob").expect("a good name");
    one.write_by_hand(&production, &tree, Stamp(7), &by);
    let opened = two.open(&production).await.expect("it opens");
    assert_eq!(reasons(&two, &production).await, ["first", "second", "other", "back"]);
    let newest = two.pages(&production, None, 1).await.expect("the pages are there").remove(0);
    assert_eq!((Some(newest.commit), newest.foreign.is_some()), (opened.head, true));
}

#[test]
fn trees_in_memory_are_what_git_would_say() {
    let world = World::new();
    let git = ledger_in(&world.origin(), None).repository().clone();
    let memory = MemoryTrees::new();
    let (in_git, in_memory) =
        (world.tree(), memory.tree([("run.sh", &b"#!/bin/sh\n"[..]), ("values.yaml", b"hub: 1.0.0\n")]));
    let files = [("values.yaml".to_owned(), b"hub: 2.0.0\n".to_vec()), ("new".to_owned(), b"x\n".to_vec())];
    let (git_after, memory_after) =
        (git.write(&in_git, &files).expect("git"), memory.write(&in_memory, &files).expect("memory"));
    assert_eq!(memory.write(&in_memory, &files).expect("again"), memory_after);
    assert_eq!(
        memory.changed(&in_memory, &memory_after).expect("memory"),
        git.changed(&in_git, &git_after).expect("git")
    );
    let numbers = |trees: &dyn Trees, from, to| -> Vec<(String, usize, usize)> {
        let changes = trees.diff(from, to).expect("it compares");
        changes.into_iter().map(|change| (change.path, change.added, change.removed)).collect()
    };
    assert_eq!(numbers(&memory, &in_memory, &memory_after), numbers(&git, &in_git, &git_after));
    assert_eq!(memory.read(&memory_after, "new").expect("memory"), Some(b"x\n".to_vec()));
    assert_eq!(memory.read(&memory_after, "none").expect("memory"), None);
}
