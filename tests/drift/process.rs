//! With real processes: an instance or a file of a release that somebody changed on the host.

use std::fs;

use serde_json::Value;

use crate::support::{ONE, Sandbox, until};

/// The checkout of the release that `web` runs in.
fn checkout(sandbox: &Sandbox) -> std::path::PathBuf {
    let report = sandbox.report("production").expect("a supervisor runs");
    report.instances.iter().find(|i| i.service == "web").expect("an instance").dir.clone()
}

fn edit_by_hand(sandbox: &Sandbox) {
    let file = checkout(sandbox).join("services/web.yaml");
    let text = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, text.replace("version: 1.0.0", "version: 1.0.0-hotfix")).expect("room on the disk");
}

fn drift(sandbox: &Sandbox) -> Value {
    sandbox.piton(&["drift", "production", "--json"]).json()["differences"].clone()
}

#[test]
fn without_a_hand_there_is_no_drift() {
    let sandbox = Sandbox::established(ONE);
    sandbox.piton(&["drift", "production"]).ends(0).says("live is as deployed");
    sandbox.piton(&["drift", "--json"]).ends(0).reason("no_drift");
    let before = sandbox.head("production");
    sandbox.piton(&["tick", "--json"]).ends(0);
    sandbox.piton(&["tick", "--json"]).ends(0);
    assert_eq!(sandbox.head("production"), before, "looking is not written down");
}

#[test]
fn a_file_changed_where_it_runs_is_named_holds_the_deploy_and_is_dropped() {
    let sandbox = Sandbox::established(ONE);
    edit_by_hand(&sandbox);
    let ran = sandbox.piton(&["drift", "production"]).ends(3).says("file services/web.yaml");
    assert!(ran.out.contains("changed where it runs"), "{ran}");
    sandbox.piton(&["status"]).ends(0).says("drift since").says("drifted");
    sandbox.piton(&["history", "production"]).ends(0).says("drift: file services/web.yaml");

    sandbox.bump("store", "1.1.0");
    let held = sandbox.piton(&["promote", "production"]).ends(4).says("waiting for the drift to end");
    assert!(held.out.contains("piton drift production"), "{held}");
    sandbox.piton(&["promote", "production", "--json"]).ends(4).reason("held");
    assert_eq!(sandbox.deployed("production", "services/store.yaml").matches("1.0.0").count(), 1);

    // It is told, and not taken over by itself.
    sandbox.piton(&["drift", "production", "--adopt"]).ends(4).complains("no value in a file of the release");
    sandbox.piton(&["drift", "production", "--drop", "--json"]).ends(0).reason("dropped");
    assert!(
        fs::read_to_string(checkout(&sandbox).join("services/web.yaml")).expect("text").contains("version: 1.0.0\n")
    );
    sandbox.piton(&["drift", "production"]).ends(0);
    sandbox.piton(&["promote", "production"]).ends(0).says("promoted");
    assert_eq!(sandbox.served("production"), "1.0.0");
}

#[test]
fn a_tick_finds_it_and_the_end_of_it() {
    let sandbox = Sandbox::established(ONE);
    let file = checkout(&sandbox).join("services/store.yaml");
    let away = file.with_extension("away");
    fs::rename(&file, &away).expect("it is there");
    until("a tick to find it", || {
        let ran = sandbox.piton(&["tick", "--json"]);
        let found = ran.json()["environments"]["production"]["reason_code"] == "drifted";
        found.then(|| assert_eq!(ran.code, Some(3), "{ran}"))
    });
    assert_eq!(drift(&sandbox)[0]["object"], "file services/store.yaml");
    fs::rename(&away, &file).expect("it comes back as it was");
    sandbox.piton(&["drift", "production"]).ends(0);
    assert!(sandbox.status("production")["drift"].is_null());
    sandbox.piton(&["history", "production"]).ends(0).says("the drift is gone");
}

#[test]
fn what_is_left_alone_holds_nothing_up() {
    let sandbox = Sandbox::established(ONE);
    edit_by_hand(&sandbox);
    sandbox.piton(&["drift", "production", "--ignore-until", "2h", "--reason", "a hotfix"]).ends(0);
    sandbox.piton(&["drift", "production", "--json"]).ends(0).reason("known_drift");
    for bad in [
        vec!["drift", "production", "--ignore-until", "2020-01-01T00:00:00Z"],
        vec!["drift", "--drop"],
        vec!["drift", "production", "--drop", "--adopt"],
        vec!["drift", "elsewhere"],
    ] {
        sandbox.piton(&bad).ends(2);
    }
    sandbox.piton(&["tick", "--json"]).ends(0);
    sandbox.bump("store", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0).says("promoted");
}

#[test]
fn the_way_back_is_not_held_by_drift() {
    let sandbox = Sandbox::established(ONE);
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    edit_by_hand(&sandbox);
    let file = checkout(&sandbox).join("services/web.yaml");
    fs::write(&file, "name: web\nversion: 6\n").expect("room on the disk");
    sandbox.piton(&["drift", "production"]).ends(3);
    sandbox.piton(&["rollback", "production"]).ends(0).says("web  1.1.0 → 1.0.0");
    assert_eq!(sandbox.served("production"), "1.0.0");
    assert!(sandbox.status("production")["drift"].is_null());
}

#[test]
fn an_environment_can_do_without() {
    let sandbox = Sandbox::established(&format!("{ONE}    drift: off\n    way_back: off\n"));
    edit_by_hand(&sandbox);
    sandbox.piton(&["tick", "--json"]).ends(0);
    sandbox.bump("store", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0);
}
