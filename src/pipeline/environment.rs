use std::collections::{BTreeMap, BTreeSet};

use super::{
    ChannelSpec, Environment, Fault, Kind, Kinds, Node, Pace, Splits, TargetSpec, canary, forms,
    gates::{self, Gates},
    guard, invariants,
    section::{Faults, Section},
    words::remedy,
};
use crate::model::{EnvironmentName, GateName, GateSpec, Limits, Span, WatchSpec};

/// What environments share.
pub(super) struct Shared<'a> {
    pub defaults: Option<&'a Node>,
    /// Gates by name; `None` where one has faults, which are told already.
    pub gates: BTreeMap<GateName, Option<GateSpec>>,
    pub kinds: &'a Kinds<'a>,
    pub faults: &'a Faults,
}

impl<'a> Shared<'a> {
    pub fn read(file: &Section<'a>, kinds: &'a Kinds<'a>) -> Shared<'a> {
        let faults = file.faults;
        let defaults = file.get("defaults");
        if let Some(node) = defaults {
            let section = Section::open::<forms::Environment>(node, faults);
            if let Some(after) = section.get("after") {
                let fault =
                    after.fault("`after` under `defaults` would make every environment wait, the first included");
                faults.add(fault.help("write it in each environment that waits"));
            }
            // What every environment overrides is still read once.
            limits(&section);
        }
        let gates = file.get("gates").map_or(BTreeMap::new(), |node| gates::named(node, kinds, faults));
        Shared { defaults, gates, kinds, faults }
    }
}

/// Good for most teams; long enough that half of the bad bumps seen in public histories show themselves.
const BAKE: Span = Span::minutes(10);

pub(super) fn environment(
    name: Option<EnvironmentName>,
    node: &Node,
    names: &[&str],
    shared: &Shared<'_>,
) -> Option<Environment> {
    let faults = shared.faults;
    let section = Section::open::<forms::Environment>(node, faults).above(shared.defaults);
    let after = after(&section, node, names);
    let target = section
        .need("target", "say how a release becomes live there: `piton explain target` lists the ways")
        .and_then(|node| target(node, shared.kinds, faults));
    let gates = Gates::read(&section, shared);
    let splits = target.as_ref().map(|(_, splits)| splits);
    let canary = canary::canary(&section, splits, !gates.during.is_empty(), shared.kinds);
    let limits = limits(&section);
    let bake = section.read("bake").unwrap_or(BAKE.min(limits.deadline));
    check_deadline(&section, &canary.iter().map(|(_, hold)| *hold).collect::<Vec<_>>(), bake, &limits);
    let (watch, mut gates) = watch(&section, gates, shared);
    let (guard, guard_gates) = guard::guard(&section, &mut gates, shared);
    let notify = section.get("notify").map_or(Vec::new(), |node| channels(node, shared.kinds, faults));
    Some(Environment {
        name: name?,
        after,
        pace: pace(&section),
        target: target?.0,
        before: gates.before,
        during: gates.during,
        proof: gates.after,
        gates: gates.specs,
        canary,
        invariants: invariants::invariants(&section),
        bake,
        watch,
        limits,
        notify,
        guard,
        guard_gates,
    })
}

fn after(section: &Section<'_>, own: &Node, names: &[&str]) -> Vec<EnvironmentName> {
    // Never from the defaults: that fault is told once, there.
    let Some(node) = own.get("after").filter(|node| !node.is_null()) else { return Vec::new() };
    let nodes = if node.is_list() { node.items() } else { std::slice::from_ref(node) };
    let mut found = Vec::new();
    for node in nodes {
        let Some(name) = section.faults.keep(node.read::<EnvironmentName>()) else { continue };
        if !names.contains(&name.as_str()) {
            let fault = node.fault(format!("unknown environment `{name}`"));
            section.faults.add(fault.help(remedy(name.as_str(), "environments", names)));
        } else if found.contains(&name) {
            section.faults.add(node.fault(format!("`{name}` stands here twice")));
        } else {
            found.push(name);
        }
    }
    found
}

fn pace(section: &Section<'_>) -> Pace {
    match section.read("pace") {
        Some(forms::PaceForm::Commit) => Pace::Commit,
        Some(forms::PaceForm::Latest) => Pace::Latest,
        Some(forms::PaceForm::Bump) | None => Pace::Bump,
    }
}

fn target(node: &Node, kinds: &Kinds<'_>, faults: &Faults) -> Option<(TargetSpec, Splits)> {
    let names: Vec<&str> = kinds.targets.iter().map(|t| t.kind.name).collect();
    let (name, node) = faults.keep(only_kind(node, "target", &names, &[]))?;
    let kind = kinds.targets.iter().find(|t| t.kind.name == name)?;
    let with = faults.keep((kind.kind.check)(node).map_err(|fault| fault.or_at(node.place())))?;
    let splits = (kind.splits)(&with);
    Some((TargetSpec { kind: name.to_owned(), with }, splits))
}

fn channels(node: &Node, kinds: &Kinds<'_>, faults: &Faults) -> Vec<ChannelSpec> {
    if !node.is_list() {
        faults.add(node.fault(format!("expected a list, found {}", node.found())).help("`notify: [{ webhook: … }]`"));
    }
    let names: Vec<&str> = kinds.channels.iter().map(|c| c.name).collect();
    let channel = |node| {
        let (name, node) = faults.keep(only_kind(node, "channel", &names, &[]))?;
        let kind: &Kind = kinds.channels.iter().find(|c| c.name == name)?;
        let with = faults.keep((kind.check)(node).map_err(|fault| fault.or_at(node.place())))?;
        Some(ChannelSpec { kind: name.to_owned(), with })
    };
    node.items().iter().filter_map(channel).collect()
}

/// The one key of the mapping that names a kind, and what stands under it; other keys must be in `common`.
pub(super) fn only_kind<'a>(
    node: &'a Node,
    what: &str,
    kinds: &[&'static str],
    common: &[&str],
) -> Result<(&'static str, &'a Node), Fault> {
    let example = format!("`{}: …`", kinds.first().unwrap_or(&what));
    if !node.is_map() {
        let fault = node.fault(format!("expected a {what}, found {}", node.found()));
        return Err(fault.help(format!("a {what} is written {example}; {}", remedy("", "kinds", kinds))));
    }
    let mut found = node.entries().iter().filter_map(|(key, node)| {
        let kind = kinds.iter().find(|kind| **kind == key.text)?;
        Some((*kind, key, node))
    });
    let first = found.next();
    let unknown = node
        .entries()
        .iter()
        .find(|(key, _)| !kinds.contains(&key.text.as_str()) && !common.contains(&key.text.as_str()));
    match (first, unknown, found.next()) {
        (None, Some((key, _)), _) => {
            let fault = Fault::new(format!("unknown {what} `{}`", key.text)).at(key.span.clone());
            Err(fault.help(remedy(&key.text, &format!("kinds of {what}"), kinds)))
        }
        (Some((kind, ..)), Some((key, _)), _) => {
            let known: Vec<&str> = common.iter().copied().chain([kind]).collect();
            Err(super::section::unknown_key(&key.text, &known).at(key.span.clone()))
        }
        (None, None, _) => {
            let fault = node.fault(format!("this {what} does not say of which kind it is"));
            Err(fault.help(remedy("", &format!("kinds of {what}"), kinds)))
        }
        (Some((_, first, _)), None, Some((_, second, _))) => {
            let why = format!("a {what} is of one kind; here are `{}` and `{}`", first.text, second.text);
            Err(Fault::new(why).at(second.span.clone()).also(first.span.clone(), "the other one"))
        }
        (Some((kind, _, node)), None, None) => Ok((kind, node)),
    }
}

fn limits(section: &Section<'_>) -> Limits {
    let default = Limits::default();
    let faults = section.faults;
    let deploy = section.get("deploy").map(|node| Section::open::<forms::Deploy>(node, faults));
    let rollback = section.get("rollback").map(|node| Section::open::<forms::Rollback>(node, faults));
    let (deploy, rollback) = (deploy.as_ref(), rollback.as_ref());
    Limits {
        deadline: positive(section, "deadline", default.deadline),
        investigate: span(section, "investigate", default.investigate),
        blind: span(section, "blind", default.blind),
        preflight: span(section, "preflight", default.preflight),
        rollback: rollback.map_or(default.rollback, |s| positive(s, "within", default.rollback)),
        rollback_tries: rollback.map_or(default.rollback_tries, |s| tries(s, default.rollback_tries)),
        rollback_pause: rollback.map_or(default.rollback_pause, |s| span(s, "pause", default.rollback_pause)),
        deploy_tries: deploy.map_or(default.deploy_tries, |s| tries(s, default.deploy_tries)),
        quarantine: quarantine(section).unwrap_or(default.quarantine),
        pauses: deploy.and_then(pauses).unwrap_or(default.pauses),
    }
}

/// How long automation rests after a failure that is not the release's.
fn pauses(deploy: &Section<'_>) -> Option<Vec<Span>> {
    let pauses: Vec<Span> = deploy.read("pauses")?;
    let wrong = match pauses.iter().find(|pause| !(Span(1)..=SPAN_MAX).contains(pause)) {
        Some(pause) => Some(format!("automation cannot rest for {pause}")),
        None => pauses.is_empty().then(|| "automation would never rest".to_owned()),
    };
    if let (Some(why), Some(node)) = (wrong, deploy.get("pauses")) {
        deploy.faults.add(node.fault(why).help("write durations of up to a year, such as `[5m, 15m, 1h]`"));
    }
    Some(pauses)
}

const TRIES_MAX: u32 = 100;

fn tries(section: &Section<'_>, default: u32) -> u32 {
    let Some(tries) = section.read("tries") else { return default };
    if !(1..=TRIES_MAX).contains(&tries)
        && let Some(node) = section.get("tries")
    {
        section.faults.add(node.fault(format!("{tries} tries are none or too many")).help("write 1 to 100"));
    }
    tries
}

/// Whoever waits longer has forgotten what for.
const SPAN_MAX: Span = Span::hours(366 * 24);

/// A duration that piton may wait.
pub(super) fn span(section: &Section<'_>, key: &str, default: Span) -> Span {
    match section.read(key) {
        Some(span) if span > SPAN_MAX => {
            section.faults.keep(section.get(key).map_or(Ok(()), |n| Err(n.fault("this is longer than a year"))));
            default
        }
        Some(span) => span,
        None => default,
    }
}

/// A duration in which something can happen.
pub(super) fn positive(section: &Section<'_>, key: &str, default: Span) -> Span {
    let span = span(section, key, default);
    if span == Span(0)
        && let Some(node) = section.get(key)
    {
        section
            .faults
            .add(node.fault(format!("`{key}` must be longer than nothing")).help("write something like `30s`"));
    }
    span
}

fn quarantine(section: &Section<'_>) -> Option<Option<Span>> {
    let node = section.get("quarantine")?;
    if node.text() == Some("forever") {
        return Some(None);
    }
    let read = node.read::<Span>().map_err(|fault| fault.help("write a duration such as `14d`, or `forever`"));
    section.faults.keep(read).map(Some)
}

fn check_deadline(section: &Section<'_>, holds: &[Span], bake: Span, limits: &Limits) {
    let least = Span(holds.iter().chain([&bake]).fold(0, |sum: u64, span| sum.saturating_add(span.0)));
    if least < limits.deadline || limits.deadline == Span(0) {
        return;
    }
    let at = ["bake", "deadline", "canary", "waves"].iter().find_map(|key| section.get(key));
    let at = at.map_or_else(|| section.place(), Node::place);
    let why = format!(
        "canary steps and bake take {least} at least, which the deadline of {} does not allow",
        limits.deadline
    );
    section.faults.add(Fault::new(why).at(at).help("make `deadline` longer than all holds and `bake` together"));
}

fn watch(section: &Section<'_>, mut gates: Gates, shared: &Shared<'_>) -> (WatchSpec, Gates) {
    let Some(node) = section.get("watch") else { return (WatchSpec::default(), gates) };
    let by_default = || {
        let looking = |name: &&GateName| gates.specs.get(*name).is_some_and(|spec| !spec.rule.needs_no_look());
        let mut seen = BTreeSet::new();
        let both = gates.during.iter().chain(&gates.after).filter(looking);
        both.filter(|name| seen.insert((*name).clone())).cloned().collect::<Vec<_>>()
    };
    let watch = if node.is_map() {
        let form = Section::open::<forms::WatchForm>(node, shared.faults);
        form.need("time", "say how long: `watch: { time: 6h }`");
        let names = match form.get("gates") {
            None => by_default(),
            Some(node) => gates.watched(node, shared),
        };
        WatchSpec { time: span(&form, "time", Span(0)), gates: names }
    } else {
        WatchSpec { time: span(section, "watch", Span(0)), gates: by_default() }
    };
    let named = node.get("gates").is_some_and(|gates| !gates.items().is_empty());
    if watch.time > Span(0) && watch.gates.is_empty() && !named {
        let fault = node.fault("nothing would look during the watch");
        shared.faults.add(fault.help("add a gate under `gates.during` or `gates.after`, or take `watch` out"));
    }
    (watch, gates)
}
