//! The controller, as real processes on real git repositories and a real Lease.

#[path = "../cluster/mod.rs"]
#[allow(dead_code, reason = "other test binaries use the rest of it")]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

mod alone;
mod hooks;
mod lease;
mod rights;
mod traces;
mod world;
