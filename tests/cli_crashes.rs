//! Two at once, and runs that are stopped or killed at any moment.

mod support;

use nix::sys::signal::Signal;
use serde_json::json;
use support::{Sandbox, until};

const STEPS: &str = "
  production:
    gates: { during: [front, work] }
    canary: [{ share: 50%, hold: 400ms }, { share: 100%, hold: 0s }]
    bake: 400ms
";

/// Moments of a promotion, by what it has just said.
const MOMENTS: [&str; 5] = ["a rollback goes to", "deployed", "→ 50%", "→ 100%", "promoted"];

/// Goes on with whatever is under way until it has ended, as a schedule would.
fn tick_to_the_end(sandbox: &Sandbox) {
    until("the ticks to come to an end", || {
        let ran = sandbox.piton(&["tick"]).ends(0);
        assert!(!ran.out.contains("rolled back"), "{ran}");
        let status = sandbox.status("production");
        (status["attempt"].is_null() && status["rollback"].is_null()).then_some(())
    });
}

/// Every step once and in its order, whoever wrote it.
fn assert_sound(sandbox: &Sandbox, attempt: &str, steps: &[&str]) {
    let subjects = sandbox.subjects("production");
    let of_attempt = subjects.iter().rev().filter_map(|subject| subject.strip_prefix(&format!("{attempt}: ")));
    let said: Vec<&str> =
        of_attempt.filter(|text| !text.ends_with(" looked") && !text.starts_with("promoted")).collect();
    assert_eq!(said, steps, "{subjects:#?}");
}

const WHOLE: [&str; 8] = [
    "step 1 passed",
    "deployed",
    "50% of the users moved",
    "step 3 passed",
    "100% of the users moved",
    "step 4 passed",
    "step 5 passed",
    "settled",
];

#[test]
fn a_killed_promotion_is_finished_by_the_next_one() {
    let sandbox = Sandbox::established(STEPS);
    for (number, moment) in MOMENTS.iter().enumerate() {
        sandbox.bump("web", &format!("1.{}.0", number + 1));
        let mut running = sandbox.start(&["promote", "production"]);
        running.until_said(moment);
        let killed = format!(".{}.", running.pid());
        running.signal(Signal::SIGKILL);
        assert_eq!(running.wait().code, None);
        let ran = sandbox.piton(&["promote", "production"]).ends(0);
        assert_eq!(sandbox.served("production"), format!("1.{}.0", number + 1), "{moment}: {ran}");
        // Where all was done but putting the lease away, the next one had nothing to do; a dead holder's lease is free.
        let lease = &sandbox.status("production")["lease"];
        let is_of_killed = lease["nonce"].as_str().is_some_and(|nonce| nonce.contains(&killed));
        assert!(lease.is_null() || is_of_killed, "{moment}: {lease}");
    }
}

#[test]
fn a_killed_promotion_is_finished_by_ticks() {
    let sandbox = Sandbox::established(STEPS);
    sandbox.bump("web", "1.1.0");
    let mut running = sandbox.start(&["promote", "production"]);
    running.until_said("→ 50%");
    running.signal(Signal::SIGKILL);
    running.wait();
    tick_to_the_end(&sandbox);
    assert_eq!(sandbox.served("production"), "1.1.0");
}

#[test]
fn a_stopped_promotion_says_so_and_is_finished_by_ticks() {
    let sandbox = Sandbox::established(STEPS);
    for (number, moment) in MOMENTS[..4].iter().enumerate() {
        let (version, signal) = (format!("1.{}.0", number + 1), [Signal::SIGTERM, Signal::SIGINT][number % 2]);
        sandbox.bump("web", &version);
        let mut running = sandbox.start(&["promote", "production", "--json"]);
        let so = |status: &serde_json::Value| status["attempt"]["id"] == json!(number + 2);
        sandbox.until_status("production", moment, so);
        assert!(running.is_running());
        running.signal(signal);
        let stopped = running.wait().ends(75).reason("stopped");
        assert_eq!(stopped.json()["decision"], "continue");
        assert_eq!(sandbox.status("production")["lease"], json!(null), "the next one need not wait");
        tick_to_the_end(&sandbox);
        assert_eq!(sandbox.served("production"), version);
    }
}

#[test]
fn a_killed_rollback_is_finished() {
    let sandbox = Sandbox::established(STEPS);
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    let mut running = sandbox.start(&["rollback", "production"]);
    running.until_said("back to");
    running.signal(Signal::SIGKILL);
    running.wait();
    sandbox.piton(&["rollback", "production"]).ends(0);
    until("production to be back", || {
        sandbox.piton(&["tick"]);
        (sandbox.served("production") == "1.0.0").then_some(())
    });
    assert!(sandbox.status("production")["rollback"].is_null());
}

#[test]
fn a_rollback_overtakes_a_promotion_under_way() {
    let sandbox = Sandbox::established(STEPS);
    sandbox.bump("web", "1.1.0");
    let mut running = sandbox.start(&["promote", "production"]);
    running.until_said("→ 50%");
    sandbox.piton(&["rollback", "production", "--reason", "users complain"]).ends(0).says("rolled back");
    let ran = running.wait();
    assert!([Some(1), Some(75)].contains(&ran.code), "{ran}");
    assert_eq!(sandbox.served("production"), "1.0.0");
    let status = sandbox.status("production");
    assert_eq!((&status["attempt"], &status["rollback"]), (&json!(null), &json!(null)));
}

#[test]
fn of_two_promotions_at_once_one_does_it() {
    let sandbox = Sandbox::established(STEPS);
    sandbox.bump("web", "1.1.0");
    sandbox.git_in(sandbox.root(), &["clone", "--quiet", "origin.git", "other"]);
    let other = sandbox.path("other").display().to_string();
    let both = [
        sandbox.start(&["promote", "production", "--as", "alice"]),
        sandbox.start(&["-C", &other, "promote", "production", "--as", "bob"]),
    ];
    let codes = both.map(|running| {
        let ran = running.wait();
        assert!([Some(0), Some(75)].contains(&ran.code), "{ran}");
        ran.code
    });
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert_eq!(sandbox.served("production"), "1.1.0");
    assert_sound(&sandbox, "#2", &WHOLE);
    sandbox.piton(&["promote", "production"]).ends(0).says("up to date");
    assert_eq!(sandbox.status("production")["last"]["attempt"], 2);
}

#[test]
fn many_decisions_at_once_are_all_kept() {
    let sandbox = Sandbox::established(STEPS);
    let running: Vec<_> = (0..6)
        .map(|number| {
            let what = format!("web=9.{number}");
            sandbox.start(&["quarantine", &what, "--in", "production", "--reason", "all at once"])
        })
        .collect();
    running.into_iter().for_each(|running| {
        running.wait().ends(0);
    });
    assert_eq!(sandbox.status("production")["quarantines"].as_array().map(Vec::len), Some(6));
}

#[test]
fn a_demo_that_is_interrupted_leaves_no_process() {
    let sandbox = Sandbox::empty();
    let dir = sandbox.path("demo").display().to_string();
    for (moment, signal) in [("deployed", Signal::SIGINT), ("→ 10%", Signal::SIGTERM)] {
        let mut running = sandbox.start(&["demo", &dir]);
        running.until_said(moment);
        running.signal(signal);
        running.wait().ends(75).complains("nothing of it is running");
        assert_eq!(sandbox.processes(), []);
        std::fs::remove_dir_all(&dir).expect("it is there");
    }
}
