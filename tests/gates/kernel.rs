use std::time::{Duration, Instant};

use piton::model::{Saw, Span};
use serde_json::{Value, json};

use super::{
    SECRET_VARIABLE, assert_bad, assert_blind, assert_good, gate,
    jupyter_world::{Mood, World},
    look, nobody, scene, secret,
};

fn through_hub() -> Value {
    json!({
        "hub": "${url}",
        "token": SECRET_VARIABLE,
        "hold": "20ms",
        "within": {"server": "15s", "handshake": "15s", "execute": "15s"},
    })
}

/// One look through the Hub; whatever it sees, no user and no server may be left.
async fn probe(mood: Mood, config: Value) -> Saw {
    let world = World::new(mood).await;
    let saw = look("kernel", config, &world.url, Span::minutes(1)).await;
    assert_eq!(world.users(), Vec::<String>::new(), "{mood:?} left users behind");
    assert!(!format!("{saw:?}").contains(&secret()), "{saw:?}");
    saw
}

#[tokio::test]
async fn a_good_world_is_good_in_both_forms() {
    for binary in [true, false] {
        let world = World::speaking(Mood::Good, binary).await;
        let saw = look("kernel", through_hub(), &world.url, Span::minutes(1)).await;
        assert_good(&saw, "`2`; handshake ");
        assert_good(&saw, " and ");
        assert_good(&saw, ", server ");
        assert_eq!((world.chosen(), world.kernels()), (vec![binary], 0));
    }
}

#[tokio::test]
async fn a_slow_spawn_is_waited_for() {
    assert_good(&probe(Mood::SlowSpawn, through_hub()).await, "`2`");
}

#[tokio::test]
async fn a_server_that_does_not_come_is_bad() {
    assert_bad(&probe(Mood::SpawnFails, through_hub()).await, "no server: its start failed");
    assert_bad(&probe(Mood::SpawnRefused, through_hub()).await, "the Hub answered 500: Error: ImagePullBackOff");
    let mut brief = through_hub();
    brief["within"]["server"] = json!("400ms");
    assert_bad(&probe(Mood::NeverReady, brief).await, "no server: not ready within 400ms");
}

#[tokio::test]
async fn a_kernel_that_dies_is_told_long_before_its_deadline() {
    for (mood, says) in [
        (Mood::KernelDiesAtOnce, "the kernel died: its server has forgotten it"),
        (Mood::Restarts, "the kernel died: it is `restarting`"),
        (Mood::ServerCloses, "the server closed the WebSocket"),
    ] {
        let mut config = through_hub();
        config["within"] = json!({"handshake": "50s", "execute": "50s"});
        let start = Instant::now();
        assert_bad(&probe(mood, config).await, says);
        assert!(start.elapsed() < Duration::from_secs(40), "{mood:?} took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_kernel_that_never_answers_is_bad_after_its_deadline() {
    let mut config = through_hub();
    config["within"]["handshake"] = json!("800ms");
    assert_bad(&probe(Mood::NoHandshake, config).await, "the kernel never answered: no WebSocket within 800ms");
}

#[tokio::test]
async fn idle_is_not_enough_and_neither_are_answers_to_others() {
    for mood in [Mood::NeverExecutes, Mood::StrayReplies] {
        let mut config = through_hub();
        config["within"]["execute"] = json!("500ms");
        let saw = probe(mood, config).await;
        assert_bad(
            &saw,
            "never executed: neither a reply nor a result within 500ms, although the kernel calls itself idle",
        );
    }
}

#[tokio::test]
async fn wrong_results_and_none_are_bad() {
    assert_bad(&probe(Mood::WrongResult, through_hub()).await, "the result is `3`, not `2`");
    assert_bad(&probe(Mood::NoResult, through_hub()).await, "gave no result, not `2`");
    let mut other = through_hub();
    other["expect"] = json!("'4'");
    assert_bad(&probe(Mood::Good, other).await, "the result is `2`, not `'4'`");
}

#[tokio::test]
async fn a_kernel_that_dies_after_the_first_execution_is_caught_by_the_second() {
    let mut config = through_hub();
    assert_bad(&probe(Mood::DiesLater, config.clone()).await, "`restarting`");
    config["hold"] = json!("0s");
    assert_good(&probe(Mood::DiesLater, config).await, "`2`");
}

#[tokio::test]
async fn a_refused_token_is_blind_and_a_hub_that_is_down_is_bad() {
    let mut config = through_hub();
    config["token"] = json!("CARGO_PKG_NAME");
    assert_blind(&probe(Mood::Good, config).await, "the Hub refuses our token (403): '_xsrf' argument missing");
    let saw = look("kernel", through_hub(), &nobody().await, Span::seconds(20)).await;
    assert_bad(&saw, "no user on the Hub: cannot connect");
    let mut config = through_hub();
    config["token"] = json!("PITON_NOT_SET");
    assert_blind(&probe(Mood::Good, config).await, "`PITON_NOT_SET` is not set");
}

#[tokio::test]
async fn a_single_server_is_used_as_it_is() {
    let world = World::new(Mood::Good).await;
    let config = json!({"server": world.server(), "token": SECRET_VARIABLE, "kernel": "python3", "hold": "10ms"});
    assert_good(&look("kernel", config, &world.url, Span::minutes(1)).await, "`2`");
    assert_eq!(world.kernels(), 0, "the kernel was left behind");
    let saw = look("kernel", json!({"server": world.server()}), &world.url, Span::minutes(1)).await;
    assert_blind(&saw, "no server: the server refuses our token");
}

#[tokio::test]
async fn the_whole_look_ends_with_its_time() {
    let world = World::new(Mood::NoHandshake).await;
    let saw = look("kernel", through_hub(), &world.url, Span(2_000)).await;
    assert_bad(&saw, "the kernel never answered");
    let mut users = world.watch_users();
    let gone = tokio::time::timeout(Duration::from_secs(20), users.wait_for(|users| users.is_empty())).await;
    assert!(gone.is_ok(), "users are left: {:?}", world.users());
}

/// The runner may stop caring in the middle, for a rollback; the server must not stay for it.
#[tokio::test]
async fn a_look_that_is_dropped_cleans_up_all_the_same() {
    let world = World::new(Mood::NeverReady).await;
    let (gate, scene) = (gate("kernel", &through_hub()), scene(&world.url, Span::minutes(1)));
    let mut users = world.watch_users();
    tokio::select! {
        saw = gate.look(&scene) => panic!("it cannot end: {saw:?}"),
        found = users.wait_for(|users| users.values().any(Option::is_some)) => drop(found.expect("the world is there")),
    }
    let gone = tokio::time::timeout(Duration::from_secs(20), users.wait_for(|users| users.is_empty())).await;
    assert!(gone.is_ok(), "users are left: {:?}", world.users());
}

/// A probe whose process was killed cannot clean up; the next one does, and touches nobody else.
#[tokio::test]
async fn what_killed_looks_left_behind_is_removed() {
    let others = ["ada", "piton-probe-0123abcd-x", "piton-probe-ada", "piton-probes-0123abcd"];
    let left = ["piton-probe-0123abcd", "piton-probe-89abcdef"];
    let world = World::new(Mood::Good).await.with_users(&others).with_users(&left);
    assert_good(&look("kernel", through_hub(), &world.url, Span::minutes(1)).await, "`2`");
    assert_eq!(world.users(), others);
}
