use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    Why,
    nearest::nearest,
    path::{Step, shown},
};

/// A parsed file with the place of every value in the text.
///
/// The nodes stand in the order of the text, each followed by its children; together with the depths that is the
/// whole structure, so two files are compared by walking two lists. A map's children are key, value, key, value.
#[derive(Debug, Default)]
pub(super) struct Tree<'a> {
    pub(super) source: &'a str,
    pub(super) nodes: Vec<Node<'a>>,
    /// The first node of every document.
    pub(super) documents: Vec<usize>,
    /// The node of every anchor.
    pub(super) anchors: BTreeMap<usize, usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub(super) shape: Shape<'a>,
    /// Byte offsets of the value as it is written, quotes included.
    pub(super) span: Range<usize>,
    pub(super) depth: u32,
    /// The first node that is not below this one.
    pub(super) end: usize,
    /// 0 is none.
    pub(super) anchor: usize,
    pub(super) tag: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape<'a> {
    Scalar { text: Cow<'a, str>, style: Style },
    Map { flow: bool },
    List { flow: bool },
    Alias(usize),
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    /// A YAML block scalar or a TOML string in triple quotes.
    Block,
}

/// Nesting beyond this is refused: no deploy file is that deep, and a hostile one costs nothing.
pub(super) const DEPTH_MAX: usize = 500;

/// The way to a value: every node from the document's root down to it.
#[derive(Debug, Clone)]
pub(super) struct Trail {
    pub(super) nodes: Vec<usize>,
    /// The key in front of the value, unless it is an item of a list or the root.
    pub(super) key: Option<usize>,
}

impl Trail {
    pub(super) fn target(&self) -> usize {
        *self.nodes.last().expect("a trail starts at a root")
    }

    pub(super) fn root(&self) -> usize {
        *self.nodes.first().expect("a trail starts at a root")
    }
}

/// Whether a lookup may go through aliases and merge keys: reading may, changing may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    Aliases,
    Nothing,
}

impl<'a> Tree<'a> {
    /// Adds a scalar or an alias, or opens a collection; [`Tree::close`] must follow for the latter.
    pub(super) fn push(&mut self, shape: Shape<'a>, span: Range<usize>, depth: usize) -> usize {
        let id = self.nodes.len();
        if depth == 0 {
            self.documents.push(id);
        }
        self.nodes.push(Node { shape, span, depth: depth as u32, end: id + 1, anchor: 0, tag: None });
        id
    }

    pub(super) fn close(&mut self, id: usize, span_end: usize) {
        self.nodes[id].end = self.nodes.len();
        self.nodes[id].span.end = span_end;
    }

    pub(super) fn children(&self, id: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[id].end;
        let first = Some(id + 1).filter(|first| *first < end);
        std::iter::successors(first, move |child| Some(self.nodes[*child].end).filter(|next| *next < end))
    }

    /// Key and value of every entry of a map.
    pub(super) fn entries(&self, id: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.children(id).step_by(2).map(|key| (key, self.nodes[key].end))
    }

    /// The same where it is a map.
    pub(super) fn entries_of_map(&self, id: usize) -> Option<impl Iterator<Item = (usize, usize)> + '_> {
        matches!(self.nodes[id].shape, Shape::Map { .. }).then(|| self.entries(id))
    }

    /// The items where it is a list.
    pub(super) fn items_of_list(&self, id: usize) -> Option<impl Iterator<Item = usize> + '_> {
        matches!(self.nodes[id].shape, Shape::List { .. }).then(|| self.children(id))
    }

    pub(super) fn text(&self, id: usize) -> Option<&str> {
        match &self.nodes[id].shape {
            Shape::Scalar { text, .. } => Some(text),
            Shape::Map { .. } | Shape::List { .. } | Shape::Alias(_) => None,
        }
    }

    pub(super) fn is_null(&self, id: usize) -> bool {
        matches!(&self.nodes[id].shape, Shape::Scalar { text, style: Style::Plain }
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    pub(super) fn what(&self, id: usize) -> &'static str {
        match self.nodes[id].shape {
            Shape::Scalar { .. } if self.is_null(id) => "nothing",
            Shape::Scalar { .. } => "a single value",
            Shape::Map { .. } => "a mapping",
            Shape::List { .. } => "a list",
            Shape::Alias(_) => "an alias",
        }
    }

    /// The first alias of the node's anchor.
    pub(super) fn alias_of(&self, id: usize) -> Option<usize> {
        let anchor = self.nodes[id].anchor;
        if anchor == 0 {
            return None;
        }
        self.nodes.iter().position(|node| matches!(node.shape, Shape::Alias(of) if of == anchor))
    }

    /// The line on which a node starts, from 1.
    pub(super) fn line(&self, id: usize) -> usize {
        line_of(self.source, self.nodes[id].span.start)
    }

    /// Walks the steps from one document's root.
    pub(super) fn find(&self, root: usize, steps: &[Step], follow: Follow) -> Result<Trail, Why> {
        let mut trail = Trail { nodes: vec![root], key: None };
        for (taken, step) in steps.iter().enumerate() {
            let found = || shown(&steps[..taken]);
            let at = self.resolved(trail.target(), follow, &found)?;
            (trail.key, _) = (None, trail.nodes.push(at));
            let next = match step {
                Step::Key(key) => {
                    let (key, value) = self.entry(at, key, follow, &found)?;
                    trail.key = key;
                    value
                }
                Step::Index(index) => self.item(at, *index, &found)?,
                Step::Where { key, value } => self.chosen(at, key, value, follow, &found)?,
            };
            trail.nodes.push(next);
        }
        let target = self.resolved(trail.target(), follow, &|| shown(steps))?;
        trail.nodes.push(target);
        trail.nodes.dedup();
        Ok(trail)
    }

    fn resolved(&self, id: usize, follow: Follow, found: &dyn Fn() -> String) -> Result<usize, Why> {
        match (&self.nodes[id].shape, follow) {
            (Shape::Alias(anchor), Follow::Aliases) => Ok(self.anchors.get(anchor).copied().unwrap_or(id)),
            (Shape::Alias(_), Follow::Nothing) => Err(Why::Alias { found: found(), line: self.line(id) }),
            (Shape::Scalar { .. } | Shape::Map { .. } | Shape::List { .. }, _) => Ok(id),
        }
    }

    fn entry(
        &self,
        map: usize,
        wanted: &str,
        follow: Follow,
        found: &dyn Fn() -> String,
    ) -> Result<(Option<usize>, usize), Why> {
        if !matches!(self.nodes[map].shape, Shape::Map { .. }) {
            return Err(Why::NotAMap { found: found(), what: self.what(map), key: wanted.to_owned() });
        }
        let mut same = self.entries(map).filter(|(key, _)| self.text(*key) == Some(wanted));
        match (same.next(), same.next()) {
            (Some((key, value)), None) => Ok((Some(key), value)),
            (Some((first, _)), Some((second, _))) => {
                let lines = vec![self.line(first), self.line(second)];
                Err(Why::DuplicateKey { found: found(), key: wanted.to_owned(), lines })
            }
            (None, _) => match (self.merged(map, wanted), follow) {
                (Some(value), Follow::Aliases) => Ok((None, value)),
                (Some(_), Follow::Nothing) => Err(Why::Merged { found: found(), key: wanted.to_owned() }),
                (None, _) => Err(self.no_key(map, wanted, found())),
            },
        }
    }

    fn no_key(&self, map: usize, wanted: &str, found: String) -> Why {
        let keys = self.entries(map).filter_map(|(key, _)| self.text(key));
        Why::NoKey { found, key: wanted.to_owned(), nearest: nearest(wanted, keys).map(str::to_owned) }
    }

    /// The value that a merge key (`<<: *base`) brings into the map.
    fn merged(&self, map: usize, wanted: &str) -> Option<usize> {
        let mut waiting = self.merge_sources(map);
        let mut seen = BTreeSet::from([map]);
        while let Some(source) = waiting.pop() {
            let own = self.entries(source).find(|(key, _)| self.text(*key) == Some(wanted));
            match own {
                Some((_, value)) => return Some(value),
                None if seen.insert(source) => waiting.extend(self.merge_sources(source)),
                None => (),
            }
        }
        None
    }

    /// The maps that the merge keys of a map name, the strongest last.
    fn merge_sources(&self, map: usize) -> Vec<usize> {
        let named = self.entries(map).filter(|(key, _)| self.is_merge(*key)).flat_map(|(_, value)| {
            match self.nodes[value].shape {
                Shape::List { .. } => self.children(value).collect(),
                Shape::Scalar { .. } | Shape::Map { .. } | Shape::Alias(_) => vec![value],
            }
        });
        let maps = named.filter_map(|id| self.resolved(id, Follow::Aliases, &String::new).ok());
        let mut maps: Vec<usize> = maps.filter(|id| matches!(self.nodes[*id].shape, Shape::Map { .. })).collect();
        maps.reverse();
        maps
    }

    pub(super) fn is_merge(&self, key: usize) -> bool {
        matches!(&self.nodes[key].shape, Shape::Scalar { text, style: Style::Plain } if text == "<<")
    }

    fn item(&self, list: usize, index: usize, found: &dyn Fn() -> String) -> Result<usize, Why> {
        if !matches!(self.nodes[list].shape, Shape::List { .. }) {
            return Err(Why::NotAList { found: found(), what: self.what(list) });
        }
        let item = self.children(list).nth(index);
        item.ok_or_else(|| Why::NoItem { found: found(), index, count: self.children(list).count() })
    }

    fn chosen(
        &self,
        list: usize,
        key: &str,
        value: &str,
        follow: Follow,
        found: &dyn Fn() -> String,
    ) -> Result<usize, Why> {
        if !matches!(self.nodes[list].shape, Shape::List { .. }) {
            return Err(Why::NotAList { found: found(), what: self.what(list) });
        }
        let value_of = |item: usize| {
            let item = self.resolved(item, Follow::Aliases, &String::new).ok()?;
            let map = Some(item).filter(|item| matches!(self.nodes[*item].shape, Shape::Map { .. }))?;
            self.entry(map, key, follow, &String::new).ok().and_then(|(_, value)| self.text(value))
        };
        let same: Vec<usize> = self.children(list).filter(|item| value_of(*item) == Some(value)).collect();
        match same[..] {
            [item] => Ok(item),
            [] => {
                let known = self.children(list).filter_map(value_of);
                let nearest = nearest(value, known).map(str::to_owned);
                Err(Why::NoMatch { found: found(), key: key.to_owned(), value: value.to_owned(), nearest })
            }
            _ => {
                let lines = same.iter().map(|item| self.line(*item)).collect();
                Err(Why::ManyItems { found: found(), key: key.to_owned(), value: value.to_owned(), lines })
            }
        }
    }
}

/// The line of a byte offset, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

impl Node<'_> {
    /// Whether both say the same, wherever they stand.
    pub(super) fn says_what(&self, other: &Node<'_>) -> bool {
        self.depth == other.depth
            && self.anchor == other.anchor
            && self.tag == other.tag
            && match (&self.shape, &other.shape) {
                (Shape::Scalar { text: a, style: s }, Shape::Scalar { text: b, style: t }) => a == b && s == t,
                (Shape::Map { flow: a }, Shape::Map { flow: b }) => a == b,
                (Shape::List { flow: a }, Shape::List { flow: b }) => a == b,
                (Shape::Alias(a), Shape::Alias(b)) => a == b,
                _ => false,
            }
    }
}
