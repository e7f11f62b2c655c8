use std::{fmt, str::FromStr};

use super::EditError;

/// A path into a structured file.
///
/// Keys are separated by dots. `[0]` takes an item of a list by its number, `[name=binderhub]` the one item whose
/// `name` is `binderhub`, `["key.with/dots"]` a key that holds dots or brackets. A leading `#2:` takes the second
/// document of a file with several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    text: String,
    /// Counted from 1.
    pub(super) document: Option<usize>,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
    Where { key: String, value: String },
}

impl Path {
    /// The one key of a file that has only one level: an env file, a requirements file.
    pub(super) fn only_key(&self) -> Option<String> {
        let keys: Option<Vec<&str>> = self.steps.iter().map(Step::key).collect();
        keys.filter(|_| self.document.is_none()).map(|keys| keys.join("."))
    }
}

impl Step {
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Step::Key(key) => Some(key),
            Step::Index(_) | Step::Where { .. } => None,
        }
    }
}

/// The steps as a person would write them; used to say how far a path could be followed.
pub(super) fn shown(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Key(key) if is_bare(key) && out.is_empty() => out.push_str(key),
            Step::Key(key) if is_bare(key) => out.extend([".", key]),
            Step::Key(key) => out.push_str(&format!("[{key:?}]")),
            Step::Index(index) => out.push_str(&format!("[{index}]")),
            Step::Where { key, value } => out.push_str(&format!("[{key}={value}]")),
        }
    }
    out
}

fn is_bare(key: &str) -> bool {
    !key.is_empty() && !key.contains(['.', '[', ']', '"', '#'])
}

impl FromStr for Path {
    type Err = EditError;

    fn from_str(text: &str) -> Result<Path, EditError> {
        let mut reader = Reader { text, at: 0 };
        let (document, steps) =
            reader.path().map_err(|why| EditError::Path { path: text.to_owned(), column: reader.at + 1, why })?;
        Ok(Path { text: text.to_owned(), document, steps })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

type Parsed<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    fn path(&mut self) -> Parsed<(Option<usize>, Vec<Step>)> {
        let document = if self.eat("#") { Some(self.document()?) } else { None };
        self.eat(".");
        let mut steps = Vec::new();
        if !self.rest().starts_with('[') {
            steps.push(self.bare_key()?);
        }
        while !self.rest().is_empty() {
            if self.eat("[") {
                steps.push(self.bracket()?);
            } else if self.eat(".") {
                steps.push(self.bare_key()?);
            } else {
                return Err("expected `.` or `[` after `]`");
            }
        }
        Ok((document, steps))
    }

    fn document(&mut self) -> Parsed<usize> {
        let digits = self.take(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(number) if number > 0 && self.eat(":") => Ok(number),
            _ => Err("expected a document number from 1 and a colon, such as `#2:`"),
        }
    }

    fn bare_key(&mut self) -> Parsed<Step> {
        let key = self.take(|c| !matches!(c, '.' | '[' | ']' | '"'));
        match key {
            "" => Err("expected a key; one with dots, brackets or quotes is written as `[\"a.key\"]`"),
            key => Ok(Step::Key(key.to_owned())),
        }
    }

    fn bracket(&mut self) -> Parsed<Step> {
        let step = if self.rest().starts_with('"') {
            Step::Key(self.quoted()?)
        } else {
            let word = self.take(|c| !matches!(c, ']' | '=' | '"'));
            if self.eat("=") {
                let value = if self.rest().starts_with('"') {
                    self.quoted()?
                } else {
                    self.take(|c| !matches!(c, ']' | '"')).to_owned()
                };
                if word.is_empty() || value.is_empty() {
                    return Err("expected `[key=value]`");
                }
                Step::Where { key: word.to_owned(), value }
            } else {
                let number = word.parse().ok().filter(|_| word.bytes().all(|b| b.is_ascii_digit()));
                Step::Index(
                    number.ok_or("expected a number, `key=value` or a key in double quotes between the brackets")?,
                )
            }
        };
        if self.eat("]") { Ok(step) } else { Err("expected `]`") }
    }

    fn quoted(&mut self) -> Parsed<String> {
        self.eat("\"");
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(out);
                }
                '\\' => out.extend(chars.next().map(|(_, c)| c)),
                c => out.push(c),
            }
        }
        Err("the double quote is never closed")
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, what: &str) -> bool {
        let found = self.rest().starts_with(what);
        self.at += if found { what.len() } else { 0 };
        found
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !wanted(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        let key = |k: &str| Step::Key(k.to_owned());
        let pick = |k: &str, v: &str| Step::Where { key: k.to_owned(), value: v.to_owned() };
        let table = [
            ("a", None, vec![key("a")]),
            ("a.b-c.d_e", None, vec![key("a"), key("b-c"), key("d_e")]),
            (".a.b", None, vec![key("a"), key("b")]),
            ("list[0]", None, vec![key("list"), Step::Index(0)]),
            ("[1].x", None, vec![Step::Index(1), key("x")]),
            ("a[0][12].b", None, vec![key("a"), Step::Index(0), Step::Index(12), key("b")]),
            (
                "dependencies[name=binderhub].version",
                None,
                vec![key("dependencies"), pick("name", "binderhub"), key("version")],
            ),
            ("images[name=\"a]b\"].newTag", None, vec![key("images"), pick("name", "a]b"), key("newTag")]),
            (
                "images[name=registry:5000/a.b].newTag",
                None,
                vec![key("images"), pick("name", "registry:5000/a.b"), key("newTag")],
            ),
            ("annotations[\"key.with/dots\"]", None, vec![key("annotations"), key("key.with/dots")]),
            ("[\"a \\\"b\\\\\"]", None, vec![key("a \"b\\")]),
            ("#2:a.b", Some(2), vec![key("a"), key("b")]),
            ("a#b", None, vec![key("a#b")]),
            ("clé.ö", None, vec![key("clé"), key("ö")]),
        ];
        for (text, document, steps) in table {
            let path: Path = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((path.document, &path.steps), (document, &steps), "{text}");
            assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn bad_paths_are_refused_with_the_column() {
        let table = [
            ("", 1),
            ("a..b", 3),
            ("a.", 3),
            ("a[", 3),
            ("a[]", 3),
            ("a[x]", 4),
            ("a[-1]", 5),
            ("a[+1]", 5),
            ("a[0", 4),
            ("a[0]b", 5),
            ("a[=x]", 5),
            ("a[n=]", 5),
            ("a[\"x]", 4),
            ("#0:a", 3),
            ("#:a", 2),
            ("#1a", 3),
            ("a]b", 2),
        ];
        for (text, wanted) in table {
            match text.parse::<Path>() {
                Err(EditError::Path { column, .. }) => assert_eq!(column, wanted, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn shown_reads_back() {
        for text in ["a.b[0].c", "a[name=x].b", "a[\"b.c\"]", "[0].a", "[\"\"].x"] {
            let path: Path = text.parse().expect("a good path");
            assert_eq!(shown(&path.steps).parse::<Path>().expect("what is shown").steps, path.steps, "{text}");
        }
    }
}
