//! Canaries on a real control plane: promoted and aborted by every router, in every disorder.

#[path = "../cluster/mod.rs"]
mod cluster;

mod crashes;
mod disorder;
mod kinds;
mod stories;
mod watcher;
mod world;
