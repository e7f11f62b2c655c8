//! Everything that the watches have told so far.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    feed::{Change, Need},
    related::{self, text},
    selector::Selector,
    watched::Watched,
};
use crate::{
    clients::kube::{KubeError, ObjectId},
    targets::kubernetes::health::{self, Health},
};

/// So many objects of one kind in a namespace are watched one by one; more are watched together.
const WATCHED_ALONE_MAX: usize = 4;
/// Warnings that are kept of one namespace; older ones are forgotten.
const WARNINGS_MAX: usize = 200;

/// What is known of the objects that are waited for, and of what they made.
pub struct Picture {
    pub wanted: Vec<ObjectId>,
    sources: BTreeMap<Need, Source>,
    /// Objects that were there once.
    pub(super) met: BTreeSet<ObjectId>,
    /// Jobs that the cluster collects when they are done.
    passing: BTreeSet<ObjectId>,
    /// What was seen last of Jobs that ended, or that went before their end.
    ends: BTreeMap<ObjectId, Option<Health>>,
    /// Why nodes are not looked at: rights that are missing do not come by asking.
    nodes_unseen: Option<String>,
}

#[derive(Default)]
struct Source {
    listed: bool,
    objects: BTreeMap<String, Value>,
    lost: Option<(KubeError, Instant)>,
    /// Warnings that were new, or came again, while we watched: by the UID of what they are about.
    warnings: Vec<(String, Warning)>,
}

/// What a controller or a kubelet complained about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub reason: String,
    pub message: String,
}

/// Whether an object is there.
pub(super) enum Presence<'a> {
    There(&'a Value),
    /// It was looked for, and is not there.
    Absent,
    Unknown,
}

impl Picture {
    pub fn new(watched: Watched) -> Picture {
        let wanted = watched.objects.into_iter().filter(|id| !health::is_plain(id)).collect();
        Picture {
            wanted,
            sources: BTreeMap::new(),
            met: BTreeSet::new(),
            passing: watched.passing,
            ends: BTreeMap::new(),
            nodes_unseen: None,
        }
    }

    /// What must be watched, by what is known so far.
    pub fn needs(&self) -> BTreeSet<Need> {
        let mut all = self.own_needs();
        let mut of_workloads: BTreeSet<Need> = BTreeSet::new();
        for object in self.wanted.iter().filter_map(|id| self.object(id)) {
            of_workloads.extend(related::needs(object));
            of_workloads.extend(self.needs_of_service(object));
        }
        all.extend(together(of_workloads));
        all.extend(self.nodes_to_look_at());
        all
    }

    fn own_needs(&self) -> BTreeSet<Need> {
        let mut groups: BTreeMap<Need, Vec<&ObjectId>> = BTreeMap::new();
        for id in &self.wanted {
            let all = Need {
                api_version: id.api_version.clone(),
                kind: id.kind.clone(),
                namespace: id.namespace.clone(),
                labels: None,
                fields: None,
                among: Vec::new(),
            };
            groups.entry(all).or_default().push(id);
        }
        let split = |(all, ids): (Need, Vec<&ObjectId>)| match ids.len() > WATCHED_ALONE_MAX {
            true => vec![all],
            false => ids
                .iter()
                .map(|id| Need { fields: Some(format!("metadata.name={}", id.name)), ..all.clone() })
                .collect(),
        };
        groups.into_iter().flat_map(split).collect()
    }

    /// The endpoints of a Service, where one of the workloads that are waited for is behind it.
    fn needs_of_service(&self, object: &Value) -> Option<Need> {
        self.is_awaited_service(object).then(|| Need {
            api_version: "discovery.k8s.io/v1".to_owned(),
            kind: "EndpointSlice".to_owned(),
            namespace: object["metadata"]["namespace"].as_str().map(str::to_owned),
            labels: Some(Selector::of_label("kubernetes.io/service-name", text(&object["metadata"]["name"]))),
            fields: None,
            among: Vec::new(),
        })
    }

    /// A Service for pods that others make, such as a hub's, may be without endpoints for good.
    pub(super) fn is_awaited_service(&self, object: &Value) -> bool {
        let is_service = object["kind"] == "Service" && object["apiVersion"] == "v1";
        let behind = |workload: &Value| {
            workload["metadata"]["namespace"] == object["metadata"]["namespace"] && related::serves(object, workload)
        };
        is_service && health::is_served(object) && self.wanted.iter().filter_map(|id| self.object(id)).any(behind)
    }

    /// The nodes under our pods that are not ready.
    fn nodes_to_look_at(&self) -> BTreeSet<Need> {
        const NODES_MAX: usize = 8;
        if self.nodes_unseen.is_some() {
            return BTreeSet::new();
        }
        let node = |name: &str| Need {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            namespace: None,
            labels: None,
            fields: Some(format!("metadata.name={name}")),
            among: Vec::new(),
        };
        let workloads = self.wanted.iter().filter_map(|id| self.object(id));
        let pods = workloads.flat_map(|workload| match text(&workload["kind"]) {
            // On a node that is away its old pods stay, too.
            "DaemonSet" => related::own_pods(self, workload),
            _ => related::newest_pods(self, workload),
        });
        let waiting = pods.filter(|pod| !health::pods::is_ready(pod));
        let names: BTreeSet<&str> = waiting.filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
        names.into_iter().take(NODES_MAX).map(node).collect()
    }

    /// Forgets what is not watched any more.
    pub fn keep(&mut self, needs: &BTreeSet<Need>) {
        self.sources.retain(|need, _| needs.contains(need));
    }

    pub fn learn(&mut self, need: Need, change: Change) {
        self.remember(&need, &change);
        let ours = |id: &ObjectId| self.wanted.contains(id);
        let is_warning = need.kind == "Event";
        let of_wanted = self.wanted.iter().any(|id| id.kind == need.kind && id.api_version == need.api_version);
        // Where all of a kind is watched for the sake of some, the others are let go at once.
        let keeps = |object: &Value| match of_wanted && need.labels.is_none() && need.among.is_empty() {
            true => ObjectId::of(object).is_none_or(|id| ours(&id)),
            false => need.wants(object),
        };
        let source = self.sources.entry(need.clone()).or_default();
        match change {
            // Old warnings are about old faults: one that still holds comes again.
            Change::Listed(_) if is_warning => source.listed = true,
            Change::Listed(objects) => {
                source.listed = true;
                source.objects = objects.into_iter().filter(keeps).map(|object| (name(&object), object)).collect();
            }
            Change::Applied(event) if is_warning => source.warn(&event),
            Change::Applied(object) if keeps(&object) => {
                source.objects.insert(name(&object), object);
            }
            Change::Gone(object) => {
                source.objects.remove(&name(&object));
            }
            Change::Applied(_) | Change::Resumed => {}
            Change::Lost(error) => {
                let since = source.lost.take().map_or_else(Instant::now, |(_, since)| since);
                source.lost = Some((error, since));
                return;
            }
        }
        source.lost = None;
    }

    /// What outlives the objects themselves.
    fn remember(&mut self, need: &Need, change: &Change) {
        match change {
            Change::Listed(objects) => objects.iter().for_each(|object| self.meet(object)),
            Change::Applied(object) => self.meet(object),
            Change::Gone(object) => self.part(object),
            Change::Lost(error) if need.kind == "Node" && is_refusal(error) => {
                self.nodes_unseen = Some(error.to_string());
            }
            Change::Resumed | Change::Lost(_) => {}
        }
    }

    fn meet(&mut self, object: &Value) {
        let Some(id) = ObjectId::of(object).filter(|id| self.wanted.contains(id)) else { return };
        if health::is_collected_when_done(object) {
            self.passing.insert(id.clone());
        }
        match health::end(object) {
            Some(end) => drop(self.ends.insert(id.clone(), Some(end))),
            None => drop(self.ends.remove(&id)),
        }
        self.met.insert(id);
    }

    fn part(&mut self, object: &Value) {
        if let Some(id) = ObjectId::of(object).filter(|id| self.wanted.contains(id)) {
            self.ends.insert(id, health::end(object));
        }
    }

    /// How a Job that is not there ended, as far as that is known. One that went before our eyes and was not done did not end.
    pub(super) fn end_of(&self, id: &ObjectId) -> Option<Health> {
        match self.ends.get(id) {
            Some(end) => end.clone(),
            None => self.passing.contains(id).then_some(Health::Ready),
        }
    }

    /// Why nodes are not looked at.
    pub(super) fn nodes_unseen(&self) -> Option<&str> {
        self.nodes_unseen.as_deref()
    }

    pub(super) fn presence(&self, id: &ObjectId) -> Presence<'_> {
        let sources = self.sources_of(id);
        let mut listed = !sources.is_empty();
        for source in sources {
            if let Some(object) = source.objects.get(&id.name) {
                return Presence::There(object);
            }
            listed &= source.listed;
        }
        if listed { Presence::Absent } else { Presence::Unknown }
    }

    /// Whether everything that is waited for, and what it made, has been looked for once.
    pub(super) fn has_looked(&self) -> bool {
        self.wanted.iter().all(|id| match self.presence(id) {
            Presence::There(object) => self.is_complete(object),
            Presence::Absent => true,
            Presence::Unknown => false,
        })
    }

    pub(super) fn object(&self, id: &ObjectId) -> Option<&Value> {
        match self.presence(id) {
            Presence::There(object) => Some(object),
            Presence::Absent | Presence::Unknown => None,
        }
    }

    fn sources_of(&self, id: &ObjectId) -> Vec<&Source> {
        let field = format!("metadata.name={}", id.name);
        let about = |need: &Need| {
            let same = need.kind == id.kind && need.api_version == id.api_version && need.namespace == id.namespace;
            let all = need.labels.is_none() && need.among.is_empty();
            same && need.fields.as_ref().is_none_or(|fields| *fields == field) && all
        };
        self.sources.iter().filter(|(need, _)| about(need)).map(|(_, source)| source).collect()
    }

    /// Why nothing is heard of an object, and since when.
    pub(super) fn lost(&self, id: &ObjectId) -> Option<&(KubeError, Instant)> {
        self.sources_of(id).into_iter().find_map(|source| source.lost.as_ref())
    }

    /// The same for the endpoints of a Service that is waited for: what may not be seen is not missing.
    pub(super) fn endpoints_lost(&self, id: &ObjectId) -> Option<&(KubeError, Instant)> {
        let need = self.needs_of_service(self.object(id)?)?;
        let watches = self.sources.iter().filter(|(have, _)| have.covers(&need));
        watches.filter_map(|(_, source)| source.lost.as_ref()).next()
    }

    /// Whether everything that a workload made has been looked at once. What we may not see is not waited for.
    pub(super) fn is_complete(&self, workload: &Value) -> bool {
        let may_not = |source: &Source| source.lost.as_ref().is_some_and(|(error, _)| is_refusal(error));
        let answers = |source: &Source| source.listed || may_not(source);
        let needs = related::needs(workload).into_iter().filter(|need| need.kind != "Event");
        let mut seen =
            needs.map(|need| self.sources.iter().any(|(have, source)| have.covers(&need) && answers(source)));
        seen.all(|seen| seen)
    }

    pub(super) fn of_kind<'a>(&'a self, kind: &'a str, namespace: &'a str) -> impl Iterator<Item = &'a Value> {
        let sources = self.sources.iter().filter(move |(need, _)| need.kind == kind);
        let near = move |object: &&Value| text(&object["metadata"]["namespace"]) == namespace;
        sources.flat_map(|(_, source)| source.objects.values()).filter(near)
    }

    /// The objects of a kind beside `by` whose owner has this UID, by name.
    pub(super) fn owned<'a>(&'a self, kind: &'a str, by: &'a Value, uid: &str) -> Vec<&'a Value> {
        let owns = |object: &&Value| {
            let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.into_iter().any(|owner| owner["uid"] == uid)
        };
        // Two watches may tell of the same object.
        let found = self.of_kind(kind, text(&by["metadata"]["namespace"])).filter(owns);
        found
            .map(|object| (text(&object["metadata"]["name"]), object))
            .collect::<BTreeMap<_, _>>()
            .into_values()
            .collect()
    }

    pub(super) fn node(&self, name: &str) -> Option<&Value> {
        self.sources.iter().filter(|(need, _)| need.kind == "Node").find_map(|(_, source)| source.objects.get(name))
    }

    /// What was last complained about an object, for one of these reasons (for any, without reasons).
    pub(super) fn warning(&self, uid: &str, reasons: &[&str]) -> Option<&Warning> {
        let told = self.sources.values().flat_map(|source| &source.warnings);
        let fits = |warning: &Warning| reasons.is_empty() || reasons.contains(&warning.reason.as_str());
        told.filter(|(about, warning)| about == uid && fits(warning)).map(|(_, warning)| warning).next_back()
    }
}

impl Source {
    fn warn(&mut self, event: &Value) {
        let about = text(&event["involvedObject"]["uid"]).to_owned();
        let warning =
            Warning { reason: text(&event["reason"]).to_owned(), message: text(&event["message"]).to_owned() };
        self.warnings.retain(|(uid, known)| *uid != about || known.reason != warning.reason);
        self.warnings.push((about, warning));
        let surplus = self.warnings.len().saturating_sub(WARNINGS_MAX);
        self.warnings.drain(..surplus);
    }
}

/// Many watches of one kind in a namespace become one, which tells of what any of them asks for. A workload that comes later
/// makes it another watch, which lists again.
fn together(needs: BTreeSet<Need>) -> BTreeSet<Need> {
    let all = |need: &Need| Need { labels: None, ..need.clone() };
    let among = |some: &BTreeSet<Need>| some.iter().filter_map(|need| need.labels.clone()).collect();
    let mut groups: BTreeMap<Need, BTreeSet<Need>> = BTreeMap::new();
    for need in needs {
        groups.entry(all(&need)).or_default().insert(need);
    }
    let join = |(all, some): (Need, BTreeSet<Need>)| match (some.contains(&all), some.len() > WATCHED_ALONE_MAX) {
        (true, _) => BTreeSet::from([all]),
        (false, true) => BTreeSet::from([Need { among: among(&some), ..all }]),
        (false, false) => some,
    };
    groups.into_iter().flat_map(join).collect()
}

/// Whether the API server does not let us look.
pub(super) fn is_refusal(error: &KubeError) -> bool {
    matches!(error.code(), Some(401 | 403))
}

fn name(object: &Value) -> String {
    text(&object["metadata"]["name"]).to_owned()
}
