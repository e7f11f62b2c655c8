use std::process::{Command, Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use piton::targets::process;
use serde_json::json;

use crate::world::*;

async fn supervisor_pid(world: &World) -> i32 {
    i32::try_from(world.report().await.pid).expect("a pid fits")
}

#[tokio::test]
async fn a_killed_supervisor_is_replaced_and_nothing_is_lost_or_doubled() {
    let world = World::new();
    let target = world.target(web_config(json!({ "services": { "web": { "instances": 2 } } })));
    let (old, new) = (world.web("1.0.0"), world.web("1.1.0"));
    establish(&target, &old).await;
    apply(&target, &new).await.expect("it applies");
    shift(&target, &new, "50%").await.expect("it shifts");
    let (before, pid) = (live(&target).await, supervisor_pid(&world).await);
    let mut processes = world.processes();
    processes.sort_unstable();
    assert_eq!(processes.len(), 4);

    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
    eventually("the supervisor to be gone", || async { (!is_running(pid)).then_some(()) }).await;
    // One instance dies while nobody watches.
    kill(Pid::from_raw(processes[0]), Signal::SIGKILL).expect("it runs");

    let after = eventually("a new supervisor with everything up", || async {
        let after = live(&target).await;
        let report = world.report().await;
        (report.instances.len() == 4 && report.instances.iter().all(|i| i.condition == "ready")).then_some(after)
    })
    .await;
    assert_ne!(supervisor_pid(&world).await, pid);
    assert_eq!(after.releases, before.releases);
    assert_eq!(after.facts["url"], before.facts["url"]);
    let now = world.processes();
    assert_eq!(now.len(), 4, "none twice");
    assert!(processes[1..].iter().all(|pid| now.contains(pid)), "those that ran run on");
    assert_eq!(get(&url(&target).await).await.status, 200);
    retreat(&target, &new, Some(&old)).await.expect("it goes back");
}

#[tokio::test]
async fn what_was_being_taken_down_does_not_survive_a_kill() {
    let world = World::new();
    let target = world.target(web_config(json!({ "services": { "web": { "stop": "60s" } } })));
    let (good, stubborn) = (world.web("1.0.0"), world.web("stubborn"));
    establish(&target, &good).await;
    apply(&target, &stubborn).await.expect("it applies");
    retreat(&target, &stubborn, Some(&good)).await.expect("it goes back");
    assert_eq!(world.processes().len(), 2, "it has a minute to end");
    let pid = supervisor_pid(&world).await;
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
    eventually("the supervisor to be gone", || async { (!is_running(pid)).then_some(()) }).await;
    live(&target).await;
    assert_eq!(world.processes().len(), 1);
}

#[tokio::test]
async fn there_is_one_supervisor_for_each_folder() {
    let world = World::new();
    let target = world.target(web_config(json!({})));
    apply(&target, &world.web("1.0.0")).await.expect("it applies");
    let second = Command::new(env!("CARGO_BIN_EXE_piton"))
        .args(["supervise", "--state"])
        .arg(world.state_dir())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(second.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another supervisor runs for"), "{second:?}");
    assert_eq!(world.processes().len(), 1);
}

#[tokio::test]
async fn two_runners_at_once_start_one_supervisor_and_one_release() {
    let world = World::new();
    let (one, two) = (world.target(web_config(json!({}))), world.target(web_config(json!({}))));
    let release = world.web("1.0.0");
    let (first, second) = tokio::join!(apply(&one, &release), apply(&two, &release));
    first.expect("it applies");
    second.expect("it applies");
    assert_eq!(world.processes().len(), 1);
    assert_eq!(world.trees.checkouts.lock().expect("no panic")[&release.tree], 1);
}

#[tokio::test]
async fn sigterm_and_shutdown_leave_nothing() {
    let world = World::new();
    let target = world.target(web_config(json!({ "services": { "web": { "stop": "300ms" } } })));
    let release = world.web("forking");
    for round in 0..3 {
        establish(&target, &release).await;
        let pid = supervisor_pid(&world).await;
        match round {
            0 => kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs"),
            1 => kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs"),
            _ => process::shutdown(&world.state_dir(), false).await.expect("it ends"),
        }
        eventually("the supervisor to be gone", || async { (!is_running(pid)).then_some(()) }).await;
        assert_eq!(world.processes(), Vec::<i32>::new());
        assert!(live(&target).await.releases.is_empty());
        assert!(
            process::report(&world.state_dir()).await.expect("it can be asked").is_none(),
            "looking starts nothing"
        );
    }
}

#[tokio::test]
async fn a_state_folder_with_a_very_long_name_works() {
    let mut world = World::new();
    let long = world.dir.path().join("x".repeat(120)).join("y".repeat(120));
    std::fs::create_dir_all(&long).expect("room");
    world.dir = tempfile::tempdir_in(long).expect("a folder");
    let target = world.target(web_config(json!({})));
    establish(&target, &world.web("1.0.0")).await;
    assert_eq!(get(&url(&target).await).await.status, 200);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let world = World::new();
    std::fs::write(world.state_dir(), "a file").expect("room");
    let target = world.target(web_config(json!({})));
    let error = apply(&target, &world.web("1.0.0")).await.expect_err("it is a file").to_string();
    assert!(error.starts_with("cannot make ") && error.contains("state"), "{error}");
    std::fs::remove_file(world.state_dir()).expect("it is there");
}

#[tokio::test]
async fn a_disk_that_takes_nothing_stops_a_deploy_but_no_rollback() {
    let world = World::new();
    let target = world.target(web_config(json!({})));
    let (old, new) = (world.web("1.0.0"), world.web("1.1.0"));
    establish(&target, &old).await;
    apply(&target, &new).await.expect("it applies");
    shift(&target, &new, "100%").await.expect("it shifts");
    // The record cannot be written beside itself any more.
    std::fs::create_dir(world.state_dir().join("supervisor.new")).expect("room");
    let error = apply(&target, &new).await.expect_err("nothing can be written down").to_string();
    assert!(error.starts_with("cannot write down what runs in "), "{error}");
    retreat(&target, &new, Some(&old)).await.expect("it goes back");
    assert!(get(&url(&target).await).await.text().contains("web 1.0.0"));
}
