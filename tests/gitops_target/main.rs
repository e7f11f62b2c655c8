//! The target `gitops` on a real control plane and a real git remote. What Argo CD and Flux do is played by a small
//! controller (`tool.rs`): it reads the branch, applies the manifests and writes status as their documented APIs
//! have it.

#[path = "../cluster/mod.rs"]
mod cluster;

mod refusals;
mod stories;
mod tool;
mod world;
