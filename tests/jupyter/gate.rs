use piton::model::Saw;
use serde_json::json;

use super::world::{World, kernel_gate};

/// The page of a server loads with both versions of ipython, and the kernel calls itself idle; with 9.16.0 nothing
/// ever executes. Only the kernel gate sees it, and it cleans up after itself.
#[tokio::test]
async fn only_the_kernel_gate_sees_that_nothing_executes() {
    let world = World::new(&["one"]).await;
    for (ipython, executes) in [("9.15.0", true), ("9.16.0", false), ("9.15.0", true)] {
        world.require(ipython);
        world.run("one", "apply");
        let shallow = world.look("one", "http", json!({"url": "${url}/hub/login", "expect": {"status": 200}})).await;
        assert!(matches!(shallow, Saw::Good(_)), "ipython {ipython}: {shallow:?}");
        match (world.look("one", "kernel", kernel_gate()).await, executes) {
            (Saw::Good(note), true) => {
                assert!(note.starts_with("`2`; handshake ") && note.contains(" execute "), "{note}");
            }
            (Saw::Bad(why), false) => {
                assert!(why.contains("never executed") && why.contains("calls itself idle"), "{why}");
            }
            (saw, _) => panic!("ipython {ipython}: {saw:?}\n{}", world.log("one")),
        }
        assert!(world.users("one").await.is_empty(), "the gate left a user behind");
    }
}

/// A snippet that raises, and a token that the Hub does not know.
#[tokio::test]
async fn a_failing_snippet_is_bad_and_a_foreign_token_is_blind() {
    let world = World::new(&["one"]).await;
    world.run("one", "apply");
    let mut gate = kernel_gate();
    gate["code"] = json!("import a_module_that_is_not_there");
    let saw = world.look("one", "kernel", gate.clone()).await;
    assert!(matches!(&saw, Saw::Bad(why) if why.contains("ModuleNotFoundError")), "{saw:?}\n{}", world.log("one"));
    gate["token"] = json!("CARGO_PKG_VERSION");
    let saw = world.look("one", "kernel", gate).await;
    assert!(matches!(&saw, Saw::Blind(why) if why.contains("refuses our token")), "{saw:?}");
}
