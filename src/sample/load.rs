use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::Load;

/// Counts requests and says which of them fail.
#[derive(Debug, Default)]
pub struct Counter {
    total: u64,
    under_load: u64,
    last_second: VecDeque<Instant>,
}

impl Counter {
    /// Counts one more request; whether it fails under this load.
    pub fn count(&mut self, load: Option<&Load>, now: Instant) -> bool {
        self.total += 1;
        self.last_second.push_back(now);
        while self.last_second.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
            self.last_second.pop_front();
        }
        let Some(load) = load else { return false };
        if self.total <= load.after || self.last_second.len() <= load.per_second as usize {
            return false;
        }
        self.under_load += 1;
        // Spread evenly, so that a small sample shows the same share as a large one.
        let percent = load.percent.min(100);
        self.under_load * percent / 100 > (self.under_load - 1) * percent / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fails_above_the_rate_and_recovers_below() {
        let load = Load { per_second: 3, after: 0, percent: 50 };
        let (mut counter, start) = (Counter::default(), Instant::now());
        let mut at = |ms: u64| counter.count(Some(&load), start + Duration::from_millis(ms));
        assert_eq!([at(0), at(1), at(2)], [false; 3]);
        assert_eq!([at(3), at(4), at(5), at(6)], [false, true, false, true]);
        assert!(!at(5_000));
    }

    #[test]
    fn it_fails_after_a_number_of_requests() {
        let load = Load { per_second: 0, after: 2, percent: 100 };
        let (mut counter, now) = (Counter::default(), Instant::now());
        let failed: Vec<bool> = (0..4).map(|_| counter.count(Some(&load), now)).collect();
        assert_eq!(failed, [false, false, true, true]);
        assert!(!counter.count(None, now));
    }
}
