//! A runner is killed at every single write, before and after it; the next one comes to the same end.

use futures_util::future::join_all;
use serde_json::Value;

use crate::{
    door::{Cut, Door},
    kinds::Kind,
    world::{World, release, share},
};

/// One kind whose route is not ours, one with an object of ours, and the one without a router.
const KINDS: [Kind; 3] = [Kind::Gateway, Kind::Nginx, Kind::Replicas];

/// More writes than this no act makes.
const WRITES_MAX: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_the_way_up() {
    join_all(KINDS.map(|kind| async move {
        let world = World::with(kind).await;
        let before = world.state().await;
        for_every_write(
            async |door: &Door| {
                let done = door.through(forward(&world, door, 2)).await;
                world.bring_up(2).await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                world.shift(2, "50%").await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                assert_eq!(world.position().await, share("50%"), "{kind:?}");
                world.hand_back().await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                comes_to(&world, &before).await;
                done.is_some()
            },
            &world,
        )
        .await;
        world.gone().await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_the_way_back() {
    join_all(KINDS.map(|kind| async move {
        let world = World::with(kind).await;
        let before = world.state().await;
        let pods = world.stable_pods().await;
        for_every_write(
            async |door: &Door| {
                world.bring_up(2).await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                world.shift(2, "100%").await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                let done = door.through(world.canary(&door.kube, 1).hand_back(None)).await;
                world.hand_back().await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                comes_to(&world, &before).await;
                done.is_some()
            },
            &world,
        )
        .await;
        assert_eq!(world.stable_pods().await, pods, "{kind:?}: stable was never restarted");
        world.gone().await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_promoting() {
    // Every round is two rollouts of stable, so that the kinds share the writes among them.
    join_all(KINDS.into_iter().enumerate().map(|(nth, kind)| async move {
        let world = World::with(kind).await;
        let before = world.state().await;
        let number = std::cell::Cell::new(1);
        for_writes(
            (nth..WRITES_MAX).step_by(KINDS.len()).collect(),
            async |door: &Door| {
                number.set(3 - number.get());
                let number = number.get();
                world.bring_up(number).await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                world.shift(number, "100%").await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                let done = door.through(world.promote(&door.kube, number)).await;
                world.promote(&world.kube, number).await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                promoted(&world, number, &before).await;
                done.is_some()
            },
            &world,
        )
        .await;
        world.gone().await;
    }))
    .await;
}

async fn forward(world: &World, door: &Door, number: u8) {
    let (release, manifests) = (release(number), world.manifests(number));
    let canary = world.canary(&door.kube, 1);
    // It is dead before it could tell of a failure.
    if canary.bring_up(&release, &manifests).await.is_ok() {
        let _ = canary.shift(&release, &manifests, share("50%")).await;
    }
}

/// Does something with a door that falls shut at the first write, the second…, until it does not fall any more.
async fn for_every_write(doing: impl AsyncFn(&Door) -> bool, world: &World) {
    for_writes((0..WRITES_MAX).collect(), doing, world).await;
}

async fn for_writes(which: Vec<usize>, doing: impl AsyncFn(&Door) -> bool, world: &World) {
    for writes in which {
        let mut whole = 0;
        for cut in [Cut::Before, Cut::After] {
            let door = Door::open(&world.kube, writes, cut).await;
            whole += usize::from(doing(&door).await);
        }
        if whole == 2 {
            assert!(writes > 2, "there were only {writes} writes to be killed at");
            return;
        }
    }
    panic!("more than {WRITES_MAX} writes");
}

/// What is deleted goes in its own time.
async fn comes_to(world: &World, wanted: &Value) {
    let what = format!("{:?} is as it was", world.kind);
    world
        .cluster
        .wait_until(&what, || async {
            let state = world.state().await;
            if state == *wanted { Ok(()) } else { Err(format!("{state}\nand not\n{wanted}")) }
        })
        .await;
}

/// Like in the beginning, with another release.
async fn promoted(world: &World, number: u8, before: &Value) {
    world.stable_runs(number).await;
    let mut wanted = before.clone();
    let state = world.state().await;
    for (kind, name) in [("deployments", "web"), ("configmaps", "settings"), ("secrets", "key")] {
        wanted[kind][name] = state[kind][name].clone();
    }
    assert_eq!(state["configmaps"]["settings"]["greeting"], format!("hello from {number}"));
    comes_to(world, &wanted).await;
}
