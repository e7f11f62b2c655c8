//! What must hold of every release that goes into an environment, said of values in its files and of the order of its
//! waves.

use serde::de::Error;

use super::{
    Fault, Node, forms,
    parse::{file_in_repository, path_like},
    section::{Faults, Section},
    words::{list, remedy},
};
use crate::{
    edit::{Format, Selector},
    model::InvariantName,
};

/// Something that must hold of the values at a place in every release.
#[derive(Debug, Clone, PartialEq)]
pub struct Invariant {
    pub name: InvariantName,
    /// A path relative to the repository's root, with `/`.
    pub file: String,
    pub path: Selector,
    /// What a value that is not there counts as; `None`: every value must be there.
    pub absent: Option<f64>,
    pub bounds: Vec<(Taken, Bound)>,
}

/// What of the values is held against a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Each of them.
    All,
    Sum,
    Min,
    Max,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    Above(f64),
    Below(f64),
    AtLeast(f64),
    AtMost(f64),
    Is(f64),
    IsNot(f64),
}

/// The invariants of an environment that are checked on each of its plans. Those of the waves are checked here: they are
/// the same for every release.
pub(super) fn invariants(section: &Section<'_>) -> Vec<Invariant> {
    let Some(node) = section.get("invariants") else { return Vec::new() };
    let faults = section.faults;
    if node.entries().is_empty() {
        let fault = node.fault(format!("expected a mapping of names to invariants, found {}", node.found()));
        faults.add(fault.help("`piton explain invariant` shows some"));
    }
    let mut found = Vec::new();
    for (key, node) in node.entries() {
        let name = InvariantName::new(&key.text).map_err(|e| Fault::custom(e).at(key.span.clone()));
        let form = Section::open::<forms::Invariant>(node, faults);
        let Some(name) = faults.keep(name) else { continue };
        if let Some(last) = form.get("last") {
            let others = ["file", "path", "absent", "all", "sum", "min", "max"];
            if let Some(other) = others.iter().find_map(|key| form.get(key)) {
                let fault = other.fault(format!("`{name}` is about the last wave and about values"));
                faults.add(fault.help("make two invariants of it"));
            }
            comes_last(&name, last, section.get("waves"), faults);
        } else {
            found.extend(of_values(name, node, &form));
        }
    }
    found
}

/// The last wave is exactly these members.
fn comes_last(name: &InvariantName, node: &Node, waves: Option<&Node>, faults: &Faults) {
    let Some(wanted) = faults.keep(node.read::<Vec<String>>()) else { return };
    let Some(waves) = waves else {
        let fault = node.fault(format!("the invariant `{name}` is about waves, and there are none"));
        faults.add(fault.help("add `waves`, the last one with these members"));
        return;
    };
    // A wave that cannot be read has its own fault already.
    let members = |wave: &Node| wave.get("members").and_then(|m| m.read::<Vec<String>>().ok()).unwrap_or_default();
    let known: Vec<String> = waves.items().iter().flat_map(members).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    for (member, at) in wanted.iter().zip(node.items()).filter(|(member, _)| !known.contains(&member.as_str())) {
        faults.add(at.fault(format!("no wave has the member `{member}`")).help(remedy(member, "members", &known)));
    }
    let Some((wave, last)) = waves.items().last().map(|wave| (wave, members(wave))) else { return };
    let same = last.len() == wanted.len() && last.iter().all(|member| wanted.contains(member));
    if !same && !last.is_empty() {
        let why =
            format!("the waves break the invariant `{name}`: the last one is {}, not {}", list(&last), list(&wanted));
        faults.add(wave.at("members").fault(why).also(node.place(), "so it is asked for here"));
    }
}

fn of_values(name: InvariantName, node: &Node, form: &Section<'_>) -> Option<Invariant> {
    let faults = form.faults;
    let file = form
        .need("file", "name the file the values stand in, from the root of the repository")
        .and_then(|node| faults.keep(file_in_repository(node)));
    let path = form
        .need("path", "say where in the file: `hosts[*].weight` is the weight of every host")
        .and_then(|node| faults.keep(path_like::<Selector>(node, "hosts[*].weight")));
    if let (Some(file), Some(at)) = (&file, form.get("path"))
        && Format::of(file).is_none()
    {
        faults.add(at.fault(format!("nothing is known about the form of {file:?}, so no path leads into it")));
    }
    let taken = [("all", Taken::All), ("sum", Taken::Sum), ("min", Taken::Min), ("max", Taken::Max)];
    let mut bounds = Vec::new();
    let mut said = false;
    for (key, taken) in taken {
        let Some(node) = form.get(key) else { continue };
        said = true;
        bounds.extend(bounds_of(node, faults).into_iter().map(|bound| (taken, bound)));
    }
    if !said {
        let fault = node.fault(format!("the invariant `{name}` does not say what must hold"));
        faults.add(fault.help("add one of `all`, `sum`, `min`, `max`, such as `sum: { above: 0 }`"));
    }
    Some(Invariant { name, file: file?, path: path?, absent: form.read("absent"), bounds })
}

fn bounds_of(node: &Node, faults: &Faults) -> Vec<Bound> {
    let section = Section::open::<forms::Bounds>(node, faults);
    let kinds: [(&str, fn(f64) -> Bound); 6] = [
        ("above", Bound::Above),
        ("below", Bound::Below),
        ("at_least", Bound::AtLeast),
        ("at_most", Bound::AtMost),
        ("is", Bound::Is),
        ("is_not", Bound::IsNot),
    ];
    let bounds: Vec<Bound> = kinds.iter().filter_map(|(key, bound)| section.read(key).map(bound)).collect();
    if node.is_map() && node.entries().is_empty() {
        faults.add(node.fault("nothing is asked of the values").help("write something like `{ above: 0 }`"));
    }
    bounds
}
