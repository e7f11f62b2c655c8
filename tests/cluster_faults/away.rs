//! The API server itself: killed, stopped in its tracks, and back.

use nix::sys::signal::Signal;

use crate::{
    support::until,
    world::{CANARY, World, tick_to_the_end},
};

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_canary_holds_it_up_and_no_more() {
    let world = World::to_harm(CANARY);
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
    let world = World::to_harm(CANARY);
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
    let world = World::to_harm(CANARY);
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

/// Nobody waits for a runner that is gone: the next one goes on, with the server as it is.
#[test]
fn a_runner_and_the_server_that_die_together_are_survived() {
    let world = World::to_harm(CANARY);
    let running = world.in_the_middle_of("1.1.0");
    world.cluster.kill_apiserver();
    running.signal(Signal::SIGKILL);
    running.wait();
    world.block_on(world.cluster.restart_apiserver());
    world.may_go_on();
    tick_to_the_end(&world);
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}
