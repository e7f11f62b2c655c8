use std::{cell::RefCell, ops::Range};

use serde::de::DeserializeOwned;

use super::{Fault, Node, forms::keys_of, words::remedy};

/// Every fault found so far.
#[derive(Default)]
pub(super) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub fn add(&self, fault: Fault) {
        self.0.borrow_mut().push(fault);
    }

    /// The value, or nothing and one more fault.
    pub fn keep<T>(&self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.add(fault)).ok()
    }

    pub fn into_vec(self) -> Vec<Fault> {
        self.0.into_inner()
    }
}

/// A mapping with known keys, read key by key. What it lacks may stand in another one below it.
pub(super) struct Section<'a> {
    node: &'a Node,
    below: Option<&'a Node>,
    known: &'static [&'static str],
    pub faults: &'a Faults,
}

impl<'a> Section<'a> {
    /// The piece as a `T`: each unknown key is a fault.
    pub fn open<T: DeserializeOwned>(node: &'a Node, faults: &'a Faults) -> Section<'a> {
        Section::open_but::<T>(node, faults, |_| false)
    }

    /// The same, where some unknown keys are of no interest.
    pub fn open_but<T: DeserializeOwned>(
        node: &'a Node,
        faults: &'a Faults,
        passed_over: impl Fn(&str) -> bool,
    ) -> Section<'a> {
        let known = keys_of::<T>();
        let section = Section { node, below: None, known, faults };
        if !node.is_map() && !node.is_null() {
            let fault = node.fault(format!("expected a mapping, found {}", node.found()));
            faults.add(fault.help(remedy("", "keys", known)));
        }
        for (key, _) in node.entries() {
            if !known.contains(&key.text.as_str()) && !passed_over(&key.text) {
                faults.add(unknown_key(&key.text, known).at(key.span.clone()));
            }
        }
        section
    }

    /// Keys that several kinds share; which keys there are is checked already.
    pub fn of_common(node: &'a Node, known: &'static [&'static str], faults: &'a Faults) -> Section<'a> {
        Section { node, below: None, known, faults }
    }

    /// Where to look for keys that are absent here.
    pub fn above(self, below: Option<&'a Node>) -> Section<'a> {
        Section { below, ..self }
    }

    pub fn get(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.known.contains(&key), "`{key}` is no key of this section");
        match self.node.get(key) {
            // An explicit `~` takes away what stands below; a key with nothing after it does not.
            Some(node) if node.is_null() && !node.span.is_empty() => None,
            Some(node) if !node.is_null() => Some(node),
            Some(_) | None => self.below.and_then(|below| below.get(key)).filter(|node| !node.is_null()),
        }
    }

    /// What stands under a key that must be there.
    pub fn need(&self, key: &str, help: &str) -> Option<&'a Node> {
        let found = self.get(key);
        if found.is_none() {
            let at = self.node.get(key).map_or_else(|| self.place(), Node::place);
            self.faults.add(Fault::new(format!("the key `{key}` is missing")).at(at).help(help));
        }
        found
    }

    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.get(key).and_then(|node| self.faults.keep(node.read()))
    }

    pub fn place(&self) -> Range<usize> {
        self.node.place()
    }
}

pub(super) fn unknown_key(key: &str, known: &[&str]) -> Fault {
    Fault::new(format!("unknown key `{key}`")).help(remedy(key, "keys", known))
}
