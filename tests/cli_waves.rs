//! Members that get a release one after the other, and the invariants of a federation.

mod support;

use support::Sandbox;

/// A federation of three: the prime member last, and never out of the rotation.
const FEDERATION: &str = r#"name: federation

components:
  binderhub: { file: chart.yaml, path: version }
  weight-bids: { file: config/prod.yaml, path: hosts.bids.weight, order: opaque }
  weight-gesis: { file: config/prod.yaml, path: hosts.gesis.weight, order: opaque }

environments:
  production:
    target:
      command:
        apply: [sh, -c, 'printf "%s %s\n" "$1" "$PITON_VERSION_BINDERHUB" >> "$PITON_STATE_DIR/deployed"', deploy, "${member}"]
        members: [bids, gesis, 2i2c]
    gates: { during: [{ command: { run: ["true"] }, every: 100ms, name: looks }] }
    waves:
      - { members: [bids], hold: 100ms }
      - { members: [gesis], hold: 100ms }
      - { members: [2i2c], hold: 100ms }
    invariants:
      prime-last: { last: [2i2c] }
      somebody-serves: { file: config/prod.yaml, path: "hosts[*].weight", all: { at_least: 0 }, sum: { above: 0 } }
      prime-serves: { file: config/prod.yaml, path: hosts.2i2c.weight, all: { above: 0 } }
    bake: 100ms
"#;

fn hosts(bids: &str, gesis: &str, prime: &str) -> String {
    format!("hosts:\n  bids: {{ weight: {bids} }}\n  gesis: {{ weight: {gesis} }}\n  2i2c: {{ weight: {prime} }}\n")
}

fn federation() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("pipelines/federation.yaml", FEDERATION);
    sandbox.write("chart.yaml", "version: 1.0.0\n");
    sandbox.write("config/prod.yaml", hosts("50", "50", "50"));
    sandbox.commit("the federation");
    sandbox.piton(&["promote", "production"]).ends(0);
    sandbox
}

/// Which member got which version, in that order.
fn deployed(sandbox: &Sandbox) -> Vec<String> {
    let text = std::fs::read_to_string(sandbox.state_dir().join("production/deployed")).expect("something is deployed");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn members_get_a_release_one_after_the_other_the_prime_one_last() {
    let sandbox = federation();
    sandbox.write("chart.yaml", "version: 1.1.0\n");
    sandbox.commit("binderhub 1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0).says("promoted");
    let all = deployed(&sandbox);
    assert_eq!(all[all.len() - 3..], ["bids 1.1.0", "gesis 1.1.0", "2i2c 1.1.0"], "{all:?}");
}

#[test]
fn a_release_that_breaks_an_invariant_is_refused_with_its_name_the_file_and_the_value() {
    let sandbox = federation();
    let before = (sandbox.head("production"), deployed(&sandbox));
    let refused = [
        (hosts("50", "50", "0"), "prime-serves", "`hosts.2i2c.weight` in config/prod.yaml is 0, and must be above 0"),
        (hosts("-1", "50", "50"), "somebody-serves", "`hosts.bids.weight` in config/prod.yaml is -1"),
    ];
    for (text, name, why) in refused {
        sandbox.write("config/prod.yaml", text);
        sandbox.commit("other weights");
        for words in
            [vec!["plan", "production"], vec!["promote", "production"], vec!["promote", "production", "--to", "main"]]
        {
            sandbox.piton(&words).ends(4).complains(&format!("invariant `{name}`")).complains(why);
        }
    }
    sandbox.piton(&["plan", "production", "--json"]).ends(4).reason("invariant");
    assert_eq!((sandbox.head("production"), deployed(&sandbox)), before, "nothing was begun");

    sandbox.write("config/prod.yaml", hosts("0", "50", "50"));
    sandbox.commit("a member out of the rotation");
    sandbox.piton(&["promote", "production"]).ends(0).says("weight-bids 50 → 0");
}

#[test]
fn waves_that_break_an_invariant_are_refused_by_check() {
    let sandbox = federation();
    sandbox.write("pipelines/federation.yaml", FEDERATION.replace("last: [2i2c]", "last: [bids]"));
    sandbox.piton(&["check"]).ends(2).complains("the waves break the invariant `prime-last`");
}
