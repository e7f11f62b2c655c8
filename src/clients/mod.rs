#![doc = include_str!("README.md")]

pub mod clock;
pub mod git;
pub mod http;
pub mod kube;
pub mod process;
pub mod registry;
pub mod secrets;
