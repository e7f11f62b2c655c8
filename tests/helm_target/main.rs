//! The target `helm` on a real control plane, with Helm 3 and Helm 4.

#[path = "../cluster/mod.rs"]
mod cluster;

mod charts;
mod drift;
mod registry;
mod stories;
mod stuck;
mod world;
