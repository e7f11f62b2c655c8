//! The cluster that other tests use is itself as it is said to be.

#[path = "../cluster/mod.rs"]
mod cluster;

mod kubelet;
mod plane;
