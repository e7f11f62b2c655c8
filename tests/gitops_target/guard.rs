//! What somebody changed beside piton is named, and the way back is tried.

use std::collections::BTreeMap;

use piton::{model::Release, targets::Target};

use crate::world::{BRANCH, Kind, World, shift};

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_pushed_beside_piton_is_named() {
    let world = World::new(Kind::Flux).await;
    let one = world.release("1");
    shift(&world.target(world.config()), &one, 1).await.expect("it is good");
    assert_eq!(seen(&world, &one).await, [] as [&str; 0]);
    world.push_by_hand("a quick fix");
    let found = seen(&world, &one).await;
    let branch = format!("branch `{BRANCH}` head is ");
    let by_whom = "(\"a quick fix\" by mallory) and should be piton's commit with release";
    assert!(found.iter().any(|one| one.starts_with(&branch) && one.contains(by_whom)), "{found:?}");
    assert!(found.iter().any(|one| one.contains(" (mallory, 20")), "who and when: {found:?}");
    let behind = format!("Kustomization {}/web commit is ", world.namespace);
    assert!(found.iter().any(|one| one.starts_with(&behind)), "Flux looks once an hour: {found:?}");
    world.follow(BRANCH, "suspend: true").await;
    let found = seen(&world, &one).await;
    assert!(found.iter().any(|one| one.contains("automation is") && one.contains("is suspended")), "{found:?}");
    let kind = "kustomizations.kustomize.toolkit.fluxcd.io/web";
    world.cluster.kubectl(&["delete", "--namespace", &world.namespace, kind]).await;
    let found = seen(&world, &one).await;
    assert!(found.contains(&format!("Kustomization {}/web is missing", world.namespace)), "{found:?}");
}

async fn seen(world: &World, release: &Release) -> Vec<String> {
    let found = world.target(world.config()).drift(release, &BTreeMap::new()).await.expect("it can be compared");
    found.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_tried() {
    let world = World::new(Kind::Flux).await;
    let target = world.target(world.config());
    // Nobody listens there: whether the image is still there cannot be known.
    let text = world.manifest("1", 3).replace("shop/web", "127.0.0.1:1/shop/web");
    let (one, other) = (world.release_of(&text), world.release("2"));
    shift(&target, &one, 1).await.expect("it is good");
    let rehearsal = target.rehearse(&one).await.expect("it can be tried");
    assert_eq!(rehearsal.obstacles, Vec::<String>::new());
    assert!(rehearsal.blind.is_some_and(|why| why.contains("127.0.0.1:1/shop/web")));
    let rehearsal = target.rehearse(&other).await.expect("it can be tried");
    assert!(rehearsal.blind.is_some_and(|why| why.contains("known only while it is live")));
    world.follow(BRANCH, "suspend: true").await;
    let rehearsal = target.rehearse(&one).await.expect("it can be tried");
    assert!(rehearsal.obstacles.iter().any(|why| why.contains("is suspended")), "{:?}", rehearsal.obstacles);
}
