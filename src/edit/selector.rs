use std::{fmt, str::FromStr};

use super::{
    At, EditError, Format, Part, Path, Place, Why, document,
    path::{Step, shown},
    text_of,
    tree::{Follow, Tree},
};

/// A path that may lead to several values: `[*]` stands for every entry of a mapping or item of a list.
///
/// `hosts[*].weight` is the weight of every host, however many there are. Without `[*]` it is a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    text: String,
    head: Path,
    /// What follows each `[*]`.
    legs: Vec<Vec<Step>>,
}

/// A place that a selector leads to, and what stands there; `None` where nothing does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    pub path: String,
    pub text: Option<String>,
}

const EACH: &str = "[*]";

impl FromStr for Selector {
    type Err = EditError;

    fn from_str(text: &str) -> Result<Selector, EditError> {
        let mut pieces = text.split(EACH);
        let head = pieces.next().unwrap_or_default();
        let (mut legs, mut before) = (Vec::new(), head.len());
        let head = head.parse().map_err(|error| of_the_whole(text, error, 0))?;
        for leg in pieces {
            before += EACH.len();
            legs.push(leg_of(text, leg, before)?);
            before += leg.len();
        }
        Ok(Selector { text: text.to_owned(), head, legs })
    }
}

/// The steps after a `[*]`; none at the end of the path and between two `[*]`.
fn leg_of(text: &str, leg: &str, before: usize) -> Result<Vec<Step>, EditError> {
    if leg.is_empty() {
        return Ok(Vec::new());
    }
    if !leg.starts_with(['.', '[']) {
        let why = "expected `.` or `[` after `]`";
        return Err(EditError::Path { path: text.to_owned(), column: before + 1, why });
    }
    leg.parse::<Path>().map(|path| path.steps).map_err(|error| of_the_whole(text, error, before))
}

/// The error of a piece of the path, told of the path as a whole.
fn of_the_whole(text: &str, error: EditError, before: usize) -> EditError {
    match error {
        EditError::Path { column, why, .. } => EditError::Path { path: text.to_owned(), column: column + before, why },
        other @ (EditError::Read { .. }
        | EditError::Change { .. }
        | EditError::Insert { .. }
        | EditError::Remove { .. }) => other,
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Everything the selector leads to in the file, in the file's order.
pub fn select(bytes: &[u8], file: &str, selector: &Selector) -> Result<Vec<Selected>, EditError> {
    if selector.legs.is_empty() {
        let place = Place { file: file.to_owned(), at: At::Path(selector.head.clone()), part: Part::Whole };
        let text = super::read(bytes, &place)?.map(|value| value.to_string());
        return Ok(vec![Selected { path: selector.text.clone(), text }]);
    }
    let found = text_of(bytes).and_then(|(_, text)| each(text, file, selector));
    found.map_err(|why| EditError::Read { file: file.to_owned(), at: selector.text.clone(), why: why.into() })
}

fn each(text: &str, file: &str, selector: &Selector) -> Result<Vec<Selected>, Why> {
    let format = match Format::of(file).ok_or(Why::UnknownFormat)? {
        format @ (Format::Yaml | Format::Json | Format::Toml) => format,
        Format::Env | Format::Requirements => return Err(Why::NotOneKey),
    };
    let tree = document::parse(format, text)?;
    let root = document::find(&tree, &selector.head, Follow::Aliases)?.root();
    let mut paths = vec![selector.head.steps.clone()];
    for leg in &selector.legs {
        let mut longer = Vec::new();
        for path in &paths {
            for step in below(&tree, root, path)? {
                longer.push([path.as_slice(), &[step], leg].concat());
            }
        }
        paths = longer;
    }
    paths.iter().map(|path| selected(&tree, root, path)).collect()
}

/// A step to everything that stands directly below the path.
fn below(tree: &Tree<'_>, root: usize, path: &[Step]) -> Result<Vec<Step>, Why> {
    let at = tree.find(root, path, Follow::Aliases)?.target();
    if let Some((key, _)) = tree.entries_of_map(at).into_iter().flatten().find(|(key, _)| tree.is_merge(*key)) {
        let key = tree.text(key).unwrap_or_default().to_owned();
        return Err(Why::Merged { found: shown(path), key });
    }
    if let Some(entries) = tree.entries_of_map(at) {
        let steps = entries.map(|(key, _)| tree.text(key).map(|key| Step::Key(key.to_owned())).ok_or(key));
        return steps.map(|step| step.map_err(|key| Why::CollectionKey { line: tree.line(key) })).collect();
    }
    match tree.items_of_list(at) {
        Some(items) => Ok((0..items.count()).map(Step::Index).collect()),
        None => Err(Why::NotAMap { found: shown(path), what: tree.what(at), key: "*".to_owned() }),
    }
}

fn selected(tree: &Tree<'_>, root: usize, path: &[Step]) -> Result<Selected, Why> {
    let text = match tree.find(root, path, Follow::Aliases) {
        Ok(trail) => document::scalar(tree, trail.target())?,
        Err(why) if why.is_absence() => None,
        Err(why) => return Err(why),
    };
    Ok(Selected { path: shown(path), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "hosts:\n  gesis: { weight: 50, prime: true }\n  bids: { weight: 0 }\n  \"a.b\": &x\n    \
                         health: /\n  again: *x\nlist:\n  - n: [1, 2]\n  - n: [3]\n";

    fn found(path: &str) -> Result<Vec<(String, Option<String>)>, EditError> {
        let selected = select(HOSTS.as_bytes(), "config/prod.yaml", &path.parse().expect("a path"))?;
        Ok(selected.into_iter().map(|s| (s.path, s.text)).collect())
    }

    #[test]
    fn a_star_is_every_entry_and_every_item() {
        let some = |path: &str, text: &str| (path.to_owned(), Some(text.to_owned()));
        let none = |path: &str| (path.to_owned(), None);
        let table = [
            ("hosts.gesis.weight", vec![some("hosts.gesis.weight", "50")]),
            ("hosts.nobody.weight", vec![none("hosts.nobody.weight")]),
            (
                "hosts[*].weight",
                vec![
                    some("hosts.gesis.weight", "50"),
                    some("hosts.bids.weight", "0"),
                    none("hosts[\"a.b\"].weight"),
                    none("hosts.again.weight"),
                ],
            ),
            ("list[*].n[*]", vec![some("list[0].n[0]", "1"), some("list[0].n[1]", "2"), some("list[1].n[0]", "3")]),
            ("list[0][*][*]", vec![some("list[0].n[0]", "1"), some("list[0].n[1]", "2")]),
        ];
        for (path, wanted) in table {
            assert_eq!(found(path).unwrap_or_else(|e| panic!("{path}: {e}")), wanted, "{path}");
        }
    }

    #[test]
    fn what_leads_nowhere_says_where_it_ends() {
        for (path, wanted) in [
            ("hosst[*].weight", "the document has no key `hosst`; the nearest is `hosts`"),
            ("hosts.gesis.weight[*]", "`hosts.gesis.weight` is a single value"),
            ("hosts[*]", "the value is a mapping"),
        ] {
            let error = found(path).expect_err(path).to_string();
            assert!(error.contains(wanted) && error.contains("config/prod.yaml"), "{error}");
        }
        let merged = "base: &b { weight: 1 }\nhosts:\n  <<: *b\n  x: { weight: 1 }\n";
        let error =
            select(merged.as_bytes(), "a.yaml", &"hosts[*].weight".parse().expect("a path")).expect_err("a merge");
        assert!(error.to_string().contains("merge key"), "{error}");
    }

    #[test]
    fn bad_selectors_are_refused_with_the_column() {
        for (text, wanted) in [("", 1), ("[*].a", 1), ("a[*]b", 5), ("a[*].", 6), ("a[*][x]", 7), ("a..b[*]", 3)] {
            match text.parse::<Selector>() {
                Err(EditError::Path { column, path, .. }) => assert_eq!((column, &*path), (wanted, text), "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
