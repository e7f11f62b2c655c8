//! Reads the text in which services export their metrics to Prometheus, tolerantly: what is not understood is skipped.

use std::collections::BTreeMap;

/// One series and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }
}

/// All samples of the text, in its order.
pub(super) fn read(text: &str) -> Vec<Sample> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).filter_map(sample).collect()
}

/// `name{label="value",…} value [time stamp] [# exemplar]`
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    // Rust reads `NaN`, `+Inf` and `-Inf` as Prometheus writes them.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels, and what follows the closing brace.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        labels.insert(name.trim().to_owned(), value);
        rest = after;
    }
}

/// A quoted text with `\\`, `\"` and `\n`, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = inside.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &inside[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_whatever_stands_around_them() {
        let text = "# HELP a b\n# TYPE a counter\na_total{x=\"1\",y=\"q\\\"},\\\\ \\n\",} 5 1795249268417\n\
                    bare 1e3\n  spaced{ x = \"ü\" }   +Inf # {trace_id=\"a\"} 0.5\nnan NaN\n\
                    broken{x=\"1 5\nbroken2{x 5\nalone\nbad value\n# EOF\n";
        let samples = read(text);
        let names: Vec<_> = samples.iter().map(|s| (s.name.as_str(), s.value.to_string())).collect();
        let expected = [("a_total", "5"), ("bare", "1000"), ("spaced", "inf"), ("nan", "NaN")];
        assert_eq!(names, expected.map(|(n, v)| (n, v.to_owned())));
        assert_eq!(samples[0].label("y"), Some("q\"},\\ \n"));
        assert_eq!(samples[2].label("x"), Some("ü"));
    }

    #[test]
    fn any_text_is_survived() {
        for text in ["", "{", "}", "a{", "a{=", "a{b=\"\\", "\u{0}\u{fffd}", "a{b=\"c\"}", "a{,,,} 1"] {
            let _ = read(text);
        }
        assert_eq!(read("a{,,,} 1").len(), 1);
    }
}
