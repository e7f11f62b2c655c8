//! What a target says while it works, for people who watch.

use std::sync::Arc;

use tokio::sync::watch;

/// A line that is replaced by the next: `deployment web: 2 of 3 replicas are ready`. Cloning it shares the line.
#[derive(Debug, Clone)]
pub struct Progress(Arc<watch::Sender<Line>>);

/// What is said at the moment; nothing when nothing is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    /// It may be about to fail: who reads along wants to know at once.
    pub urgent: bool,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress(Arc::new(watch::Sender::new(Line::default())))
    }
}

impl Progress {
    pub fn say(&self, text: impl Into<String>) {
        self.set(Line { text: text.into(), urgent: false });
    }

    /// Says what looks bad.
    pub fn alarm(&self, text: impl Into<String>) {
        self.set(Line { text: text.into(), urgent: true });
    }

    /// Nothing is under way any more.
    pub fn clear(&self) {
        self.say("");
    }

    pub fn follow(&self) -> watch::Receiver<Line> {
        self.0.subscribe()
    }

    fn set(&self, line: Line) {
        self.0.send_if_modified(|now| {
            let changed = *now != line;
            *now = line;
            changed
        });
    }
}
