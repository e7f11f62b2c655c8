//! A rollout on a real control plane: what is good, slow, visibly broken, and what befalls the one who watches.

#[path = "../cluster/mod.rs"]
mod cluster;

mod broken;
mod faults;
mod good;
mod standing;
mod workloads;
mod world;
