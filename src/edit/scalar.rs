use std::sync::LazyLock;

use regex::Regex;

/// What a plain YAML text means to readers of YAML 1.1, 1.2 or Go's in-between; where they disagree, the sense that
/// is not a text wins, since then at least one reader would take it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    Text,
    Null,
    Bool,
    Number(Digits),
    Time,
    /// `<<`, `=`: words with a meaning of their own.
    Special,
}

/// How a number is written. `1.10` is told apart from `1.5`, as the former loses a digit when read as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digits {
    Decimal,
    TrailingZero,
    LeadingZero,
    Exponent,
    Odd,
}

pub(super) fn sense(text: &str) -> Sense {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Sense::Null,
        "<<" | "=" => Sense::Special,
        _ if is_bool(text) => Sense::Bool,
        _ if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) => Sense::Text,
        _ => numeric(text),
    }
}

/// Whether `to` may stand plain where `from` stood plain and mean the same kind of thing.
pub(super) fn stays_plain(from: &str, to: &str) -> bool {
    match (sense(from), sense(to)) {
        (_, Sense::Text) => true,
        (Sense::Number(_), Sense::Number(Digits::Decimal)) => true,
        (Sense::Number(before), Sense::Number(after)) => before == after,
        (Sense::Bool, Sense::Bool) | (Sense::Time, Sense::Time) => true,
        _ => false,
    }
}

fn is_bool(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    matches!(&*lower, "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n")
}

fn numeric(text: &str) -> Sense {
    static SIMPLE: LazyLock<Regex> = LazyLock::new(|| regex(r"^[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?$"));
    static ZERO: LazyLock<Regex> = LazyLock::new(|| regex(r"^[-+]?[0-9]+$"));
    static FLOAT: LazyLock<Regex> = LazyLock::new(|| regex(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"));
    static ODD: LazyLock<Regex> = LazyLock::new(|| {
        regex(r"(?i)^[-+]?(0x[0-9a-f]+|0o[0-7]+|0b[01]+|[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?|\.inf|\.nan)$")
    });
    static TIME: LazyLock<Regex> = LazyLock::new(|| regex(r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?$"));
    let plain = text.replace('_', "");
    let digits = if SIMPLE.is_match(text) {
        match text.split_once('.') {
            Some((_, fraction)) if fraction.len() > 1 && fraction.ends_with('0') => Digits::TrailingZero,
            _ => Digits::Decimal,
        }
    } else if ZERO.is_match(text) {
        Digits::LeadingZero
    } else if FLOAT.is_match(text) && text.contains(['e', 'E']) {
        Digits::Exponent
    } else if FLOAT.is_match(&plain) || ODD.is_match(&plain) {
        Digits::Odd
    } else if TIME.is_match(text) {
        return Sense::Time;
    } else {
        return Sense::Text;
    };
    Sense::Number(digits)
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that tests use")
}

/// Whether the text may stand in a YAML file without quotes, whatever it then means.
pub(super) fn fits_plain(text: &str, in_flow: bool) -> bool {
    let mut chars = text.chars();
    let (Some(first), second) = (chars.next(), chars.next()) else { return false };
    let starts = match first {
        '-' => second.is_some_and(|c| !(c.is_whitespace() || in_flow && is_flow(c))),
        // YAML 1.1 and 1.2 do not agree where these two may begin a plain text.
        '?' | ':' | ',' | '[' | ']' | '{' | '}' | '#' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
            false
        }
        _ => true,
    };
    // Readers do not agree what a colon or a question mark means inside braces, unless a word goes on behind it.
    let odd_pair = |pair: &[u8]| pair[0] == b':' && !pair[1].is_ascii_alphanumeric() && pair[1] != b'/';
    let odd_in_flow = || text.contains(is_flow) || text.contains('?') || text.as_bytes().windows(2).any(odd_pair);
    starts
        && !text.starts_with(char::is_whitespace)
        && !text.ends_with(char::is_whitespace)
        && !text.ends_with(':')
        && !["---", "..."].iter().any(|mark| text.starts_with(mark))
        && ![": ", " #", ":\t", "\t#"].iter().any(|mark| text.contains(mark))
        && !(in_flow && odd_in_flow())
        && text.chars().all(is_printable)
}

fn is_flow(c: char) -> bool {
    matches!(c, ',' | '[' | ']' | '{' | '}')
}

/// Characters that every YAML reader takes as they are, on one line.
pub(super) fn is_printable(c: char) -> bool {
    match c {
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        c => !c.is_control(),
    }
}

/// The text in single quotes; `None` where only double quotes can hold it.
pub(super) fn single_quoted(text: &str) -> Option<String> {
    text.chars().all(is_printable).then(|| format!("'{}'", text.replace('\'', "''")))
}

/// The text in double quotes, as YAML, JSON and TOML read it.
pub(super) fn double_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&format!("\\u{:04x}", c as u32)),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senses() {
        use Digits::*;
        for (sense_wanted, texts) in [
            (Sense::Null, &["", "~", "null", "NULL"][..]),
            (Sense::Bool, &["true", "False", "yes", "NO", "on", "Off", "y", "N"]),
            (Sense::Number(Decimal), &["0", "300", "-1", "+5", "1.5", "2.0", "0.25", "0.0"]),
            (Sense::Number(TrailingZero), &["1.10", "1.20", "0.50"]),
            (Sense::Number(LeadingZero), &["0755", "007", "0123456"]),
            (Sense::Number(Exponent), &["12e3456", "1e5", "1.5E-3", "1e+5"]),
            (
                Sense::Number(Odd),
                &["0x1F", "0o17", "0b101", "1_000", "1:30", "190:20:30.15", ".5", "1.", ".inf", "-.INF", ".NaN"],
            ),
            (Sense::Time, &["2024-01-02", "2001-12-14t21:59:43.10-05:00", "2024-1-2"]),
            (Sense::Special, &["<<", "="]),
            (
                Sense::Text,
                &[
                    "1.2.3",
                    "v1.10",
                    "1.0.0-0.dev.git.3983.h383374de",
                    "12e3456f",
                    "e123",
                    "latest",
                    "-",
                    ".",
                    "...x",
                    "1.10-rc1",
                    "2022.02.0-90.g0345a86",
                    "27.5.1-dind",
                    "300GB",
                    "1:90",
                    "10.0.0.0/8",
                    "nope",
                    "trueish",
                    "0x",
                    "2024-01-02-abc",
                    "12:30:99",
                ],
            ),
        ] {
            for text in texts {
                assert_eq!(sense(text), sense_wanted, "{text}");
            }
        }
    }

    #[test]
    fn what_may_stand_plain() {
        for text in ["1.2", "a b", "a:b", "a#b", "x/y:z@sha256:a", "-a", "ö", "a'b", "a\"b", "a, b", "a]"] {
            assert!(fits_plain(text, false), "{text}");
        }
        for text in [
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "a:",
            "#a",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "'a",
            "\"a",
            "- a",
            "-",
            "?",
            "?a",
            ":a",
            "[a",
            "{a",
            ",a",
            "---",
            "--- a",
            "...",
            "a\u{2028}b",
            "\u{feff}a",
        ] {
            assert!(!fits_plain(text, false), "{text}");
        }
        for text in ["a,b", "a]", "{", "a:[", "-,", "a: b"] {
            assert!(!fits_plain(text, true), "{text}");
        }
        assert!(fits_plain("repo:5000/a:1.2", true));
    }
}
