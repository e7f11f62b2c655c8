//! The controller, as real processes on real git repositories and a real Lease.

#[path = "../cluster/mod.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

mod alone;
mod hooks;
mod lease;
mod rights;
mod traces;
mod troubles;
mod world;

#[used]
#[unsafe(link_section = ".init_array")]
static WAITS: extern "C" fn() = cluster::needs::mostly_waits;
