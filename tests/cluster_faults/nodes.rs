//! Nodes that go.

use crate::{
    cluster::Options,
    world::{CANARY, World},
};

/// The node is named, and the way back is open while it is away.
#[test]
fn a_node_that_is_lost_in_the_middle_is_named_and_the_way_back_stays_open() {
    let world = World::alone(Options { node_grace_seconds: 4, ..Options::default() }, CANARY);
    let mut running = world.in_the_middle_of("1.1.0");
    let pods = world.block_on(world.cluster.list("pods", &world.namespace, ""));
    let node = |pod: &serde_json::Value| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
    let is_canary = |pod: &&serde_json::Value| pod["metadata"]["name"].as_str().is_some_and(|n| n.contains("canary"));
    let stable: Vec<String> = pods.iter().filter(|pod| !is_canary(pod)).map(node).collect();
    let lost = pods.iter().filter(is_canary).map(node).find(|node| !stable.contains(node));
    let lost = lost.expect("three nodes and two stable pods: one node is the canary's alone");
    world.cluster.kubelet().lose_node(&lost);
    let ready = |pod: &serde_json::Value| {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        conditions.filter(|one| one["type"] == "Ready").any(|one| one["status"] == "True")
    };
    let given_up = || async {
        let pods = world.cluster.list("pods", &world.namespace, "").await;
        pods.iter().filter(|pod| node(pod) == lost).all(|pod| !ready(pod))
    };
    world.block_on(world.cluster.wait_until("the control plane to give the node up", given_up));
    world.may_go_on();
    running.until_said("does not answer");
    world.sandbox.piton(&["rollback", "production", "--reason", "a bad node"]).ends(0).says("rolled back");
    running.wait();
    world.cluster.kubelet().find_node(&lost);
    world.settles_on("1.0.0");
    world.keeps_the_laws();
}
