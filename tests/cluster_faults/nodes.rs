//! Nodes that go.

use crate::{
    cluster::Options,
    world::{CANARY, World},
};

#[test]
fn a_node_that_is_lost_in_the_middle_leaves_somebody_to_serve() {
    let world = World::alone(Options { node_grace_seconds: 4, ..Options::default() }, CANARY);
    let running = world.in_the_middle_of("1.1.0");
    world.cluster.kubelet().lose_node("node-1");
    let ran = running.wait();
    assert!([Some(0), Some(1)].contains(&ran.code), "{ran}");
    world.cluster.kubelet().find_node("node-1");
    world.settles_on(if ran.code == Some(0) { "1.1.0" } else { "1.0.0" });
}
