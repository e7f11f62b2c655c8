//! The good story and the bad ones, as users get them.

use std::time::Instant;

use crate::{
    laws::{Look, canary_addresses},
    support::Ran,
    users::Answer,
    world::{CANARY, Kind, World},
};

/// The share that arrives may be as far from the one that was meant, chance aside.
const OFF_MAX: f64 = 0.02;
/// Chance is taken for a fault in fewer than one of ten thousand looks.
const DEVIATIONS_MAX: f64 = 4.0;

const STEPS: &str = "gates: { during: [pods, work] }
    canary: [{ share: 10%, hold: 6s }, { share: 50%, hold: 3s }, { share: 100%, hold: 0s }]
    bake: 1s";

#[test]
fn a_good_release_arrives_step_by_step_and_nobody_notices_by_http_routes() {
    arrives(Kind::Gateway);
}

#[test]
fn a_good_release_arrives_step_by_step_and_nobody_notices_by_traefik_services() {
    arrives(Kind::Traefik);
}

fn arrives(kind: Kind) {
    let world = World::established(kind, "", STEPS);
    let (users, laws) = (world.users(&[]), world.laws());
    world.bump("1.1.0");
    let began = Instant::now();
    let ran = world.promote().wait().ends(0);
    let took = began.elapsed();
    world.nothing_of_a_canary_is_left();
    users.until_served("1.1.0");
    let answers = users.were_all_served();
    laws.were_kept();
    for (share, part) in [("10%", 0.1), ("50%", 0.5)] {
        let (from, to, note) = world.stood_at(share);
        let within: Vec<&Answer> = answers.iter().filter(|answer| answer.at > from && answer.at < to).collect();
        let new = within.iter().filter(|answer| answer.said.as_deref() == Ok("1.1.0")).count();
        let all = within.len().max(1) as f64;
        let got = new as f64 / all;
        println!("measured: {kind:?} at {share}: {new} of {} requests; piton: {note}", within.len());
        let chance = DEVIATIONS_MAX * (part * (1.0_f64 - part) / all).sqrt();
        assert!((got - part).abs() < OFF_MAX + chance, "{new} of {} at {share}", within.len());
        assert!(note.contains("of 100 answers came from the canary"), "{note}");
    }
    let (_, _, note) = world.stood_at("100%");
    assert!(note.contains("100 of 100 answers came from the canary"), "{note}");
    // What a person sees is what arrived.
    let ran = ran.says("of 100 answers came from the canary");
    let old_after_new =
        |pair: &[Answer]| pair[0].said.as_deref() == Ok("1.1.0") && pair[1].said.as_deref() == Ok("1.0.0");
    let (_, whole, _) = world.stood_at("100%");
    let late: Vec<Answer> = answers.iter().filter(|answer| answer.at > whole).cloned().collect();
    assert!(!late.windows(2).any(old_after_new), "somebody went back to 1.0.0 after all were moved");
    println!("measured: {kind:?}: {} requests, none failed, {:.1} s\n{ran}", answers.len(), took.as_secs_f64());
}

/// Only the pipeline file changes: nobody can tell whose answer it is, and that is no fault of the router.
#[test]
fn a_release_with_the_same_version_is_not_counted() {
    let world = World::established(Kind::Gateway, "", STEPS);
    let (users, laws) = (world.users(&[]), world.laws());
    world.promote().wait().ends(0);
    world.nothing_of_a_canary_is_left();
    let (_, _, note) = world.stood_at("10%");
    assert!(note.contains("stable runs the same images, and all 100 answers say `1.0.0`, as both do"), "{note}");
    users.were_all_served();
    laws.were_kept();
}

#[test]
fn a_release_that_answers_500_goes_back_by_http_routes() {
    goes_back(Kind::Gateway);
}

#[test]
fn a_release_that_answers_500_goes_back_by_traefik_services() {
    goes_back(Kind::Traefik);
}

/// It is ready and says its version, and its work fails.
fn goes_back(kind: Kind) {
    let world = World::established(kind, "", STEPS);
    let pods = world.stable_pods();
    let (users, laws) = (world.users(&[]), world.laws());
    world.bump("1.1.0-bad");
    let ran = world.promote().wait().ends(1);
    let ran = ran.says("gate `work` failed").says("all users are on the release before");
    world.nothing_of_a_canary_is_left();
    users.until_served("1.0.0");
    users.were_all_served();
    let looks = laws.were_kept();
    assert_eq!(world.stable_pods(), pods, "going back restarts nothing");
    weight_went_first(&world, &looks, &ran);
}

/// The route led nobody to the canary any more while its pods were still up, and the last request came to them before they went.
fn weight_went_first(world: &World, looks: &[Look], ran: &Ran) {
    let had_users = looks.iter().position(|look| look.weight(CANARY) > 0).expect("it had users");
    let back = looks[had_users..].iter().find(|look| look.weight(CANARY) == 0).expect("it went back");
    assert!(back.ready(CANARY) > 0, "its pods went before its weight: {back:?}");
    let gone = looks.iter().rev().take_while(|look| look.ready(CANARY) == 0).last().expect("it is gone");
    let addresses = canary_addresses(looks);
    let is_canary = |address: &str| addresses.iter().any(|one| address.starts_with(&format!("{one}:")));
    // Before the story the router may have heard of the route and not yet of the pods.
    let began = looks.first().expect("it looked").at.0;
    let requests: Vec<_> = world.router.requests().into_iter().filter(|led| led.at.as_millisecond() > began).collect();
    let to_canary = requests.iter().filter(|led| is_canary(&led.service_addr));
    let last = to_canary.map(|led| led.at.as_millisecond()).max().expect("it was asked");
    println!(
        "measured: {:?}: weight 0 was seen {} ms before the pods went; the last request came to them {} ms before; {ran}",
        world.kind,
        gone.at.0 - back.at.0,
        gone.at.0 - last
    );
    assert!(last < gone.at.0, "a request came to a pod that was gone");
    let broken: Vec<_> = requests.iter().filter(|led| [502, 503, 504].contains(&led.downstream_status)).collect();
    assert!(broken.is_empty(), "requests came to nothing: {broken:?}");
}

#[test]
fn a_release_that_crashes_at_its_start_never_gets_a_request() {
    let world = World::established(Kind::Gateway, "", STEPS);
    let (users, laws) = (world.users(&[]), world.laws());
    world.bump("1.1.0-crash");
    let ran = world.promote().wait().ends(1);
    ran.says("cannot start: no such table: users");
    world.nothing_of_a_canary_is_left();
    let answers = users.were_all_served();
    assert!(answers.iter().all(|answer| answer.said.as_deref() == Ok("1.0.0")));
    let looks = laws.were_kept();
    assert!(looks.iter().all(|look| look.weight(CANARY) == 0), "it was given users");
}

/// It dies three seconds after its start, again and again: with users on it.
#[test]
fn a_release_that_dies_under_its_users_goes_back() {
    let world = World::established(Kind::Gateway, "", STEPS);
    let (mut users, laws) = (world.users(&[]), world.laws());
    world.bump("1.1.0-mortal");
    let ran = world.promote().wait().ends(1);
    world.nothing_of_a_canary_is_left();
    users.until_served("1.0.0");
    let answers = users.end();
    let failed: Vec<&Answer> = answers.iter().filter(|answer| answer.said.is_err()).collect();
    let lasted = failed.first().zip(failed.last()).map_or(0, |(first, last)| last.at.0 - first.at.0);
    println!(
        "measured: it died under its users: {} of {} requests failed, over {lasted} ms\n{ran}",
        failed.len(),
        answers.len()
    );
    // The canary had a tenth of them: whoever is on stable notices nothing.
    let since = failed.first().map_or(0, |answer| answer.at.0);
    let meanwhile = answers.iter().filter(|answer| answer.at.0 >= since && answer.at.0 <= since + lasted).count();
    assert!(
        failed.len() <= 3 || failed.len() * 5 <= meanwhile,
        "{} of {meanwhile} failed: {}",
        failed.len(),
        users.told()
    );
    laws.were_kept();
}
