use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use serde::de::Error;

use super::{
    Component, Environment, Fault, Kinds, Node, Pipeline, Refusal, Signing, Source, environment, forms, graph,
    node::Key,
    secrets,
    section::{Faults, Section},
    words::remedy,
    yaml,
};
use crate::{
    edit::{At, EditError, Format, Part, Path, Place},
    model::{ComponentName, EnvironmentName, PipelineName},
    versions::Order,
};

/// No pipeline is this long; whatever is, is something else.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The checked content of a pipeline file, or every fault that could be found in it.
pub fn parse(file_name: &str, text: &[u8], kinds: &Kinds) -> Result<Pipeline, Refusal> {
    let text = readable(text).map_err(|fault| Refusal::new(file_name, "", vec![fault]))?;
    let root = Node::parse(file_name, text)?;
    let faults = Faults::default();
    let pipeline = file(file_name, &root, kinds, &faults);
    match (pipeline, faults.into_vec()) {
        (Some(pipeline), faults) if faults.is_empty() => Ok(pipeline),
        (_, faults) => Err(Refusal::new(file_name, text, faults)),
    }
}

fn readable(bytes: &[u8]) -> Result<&str, Fault> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Fault::new(format!("the file is longer than {FILE_BYTES_MAX} bytes")));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
        let fault = Fault::new(format!("the file is not UTF-8 text: byte {at}, on line {line}, is {:#04x}", bytes[at]));
        fault.help("a pipeline file is YAML; save it as UTF-8")
    })?;
    match text.trim().is_empty() {
        true => Err(yaml::empty()),
        false => Ok(text),
    }
}

fn file(file_name: &str, root: &Node, kinds: &Kinds, faults: &Faults) -> Option<Pipeline> {
    // Pieces that aliases refer to may stand under keys like `x-anything`.
    let section = Section::open_but::<forms::File>(root, faults, |key| key.starts_with("x-"));
    if root.is_null() {
        faults.add(yaml::empty());
    }
    if !root.is_map() {
        return None;
    }
    secrets::look_for(root, faults);
    let components = section
        .need("components", "say which values move: `components: { web: { file: …, path: … } }`")
        .map(|node| components(node, faults));
    let bundles = section.get("bundles").map(|node| bundles(node, components.as_ref(), faults));
    let environments = environments(&section, kinds);
    let name = name(file_name, &section);
    let prefix = section.get("prefix").map_or(Some("piton".to_owned()), |node| faults.keep(branch_like(node)));
    Some(Pipeline {
        name: name?,
        source: section.get("source").map_or(Source::default(), |node| source(node, faults)),
        prefix: prefix?,
        components: components?,
        bundles: bundles.unwrap_or_default(),
        environments: environments?,
        signing: section.get("signing").map_or(Signing::default(), |node| signing(node, faults)),
    })
}

/// As written, or the file's own name without its ending.
fn name(file_name: &str, section: &Section<'_>) -> Option<PipelineName> {
    if let Some(node) = section.get("name") {
        return section.faults.keep(node.read());
    }
    let stem = file_name.rsplit('/').next().unwrap_or(file_name);
    let stem = stem.strip_suffix(".yaml").or_else(|| stem.strip_suffix(".yml")).unwrap_or(stem);
    let named = PipelineName::new(stem).map_err(|_| {
        let fault = Fault::new(format!("the file's name {stem:?} cannot be the pipeline's name")).at(section.place());
        fault.help("add `name: …`")
    });
    section.faults.keep(named)
}

fn source(node: &Node, faults: &Faults) -> Source {
    let section = Section::open::<forms::Source>(node, faults);
    let default = Source::default();
    let word = |key, default| section.get(key).and_then(|node| faults.keep(branch_like(node))).unwrap_or(default);
    Source { branch: word("branch", default.branch), remote: word("remote", default.remote) }
}

/// What git takes as part of a branch's name, and no program as an option.
fn branch_like(node: &Node) -> Result<String, Fault> {
    let text: String = node.read()?;
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let part = |p: &str| !p.is_empty() && !p.starts_with(['.', '-']) && !p.ends_with('.') && !p.ends_with(".lock");
    match text.chars().all(ok) && !text.contains("..") && text.split('/').all(part) && text.len() <= 200 {
        true => Ok(text),
        false => Err(node.fault(format!("{text:?} cannot be a name in git")).help("write something like `main`")),
    }
}

fn signing(node: &Node, faults: &Faults) -> Signing {
    let section = Section::open::<forms::Signing>(node, faults);
    let key_variable = section.get("key").and_then(|node| faults.keep(secrets::variable(node)));
    let allowed_signers = section.get("allowed_signers").and_then(|node| faults.keep(file_in_repository(node)));
    Signing { allowed_signers, key_variable }
}

fn components(node: &Node, faults: &Faults) -> BTreeMap<ComponentName, Component> {
    let mut found = BTreeMap::new();
    let mut places: Vec<(Place, &Key)> = Vec::new();
    if node.entries().is_empty() {
        let fault = node.fault(format!("expected a mapping of components, found {}", node.found()));
        faults.add(fault.help("`piton explain component` shows some"));
    }
    let names: Vec<&str> = node.keys().collect();
    for (key, node) in node.entries() {
        let name = ComponentName::new(&key.text).map_err(|e| Fault::custom(e).at(key.span.clone()));
        let (name, component) = (faults.keep(name), component(key, node, &names, faults));
        let (Some(name), Some(component)) = (name, component) else { continue };
        if let Some((_, other)) = places.iter().find(|(place, _)| *place == component.place) {
            let why = format!("`{}` and `{}` are the same value at the same place", other.text, key.text);
            faults.add(Fault::new(why).at(key.span.clone()).also(other.span.clone(), "the other one"));
        }
        places.push((component.place.clone(), key));
        found.insert(name, component);
    }
    let within = |name: &ComponentName| found.get(name).and_then(|c| c.within.clone()).into_iter().collect::<Vec<_>>();
    if let Some(circle) = graph::circle(found.keys(), within)
        && let Some(at) = circle.first().and_then(|name| node.get(name.as_str()))
    {
        faults
            .add(at.at("within").fault(format!("these components are within each other: {}", graph::arrows(&circle))));
    }
    found
}

fn component(key: &Key, node: &Node, names: &[&str], faults: &Faults) -> Option<Component> {
    let section = Section::open::<forms::Component>(node, faults);
    let file = section
        .need("file", "name the file the value stands in, from the root of the repository")
        .and_then(|node| faults.keep(file_in_repository(node)));
    let at = match (section.get("path"), section.get("pattern")) {
        (Some(node), None) => {
            let path = match &file {
                Some(file) => path_in(file, node),
                None => path(node),
            };
            faults.keep(path).map(At::Path)
        }
        (None, Some(node)) => faults.keep(pattern(node)).map(At::Pattern),
        (Some(_), Some(node)) => {
            faults.add(node.fault(format!("`{}` has both a `path` and a `pattern`", key.text)).help("keep one"));
            None
        }
        (None, None) => {
            let fault = Fault::new(format!("`{}` does not say where in the file its value is", key.text));
            faults
                .add(fault.at(key.span.clone()).help("add `path: web.version`, or `pattern` for a regular expression"));
            None
        }
    };
    let within = section.get("within").map(|node| faults.keep(other_component(key, node, names)));
    let order = section.read("order").map_or(Order::default(), order);
    let restarts = section.read("restarts");
    let part = match section.read("part") {
        Some(forms::Part::Tag) => Part::Tag,
        Some(forms::Part::Whole) | None => Part::Whole,
    };
    Some(Component { place: Place { file: file?, at: at?, part }, order, within: within.flatten(), restarts })
}

fn other_component(key: &Key, node: &Node, names: &[&str]) -> Result<ComponentName, Fault> {
    let name: ComponentName = node.read()?;
    if name.as_str() == key.text {
        return Err(node.fault(format!("`{name}` cannot be within itself")));
    }
    known_component(node, &name, names)?;
    Ok(name)
}

fn known_component(node: &Node, name: &ComponentName, names: &[&str]) -> Result<(), Fault> {
    match names.contains(&name.as_str()) {
        true => Ok(()),
        false => {
            Err(node.fault(format!("unknown component `{name}`")).help(remedy(name.as_str(), "components", names)))
        }
    }
}

fn order(form: forms::Order) -> Order {
    match form {
        forms::Order::Auto => Order::Auto,
        forms::Order::Semver => Order::Semver,
        forms::Order::Pep440 => Order::Pep440,
        forms::Order::Count => Order::Count,
        forms::Order::Date => Order::Date,
        forms::Order::Opaque => Order::Opaque,
    }
}

/// A path that stays inside the repository and out of git's own folder.
pub(super) fn file_in_repository(node: &Node) -> Result<String, Fault> {
    let text: String = node.read()?;
    let part = |p: &str| !matches!(p, "" | "." | "..") && !p.eq_ignore_ascii_case(".git");
    let inside = text.split('/').all(part) && !text.contains(['\\', '\0']) && !text.chars().any(char::is_control);
    match inside {
        true => Ok(text),
        false => Err(node
            .fault(format!("{text:?} is not a path inside the repository"))
            .help("write it from the root of the repository, with `/`, without `.` or `..`: `charts/values.yaml`")),
    }
}

fn path(node: &Node) -> Result<Path, Fault> {
    path_like(node, "dependencies[name=hub].version")
}

/// A path, or what is written like one.
pub(super) fn path_like<T: FromStr<Err = EditError>>(node: &Node, example: &str) -> Result<T, Fault> {
    let text: String = node.read()?;
    text.parse().map_err(|error| match error {
        EditError::Path { column, why, .. } => {
            let at = node.place_of_character(column);
            Fault::new("this path cannot be followed").at(at).label(why).help(format!("write it like `{example}`"))
        }
        error => node.fault(error.to_string()),
    })
}

/// A path needs a file whose form is known.
fn path_in(file: &str, node: &Node) -> Result<Path, Fault> {
    let path = path(node)?;
    match Format::of(file) {
        Some(_) => Ok(path),
        None => Err(node
            .fault(format!("nothing is known about the form of {file:?}, so no path leads into it"))
            .help("use `pattern: '…'`, a regular expression whose first group is the value")),
    }
}

fn pattern(node: &Node) -> Result<String, Fault> {
    let text: String = node.read()?;
    let regex = regex::RegexBuilder::new(&text).size_limit(1 << 20).build().map_err(|error| {
        let why = match &error {
            regex::Error::Syntax(text) => text.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned(),
            other => other.to_string(),
        };
        node.fault("this is not a regular expression").label(why)
    })?;
    match regex.captures_len() {
        1 => Err(node
            .fault("the pattern has no group")
            .help("put parentheses around what is the value: `VERSION=([0-9.]+)`")),
        _ => Ok(text),
    }
}

fn bundles(
    node: &Node,
    components: Option<&BTreeMap<ComponentName, Component>>,
    faults: &Faults,
) -> Vec<BTreeSet<ComponentName>> {
    let names: Vec<&str> = components.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let mut taken: Vec<(ComponentName, &Node)> = Vec::new();
    if !node.is_list() {
        faults.add(
            node.fault(format!("expected a list of lists, found {}", node.found())).help("`bundles: [[hub, proxy]]`"),
        );
    }
    let mut found = Vec::new();
    for bundle in node.items() {
        let mut members = BTreeSet::new();
        for node in bundle.items() {
            let Some(name) = faults.keep(node.read::<ComponentName>()) else { continue };
            // Without any checked component every name would be unknown; those faults are told already.
            if !names.is_empty() {
                faults.keep(known_component(node, &name, &names));
            }
            if let Some((_, first)) = taken.iter().find(|(other, _)| *other == name) {
                let fault = node.fault(format!("`{name}` is in a bundle already"));
                faults.add(fault.also(first.place(), "here").help("a component moves with one bundle: join the two"));
            }
            taken.push((name.clone(), node));
            members.insert(name);
        }
        if bundle.items().len() < 2 {
            faults.add(bundle.fault("a bundle is a list of at least two components").help("`bundles: [[hub, proxy]]`"));
        }
        found.push(members);
    }
    found
}

fn environments(section: &Section<'_>, kinds: &Kinds) -> Option<Vec<Environment>> {
    let faults = section.faults;
    let node = section.need("environments", "say where releases go: `environments: { staging: { target: … } }`")?;
    if node.entries().is_empty() {
        let fault = node.fault(format!("expected a mapping of environments, found {}", node.found()));
        faults.add(fault.help("`piton explain environment` shows one"));
    }
    let shared = environment::Shared::read(section, kinds);
    let names: Vec<&str> = node.keys().collect();
    let mut found = Vec::new();
    for (key, node) in node.entries() {
        let name = EnvironmentName::new(&key.text).map_err(|e| Fault::custom(e).at(key.span.clone()));
        let name = faults.keep(name);
        let environment = environment::environment(name, node, &names, &shared);
        found.extend(environment);
    }
    let after = |name: &EnvironmentName| {
        found.iter().find(|e: &&Environment| e.name == *name).map_or(Vec::new(), |e| e.after.clone())
    };
    let all: Vec<EnvironmentName> = found.iter().map(|e| e.name.clone()).collect();
    if let Some(circle) = graph::circle(all.iter(), after) {
        let at = circle.first().and_then(|name| node.get(name.as_str())).unwrap_or(node);
        let fault = at.at("after").fault(format!("these environments wait for each other: {}", graph::arrows(&circle)));
        faults.add(fault.help("take one `after` out: the first environment waits for none"));
        return None;
    }
    Some(graph::in_order(found, |e| &e.name, |e| &e.after))
}
