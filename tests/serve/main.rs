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
mod world;
