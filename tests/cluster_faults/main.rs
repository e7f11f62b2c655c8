//! The whole program against a real cluster, while the world around it fails.

mod away;
mod by_hand;
#[path = "../cluster/mod.rs"]
mod cluster;
mod controller;
mod door;
mod nodes;
mod rights;
mod runners;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod watchman;
mod webhook;
mod world;

#[used]
#[unsafe(link_section = ".init_array")]
static WAITS: extern "C" fn() = cluster::needs::mostly_waits;
