//! The target `gitops` on a real control plane, with a real git remote and real Flux. What Argo CD does is played by a
//! small controller (`tool.rs`).

#[path = "../cluster/mod.rs"]
mod cluster;
mod flux;
#[path = "../support/git_http.rs"]
mod git_http;
mod guard;
mod pods;
mod refusals;
mod stories;
mod tool;
mod world;
