//! Who gets a release first.

use super::{
    Fault, Kinds, Node, Splits,
    environment::span,
    forms,
    section::{Faults, Section},
    words::{list, remedy},
};
use crate::model::{Portion, Share, Span};

/// Long enough for a few looks of every gate.
const HOLD: Span = Span::minutes(5);

/// Portions with their holds; the last is everyone.
pub(super) fn canary(
    section: &Section<'_>,
    splits: Option<&Splits>,
    watched: bool,
    kinds: &Kinds<'_>,
) -> Vec<(Portion, Span)> {
    let hold = span(section, "hold", HOLD);
    let steps = match (section.get("canary"), section.get("waves")) {
        (None, None) => return vec![(Portion::ALL, Span(0))],
        (Some(_), Some(waves)) => {
            let fault = waves.fault("an environment has `canary` steps or `waves`, not both");
            section.faults.add(fault.help("take one out; one of them under `defaults` is overridden by `~`"));
            return vec![(Portion::ALL, Span(0))];
        }
        (Some(node), None) => shares(node, hold, splits, kinds, section.faults),
        (None, Some(node)) => waves(node, hold, splits, section.faults),
    };
    let node = section.get("canary").or_else(|| section.get("waves"));
    if let Some(node) = node
        && steps.len() > 1
        && !watched
    {
        let fault = node.fault("no gate looks while only some of the users are on the release");
        section.faults.add(fault.help("add one under `gates.during`"));
    }
    steps
}

fn shares(
    node: &Node,
    hold: Span,
    splits: Option<&Splits>,
    kinds: &Kinds<'_>,
    faults: &Faults,
) -> Vec<(Portion, Span)> {
    if node.items().is_empty() {
        let fault = node.fault(format!("expected a list of shares, found {}", node.found()));
        faults.add(fault.help("`canary: [10%, 50%, 100%]`"));
    }
    let unit = splits.map_or(1, |splits| splits.unit_hundredths.max(1));
    let mut steps: Vec<(Share, Span)> = Vec::new();
    for node in node.items() {
        let Some((share, hold, at)) = share_step(node, hold, faults) else { continue };
        if !share.hundredths().is_multiple_of(unit) {
            faults.add(too_fine(at, share, unit));
        }
        match steps.last() {
            _ if share == Share::NONE => faults.add(at.fault("a step of 0% would try nothing")),
            Some((last, _)) if share <= *last => {
                let fault =
                    at.fault(format!("each share must be larger than the one before: {share} comes after {last}"));
                faults.add(fault.help("shares add up by themselves: `[10%, 50%, 100%]`"));
            }
            Some(_) | None => {}
        }
        steps.push((share, hold));
    }
    if let (Some((last, _)), Some(item)) = (steps.last(), node.items().last())
        && *last != Share::WHOLE
    {
        let fault = item.fault(format!("the canary ends at {last}; nobody would ever get the rest"));
        faults.add(fault.help("add `100%` as the last step"));
    }
    let partial = steps.iter().any(|(share, _)| *share != Share::WHOLE);
    if partial && splits.is_some_and(|s| !s.by_share) {
        faults.add(cannot_split(node, splits, kinds));
    }
    steps.into_iter().map(|(share, hold)| (Portion::Share(share), hold)).collect()
}

fn too_fine(node: &Node, share: Share, unit: u16) -> Fault {
    let shown = |hundredths: u16| Share::of_hundredths(hundredths).unwrap_or(Share::WHOLE);
    let below = share.hundredths() / unit * unit;
    let nearest = match (below, below.saturating_add(unit)) {
        (0, above) => format!("{}", shown(above)),
        (below, above) => format!("{} or {}", shown(below), shown(above)),
    };
    let fault = node.fault(format!("this target moves users in steps of {}, not {share}", shown(unit)));
    fault.help(format!("write {nearest}"))
}

fn share_step<'a>(node: &'a Node, hold: Span, faults: &'a Faults) -> Option<(Share, Span, &'a Node)> {
    if !node.is_map() {
        return Some((faults.keep(node.read())?, hold, node));
    }
    let section = Section::open::<forms::ShareStep>(node, faults);
    let at = section.need("share", "say how many users: `{ share: 10%, hold: 5m }`")?;
    Some((section.read("share")?, span(&section, "hold", hold), at))
}

fn cannot_split(node: &Node, splits: Option<&Splits>, kinds: &Kinds<'_>) -> Fault {
    let fault = node.fault("this target cannot give a share of the users to a release");
    if splits.is_some_and(|s| !s.members.is_empty()) {
        return fault.help("it has members: use `waves` instead, or take `canary` out");
    }
    let able: Vec<&str> = kinds.targets.iter().filter(|t| example_splits(t).by_share).map(|t| t.kind.name).collect();
    match able.is_empty() {
        true => fault.help("take `canary` out: everyone moves at once, under the same gates"),
        false => fault.help(format!("targets that can: {}; or take `canary` out", list(&able))),
    }
}

/// What the kind can do as it stands in its example.
fn example_splits(target: &super::TargetKind) -> Splits {
    let Ok(node) = Node::parse(target.kind.name, target.kind.example) else { return Splits::default() };
    (target.kind.check)(node.at(target.kind.name)).map_or(Splits::default(), |with| (target.splits)(&with))
}

fn waves(node: &Node, hold: Span, splits: Option<&Splits>, faults: &Faults) -> Vec<(Portion, Span)> {
    if node.items().is_empty() {
        let fault = node.fault(format!("expected a list of waves, found {}", node.found()));
        faults.add(fault.help("`waves: [{ members: [small], hold: 1h }, { members: [large] }]`"));
    }
    let members: Vec<&str> = splits.iter().flat_map(|s| &s.members).map(String::as_str).collect();
    let mut seen: Vec<String> = Vec::new();
    let mut steps = Vec::new();
    for node in node.items() {
        let section = Section::open::<forms::Wave>(node, faults);
        let Some(list) = section.need("members", "say which: `members: [small]`") else { continue };
        let wave: Vec<String> = section.read("members").unwrap_or_default();
        if wave.is_empty() {
            faults.add(list.fault("a wave without members would try nothing"));
        }
        for (name, node) in wave.iter().zip(list.items()) {
            if seen.contains(name) {
                faults.add(node.fault(format!("the member `{name}` is in a wave already")));
            } else if splits.is_some() && !members.contains(&name.as_str()) {
                faults.add(unknown_member(node, name, &members));
            }
            seen.push(name.clone());
        }
        steps.push((Portion::Members(wave), span(&section, "hold", hold)));
    }
    let missing: Vec<&str> = members.into_iter().filter(|m| !seen.iter().any(|s| s == m)).collect();
    match steps.last_mut() {
        Some(_) if !missing.is_empty() => {
            let fault = node.fault(format!("no wave has {}; they would never get a release", list(&missing)));
            faults.add(fault.help("add them to the last wave"));
        }
        // The last wave is everyone, so that what has no member's name moves too.
        Some((portion, _)) => *portion = Portion::ALL,
        None => {}
    }
    steps
}

fn unknown_member(node: &Node, name: &str, members: &[&str]) -> Fault {
    let fault = node.fault(format!("unknown member `{name}` of this target"));
    match members.is_empty() {
        true => fault.help("this target has no members that could get a release one after the other: use `canary`"),
        false => fault.help(remedy(name, "members", members)),
    }
}
