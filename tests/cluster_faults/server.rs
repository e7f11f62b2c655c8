//! The API server itself: killed, silent, overloaded, forgetful.

use std::time::Duration;

use crate::{
    cluster::Options,
    door::Ill,
    support::until,
    world::{CANARY, ROLLING, World, tick_to_the_end},
};

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_canary_holds_it_up_and_no_more() {
    let world = World::alone(Options::default(), CANARY);
    let running = world.in_the_middle_of("1.1.0");
    world.cluster.kill_apiserver();
    let before = world.door.in_vain();
    until("some requests in vain", || (world.door.in_vain() > before + 3).then_some(()));
    world.block_on(world.cluster.restart_apiserver());
    world.may_go_on();
    running.wait().ends(0).says("promoted");
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

#[test]
fn a_rollback_that_is_ordered_while_the_server_is_away_is_not_lost() {
    let world = World::alone(Options::default(), CANARY);
    let running = world.in_the_middle_of("1.1.0");
    world.cluster.kill_apiserver();
    let back = world.sandbox.start(&["rollback", "production", "--reason", "users complain"]);
    world
        .sandbox
        .until_status("production", "the rollback to be in the ledger", |status| !status["rollback"].is_null());
    world.block_on(world.cluster.restart_apiserver());
    back.wait().ends(0).says("rolled back");
    running.wait();
    world.settles_on("1.0.0");
    world.keeps_the_laws();
}

#[test]
fn a_server_that_answers_nothing_for_a_while_is_waited_for() {
    let world = World::alone(Options::default(), CANARY);
    let running = world.in_the_middle_of("1.1.0");
    world.cluster.pause();
    let before = world.door.asked().len();
    until("a request that nobody answers", || (world.door.asked().len() > before).then_some(()));
    world.cluster.resume();
    world.may_go_on();
    running.wait().ends(0);
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

/// Each refusal a few times, for reads and for writes, from the first request on.
#[test]
fn refusals_that_pass_do_not_fail_a_promotion() {
    let world = World::new(CANARY);
    let ills = [
        ("409", Ill::Refused(409)),
        ("429", Ill::Refused(429)),
        ("503", Ill::Refused(503)),
        ("500", Ill::Refused(500)),
        ("a hang-up", Ill::HungUp),
        ("a hang-up after the deed", Ill::DoneAndHungUp),
        ("a late answer", Ill::Late(Duration::from_millis(1_500))),
    ];
    for (number, (what, ill)) in ills.into_iter().enumerate() {
        let version = format!("1.{}.0", number + 1);
        for method in ["PATCH", "PUT", "POST", "DELETE", "GET"] {
            world.door.make(method, "/", ill, 2);
        }
        world.bump(&version);
        let ran = world.promote().wait();
        assert_eq!(ran.code, Some(0), "{what}: {ran}");
        world.door.heal();
        world.settles_on(&version);
    }
    world.keeps_the_laws();
}

#[test]
fn a_refusal_in_the_middle_of_a_rollback_is_tried_again() {
    let world = World::new(CANARY);
    for (number, code) in [409, 429, 500, 503].into_iter().enumerate() {
        let running = world.in_the_middle_of(&format!("1.{}.0", number + 1));
        for method in ["PATCH", "PUT", "POST", "DELETE"] {
            world.door.make(method, "/", Ill::Refused(code), 2);
        }
        world.sandbox.piton(&["rollback", "production", "--reason", "users complain"]).ends(0).says("rolled back");
        running.wait();
        world.door.heal();
        world.settles_on("1.0.0");
    }
    world.keeps_the_laws();
}

#[test]
fn a_watch_that_falls_silent_does_not_hold_a_rollout_up() {
    let world = World::new(CANARY);
    world.door.silence(true);
    let running = world.in_the_middle_of("1.1.0");
    world.door.heal();
    world.may_go_on();
    running.wait().ends(0);
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

#[test]
fn a_watch_whose_version_is_gone_is_begun_again() {
    let world = World::new(CANARY);
    world.door.make("GET", "watch=", Ill::Gone, 5);
    world.bump("1.1.0");
    world.promote().wait().ends(0);
    assert_eq!(world.door.left(), 0, "nobody watched: {:?}", world.door);
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

#[test]
fn a_release_is_applied_whole_and_comes_back_whole() {
    let world = World::new(ROLLING);
    world.bump("1.1.0");
    world.promote().wait().ends(0);
    world.settles_on("1.1.0");
    world.bump("1.2.0-crash");
    let ran = world.promote().wait().ends(1);
    assert!(format!("{ran}").contains("CrashLoopBackOff"), "{ran}");
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

#[test]
fn a_watch_that_is_refused_again_and_again_is_no_reason_to_go_back() {
    let world = World::new(CANARY);
    world.door.make("GET", "watch=", Ill::Refused(503), 8);
    world.bump("1.1.0");
    world.promote().wait().ends(0);
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

/// Nobody waits for a runner that is gone: the next one goes on, with the server as it is.
#[test]
fn a_runner_and_the_server_that_die_together_are_survived() {
    let world = World::alone(Options::default(), CANARY);
    let running = world.in_the_middle_of("1.1.0");
    world.cluster.kill_apiserver();
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait();
    world.block_on(world.cluster.restart_apiserver());
    world.may_go_on();
    tick_to_the_end(&world);
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}
