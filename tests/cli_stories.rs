//! What people do with the program, command by command, on real processes.

mod support;

use serde_json::{Value, json};
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
fn a_bad_bump_stops_in_staging_and_the_next_one_goes_on() {
    let sandbox = Sandbox::established(TWO);
    sandbox.bump("web", "1.1.0-bad");
    let before = sandbox.head("production");
    let ran = sandbox.piton(&["promote", "staging", "--json"]).ends(1).reason("rolled_back");
    assert!(ran.json()["cause"].as_str().expect("a cause").contains("gate `work` failed"), "{ran}");
    sandbox.piton(&["promote", "production"]).ends(0).says("up to date");
    assert_eq!(sandbox.head("production"), before);
    assert_eq!((sandbox.served("staging"), sandbox.served("production")), ("1.0.0".into(), "1.0.0".into()));
    sandbox.piton(&["status"]).ends(0).says("web 1.1.0-bad in quarantine");

    sandbox.bump("store", "1.1.0");
    sandbox.piton(&["promote", "staging"]).ends(0).says("store 1.0.0 → 1.1.0").says("web  stays at 1.0.0");
    sandbox.piton(&["promote", "staging"]).ends(0).says("up to date");
    sandbox.piton(&["promote", "production"]).ends(0).says("store 1.0.0 → 1.1.0").says("in quarantine");
    assert_eq!(sandbox.served("production"), "1.0.0");
}

#[test]
fn a_commit_of_two_bumps_is_taken_in_two_steps_and_none_back() {
    let sandbox = Sandbox::established(TWO);
    sandbox.bump("web", "1.1.0-bad");
    sandbox.piton(&["promote", "staging"]).ends(1);
    for component in ["web", "store"] {
        sandbox.piton(&["edit", &format!("services/{component}.yaml"), "version", "1.2.0"]).ends(0);
    }
    sandbox.commit("two at once");
    for environment in ["staging", "production"] {
        let ran = sandbox.piton(&["promote", environment, "--all"]).ends(0);
        assert_eq!(ran.out.matches("✓ promoted").count(), 2, "{ran}");
        assert!(ran.out.contains("web 1.0.0 → 1.2.0") && ran.out.contains("store 1.0.0 → 1.2.0"), "{ran}");
        sandbox.piton(&["plan", environment]).ends(0);
    }
}

#[test]
fn a_gate_asks_a_service_as_often_as_it_notes_it() {
    let sandbox = Sandbox::established(ONE);
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    let log = sandbox.git_in(&sandbox.origin(), &["log", "--format=%B", "piton/production"]);
    let noted = log.matches(r#""gate":"work""#).count();
    // Each look goes through `web` and `store`, whose proxies count.
    let counted: u64 = requests(&get_metrics(&sandbox), "store");
    assert_eq!(counted, noted as u64, "{}", get_metrics(&sandbox));
}

fn get_metrics(sandbox: &Sandbox) -> String {
    let report = sandbox.report("production").expect("a supervisor runs");
    support::get(&report.facts["metrics_url"])
}

fn requests(metrics: &str, service: &str) -> u64 {
    let service = format!("service=\"{service}\"");
    let lines = metrics.lines().filter(|l| l.contains("other_requests_total{") && l.contains(&service));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

const APPROVED: &str = "
  production:
    gates: { before: [{ approval: { not_author: false } }], during: [front, work] }
    bake: 100ms
";

#[test]
fn a_promotion_waits_for_approval_and_then_goes_on() {
    let sandbox = Sandbox::new(APPROVED);
    let held = sandbox.piton(&["promote", "production"]).ends(4).says("waiting for").says("`piton approve`");
    assert!(!held.out.contains("deployed"), "{held}");
    sandbox.piton(&["promote", "production", "--json"]).ends(4).reason("held");
    let status = sandbox.status("production");
    assert!(status["waits"].to_string().contains("piton approve"), "{status}");
    sandbox.piton(&["approve", "production"]).ends(0).says("approved by tester");
    sandbox.piton(&["approve", "production"]).ends(4).complains("tester has approved #1 already");
    sandbox.piton(&["promote", "production"]).ends(0).says("promoted");
    assert_eq!(sandbox.served("production"), "1.0.0");

    // The same with somebody who waits.
    sandbox.bump("web", "1.1.0");
    let waiting = sandbox.start(&["promote", "production", "--wait"]);
    sandbox.until_status("production", "a promotion that waits", |s| s["attempt"]["id"] == 2);
    sandbox.piton(&["approve", "production", "--as", "boss"]).ends(0);
    waiting.wait().ends(0);
    assert_eq!(sandbox.served("production"), "1.1.0");
}

#[test]
fn a_closed_window_lets_nothing_in() {
    let closed = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date() + jiff::Span::new().days(3);
    let day = format!("{:?}", closed.weekday())[..3].to_lowercase();
    let sandbox = Sandbox::new(&format!(
        "
  production:
    gates:
      before: [{{ name: office, window: {{ zone: UTC, days: {day}, from: '09:00', until: '10:00' }} }}]
      during: [front]
    bake: 100ms
"
    ));
    let held = sandbox.piton(&["promote", "production"]).ends(4).says("waiting for");
    assert!(held.out.contains("office") && held.out.contains(&closed.to_string()), "when it opens: {held}");
    sandbox.piton(&["abort", "production", "--reason", "too late"]).ends(0);
    assert!(sandbox.status("production")["attempt"].is_null());
    assert_eq!(sandbox.processes(), []);
}

#[test]
fn a_freeze_holds_what_is_new_and_lets_the_way_back_through() {
    let sandbox = Sandbox::established(ONE);
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    sandbox.piton(&["freeze", "production", "--until", "2h", "--reason", "the exam week"]).ends(0);
    sandbox.piton(&["status"]).ends(0).says("frozen by tester").says("the exam week");
    sandbox.bump("store", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(4).says("the exam week");
    sandbox.piton(&["rollback", "production"]).ends(0).says("web  1.1.0 → 1.0.0");
    assert_eq!(sandbox.served("production"), "1.0.0");
    sandbox.piton(&["unfreeze", "production"]).ends(0);
    sandbox.piton(&["unfreeze", "production"]).ends(2).complains("`production` is not frozen");
    sandbox.piton(&["promote", "production"]).ends(0).says("store 1.0.0 → 1.1.0");
    sandbox.piton(&["freeze", "production", "--until", "2020-01-01T00:00:00Z", "--reason", "x"]).ends(2);
}

const LONG_CANARY: &str = "
  production:
    gates: { during: [front, work] }
    canary: [{ share: 50%, hold: 10m }, { share: 100%, hold: 0s }]
    bake: 100ms
";

#[test]
fn an_abort_undoes_the_promotion_under_way() {
    let sandbox = Sandbox::new(LONG_CANARY);
    sandbox.piton(&["abort", "production", "--reason", "x"]).ends(2).complains("no promotion is under way");
    let mut running = sandbox.start(&["promote", "production"]);
    running.until_said("→ 50% of the users");
    sandbox.piton(&["status"]).ends(0).says("50% of the users");
    sandbox.piton(&["abort", "production", "--reason", "wrong button"]).ends(0).says("sees to it");
    running.wait().ends(1).says("ordered: wrong button");
    let status = sandbox.status("production");
    assert!(status["attempt"].is_null() && status["live"].is_null(), "{status}");
}

const ASKS: &str = r#"
  production:
    gates: { during: [front, { name: slow, http: { url: "${candidate_url}/work" }, on_fail: ask, every: 100ms }] }
    investigate: 30s
    bake: 100ms
"#;

#[test]
fn an_investigation_can_be_extended_and_its_countdown_is_seen() {
    let sandbox = Sandbox::established(ASKS);
    sandbox.bump("web", "1.1.0-bad");
    sandbox.piton(&["extend", "production", "5m", "--reason", "x"]).ends(2).complains("no bad sign");
    let mut running = sandbox.start(&["promote", "production"]);
    running.until_said("✗ slow");
    let countdown = |status: &Value| status["waits"].to_string().contains("gate `slow` to recover");
    let status = sandbox.until_status("production", "a countdown", countdown);
    let until = |status: &Value| {
        let waits = status["waits"].as_array().expect("waits").iter();
        let wait = waits.clone().find(|w| w["on"].to_string().contains("slow")).expect("a countdown");
        wait["until"].as_str().expect("an end").to_owned()
    };
    sandbox.piton(&["status"]).ends(0).says("left (`piton extend` gives it more time");
    sandbox.piton(&["extend", "production", "10m", "--reason", "looking at the logs"]).ends(0);
    assert!(until(&sandbox.status("production")) > until(&status));
    sandbox.piton(&["rollback", "production", "--reason", "it is the database"]).ends(0);
    running.wait();
    assert_eq!(sandbox.served("production"), "1.0.0");
}

const TICKED: &str = "
  production:
    gates: { during: [front, work] }
    canary: [{ share: 50%, hold: 200ms }, { share: 100%, hold: 0s }]
    bake: 300ms
    watch: 400ms
";

/// Ticks until nothing is under way; gives the exit codes.
fn tick_to_the_end(sandbox: &Sandbox) -> Vec<i32> {
    let mut codes = Vec::new();
    until("the ticks to come to an end", || {
        let ran = sandbox.piton(&["tick", "--json"]);
        let reason = ran.json()["environments"]["production"]["reason_code"].clone();
        codes.extend(ran.code);
        (reason != "waiting").then_some(())
    });
    codes
}

#[test]
fn a_promotion_is_begun_without_waiting_and_finished_by_ticks() {
    let sandbox = Sandbox::new(TICKED);
    sandbox.piton(&["tick"]).ends(0);
    assert_eq!(sandbox.processes(), [], "a tick begins nothing unless told");
    sandbox.piton(&["promote", "production", "--no-wait", "--json"]).ends(0).reason("waiting");
    let codes = tick_to_the_end(&sandbox);
    assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
    until("the watch to be over", || {
        sandbox.piton(&["tick"]).ends(0);
        let status = sandbox.status("production");
        (status["good"].is_object() && status["watches"] == json!([])).then_some(())
    });
    assert_eq!(sandbox.served("production"), "1.0.0");
    sandbox.piton(&["tick", "--json"]).ends(0).reason("ticked");
}

const WATCHED: &str = "
  production:
    gates: { during: [front, work] }
    bake: 100ms
    watch: 10m
";

#[test]
fn a_watch_that_fails_rolls_back_at_the_next_tick() {
    let sandbox = Sandbox::established(WATCHED);
    sandbox.bump("web", "1.1.0-late");
    sandbox.piton(&["promote", "production"]).ends(0).says("promoted");
    assert_eq!(sandbox.served("production"), "1.1.0-late");
    let ran = until("the watch to see it", || {
        let ran = sandbox.piton(&["tick"]);
        (ran.code != Some(0)).then_some(ran)
    });
    ran.ends(1).says("gate `work` failed");
    assert_eq!(sandbox.served("production"), "1.0.0");
    sandbox.piton(&["promote", "production"]).ends(0).says("in quarantine");
}

#[test]
fn a_next_step_that_cannot_be_planned_leaves_nothing_unwatched() {
    let sandbox = Sandbox::established(WATCHED);
    sandbox.bump("web", "1.1.0-late");
    sandbox.piton(&["promote", "production"]).ends(0).says("promoted");
    sandbox.write("services/web.yaml", "name: web\n");
    sandbox.commit("no version any more");
    let ran = until("the watch to see it", || {
        let ran = sandbox.piton(&["tick", "--promote"]);
        (ran.code != Some(2)).then_some(ran)
    });
    ran.ends(1).says("gate `work` failed").says("has no value at its place");
    assert_eq!(sandbox.served("production"), "1.0.0");
    sandbox.piton(&["tick", "--promote"]).ends(2).says("has no value at its place");
}

#[test]
fn a_person_goes_back_to_good_to_a_commit_and_to_a_moment() {
    let sandbox = Sandbox::established(ONE);
    let first = sandbox.head("production");
    for version in ["1.1.0", "1.2.0"] {
        sandbox.bump("web", version);
        sandbox.piton(&["promote", "production"]).ends(0);
    }
    let head = sandbox.head("production");
    sandbox.piton(&["rollback", "production", "--dry-run"]).ends(0).says("web  1.2.0 → 1.1.0");
    sandbox.piton(&["rollback", "production", "--dry-run", "--to", "0s", "--json"]).ends(0);
    assert_eq!(sandbox.head("production"), head, "a dry run writes nothing");
    assert_eq!(sandbox.served("production"), "1.2.0");

    let ran = sandbox.piton(&["rollback", "production", "--json"]).ends(0).reason("rolled_back").json();
    assert_eq!(ran["versions"]["web"], "1.1.0");
    assert_eq!(sandbox.served("production"), "1.1.0");
    sandbox.piton(&["rollback", "production", "--to", &first[..12]]).ends(0).says("web  1.1.0 → 1.0.0");
    assert_eq!(sandbox.served("production"), "1.0.0");
    sandbox.piton(&["rollback", "production", "--to", &first]).ends(0).says("is there already");
    // To a commit of the source branch, forward this time.
    let source = sandbox.git(&["rev-parse", "HEAD"]);
    sandbox.piton(&["rollback", "production", "--to", &source, "--no-quarantine"]).ends(0);
    assert_eq!(sandbox.served("production"), "1.2.0");
    sandbox.piton(&["rollback", "production", "--to", "deadbeef"]).ends(2).complains("no commit `deadbeef`");
    sandbox.piton(&["rollback", "production", "--to", "2020-01-01T00:00:00Z"]).ends(2).complains("reach back");
    let birth = sandbox.git_in(&sandbox.origin(), &["rev-list", "--max-parents=0", "piton/production"]);
    sandbox.piton(&["rollback", "production", "--to", &birth]).ends(2).complains("nothing was deployed at");
    sandbox.piton(&["rollback", "production", "--component", "wbe"]).ends(2).complains("unknown component `wbe`");
    assert!(sandbox.deployed("production", "services/web.yaml").contains("version: 1.2.0"));
}

#[test]
fn one_component_goes_back_and_the_others_stay() {
    let sandbox = Sandbox::established(ONE);
    let first = sandbox.head("production");
    for component in ["web", "store"] {
        sandbox.bump(component, "1.1.0");
        sandbox.piton(&["promote", "production"]).ends(0);
    }
    let live = sandbox.status("production")["live"]["versions"].clone();
    assert_eq!(live, json!({ "store": "1.1.0", "web": "1.1.0" }));
    let planned = sandbox.piton(&["rollback", "production", "--to", &first, "--component", "web", "--dry-run"]);
    assert!(planned.ends(0).says("web  1.1.0 → 1.0.0").out.lines().count() == 2);
    sandbox.piton(&["rollback", "production", "--to", &first, "--component", "web"]).ends(0);
    assert_eq!(sandbox.status("production")["live"]["versions"], json!({ "store": "1.1.0", "web": "1.0.0" }));
    assert_eq!(sandbox.served("production"), "1.0.0");
    sandbox.piton(&["plan", "production"]).ends(0).says("web  stays at 1.0.0, 1.1.0 waits (in quarantine");
}

#[test]
fn a_rollback_needs_no_origin_and_is_pushed_when_it_is_back() {
    let sandbox = Sandbox::established(ONE);
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    let seen = sandbox.head("production");
    let away = sandbox.path("away.git");
    std::fs::rename(sandbox.origin(), &away).expect("it can be moved");

    sandbox.piton(&["promote", "production"]).ends(75);
    sandbox.piton(&["rollback", "production"]).ends(0).says("from the mirror").says("only here so far");
    assert_eq!(sandbox.served("production"), "1.0.0");
    let status = sandbox.status("production");
    assert_eq!((&status["mirror"], &status["live"]["versions"]["web"]), (&json!(true), &json!("1.0.0")));
    sandbox.piton(&["status", "--offline"]).ends(0).says("pages not pushed yet");

    std::fs::rename(&away, sandbox.origin()).expect("it can be moved");
    assert_eq!(sandbox.head("production"), seen, "nothing has reached it yet");
    sandbox.piton(&["status"]).ends(0);
    assert_ne!(sandbox.head("production"), seen);
    assert!(sandbox.deployed("production", "services/web.yaml").contains("version: 1.0.0"));
    assert_eq!(sandbox.status("production")["mirror"], json!(false));
    let fresh = sandbox.path("fresh");
    sandbox.git_in(sandbox.root(), &["clone", "--quiet", "origin.git", "fresh"]);
    let ran = sandbox.piton(&["-C", &fresh.display().to_string(), "status", "production"]).ends(0);
    assert!(ran.out.contains("web 1.1.0 in quarantine"), "{ran}");
}

#[test]
fn a_pin_holds_a_version_and_says_what_its_end_would_bring() {
    let sandbox = Sandbox::established(TWO);
    sandbox.piton(&["pin", "web=1.0.0", "--in", "production", "--reason", "x"]).ends(2);
    sandbox.piton(&["pin", "wbe=1.0.0", "--in", "production", "--forever", "--reason", "x"]).ends(2);
    sandbox.piton(&["pin", "web=1.0.0", "--in", "production", "--until", "2h", "--reason", " "]).ends(2);
    let reason = "kernels die";
    sandbox.piton(&["pin", "web=1.0.0", "--in", "production", "--until", "2h", "--reason", reason]).ends(0);
    sandbox.bump("web", "1.1.0");
    // Newer versions go on being tried in staging.
    sandbox.piton(&["promote", "staging"]).ends(0).says("web 1.0.0 → 1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0).says("pinned until").says(reason);
    assert_eq!(sandbox.served("production"), "1.0.0");
    sandbox.piton(&["status"]).ends(0).says("an unpin would bring 1.1.0").says("1.0.0 (pinned)");
    assert_eq!(sandbox.status("production")["pins"][0]["reason"], reason);
    sandbox.piton(&["unpin", "web", "--in", "production"]).ends(0);
    sandbox.piton(&["unpin", "web", "--in", "production"]).ends(2).complains("not pinned");
    sandbox.piton(&["plan", "production"]).ends(3).says("web 1.0.0 → 1.1.0");
    // A pin to what is not live brings it at once.
    let ran = sandbox.piton(&["pin", "web=1.1.0", "--in", "production", "--until", "2h", "--reason", "now"]);
    ran.ends(0).says("promoted");
    assert_eq!(sandbox.served("production"), "1.1.0");
}

#[test]
fn a_quarantine_keeps_a_version_out_until_it_is_ended() {
    let sandbox = Sandbox::established(ONE);
    sandbox.bump("web", "1.1.0");
    let words = ["quarantine", "web=1.1.0", "--in", "production", "--reason", "a bad feeling"];
    sandbox.piton(&words).ends(0);
    sandbox.piton(&["promote", "production"]).ends(0).says("a bad feeling");
    assert_eq!(sandbox.served("production"), "1.0.0");
    let ended = ["quarantine", "web=1.1.0", "--in", "production", "--end", "--reason", "it was the network"];
    sandbox.piton(&ended).ends(0);
    sandbox.piton(&ended).ends(2).complains("is not in quarantine");
    sandbox.piton(&["promote", "production"]).ends(0).says("web 1.0.0 → 1.1.0");
    let past = ["quarantine", "web=9", "--in", "production", "--until", "2020-01-01T00:00:00Z", "--reason", "x"];
    sandbox.piton(&past).ends(2).complains("would end before it begins");
}

#[test]
fn a_first_release_that_gets_sick_is_not_taken_from_its_users() {
    let sandbox = Sandbox::new(WATCHED);
    sandbox.bump("web", "1.1.0-late");
    sandbox.piton(&["promote", "production"]).ends(0);
    until("the watch to see it", || {
        sandbox.piton(&["tick"]).ends(0);
        sandbox.status("production")["waits"].to_string().contains("something to go back to").then_some(())
    });
    assert_eq!(sandbox.served("production"), "1.1.0-late");
    assert!(sandbox.deployed("production", "services/web.yaml").contains("version: 1.1.0-late"));
    sandbox.bump("web", "1.2.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_eq!(sandbox.served("production"), "1.2.0");
}

#[test]
fn what_happened_can_be_read_afterwards() {
    let sandbox = Sandbox::established(ONE);
    sandbox.bump("web", "1.1.0-bad");
    sandbox.piton(&["promote", "production"]).ends(1);
    let history = sandbox.piton(&["history", "production"]).ends(0);
    for text in ["web 1.0.0 → 1.1.0-bad", "rolled back", "promoted"] {
        assert!(history.out.contains(text), "no {text:?} in {history}");
    }
    sandbox.piton(&["history", "production", "-n", "1", "--json"]).ends(0).json();
    sandbox.piton(&["history", "prod"]).ends(2).complains("unknown environment `prod`");
    let shown = sandbox.piton(&["show", "production"]).ends(0);
    for text in ["web 1.0.0 → 1.1.0-bad", "work", "500"] {
        assert!(shown.out.contains(text), "no {text:?} in {shown}");
    }
    let svg = sandbox.path("gates.svg");
    sandbox.piton(&["show", "production", "1", "--svg", &svg.display().to_string()]).ends(0);
    assert!(std::fs::read_to_string(svg).expect("a picture").contains("</svg>"));
    sandbox.piton(&["show", "production", "9"]).ends(2).complains("no such promotion");
    sandbox.piton(&["show", "production", "--json"]).ends(0).json();
}

#[test]
fn an_edit_changes_one_value_or_nothing() {
    let sandbox = Sandbox::new(ONE);
    let before = sandbox.read("services/web.yaml");
    let file = "services/web.yaml";
    sandbox.piton(&["edit", file, "version", "2.0.0", "--from", "1.9.9"]).ends(2).complains("`1.0.0` stands there");
    sandbox.piton(&["edit", file, "verison", "2.0.0"]).ends(2).complains("the nearest is `version`");
    sandbox.piton(&["edit", "services/nothing.yaml", "version", "2.0.0"]).ends(2).complains("services/nothing.yaml");
    sandbox.piton(&["edit", file, "version", "2\n0"]).ends(2).complains("control character");
    assert_eq!(sandbox.read(file), before);
    let ran = sandbox.piton(&["edit", file, "version", "2.0.0", "--from", "1.0.0", "--json"]).ends(0);
    assert_eq!(ran.json()["from"], "1.0.0");
    assert_eq!(sandbox.read(file), before.replacen("1.0.0", "2.0.0", 1));
    assert_eq!(std::fs::read_dir(sandbox.deploy().join("services")).expect("a folder").count(), 2, "no draft is left");
}

#[test]
fn words_are_explained_and_completed() {
    let sandbox = Sandbox::empty();
    sandbox.piton(&["explain"]).ends(0).says("gate");
    sandbox.piton(&["explain", "gate", "http"]).ends(0).says("Example:");
    sandbox.piton(&["explain", "gate", "htpt"]).ends(2).complains("did you mean `http`?");
    sandbox.piton(&["explain", "gates", "--json"]).ends(0).json();
    for shell in ["bash", "zsh", "fish"] {
        sandbox.piton(&["completions", shell]).ends(0).says("rollback");
    }
    sandbox.piton(&["check", "--schema"]).ends(0).says("$schema");
    sandbox.piton(&["promote"]).ends(2).complains("<ENVIRONMENT>");
    sandbox.piton(&["--version"]).ends(0).says("piton ");
}
