//! Without a cluster: the lease in the git ledger alone.

use nix::sys::signal::Signal;

use crate::{
    support::{until, until_or},
    world::{Act, World, production},
};

const ALONE: [&str; 3] = ["--no-lease", "--poll", "300ms"];

#[test]
fn a_push_is_found_by_the_poll_and_promoted() {
    let world = World::new(&production("200ms"));
    let controller = world.serve("a", &ALONE);
    controller.until_ready("leader");
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0");
    world.until_promoted("production", "1.1.0");
    let shares: Vec<String> = world
        .acts()
        .into_iter()
        .filter(|act| act.what == "weight" && act.version == "1.1.0")
        .map(|act| act.share)
        .collect();
    assert_eq!(shares, ["10", "50", "100"], "every step, once");
    assert_eq!(controller.ask("/healthz").0, 200);
    let port = controller.port;
    let left = controller.leave().ends(0);
    assert!(left.err.contains("leaving"), "{left}");
    assert!(
        left.err.contains(&format!("address=127.0.0.1:{port}")),
        "the port that it has, not the one asked for: {left}"
    );
}

#[test]
fn a_state_folder_that_cannot_be_written_to_ends_it_at_once() {
    let world = World::new(&production("200ms"));
    let file = world.sandbox.path("no-folder");
    std::fs::write(&file, "").expect("a file");
    let state = file.join("state").display().to_string();
    let follow = format!("shop={}", world.sandbox.origin().display());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--state-dir", &state, "--follow", &follow, "--no-lease"];
    let ended = world.sandbox.piton(&serve).ends(2);
    assert!(ended.err.contains(&format!("cannot keep anything in the state folder {state}")), "{ended}");
    assert!(ended.err.contains("--state-dir"), "{ended}");
    assert!(!ended.err.contains("serving on"), "nobody is told an address: {ended}");
}

#[test]
fn a_bad_version_goes_back_and_does_not_come_again() {
    let world = World::new(&production("200ms"));
    let controller = world.serve("a", &ALONE);
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0-bad");
    world.until_act("the way back", |act| act.what == "rollback" && act.version == "1.0.0");
    world.push("1.2.0");
    world.until_promoted("production", "1.2.0");
    let bad: Vec<_> =
        world.acts().into_iter().filter(|act| act.version == "1.1.0-bad" && act.what == "apply").collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    controller.leave().ends(0);
}

#[test]
fn killed_in_mid_canary_another_one_goes_on() {
    let world = World::new(&production("3s"));
    let first = world.serve("a", &ALONE);
    let second = world.serve("b", &ALONE);
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0");
    let step = world.until_act("the first share", |act| act.what == "weight" && act.version == "1.1.0");
    let (killed, other) = if step.pid == first.pid() { (first, second) } else { (second, first) };
    killed.running.signal(Signal::SIGKILL);
    killed.running.wait();
    world.until_promoted("production", "1.1.0");
    let acts = world.acts();
    let later: Vec<_> = acts.iter().filter(|act| act.version == "1.1.0" && act.fence > step.fence).collect();
    assert!(!later.is_empty() && later.iter().all(|act| act.pid == other.pid()), "{acts:?}");
    assert!(acts.windows(2).all(|pair| pair[0].fence <= pair[1].fence), "fences never fall: {acts:?}");
    other.leave().ends(0);
}

#[test]
fn one_that_starts_while_the_git_host_is_away_still_goes_back() {
    let world = World::new(&production("100ms"));
    let controller = world.serve("a", &ALONE);
    world.until_promoted("production", "1.0.0");
    let broken = world.sandbox.path("broken");
    let pipeline = world.pipeline("shop", &production("5m"));
    let look = format!("test ! -e {}", broken.display());
    world.sandbox.write("pipelines/shop.yaml", pipeline.replace("case ${version.web} in *bad*) exit 1;; esac", &look));
    world.push("1.1.0");
    // A page after it is there, so that this clone knows of it, too: what is only begun waits for the host.
    let has = |event: &str| world.events("production").iter().any(|e| e["event"] == event && e["attempt"] == 2);
    until("a look at the first share", || has("read").then_some(()));
    controller.running.signal(Signal::SIGKILL);
    controller.running.wait();
    let away = world.sandbox.path("away");
    std::fs::rename(world.sandbox.origin(), &away).expect("the origin can be moved");
    std::fs::write(&broken, "").expect("the folder is there");
    let controller = world.serve("a", &ALONE);
    let back = |act: &Act| act.what == "rollback" && act.version == "1.0.0";
    until_or("the way back", || world.acts().into_iter().find(back), || format!("{:?}", world.acts()));
    // When the host is back, it hears of it.
    std::fs::rename(&away, world.sandbox.origin()).expect("the origin can be moved back");
    until("the origin to know", || has("rolled_back").then_some(()));
    controller.leave().ends(0);
}

#[test]
fn a_pipeline_file_that_is_renamed_in_mid_canary_is_carried_on() {
    let world = World::new(&production("2s"));
    let controller = world.serve("a", &ALONE);
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0");
    world.until_act("the first share", |act| act.what == "weight" && act.version == "1.1.0");
    world.sandbox.git(&["mv", "pipelines/shop.yaml", "pipelines/store.yaml"]);
    world.sandbox.commit("another name");
    world.until_promoted("production", "1.1.0");
    world.push("1.2.0");
    world.until_promoted("production", "1.2.0");
    let acts = world.acts().into_iter().filter(|act| act.what == "weight" && act.version != "1.0.0");
    let shares: Vec<String> = acts.map(|act| act.share).collect();
    // The renaming is a release of its own.
    assert_eq!(shares.len(), 9, "{shares:?}");
    assert!(shares.chunks(3).all(|steps| steps == ["10", "50", "100"]), "every step, once: {shares:?}");
    controller.leave().ends(0);
}

#[test]
fn two_controllers_without_a_lease_do_not_double_the_pace() {
    let world = World::new(&production("1s"));
    let controllers = [world.serve("a", &ALONE), world.serve("b", &ALONE)];
    world.until_promoted("production", "1.0.0");
    for version in ["1.1.0", "1.2.0"] {
        world.push(version);
        world.until_promoted("production", version);
        let shares: Vec<String> = world
            .acts()
            .into_iter()
            .filter(|act| act.what == "weight" && act.version == version)
            .map(|act| act.share)
            .collect();
        assert_eq!(shares, ["10", "50", "100"], "every step once, whoever does it");
    }
    let events = world.events("production");
    let started = events.iter().filter(|event| event["event"] == "started").count();
    assert_eq!(started, 3, "each release is begun once");
    for controller in controllers {
        controller.leave().ends(0);
    }
}

#[test]
fn a_broken_pipeline_file_is_reported_and_stops_no_other() {
    let world = World::new(&production("100ms"));
    world.sandbox.write("pipelines/broken.yaml", "name: broken\nenvironmnets: {}\n");
    world.sandbox.write("pipelines/greedy.yaml", world.pipeline("greedy", &production("100ms")));
    world.sandbox.commit("two more pipelines");
    let controller = world.serve("a", &ALONE);
    // Of two that claim a branch the first by name keeps it.
    until("the faults to be told", || {
        let (status, page) = controller.ask("/readyz");
        let told = page.contains("environmnets") && page.contains("pipelines/shop.yaml: the branch `piton/production`");
        (status == 200 && told).then_some(())
    });
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0");
    world.until_promoted("production", "1.1.0");
    let (_, page) = controller.ask("/metrics");
    assert!(page.contains("piton_repository_faults{repository=\"shop\"} 2"), "{page}");
    // The first that claimed it lets it go, and no word of the fault stays.
    world.sandbox.git(&["rm", "-q", "pipelines/greedy.yaml", "pipelines/broken.yaml"]);
    world.sandbox.commit("the two go");
    until("the faults to be gone", || {
        let (status, page) = controller.ask("/readyz");
        (status == 200 && !page.contains("pipelines/")).then_some(())
    });
    world.push("1.2.0");
    world.until_promoted("production", "1.2.0");
    controller.leave().ends(0);
}

#[test]
fn a_ci_job_takes_over_and_the_controller_leaves_it_alone() {
    let world = World::new(&production("4s"));
    let controller = world.serve("a", &ALONE);
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0");
    world.until_act("the first share", |act| act.what == "weight" && act.version == "1.1.0");
    let ran = world.sandbox.piton(&["promote", "production"]).ends(75);
    assert!(ran.out.contains("acts on this environment until"), "{ran}");
    controller.leave().ends(0);
    // What the controller let go, a job carries on at once.
    world.sandbox.piton(&["promote", "production"]).ends(0);
    assert!(world.is_good("production", "1.1.0"));
}
