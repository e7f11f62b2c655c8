use piton::{
    model::{GateName, Limits, Portion, Share, Span},
    pipeline::{Node, Pace, Pipeline, Source, examples, parse, schema},
};
use serde::Deserialize;
use serde_json::Value;

use crate::kinds;

const SMALL: &str = "
components:
  web: { file: versions.yaml, path: web.version }
environments:
  staging:
    target: { process: }
";

fn parsed(text: &str) -> Pipeline {
    parse("small.yaml", text.as_bytes(), &kinds::ALL).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn refused(text: &str) -> String {
    parse("small.yaml", text.as_bytes(), &kinds::ALL).expect_err("it was accepted").to_string()
}

#[test]
fn defaults_are_filled_in() {
    let pipeline = parsed(SMALL);
    assert_eq!((pipeline.name.as_str(), pipeline.prefix.as_str()), ("small", "piton"));
    assert_eq!(pipeline.source, Source { branch: "main".to_owned(), remote: "origin".to_owned() });
    let staging = &pipeline.environments[0];
    assert_eq!((staging.pace, staging.bake, staging.watch.time), (Pace::Bump, Span::minutes(10), Span(0)));
    assert_eq!(staging.canary, [(Portion::ALL, Span(0))]);
    assert_eq!(staging.limits, Limits::default());
}

#[test]
fn gates_get_names_and_watch_takes_those_that_look() {
    let text = "
components: { web: { file: a.yaml, path: b } }
gates: { shared: { http: { url: a }, every: 20s } }
environments:
  production:
    after: staging
    target: { process: }
    gates:
      before: [ { approval: { people: 1 } } ]
      during: [ { http: { url: b } }, shared ]
      after: [ { http: { url: c }, on_fail: ask }, { http: { url: d }, name: http-2 } ]
    canary: [10%, { share: 50%, hold: 1m }, 100%]
    hold: 30s
    watch: 6h
    quarantine: forever
  staging: { target: { process: } }
";
    let pipeline = parsed(text);
    let names: Vec<&str> = pipeline.environments.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["staging", "production"]);
    let production = &pipeline.environments[1];
    let text = |names: &[GateName]| names.iter().map(GateName::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(text(&production.before), "approval");
    assert_eq!(text(&production.during), "http shared");
    assert_eq!(text(&production.proof), "http-3 http-2");
    assert_eq!(text(&production.watch.gates), "http shared http-3 http-2");
    assert_eq!(production.gates.len(), 5);
    let share = |text: &str| Portion::Share(text.parse::<Share>().expect("a share"));
    let steps =
        [(share("10%"), Span::seconds(30)), (share("50%"), Span::minutes(1)), (share("100%"), Span::seconds(30))];
    assert_eq!(production.canary, steps);
    assert_eq!(production.limits.quarantine, None);
}

#[test]
fn waves_end_with_everyone() {
    let text = "
components: { web: { file: a.yaml, path: b } }
environments:
  staging:
    target: { command: { apply: [x], members: [a, b, c] } }
    gates: { during: [ { http: { url: b } } ] }
    waves: [ { members: [a], hold: 1h }, { members: [b, c] } ]
    deadline: 4h
";
    let canary = &parsed(text).environments[0].canary;
    assert_eq!(canary[0], (Portion::Members(vec!["a".to_owned()]), Span::hours(1)));
    assert_eq!(canary[1], (Portion::ALL, Span::minutes(5)));
}

#[test]
fn text_stays_as_it_was_written() {
    #[derive(Deserialize)]
    struct Texts(Vec<String>);
    let written = "1.20 0755 12e3456 yes 1_000 0x1f true .5 2026-01-31 1:30 no +5 NaN";
    let list = format!("[{}]", written.replace(' ', ", "));
    let node = Node::parse("x", &list).expect("it is a list");
    let Texts(read) = node.read().expect("all are text");
    assert_eq!(read.join(" "), written);
}

#[test]
fn numbers_and_booleans_are_strict() {
    let read = |text: &str| Node::parse("x", text).expect("it is YAML");
    assert_eq!(read("true").read::<bool>(), Ok(true));
    assert_eq!(read("42").read::<u8>(), Ok(42));
    assert_eq!(read("-1.5").read::<f64>(), Ok(-1.5));
    assert_eq!(read("~").read::<Option<u8>>(), Ok(None));
    for (text, why) in [
        ("yes", "expected `true` or `false`, found the text \"yes\""),
        ("'true'", "expected `true` or `false`, found the text \"true\""),
        ("True", "expected `true` or `false`, found the text \"True\""),
    ] {
        assert_eq!(read(text).read::<bool>().expect_err(text).why, why);
    }
    for (text, why) in [
        ("0755", "expected a whole number, found the number `0755`"),
        ("300", "expected a whole number in a smaller range, found the number `300`"),
        ("'5'", "expected a whole number, found the text \"5\""),
        ("1.0", "expected a whole number, found the number `1.0`"),
    ] {
        assert_eq!(read(text).read::<u8>().expect_err(text).why, why);
    }
}

#[test]
fn untyped_values_keep_versions_whole() {
    let node = Node::parse("x", "[1.20, 1.5, 7, 007, true, ~, 'x', {a: [1]}]").expect("it is YAML");
    let value: Value = node.read().expect("anything is a value");
    assert_eq!(value, serde_json::json!(["1.20", 1.5, 7, "007", true, null, "x", { "a": [1] }]));
}

#[test]
fn a_kind_reads_its_configuration_with_exact_places() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its faults are of interest")]
    struct Config {
        port: u16,
        mode: Mode,
    }
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its faults are of interest")]
    enum Mode {
        Fast,
        Slow { by: u8 },
    }
    let fault = |text: &str| {
        let node = Node::parse("x", text).expect("it is YAML");
        let fault = node.read::<Config>().expect_err(text);
        (text[fault.span.clone().expect("a place")].to_owned(), fault.to_string())
    };
    assert_eq!(
        fault("{ prot: 1, mode: fast }"),
        ("prot".to_owned(), "unknown key `prot`; did you mean `port`? known keys: `port`, `mode`".to_owned())
    );
    assert_eq!(
        fault("{ port: 70000, mode: fast }"),
        ("70000".to_owned(), "expected a whole number in a smaller range, found the number `70000`".to_owned())
    );
    assert_eq!(
        fault("{ port: 1, mode: fats }"),
        ("fats".to_owned(), "unknown word `fats`; did you mean `fast`? known words: `fast`, `slow`".to_owned())
    );
    assert_eq!(fault("{ port: 1, mode: { slow: { by: x } } }").0, "x");
    assert_eq!(
        fault("{ port: 1, mode: slow }"),
        ("slow".to_owned(), "`slow` needs a value; write it as `slow: …`".to_owned())
    );
    assert_eq!(fault("{ port: 1 }").1, "the key `mode` is missing");
}

#[test]
fn a_secret_is_refused_and_not_repeated() {
    let text = format!("{SMALL}    notify: [ {{ webhook: {{ url: x, token: hunter2-in-clear }} }} ]\n");
    let refusal = refused(&text);
    assert!(refusal.contains("a secret must not stand"), "{refusal}");
    assert!(!refusal.contains("hunter2"), "{refusal}");
}

#[test]
fn all_faults_are_told_at_once() {
    let text = "
name: ../x
compnents: {}
components: { web: { file: ../a, path: b, ordr: semver }, 'a b': { file: a } }
environments: { staging: { target: { proces: }, bake: 10, canary: [50%, 10%] } }
";
    let refusal = parse("x.yaml", text.as_bytes(), &kinds::ALL).expect_err("it was accepted");
    assert!(refusal.faults.len() >= 9, "{refusal}");
}

#[test]
fn bombs_and_depth_are_refused() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (to, from) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        bomb += &format!("{to}: &{to} [*{from}, *{from}, *{from}, *{from}, *{from}, *{from}, *{from}, *{from}]\n");
    }
    assert!(refused(&bomb).contains("aliases included"));
    for open in ["[", "{a: ", "- "] {
        assert!(refused(&open.repeat(100_000)).contains("error"), "{open}");
    }
    assert!(refused("a: &a [*a]\n").contains("this alias stands inside what it refers to"));
}

#[test]
fn every_example_can_be_parsed() {
    for (name, text) in examples(&kinds::ALL) {
        if let Err(refusal) = parse("example.yaml", text.as_bytes(), &kinds::ALL) {
            panic!("{name}\n{refusal}\n{text}");
        }
    }
}

#[test]
fn pieces_for_aliases_stand_under_keys_of_their_own() {
    let text = format!("x-command: &run {{ command: [a, b] }}\n{}", SMALL.replace("process:", "process: *run"));
    assert_eq!(parsed(&text).environments[0].target.with["command"], serde_json::json!(["a", "b"]));
}

#[test]
fn the_schema_knows_every_key_and_kind() {
    let schema = schema(&kinds::ALL);
    let has =
        |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not in {schema:#}")).clone();
    assert_eq!(has("/$schema"), "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(has("/additionalProperties"), false);
    assert_eq!(has("/required"), serde_json::json!(["components", "environments"]));
    has("/$defs/AnyGate/properties/http/description");
    has("/$defs/AnyGate/properties/on_fail");
    has("/$defs/AnyTarget/properties/process");
    has("/$defs/Environment/properties/canary");
    assert_eq!(has("/$defs/Environment/properties/target/anyOf/0/$ref"), "#/$defs/AnyTarget");
    for key in [
        "after",
        "target",
        "pace",
        "gates",
        "waves",
        "invariants",
        "hold",
        "bake",
        "watch",
        "deadline",
        "notify",
        "deploy",
        "rollback",
    ] {
        has(&format!("/$defs/Environment/properties/{key}"));
    }
}

#[test]
fn an_explicit_nothing_takes_a_default_away() {
    let with = |own: &str| {
        let text = format!(
            "{SMALL}{own}defaults:\n  gates: {{ during: [{{ http: {{ url: a }} }}] }}\n  canary: [10%, 100%]\n"
        );
        parsed(&text).environments[0].canary.len()
    };
    assert_eq!((with(""), with("    canary:\n"), with("    canary: ~\n")), (2, 2, 1));
}
