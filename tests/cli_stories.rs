//! What people do with the program, command by command, on real processes.

mod support;

use serde_json::json;
use support::{ONE, Sandbox, TWO, until};

#[test]
fn a_bump_goes_through_staging_to_production() {
    let sandbox = Sandbox::new(TWO);
    sandbox.piton(&["check"]).ends(0).says("2 components, 2 environments (staging → production)");
    sandbox.piton(&["plan", "staging"]).ends(3).says("the first release");
    sandbox.piton(&["plan", "production", "--json"]).ends(0).reason("up_to_date");
    sandbox.piton(&["promote", "staging"]).ends(0).says("promoted");
    sandbox.piton(&["promote", "production", "--json"]).ends(0).reason("promoted");
    assert_eq!(sandbox.served("production"), "1.0.0");

    sandbox.bump("web", "1.1.0");
    let planned = sandbox.piton(&["plan", "staging", "--json"]).ends(3).reason("changes_pending").json();
    assert_eq!(planned["plan"]["bumps"][0], json!({ "component": "web", "from": "1.0.0", "to": "1.1.0" }));
    sandbox.piton(&["promote", "production", "--json"]).ends(0).reason("up_to_date");
    assert_eq!(sandbox.served("production"), "1.0.0");
    sandbox.piton(&["promote", "staging"]).ends(0).says("web 1.0.0 → 1.1.0");
    sandbox.piton(&["plan", "staging"]).ends(0).says("up to date");
    sandbox.piton(&["promote", "production"]).ends(0).says("50% of the users");
    assert_eq!(sandbox.served("production"), "1.1.0");
    assert!(sandbox.deployed("production", "services/web.yaml").contains("version: 1.1.0"));
    assert!(sandbox.git(&["status", "--porcelain"]).is_empty());
}

#[test]
fn a_bad_bump_stops_in_staging() {
    let sandbox = Sandbox::established(TWO);
    sandbox.bump("web", "1.1.0-bad");
    let before = sandbox.head("production");
    let ran = sandbox.piton(&["promote", "staging", "--json"]).ends(1).reason("rolled_back");
    assert!(ran.json()["cause"].as_str().expect("a cause").contains("gate `work` failed"), "{ran}");
    sandbox.piton(&["promote", "production"]).ends(0).says("in quarantine").says("up to date");
    assert_eq!(sandbox.head("production"), before);
    assert_eq!((sandbox.served("staging"), sandbox.served("production")), ("1.0.0".into(), "1.0.0".into()));
    // The next bump goes on.
    sandbox.bump("store", "1.1.0");
    sandbox.piton(&["promote", "staging"]).ends(0).says("store 1.0.0 → 1.1.0").says("web  stays at 1.0.0");
    sandbox.piton(&["promote", "staging"]).ends(0).says("up to date");
}
