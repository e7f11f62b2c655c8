use std::ops::Range;

use serde::de::DeserializeOwned;

use super::{Fault, Refusal, yaml};

/// A piece of the file, with the place where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) content: Content,
    /// The bytes of the piece itself.
    pub(super) span: Range<usize>,
    /// The key it stands under.
    pub(super) key: Option<Range<usize>>,
    /// How many nodes it consists of, itself included.
    pub(super) size: usize,
    /// How many levels it has, itself included.
    pub(super) height: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Exactly as written when plain; `1.20` and `0755` stay what they are.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub text: String,
    pub span: Range<usize>,
}

impl Node {
    /// Reads YAML text into nodes; for a piece of a pipeline file that stands alone, such as a kind's example.
    pub fn parse(file_name: &str, text: &str) -> Result<Node, Refusal> {
        yaml::parse(text).map_err(|faults| Refusal::new(file_name, text, faults))
    }

    /// Reads the piece as a type. Unknown keys, wrong types and wrong values are faults at their exact places.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        T::deserialize(self).map_err(|fault| fault.or_at(self.place()))
    }

    /// A fault of this piece.
    pub fn fault(&self, why: impl Into<String>) -> Fault {
        Fault::new(why).at(self.place())
    }

    /// What stands under the key, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    /// What stands under the key, or the piece itself: for a fault at the best place there is.
    pub fn at(&self, key: &str) -> &Node {
        self.get(key).unwrap_or(self)
    }

    /// The keys of a mapping, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries().iter().map(|(key, _)| key.text.as_str())
    }

    /// The pieces of a list.
    pub fn items(&self) -> &[Node] {
        match &self.content {
            Content::List(items) => items,
            Content::Scalar { .. } | Content::Map(_) => &[],
        }
    }

    /// The text of a scalar, exactly as it was written.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } if !self.is_null() => Some(text),
            Content::Scalar { .. } | Content::List(_) | Content::Map(_) => None,
        }
    }

    pub(super) fn entries(&self) -> &[(Key, Node)] {
        match &self.content {
            Content::Map(entries) => entries,
            Content::Scalar { .. } | Content::List(_) => &[],
        }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.content, Content::List(_))
    }

    /// Nothing is written there, or `null` or `~`.
    pub(super) fn is_null(&self) -> bool {
        match &self.content {
            Content::Scalar { text, plain } => *plain && matches!(text.as_str(), "" | "~" | "null"),
            Content::List(_) | Content::Map(_) => false,
        }
    }

    /// What to underline: a scalar or a short list itself, else the key it stands under, else the first key in it.
    pub(super) fn place(&self) -> Range<usize> {
        match (&self.content, &self.key) {
            (Content::Scalar { .. }, _) if !self.span.is_empty() => self.span.clone(),
            (_, Some(key)) => key.clone(),
            (Content::Map(entries), None) if !entries.is_empty() => entries[0].0.span.clone(),
            (Content::List(items), None) if !items.is_empty() => items[0].place(),
            _ => self.span.clone(),
        }
    }

    /// The place of one character of a scalar, counted from 1; the whole scalar when it is quoted or folded.
    pub(super) fn place_of_character(&self, column: usize) -> Range<usize> {
        let Content::Scalar { text, plain: true } = &self.content else { return self.place() };
        let found = text.char_indices().nth(column.saturating_sub(1));
        match found {
            Some((at, c)) if self.span.len() == text.len() => self.span.start + at..self.span.start + at + c.len_utf8(),
            _ => self.place(),
        }
    }

    /// What is there, for "expected …, found …".
    pub(super) fn found(&self) -> String {
        match &self.content {
            Content::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Content::Scalar { text, plain: true } if matches!(text.as_str(), "true" | "false") => format!("`{text}`"),
            Content::Scalar { text, plain: true } if text.parse::<f64>().is_ok() => format!("the number `{text}`"),
            Content::Scalar { text, .. } => format!("the text {:?}", short(text)),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
        }
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
