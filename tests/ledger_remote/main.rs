//! The ledger against real git hosts, good and bad.

mod alone;
mod faults;
#[path = "../support/git_http.rs"]
mod git_http;
mod history;
mod hosts;
mod http;
#[path = "../ledger_world/mod.rs"]
mod ledger_world;
mod local;
mod signatures;
mod together;
mod writers;
