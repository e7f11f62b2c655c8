//! Canaries on a real control plane: promoted and aborted by every router, in every disorder.

#[path = "../cluster/mod.rs"]
mod cluster;

mod crashes;
mod data_plane;
mod definitions;
mod disorder;
mod door;
mod kinds;
mod namesakes;
mod parts;
mod stories;
mod target;
mod tracks;
mod watcher;
mod world;
