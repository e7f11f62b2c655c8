use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, StructureStyle, Tag};

use super::{
    Format, Why,
    document::Splice,
    scalar::{double_quoted, fits_plain, is_printable, single_quoted, stays_plain},
    tree::{DEPTH_MAX, Node, Shape, Style, Tree},
};

/// Reads a YAML file of one or more documents.
pub(super) fn parse(text: &str) -> Result<Tree<'_>, Why> {
    let mut tree = Tree { source: text, ..Tree::default() };
    let mut open: Vec<usize> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| broken(text, &error))?;
        let range = span.byte_range().unwrap_or_default();
        let depth = open.len();
        let closes = matches!(event, Event::SequenceEnd | Event::MappingEnd);
        let Some((shape, anchor, tag)) = node_of(event) else {
            if let Some(id) = open.pop_if(|_| closes) {
                tree.close(id, range.end);
            }
            continue;
        };
        let opens = matches!(shape, Shape::Map { .. } | Shape::List { .. });
        let id = tree.push(shape, range, depth);
        tree.nodes[id].anchor = anchor;
        if anchor != 0 {
            tree.anchors.insert(anchor, id);
        }
        tree.nodes[id].tag = tag;
        if opens {
            open.push(id);
        }
        if depth >= DEPTH_MAX {
            return Err(Why::TooDeep { max: DEPTH_MAX });
        }
    }
    refuse_collection_keys(&tree)?;
    Ok(tree)
}

type Parts<'a> = (Shape<'a>, usize, Option<Box<str>>);

fn node_of(event: Event<'_>) -> Option<Parts<'_>> {
    let tag_text = |tag: Option<std::borrow::Cow<'_, Tag>>| tag.map(|tag| tag.original().into_boxed_str());
    let flow = |style: StructureStyle| style == StructureStyle::Flow;
    match event {
        Event::Scalar(text, style, anchor, tag) => {
            let style = match style {
                ScalarStyle::Plain => Style::Plain,
                ScalarStyle::SingleQuoted => Style::Single,
                ScalarStyle::DoubleQuoted => Style::Double,
                ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
            };
            Some((Shape::Scalar { text, style }, anchor, tag_text(tag)))
        }
        Event::SequenceStart(style, anchor, tag) => Some((Shape::List { flow: flow(style) }, anchor, tag_text(tag))),
        Event::MappingStart(style, anchor, tag) => Some((Shape::Map { flow: flow(style) }, anchor, tag_text(tag))),
        Event::Alias(anchor) => Some((Shape::Alias(anchor), 0, None)),
        _ => None,
    }
}

fn broken(text: &str, error: &ScanError) -> Why {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    let row = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    if has_template(row) || text.lines().any(|row| row.trim_start().starts_with("{{")) {
        let template = text.lines().position(has_template).map_or(line, |at| at + 1);
        return Why::Template { format: Format::Yaml, line: template };
    }
    Why::Broken { format: Format::Yaml, line, column, problem: error.info() }
}

/// Whether a line holds Go or Jinja template syntax.
pub(super) fn has_template(text: &str) -> bool {
    ["{{", "{%"].iter().any(|mark| text.contains(mark))
}

/// `{{ .Values.x }}` reads as a mapping whose key is a mapping: the file is a template, and what a template repeats or
/// leaves out cannot be known from its text.
fn refuse_collection_keys(tree: &Tree<'_>) -> Result<(), Why> {
    let maps = (0..tree.nodes.len()).filter(|id| matches!(tree.nodes[*id].shape, Shape::Map { .. }));
    let keys = maps.flat_map(|map| tree.entries(map).map(|(key, _)| key));
    let collection = |key: &usize| matches!(tree.nodes[*key].shape, Shape::Map { .. } | Shape::List { .. });
    let Some(key) = keys.into_iter().find(collection) else { return Ok(()) };
    let line = tree.line(key);
    let row = tree.source.lines().nth(line - 1).unwrap_or_default();
    if has_template(row) {
        return Err(Why::Template { format: Format::Yaml, line });
    }
    Err(Why::CollectionKey { line })
}

/// The splice that makes a scalar read as `to`.
pub(super) fn splice(tree: &Tree<'_>, id: usize, key: Option<usize>, in_flow: bool, to: &str) -> Result<Splice, Why> {
    let node = &tree.nodes[id];
    let Shape::Scalar { text, style } = &node.shape else {
        return Err(Why::Collection { what: tree.what(id) });
    };
    let raw = &tree.source[node.span.clone()];
    let text_only = known_tag(node)?;
    let done = |token: String| Ok(Splice { range: node.span.clone(), token, reads: to.to_owned() });
    match style {
        Style::Block => block(tree, node, text, to),
        _ if raw.contains(['\n', '\r']) => Err(Why::ManyLines),
        Style::Plain if raw.is_empty() => nothing(tree, node, key, in_flow, to),
        Style::Plain if (text_only || stays_plain(text, to)) && fits_plain(to, in_flow) => done(to.to_owned()),
        Style::Plain | Style::Double => done(double_quoted(to)),
        Style::Single => done(single_quoted(to).unwrap_or_else(|| double_quoted(to))),
    }
}

/// Whether a tag says that the value is a text whatever it looks like.
fn known_tag(node: &Node<'_>) -> Result<bool, Why> {
    match node.tag.as_deref() {
        None | Some("!!int" | "!!float" | "!!bool") => Ok(false),
        Some("!!str" | "!") => Ok(true),
        Some(tag) => Err(Why::Tagged { tag: tag.to_owned() }),
    }
}

/// `key:` with nothing behind it: the place is right after the colon.
fn nothing(tree: &Tree<'_>, node: &Node<'_>, key: Option<usize>, in_flow: bool, to: &str) -> Result<Splice, Why> {
    let key = key.filter(|_| node.tag.is_none() && node.anchor == 0).ok_or(Why::NoRoom)?;
    let after_key = tree.nodes[key].span.end;
    let rest = &tree.source[after_key..];
    let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    if !rest[blanks..].starts_with(':') {
        return Err(Why::NoRoom);
    }
    let at = after_key + blanks + 1;
    Ok(Splice { range: at..at, token: format!(" {}", fresh(to, in_flow)), reads: to.to_owned() })
}

/// A text as it is written where nothing stood: plain when every reader then takes it as a text. `true` and `false` are
/// no versions but switches, and a template would take the text `"false"` as true.
pub(super) fn fresh(to: &str, in_flow: bool) -> String {
    let switch = matches!(to, "true" | "false");
    if switch || (stays_plain("", to) && fits_plain(to, in_flow)) { to.to_owned() } else { double_quoted(to) }
}

/// A block scalar whose content is one line.
fn block(tree: &Tree<'_>, node: &Node<'_>, text: &str, to: &str) -> Result<Splice, Why> {
    let content = text.trim_end_matches('\n');
    if content.is_empty() || content.contains('\n') {
        return Err(Why::ManyLines);
    }
    if to.starts_with(char::is_whitespace) || content.starts_with(char::is_whitespace) {
        return Err(Why::CannotHold {
            to: to.to_owned(),
            problem: "a blank at its start would change the indentation",
        });
    }
    if !to.chars().all(is_printable) {
        return Err(Why::CannotHold { to: to.to_owned(), problem: "a block scalar has no escapes for its characters" });
    }
    let at = node.span.start;
    if !tree.source[at..].starts_with(content) {
        return Err(Why::NoRoom);
    }
    Ok(Splice { range: at..at + content.len(), token: to.to_owned(), reads: format!("{to}{}", &text[content.len()..]) })
}
