//! With a team's own commands: what is live is what their script says.

use std::fs;

use serde_json::json;

use crate::support::Sandbox;

const PIPELINE: &str = r#"name: sandbox

components:
  web: { file: services/web.yaml, path: version }

environments:
  production:
    target:
      command:
        apply: [sh, deploy.sh, apply]
        live: [sh, -c, 'cat "$PITON_STATE_DIR/world" 2>/dev/null || true; test ! -e "$PITON_STATE_DIR/blind"']
        rehearse: [sh, deploy.sh, rehearse]
        timeout: 20s
    bake: 50ms
    blind: 3s
    way_back: { every: 24h }
"#;

/// Users go where the script was told; the service reports the version in its file.
const SCRIPT: &str = r#"
case "$1" in
  apply)
    echo "$PITON_TREE 100%" > "$PITON_STATE_DIR/world.new"
    echo "version web $PITON_VERSION_WEB" >> "$PITON_STATE_DIR/world.new"
    mv "$PITON_STATE_DIR/world.new" "$PITON_STATE_DIR/world" ;;
  rehearse)
    if test -e "$PITON_STATE_DIR/gone-$PITON_VERSION_WEB"; then echo "image web:$PITON_VERSION_WEB is gone"; exit 1; fi
    test ! -e "$PITON_STATE_DIR/registry-down" || exit 75 ;;
esac
"#;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("pipelines/sandbox.yaml", PIPELINE);
    sandbox.write("services/web.yaml", "# the front page\nname: web\nversion: 1.0.0 # by hand\n");
    sandbox.write("deploy.sh", SCRIPT);
    sandbox.commit("the first service");
    sandbox.piton(&["promote", "production"]).ends(0);
    sandbox
}

fn world(sandbox: &Sandbox, name: &str) -> std::path::PathBuf {
    sandbox.state_dir().join("production").join(name)
}

/// Somebody deploys another version past the pipeline.
fn deploy_by_hand(sandbox: &Sandbox, version: &str) {
    let file = world(sandbox, "world");
    let text = fs::read_to_string(&file).expect("it is there");
    let lines = text
        .lines()
        .map(|line| if line.starts_with("version") { format!("version web {version}") } else { line.to_owned() });
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("room on the disk");
}

#[test]
fn a_version_that_a_service_reports_is_adopted_as_a_commit() {
    let sandbox = sandbox();
    sandbox.piton(&["drift", "production"]).ends(0);
    deploy_by_hand(&sandbox, "1.0.7");
    let seen = sandbox.piton(&["drift", "production", "--json"]).ends(3).reason("drifted").json();
    let expected = json!([{ "object": "component web", "field": "version", "wanted": "1.0.0", "live": "1.0.7" }]);
    assert_eq!(seen["differences"], expected);

    // A promotion that waits for it was planned without the commit.
    sandbox.write("other.txt", "another change\n");
    sandbox.commit("another change");
    sandbox.piton(&["promote", "production"]).ends(4);
    let adopted = sandbox.piton(&["drift", "production", "--adopt", "--reason", "the hotfix of today", "--json"]);
    let adopted = adopted.ends(0).reason("adopted").json();
    assert_eq!(adopted["files"], json!(["services/web.yaml"]));
    sandbox.git(&["pull", "--quiet", "origin", "main"]);
    assert_eq!(sandbox.read("services/web.yaml"), "# the front page\nname: web\nversion: 1.0.7 # by hand\n");
    let message = sandbox.git(&["log", "-1", "--format=%an%n%B", "origin/main"]);
    assert!(message.starts_with("tester\nAdopt what is live in production"), "{message}");
    assert!(message.contains("the hotfix of today") && message.contains("is 1.0.7 and should be 1.0.0"), "{message}");

    sandbox.piton(&["drift", "production", "--json"]).ends(0).reason("known_drift");
    sandbox.piton(&["promote", "production", "--all"]).ends(0).says("promoted");
    assert!(sandbox.deployed("production", "services/web.yaml").contains("1.0.7"));
    sandbox.piton(&["drift", "production"]).ends(0).says("live is as deployed");
}

#[test]
fn adopting_for_a_pull_request_leaves_the_source_branch_alone() {
    let sandbox = sandbox();
    deploy_by_hand(&sandbox, "1.0.7");
    let before = sandbox.git_in(&sandbox.origin(), &["rev-parse", "main"]);
    sandbox.piton(&["drift", "production", "--adopt", "--branch", "hotfix"]).ends(0).says("merge `hotfix` into `main`");
    assert_eq!(sandbox.git_in(&sandbox.origin(), &["rev-parse", "main"]), before);
    assert!(sandbox.git_in(&sandbox.origin(), &["show", "hotfix:services/web.yaml"]).contains("version: 1.0.7"));
    deploy_by_hand(&sandbox, "1.0.8");
    sandbox.piton(&["drift", "production", "--adopt", "--branch", "hotfix"]).ends(2).complains("there is a branch");
}

#[test]
fn a_value_that_the_source_changed_meanwhile_is_not_written_over() {
    let sandbox = sandbox();
    deploy_by_hand(&sandbox, "1.0.7");
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["drift", "production", "--adopt"]).ends(4);
    assert!(sandbox.git_in(&sandbox.origin(), &["show", "main:services/web.yaml"]).contains("version: 1.1.0"));
}

#[test]
fn a_look_that_fails_is_no_drift_and_refuses_only_after_its_time() {
    let sandbox = sandbox();
    fs::write(world(&sandbox, "blind"), "").expect("room on the disk");
    sandbox.piton(&["drift", "production", "--json"]).ends(75).reason("blind");
    sandbox.piton(&["tick"]).ends(0);
    assert!(sandbox.status("production")["drift"].is_null());
    sandbox.bump("web", "1.1.0");
    let refused = sandbox.piton(&["promote", "production", "--wait", "--json"]).ends(75).reason("paused").json();
    assert!(refused["cause"].as_str().expect("a cause").contains("whether live is as deployed"), "{refused}");
    assert_eq!(sandbox.status("production")["quarantines"], json!([]));
    fs::remove_file(world(&sandbox, "blind")).expect("it is there");
    sandbox.piton(&["promote", "production"]).ends(0);
}

#[test]
fn without_a_way_back_nothing_is_deployed_unless_a_person_says_so() {
    let sandbox = sandbox();
    fs::write(world(&sandbox, "gone-1.0.0"), "").expect("room on the disk");
    sandbox.bump("web", "1.1.0");
    let held = sandbox.piton(&["promote", "production"]).ends(4).says("image web:1.0.0 is gone");
    assert!(held.out.contains("--without-way-back"), "{held}");
    assert!(fs::read_to_string(world(&sandbox, "world")).expect("text").contains("version web 1.0.0"));
    sandbox.piton(&["status"]).ends(0).says("could not be deployed again");
    sandbox.piton(&["promote", "production", "--without-way-back", "we build it anew if need be"]).ends(0);
    sandbox.piton(&["history", "production"]).ends(0).says("we build it anew if need be");
    assert!(fs::read_to_string(world(&sandbox, "world")).expect("text").contains("version web 1.1.0"));

    // The new one is not to become the only way back either while it could not be deployed again.
    fs::write(world(&sandbox, "gone-1.2.0"), "").expect("room on the disk");
    sandbox.bump("web", "1.2.0");
    sandbox.piton(&["promote", "production"]).ends(4).says("image web:1.2.0 is gone");
    let status = sandbox.status("production");
    assert_eq!(status["good"]["release"]["versions"]["web"], "1.1.0", "{status}");
    fs::remove_file(world(&sandbox, "gone-1.2.0")).expect("it is there");
    sandbox.piton(&["promote", "production", "--wait"]).ends(0).says("promoted");
}

#[test]
fn a_registry_that_is_down_is_no_obstacle_but_not_a_proof_either() {
    let sandbox = sandbox();
    fs::write(world(&sandbox, "registry-down"), "").expect("room on the disk");
    sandbox.bump("web", "1.1.0");
    let refused = sandbox.piton(&["promote", "production", "--wait", "--json"]).ends(75).reason("paused").json();
    assert!(refused["cause"].as_str().expect("a cause").contains("whether there is a way back"), "{refused}");
    fs::remove_file(world(&sandbox, "registry-down")).expect("it is there");
    sandbox.piton(&["promote", "production"]).ends(0);
}
