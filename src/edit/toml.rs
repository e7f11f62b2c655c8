use std::{borrow::Cow, ops::Range};

use toml_edit::{Document, InlineTable, Item, Key, Table, Value};

use super::{
    Format, Why,
    scalar::{double_quoted, is_printable, stays_plain},
    tree::{Shape, Style, Tree, line_of},
};

/// Reads a TOML file.
pub(super) fn parse(text: &str) -> Result<Tree<'static>, Why> {
    let document = Document::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = line_of(text, at);
        if super::yaml::has_template(text.lines().nth(line - 1).unwrap_or_default()) {
            return Why::Template { format: Format::Toml, line };
        }
        let column = at - text[..at].rfind('\n').map_or(0, |end| end + 1) + 1;
        Why::Broken { format: Format::Toml, line, column, problem: error.message().to_owned() }
    })?;
    let mut reader = Reader { text, tree: Tree::default(), depth: 0 };
    reader.table(document.as_table());
    Ok(reader.tree)
}

/// The parser limits nesting, so walking down by calls is safe.
struct Reader<'a> {
    text: &'a str,
    tree: Tree<'static>,
    depth: usize,
}

impl Reader<'_> {
    fn table(&mut self, table: &Table) {
        self.collection(Shape::Map { flow: false }, table.span(), |reader| {
            for (name, item) in table.iter() {
                reader.key(name, table.key(name));
                reader.item(item);
            }
        });
    }

    fn inline_table(&mut self, table: &InlineTable) {
        self.collection(Shape::Map { flow: true }, table.span(), |reader| {
            for (name, value) in table.iter() {
                reader.key(name, table.key(name));
                reader.value(value);
            }
        });
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::None => self.scalar(String::new(), Style::Plain, 0..0),
            Item::Value(value) => self.value(value),
            Item::Table(table) => self.table(table),
            Item::ArrayOfTables(tables) => self.collection(Shape::List { flow: false }, tables.span(), |reader| {
                tables.iter().for_each(|table| reader.table(table));
            }),
        }
    }

    fn value(&mut self, value: &Value) {
        let span = value.span().unwrap_or_default();
        match value {
            Value::String(text) => {
                let raw = &self.text[span.clone()];
                let block = raw.starts_with("\"\"\"") || raw.starts_with("'''");
                let style = match raw.as_bytes().first() {
                    _ if block => Style::Block,
                    Some(b'\'') => Style::Single,
                    _ => Style::Double,
                };
                self.scalar(text.value().clone(), style, span);
            }
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
                self.scalar(self.text[span.clone()].to_owned(), Style::Plain, span);
            }
            Value::Array(array) => self.collection(Shape::List { flow: true }, Some(span), |reader| {
                array.iter().for_each(|value| reader.value(value));
            }),
            Value::InlineTable(table) => self.inline_table(table),
        }
    }

    fn key(&mut self, name: &str, key: Option<&Key>) {
        let span = key.and_then(Key::span).unwrap_or_default();
        self.scalar(name.to_owned(), Style::Plain, span);
    }

    fn scalar(&mut self, text: String, style: Style, span: Range<usize>) {
        self.tree.push(Shape::Scalar { text: Cow::Owned(text), style }, span, self.depth);
    }

    fn collection(&mut self, shape: Shape<'static>, span: Option<Range<usize>>, fill: impl FnOnce(&mut Self)) {
        let span = span.unwrap_or_default();
        let id = self.tree.push(shape, span.clone(), self.depth);
        self.depth += 1;
        fill(self);
        self.depth -= 1;
        self.tree.close(id, span.end);
    }
}

/// How `to` is written where `old` stands.
pub(super) fn token(old: &str, style: Style, to: &str) -> Result<String, Why> {
    let is_literal =
        || to.parse::<Value>().is_ok_and(|value| !value.is_str() && !value.is_array() && !value.is_inline_table());
    match style {
        Style::Block => Err(Why::ManyLines),
        Style::Single if !to.contains('\'') && to.chars().all(is_printable) => Ok(format!("'{to}'")),
        Style::Plain if stays_plain(old, to) && is_literal() => Ok(to.to_owned()),
        Style::Single | Style::Plain | Style::Double => Ok(double_quoted(to)),
    }
}

#[cfg(test)]
mod tests {
    use crate::edit::tests::{changes, reads, refuses};

    #[test]
    fn every_other_byte_stays() {
        for (text, path, to, wanted) in [
            ("a = \"1\"\n", "a", "2", "a = \"2\"\n"),
            ("a = '1' # 1\n", "a", "2", "a = '2' # 1\n"),
            ("a = '1'\n", "a", "it's", "a = \"it's\"\n"),
            ("[x]\na=1\n[y]\na=1\n", "y.a", "2", "[x]\na=1\n[y]\na=2\n"),
            ("[x.y]\n\"k.z\" = \"1\"\n", "x.y[\"k.z\"]", "2", "[x.y]\n\"k.z\" = \"2\"\n"),
            ("x.y.z = '1'\n", "x.y.z", "2", "x.y.z = '2'\n"),
            (
                "s = { version = \"1.0\", features = [\"a\"] }\n",
                "s.version",
                "1.1",
                "s = { version = \"1.1\", features = [\"a\"] }\n",
            ),
            ("s = [\n  \"a==1\", # a\n  \"b==1\",\n]\n", "s[1]", "b==2", "s = [\n  \"a==1\", # a\n  \"b==2\",\n]\n"),
            (
                "[[p]]\nname = \"a\"\nv = 1\n\n[[p]]\nname = \"b\"\nv = 1\n",
                "p[name=b].v",
                "2",
                "[[p]]\nname = \"a\"\nv = 1\n\n[[p]]\nname = \"b\"\nv = 2\n",
            ),
            ("a = 1.9\n", "a", "1.10", "a = \"1.10\"\n"),
            ("a = 300\n", "a", "500", "a = 500\n"),
            ("a = 300\n", "a", "v1", "a = \"v1\"\n"),
            ("a = true\n", "a", "false", "a = false\n"),
            ("a = true\n", "a", "no", "a = \"no\"\n"),
            ("a = 2021-05-10\n", "a", "2021-06-01", "a = 2021-06-01\n"),
            ("a = \"ü\"\r\nb = \"1\"\r\n", "b", "2", "a = \"ü\"\r\nb = \"2\"\r\n"),
            ("a = \"1\"", "a", "x\\y\"z", "a = \"x\\\\y\\\"z\""),
            ("\u{feff}a = 1\n", "a", "2", "\u{feff}a = 2\n"),
        ] {
            changes("f.toml", text, path, to, wanted);
        }
    }

    #[test]
    fn what_is_not_safe_is_refused() {
        for (text, path, to, reason) in [
            ("a = 1\na = 2\n", "a", "3", "not valid TOML: duplicate key"),
            ("a = \"\"\"x\"\"\"\n", "a", "3", "several lines"),
            ("a = {{ x }}\n", "a", "3", "line 1 is template syntax"),
            ("[a]\nb = 1\n", "a", "3", "the value is a mapping"),
            ("a = \n", "a", "3", "line 1"),
            (
                "[tool.x]\nversion = 1\n",
                "tool.x.verison",
                "3",
                "`tool.x` has no key `verison`; the nearest is `version`",
            ),
        ] {
            refuses("f.toml", text, path, to, reason);
        }
        refuses("f.toml", &format!("a = {}", "[".repeat(100_000)), "a", "3", "");
    }

    #[test]
    fn values_are_read() {
        reads("f.toml", "a = 1.10\n", "a", Some("1.10"));
        reads("f.toml", "a = '''x'''\n", "a", Some("x"));
        reads("f.toml", "[b]\na = 1\n", "a", None);
    }
}
