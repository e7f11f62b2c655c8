//! A rollout on a real control plane: what is good, slow, visibly broken, and what befalls the one who watches.

#[path = "../cluster/mod.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

mod broken;
mod faults;
mod good;
mod promote;
mod standing;
mod workloads;
mod world;
