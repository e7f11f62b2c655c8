//! What a target says while it works, for people who watch.

use std::sync::Arc;

use tokio::sync::watch;

/// A line that is replaced by the next: `deployment web: 2 of 3 replicas are ready`. Cloning it shares the line.
#[derive(Debug, Clone)]
pub struct Progress(Arc<watch::Sender<String>>);

impl Default for Progress {
    fn default() -> Progress {
        Progress(Arc::new(watch::Sender::new(String::new())))
    }
}

impl Progress {
    pub fn say(&self, line: impl Into<String>) {
        let line = line.into();
        self.0.send_if_modified(|now| {
            let changed = *now != line;
            *now = line;
            changed
        });
    }

    /// Nothing is under way any more.
    pub fn clear(&self) {
        self.say("");
    }

    pub fn follow(&self) -> watch::Receiver<String> {
        self.0.subscribe()
    }
}
