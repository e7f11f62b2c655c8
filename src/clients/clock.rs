use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use futures_util::future::{BoxFuture, poll_fn};

use crate::model::{Span, Stamp};

/// Where the time comes from; a test passes one that it moves by hand.
pub trait Clock: Send + Sync {
    fn now(&self) -> Stamp;

    /// Comes back when it is `until`, or a little later.
    fn wait(&self, until: Stamp) -> BoxFuture<'_, ()>;
}

/// The machine's own clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

/// A wall clock can be set while we wait: it is looked at again at least this often.
const LOOK_AGAIN: Span = Span::seconds(5);

impl Clock for SystemClock {
    fn now(&self) -> Stamp {
        Stamp(jiff::Timestamp::now().as_millisecond())
    }

    fn wait(&self, until: Stamp) -> BoxFuture<'_, ()> {
        let left = until.since(self.now()).min(LOOK_AGAIN);
        Box::pin(tokio::time::sleep(left.as_duration()))
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct HandClock(Mutex<Hand>);

#[derive(Debug, Default)]
struct Hand {
    now: Stamp,
    waiting: BTreeMap<(Stamp, u64), Waker>,
    tickets: u64,
}

impl HandClock {
    pub fn at(now: Stamp) -> HandClock {
        HandClock(Mutex::new(Hand { now, ..Hand::default() }))
    }

    pub fn set(&self, now: Stamp) {
        let mut hand = self.hand();
        hand.now = now;
        let later = hand.waiting.split_off(&(Stamp(now.0.saturating_add(1)), 0));
        for waker in std::mem::replace(&mut hand.waiting, later).into_values() {
            waker.wake();
        }
    }

    pub fn advance(&self, by: Span) {
        let now = self.hand().now;
        self.set(now + by);
    }

    /// The earliest moment that somebody waits for.
    pub fn next_wait(&self) -> Option<Stamp> {
        self.hand().waiting.keys().next().map(|(until, _)| *until)
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for HandClock {
    fn now(&self) -> Stamp {
        self.hand().now
    }

    fn wait(&self, until: Stamp) -> BoxFuture<'_, ()> {
        let mut ticket = Ticket { clock: self, key: None };
        Box::pin(poll_fn(move |context| ticket.poll(until, context.waker())))
    }
}

/// One who waits; leaving takes the name off the list.
struct Ticket<'a> {
    clock: &'a HandClock,
    key: Option<(Stamp, u64)>,
}

impl Ticket<'_> {
    fn poll(&mut self, until: Stamp, waker: &Waker) -> Poll<()> {
        let mut hand = self.clock.hand();
        if hand.now >= until {
            return Poll::Ready(());
        }
        let key = *self.key.get_or_insert_with(|| {
            hand.tickets += 1;
            (until, hand.tickets)
        });
        hand.waiting.insert(key, waker.clone());
        Poll::Pending
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.clock.hand().waiting.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_hand_clock_wakes_who_waits_and_forgets_who_leaves() {
        let clock = HandClock::at(Stamp(100));
        let mut early = clock.wait(Stamp(150));
        let mut late = clock.wait(Stamp(200));
        assert!((&mut early).now_or_never().is_none() && (&mut late).now_or_never().is_none());
        assert_eq!(clock.next_wait(), Some(Stamp(150)));
        clock.advance(Span(50));
        assert!((&mut early).now_or_never().is_some() && (&mut late).now_or_never().is_none());
        drop(late);
        assert_eq!(clock.next_wait(), None);
    }
}
