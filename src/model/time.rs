use std::{fmt, ops, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not a time or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("{0:?} is not a duration; write a number and a unit, such as `90s`, `10m`, `1h30m` or `2d`")]
    Span(String),
    #[error("{0:?} is not a time; write it as `2026-01-31T09:30:00Z`")]
    Stamp(String),
}

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub i64);

/// A length of time in milliseconds, never negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub u64);

impl Stamp {
    /// How long it is from `earlier` to this moment; nothing when the clock went backwards.
    pub fn since(self, earlier: Stamp) -> Span {
        Span(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Span {
    pub const fn seconds(seconds: u64) -> Span {
        Span(seconds * 1_000)
    }

    pub const fn minutes(minutes: u64) -> Span {
        Span(minutes * 60_000)
    }

    pub const fn hours(hours: u64) -> Span {
        Span(hours * 3_600_000)
    }

    pub fn as_duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl ops::Add<Span> for Stamp {
    type Output = Stamp;
    fn add(self, span: Span) -> Stamp {
        Stamp(self.0.saturating_add(i64::try_from(span.0).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(stamp) => write!(f, "{stamp:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Stamp {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Stamp, TimeError> {
        let stamp: jiff::Timestamp = text.parse().map_err(|_| TimeError::Stamp(text.to_owned()))?;
        Ok(Stamp(stamp.as_millisecond()))
    }
}

/// As people say it: `1d 2h`, `1m 30s`, `250ms`; at most the two largest units.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        let Some(first) = UNITS.iter().position(|(size, _)| self.0 >= *size) else {
            return f.pad("0s");
        };
        let (size, unit) = UNITS[first];
        let mut text = format!("{}{unit}", self.0 / size);
        if let Some((next, name)) = UNITS.get(first + 1)
            && *name != "ms"
            && self.0 % size / next != 0
        {
            text.push_str(&format!(" {}{name}", self.0 % size / next));
        }
        f.pad(&text)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Span {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Span, TimeError> {
        let wrong = || TimeError::Span(text.chars().take(80).collect());
        let span: jiff::Span = text.trim().parse().map_err(|_| wrong())?;
        // A day is 24 hours here: piton waits, it does not keep a calendar.
        let relative = jiff::SpanRelativeTo::days_are_24_hours();
        let total = span.to_duration(relative).map_err(|_| wrong())?;
        Ok(Span(u64::try_from(total.as_millis()).map_err(|_| wrong())?))
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(&Exact(*self))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}
as_text!(Stamp);
as_text!(Span);

/// The form that loses nothing, for the ledger.
struct Exact<T>(T);

impl fmt::Display for Exact<Stamp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Exact<Span> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.0 % 1_000, self.0.0 / 1_000) {
            (0, seconds) => write!(f, "{seconds}s"),
            (millis, 0) => write!(f, "{millis}ms"),
            (millis, seconds) => write!(f, "{seconds}s {millis}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        for (text, ms) in
            [("90s", 90_000), ("10m", 600_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("250ms", 250), ("0s", 0)]
        {
            assert_eq!(text.parse::<Span>(), Ok(Span(ms)), "{text}");
        }
        for bad in ["", "10", "ten minutes", "-5m", "1 fortnight"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn spans_print_two_units_and_keep_all_in_the_ledger() {
        assert_eq!(Span(93_784_005).to_string(), "1d 2h");
        assert_eq!(Span(90_000).to_string(), "1m 30s");
        assert_eq!(Span(3_600_000).to_string(), "1h");
        assert_eq!(Span(0).to_string(), "0s");
        for ms in [0, 1, 999, 1_000, 1_001, 93_784_005] {
            let json = serde_json::to_string(&Span(ms)).expect("a span is text");
            assert_eq!(serde_json::from_str::<Span>(&json).expect("it reads back"), Span(ms), "{json}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_time() {
        assert_eq!(Stamp(5).since(Stamp(9)), Span(0));
        let json = serde_json::to_string(&Stamp(1_795_249_268_417)).expect("a stamp is text");
        assert_eq!(json, "\"2026-11-21T07:34:28.417Z\"".replace("07:34:28.417", &json[12..24]));
        assert_eq!(serde_json::from_str::<Stamp>(&json).expect("it reads back"), Stamp(1_795_249_268_417));
    }
}
