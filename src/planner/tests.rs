use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

use super::*;
use crate::{
    edit::{At, Part, Place},
    model::{HeldBy, Limits, Pin, PipelineName, Quarantine, Quarantined, WatchSpec},
    pipeline::{Component, Pace, Signing, Source, TargetSpec},
    versions::Order,
};

mod adopt;
mod invariants;

const NOW: Stamp = Stamp(1_000_000);

type Files = BTreeMap<String, Vec<u8>>;

/// Trees in memory; the same content has the same id.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<TreeId, Files>>);

impl Memory {
    fn put(&self, files: Files) -> TreeId {
        let text = files.iter().map(|(path, bytes)| format!("{path} {}\n", blob(bytes))).collect::<String>();
        let id = TreeId::new(blob(text.as_bytes())).expect("a hash is an id");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), files);
        id
    }

    fn get(&self, tree: &TreeId) -> Files {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tree).cloned().unwrap_or_default()
    }

    fn text(&self, tree: &TreeId, path: &str) -> String {
        String::from_utf8(self.get(tree).remove(path).unwrap_or_default()).expect("text")
    }
}

fn blob(bytes: &[u8]) -> String {
    git2::Oid::hash_object(git2::ObjectType::Blob, bytes).expect("bytes have a hash").to_string()
}

impl Trees for Memory {
    fn read(&self, tree: &TreeId, path: &str) -> Result<Option<Vec<u8>>, TreesError> {
        Ok(self.get(tree).remove(path))
    }

    fn write(&self, base: &TreeId, files: &[(String, Vec<u8>)]) -> Result<TreeId, TreesError> {
        let mut all = self.get(base);
        all.extend(files.iter().cloned());
        Ok(self.put(all))
    }

    fn changed(&self, from: &TreeId, to: &TreeId) -> Result<Vec<Changed>, TreesError> {
        let (from, to) = (self.get(from), self.get(to));
        let paths: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
        let differ = paths.into_iter().filter(|path| from.get(*path) != to.get(*path));
        let id = |files: &Files, path: &str| files.get(path).map(|bytes| blob(bytes));
        Ok(differ.map(|path| Changed { path: path.clone(), old: id(&from, path), new: id(&to, path) }).collect())
    }

    fn diff(&self, from: &TreeId, to: &TreeId) -> Result<Vec<FileChange>, TreesError> {
        let change = |c: Changed| FileChange { path: c.path, added: 1, removed: 1, diff: String::new() };
        Ok(self.changed(from, to)?.into_iter().map(change).collect())
    }
}

/// A deploy repository with a source branch, and one environment that takes from it.
struct Desk {
    trees: Memory,
    pipeline: Pipeline,
    environment: Environment,
    state: State,
    upstream: Option<(EnvironmentName, State)>,
    commits: Vec<SourceCommit>,
    now: Stamp,
}

fn name(text: &str) -> ComponentName {
    ComponentName::new(text).expect("a name")
}

fn version(text: &str) -> Version {
    Version::new(text).expect("a version")
}

fn actor() -> Actor {
    Actor::new("ada").expect("an actor")
}

/// The hub and the proxy stand in one file, the chart in another; the image comes with the chart and is mostly absent.
fn values(hub: &str, proxy: &str) -> String {
    format!("# versions\nhub: \"{hub}\"\nproxy: \"{proxy}\"\nimages:\n  other: \"1\"\n")
}

impl Desk {
    /// `hub` 1.0.0, `proxy` 1.0.0 and `chart` 1.0.0 are live and proven.
    fn new() -> Desk {
        let mut desk = Desk::empty();
        desk.commit(&[("values.yaml", &values("1.0.0", "1.0.0")), ("chart.yaml", "chart: \"1.0.0\"\n")]);
        let plan = desk.next();
        desk.take(&plan);
        desk
    }

    fn empty() -> Desk {
        let component = |file: &str, path: &str, within: Option<&str>| Component {
            place: Place { file: file.to_owned(), at: At::Path(path.parse().expect("a path")), part: Part::Whole },
            order: Order::Auto,
            within: within.map(name),
            restarts: None,
        };
        let components = [
            ("hub", component("values.yaml", "hub", None)),
            ("proxy", component("values.yaml", "proxy", None)),
            ("chart", component("chart.yaml", "chart", None)),
            ("image", component("values.yaml", "images.hub", Some("chart"))),
        ];
        let environment = Environment {
            name: "production".parse().expect("a name"),
            after: Vec::new(),
            pace: Pace::Bump,
            target: TargetSpec { kind: "process".to_owned(), with: Value::Null },
            before: Vec::new(),
            during: Vec::new(),
            proof: Vec::new(),
            gates: BTreeMap::new(),
            canary: Vec::new(),
            invariants: Vec::new(),
            bake: Span::minutes(10),
            watch: WatchSpec::default(),
            limits: Limits::default(),
            notify: Vec::new(),
            guard: Default::default(),
            guard_gates: Vec::new(),
        };
        let pipeline = Pipeline {
            name: PipelineName::new("platform").expect("a name"),
            source: Source::default(),
            prefix: "piton".to_owned(),
            components: components.into_iter().map(|(n, c)| (name(n), c)).collect(),
            bundles: Vec::new(),
            environments: vec![environment.clone()],
            signing: Signing::default(),
        };
        let trees = Memory::default();
        let (state, commits) = (State::default(), Vec::new());
        Desk { trees, pipeline, environment, state, upstream: None, commits, now: NOW }
    }

    /// A commit on the source branch that changes these files.
    fn commit(&mut self, files: &[(&str, &str)]) {
        let mut all = self.commits.last().map(|last| self.trees.get(&last.tree)).unwrap_or_default();
        all.extend(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())));
        let number = self.commits.len() + 1;
        let id = CommitId::new(format!("{number:040x}")).expect("hexadecimal digits");
        let (tree, subject) = (self.trees.put(all), format!("commit {number}"));
        self.commits.push(SourceCommit { id, tree, at: NOW, subject, author: actor() });
    }

    fn planned(&self) -> Result<Planned, PlanError> {
        let upstream: Vec<_> = self.upstream.iter().map(|(name, state)| (name, state)).collect();
        let context = self.context(&upstream);
        let done = self.commits.iter().position(|c| Some(&c.id) == self.state.source_done.as_ref()).unwrap_or(0);
        plan(&context, &self.commits[done..])
    }

    fn context<'a>(&'a self, upstream: &'a [(&'a EnvironmentName, &'a State)]) -> Context<'a> {
        let Desk { pipeline, environment, state, trees, now, .. } = self;
        Context { pipeline, environment, state, upstream, trees, now: *now }
    }

    fn next(&self) -> Plan {
        match self.planned() {
            Ok(Planned::Next(plan)) => *plan,
            other => panic!("there is no next step: {other:?}"),
        }
    }

    /// What the planner says, in a line; what is held back stands behind it.
    fn says(&self) -> String {
        let (headline, held) = match self.planned() {
            Ok(Planned::Next(plan)) => (plan.headline(), plan.held),
            Ok(Planned::UpToDate { held }) => ("up to date".to_owned(), held),
            Err(error) => return format!("error: {error}"),
        };
        let why = |held: &Held| match &held.by {
            HeldBy::Pin { .. } => format!("{} pinned", held.component),
            HeldBy::Quarantine { .. } => format!("{} in quarantine", held.component),
            HeldBy::Unproven { environment } => format!("{} unproven in {environment}", held.component),
            HeldBy::NextStep => format!("{} later", held.component),
        };
        let held: Vec<String> = held.iter().map(why).collect();
        if held.is_empty() { headline } else { format!("{headline}; {}", held.join(", ")) }
    }

    /// The plan was carried out and proven.
    fn take(&mut self, plan: &Plan) {
        self.state.live = Some(plan.release.clone());
        if plan.completes_source {
            self.state.source_done = Some(plan.release.source.clone());
        }
    }

    /// Takes all steps there are and says them.
    fn steps(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Ok(Planned::Next(plan)) = self.planned() {
            said.push(self.says());
            self.take(&plan);
            assert!(said.len() < 20, "it never ends: {said:?}");
        }
        said
    }

    fn pin(&mut self, component: &str, to: &str, until: Option<Stamp>) {
        let (component, version) = (name(component), version(to));
        let pin =
            Pin { component: component.clone(), version, reason: "because".to_owned(), by: actor(), since: NOW, until };
        self.state.pins.insert(component, pin);
    }

    fn quarantine(&mut self, what: Quarantined, until: Option<Stamp>) {
        let reason = "it broke".to_owned();
        self.state.quarantines.push(Quarantine { what, reason, by: actor(), since: NOW, until });
    }

    fn keep_out(&mut self, component: &str, out: &str, until: Option<Stamp>) {
        self.quarantine(Quarantined::Version { component: name(component), version: version(out) }, until);
    }
}

#[test]
fn the_first_release_is_the_newest_there_is() {
    let mut desk = Desk::empty();
    desk.commit(&[("values.yaml", &values("1.0.0", "1.0.0")), ("chart.yaml", "chart: \"1.0.0\"\n")]);
    desk.commit(&[("values.yaml", &values("2.0.0", "1.0.0"))]);
    let plan = desk.next();
    assert_eq!((plan.kind, plan.back.as_ref()), (PlanKind::First, None));
    assert_eq!(plan.release.tree, desk.commits[1].tree);
    assert!(plan.completes_source);
}

#[test]
fn one_commit_at_a_time_oldest_first() {
    let mut desk = Desk::new();
    desk.commit(&[("values.yaml", &values("1.1.0", "1.0.0"))]);
    desk.commit(&[("values.yaml", &values("1.2.0", "1.0.0"))]);
    assert_eq!(desk.steps(), ["hub 1.0.0 → 1.1.0", "hub 1.1.0 → 1.2.0"]);
    assert_eq!(desk.says(), "up to date");
}

#[test]
fn a_commit_with_two_bumps_and_nothing_else_is_split_smallest_first() {
    let mut desk = Desk::new();
    desk.commit(&[("values.yaml", &values("2.0.0", "1.0.1"))]);
    let first = desk.next();
    assert!(!first.completes_source, "the rest of the commit waits");
    assert_eq!(desk.trees.text(&first.release.tree, "values.yaml"), values("1.0.0", "1.0.1"));
    assert_eq!(desk.steps(), ["proxy 1.0.0 → 1.0.1; hub later", "hub 1.0.0 → 2.0.0"]);
    assert_eq!(desk.state.live.as_ref().map(|live| &live.tree), Some(&desk.commits[1].tree), "byte for byte");
}

#[test]
fn a_commit_with_other_files_is_not_split() {
    let mut desk = Desk::new();
    desk.commit(&[("values.yaml", &values("2.0.0", "1.0.1")), ("config.py", "c = 1\n")]);
    let plan = desk.next();
    assert_eq!(plan.headline(), "hub 1.0.0 → 2.0.0, proxy 1.0.0 → 1.0.1");
    assert_eq!(plan.content.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["config.py"]);
    desk.commit(&[("config.py", "c = 2\n")]);
    desk.take(&plan);
    assert_eq!(desk.next().kind, PlanKind::Content);
}

#[test]
fn a_bundle_moves_together_or_not_at_all() {
    let mut desk = Desk::new();
    desk.pipeline.bundles = vec![[name("hub"), name("chart")].into()];
    desk.commit(&[("values.yaml", &values("1.0.1", "1.1.0")), ("chart.yaml", "chart: \"2.0.0\"\n")]);
    assert_eq!(desk.says(), "chart 1.0.0 → 2.0.0, hub 1.0.0 → 1.0.1; proxy later");
    desk.keep_out("chart", "2.0.0", None);
    assert_eq!(desk.says(), "proxy 1.0.0 → 1.1.0; chart in quarantine, hub in quarantine");
}

#[test]
fn the_pace_of_commits_and_of_the_latest() {
    let mut desk = Desk::new();
    desk.commit(&[("values.yaml", &values("1.1.0", "1.1.0"))]);
    desk.commit(&[("values.yaml", &values("1.2.0", "1.1.0"))]);
    desk.environment.pace = Pace::Commit;
    assert_eq!(desk.says(), "hub 1.0.0 → 1.1.0, proxy 1.0.0 → 1.1.0");
    desk.environment.pace = Pace::Latest;
    assert_eq!(desk.says(), "hub 1.0.0 → 1.2.0, proxy 1.0.0 → 1.1.0");
}

#[test]
fn a_pin_holds_a_component_and_the_rest_goes_on_until_it_ends() {
    let mut desk = Desk::new();
    desk.pin("hub", "1.0.0", Some(NOW + Span::hours(2)));
    desk.commit(&[("values.yaml", &values("1.1.0", "1.0.1"))]);
    desk.commit(&[("values.yaml", &values("1.2.0", "1.0.1"))]);
    assert_eq!(desk.steps(), ["proxy 1.0.0 → 1.0.1; hub pinned"]);
    assert_eq!(desk.says(), "up to date; hub pinned");
    desk.now = NOW + Span::hours(2);
    assert_eq!(desk.steps(), ["hub 1.0.0 → 1.1.0", "hub 1.1.0 → 1.2.0"], "the pin is over");
}

#[test]
fn a_pin_to_another_version_is_a_step_of_its_own_and_an_unpin_takes_it_back() {
    let mut desk = Desk::new();
    desk.pin("hub", "0.9.0", None);
    let plan = desk.next();
    assert_eq!((plan.headline().as_str(), plan.kind.clone()), ("hub 1.0.0 → 0.9.0", PlanKind::Pin));
    desk.take(&plan);
    assert_eq!(desk.says(), "up to date; hub pinned");
    desk.state.pins.clear();
    assert_eq!(desk.says(), "hub 0.9.0 → 1.0.0");
}

#[test]
fn a_pin_of_a_value_that_is_not_there_adds_it_and_an_unpin_takes_it_out() {
    let mut desk = Desk::new();
    let before = desk.trees.text(&desk.commits[0].tree, "values.yaml");
    desk.pin("image", "7.0", None);
    let plan = desk.next();
    assert_eq!(plan.headline(), "image 7.0");
    assert!(desk.trees.text(&plan.release.tree, "values.yaml").contains("7.0"));
    desk.take(&plan);
    desk.state.pins.clear();
    let plan = desk.next();
    assert_eq!(desk.trees.text(&plan.release.tree, "values.yaml"), before, "byte for byte as before");
}

#[test]
fn quarantine_holds_one_bump_and_the_next_goes_on() {
    let mut desk = Desk::new();
    desk.keep_out("hub", "1.1.0", Some(NOW + Span::hours(1)));
    desk.commit(&[("values.yaml", &values("1.1.0", "1.0.0"))]);
    assert_eq!(desk.says(), "up to date; hub in quarantine");
    desk.commit(&[("values.yaml", &values("1.1.0", "1.0.1"))]);
    assert_eq!(desk.says(), "proxy 1.0.0 → 1.0.1; hub in quarantine");
    desk.commit(&[("values.yaml", &values("1.2.0", "1.0.1"))]);
    assert_eq!(desk.steps(), ["proxy 1.0.0 → 1.0.1; hub in quarantine", "hub 1.0.0 → 1.2.0"]);
}

#[test]
fn a_quarantine_ends() {
    let mut desk = Desk::new();
    desk.keep_out("hub", "1.1.0", Some(NOW + Span::hours(1)));
    desk.commit(&[("values.yaml", &values("1.1.0", "1.0.0"))]);
    desk.now = NOW + Span::hours(1);
    assert_eq!(desk.says(), "hub 1.0.0 → 1.1.0");
}

#[test]
fn quarantined_content_is_kept_out_until_a_commit_takes_it_back() {
    let mut desk = Desk::new();
    desk.commit(&[("config.py", "broken\n")]);
    let plan = desk.next();
    desk.quarantine(Quarantined::Content { commit: plan.release.source.clone(), files: plan.content.clone() }, None);
    assert!(desk.says().starts_with("error: the change of config.py by commit"), "{}", desk.says());
    desk.commit(&[("values.yaml", &values("1.1.0", "1.0.0"))]);
    assert!(desk.says().starts_with("error: the change of config.py"), "it still carries the broken file");
    desk.commit(&[("config.py", "mended\n")]);
    let plan = desk.next();
    assert_eq!(desk.trees.text(&plan.release.tree, "config.py"), "mended\n");
}

#[test]
fn what_the_environment_before_has_not_proven_waits() {
    let mut desk = Desk::new();
    let mut staging = State::default();
    staging.proven_sources.push_back(desk.commits[0].id.clone());
    desk.commit(&[("values.yaml", &values("1.1.0", "1.0.1"))]);
    let environment: EnvironmentName = "staging".parse().expect("a name");
    desk.upstream = Some((environment.clone(), staging.clone()));
    assert_eq!(desk.says(), "up to date", "the commit is no stepping stone yet");
    staging.proven_sources.push_back(desk.commits[1].id.clone());
    staging.proven.entry(name("proxy")).or_default().push_back(version("1.0.1"));
    desk.upstream = Some((environment, staging));
    assert_eq!(desk.says(), "proxy 1.0.0 → 1.0.1; hub unproven in staging");
}

#[test]
fn a_jump_takes_a_commit_whole_and_asks_nobody_before() {
    let mut desk = Desk::new();
    desk.commit(&[("values.yaml", &values("1.1.0", "1.0.1"))]);
    desk.commit(&[("values.yaml", &values("1.2.0", "1.0.2"))]);
    desk.upstream = Some(("staging".parse().expect("a name"), State::default()));
    let context = desk.context(&[]);
    let Ok(Planned::Next(plan)) = jump(&context, &desk.commits[2]) else { panic!("there is no jump") };
    assert_eq!((plan.headline().as_str(), plan.kind), ("hub 1.0.0 → 1.2.0, proxy 1.0.0 → 1.0.2", PlanKind::Jump));
}

#[test]
fn a_rollback_of_one_component_leaves_the_others() {
    let mut desk = Desk::new();
    desk.commit(&[("values.yaml", &values("1.1.0", "1.0.1"))]);
    desk.steps();
    let back = without(&desk.context(&[]), &name("hub"), Some(&version("1.0.0")));
    let back = back.expect("it can be made").expect("something is live");
    assert_eq!(desk.trees.text(&back.tree, "values.yaml"), values("1.0.0", "1.0.1"));
}

#[test]
fn the_least_time_is_what_is_never_shortened() {
    let mut desk = Desk::new();
    desk.commit(&[("values.yaml", &values("1.1.0", "1.0.0"))]);
    let tenth = crate::model::Share::of_hundredths(1_000).expect("a share");
    desk.environment.canary = vec![(Portion::Share(tenth), Span::minutes(5))];
    let plan = desk.next();
    assert_eq!(least_time(&plan), Span::minutes(15));
    let last = plan.steps.iter().rev().find_map(|step| match step {
        Step::Shift { to, .. } => Some(to.clone()),
        Step::Check { .. } | Step::Deploy | Step::Prove { .. } | Step::Bake { .. } => None,
    });
    assert_eq!(last, Some(Portion::ALL), "the last weight change moves everyone");
}
