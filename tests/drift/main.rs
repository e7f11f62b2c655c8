//! What stands: live against the ledger, and the proof that there is a way back.

#[path = "../support/mod.rs"]
mod support;

mod command;
mod process;
