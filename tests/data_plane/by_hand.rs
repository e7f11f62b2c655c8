//! Other hands in the middle of a canary: on the route, on the router, on the canary's Service, on a weight.

use serde_json::json;

use crate::{
    support::Running,
    users::{Answer, Users},
    world::{CANARY, Kind, World},
};

/// Half of the users for long enough to do harm, then all.
const HALF: &str = "gates: { during: [pods] }
    canary: [{ share: 50%, hold: 8s }, { share: 100%, hold: 0s }]
    bake: 1s";
/// The same with somebody who asks through the router.
const HALF_LOOKED_AT: &str = "gates: { during: [pods, work] }
    canary: [{ share: 50%, hold: 30s }, { share: 100%, hold: 0s }]
    bake: 1s";

/// Half of the users are on the canary.
fn in_the_middle(kind: Kind, steps: &str) -> (World, Running) {
    let world = World::established(kind, "", steps);
    world.bump("1.1.0");
    let mut running = world.promote();
    running.until_said("→ 50%");
    (world, running)
}

/// Everybody gets the first version again, from the pods that were never touched.
fn is_as_before(world: &World, pods: &[String], mut users: Users) -> Vec<Answer> {
    world.nothing_of_a_canary_is_left();
    users.until_served("1.0.0");
    assert_eq!(world.stable_pods(), pods, "going back restarts nothing");
    let status = world.status();
    assert!(status["attempt"].is_null() && status["rollback"].is_null(), "something is left open: {status}");
    let answers = users.end();
    let failed = answers.iter().filter(|answer| answer.said.is_err()).collect::<Vec<_>>();
    let lasted = failed.first().zip(failed.last()).map_or(0, |(first, last)| last.at.0 - first.at.0);
    println!("measured: {} of {} requests failed, over {lasted} ms", failed.len(), answers.len());
    answers
}

#[test]
fn a_route_that_is_deleted_comes_back_with_the_release_before() {
    let (world, running) = in_the_middle(Kind::Gateway, HALF_LOOKED_AT);
    let (pods, users, laws) = (world.stable_pods(), world.users(&[]), world.laws());
    world.kubectl(&["delete", world.kind.route_kind(), "web"]);
    let ran = running.wait().ends(1);
    ran.says("all users are on the release before");
    is_as_before(&world, &pods, users);
    laws.were_kept();
}

/// Only the count of answers looks through the router: the release goes no further where nobody can see it arrive.
#[test]
fn a_router_that_is_away_holds_up_the_next_step() {
    let (mut world, running) = in_the_middle(Kind::Traefik, HALF);
    let (pods, laws) = (world.stable_pods(), world.laws());
    world.router.stop();
    // Not the release's fault: it may be tried again.
    let ran = running.wait().ends(75);
    ran.says("whether it arrives cannot be seen");
    world.router.start();
    let users = world.users(&[]);
    is_as_before(&world, &pods, users);
    laws.were_kept();
}

#[test]
fn a_service_of_the_canary_that_is_deleted_takes_it_back() {
    let (world, running) = in_the_middle(Kind::Gateway, HALF);
    let (pods, users, laws) = (world.stable_pods(), world.users(&[]), world.laws());
    world.kubectl(&["delete", "service", CANARY]);
    let ran = running.wait().ends(1);
    ran.says("has no ready pod, and 50% of the users are led to it");
    is_as_before(&world, &pods, users);
    laws.were_kept();
}

#[test]
fn somebody_elses_weight_holds_up_the_next_step_and_not_the_way_back() {
    let (world, running) = in_the_middle(Kind::Traefik, HALF);
    let (pods, users, laws) = (world.stable_pods(), world.users(&[]), world.laws());
    let path = format!("{}/1/weight", world.kind.backends());
    let edit = json!([{"op": "replace", "path": path, "value": 45_000}]).to_string();
    let words = ["patch", world.kind.route_kind(), "web", "--type=json", "--field-manager=mallory", "-p", &edit];
    world.kubectl(&words);
    let ran = running.wait().ends(75);
    ran.says("(mallory, ");
    let answers = is_as_before(&world, &pods, users);
    assert!(answers.iter().all(|answer| answer.said.is_ok()), "nobody was turned away");
    laws.were_kept();
}
