//! A log is read afterwards: the state of a place that changes many times in a second is said now and then, and what
//! looks bad at once.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

use crate::targets::Line;

/// From one line about a place to the next.
const PACE: Duration = Duration::from_secs(5);
/// The same line again is no news for so long.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// Places that are remembered; more than that are no longer told apart.
const PLACES_MAX: usize = 256;

/// What was said of each place, and what waits for its turn.
#[derive(Debug, Default)]
pub struct LogPace {
    said: BTreeMap<String, (Instant, String)>,
    waiting: Option<(Instant, String)>,
}

impl LogPace {
    /// What is to be printed of a new line at this moment.
    pub fn hear(&mut self, line: &Line, now: Instant) -> Option<String> {
        let text = &line.text;
        // What is under way elsewhere still has its turn; what is over has not.
        self.waiting.take_if(|(_, waiting)| text.is_empty() || place(waiting) == place(text));
        let before = self.said.get(place(text));
        if text.is_empty() || before.is_some_and(|(at, said)| said == text && now < *at + STALE_AFTER) {
            return None;
        }
        match before.map(|(at, _)| *at + PACE).filter(|due| now < *due && !line.urgent) {
            Some(due) => {
                self.waiting = Some((due, text.clone()));
                None
            }
            None => Some(self.say(text.clone(), now)),
        }
    }

    /// When the line that waits is to be printed.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|(due, _)| *due)
    }

    /// The line whose turn has come.
    pub fn ripe(&mut self, now: Instant) -> Option<String> {
        let (_, text) = self.waiting.take_if(|(due, _)| *due <= now)?;
        Some(self.say(text, now))
    }

    fn say(&mut self, text: String, now: Instant) -> String {
        if self.said.len() >= PLACES_MAX {
            self.said.clear();
        }
        self.said.insert(place(&text).to_owned(), (now, text.clone()));
        text
    }
}

/// `deployment web` of `deployment web: 1 of 2 replicas are updated`.
fn place(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { text: text.to_owned(), urgent: false }
    }

    #[tokio::test]
    async fn a_place_is_said_now_and_then_and_what_looks_bad_at_once() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut pace = LogPace::default();
        let mut log = Vec::new();
        // Within one second, as a rollout says it.
        for n in 0..20 {
            log.extend(pace.hear(&line(&format!("deployment web: {n} of 20 replicas are updated")), at(n * 50)));
            log.extend(pace.hear(&line("deployment hub: 1 of 2 replicas are updated"), at(n * 50)));
            log.extend(pace.hear(&line(&format!("deployment web: {n} of 20 replicas are updated")), at(n * 50)));
        }
        assert_eq!(
            log,
            ["deployment web: 0 of 20 replicas are updated", "deployment hub: 1 of 2 replicas are updated"]
        );
        assert_eq!(pace.due(), Some(at(5_000)));
        assert_eq!(pace.ripe(at(4_999)), None);
        assert_eq!(pace.ripe(at(5_000)).as_deref(), Some("deployment web: 19 of 20 replicas are updated"));
        let bad = Line { text: "deployment web: web-1: ImagePullBackOff".to_owned(), urgent: true };
        assert_eq!(pace.hear(&bad, at(5_001)), Some(bad.text.clone()));
        assert_eq!(pace.hear(&bad, at(5_002)), None, "once is enough");
        // What is over has nothing left to say.
        assert_eq!(pace.hear(&line("deployment web: 20 of 20 replicas are updated"), at(5_003)), None);
        assert_eq!(pace.hear(&Line::default(), at(5_004)), None);
        assert_eq!((pace.due(), pace.ripe(at(60_000))), (None, None));
    }
}
