//! Services that misbehave, and ports that are taken.

mod support;

use std::{net::TcpListener, process::Command};

use support::{Sandbox, pipeline, until};

const ENVIRONMENTS: &str = "
  production:
    gates: { during: [front, work] }
    bake: 300ms
    deploy: { tries: 1 }
    rollback: { pause: 100ms }
";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_pipeline(&pipeline(ENVIRONMENTS).replace("within: 30s", "within: 3s"));
    sandbox.establish();
    sandbox
}

/// A release with this version of `web` goes back, users never see it, and nothing of it is left.
fn goes_back(version: &str, because: &str) {
    let sandbox = sandbox();
    sandbox.bump("web", version);
    let ran = sandbox.piton(&["promote", "production"]).ends(1);
    assert!(ran.out.contains(because), "no {because:?} in {ran}");
    assert_eq!(sandbox.served("production"), "1.0.0");
    until("the bad release to be gone", || {
        let report = sandbox.report("production").expect("a supervisor runs");
        (report.releases.len() == 1).then_some(())
    });
    sandbox.piton(&["promote", "production"]).ends(0).says("in quarantine");
}

#[test]
fn a_service_that_crashes_at_its_start() {
    goes_back("1.1.0-crash", "no such table: users");
}

#[test]
fn a_service_that_never_listens() {
    goes_back("1.1.0-mute", "deploy failed");
}

#[test]
fn a_service_that_listens_and_hangs() {
    goes_back("1.1.0-hang", "deploy failed");
}

#[test]
fn a_service_that_dies_every_three_seconds_does_not_pass_its_bake() {
    let sandbox = sandbox();
    // Three deaths within the bake, each of them seen by some look or by the restarts running out.
    let text = sandbox
        .read("pipelines/sandbox.yaml")
        .replace("bake: 300ms", "bake: 14s")
        .replace("stop: 1s", "stop: 1s\n          restarts: 2");
    sandbox.write("pipelines/sandbox.yaml", text);
    sandbox.bump("web", "1.1.0-mortal");
    sandbox.piton(&["promote", "production"]).ends(1);
    assert_eq!(sandbox.served("production"), "1.0.0");
}

#[test]
fn a_service_that_ignores_sigterm_and_forks_leaves_nothing() {
    let sandbox = sandbox();
    for version in ["1.1.0-stubborn", "1.1.0-forking", "1.2.0"] {
        sandbox.bump("web", version);
        sandbox.piton(&["promote", "production"]).ends(0);
        assert_eq!(sandbox.served("production"), version);
    }
    until("children of the forking release to be gone", || {
        let idle = sandbox.processes().into_iter().filter(|(_, words)| words.contains("--idle")).count();
        (idle == 0).then_some(())
    });
}

#[test]
fn the_users_port_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it listens").port();
    let text = pipeline(ENVIRONMENTS).replace("      drain: 1s", &format!("      port: {port}\n      drain: 1s"));
    let sandbox = Sandbox::with_pipeline(&text);
    let ran = sandbox.piton(&["promote", "production"]).ends(75);
    assert!(ran.out.contains(&port.to_string()), "which port: {ran}");
    drop(taken);
    // The release is innocent: nothing keeps it out.
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_eq!(sandbox.served("production"), "1.0.0");
}

#[test]
fn a_supervisor_that_is_killed_is_replaced_and_its_services_are_not_doubled() {
    let sandbox = sandbox();
    let supervisor = |sandbox: &Sandbox| {
        let processes = sandbox.processes().into_iter();
        processes.filter(|(_, words)| words.contains("supervise")).map(|(pid, _)| pid).collect::<Vec<_>>()
    };
    let [pid] = supervisor(&sandbox)[..] else { panic!("one supervisor: {:?}", sandbox.processes()) };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it runs");
    sandbox.bump("web", "1.1.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_eq!(sandbox.served("production"), "1.1.0");
    until("one instance of each service", || {
        let services = sandbox.processes().into_iter().filter(|(_, words)| words.contains(" sample ")).count();
        (services == 2).then_some(())
    });
}

const COMMANDS: &str = r#"name: sandbox
components:
  web: { file: services/web.yaml, path: version }
environments:
  production:
    target:
      command:
        apply: [sh, -c, 'case $PITON_VERSION_WEB in *-bad) echo "no quota left" >&2; exit 1;; *-hang) sleep 1000 & wait;; esac; echo "$PITON_TREE 100%" > "$PITON_STATE_DIR/live"']
        live: [sh, -c, 'cat "$PITON_STATE_DIR/live" 2>/dev/null || true']
        timeout: 2s
    gates: { after: [{ command: { run: [sh, -c, 'test -n "$PITON_RELEASE"'] }, every: 100ms }] }
    deploy: { tries: 1 }
    bake: 0s
"#;

#[test]
fn commands_that_fail_and_hang_are_gone_back_from() {
    let sandbox = Sandbox::with_pipeline(COMMANDS);
    let live = || {
        let found = Command::new("find").arg(sandbox.state_dir()).args(["-name", "live"]).output().expect("find");
        let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"))
    };
    let deployed = || {
        let tree = sandbox.git_in(&sandbox.origin(), &["rev-parse", "piton/production^{tree}"]);
        format!("{tree} 100%\n")
    };
    sandbox.piton(&["promote", "production"]).ends(0);
    let first = deployed();
    assert_eq!(live(), first);
    for (version, because) in [("1.1.0-bad", "no quota left"), ("1.1.0-hang", "2s")] {
        sandbox.bump("web", version);
        sandbox.piton(&["promote", "production"]).ends(1).says(because);
        assert_eq!((live(), deployed()), (first.clone(), first.clone()));
        assert_eq!(sandbox.processes(), []);
    }
    sandbox.bump("web", "1.2.0");
    sandbox.piton(&["promote", "production"]).ends(0);
    assert_ne!(live(), first);
    sandbox.piton(&["rollback", "production"]).ends(0);
    assert_eq!((live(), deployed()), (first.clone(), first));
}
