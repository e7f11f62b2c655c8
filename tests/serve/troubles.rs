//! What is wrong in one place, and goes on in all others.

use std::fs;

use nix::sys::signal::Signal;

use crate::{
    support::{until, until_or},
    world::{Act, World, production},
};

const ALONE: [&str; 3] = ["--no-lease", "--poll", "300ms"];

/// A world whose gate fails as soon as a file is there, with the file's path.
fn breakable(environments: &str) -> (World, std::path::PathBuf) {
    let world = World::new(environments);
    let broken = world.sandbox.path("broken");
    let look = format!("test ! -e {}", broken.display());
    let pipeline = world.pipeline("shop", environments);
    world.sandbox.write("pipelines/shop.yaml", pipeline.replace("case ${version.web} in *bad*) exit 1;; esac", &look));
    world.sandbox.commit("a gate");
    (world, broken)
}

fn until_the_way_back(world: &World) {
    let back = |act: &Act| act.what == "rollback" && act.version == "1.0.0";
    until_or("the way back", || world.acts().into_iter().find(back), || format!("{:?}", world.acts()));
}

#[test]
fn a_next_step_that_cannot_be_planned_leaves_nothing_unwatched() {
    let (world, broken) = breakable(&format!("{}    watch: 10m\n", production("100ms")));
    let mut controller = world.serve("a", &ALONE);
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0");
    world.until_promoted("production", "1.1.0");
    world.sandbox.write("services/web.yaml", "name: web\n");
    world.sandbox.commit("no version any more");
    until("it to be said", || controller.running.complained("the next step cannot be begun").then_some(()));
    fs::write(&broken, "").expect("the folder is there");
    until_the_way_back(&world);
    let left = controller.leave().ends(0);
    assert!(!left.err.contains("cannot be carried on"), "{left}");
    assert_eq!(left.err.matches("has no value at its place").count(), 1, "once: {left}");
}

#[test]
fn the_end_of_a_pin_is_heard_while_a_release_is_watched() {
    let world = World::new(&format!("{}    watch: 10m\n", production("100ms")));
    let controller = world.serve("a", &ALONE);
    world.until_promoted("production", "1.0.0");
    let pin = ["pin", "web=1.0.0", "--in", "production", "--forever", "--reason", "kernels die"];
    world.sandbox.piton(&pin).ends(0);
    world.push("1.1.0");
    let tip = world.sandbox.git(&["rev-parse", "HEAD"]);
    let clone = world.sandbox.path("state-a/shop/clone.git");
    let seen = || world.sandbox.git_in(&clone, &["rev-parse", "refs/piton/source/main"]).trim() == tip.trim();
    until("the push to be seen", || seen().then_some(()));
    // One more look, so that the environment has been told of it.
    let looked = || {
        let (_, page) = controller.ask("/metrics");
        page.lines().find(|line| line.starts_with("piton_repository_last_look_seconds{")).map(str::to_owned)
    };
    let before = looked();
    until("another look", || (looked() != before).then_some(()));
    assert!(world.acts().iter().all(|act| act.version == "1.0.0"), "{:?}", world.acts());
    world.sandbox.piton(&["unpin", "web", "--in", "production"]).ends(0);
    world.until_promoted("production", "1.1.0");
    controller.leave().ends(0);
}

#[test]
fn a_pipeline_without_its_source_branch_holds_up_no_other() {
    let second = production("100ms").replace("production", "second");
    let world = World::new(&format!("{}{second}", production("100ms")));
    let lost = world.pipeline("lost", &production("100ms").replace("production", "elsewhere"));
    world
        .sandbox
        .write("pipelines/lost.yaml", lost.replace("name: lost\n", "name: lost\nsource: { branch: releases }\n"));
    world.sandbox.commit("a pipeline that follows another branch");
    let mut controller = world.serve("a", &ALONE);
    world.until_promoted("production", "1.0.0");
    world.until_promoted("second", "1.0.0");
    let (_, page) = controller.ask("/readyz");
    let said = "pipelines/lost.yaml: nothing new can begin: there is no branch `releases`";
    assert!(page.contains(said), "{page}");
    assert!(controller.running.complained(said));
    let stands = |controller: &crate::world::Controller| {
        controller.ask("/metrics").1.contains("piton_stuck{pipeline=\"shop\",environment=\"second\"}")
    };
    assert!(stands(&controller));
    world.sandbox.write("pipelines/shop.yaml", world.pipeline("shop", &production("100ms")));
    world.push("1.1.0");
    world.until_promoted("production", "1.1.0");
    until("nobody to stand where nothing is", || (!stands(&controller)).then_some(()));
    // The branch comes, and with it the first release.
    world.sandbox.git(&["push", "--quiet", "origin", "HEAD:releases"]);
    world.until_promoted("elsewhere", "1.1.0");
    let left = controller.leave().ends(0);
    assert_eq!(left.err.matches("nothing new can begin").count(), 1, "once: {left}");
}

#[test]
fn one_that_starts_with_a_broken_pipeline_file_still_goes_back() {
    let (world, broken) = breakable(&production("5m"));
    // The first release has nothing to go back to, and waits for nobody.
    world.sandbox.write(
        "pipelines/shop.yaml",
        fs::read_to_string(world.sandbox.deploy().join("pipelines/shop.yaml")).expect("a file").replace("5m", "100ms"),
    );
    world.sandbox.commit("quick at first");
    let controller = world.serve("a", &ALONE);
    world.until_promoted("production", "1.0.0");
    let file = world.sandbox.deploy().join("pipelines/shop.yaml");
    let pipeline = fs::read_to_string(file).expect("a file");
    world.sandbox.write("pipelines/shop.yaml", pipeline.replace("100ms", "5m"));
    world.push("1.1.0");
    world.until_act("the first share", |act| act.what == "weight" && act.version == "1.1.0");
    controller.running.signal(Signal::SIGKILL);
    controller.running.wait();
    for fault in ["name: shop\nenvironmnets: {}\n", "{ what is this\n"] {
        world.sandbox.write("pipelines/shop.yaml", fault);
        world.sandbox.commit("a fault");
    }
    fs::write(&broken, "").expect("the folder is there");
    let controller = world.serve("b", &ALONE);
    until_the_way_back(&world);
    fs::remove_file(&broken).expect("it is there");
    // Nothing new begins by an old file.
    world.push("1.2.0");
    until("the rollback to end", || {
        world.events("production").iter().any(|e| e["event"] == "rolled_back").then_some(())
    });
    let (_, page) = controller.ask("/readyz");
    assert!(page.contains("pipelines/shop.yaml"), "{page}");
    assert!(world.acts().iter().all(|act| act.version != "1.2.0"), "{:?}", world.acts());
    world.sandbox.write("pipelines/shop.yaml", pipeline);
    world.sandbox.commit("mended");
    world.until_promoted("production", "1.2.0");
    controller.leave().ends(0);
}
