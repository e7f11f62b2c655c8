//! The target `kubernetes` on a real control plane.

#[path = "../cluster/mod.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

mod apply;
mod refusals;
mod rendered;
mod rights;
mod story;
mod world;
