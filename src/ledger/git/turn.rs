//! Whose turn it is, read off the ledger itself: without it the last winner of a race keeps winning, because it alone
//! has the newest head at hand.

use std::{collections::BTreeSet, time::Duration};

/// Only pages that are younger make a crowd.
const CROWD_S: i64 = 15;

/// How long a writer stands back: one slot for each other recent writer whose last page is older than its own.
/// `writers` are those of the newest pages and their times, newest first.
pub fn stand_back(writers: &[(String, i64)], me: &str, now_s: i64, slot: Duration) -> Duration {
    let recent: Vec<&str> =
        writers.iter().take_while(|(_, at_s)| now_s - at_s <= CROWD_S).map(|(name, _)| name.as_str()).collect();
    let Some(mine) = recent.iter().position(|name| *name == me) else { return Duration::ZERO };
    let since_mine: BTreeSet<&str> = recent[..mine].iter().copied().collect();
    let waiting: BTreeSet<&str> = recent[mine..]
        .iter()
        .copied()
        .filter(|name| !name.is_empty() && *name != me && !since_mine.contains(name))
        .collect();
    slot * u32::try_from(waiting.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Duration = Duration::from_millis(100);

    fn wait(writers: &[&str], me: &str) -> u128 {
        let writers: Vec<(String, i64)> = writers.iter().map(|w| ((*w).to_owned(), 1_000)).collect();
        stand_back(&writers, me, 1_001, SLOT).as_millis()
    }

    #[test]
    fn who_wrote_last_lets_all_others_go_first() {
        assert_eq!(wait(&["a", "b", "c", "a"], "a"), 200);
        assert_eq!(wait(&["a", "b", "c", "a"], "b"), 100);
        assert_eq!(wait(&["a", "b", "c", "a"], "c"), 0);
    }

    #[test]
    fn newcomers_and_the_lonely_do_not_wait() {
        assert_eq!(wait(&["a", "b"], "new"), 0);
        assert_eq!(wait(&["a", "a", "", "a"], "a"), 0);
        assert_eq!(wait(&[], "a"), 0);
    }

    #[test]
    fn an_old_crowd_is_none() {
        let writers = [("a".to_owned(), 1_000), ("b".to_owned(), 900)];
        assert_eq!(stand_back(&writers, "a", 1_001, SLOT), Duration::ZERO);
        assert_eq!(stand_back(&writers, "a", 5_000, SLOT), Duration::ZERO);
    }
}
