use std::borrow::Cow;

use super::{
    Format, Why,
    scalar::stays_plain,
    tree::{DEPTH_MAX, Shape, Style, Tree},
};

/// Reads a JSON file.
pub(super) fn parse(text: &str) -> Result<Tree<'_>, Why> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| broken(text, &error))?;
    let mut tree = Tree { source: text, ..Tree::default() };
    let mut open: Vec<usize> = Vec::new();
    let mut at = 0;
    // The text is known to be valid, so punctuation needs no checking.
    while let Some(byte) = text.as_bytes().get(at) {
        let start = at;
        at += 1;
        if open.len() > DEPTH_MAX {
            return Err(Why::TooDeep { max: DEPTH_MAX });
        }
        match byte {
            b'{' => open.push(tree.push(Shape::Map { flow: true }, start..at, open.len())),
            b'[' => open.push(tree.push(Shape::List { flow: true }, start..at, open.len())),
            b'}' | b']' => {
                if let Some(id) = open.pop() {
                    tree.close(id, at);
                }
            }
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => (),
            b'"' => {
                at = start + string_length(&text[start..]);
                let value = serde_json::from_str(&text[start..at]).map_err(|error| broken(text, &error))?;
                tree.push(Shape::Scalar { text: Cow::Owned(value), style: Style::Double }, start..at, open.len());
            }
            _ => {
                at = start + text[start..].find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(text.len() - start);
                let value = Cow::Borrowed(&text[start..at]);
                tree.push(Shape::Scalar { text: value, style: Style::Plain }, start..at, open.len());
            }
        }
    }
    Ok(tree)
}

fn broken(text: &str, error: &serde_json::Error) -> Why {
    let (line, column) = (error.line(), error.column());
    if super::yaml::has_template(text.lines().nth(line.saturating_sub(1)).unwrap_or_default()) {
        return Why::Template { format: Format::Json, line };
    }
    let problem = error.to_string();
    let problem = problem.split(" at line ").next().unwrap_or(&problem).to_owned();
    Why::Broken { format: Format::Json, line, column, problem }
}

/// The length of the string that the text starts with, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let closing = text.bytes().skip(1).position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    closing.map_or(text.len(), |at| at + 2)
}

/// How `to` is written where `old` stands.
pub(super) fn token(old: &str, style: Style, to: &str) -> String {
    let is_literal = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| !value.is_string());
    match style {
        Style::Plain if old != "null" && is_literal(to) && stays_plain(old, to) => to.to_owned(),
        Style::Plain | Style::Single | Style::Double | Style::Block => serde_json::Value::from(to).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::edit::tests::{changes, reads, refuses};

    #[test]
    fn every_other_byte_stays() {
        for (text, path, to, wanted) in [
            ("{\"a\": \"1\"}", "a", "2", "{\"a\": \"2\"}"),
            (
                "{\n\t\"a\": {\n\t\t\"b\": [1, {\"c\": \"x\"}]\n\t}\n}\n",
                "a.b[1].c",
                "y",
                "{\n\t\"a\": {\n\t\t\"b\": [1, {\"c\": \"y\"}]\n\t}\n}\n",
            ),
            ("{\"a\":300}", "a", "500", "{\"a\":500}"),
            ("{\"a\":300}", "a", "v1", "{\"a\":\"v1\"}"),
            ("{\"a\":1.9}", "a", "1.10", "{\"a\":\"1.10\"}"),
            ("{\"a\":true}", "a", "false", "{\"a\":false}"),
            ("{\"a\":true}", "a", "no", "{\"a\":\"no\"}"),
            ("{\"a\":null}", "a", "3", "{\"a\":\"3\"}"),
            ("{\"a\":\"1.9\"}", "a", "1.10", "{\"a\":\"1.10\"}"),
            ("{\"a\":\"1\"}", "a", "say \"x\" \\ y", "{\"a\":\"say \\\"x\\\" \\\\ y\"}"),
            (
                "{\"\\ud83d\\ude00\":\"\\u00e9\\/\",\"a\":\"x\"}\r\n",
                "a",
                "ü",
                "{\"\\ud83d\\ude00\":\"\\u00e9\\/\",\"a\":\"ü\"}\r\n",
            ),
            ("{\"é.x\":\"1\"}", "[\"é.x\"]", "2", "{\"é.x\":\"2\"}"),
            (
                "[{\"n\":\"a\",\"v\":1},{\"n\":\"b\",\"v\":1}]",
                "[n=b].v",
                "2",
                "[{\"n\":\"a\",\"v\":1},{\"n\":\"b\",\"v\":2}]",
            ),
            ("{\"a\":\"\\\"\",\"b\":\"\\\\\",\"c\":\"x\"}", "c", "y", "{\"a\":\"\\\"\",\"b\":\"\\\\\",\"c\":\"y\"}"),
            (
                "{\"dependencies\": {\"@s/p\": \"^1.2.3\"}}",
                "dependencies.@s/p",
                "^1.2.4",
                "{\"dependencies\": {\"@s/p\": \"^1.2.4\"}}",
            ),
            ("\u{feff}{\"a\": 1}", "a", "2", "\u{feff}{\"a\": 2}"),
        ] {
            changes("f.json", text, path, to, wanted);
        }
    }

    #[test]
    fn what_is_not_safe_is_refused() {
        for (text, path, to, reason) in [
            ("{\"a\":1,\"a\":2}", "a", "3", "several times, on the lines 1 and 1"),
            ("{\"a\":1,}", "a", "3", "line 1, column 8 is not valid JSON"),
            ("{\n// c\n\"a\":1}", "a", "3", "line 2"),
            ("{\"a\": {{ x }} }", "a", "3", "line 1 is template syntax"),
            ("{\"a\":{}}", "a", "3", "the value is a mapping"),
            ("{\"version\":1}", "verison", "3", "the nearest is `version`"),
            ("{\"a\":1} {\"b\":1}", "a", "3", "trailing characters"),
            ("\"x\"", "a", "3", "the document is a single value"),
        ] {
            refuses("f.json", text, path, to, reason);
        }
        refuses("f.json", &"[".repeat(100_000), "a", "3", "EOF while parsing");
        refuses("f.json", &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), "a", "3", "levels deep");
    }

    #[test]
    fn values_are_read() {
        reads("f.json", "{\"a\":1.10}", "a", Some("1.10"));
        reads("f.json", "{\"a\":null}", "a", None);
        reads("f.json", "{\"a\":\"\\u0041\"}", "a", Some("A"));
    }
}
