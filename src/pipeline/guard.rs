//! What stands guard while nothing happens: `drift` and `way_back`.

use super::{
    Node,
    environment::{Shared, positive},
    forms,
    gates::Gates,
    section::Section,
};
use crate::model::{GateName, Guard, Span};

/// A roll-out that did not fully reach its target is to be found within two minutes.
const DRIFT_EVERY: Span = Span::minutes(1);
const WAY_BACK_EVERY: Span = Span::hours(24);

/// How often is looked, and which gates look on.
pub(super) fn guard(section: &Section<'_>, gates: &mut Gates, shared: &Shared<'_>) -> (Guard, Vec<GateName>) {
    let mut names = Vec::new();
    let drift = every(section, "drift", DRIFT_EVERY, |node| {
        let form = Section::open::<forms::DriftEvery>(node, shared.faults);
        names = form.get("gates").map_or(Vec::new(), |node| looking(node, gates, shared));
        positive(&form, "every", DRIFT_EVERY)
    });
    let way_back = every(section, "way_back", WAY_BACK_EVERY, |node| {
        positive(&Section::open::<forms::WayBackEvery>(node, shared.faults), "every", WAY_BACK_EVERY)
    });
    // Whoever asks for proof gets it; by default a registry that only the cluster reaches holds nobody up.
    let blind_holds = section.get("way_back").is_some() && way_back.is_some();
    (Guard { drift, way_back, blind_holds }, names)
}

fn every(section: &Section<'_>, key: &str, default: Span, read: impl FnOnce(&Node) -> Span) -> Option<Span> {
    match section.get(key) {
        None => Some(default),
        Some(node) if node.is_map() => Some(read(node)),
        Some(node) if node.text() == Some("off") => None,
        Some(node) => {
            let fault = node.fault(format!("expected a mapping or `off`, found {}", node.found()));
            section.faults.add(fault.help(format!("`{key}: {{ every: {default} }}`, or `{key}: off`")));
            None
        }
    }
}

/// Gates that look at the world; one that asks people or the calendar sees no drift.
fn looking(node: &Node, gates: &mut Gates, shared: &Shared<'_>) -> Vec<GateName> {
    let names = gates.watched(node, shared);
    let silent = names.iter().find(|name| gates.specs.get(*name).is_some_and(|spec| spec.rule.needs_no_look()));
    if let Some(name) = silent {
        let fault = node.fault(format!("gate `{name}` looks at nothing, so that it cannot see drift"));
        shared.faults.add(fault.help("name gates of a kind that looks, such as `http`"));
    }
    names
}
