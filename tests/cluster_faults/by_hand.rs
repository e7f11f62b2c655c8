//! Somebody with kubectl, in the middle of it.

use crate::world::{CANARY, World};

#[test]
fn a_canary_that_is_deleted_by_hand_takes_nobody_with_it() {
    let world = World::new(CANARY);
    let running = world.in_the_middle_of("1.1.0");
    let [canary] = <[String; 1]>::try_from(world.canaries()).expect("one canary");
    world.kubectl(&["delete", "deployment", &canary]);
    world.may_go_on();
    // It is made again before it gets more.
    running.wait().ends(0).says("promoted");
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

#[test]
fn a_rollback_is_possible_after_the_canary_was_deleted_by_hand() {
    let world = World::new(CANARY);
    let running = world.in_the_middle_of("1.1.0");
    let [canary] = <[String; 1]>::try_from(world.canaries()).expect("one canary");
    world.kubectl(&["delete", "deployment", &canary]);
    world.sandbox.piton(&["rollback", "production", "--reason", "it is gone"]).ends(0);
    running.wait();
    world.settles_on("1.0.0");
    world.keeps_the_laws();
}

/// While the canary still serves.
#[test]
fn a_stable_deployment_that_is_deleted_by_hand_is_made_again() {
    let world = World::new(CANARY);
    let running = world.in_the_middle_of("1.1.0");
    world.kubectl(&["delete", "deployment", "web"]);
    world.sandbox.piton(&["rollback", "production", "--reason", "stable is gone"]).ends(0);
    running.wait();
    world.settles_on("1.0.0");
    world.keeps_the_laws();
}

#[test]
fn an_inventory_that_is_deleted_by_hand_does_not_close_the_way_back() {
    let world = World::new(CANARY);
    let running = world.in_the_middle_of("1.1.0");
    world.kubectl(&["delete", "configmap", "piton-production"]);
    world.sandbox.piton(&["rollback", "production", "--reason", "somebody tidied up"]).ends(0);
    running.wait();
    world.settles_on("1.0.0");
    world.keeps_the_laws();
}

#[test]
fn pods_that_are_deleted_by_hand_come_back_and_change_nothing() {
    let world = World::new(CANARY);
    let running = world.in_the_middle_of("1.1.0");
    let first = world.kubectl(&["get", "pods", "--selector=app=web", "--output=name"]);
    world.kubectl(&["delete", first.lines().next().expect("a pod"), "--wait=false"]);
    world.may_go_on();
    running.wait().ends(0).says("promoted");
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}
