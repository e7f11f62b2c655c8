//! What every ledger promises, tried on each kind: git with an origin, git on its own, and memory.

mod ledger_world;

use std::sync::Arc;

use ledger_world::{World, environment, good_page, ledger_in, page, reasons, write};
use piton::{
    ledger::{Freshness, Ledger, LedgerError, MemoryLedger, MemoryTrees},
    model::TreeId,
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
