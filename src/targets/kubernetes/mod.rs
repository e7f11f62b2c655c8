#![doc = include_str!("README.md")]

pub mod canary;
pub mod drift;
pub mod health;
pub mod manifest;
pub mod proof;
pub mod rollout;
pub mod traffic;
