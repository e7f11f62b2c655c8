//! The target `process` with real processes and real HTTP.

mod faults;
mod supervisor;
mod traffic;
mod world;
