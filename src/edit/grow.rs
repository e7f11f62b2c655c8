//! Adding an entry to a YAML block mapping, and taking it away again.

use std::ops::Range;

use super::{
    Format, Path, Why,
    document::{Splice, refuse_shared},
    path::Step,
    scalar::{Sense, double_quoted, fits_plain, sense},
    tree::{Follow, Node, Shape, Style, Trail, Tree},
    yaml,
};

/// The splice that adds the missing end of the path, parents included.
pub(super) fn insert(text: &str, path: &Path, to: &str) -> Result<Splice, Why> {
    let tree = yaml::parse(text)?;
    let root = only_root(&tree, path)?;
    let absent = match tree.find(root, &path.steps, Follow::Nothing) {
        Ok(trail) if tree.is_null(trail.target()) => {
            refuse_shared(&tree, &trail)?;
            return super::document::change(Format::Yaml, text, path, &|_| Ok(to.to_owned()));
        }
        Ok(trail) => {
            return Err(Why::Present { value: tree.text(trail.target()).unwrap_or("a collection").to_owned() });
        }
        Err(why) if why.is_absence() => why,
        Err(why) => return Err(why),
    };
    let (parent, missing) = deepest(&tree, root, &path.steps)?;
    let keys: Option<Vec<&str>> = missing.iter().map(Step::key).collect();
    let keys = keys.ok_or_else(|| absent.clone())?;
    refuse_shared(&tree, &parent)?;
    let map = parent.target();
    if matches!(tree.nodes[map].shape, Shape::Scalar { .. }) && !tree.is_null(map) {
        return Err(absent);
    }
    let indent = indent_of(&tree, map)?;
    let lines = entry(&keys, &indent, &" ".repeat(indent_step(&tree)), to);
    for at in candidates(&tree, map) {
        let splice = Splice { range: at..at, token: as_lines(text, at, &lines), reads: to.to_owned() };
        if added(&tree, &splice.applied(text), path, 2 * keys.len(), to) {
            return Ok(splice);
        }
    }
    Err(Why::Check { problem: "another value would read differently" })
}

fn only_root(tree: &Tree<'_>, path: &Path) -> Result<usize, Why> {
    let count = tree.documents.len();
    match path.document {
        Some(wanted) => tree.documents.get(wanted - 1).copied().ok_or(Why::NoDocument { wanted, count }),
        None if count > 1 => Err(Why::ManyDocuments { documents: (1..=count).collect() }),
        None => tree.documents.first().copied().ok_or(Why::Empty),
    }
}

/// The longest part of the path that exists, and the rest.
fn deepest<'p>(tree: &Tree<'_>, root: usize, steps: &'p [Step]) -> Result<(Trail, &'p [Step]), Why> {
    for known in (1..steps.len()).rev() {
        match tree.find(root, &steps[..known], Follow::Nothing) {
            Ok(trail) => return Ok((trail, &steps[known..])),
            Err(why) if why.is_absence() => (),
            Err(why) => return Err(why),
        }
    }
    Ok((tree.find(root, &[], Follow::Nothing)?, steps))
}

/// The blanks in front of the keys of a block mapping.
fn indent_of(tree: &Tree<'_>, map: usize) -> Result<String, Why> {
    let first = match tree.nodes[map].shape {
        Shape::Map { flow: false } => tree.children(map).next(),
        Shape::Map { flow: true } => return Err(Why::NotABlock { problem: "the mapping is written in braces" }),
        Shape::Scalar { .. } => return Err(Why::NotABlock { problem: "there is no mapping yet to go into" }),
        Shape::List { .. } | Shape::Alias(_) => return Err(Why::NotABlock { problem: "it would go into a list" }),
    };
    let first = first.ok_or(Why::NotABlock { problem: "the mapping is empty" })?;
    let before = before_on_line(tree.source, tree.nodes[first].span.start);
    match before.bytes().all(|byte| matches!(byte, b' ' | b'-')) {
        true => Ok(" ".repeat(before.len())),
        false => Err(Why::NotABlock { problem: "more than blanks stands before the keys of the mapping" }),
    }
}

fn before_on_line(text: &str, at: usize) -> &str {
    &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..at]
}

const INDENT_STEP: usize = 2;

/// How much deeper the file writes a mapping within a mapping.
fn indent_step(tree: &Tree<'_>) -> usize {
    let column = |map: usize| before_on_line(tree.source, tree.nodes[map].span.start).len();
    let block = |id: &usize| matches!(tree.nodes[*id].shape, Shape::Map { flow: false });
    let inner = |map: usize| tree.entries(map).map(|(_, value)| value).find(block).map(|inner| (map, inner));
    let pair = (0..tree.nodes.len()).filter(block).find_map(inner);
    pair.and_then(|(outer, inner)| column(inner).checked_sub(column(outer)))
        .filter(|step| *step > 0)
        .unwrap_or(INDENT_STEP)
}

fn entry(keys: &[&str], indent: &str, step: &str, to: &str) -> Vec<String> {
    let line = |(depth, key): (usize, &&str)| format!("{indent}{}{}:", step.repeat(depth), key_token(key));
    let mut lines: Vec<String> = keys.iter().enumerate().map(line).collect();
    if let Some(last) = lines.last_mut() {
        *last = format!("{last} {}", yaml::fresh(to, false));
    }
    lines
}

fn key_token(key: &str) -> String {
    if fits_plain(key, false) && sense(key) == Sense::Text { key.to_owned() } else { double_quoted(key) }
}

/// Where an entry can go, best first: right behind the last value, behind the blank lines that may belong to it, or
/// before the first key. What is wrong for a file is found out by reading the result.
fn candidates(tree: &Tree<'_>, map: usize) -> Vec<usize> {
    let (text, start) = (tree.source, tree.nodes[map].span.start);
    let last = last_node(tree, map);
    let span = &tree.nodes[last].span;
    // Where nothing is written the key in front of it tells best where that is.
    let end = if span.is_empty() { tree.nodes[last - 1].span.end } else { span.end }.max(start);
    let content_end = text[..end].trim_end().len().max(start);
    let first_line = start - before_on_line(text, start).len();
    vec![line_after(text, content_end), line_after(text, span.end.saturating_sub(1).max(content_end)), first_line]
}

/// The last value of a block collection that is not a block collection itself.
fn last_node(tree: &Tree<'_>, collection: usize) -> usize {
    let block = |id: usize| matches!(tree.nodes[id].shape, Shape::Map { flow: false } | Shape::List { flow: false });
    let mut last = collection;
    while let Some(child) = tree.children(last).last().filter(|_| block(last)) {
        last = child;
    }
    last
}

/// The start of the line after the one that holds the byte.
fn line_after(text: &str, at: usize) -> usize {
    text.bytes().skip(at).position(|byte| byte == b'\n').map_or(text.len(), |end| at + end + 1)
}

/// The lines with the file's own line end, and none behind the last line of a file that ends without.
fn as_lines(text: &str, at: usize, lines: &[String]) -> String {
    let first_end = text.find('\n').unwrap_or(0);
    let end = if text[..first_end].ends_with('\r') { "\r\n" } else { "\n" };
    if at == text.len() && !text.ends_with('\n') {
        return lines.iter().map(|line| format!("{end}{line}")).collect();
    }
    lines.iter().map(|line| format!("{line}{end}")).collect()
}

/// Whether the file afterwards is the file before and the one new value, with the parents it needs.
fn added(before: &Tree<'_>, after: &str, path: &Path, count: usize, to: &str) -> bool {
    let Ok(after) = yaml::parse(after) else { return false };
    let Some(root) = after.documents.get(path.document.unwrap_or(1) - 1) else { return false };
    let Ok(trail) = after.find(*root, &path.steps, Follow::Nothing) else { return false };
    let target = trail.target();
    after.text(target) == Some(to) && differ_by(before, &after, (target + 1).saturating_sub(count)..target + 1)
}

/// Whether `larger` without the range is `smaller`.
fn differ_by(smaller: &Tree<'_>, larger: &Tree<'_>, range: Range<usize>) -> bool {
    let rest = larger.nodes[..range.start].iter().chain(&larger.nodes[range.end..]);
    let pairs = || smaller.nodes.iter().zip(rest.clone());
    smaller.nodes.len() + range.len() == larger.nodes.len()
        && smaller.documents.len() == larger.documents.len()
        && pairs().all(|(a, b): (&Node<'_>, &Node<'_>)| a.says_what(b))
}

/// The splice that takes an entry away, and the parents that it alone filled.
pub(super) fn remove(text: &str, path: &Path) -> Result<Splice, Why> {
    let tree = yaml::parse(text)?;
    let trail = super::document::find(&tree, path, Follow::Nothing)?;
    refuse_shared(&tree, &trail)?;
    let target = trail.target();
    match tree.nodes[target].shape {
        Shape::Scalar { style: Style::Block, .. } => return Err(Why::ManyLines),
        Shape::Scalar { .. } => (),
        Shape::Map { .. } | Shape::List { .. } | Shape::Alias(_) => {
            return Err(Why::Collection { what: tree.what(target) });
        }
    }
    let (first_key, levels) = top(&tree, &trail)?;
    let range = whole_lines(&tree, first_key, target, levels)?;
    let splice = Splice { range, token: String::new(), reads: String::new() };
    let after = splice.applied(text);
    match yaml::parse(&after) {
        Ok(after) if differ_by(&after, &tree, first_key..target + 1) => Ok(splice),
        _ => Err(Why::Check { problem: "another value would read differently" }),
    }
}

/// The key of the outermost mapping entry that holds nothing but the target, and how many levels that is.
fn top(tree: &Tree<'_>, trail: &Trail) -> Result<(usize, usize), Why> {
    let mut levels = 0;
    for pair in trail.nodes.windows(2).rev() {
        let (map, value) = (pair[0], pair[1]);
        levels += 1;
        if !matches!(tree.nodes[map].shape, Shape::Map { flow: false }) {
            break;
        }
        let Some((key, _)) = tree.entries(map).find(|(_, entry)| *entry == value) else { break };
        if tree.entries(map).nth(1).is_some() {
            return Ok((key, levels));
        }
    }
    Err(Why::NotABlock { problem: "a list item, a mapping in braces or the whole document would be left empty" })
}

fn whole_lines(tree: &Tree<'_>, first_key: usize, target: usize, levels: usize) -> Result<Range<usize>, Why> {
    let text = tree.source;
    let start = tree.nodes[first_key].span.start;
    let before = before_on_line(text, start);
    let value = &tree.nodes[target].span;
    let value_end = if value.is_empty() { tree.nodes[target - 1].span.end } else { value.end };
    let (start, end) = (start - before.len(), line_after(text, value_end));
    let removed = &text[start..end];
    if !before.bytes().all(|byte| byte == b' ') {
        return Err(Why::NotABlock { problem: "more than blanks stands before the key" });
    }
    if removed.trim_end_matches(['\r', '\n']).lines().count() != levels {
        return Err(Why::NotABlock { problem: "it and its parents go over more lines than their own" });
    }
    if removed.lines().take(levels - 1).any(|line| !line.trim_end().ends_with(':')) {
        return Err(Why::NotABlock { problem: "a parent's line holds more than its key" });
    }
    if !removed.ends_with('\n') && start > 0 {
        let line_end = if text[..start].ends_with("\r\n") { 2 } else { 1 };
        return Ok(start - line_end..end);
    }
    Ok(start..end)
}

#[cfg(test)]
mod tests {
    use crate::edit::{
        EditError, insert, read, remove,
        tests::{place, version},
    };

    fn inserted(text: &str, path: &str, to: &str) -> Result<String, EditError> {
        let out = insert(text.as_bytes(), &place("f.yaml", path), &version(to))?;
        Ok(String::from_utf8(out).expect("text"))
    }

    fn removed(text: &str, path: &str) -> Result<String, EditError> {
        let out = remove(text.as_bytes(), &place("f.yaml", path), None)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn an_entry_is_added_and_taken_away() {
        for (text, path, to, wanted) in [
            ("a: 1\n", "b", "2.0.1", "a: 1\nb: 2.0.1\n"),
            ("a: 1\n", "b", "2", "a: 1\nb: \"2\"\n"),
            ("a: 1", "b", "x", "a: 1\nb: x"),
            ("a: 1\r\n", "b", "x", "a: 1\r\nb: x\r\n"),
            ("a: 1\n", "b.c.d", "x", "a: 1\nb:\n  c:\n    d: x\n"),
            (
                "hub:\n    x:\n        y: 1\n\nz: 1\n",
                "hub.image.tag",
                "x",
                "hub:\n    x:\n        y: 1\n    image:\n        tag: x\n\nz: 1\n",
            ),
            (
                "hub:\n  image:\n    name: a # n\n\n  # other\n  db: 1\n",
                "hub.image.tag",
                "x",
                "hub:\n  image:\n    name: a # n\n    tag: x\n\n  # other\n  db: 1\n",
            ),
            ("a:\n  b: |\n    x\n\n\nc: 1\n", "a.d", "y1", "a:\n  b: |\n    x\n  d: y1\n\n\nc: 1\n"),
            ("a:\n  b: |+\n    x\n\n\nc: 1\n", "a.d", "y1", "a:\n  b: |+\n    x\n\n\n  d: y1\nc: 1\n"),
            ("a:\n  b:\nc: 1\n", "a.d", "x", "a:\n  b:\n  d: x\nc: 1\n"),
            ("a:\n  b: [1,\n    2]\nc: 1\n", "a.d", "x", "a:\n  b: [1,\n    2]\n  d: x\nc: 1\n"),
            (
                "a:\n  b:\n  - 1\n  - x: 1\n    y: 2\nc: 1\n",
                "a.d",
                "x",
                "a:\n  b:\n  - 1\n  - x: 1\n    y: 2\n  d: x\nc: 1\n",
            ),
            (
                "l:\n- name: a\n- name: b\n",
                "l[name=a].version",
                "1.0",
                "l:\n- name: a\n  version: \"1.0\"\n- name: b\n",
            ),
            ("l:\n  - name: a", "l[0].version", "v1", "l:\n  - name: a\n    version: v1"),
            ("a:\n  - - 1\n    - 2\n# c\n", "b", "x", "a:\n  - - 1\n    - 2\nb: x\n# c\n"),
            (
                "a:\n  b:\n    c: >\n      x\n      y\n\n# c\n",
                "a.b.d",
                "x",
                "a:\n  b:\n    c: >\n      x\n      y\n    d: x\n\n# c\n",
            ),
            ("a: b\u{3000}", "c", "x", "a: b\u{3000}\nc: x"),
            ("a:\n  - b\n  -\n", "c", "x", "a:\n  - b\n  -\nc: x\n"),
            ("a: 1\n---\na: 1\n", "#2:b", "x", "a: 1\n---\na: 1\nb: x\n"),
            ("a: 1\n", "[\"x.y/z\"]", "x", "a: 1\nx.y/z: x\n"),
            ("a: 1\n", "on", "x", "a: 1\n\"on\": x\n"),
            ("# top\n\na: 1 # one\n\n# end\n", "b", "x", "# top\n\na: 1 # one\nb: x\n\n# end\n"),
            ("\u{feff}a: 1\n", "b", "x", "\u{feff}a: 1\nb: x\n"),
            ("a: \"x\n  y\"\nb: 'ü'\n", "c", "z", "a: \"x\n  y\"\nb: 'ü'\nc: z\n"),
        ] {
            assert_eq!(inserted(text, path, to).as_deref(), Ok(wanted), "{path} into {text:?}");
            assert_eq!(read(wanted.as_bytes(), &place("f.yaml", path)), Ok(Some(version(to))));
            assert_eq!(removed(wanted, path).as_deref(), Ok(text), "{path} from {wanted:?}");
        }
    }

    #[test]
    fn a_key_with_nothing_behind_it_is_filled() {
        assert_eq!(inserted("tag:\n", "tag", "x").as_deref(), Ok("tag: x\n"));
    }

    #[test]
    fn what_is_not_safe_is_refused() {
        for (text, path, reason) in [
            ("a: 1\n", "a", "`1` stands there already"),
            ("a: {}\n", "a.b", "written in braces"),
            ("a:\nb: 1\n", "a.c", "no mapping yet"),
            ("a: x\n", "a.b", "a single value, not a mapping"),
            ("a: [1]\n", "a[3]", "none numbered 3"),
            ("l:\n- n: 1\n", "l[n=2].v", "no item with n=2"),
            ("a: &x\n  b: 1\nc: *x\n", "a.d", "the alias on line 3"),
            ("a: &x\n  b: 1\nc: *x\n", "c.d", "`c` is an alias"),
            ("a: &x\n  b: 1\nc:\n  <<: *x\n", "c.b", "merge key"),
            ("a: 1\n---\nb: 1\n", "c", "in the documents 1 and 2"),
            ("", "a", "the file is empty"),
            ("a: 1\na: 2\n", "a.b", "several times"),
        ] {
            let error = inserted(text, path, "x").expect_err("this is refused");
            assert!(error.to_string().contains(reason), "{path} into {text:?}: {error}");
        }
        for (text, path, reason) in [
            ("a: 1\n", "a", "would be left empty"),
            ("l:\n- a: 1\n", "l[0].a", "would be left empty"),
            ("l:\n- a: 1\n  b: 2\n", "l[0].a", "more than blanks"),
            ("a: {b: 1, c: 2}\n", "a.b", "would be left empty"),
            ("a:\n  # why\n  b: 1\nc: 1\n", "a.b", "more lines than their own"),
            ("a: # why\n  b: 1\nc: 1\n", "a.b", "more than its key"),
            ("a: |\n  x\nb: 1\n", "a", "several lines"),
            ("a: {b: 1}\nc: 1\n", "a", "is a mapping"),
            ("a: 1\n", "b", "no key `b`"),
            ("a: &x 1\nb: *x\n", "a", "the alias on line 2"),
        ] {
            let error = removed(text, path).expect_err("this is refused");
            assert!(error.to_string().contains(reason), "{path} from {text:?}: {error}");
        }
    }
}
