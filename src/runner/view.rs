use std::sync::Arc;

use crate::{
    engine::{Next, State},
    ledger::Appended,
    model::{Event, Stamp},
};

/// Who watches the runner work.
pub trait View: Send + Sync {
    fn show(&self, _state: &State, _next: &Next, _now: Stamp) {}
    fn wrote(&self, _state: &State, _events: &[Event], _appended: &Appended) {}
}

/// Nobody does.
pub struct NoView;

impl View for NoView {}

/// Several views at once.
pub struct Views(pub Vec<Arc<dyn View>>);

impl View for Views {
    fn show(&self, state: &State, next: &Next, now: Stamp) {
        self.0.iter().for_each(|view| view.show(state, next, now));
    }

    fn wrote(&self, state: &State, events: &[Event], appended: &Appended) {
        self.0.iter().for_each(|view| view.wrote(state, events, appended));
    }
}
