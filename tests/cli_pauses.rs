//! What the world could not do: the environment goes back, nobody is kept out, and automation rests. What it could not take
//! down is said until it is gone.

mod support;

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use support::Sandbox;

const PIPELINE: &str = r#"name: sandbox

components:
  web: { file: services/web.yaml, path: version }

environments:
  production:
    target:
      command:
        apply: [sh, deploy.sh]
        settle: [sh, settle.sh]
        timeout: 20s
    bake: 50ms
    deploy: { tries: 2, pauses: [5m, 15m] }
    rollback: { pause: 50ms, tries: 2 }
"#;

/// A cluster that may say no for its own reasons.
const SCRIPT: &str = r#"
if test -e "$PITON_STATE_DIR/full"; then
  echo "the disk is full"
  exit 75
fi
if test -e "$PITON_STATE_DIR/quota" && test "$PITON_VERSION_WEB" != 1.0.0; then
  echo "exceeded quota: pods=10"
  exit 75
fi
"#;

/// Something may be in the way of the taking down.
const SETTLE: &str = r#"
if test -e "$PITON_STATE_DIR/clamped"; then
  echo "the old pods are clamped"
  exit 75
fi
"#;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_pipeline(PIPELINE);
    sandbox.write("deploy.sh", SCRIPT);
    sandbox.write("settle.sh", SETTLE);
    sandbox.commit("how it is deployed");
    sandbox.piton(&["promote", "production", "--to", "HEAD"]).ends(0);
    sandbox
}

fn quota(sandbox: &Sandbox) -> PathBuf {
    sandbox.state_dir().join("production/quota")
}

fn with_a_failed_bump() -> (Sandbox, Value) {
    let sandbox = sandbox();
    fs::write(quota(&sandbox), "").expect("room on the disk");
    sandbox.bump("web", "1.1.0");
    let ran = sandbox.piton(&["promote", "production", "--wait", "--json"]).ends(75).reason("paused").json();
    (sandbox, ran)
}

#[test]
fn the_world_is_told_from_the_release_wherever_it_is_said() {
    let (sandbox, ran) = with_a_failed_bump();
    let why = "moving users failed, and not through the release";
    assert!(ran["cause"].as_str().is_some_and(|cause| cause.starts_with(why) && cause.contains("quota")), "{ran}");
    assert_eq!(ran["decision"], "continue");
    let status = sandbox.status("production");
    assert_eq!((&status["quarantines"], &status["live"]["versions"]["web"]), (&json!([]), &json!("1.0.0")));
    let pause = &status["pause"];
    assert_eq!((&pause["until"], &pause["failures"]), (&ran["paused_until"], &json!(1)), "{status}");
    assert_eq!(status["waits"][0]["who"], "`piton promote` tries at once", "{status}");
    sandbox.piton(&["status"]).ends(0).says("automation rests until").says("exceeded quota: pods=10");
    sandbox.piton(&["plan", "production"]).ends(3).says("web  1.0.0 → 1.1.0").says("automation rests since");
    let plan = sandbox.piton(&["plan", "production", "--json"]).ends(3).json();
    assert_eq!(plan["pause"]["until"], ran["paused_until"]);
    sandbox.piton(&["history", "production"]).ends(0).says("moving users, not the release");
    let markdown = sandbox.piton(&["show", "production", "--markdown"]).ends(0);
    markdown.says("Not the release's doing, so it is not kept out; automation rests until");
}

#[test]
fn automation_rests_and_people_do_not() {
    let (sandbox, _) = with_a_failed_bump();
    fs::remove_file(quota(&sandbox)).expect("it is there");
    let attempts = || sandbox.piton(&["history", "production", "--json"]).json()["attempts"].as_array().map(Vec::len);
    assert_eq!(attempts(), Some(2));
    sandbox.piton(&["tick", "--promote"]).ends(0).says("automation rests since");
    let ticked = sandbox.piton(&["tick", "production", "--promote", "--json"]).ends(0).json();
    assert_eq!(ticked["environments"]["production"]["reason_code"], "paused", "{ticked}");
    // A CI system that is told to try again does so at once: that is not a person.
    sandbox.piton_with(&[("CI", "true")], &["promote", "production", "--json"]).ends(75).reason("paused");
    assert_eq!(attempts(), Some(2), "nothing was tried");
    sandbox.piton_with(&[("CI", "true")], &["promote", "production", "--now"]).ends(0).says("1.0.0 → 1.1.0");
    assert_eq!(sandbox.status("production")["pause"], Value::Null);
}

#[test]
fn a_person_tries_at_once_and_each_failure_in_a_row_makes_the_rest_longer() {
    let (sandbox, first) = with_a_failed_bump();
    let second = sandbox.piton(&["promote", "production", "--json"]).ends(75).reason("paused").json();
    assert_ne!(first["paused_until"], second["paused_until"]);
    let pause = &sandbox.status("production")["pause"];
    assert_eq!(pause["failures"], 2);
    let minute = |stamp: &Value| stamp.as_str().and_then(|text| text.parse::<piton::model::Stamp>().ok());
    let (since, until) = (minute(&pause["since"]), minute(&pause["until"]));
    assert!(since.zip(until).is_some_and(|(since, until)| until.since(since).0 > 14 * 60_000), "{pause}");
    fs::remove_file(quota(&sandbox)).expect("it is there");
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_eq!(sandbox.status("production")["live"]["versions"]["web"], "1.1.0");
}

fn clamp(sandbox: &Sandbox) -> PathBuf {
    sandbox.state_dir().join("production/clamped")
}

/// 1.1.0 is promoted, and what it replaced is still there.
fn with_something_left_behind() -> Sandbox {
    let sandbox = sandbox();
    fs::write(clamp(&sandbox), "").expect("room on the disk");
    sandbox.bump("web", "1.1.0");
    let ran = sandbox.piton(&["promote", "production", "--json"]).ends(75).reason("left_behind").json();
    assert_eq!((&ran["versions"]["web"], &ran["decision"]), (&json!("1.1.0"), &json!("continue")), "{ran}");
    let why = ran["left_behind"]["why"].as_str();
    assert!(why.is_some_and(|why| why.contains("the old pods are clamped")), "{ran}");
    sandbox
}

#[test]
fn what_could_not_be_taken_down_is_said_and_tried_again_until_it_is_gone() {
    let sandbox = with_something_left_behind();
    let status = sandbox.status("production");
    assert_eq!((&status["good"]["attempt"], &status["left_behind"]["attempt"]), (&json!(2), &json!(2)), "{status}");
    let said = "what #2 should have taken down is still there";
    sandbox.piton(&["status"]).ends(0).says(said).says("the old pods are clamped");
    sandbox.piton(&["history", "production"]).ends(0).says("promoted; not all is taken down");
    sandbox.piton(&["show", "production", "--markdown"]).ends(0).says("Left behind, and tried again");
    let ticked = sandbox.piton(&["tick", "production", "--json"]).ends(75).json();
    assert_eq!(ticked["environments"]["production"]["reason_code"], "left_behind", "{ticked}");
    let tries = |status: &Value| status["left_behind"]["tries"].as_u64();
    assert_eq!(tries(&sandbox.status("production")), Some(1), "the tick tried nothing");
    sandbox.piton(&["promote", "production"]).ends(75).says(said);
    assert_eq!(tries(&sandbox.status("production")), Some(2), "a promotion without a next step tried nothing");
    fs::remove_file(clamp(&sandbox)).expect("it is there");
    sandbox.piton(&["tick", "production"]).ends(0);
    let status = sandbox.status("production");
    assert_eq!((&status["left_behind"], &status["live"]["versions"]["web"]), (&Value::Null, &json!("1.1.0")));
    sandbox.piton(&["promote", "production", "--json"]).ends(0).reason("up_to_date");
}

#[test]
fn the_next_promotion_waits_until_it_is_gone() {
    let sandbox = with_something_left_behind();
    sandbox.bump("web", "1.2.0");
    let held = sandbox.piton(&["promote", "production", "--json"]).ends(75).reason("left_behind").json();
    let on = held["waits"][0]["on"].as_str();
    assert!(on.is_some_and(|on| on.contains("what #2 should have taken down is still there")), "{held}");
    assert_eq!(sandbox.status("production")["live"]["versions"]["web"], "1.1.0", "something was built upon it");
    fs::remove_file(clamp(&sandbox)).expect("it is there");
    sandbox.piton(&["promote", "production"]).ends(0).says("something is under way already");
    let status = sandbox.status("production");
    assert_eq!((&status["left_behind"], &status["live"]["versions"]["web"]), (&Value::Null, &json!("1.2.0")));
}

#[test]
fn who_is_stuck_hears_why_it_was_to_go_back() {
    let sandbox = sandbox();
    let full = sandbox.state_dir().join("production/full");
    fs::write(&full, "").expect("room on the disk");
    sandbox.bump("web", "1.1.0");
    let why = "because of this: moving users failed, and not through the release";
    sandbox.piton(&["promote", "production"]).ends(5).says(why).says("the disk is full");
    let cause = &sandbox.status("production")["stuck"]["cause"]["shift_failed"];
    assert!(cause["why"].as_str().is_some_and(|why| why.contains("the disk is full")), "{cause}");
    sandbox.piton(&["status", "production"]).ends(0).says("stuck since").says(why);
}

const NOWHERE: &str = r#"name: sandbox

components:
  web: { file: services/web.yaml, path: version }

environments:
  production:
    target: TARGET
    deploy: { tries: 2, pauses: [5m, 15m] }
    rollback: { pause: 50ms, tries: 2 }
"#;

#[test]
fn a_first_release_that_finds_no_cluster_asks_to_be_tried_again() {
    let cluster = json!({ "identity": "8e3f7f0c-6a3a-4d39-9c0e-2f1f6a4c1d11", "kubeconfig": "no-such-file" });
    let followed = json!({ "name": "web", "namespace": "apps" });
    for target in [
        json!({ "kubernetes": { "cluster": cluster, "namespace": "shop", "manifests": ["services"] } }),
        json!({ "helm": { "cluster": cluster, "namespace": "shop", "release": "web", "chart": "services" } }),
        json!({ "gitops": { "cluster": cluster, "branch": "deploy/production", "application": followed } }),
    ] {
        let sandbox = Sandbox::with_pipeline(&NOWHERE.replace("TARGET", &target.to_string()));
        let ran = sandbox.piton(&["promote", "production", "--to", "HEAD", "--json"]).ends(75).reason("paused");
        assert!(ran.json()["cause"].as_str().is_some_and(|cause| cause.contains("cannot find the cluster")), "{ran}");
        let status = sandbox.status("production");
        let (stuck, rollback, live) = (&status["stuck"], &status["rollback"], &status["live"]);
        assert_eq!((stuck, rollback, live), (&Value::Null, &Value::Null, &Value::Null), "{target}");
    }
}
