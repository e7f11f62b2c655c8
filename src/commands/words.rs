use std::str::FromStr;

use crate::model::{ComponentName, Span, Stamp, Version};

/// `hub=0.9.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub component: ComponentName,
    pub version: Version,
}

impl FromStr for Assignment {
    type Err = String;
    fn from_str(text: &str) -> Result<Assignment, String> {
        let (component, version) =
            text.split_once('=').ok_or_else(|| format!("{text:?} has no `=`; write `component=version`"))?;
        Ok(Assignment {
            component: component.parse().map_err(|e| format!("{e}"))?,
            version: version.parse().map_err(|e| format!("{e}"))?,
        })
    }
}

/// An end: a duration from now, or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    In(Span),
    At(Stamp),
}

impl Until {
    pub fn from(self, now: Stamp) -> Stamp {
        match self {
            Until::In(span) => now + span,
            Until::At(stamp) => stamp,
        }
    }
}

impl FromStr for Until {
    type Err = String;
    fn from_str(text: &str) -> Result<Until, String> {
        let span = text.parse::<Span>().map(Until::In);
        span.or_else(|span_error| match text.parse::<Stamp>() {
            Ok(stamp) => Ok(Until::At(stamp)),
            Err(_) => Err(format!("{span_error}; or a moment such as `2026-01-31T09:30:00Z`")),
        })
    }
}
