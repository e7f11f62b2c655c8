//! Users who are led to the canary by what they send, and copies of requests that nobody sees the answer of.

use std::collections::BTreeSet;

use crate::{
    support::{get, until_or},
    users::Answer,
    world::{CANARY, Kind, World},
};

/// As good as nobody, for long enough to look.
const HARDLY_ANYBODY: &str = "gates: { during: [pods] }
    canary: [{ share: 0.01%, hold: 10s }, { share: 100%, hold: 0s }]
    bake: 1s";

/// The same until somebody ends it.
const FOR_LONG: &str = "gates: { during: [pods] }
    canary: [{ share: 0.01%, hold: 2m }, { share: 100%, hold: 0s }]
    bake: 1s";

fn versions<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> BTreeSet<String> {
    answers.into_iter().map(|answer| answer.said.clone().unwrap_or_else(|why| why)).collect()
}

#[test]
fn testers_get_the_canary_by_header_or_cookie_and_others_never() {
    let testers = "testers: { header: { x-tester: \"yes\" }, cookie: { tester: \"yes\" } }";
    let world = World::established(Kind::Gateway, testers, HARDLY_ANYBODY);
    let others = world.users(&[]);
    let header = world.users(&[("x-tester", "yes")]);
    let cookie = world.users(&[("cookie", "theme=dark; tester=yes")]);
    let nearly = world.users(&[("x-tester", "no"), ("cookie", "tester=yes-not")]);
    world.bump("1.1.0");
    let mut running = world.promote();
    running.until_said("→ 0.01%");
    let ran = running.wait().ends(0);
    world.nothing_of_a_canary_is_left();
    assert!(world.get("httproutes.gateway.networking.k8s.io", "web-piton-testers").is_none(), "{ran}");
    let (from, to, _) = world.stood_at("0.01%");
    let within = |answers: Vec<Answer>| versions(answers.iter().filter(|answer| answer.at > from && answer.at < to));
    let only = |version: &str| BTreeSet::from([version.to_owned()]);
    // Nobody was turned away at any time, testers neither: not when their way came, and not when it went.
    for (tester, by) in [(header, "by the header"), (cookie, "by the cookie")] {
        let answers = tester.were_all_served();
        // The router hears of the testers' way up to two seconds after the weights.
        let first = answers.iter().position(|answer| answer.said.as_deref() == Ok("1.1.0")).expect("the canary");
        assert!(answers[first].at < to, "{by}: the first answer of the canary came when all users got it");
        assert_eq!(within(answers[first..].to_vec()), only("1.1.0"), "{by}");
    }
    assert_eq!(within(others.were_all_served()), only("1.0.0"), "others");
    assert_eq!(within(nearly.were_all_served()), only("1.0.0"), "another value");
}

/// The canary's work fails, and nobody notices.
#[test]
fn a_mirrored_request_comes_to_the_canary_and_its_answer_to_nobody() {
    let world = World::established(Kind::Traefik, "mirror: 100%", FOR_LONG);
    let users = world.users(&[]);
    world.bump("1.1.0-bad");
    let mut running = world.promote();
    running.until_said("→ 0.01%");
    let failed_there = || {
        let answer = get(&world.router.url("/work"));
        assert!(answer.starts_with("sample 1.0.0: "), "{answer}");
        let log = world.kubectl(&["logs", &format!("deployment/{CANARY}"), "--tail=20"]);
        log.contains("work failed: unknown column").then_some(())
    };
    until_or("a copy to come to the canary", failed_there, || world.router.log());
    world.sandbox.piton(&["rollback", "production", "--reason", "its work fails"]).ends(0);
    running.wait();
    world.nothing_of_a_canary_is_left();
    assert!(world.get("traefikservices.traefik.io", "web-piton-mirror").is_none());
    assert_eq!(versions(&users.were_all_served()), BTreeSet::from(["1.0.0".to_owned()]));
}

/// The router would turn away every request of a route with a filter that it does not know.
#[test]
fn a_mirror_that_the_gateway_does_not_know_is_refused_before_anything_is_written() {
    let world = World::established(Kind::Gateway, "mirror: 10%", HARDLY_ANYBODY);
    let users = world.users(&[]);
    world.bump("1.1.0");
    let ran = world.promote().wait().ends(75);
    ran.says("does not have HTTPRouteRequestMirror among its features");
    world.nothing_of_a_canary_is_left();
    assert_eq!(versions(&users.were_all_served()), BTreeSet::from(["1.0.0".to_owned()]));
}
