#![doc = include_str!("README.md")]

mod command;
mod file;
mod webhook;

use futures_util::future::BoxFuture;

use crate::{
    model::{EnvironmentName, Notice, Span, Urgency},
    pipeline::Kind,
};

/// Tells people something.
pub trait Channel: Send + Sync {
    /// Delivers one notice; the error is a sentence, and only ever a warning.
    fn tell<'a>(&'a self, environment: &'a EnvironmentName, notice: &'a Notice) -> BoxFuture<'a, Result<(), String>>;
}

/// One kind of channel: what the pipeline room needs of it, and how it is made from a checked configuration.
pub struct Entry {
    pub kind: Kind,
    pub build: fn(&serde_json::Value) -> Result<Box<dyn Channel>, serde_json::Error>,
}

/// Every kind of channel.
pub const ALL: &[Entry] = &[command::ENTRY, webhook::ENTRY, file::ENTRY];

/// The longest that one delivery may take.
const TRY_TIME_MAX: Span = Span::seconds(5);

fn urgency_name(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Info => "info",
        Urgency::Warning => "warning",
        Urgency::Alarm => "alarm",
    }
}

#[cfg(test)]
mod tests;
