use std::ops::Range;

use super::{
    Format, Path, Why, json, toml,
    tree::{Follow, Node, Shape, Style, Trail, Tree},
    yaml,
};

/// Reads a file whose values stand in mappings and lists.
pub(super) fn parse(format: Format, text: &str) -> Result<Tree<'_>, Why> {
    match format {
        Format::Yaml => yaml::parse(text),
        Format::Json => json::parse(text),
        Format::Toml => toml::parse(text),
        Format::Env | Format::Requirements => Err(Why::UnknownFormat),
    }
}

/// The one place of the path, whichever document it is in.
pub(super) fn find(tree: &Tree<'_>, path: &Path, follow: Follow) -> Result<Trail, Why> {
    let count = tree.documents.len();
    if let Some(wanted) = path.document {
        let root = tree.documents.get(wanted - 1).ok_or(Why::NoDocument { wanted, count })?;
        return tree.find(*root, &path.steps, follow);
    }
    let mut found: Vec<(usize, Result<Trail, Why>)> = Vec::new();
    for (index, root) in tree.documents.iter().enumerate() {
        match tree.find(*root, &path.steps, follow) {
            Err(why) if why.is_absence() && count > 1 => (),
            other => found.push((index + 1, other)),
        }
    }
    match found.len() {
        0 => {
            let first = tree.documents.first().ok_or(Why::Empty)?;
            tree.find(*first, &path.steps, follow)
        }
        1 => found.remove(0).1,
        _ => Err(Why::ManyDocuments { documents: found.into_iter().map(|(number, _)| number).collect() }),
    }
}

/// The text of the value; `None` where the key is there and nothing behind it.
pub(super) fn read(format: Format, text: &str, path: &Path) -> Result<Option<String>, Why> {
    let tree = parse(format, text)?;
    scalar(&tree, find(&tree, path, Follow::Aliases)?.target())
}

/// The text of a node that is a single value.
pub(super) fn scalar(tree: &Tree<'_>, target: usize) -> Result<Option<String>, Why> {
    match &tree.nodes[target].shape {
        Shape::Scalar { .. } if tree.is_null(target) => Ok(None),
        Shape::Scalar { text, style } => Ok(Some(content(text, *style).to_owned())),
        Shape::Map { .. } | Shape::List { .. } | Shape::Alias(_) => Err(Why::Collection { what: tree.what(target) }),
    }
}

/// A block scalar without the line end that belongs to its notation.
fn content(text: &str, style: Style) -> &str {
    if style == Style::Block { text.trim_end_matches('\n') } else { text }
}

/// The splice that makes the value read as what `to` makes of its text.
pub(super) fn change(
    format: Format,
    text: &str,
    path: &Path,
    to: &dyn Fn(&str) -> Result<String, Why>,
) -> Result<Splice, Why> {
    let tree = parse(format, text)?;
    let trail = find(&tree, path, Follow::Nothing)?;
    refuse_shared(&tree, &trail)?;
    let target = trail.target();
    let Shape::Scalar { text: old, style } = &tree.nodes[target].shape else {
        return Err(Why::Collection { what: tree.what(target) });
    };
    let stands = if tree.is_null(target) { "" } else { content(old, *style) };
    let new = to(stands)?;
    if new == stands {
        return Ok(Splice::nothing());
    }
    let splice = match format {
        Format::Yaml => yaml::splice(&tree, target, trail.key, in_flow(&tree, &trail), &new)?,
        Format::Json => whole_node(&tree, target, json::token(old, *style, &new), new),
        Format::Toml => whole_node(&tree, target, toml::token(old, *style, &new)?, new),
        Format::Env | Format::Requirements => return Err(Why::UnknownFormat),
    };
    let after = splice.applied(text);
    let changed = parse(format, &after).map_err(|_| Why::Check { problem: "the file could not be read any more" })?;
    check_changed(&tree, &changed, target, &splice.reads)?;
    Ok(splice)
}

fn whole_node(tree: &Tree<'_>, id: usize, token: String, reads: String) -> Splice {
    Splice { range: tree.nodes[id].span.clone(), token, reads }
}

/// Where to cut, and what to put there.
#[derive(Debug)]
pub(super) struct Splice {
    pub(super) range: Range<usize>,
    pub(super) token: String,
    /// What the value reads as afterwards.
    pub(super) reads: String,
}

impl Splice {
    /// The value is as asked already.
    pub(super) fn nothing() -> Splice {
        Splice { range: 0..0, token: String::new(), reads: String::new() }
    }

    /// The text with the splice made.
    pub(super) fn applied(&self, text: &str) -> String {
        [&text[..self.range.start], &self.token, &text[self.range.end..]].concat()
    }
}

/// A value below an anchor that an alias repeats would change in two places.
pub(super) fn refuse_shared(tree: &Tree<'_>, trail: &Trail) -> Result<(), Why> {
    match trail.nodes.iter().find_map(|id| tree.alias_of(*id)) {
        Some(alias) => Err(Why::Shared { line: tree.line(alias) }),
        None => Ok(()),
    }
}

fn in_flow(tree: &Tree<'_>, trail: &Trail) -> bool {
    let flow = |id: &usize| matches!(tree.nodes[*id].shape, Shape::Map { flow: true } | Shape::List { flow: true });
    trail.nodes.iter().any(flow)
}

/// Everything but the target says what it said, and the target says what was asked.
fn check_changed(before: &Tree<'_>, after: &Tree<'_>, target: usize, reads: &str) -> Result<(), Why> {
    let same = before.nodes.len() == after.nodes.len()
        && before.documents == after.documents
        && (0..before.nodes.len()).all(|id| id == target || before.nodes[id].says_what(&after.nodes[id]));
    if !same {
        return Err(Why::Check { problem: "another value would read differently" });
    }
    let (old, new) = (&before.nodes[target], &after.nodes[target]);
    let kept = |a: &Node<'_>, b: &Node<'_>| a.depth == b.depth && a.anchor == b.anchor && a.tag == b.tag;
    match &new.shape {
        Shape::Scalar { text, .. } if text == reads && kept(old, new) => Ok(()),
        _ => Err(Why::Check { problem: "the value would not read as asked" }),
    }
}
