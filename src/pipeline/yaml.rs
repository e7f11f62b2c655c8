//! YAML events become nodes. Everything that could surprise is refused here: duplicate keys, tags, merge keys, several
//! documents, and more nodes or levels than a pipeline can have.

use std::{collections::BTreeMap, ops::Range};

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle};

use super::{
    Fault, Node,
    node::{Content, Key},
};

/// Aliases included. The largest pipeline we have seen has some thousand.
const NODES_MAX: usize = 100_000;
const LEVELS_MAX: usize = 64;

/// The one document of the text.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Fault>> {
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder { text_len: text.len(), ..Builder::default() };
    for event in Parser::new_from_str_with_options(text, options) {
        let event = event.map_err(|error| vec![syntax(text, &error)]);
        let stopped = match event {
            Ok((event, span)) => {
                let span = span.byte_range().unwrap_or(0..0);
                builder.take(event, span).err()
            }
            Err(faults) => {
                builder.faults.extend(faults);
                return Err(builder.faults);
            }
        };
        if let Some(fault) = stopped {
            builder.faults.push(fault);
            return Err(builder.faults);
        }
    }
    builder.finish()
}

fn syntax(text: &str, error: &granit_parser::ScanError) -> Fault {
    let at = text.floor_char_boundary(error.marker().byte_offset().unwrap_or(0).min(text.len()));
    let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    let fault = Fault::new("this is not YAML").label(error.info()).at(at..end);
    let line_start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    match text[line_start..].trim_start_matches(' ').starts_with('\t') {
        true => fault.help("YAML is indented with spaces, never with tabs"),
        false => fault,
    }
}

#[derive(Default)]
struct Builder {
    text_len: usize,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    /// Faults that do not keep us from reading on.
    faults: Vec<Fault>,
}

/// A collection whose end has not come yet.
struct Open {
    start: usize,
    anchor: usize,
    content: OpenContent,
}

enum OpenContent {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, seen: BTreeMap<String, Range<usize>>, key: Option<Key> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) => self.document(span),
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = self.tag(tag.as_deref(), &span)?;
                let plain = style == ScalarStyle::Plain && !is_text;
                let content = Content::Scalar { text: text.into_owned(), plain };
                self.count(1, &span)?;
                self.push(Node { content, span, key: None, size: 1, height: 1 }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), &span)?;
                self.open(span, anchor, OpenContent::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), &span)?;
                let content = OpenContent::Map { entries: Vec::new(), seen: BTreeMap::new(), key: None };
                self.open(span, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(id) => self.alias(id, &span),
            // The event type may grow; what carries no node is of no interest here.
            _ => Ok(()),
        }
    }

    fn document(&mut self, span: Range<usize>) -> Result<(), Fault> {
        self.documents += 1;
        if self.documents > 1 {
            let fault = Fault::new("a second document begins here").at(span);
            return Err(fault.help("a pipeline file is one YAML document: put each pipeline into a file of its own"));
        }
        Ok(())
    }

    /// Whether the tag asks for text; no other tag has a meaning here.
    fn tag(&self, tag: Option<&granit_parser::Tag>, span: &Range<usize>) -> Result<bool, Fault> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema_tag("str") => Ok(true),
            Some(tag) => {
                let fault = Fault::new(format!("the tag `{}` has no meaning here", tag.original())).at(span.clone());
                Err(fault.help("take the tag out; what a value is follows from its key"))
            }
        }
    }

    fn open(&mut self, span: Range<usize>, anchor: usize, content: OpenContent) -> Result<(), Fault> {
        if self.open.len() + 1 >= LEVELS_MAX {
            return Err(too_deep(&span));
        }
        self.count(1, &span)?;
        self.open.push(Open { start: span.start, anchor, content });
        Ok(())
    }

    fn close(&mut self, span: Range<usize>) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let (content, size, height) = match open.content {
            OpenContent::List(items) => {
                let (size, height) = measure(items.iter());
                (Content::List(items), size, height)
            }
            OpenContent::Map { entries, .. } => {
                let (size, height) = measure(entries.iter().map(|(_, node)| node));
                (Content::Map(entries), size, height)
            }
        };
        let end = span.end.clamp(open.start, self.text_len.max(open.start));
        self.push(Node { content, span: open.start..end, key: None, size, height }, open.anchor)
    }

    fn alias(&mut self, id: usize, span: &Range<usize>) -> Result<(), Fault> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(Fault::new("this alias stands inside what it refers to").at(span.clone()));
        };
        let (size, height) = (node.size, node.height);
        // Before the copy is made: a few lines of aliases can stand for more than the memory holds.
        self.count(size, span)?;
        if self.open.len() + height > LEVELS_MAX {
            return Err(too_deep(span));
        }
        let node = self.anchors[&id].clone();
        self.push(node, 0)
    }

    fn count(&mut self, nodes: usize, span: &Range<usize>) -> Result<(), Fault> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(
                Fault::new(format!("the file holds more than {NODES_MAX} values, aliases included")).at(span.clone())
            );
        }
        Ok(())
    }

    fn push(&mut self, mut node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor > 0 {
            self.count(node.size, &node.span)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(OpenContent::List(items)) => items.push(node),
            Some(OpenContent::Map { entries, seen, key }) => match key.take() {
                Some(name) => {
                    node.key = Some(name.span.clone());
                    entries.push((name, node));
                }
                None => match key_of(node, seen)? {
                    (name, Some(fault)) => {
                        self.faults.push(fault);
                        *key = Some(name);
                    }
                    (name, None) => *key = Some(name),
                },
            },
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Node, Vec<Fault>> {
        match self.root.take() {
            Some(_) if !self.faults.is_empty() => Err(self.faults),
            Some(root) => Ok(root),
            None => Err(vec![empty()]),
        }
    }
}

pub(super) fn empty() -> Fault {
    Fault::new("the file is empty").help("`piton explain pipeline` shows a whole one")
}

fn too_deep(span: &Range<usize>) -> Fault {
    Fault::new(format!("this is nested more than {LEVELS_MAX} levels deep")).at(span.clone())
}

fn measure<'a>(children: impl Iterator<Item = &'a Node>) -> (usize, usize) {
    let sum = |(size, height): (usize, usize), node: &Node| (size + node.size, height.max(node.height));
    let (size, height) = children.fold((0, 0), sum);
    (size + 1, height + 1)
}

/// The node as a key, and a fault when there is something wrong with it that reading on survives.
fn key_of(node: Node, seen: &mut BTreeMap<String, Range<usize>>) -> Result<(Key, Option<Fault>), Fault> {
    let Content::Scalar { text, plain } = node.content else {
        let fault = Fault::new("a key must be a word").at(node.span.start..node.span.start + 1);
        return Err(fault.help("a value that begins with `{` or `[` needs quotes around it"));
    };
    let fault = if plain && text == "<<" {
        let fault = Fault::new("merge keys are not read").at(node.span.clone());
        Some(
            fault.help(
                "what environments share stands once under `defaults`; a whole value can be an alias: `key: *name`",
            ),
        )
    } else {
        let first = seen.insert(text.clone(), node.span.clone());
        first.map(|first| {
            Fault::new(format!("the key `{text}` stands here twice")).at(node.span.clone()).also(first, "first here")
        })
    };
    Ok((Key { text, span: node.span }, fault))
}
