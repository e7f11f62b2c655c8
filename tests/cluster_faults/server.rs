//! An API server that refuses, hangs up, is late, silent or forgetful.

use std::time::Duration;

use serde_json::json;

use crate::{
    door::Ill,
    world::{CANARY, ROLLING, World, impatient},
};

/// What the server does with the first two requests of each kind, at the beginning of a promotion and of the way back.
mod ill {
    use super::{Duration, Ill, both_ways};

    #[test]
    fn a_conflict() {
        both_ways(Ill::Refused(409));
    }

    #[test]
    fn too_many_requests() {
        both_ways(Ill::Refused(429));
    }

    #[test]
    fn overloaded() {
        both_ways(Ill::Refused(503));
    }

    #[test]
    fn an_error_of_its_own() {
        both_ways(Ill::Refused(500));
    }

    #[test]
    fn a_hang_up() {
        both_ways(Ill::HungUp);
    }

    #[test]
    fn a_hang_up_after_the_deed() {
        both_ways(Ill::DoneAndHungUp);
    }

    #[test]
    fn a_late_answer() {
        both_ways(Ill::Late(Duration::from_millis(1_500)));
    }
}

/// It fails neither a promotion nor a rollback.
fn both_ways(ill: Ill) {
    let world = World::new(CANARY);
    let fall_ill = || ["PATCH", "PUT", "POST", "DELETE", "GET"].map(|method| world.door.make(method, "/", ill, 2));
    fall_ill();
    world.bump("1.1.0");
    world.promote().wait().ends(0).says("promoted");
    world.door.heal();
    world.settles_on("1.1.0");
    let running = world.in_the_middle_of("1.2.0");
    fall_ill();
    let back = ["rollback", "production", "--reason", "users complain"];
    world.sandbox.piton(&back).ends(0).says("rolled back");
    running.wait();
    world.door.heal();
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

/// The canary stands for the new release until stable is that release: nobody is moved to the older stable in between.
#[test]
fn a_canary_that_cannot_be_deleted_is_said_and_the_next_promotion_waits_for_it() {
    let world = World::new(&impatient());
    world.bump("1.1.0");
    world.door.make("DELETE", "/deployments/", Ill::Refused(403), 1_000);
    world.promote().wait().ends(75).says("what #2 should have taken down is still there");
    assert_eq!((world.canaries().len(), &world.status()["good"]["attempt"]), (1, &json!(2)), "{}", world.status());
    world.bump("1.2.0");
    world.promote().wait().ends(75).says("waiting for the next try: what #2 should have taken down is still there");
    let served = world.served();
    assert!(!served.is_empty() && served.iter().all(|version| version == "1.1.0"), "users were moved: {served:?}");
    world.door.heal();
    world.promote().wait().ends(0).says("promoted");
    world.settles_on("1.2.0");
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
