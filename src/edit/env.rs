use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    Why,
    flat::{Quote, Slot},
};

/// The assignments of an env file or a shell script of assignments.
pub(super) fn slots(text: &str) -> Vec<Slot> {
    static START: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"(?m)\A[ \t]*(export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*";
        Regex::new(pattern).expect("the pattern is a constant that tests use")
    });
    let mut slots = Vec::new();
    let (mut at, mut line, mut counted) = (0, 1, 0);
    while at < text.len() {
        line += text[counted..at].matches('\n').count();
        counted = at;
        let Some(start) = START.captures(&text[at..]) else {
            at = line_end(text, at) + 1;
            continue;
        };
        let (begin, exported) = (at + start[0].len(), start.get(1).is_some());
        let (range, quote) = extent(text, begin);
        let closed = range.end + usize::from(quote != Quote::None);
        let value = checked(text, range, quote, closed, exported);
        slots.push(Slot { name: start[2].to_owned(), line, value, quote });
        at = line_end(text, closed) + 1;
    }
    slots
}

fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |end| at + end)
}

/// Where the value stands; quoted ones may go over several lines.
fn extent(text: &str, begin: usize) -> (Range<usize>, Quote) {
    let rest = &text[begin..];
    let quote = match rest.as_bytes().first() {
        Some(b'\'') => Quote::Single,
        Some(b'"') => Quote::Double,
        _ => Quote::None,
    };
    let length = match quote {
        Quote::None => bare_length(&rest[..line_end(rest, 0)]),
        Quote::Single => rest[1..].find('\'').unwrap_or(rest.len() - 1),
        Quote::Double => {
            let mut escaped = false;
            let closes = rest[1..].bytes().position(|byte| {
                let closes = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                closes
            });
            closes.unwrap_or(rest.len() - 1)
        }
    };
    let start = begin + usize::from(quote != Quote::None);
    (start..start + length, quote)
}

/// A bare value ends at a comment or at the end of the line.
fn bare_length(line: &str) -> usize {
    let comment = [" #", "\t#"].iter().filter_map(|mark| line.find(mark)).min().unwrap_or(line.len());
    let value = if line.starts_with('#') { "" } else { &line[..comment] };
    value.trim_end().len()
}

fn checked(text: &str, range: Range<usize>, quote: Quote, closed: usize, exported: bool) -> Result<Range<usize>, Why> {
    let value = &text[range.clone()];
    let after = text.get(closed..).and_then(|rest| rest.chars().next());
    let shell = |problem: &str| Err(Why::NotAVersion { problem: problem.to_owned() });
    if quote != Quote::None && closed > text.len() {
        return shell("its quote is never closed");
    }
    if quote != Quote::None && after.is_some_and(|c| !c.is_whitespace()) {
        return shell("more text follows its closing quote");
    }
    if value.contains('\n') {
        return Err(Why::ManyLines);
    }
    match quote {
        Quote::Single => Ok(range),
        Quote::None | Quote::Double if value.contains(['$', '`', '\\']) => {
            Err(Why::Expansion { text: value.to_owned() })
        }
        Quote::Double => Ok(range),
        Quote::None if value.contains([';', '&', '|', '<', '>', '(', ')', '\'', '"']) => {
            shell("it holds characters that mean something to a shell")
        }
        Quote::None if exported && value.contains(char::is_whitespace) => shell("more words follow it on the line"),
        Quote::None => Ok(range),
    }
}

/// The value as it is written within its quotes; a bare one may get single quotes.
pub(super) fn token(old: &str, quote: Quote, to: &str) -> Result<String, Why> {
    let cannot = |problem| Err(Why::CannotHold { to: to.to_owned(), problem });
    let is_safe =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | ':' | '@' | '%' | '+' | '=' | ',' | '-');
    let blanks_before = old.contains(' ');
    match quote {
        Quote::Single | Quote::None if to.contains('\'') => cannot("single quotes cannot hold a single quote"),
        Quote::Double if to.contains(['"', '\\', '$', '`']) => {
            cannot("a shell would take `\"`, `\\`, `$` or a backtick in double quotes as its own")
        }
        Quote::Single | Quote::Double => Ok(to.to_owned()),
        Quote::None if to.chars().all(|c| is_safe(c) || (blanks_before && c == ' ')) => Ok(to.to_owned()),
        Quote::None => Ok(format!("'{to}'")),
    }
}

#[cfg(test)]
mod tests {
    use crate::edit::tests::{changes, reads, refuses};

    #[test]
    fn every_other_byte_stays() {
        for (text, name, to, wanted) in [
            (
                "export CERT_MANAGER_VERSION=v1.20.2\n",
                "CERT_MANAGER_VERSION",
                "v1.20.3",
                "export CERT_MANAGER_VERSION=v1.20.3\n",
            ),
            ("A=1\nB=1\n", "B", "2", "A=1\nB=2\n"),
            ("A=1 # 1\n", "A", "2", "A=2 # 1\n"),
            ("A=\"1\"  # c\n", "A", "2", "A=\"2\"  # c\n"),
            ("A='1'\n", "A", "a b", "A='a b'\n"),
            ("A=1", "A", "2", "A=2"),
            ("A=1\r\nB=2\r\n", "A", "3", "A=3\r\nB=2\r\n"),
            ("# A=0\nA=1\n", "A", "2", "# A=0\nA=2\n"),
            ("A=\nB=1\n", "A", "2", "A=2\nB=1\n"),
            ("A=\"\"\n", "A", "2", "A=\"2\"\n"),
            ("A=1\n", "A", "a b", "A='a b'\n"),
            ("A = 1\n", "A", "2", "A = 2\n"),
            ("A=x y\n", "A", "z w", "A=z w\n"),
            ("X='\nA=0\n'\nA=1\n", "A", "2", "X='\nA=0\n'\nA=2\n"),
            ("A=x#y\n", "A", "z", "A=z\n"),
            ("  export\tA=x\n", "A", "z", "  export\tA=z\n"),
            ("AB=1\nA=1\n", "A", "2", "AB=1\nA=2\n"),
            ("IMG=r:5000/a:1\n", "IMG", "r:5000/a:2", "IMG=r:5000/a:2\n"),
        ] {
            let quoted = |mark: char| wanted.contains(&format!("={mark}{to}{mark}"));
            assert!(wanted.contains(to), "{wanted}: a row must show its value, quoted or not: {}", quoted('\''));
            changes("a.env", text, name, to, wanted);
        }
    }

    #[test]
    fn what_is_not_safe_is_refused() {
        for (text, name, to, reason) in [
            ("A=1\nA=2\n", "A", "3", "several times, on the lines 1 and 2"),
            ("A=${B:-1}\n", "A", "3", "refers to other variables"),
            ("A=\"$B\"\n", "A", "3", "refers to other variables"),
            ("A=`x`\n", "A", "3", "refers to other variables"),
            ("A=1; B=2\n", "A", "3", "mean something to a shell"),
            ("export A=1 B=2\n", "A", "3", "more words follow"),
            ("A=\"1\"2\n", "A", "3", "more text follows"),
            ("A=\"1\n", "A", "3", "never closed"),
            ("A='1\n2'\n", "A", "3", "several lines"),
            ("VERSION=1\n", "VERSON", "3", "the nearest is `VERSION`"),
            ("A='1'\n", "A", "it's", "single quote"),
            ("A=\"1\"\n", "A", "$x", "double quotes"),
            ("A=1\n", "A[0]", "2", "names no single key"),
        ] {
            refuses("a.env", text, name, to, reason);
        }
    }

    #[test]
    fn absent_is_none() {
        reads("a.env", "A=1\n", "B", None);
        reads("a.env", "A=\n", "A", None);
        reads("a.env", "A='x y'\n", "A", Some("x y"));
    }
}
