//! Canaries with a real data plane: a router leads the requests of real clients to real pods, and piton moves the weights.

#[path = "../cluster/mod.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

mod by_hand;
mod laws;
mod stories;
mod testers;
mod users;
mod world;

#[used]
#[unsafe(link_section = ".init_array")]
static NEEDS: extern "C" fn() = cluster::needs::a_router_and_a_real_node;

#[used]
#[unsafe(link_section = ".init_array")]
static WAITS: extern "C" fn() = cluster::needs::mostly_waits;
