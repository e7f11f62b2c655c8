//! YAML documents as Kubernetes reads them, each with the line it begins on.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle};

use super::scalar;

/// Aliases included: a few lines of them can stand for more than the memory holds.
const NODES_MAX: usize = 8_000_000;
/// A long text weighs as much as one value for each of so many bytes.
const BYTES_PER_NODE: usize = 64;
/// Aliases included here too: each can hang a whole tree below the place where it stands.
const LEVELS_MAX: usize = 128;

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// From 1.
    pub line: usize,
    pub value: Value,
}

/// What is wrong, and on which line, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub why: String,
}

/// Every document of the text; an empty one is null.
pub fn documents(text: &str) -> Result<Vec<Document>, Fault> {
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| Fault { line: error.marker().line(), why: error.info() })?;
        let line = span.start.line();
        builder.take(event, line).map_err(|why| Fault { line, why })?;
    }
    Ok(builder.done)
}

#[derive(Default)]
struct Builder {
    done: Vec<Document>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
}

/// What an alias stands for.
struct Anchored {
    value: Value,
    extent: Extent,
}

/// How much a value is.
#[derive(Debug, Clone, Copy)]
struct Extent {
    nodes: usize,
    /// Collections in one another; a scalar has none.
    levels: usize,
}

/// A collection whose end has not come yet.
struct Open {
    line: usize,
    anchor: usize,
    /// The count of nodes before it.
    before: usize,
    /// The levels of the deepest value in it.
    levels: usize,
    content: Content,
}

enum Content {
    List(Vec<Value>),
    Map { map: Map<String, Value>, merged: Vec<Value>, key: Option<Key> },
}

enum Key {
    Name(String),
    Merge,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        match event {
            Event::DocumentStart(..) => self.anchors.clear(),
            Event::Scalar(text, style, anchor, tag) => {
                let extent = Extent { nodes: 1 + text.len() / BYTES_PER_NODE, levels: 0 };
                self.count(extent.nodes)?;
                let is_merge = text == "<<" && style == ScalarStyle::Plain && tag.is_none();
                if is_merge && self.wants_a_key() {
                    self.set_key(Key::Merge);
                    return Ok(());
                }
                if self.wants_a_key() {
                    return self.name_key(text.into_owned());
                }
                let value = scalar_value(&text, style, tag.as_deref())?;
                return self.push(value, line, anchor, extent);
            }
            Event::SequenceStart(_, anchor, _) => return self.open(line, anchor, Content::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let content = Content::Map { map: Map::new(), merged: Vec::new(), key: None };
                return self.open(line, anchor, content);
            }
            Event::SequenceEnd | Event::MappingEnd => return self.close(),
            Event::Alias(id) => {
                let extent = self.anchors.get(&id).map(|anchored| anchored.extent);
                let extent = extent.ok_or("an alias stands inside what it refers to")?;
                // Before it is copied: the copy is what would go off.
                self.count(extent.nodes)?;
                self.nest(extent.levels)?;
                let value = self.anchors[&id].value.clone();
                match (self.wants_a_key(), value) {
                    (true, Value::String(name)) => return self.name_key(name),
                    (true, _) => return Err("a key must be a word".to_owned()),
                    (false, value) => return self.push(value, line, 0, extent),
                }
            }
            // The event type may grow; what carries no node is of no interest here.
            _ => {}
        }
        Ok(())
    }

    fn wants_a_key(&self) -> bool {
        matches!(self.open.last().map(|open| &open.content), Some(Content::Map { key: None, .. }))
    }

    fn set_key(&mut self, new: Key) {
        if let Some(Content::Map { key, .. }) = self.open.last_mut().map(|open| &mut open.content) {
            *key = Some(new);
        }
    }

    fn name_key(&mut self, name: String) -> Result<(), String> {
        if let Some(Content::Map { map, .. }) = self.open.last().map(|open| &open.content)
            && map.contains_key(&name)
        {
            return Err(format!("the key `{name}` stands here twice"));
        }
        self.set_key(Key::Name(name));
        Ok(())
    }

    fn open(&mut self, line: usize, anchor: usize, content: Content) -> Result<(), String> {
        if self.wants_a_key() {
            return Err("a key must be a word; a template's `{{ }}` needs a renderer, or quotes around it".to_owned());
        }
        self.nest(1)?;
        let before = self.nodes;
        self.count(1)?;
        self.open.push(Open { line, anchor, before, levels: 0, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.content {
            Content::List(items) => Value::Array(items),
            Content::Map { map, merged, .. } => Value::Object(merge(map, merged)?),
        };
        let extent = Extent { nodes: self.nodes - open.before, levels: open.levels + 1 };
        self.push(value, open.line, open.anchor, extent)
    }

    fn push(&mut self, value: Value, line: usize, anchor: usize, extent: Extent) -> Result<(), String> {
        if anchor > 0 {
            self.count(extent.nodes)?;
            self.anchors.insert(anchor, Anchored { value: value.clone(), extent });
        }
        if let Some(open) = self.open.last_mut() {
            open.levels = open.levels.max(extent.levels);
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.done.push(Document { line, value }),
            Some(Content::List(items)) => items.push(value),
            Some(Content::Map { map, merged, key }) => match key.take() {
                Some(Key::Name(name)) => drop(map.insert(name, value)),
                Some(Key::Merge) => merged.push(value),
                None => return Err("a key must be a word".to_owned()),
            },
        }
        Ok(())
    }

    /// Whether so many levels may stand here.
    fn nest(&self, levels: usize) -> Result<(), String> {
        match self.open.len() + levels > LEVELS_MAX {
            true => Err(format!("this is nested more than {LEVELS_MAX} levels deep, aliases included")),
            false => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        match self.nodes > NODES_MAX {
            true => Err(format!(
                "the file holds more than {NODES_MAX} values (a long text counts once for every {BYTES_PER_NODE} bytes), aliases \
                 included"
            )),
            false => Ok(()),
        }
    }
}

/// A mapping's own keys win over those merged in, and an earlier merge over a later.
fn merge(mut map: Map<String, Value>, merged: Vec<Value>) -> Result<Map<String, Value>, String> {
    let sources = merged.into_iter().flat_map(|value| match value {
        Value::Array(list) => list,
        one => vec![one],
    });
    for source in sources {
        let Value::Object(source) = source else { return Err("`<<` takes a mapping, or a list of them".to_owned()) };
        for (key, value) in source {
            map.entry(key).or_insert(value);
        }
    }
    Ok(map)
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&granit_parser::Tag>) -> Result<Value, String> {
    match tag {
        None if style == ScalarStyle::Plain => scalar::plain(text),
        None => Ok(Value::String(text.to_owned())),
        Some(tag) if tag.is_yaml_core_schema_tag("str") => Ok(Value::String(text.to_owned())),
        Some(tag) if ["int", "float", "bool", "null"].iter().any(|name| tag.is_yaml_core_schema_tag(name)) => {
            scalar::plain(text)
        }
        Some(tag) => Err(format!("the tag `{}` has no meaning in a manifest", tag.original())),
    }
}
