//! Looks at the data plane: whose answers really come.

use futures_util::StreamExt;
use jsonpath_rust::JsonPath as _;

use super::config::Verify;
use crate::{
    clients::http::{Answer, Ask},
    model::{Release, Share, Span},
    targets::template,
};

/// How often an honest router is taken for a wrong one, each time it is asked.
const ERROR_RATE: f64 = 0.001;
/// Requests under way at once.
const AT_ONCE: usize = 8;
/// The longest that one answer may take.
const ANSWER_WITHIN: Span = Span::seconds(10);
/// The time between two rounds of questions.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// What the answers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// As it should be, in a sentence.
    As(String),
    /// The share that arrives is another.
    Not(String),
    /// Too few answers to say anything.
    Unknown(String),
    /// Stable says of itself what the candidate says, so that no answer tells whose it is.
    Alike(String),
}

/// What stable and the canary run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    Same,
    Others,
}

/// Asks until the share has arrived, or the time is over.
pub async fn verify(verify: &Verify, release: &Release, share: Share, images: Images) -> Arrived {
    let until = tokio::time::Instant::now() + verify.within.as_duration();
    let Some(candidate) = candidate(&verify.is, release) else {
        return Arrived::Unknown(format!("`verify.is` is {:?}, which has no value for this release", verify.is));
    };
    loop {
        let arrived = round(verify, &candidate, share, images).await;
        let over = tokio::time::Instant::now() + PAUSE >= until;
        if over || matches!(arrived, Arrived::As(_) | Arrived::Alike(_)) {
            return arrived;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What the candidate's answers say of themselves.
fn candidate(is: &str, release: &Release) -> Option<String> {
    let value = |name: &str| match name {
        "tree" => Some(release.tree.to_string()),
        name => {
            let component = name.strip_prefix("version.")?;
            let found = release.versions.iter().find(|(known, _)| known.as_str() == component);
            found.map(|(_, version)| version.to_string())
        }
    };
    template::expand(is, value).ok()
}

async fn round(verify: &Verify, candidate: &str, share: Share, images: Images) -> Arrived {
    let ask = || async { Ask::get(verify.url.as_str(), ANSWER_WITHIN).send().await };
    let asks = futures_util::stream::iter((0..verify.samples).map(|_| ask()));
    let answers: Vec<_> = asks.buffer_unordered(AT_ONCE).collect().await;
    let told: Vec<String> = answers.iter().flatten().filter_map(|answer| tells(verify, answer)).collect();
    if told.len() * 2 < answers.len() {
        let failed = answers.iter().find_map(|answer| answer.as_ref().err());
        let why = failed.map_or_else(|| "the others do not tell their release".to_owned(), ToString::to_string);
        return Arrived::Unknown(format!("only {} of {} requests were answered: {why}", told.len(), answers.len()));
    }
    let from_canary = told.iter().filter(|told| *told == candidate).count();
    match judged(told.len() as u64, from_canary as u64, share, verify.tolerance) {
        // A release that brings no other image: its answers may well be those of stable.
        Arrived::Not(_) if images == Images::Same && from_canary == told.len() && !names_tree(&verify.is) => {
            Arrived::Alike(format!(
                "stable runs the same images, and all {from_canary} answers say `{candidate}`, as both do"
            ))
        }
        arrived => arrived,
    }
}

/// Two releases never have the same tree.
fn names_tree(is: &str) -> bool {
    is.contains("${tree}")
}

fn tells(verify: &Verify, answer: &Answer) -> Option<String> {
    if let Some(header) = &verify.header {
        return answer.headers.get(header.as_str())?.to_str().ok().map(|text| text.trim().to_owned());
    }
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let found = body.query(verify.json.as_deref()?).ok()?;
    let value = found.first()?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// Whether so many answers of the canary can be chance under a share within the tolerance.
fn judged(answers: u64, from_canary: u64, share: Share, tolerance: Share) -> Arrived {
    let part = |hundredths: u16| f64::from(hundredths) / 10_000.0;
    let low = part(share.hundredths().saturating_sub(tolerance.hundredths()));
    let high = part((share.hundredths() + tolerance.hundredths()).min(10_000));
    // All or nothing is meant exactly: of those there is no chance in it.
    let (low, high) = match share {
        Share::NONE => (0.0, 0.0),
        Share::WHOLE => (1.0, 1.0),
        _ => (low, high),
    };
    let too_few = at_most(answers, from_canary, low) < ERROR_RATE / 2.0;
    let too_many = 1.0 - at_most(answers, from_canary, high) + exactly(answers, from_canary, high) < ERROR_RATE / 2.0;
    let seen = format!("{from_canary} of {answers} answers came from the canary");
    match too_few || too_many {
        false => Arrived::As(seen),
        true => Arrived::Not(format!(
            "{seen}, which {share} (± {tolerance}) would give in less than one of {} tries",
            (1.0 / ERROR_RATE).round()
        )),
    }
}

/// The chance of `count` or fewer of `all` when each has the chance `p`.
fn at_most(all: u64, count: u64, p: f64) -> f64 {
    (0..=count.min(all)).map(|k| exactly(all, k, p)).sum::<f64>().min(1.0)
}

/// The binomial probability, by logarithms so that large numbers stay finite.
fn exactly(all: u64, count: u64, p: f64) -> f64 {
    match (p <= 0.0, p >= 1.0) {
        (true, _) => return if count == 0 { 1.0 } else { 0.0 },
        (_, true) => return if count == all { 1.0 } else { 0.0 },
        (false, false) => {}
    }
    let choices: f64 = (1..=count).map(|i| ((all - count + i) as f64).ln() - (i as f64).ln()).sum();
    (choices + count as f64 * p.ln() + (all - count) as f64 * (1.0 - p).ln()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(percent: u16) -> Share {
        Share::of_hundredths(percent * 100).expect("a share")
    }

    #[test]
    fn chance_is_told_from_a_wrong_weight() {
        let cases = [
            // answers, of the canary, share in percent, as it should be
            (200, 20, 10, true),
            (200, 33, 10, true),
            (200, 60, 10, false),
            (200, 2, 10, false),
            (200, 0, 0, true),
            (200, 1, 0, false),
            (200, 200, 100, true),
            (200, 199, 100, false),
            (200, 100, 50, true),
            (2000, 1000, 40, false),
            (20, 0, 5, true),
        ];
        for (answers, canary, percent, good) in cases {
            let arrived = judged(answers, canary, share(percent), share(2));
            assert_eq!(matches!(arrived, Arrived::As(_)), good, "{canary} of {answers} at {percent}%: {arrived:?}");
        }
    }

    #[test]
    fn the_stated_error_rate_holds() {
        // The exact chance that an honest router at the edge of the tolerance is called wrong.
        for (answers, percent) in [(50_u64, 10_u16), (200, 10), (200, 50), (500, 3)] {
            let wrong = |canary: &u64| matches!(judged(answers, *canary, share(percent), Share::NONE), Arrived::Not(_));
            let p = f64::from(percent) / 100.0;
            let rate: f64 = (0..=answers).filter(wrong).map(|canary| exactly(answers, canary, p)).sum();
            assert!(rate <= ERROR_RATE, "{rate} of {answers} at {percent}%");
        }
    }

    #[test]
    fn probabilities_add_up() {
        let sum: f64 = (0..=300).map(|k| exactly(300, k, 0.07)).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }
}
