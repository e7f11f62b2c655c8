use std::sync::atomic::{AtomicI64, Ordering};

use crate::model::{Span, Stamp};

/// Where the time comes from; a test passes one that it moves by hand.
pub trait Clock: Send + Sync {
    fn now(&self) -> Stamp;
}

/// The machine's own clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Stamp {
        Stamp(jiff::Timestamp::now().as_millisecond())
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct HandClock(AtomicI64);

impl HandClock {
    pub fn at(now: Stamp) -> HandClock {
        HandClock(AtomicI64::new(now.0))
    }

    pub fn set(&self, now: Stamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    pub fn advance(&self, by: Span) {
        self.0.fetch_add(i64::try_from(by.0).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Stamp {
        Stamp(self.0.load(Ordering::SeqCst))
    }
}
