//! Nodes that go.

use crate::{
    cluster::Options,
    world::{CANARY, World},
};

/// The node is named and nobody else is blamed; with the node the promotion goes on.
#[test]
fn a_node_that_is_lost_in_the_middle_is_named_and_waited_for() {
    let world = World::alone(Options { node_grace_seconds: 4, ..Options::default() }, CANARY);
    let mut running = world.in_the_middle_of("1.1.0");
    let pods = world.block_on(world.cluster.list("pods", &world.namespace, ""));
    let canary = pods.iter().find(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| name.contains("canary")));
    let node = canary.expect("a pod of the canary")["spec"]["nodeName"].as_str().expect("it is somewhere").to_owned();
    world.cluster.kubelet().lose_node(&node);
    running.until_said("does not answer");
    world.cluster.kubelet().find_node(&node);
    running.wait().ends(0);
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}
