//! What stands: live against the ledger, and the proof that there is a way back.

#[path = "../cluster/mod.rs"]
mod cluster;
#[path = "../support/mod.rs"]
mod support;

mod command;
mod kubernetes;
mod process;
mod registry;

#[used]
#[unsafe(link_section = ".init_array")]
static WAITS: extern "C" fn() = cluster::needs::mostly_waits;
