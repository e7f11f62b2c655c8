//! Piton promotes small version bumps through staging and production behind health gates, and goes back by itself
//! to the last known-good commit when a gate says no.

// words and thought: no async, no clock, no files, no network
pub mod commands;
pub mod edit;
pub mod engine;
pub mod judge;
pub mod model;
pub mod pipeline;
pub mod planner;
pub mod report;
pub mod versions;

// outside
pub mod channels;
pub mod clients;
pub mod gates;
pub mod ledger;
pub mod targets;

// hands
pub mod rack;
pub mod runner;
pub mod sample;
pub mod simulate;

// doors
pub mod cli;
pub mod controller;
