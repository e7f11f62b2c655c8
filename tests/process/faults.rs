use piton::targets::{Target, TargetError};
use serde_json::json;

use crate::world::*;

/// The sentence with which a release of this version is refused.
async fn refused(version: &str, ready_within: &str) -> String {
    let world = World::new();
    let target = world.target(web_config(json!({ "services": { "web": { "ready": { "within": ready_within } } } })));
    let good = world.web("1.0.0");
    establish(&target, &good).await;
    let error = apply(&target, &world.web(version)).await.expect_err("it is bad");
    let TargetError::Release(sentence) = &error else { panic!("the release is to blame: {error}") };
    // Users notice nothing, and nothing of the bad one stays.
    assert_eq!(get(&url(&target).await).await.status, 200);
    assert_eq!(live(&target).await.releases.len(), 1);
    eventually("the bad one to be gone", || async { (world.processes().len() == 1).then_some(()) }).await;
    sentence.clone()
}

#[tokio::test]
async fn a_service_that_crashes_at_start() {
    let sentence = refused("crash", "30s").await;
    assert!(sentence.contains("`web` instance 0 never became ready: exited with 1, 3 times"), "{sentence}");
    assert!(sentence.contains("its log ends with: ") && sentence.contains("no such table: users"), "{sentence}");
}

#[tokio::test]
async fn a_service_that_never_listens() {
    let sentence = refused("mute", "2s").await;
    assert!(sentence.contains("`web` instance 0 was not ready within 2s: it does not listen on port"), "{sentence}");
}

#[tokio::test]
async fn a_service_that_listens_and_hangs() {
    let sentence = refused("hang", "2s").await;
    assert!(sentence.contains("but did not answer GET /ready within"), "{sentence}");
}

#[tokio::test]
async fn a_program_that_is_not_there() {
    let world = World::new();
    let target = world.target(web_config(json!({ "services": { "web": { "run": ["./bin/nothing"] } } })));
    let error = apply(&target, &world.web("1.0.0")).await.expect_err("there is no such program").to_string();
    assert!(error.contains("could not start `./bin/nothing`: No such file"), "{error}");
}

#[tokio::test]
async fn a_service_that_dies_again_and_again() {
    let world = World::new();
    let target = world.target(web_config(json!({ "services": { "web": { "restarts": 2 } } })));
    let mortal = world.web("mortal");
    apply(&target, &mortal).await.expect("it lives for a moment");
    let trouble =
        eventually("the crash to be told", || async { live(&target).await.facts.get("trouble").cloned() }).await;
    assert!(trouble.contains("`web` instance 0 crashed: it ended 3 times within a minute"), "{trouble}");
    assert!(trouble.contains("the pool of workers is gone"), "{trouble}");
    assert!(live(&target).await.releases.is_empty(), "it is not up");
    let error = shift(&target, &mortal, "10%").await.expect_err("no users on a crashed release").to_string();
    assert!(error.contains("crashed"), "{error}");
}

#[tokio::test]
async fn a_service_that_ignores_sigterm() {
    let world = World::new();
    let target = world.target(web_config(json!({ "services": { "web": { "stop": "300ms" } } })));
    let (stubborn, next) = (world.web("stubborn"), world.web("1.0.0"));
    establish(&target, &stubborn).await;
    apply(&target, &next).await.expect("it applies");
    shift(&target, &next, "100%").await.expect("it shifts");
    let note = settle(&target, Some(&next)).await.expect("it settles").note;
    assert!(note.contains("`web` instance 0 ignored SIGTERM for 300ms and was killed"), "{note}");
    assert_eq!(world.processes().len(), 1);
}

#[tokio::test]
async fn a_service_that_forks() {
    let world = World::new();
    let target = world.target(web_config(json!({ "services": { "web": { "stop": "300ms" } } })));
    let release = world.web("forking");
    establish(&target, &release).await;
    assert_eq!(world.processes().len(), 5);
    settle(&target, None).await.expect("it settles");
    assert_eq!(world.processes(), Vec::<i32>::new(), "also those that left the process group");
    assert_eq!(get(&url(&target).await).await.status, 503);
}

#[tokio::test]
async fn a_port_that_is_taken() {
    let world = World::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let target = world.target(web_config(json!({ "port": port })));
    let error = apply(&target, &world.web("1.0.0")).await.expect_err("it is taken");
    assert!(matches!(error, TargetError::World { .. }), "{error}");
    assert_eq!(error.to_string(), format!("port {port} of environment `production` is taken by another program"));
    drop(taken);
    apply(&target, &world.web("1.0.0")).await.expect("it is free");
    assert_eq!(url(&target).await, format!("http://127.0.0.1:{port}"));
}

#[tokio::test]
async fn a_build_runs_once_and_its_failure_is_quoted() {
    let world = World::new();
    let build = json!(["sh", "-c", "echo built >> ../count; printf 'bad \\377 byte\\n'; test ! -e broken"]);
    let target = world.target(web_config(json!({ "build": build })));
    let web = "name: web\nversion: 1\n";
    let (good, bad) = (world.release(&[("web.yaml", web)]), world.release(&[("web.yaml", web), ("broken", "")]));
    establish(&target, &good).await;
    let error = apply(&target, &bad).await.expect_err("it does not build");
    assert!(matches!(error, TargetError::Release(_)), "{error}");
    assert!(error.to_string().contains("exited with 1") && error.to_string().contains("bad \u{fffd} byte"), "{error}");
    settle(&target, None).await.expect("it settles");
    // Going back needs no checkout and no build.
    retreat(&target, &bad, Some(&good)).await.expect("it goes back");
    let count = std::fs::read_to_string(world.state_dir().join("releases/count")).expect("it was built");
    assert_eq!(count.lines().count(), 2, "once for each tree");
    assert_eq!(world.trees.checkouts.lock().expect("no panic")[&good.tree], 1);
    assert_eq!(get(&url(&target).await).await.status, 200);
}

#[tokio::test]
async fn a_missing_secret_is_named() {
    let world = World::new();
    let target = world.target(web_config(json!({ "services": { "web": { "secrets": ["PITON_TEST_NOT_SET"] } } })));
    let error = apply(&target, &world.web("1.0.0")).await.expect_err("it is not set").to_string();
    assert_eq!(error, "service `web` needs the environment variable `PITON_TEST_NOT_SET`, which is not set here");
}

#[tokio::test]
async fn an_older_fence_is_refused() {
    use piton::targets::Act;
    let world = World::new();
    let target = world.target(web_config(json!({})));
    let release = world.web("1.0.0");
    let apply = Act::Apply { release: release.clone() };
    target.perform(&apply, 7).await.expect("the first");
    for act in [apply, Act::Settle { keep: None }, Act::Retreat { from: release.clone(), to: None }] {
        let error = target.perform(&act, 6).await.expect_err("it is older");
        assert!(matches!(error, TargetError::Fenced { ours: 6, seen: 7 }), "{error}");
    }
    assert_eq!(live(&target).await.releases.len(), 1, "nothing was done");
}

#[tokio::test]
async fn a_rollback_does_not_wait_for_an_apply() {
    use piton::targets::Act;
    let world = World::new();
    let target = std::sync::Arc::new(world.target(web_config(json!({}))));
    let (good, mute) = (world.web("1.0.0"), world.web("mute"));
    establish(&*target, &good).await;
    let applying = tokio::spawn({
        let (target, act) = (target.clone(), Act::Apply { release: mute.clone() });
        async move { target.perform(&act, 1).await }
    });
    eventually("the bad one to start", || async { (world.processes().len() == 2).then_some(()) }).await;
    retreat(&*target, &mute, Some(&good)).await.expect("it goes back");
    let error = within(applying).await.expect("no panic").expect_err("overtaken").to_string();
    assert!(error.contains("overtaken"), "{error}");
    eventually("the bad one to be gone", || async { (world.processes().len() == 1).then_some(()) }).await;
}

#[tokio::test]
async fn a_release_comes_back_while_it_is_still_being_taken_down() {
    let world = World::new();
    let target = world.target(web_config(json!({ "services": { "web": { "stop": "2s" } } })));
    let (good, stubborn) = (world.web("1.0.0"), world.web("stubborn"));
    establish(&target, &good).await;
    apply(&target, &stubborn).await.expect("it applies");
    retreat(&target, &stubborn, Some(&good)).await.expect("it goes back");
    apply(&target, &stubborn).await.expect("it applies again");
    shift(&target, &stubborn, "100%").await.expect("it shifts");
    eventually("the old ones to be gone", || async { (world.processes().len() == 2).then_some(()) }).await;
    assert!(get(&url(&target).await).await.text().contains("web stubborn"));
}

#[tokio::test]
async fn old_checkouts_go_and_those_in_use_stay() {
    let world = World::new();
    let target = world.target(web_config(json!({ "keep": 1 })));
    for version in ["1", "2", "3", "4"] {
        establish(&target, &world.web(version)).await;
    }
    let checkouts = std::fs::read_dir(world.state_dir().join("releases")).expect("a folder").flatten();
    let folders: Vec<_> = checkouts.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    assert_eq!(folders.len(), 2, "one that runs and one that is kept: {folders:?}");
    assert!(get(&url(&target).await).await.text().contains("web 4"));
}

#[tokio::test]
async fn a_secret_reaches_the_service_and_nothing_else() {
    let world = World::new();
    // A variable that is set everywhere plays the secret.
    let secret = std::env::var("PATH").expect("it is set");
    let web = json!({ "run": ["sh", "-c", "echo the path is $PATH; exit 1"], "secrets": ["PATH"] });
    let target = world.target(json!({ "services": { "web": web } }));
    let error = apply(&target, &world.web("1.0.0")).await.expect_err("it exits").to_string();
    assert!(error.contains("its log ends with: the path is •••") && !error.contains(&secret), "{error}");
    for name in ["supervisor.json", "supervisor.log"] {
        let text = std::fs::read_to_string(world.state_dir().join(name)).expect("it is there");
        assert!(!text.contains(&secret), "{name}");
    }
}

#[tokio::test]
async fn a_rollback_overtakes_also_what_waits_for_its_turn() {
    use piton::targets::Act;
    let world = World::new();
    let target = std::sync::Arc::new(world.target(web_config(json!({}))));
    let (good, mute) = (world.web("1.0.0"), world.web("mute"));
    establish(&*target, &good).await;
    let applying: Vec<_> = (0..3)
        .map(|_| {
            let (target, act) = (target.clone(), Act::Apply { release: mute.clone() });
            tokio::spawn(async move { target.perform(&act, 1).await })
        })
        .collect();
    eventually("the bad one to start", || async { (world.processes().len() == 2).then_some(()) }).await;
    let began = std::time::Instant::now();
    retreat(&*target, &mute, Some(&good)).await.expect("it goes back");
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "none of the three was waited for");
    settle(&*target, Some(&good)).await.expect("it settles");
    for apply in applying {
        // One that came after the rollback may still be waiting for readiness; the end of the world ends it.
        apply.abort();
    }
}
