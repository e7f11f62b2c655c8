//! Whether the API server's clock and ours agree. Nothing is decided by comparing the two, but people read times of objects
//! beside ours, and other runners trust ours for how long our lease in the ledger lasts.

use std::sync::atomic::{AtomicBool, Ordering};

use hyper::HeaderMap;

use crate::{
    clients::http::dated,
    model::{Span, Stamp},
};

/// Clocks that somebody keeps right are closer than that.
const APART_MAX: Span = Span::seconds(10);
/// The server says whole seconds.
const GRAIN: Span = Span::seconds(1);

/// What is known of the server's clock.
#[derive(Debug, Default)]
pub struct Skew {
    is_told: AtomicBool,
}

impl Skew {
    /// What there is to say after an answer to a request that was sent and answered at these times of ours: it is said once,
    /// and again when the clocks agreed in between.
    pub fn heard(&self, headers: &HeaderMap, sent: Stamp, answered: Stamp) -> Option<String> {
        let dated = dated(headers)?;
        let said = sentence(dated, sent, answered);
        let told = self.is_told.swap(said.is_some(), Ordering::Relaxed);
        said.filter(|_| !told)
    }
}

/// The server dated its answer between the two: only what is outside them is a difference of clocks.
fn sentence(dated: Stamp, sent: Stamp, answered: Stamp) -> Option<String> {
    let (ahead, behind) = (dated.since(answered), sent.since(dated + GRAIN));
    let (apart, which) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    (apart > APART_MAX).then(|| {
        let apart = Span::seconds(apart.0 / 1_000);
        format!(
            "the clock of the API server is {apart} {which} ours; times of objects in the cluster are told by its clock, and our \
             lease ends for other runners by ours: one of the two must be set right"
        )
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::{DATE, HeaderValue};

    use super::*;

    const NOON: &str = "Sat, 21 Nov 2026 12:00:00 GMT";

    fn heard(skew: &Skew, sent: &str, answered: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static(NOON))]);
        let at = |time: &str| format!("2026-11-21T{time}Z").parse().expect("a time");
        skew.heard(&headers, at(sent), at(answered))
    }

    #[test]
    fn only_what_cannot_be_the_way_there_and_back_is_told() {
        let cases = [
            ("12:00:00", "12:00:00", None),
            // The answer took long, at an end that nobody knows.
            ("11:59:00", "12:01:00", None),
            ("12:00:11", "12:00:12", None),
            ("12:00:46", "12:00:47", Some("45s behind ours")),
            ("11:59:49", "11:59:50", None),
            ("11:00:00", "11:00:20", Some("59m 40s ahead of ours")),
        ];
        for (sent, answered, expected) in cases {
            let said = heard(&Skew::default(), sent, answered);
            let told = said.as_ref().map(|said| said.contains(expected.unwrap_or("nothing")));
            assert_eq!(told, expected.map(|_| true), "{sent} to {answered}: {said:?}");
        }
        assert_eq!(Skew::default().heard(&HeaderMap::new(), Stamp(0), Stamp(0)), None, "it says no time");
    }

    #[test]
    fn it_is_told_once_until_the_clocks_agree_again() {
        let skew = Skew::default();
        let told = ["12:01:00", "12:01:00", "12:00:00", "12:01:00"].map(|at| heard(&skew, at, at).is_some());
        assert_eq!(told, [true, false, false, true]);
    }
}
