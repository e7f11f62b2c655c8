#![doc = include_str!("README.md")]

mod sockets;
mod step;

pub use sockets::{AllKinds, Files, Outside, SocketsError};
pub use step::{Begun, NotBegun, StepError, Upto, after, begin, next_step, resolve, settings, unsound, with_renderer};
