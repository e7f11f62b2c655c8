//! Gates of one environment: named ones and those in place.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::Error;

use super::{
    Fault, Kinds, Node,
    environment::{Shared, only_kind, positive},
    forms::{self, keys_of},
    section::{Faults, Section},
    words::remedy,
};
use crate::model::{GateName, GateSpec, OnFail, Span};

/// The gates of an environment, by when they look.
#[derive(Default)]
pub(super) struct Gates {
    pub before: Vec<GateName>,
    pub during: Vec<GateName>,
    pub after: Vec<GateName>,
    pub specs: BTreeMap<GateName, GateSpec>,
}

/// The gates that stand once for all environments.
pub(super) fn named(node: &Node, kinds: &Kinds<'_>, faults: &Faults) -> BTreeMap<GateName, Option<GateSpec>> {
    if !node.is_map() {
        let fault = node.fault(format!("expected a mapping of names to gates, found {}", node.found()));
        faults.add(fault.help("`gates: { front: { http: … } }`"));
    }
    let mut found = BTreeMap::new();
    for (key, node) in node.entries() {
        let name = GateName::new(&key.text).map_err(|e| Fault::custom(e).at(key.span.clone()));
        let spec = spec(node, kinds, faults);
        if let Some(own) = node.get("name") {
            faults.add(own.fault("this gate has its name already: the key it stands under").help("take `name` out"));
        }
        if let Some(name) = faults.keep(name) {
            found.insert(name, spec);
        }
    }
    found
}

impl Gates {
    pub fn read(section: &Section<'_>, shared: &Shared<'_>) -> Gates {
        let Some(node) = section.get("gates") else { return Gates::default() };
        let section = Section::open::<forms::Gates>(node, shared.faults);
        let phases = ["before", "during", "after"].map(|key| section.get(key));
        let taken = phases.iter().flatten().flat_map(|node| node.items()).filter_map(explicit_name).collect();
        let mut reader = Reader { shared, taken, places: BTreeMap::new(), specs: BTreeMap::new() };
        let [before, during, after] = phases.map(|node| node.map_or(Vec::new(), |node| reader.phase(node)));
        Gates { before, during, after, specs: reader.specs }
    }

    /// Gates that watch, by name: those of this environment, or those that all share.
    pub fn watched(&mut self, node: &Node, shared: &Shared<'_>) -> Vec<GateName> {
        let mut names = Vec::new();
        for node in node.items() {
            let Some(name) = shared.faults.keep(node.read::<GateName>()) else { continue };
            if !self.specs.contains_key(&name) {
                match shared.gates.get(&name) {
                    Some(Some(spec)) => {
                        self.specs.insert(name.clone(), spec.clone());
                    }
                    Some(None) => continue,
                    None => {
                        let known: Vec<&str> =
                            self.specs.keys().chain(shared.gates.keys()).map(GateName::as_str).collect();
                        shared.faults.add(unknown_gate(node, name.as_str(), &known));
                        continue;
                    }
                }
            }
            names.push(name);
        }
        names
    }
}

/// The name a gate has in the file; nothing where it is called after its kind.
fn explicit_name(node: &Node) -> Option<String> {
    node.text().or_else(|| node.get("name").and_then(Node::text)).map(str::to_owned)
}

struct Reader<'a> {
    shared: &'a Shared<'a>,
    /// Names that no gate gets by itself.
    taken: BTreeSet<String>,
    /// Where the gates that stand in place stand.
    places: BTreeMap<GateName, std::ops::Range<usize>>,
    specs: BTreeMap<GateName, GateSpec>,
}

impl Reader<'_> {
    fn phase(&mut self, node: &Node) -> Vec<GateName> {
        let faults = self.shared.faults;
        if !node.is_list() {
            let fault = node.fault(format!("expected a list of gates, found {}", node.found()));
            faults.add(fault.help("a gate is its name, or stands in place: `[front, { http: … }]`"));
        }
        let mut names: Vec<GateName> = Vec::new();
        for node in node.items() {
            let name = match node.text() {
                Some(name) => self.by_name(node, name),
                None => self.in_place(node),
            };
            let Some(name) = name else { continue };
            if names.contains(&name) {
                faults.add(node.fault(format!("the gate `{name}` stands here twice")).help("take one out"));
                continue;
            }
            names.push(name);
        }
        names
    }

    fn by_name(&mut self, node: &Node, text: &str) -> Option<GateName> {
        let faults = self.shared.faults;
        let name = faults.keep(node.read::<GateName>())?;
        // A gate of this environment that stands in place further up may be named again in another phase.
        if self.places.contains_key(&name) {
            return Some(name);
        }
        match self.shared.gates.get(&name) {
            Some(Some(spec)) => {
                self.specs.insert(name.clone(), spec.clone());
                Some(name)
            }
            Some(None) => None,
            None => {
                let known: Vec<&str> =
                    self.shared.gates.keys().chain(self.places.keys()).map(GateName::as_str).collect();
                let fault = match self.shared.kinds.gates.iter().any(|g| g.kind.name == text) {
                    true => node.fault(format!("`{text}` is a kind of gate, and no gate has that name")).help(format!(
                        "a gate in place is written `{text}: {{…}}`; `piton explain gate {text}` shows one"
                    )),
                    false => unknown_gate(node, text, &known),
                };
                faults.add(fault);
                None
            }
        }
    }

    fn in_place(&mut self, node: &Node) -> Option<GateName> {
        let faults = self.shared.faults;
        let spec = spec(node, self.shared.kinds, faults);
        let name = match node.get("name").filter(|n| !n.is_null()) {
            Some(node) => faults.keep(node.read::<GateName>())?,
            None => self.free_name(&spec.as_ref()?.kind)?,
        };
        let place = node.at("name").place();
        if let Some(first) = self.places.get(&name) {
            let fault = Fault::new(format!("two gates of this environment are called `{name}`")).at(place);
            faults.add(fault.also(first.clone(), "the other one").help("give each a `name` of its own"));
            return None;
        }
        if self.specs.contains_key(&name) {
            let fault = Fault::new(format!("this environment uses the shared gate `{name}` already")).at(place);
            faults.add(fault.help("give this one another `name`"));
            return None;
        }
        self.places.insert(name.clone(), place);
        self.specs.insert(name.clone(), spec?);
        Some(name)
    }

    /// Its kind, or its kind with the first free number.
    fn free_name(&self, kind: &str) -> Option<GateName> {
        let free = |name: &String| {
            let used = |n: &GateName| n.as_str() == name;
            !self.taken.contains(name) && !self.specs.keys().any(used) && !self.shared.gates.keys().any(used)
        };
        let numbered = (2..).map(|n| format!("{kind}-{n}"));
        std::iter::once(kind.to_owned()).chain(numbered).find(free).and_then(|name| GateName::new(name).ok())
    }
}

fn unknown_gate(node: &Node, name: &str, known: &[&str]) -> Fault {
    node.fault(format!("unknown gate `{name}`")).help(remedy(name, "gates", known))
}

/// A key of every gate that stands among those of its kind.
fn misplaced(fault: Fault, kind: &str, config: &Node, common: &[&str]) -> Fault {
    let fault = fault.or_at(config.place());
    let key = config.entries().iter().find(|(key, _)| Some(&key.span) == fault.span.as_ref()).map(|(key, _)| &key.text);
    match key.filter(|key| common.contains(&key.as_str())) {
        Some(key) => fault.help(format!("`{key}` belongs beside `{kind}`, not under it")),
        None => fault,
    }
}

/// Two looks a second are plenty; more than ten are an attack.
const EVERY_MIN: Span = Span(100);

fn spec(node: &Node, kinds: &Kinds<'_>, faults: &Faults) -> Option<GateSpec> {
    let names: Vec<&str> = kinds.gates.iter().map(|g| g.kind.name).collect();
    let common = keys_of::<forms::GateCommon>();
    let (name, config) = faults.keep(only_kind(node, "gate", &names, common))?;
    let kind = kinds.gates.iter().find(|g| g.kind.name == name)?;
    let with = faults.keep((kind.kind.check)(config).map_err(|fault| misplaced(fault, name, config, common)));
    let section = Section::of_common(node, common, faults);
    let every = positive(&section, "every", Span::seconds(10));
    if (Span(1)..EVERY_MIN).contains(&every) {
        let fault = node.at("every").fault(format!("a look every {every} is too often"));
        faults.add(fault.help(format!("`{EVERY_MIN}` is the least")));
    }
    let timeout = positive(&section, "timeout", Span::seconds(30));
    let on_fail = match section.read("on_fail") {
        Some(forms::OnFail::Ask) => OnFail::Ask,
        Some(forms::OnFail::Rollback) | None => OnFail::Rollback,
    };
    let with = with?;
    Some(GateSpec { kind: name.to_owned(), rule: (kind.rule)(&with), with, every, timeout, on_fail })
}
