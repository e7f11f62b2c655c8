use std::ops::Range;

use regex::{Regex, RegexBuilder};

use super::{
    Format, Why,
    document::{self, Splice},
    scalar::stays_plain,
    tree::{Node, Shape, Style, Tree, line_of},
};

/// The one place that the first group of a pattern matches.
///
/// `^` and `$` are the ends of lines, and `.` stops before a line end, CRLF included.
fn find(text: &str, pattern: &str) -> Result<Range<usize>, Why> {
    let pattern = compiled(pattern)?;
    if pattern.captures_len() < 2 {
        return Err(Why::NoGroup);
    }
    let mut matches = pattern.captures_iter(text);
    let (Some(first), second) = (matches.next(), matches.next()) else { return Err(Why::NoMatchOfPattern) };
    if second.is_some() {
        let all = pattern.find_iter(text);
        let lines = all.take(LINES_SHOWN).map(|found| line_of(text, found.start())).collect();
        return Err(Why::ManyMatches { count: pattern.find_iter(text).count(), lines });
    }
    let range = first.get(1).ok_or(Why::NoGroup)?.range();
    if text[range.clone()].contains('\n') { Err(Why::ManyLines) } else { Ok(range) }
}

const LINES_SHOWN: usize = 5;

fn compiled(pattern: &str) -> Result<Regex, Why> {
    let compiled = RegexBuilder::new(pattern).multi_line(true).crlf(true).build();
    compiled.map_err(|error| {
        let problem = error.to_string();
        let last = problem.lines().last().unwrap_or_default();
        Why::BadPattern { problem: last.trim_start_matches("error: ").to_owned() }
    })
}

/// The text that the pattern's group matches.
pub(super) fn read(text: &str, pattern: &str) -> Result<Option<String>, Why> {
    find(text, pattern).map(|range| Some(text[range].to_owned()))
}

/// The splice that makes the group match what `to` makes of its text.
pub(super) fn change(
    format: Option<Format>,
    text: &str,
    pattern: &str,
    to: &dyn Fn(&str) -> Result<String, Why>,
) -> Result<Splice, Why> {
    let range = find(text, pattern)?;
    let new = to(&text[range.clone()])?;
    if new == text[range.clone()] {
        return Ok(Splice::nothing());
    }
    let splice = Splice { range: range.clone(), token: new.clone(), reads: new };
    let after = splice.applied(text);
    match find(&after, pattern) {
        Ok(found) if found.start == range.start && after[found.clone()] == splice.reads => (),
        _ => return Err(Why::Check { problem: "the pattern would not find the new value" }),
    }
    if let Some(before) = format.and_then(|format| document::parse(format, text).ok()) {
        let format = format.expect("a parsed file has a format");
        let after = document::parse(format, &after);
        let after = after.map_err(|_| Why::Check { problem: "the file could not be read any more" })?;
        check_one_differs(&before, &after)?;
    }
    Ok(splice)
}

/// A pattern knows nothing of quotes: at most one value may differ, and a value must stay the kind of value it was.
fn check_one_differs(before: &Tree<'_>, after: &Tree<'_>) -> Result<(), Why> {
    if before.nodes.len() != after.nodes.len() {
        return Err(Why::Check { problem: "the file would have other values" });
    }
    let pairs = before.nodes.iter().zip(&after.nodes);
    let different: Vec<(&Node<'_>, &Node<'_>)> = pairs.filter(|(a, b)| !a.says_what(b)).collect();
    match different[..] {
        [] => Ok(()),
        [(old, new)] if !keeps_its_sense(old, new) => Err(Why::Check {
            problem: "the value would read as another kind of value; it needs quotes, which a path adds",
        }),
        [_] => Ok(()),
        _ => Err(Why::Check { problem: "several values would read differently" }),
    }
}

fn keeps_its_sense(old: &Node<'_>, new: &Node<'_>) -> bool {
    match (&old.shape, &new.shape) {
        (Shape::Scalar { text: old, style: Style::Plain }, Shape::Scalar { text: new, style: Style::Plain }) => {
            stays_plain(old, new)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use crate::edit::{
        At, Part, Place, read,
        tests::{version, write_text},
    };

    fn place(file: &str, pattern: &str) -> Place {
        Place { file: file.to_owned(), at: At::Pattern(pattern.to_owned()), part: Part::Whole }
    }

    #[test]
    fn every_other_byte_stays() {
        for (file, text, pattern, to, wanted) in [
            ("Dockerfile", "ARG A=1\nARG B=1\n", "^ARG B=(.+)$", "2", "ARG A=1\nARG B=2\n"),
            ("Dockerfile", "FROM r:5000/a:1 AS x\r\n", "^FROM \\S+:(\\S+)", "2", "FROM r:5000/a:2 AS x\r\n"),
            ("Dockerfile", "ARG A=1\r\nX\r\n", "^ARG A=(.+)$", "2", "ARG A=2\r\nX\r\n"),
            ("main.tf", "  version = \"1.2\" # x\n", "version = \"([^\"]+)\"", "1.10", "  version = \"1.10\" # x\n"),
            ("a.yaml", "# v1\na: {{ x }}\nb: v1\n", "^b: (.+)$", "v2", "# v1\na: {{ x }}\nb: v2\n"),
            ("a.yaml", "# piton: v1\na: x\n", "piton: (v\\d+)", "v2", "# piton: v2\na: x\n"),
            ("a.yaml", "- pip:\n  - a==1\n", "a==(.+)", "2", "- pip:\n  - a==2\n"),
            ("bin", "\u{feff}V=1", "V=(.*)", "2", "\u{feff}V=2"),
        ] {
            let out = write_text(text, &place(file, pattern), to).unwrap_or_else(|e| panic!("{text:?}: {e}"));
            assert_eq!(out, wanted);
            assert_eq!(read(wanted.as_bytes(), &place(file, pattern)), Ok(Some(version(to))));
        }
    }

    #[test]
    fn what_is_not_safe_is_refused() {
        for (file, text, pattern, to, reason) in [
            ("f", "a1\na2\n", "a(\\d)", "3", "matches 2 times, first on the lines 1 and 2"),
            ("f", "a1\n", "b(\\d)", "3", "matches nowhere"),
            ("f", "a1\n", "a\\d", "3", "names no value"),
            ("f", "a1\n", "a|(b)", "3", "names no value"),
            ("f", "a1\n", "a(", "3", "not a regular expression: unclosed group"),
            ("f", "a1\nb", "a([^x]+)", "3", "several lines"),
            ("f", "a1\n", "a(\\d)", "x", "would not find the new value"),
            ("a.yaml", "a: v1\n", "a: (.+)", "1.10", "needs quotes"),
            ("a.yaml", "a: 3.9\n", "a: (.+)", "3.10", "needs quotes"),
            ("a.yaml", "a: v1\n", "a: (.+)", "b: c", "could not be read any more"),
            ("a.yaml", "a: [v1, b]\n", "(v[^ ]+),", "v1,v2", "other values"),
            ("a.yaml", "a: &x v1\nb: *x\n", "&(x|y)", "y", "could not be read any more"),
        ] {
            let error = write_text(text, &place(file, pattern), to).expect_err("this is refused");
            assert!(error.to_string().contains(reason), "{pattern} in {text:?}: {error}");
        }
        assert_eq!(read(b"a1\n", &place("f", "b(\\d)")), Ok(None));
    }
}
