//! How long to wait after failures, with a little chance so that many do not come at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// Doubles with every failure in a row.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure.
    pub fn next(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        self.failures += 1;
        jittered(doubled.min(LONGEST), chance())
    }
}

/// Between four and six fifths of a time.
pub fn jittered(time: Duration, chance: u8) -> Duration {
    time * 4 / 5 + time * 2 / 5 * u32::from(chance) / 255
}

/// A number of chance.
pub fn chance() -> u8 {
    let mut byte = [0];
    // Without chance everybody comes in the middle.
    getrandom::fill(&mut byte).map_or(128, |()| byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_their_limits() {
        let mut backoff = Backoff::default();
        let first = backoff.next();
        assert!(first >= FIRST * 4 / 5 && first <= FIRST * 6 / 5, "{first:?}");
        let last = (0..40).map(|_| backoff.next()).last().expect("some");
        assert!(last >= LONGEST * 4 / 5 && last <= LONGEST * 6 / 5, "{last:?}");
        backoff.reset();
        assert!(backoff.next() <= FIRST * 6 / 5);
        assert_eq!(jittered(Duration::from_secs(10), 0), Duration::from_secs(8));
        assert_eq!(jittered(Duration::from_secs(10), 255), Duration::from_secs(12));
    }
}
