//! What a container does is said by the tag of its image.

use std::time::Duration;

/// What becomes of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Good,
    /// Ready only after a while.
    Slow(Duration),
    /// Ends with this code soon after each start.
    Ends {
        code: i32,
    },
    /// Is ready, and ends after a while, again and again.
    Fades(Duration),
    /// The same as soon as its pod has the annotation `piton.test/end`.
    FadesWhenTold,
    /// Its image cannot be pulled.
    Pull,
    /// Runs, but its readiness probe fails.
    Never,
    /// Needs a key of a ConfigMap that is not there.
    Config,
    /// Ignores SIGTERM and takes its whole grace period.
    Stubborn,
}

impl Behaviour {
    /// Reads the last words of the tag, as in `web:1.2.0-slow-3s`; every other tag is good.
    pub fn of(image: &str) -> Behaviour {
        let named = image.split('@').next().unwrap_or_default();
        let tag = named.rsplit('/').next().and_then(|last| last.split_once(':')).map_or("", |(_, tag)| tag);
        let mut words = tag.rsplit('-');
        let (last, before) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match (before, last) {
            ("slow", time) => duration(time).map_or(Behaviour::Good, Behaviour::Slow),
            ("fades", "told") => Behaviour::FadesWhenTold,
            ("fades", time) => duration(time).map_or(Behaviour::Good, Behaviour::Fades),
            ("exit", code) => code.parse().map_or(Behaviour::Good, |code| Behaviour::Ends { code }),
            (_, "crash") => Behaviour::Ends { code: 1 },
            (_, "pull") => Behaviour::Pull,
            (_, "never") => Behaviour::Never,
            (_, "config") => Behaviour::Config,
            (_, "stubborn") => Behaviour::Stubborn,
            _ => Behaviour::Good,
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    let number = |unit| text.strip_suffix(unit).and_then(|number| number.parse().ok());
    number("ms").map(Duration::from_millis).or_else(|| number("s").map(Duration::from_secs))
}
