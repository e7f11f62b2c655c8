//! Webhooks, metrics, and secrets that change in their files.

use std::{fs, io::Write, net::TcpStream};

use ring::hmac;

use crate::{
    support::until,
    world::{Controller, World, production},
};

/// Without a webhook nothing is found before the test is over.
const DEAF: [&str; 3] = ["--no-lease", "--poll", "1h"];

fn signature(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// GitHub's own form.
pub fn github(controller: &Controller, secret: &str, delivery: &str) -> (u16, String) {
    let body = br#"{"ref":"refs/heads/main"}"#;
    let signed = format!("sha256={}", signature(secret, body));
    let headers =
        [("x-hub-signature-256", signed.as_str()), ("x-github-delivery", delivery), ("x-github-event", "push")];
    controller.post("/hooks/shop", &headers, body)
}

#[test]
fn a_push_is_found_by_a_webhook_and_a_forged_one_is_refused() {
    let world = World::new(&production("100ms"));
    let controller = world.serve_with("a", &[("PITON_WEBHOOK_SECRET", "right-one")], &DEAF);
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0");
    for (secret, path) in [("wrong-one", "/hooks/shop"), ("right-one", "/hooks/nobody")] {
        let signed = format!("sha256={}", signature(secret, b"{}"));
        let refused = controller.post(path, &[("x-hub-signature-256", &signed)], b"{}");
        assert_eq!(refused, (401, String::new()), "no detail");
    }
    assert_eq!(controller.post("/hooks/shop", &[], b"{}"), (401, String::new()), "unsigned");
    let large = vec![b'x'; 5 * 1024 * 1024];
    let answer = controller.send("POST", "/hooks/shop", &[], &large);
    assert!(answer.is_err() || answer.is_ok_and(|(status, _)| status == 413), "it is not read to its end");
    assert!(!world.is_good("production", "1.1.0"), "nobody looked");
    assert_eq!(github(&controller, "right-one", "1").0, 202);
    world.until_promoted("production", "1.1.0");
    assert_eq!(github(&controller, "right-one", "1").0, 202, "sent again, it is taken and makes no work");
    until("the second promotion to be counted", || {
        let page = controller.ask("/metrics").1;
        page.contains("result=\"promoted\"} 2").then_some(())
    });
    check_metrics(&controller.ask("/metrics").1);
    let left = controller.leave().ends(0);
    assert!(!left.err.contains("right-one"), "{left}");
}

#[test]
fn senders_that_stop_in_the_middle_keep_nobody_out() {
    let world = World::new(&production("100ms"));
    let controller = world.serve_with("a", &[("PITON_WEBHOOK_SECRET", "right-one")], &DEAF);
    world.until_promoted("production", "1.0.0");
    let silent: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", controller.port)).expect("it listens");
            let head = b"POST /hooks/shop HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{";
            stream.write_all(head).expect("it reads");
            stream
        })
        .collect();
    assert_eq!(github(&controller, "right-one", "1").0, 202);
    drop(silent);
    controller.leave().ends(0);
}

/// Every line is of the form, and no label is one that grows without end.
fn check_metrics(page: &str) {
    assert!(page.ends_with("# EOF\n"), "{page}");
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        assert!(value.parse::<f64>().is_ok(), "no number: {line}");
        let labels = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let name = label.split('=').next().unwrap_or_default();
            let known = ["pipeline", "environment", "result", "operation", "repository", "le"];
            assert!(known.contains(&name), "the label `{name}`: {line}");
        }
    }
    for series in [
        "piton_promotions_total{pipeline=\"shop\",environment=\"production\",result=\"promoted\"} 2",
        "piton_webhooks_total{repository=\"shop\",result=\"accepted\"} 1",
        "piton_webhooks_total{repository=\"shop\",result=\"repeated\"} 1",
        "piton_webhooks_total{repository=\"shop\",result=\"refused\"} 2",
        "piton_leader 1",
        "piton_stuck{pipeline=\"shop\",environment=\"production\"} 0",
        "piton_git_duration_seconds_count{operation=\"push\"}",
        "process_resident_memory_bytes ",
    ] {
        assert!(page.contains(series), "no {series} in {page}");
    }
}

#[test]
fn a_secret_that_is_changed_in_its_file_counts_at_once() {
    let world = World::new(&production("100ms"));
    let (secrets, hook) = (world.sandbox.path("secrets"), world.sandbox.path("hook"));
    fs::create_dir(&secrets).expect("a folder");
    fs::write(&hook, "old-secret\n").expect("a file");
    fs::write(secrets.join("SHOP_TOKEN"), "expired-token").expect("a file");
    let text = world.sandbox.read("pipelines/shop.yaml");
    let gate = "command: { run: [sh, -c, 'echo $SHOP_TOKEN; case $SHOP_TOKEN in fresh*) ;; *) exit 1;; esac'], secrets: [SHOP_TOKEN] }";
    let start = text.find("command: { run: [sh, -c, 'case").expect("the gate");
    let end = start + text[start..].find('\n').expect("a line");
    world.sandbox.write("pipelines/shop.yaml", format!("{}{gate}{}", &text[..start], &text[end..]));
    world.sandbox.commit("a gate with a secret");
    let (secrets_dir, hook_file) = (secrets.display().to_string(), hook.display().to_string());
    let variables = [("PITON_SECRETS_DIR", secrets_dir.as_str()), ("PITON_WEBHOOK_SECRET_FILE", &hook_file)];
    let controller = world.serve_with("a", &variables, &DEAF);
    until("the gate to look with the old token", || {
        let page = controller.ask("/metrics").1;
        page.contains("piton_gate_looks_total{pipeline=\"shop\",environment=\"production\",result=\"bad\"}")
            .then_some(())
    });
    fs::write(secrets.join("SHOP_TOKEN"), "fresh-token\n").expect("a file");
    fs::write(&hook, "new-secret\nold-secret\n").expect("a file");
    assert_eq!(github(&controller, "new-secret", "1").0, 202);
    assert_eq!(github(&controller, "old-secret", "2").0, 202, "both count while it is being changed");
    fs::write(&hook, "new-secret\n").expect("a file");
    assert_eq!(github(&controller, "old-secret", "3").0, 401);
    world.push("1.1.0");
    assert_eq!(github(&controller, "new-secret", "4").0, 202);
    world.until_promoted("production", "1.1.0");
    let left = controller.leave().ends(0);
    let ledger = format!("{:?}", world.events("production"));
    for secret in ["old-secret", "new-secret", "fresh-token", "expired-token"] {
        assert!(!left.err.contains(secret) && !left.out.contains(secret), "{secret} in {left}");
        assert!(!ledger.contains(secret), "{secret} in the ledger");
    }
}
