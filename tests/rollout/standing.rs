use std::collections::BTreeMap;

use piton::targets::kubernetes::rollout::{Config, Glance, Standing};

use crate::world::{World, patient};

#[tokio::test(flavor = "multi_thread")]
async fn the_standing_look_sees_a_crash_as_it_happens() {
    let world = World::new().await;
    let object = [world.deployment(2, "1", "").await];
    world.rolled_out(2).await;
    let standing = Standing::new(&world.connection, &Config::default());
    let facts = |glance: Glance| glance.facts().into_iter().collect::<BTreeMap<_, _>>();
    // The look may be ahead of the endpoints of its own watches by a moment.
    let well = world.cluster.wait_until("all is well", || async {
        match facts(standing.glance(&object).await).get("ready") {
            Some(ready) => Ok(ready.clone()),
            None => Err("not yet"),
        }
    });
    assert_eq!(well.await, "1 object with 2 pods ready");
    assert_eq!(facts(standing.glance(&object).await)["broken"], "");

    world.deployment(2, "2-fades-2s", "").await;
    let broken = world.cluster.wait_until("the crash is seen", || async {
        let facts = facts(standing.glance(&object).await);
        facts.get("broken").filter(|why| !why.is_empty()).cloned().ok_or(format!("{facts:?}"))
    });
    let broken = broken.await;
    assert!(broken.contains("container web, on ") && broken.contains("\n    | "), "{broken}");
    println!("{broken}");

    world.deployment(2, "3", "").await;
    let mended = world
        .cluster
        .wait_until("it is mended", || async { facts(standing.glance(&object).await).get("ready").cloned() });
    assert_eq!(mended.await, "1 object with 2 pods ready");
    let story = world.watch(&object, &patient()).await;
    assert_eq!(story.note(), "1 object with 2 pods ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_seen_gives_no_facts() {
    let world = World::new().await;
    let standing = Standing::new(&world.connection, &Config::default());
    let nothing_there = standing.glance(&[world.id("Deployment", "web")]).await;
    assert!(matches!(nothing_there, Glance::Broken { .. }), "{nothing_there:?}");
    assert!(Glance::Unknown { why: "no".to_owned() }.facts().is_empty());
}
