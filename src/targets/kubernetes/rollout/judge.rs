//! What the picture means: ready, visibly broken, or still under way. Time comes in as an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    Config,
    picture::{Picture, Presence, is_refusal},
    related::{self, text},
};
use crate::{
    clients::kube::ObjectId,
    model::Blame,
    targets::kubernetes::health::{self, Health, Trouble, pods},
};

/// How long something that may mend itself is given: a registry that does not answer, a quota that is just used up.
const MEND_WITHIN: Duration = Duration::from_secs(2);
/// How long we may be forbidden to look before that is final; rights take a moment to spread.
const FORBIDDEN_WITHIN: Duration = Duration::from_secs(5);
/// The reason of a trouble with something that is not there.
pub(super) const DELETED: &str = "Deleted";
/// Pods that a sentence names at most.
const NAMED_MAX: usize = 2;

/// What is to be said at this moment.
#[derive(Debug)]
pub enum Judged {
    Ready {
        note: String,
    },
    Broken(Box<Trouble>),
    /// Still under way: what is missing, and when to judge again though nothing is heard.
    Open {
        missing: Vec<(ObjectId, String)>,
        again: Option<Instant>,
    },
    /// We are not allowed to look.
    Forbidden {
        why: String,
    },
}

/// Remembers since when something is in doubt.
pub struct Judge {
    rule: pods::Rule,
    unschedulable_grace: Duration,
    steady: Duration,
    doubts: BTreeMap<ObjectId, Instant>,
    ready_since: Option<Instant>,
}

/// How one object stands.
struct Standing {
    health: Health,
    /// Pods of the newest revision that are ready.
    ready_pods: usize,
    /// Whether a container says nothing of its readiness.
    unprobed: bool,
}

impl Judge {
    pub fn new(config: &Config) -> Judge {
        Judge {
            rule: pods::Rule { restarts: i64::from(config.restarts), counted_by_job: false, quotes: config.logs },
            unschedulable_grace: config.unschedulable_grace.as_duration(),
            steady: config.steady.as_duration(),
            doubts: BTreeMap::new(),
            ready_since: None,
        }
    }

    pub fn judge(&mut self, picture: &Picture, now: Instant) -> Judged {
        let mut doubts = BTreeMap::new();
        let (mut missing, mut again) = (Vec::new(), None::<Instant>);
        let mut worst: Option<Box<Trouble>> = None;
        let (mut ready_pods, mut unprobed) = (0, false);
        for id in &picture.wanted {
            if let Some(why) = forbidden(picture, id, now) {
                return Judged::Forbidden { why };
            }
            let standing = self.standing(picture, id);
            ready_pods += standing.ready_pods;
            unprobed |= standing.unprobed;
            match standing.health {
                Health::Ready => {}
                Health::Progressing { why } => missing.push((id.clone(), why)),
                Health::Broken(trouble) => worst = Some(the_worse(worst, trouble)),
                Health::Doubtful(trouble) => {
                    let key = trouble.object.clone();
                    let since = self.doubts.get(&key).copied().unwrap_or(now);
                    let end = since + self.grace(&trouble);
                    doubts.insert(key, since);
                    if now >= end {
                        worst = Some(the_worse(worst, trouble));
                        continue;
                    }
                    again = Some(again.map_or(end, |at| at.min(end)));
                    missing.push((id.clone(), trouble.headline()));
                }
            }
        }
        self.doubts = doubts;
        if let Some(trouble) = worst {
            return Judged::Broken(trouble);
        }
        match missing.is_empty() {
            true => self.steady(picture, ready_pods, unprobed, now),
            false => {
                self.ready_since = None;
                Judged::Open { missing, again }
            }
        }
    }

    /// A container without a probe is called ready as soon as it starts: it must also stay up for a moment.
    fn steady(&mut self, picture: &Picture, ready_pods: usize, unprobed: bool, now: Instant) -> Judged {
        let since = *self.ready_since.get_or_insert(now);
        let end = since + if unprobed { self.steady } else { Duration::ZERO };
        if now >= end {
            return Judged::Ready { note: note(picture.wanted.len(), ready_pods) };
        }
        let why = || "ready a moment ago: a container without a readiness probe must stay up".to_owned();
        let missing = picture.wanted.iter().take(1).map(|id| (id.clone(), why())).collect();
        Judged::Open { missing, again: Some(end) }
    }

    fn grace(&self, trouble: &Trouble) -> Duration {
        if trouble.reason == "Unschedulable" { self.unschedulable_grace } else { MEND_WITHIN }
    }

    fn standing(&self, picture: &Picture, id: &ObjectId) -> Standing {
        let plain = |health| Standing { health, ready_pods: 0, unprobed: false };
        let object = match picture.presence(id) {
            Presence::There(object) => object,
            Presence::Unknown => return plain(progressing(unheard(picture, id))),
            Presence::Absent => return plain(absent(picture, id)),
        };
        if picture.is_awaited_service(object) {
            let slices = picture.of_kind("EndpointSlice", text(&object["metadata"]["namespace"]));
            let name = text(&object["metadata"]["name"]).to_owned();
            let own = slices.filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name.as_str());
            return plain(health::endpoints(object, own));
        }
        if related::needs(object).is_empty() {
            return plain(health::of(object));
        }
        self.workload(picture, object)
    }

    fn workload(&self, picture: &Picture, object: &Value) -> Standing {
        let seen = health::is_observed(object) && object["metadata"]["deletionTimestamp"].is_null();
        let mut pods = if seen { related::newest_pods(picture, object) } else { Vec::new() };
        let own = match lost_nodes(picture, object) {
            0 => health::of(object),
            lost => {
                pods.retain(|pod| gone_node(picture, pod).is_none());
                without_nodes(object, lost, pods.iter().filter(|pod| pods::is_ready(pod)).count())
            }
        };
        let ready_pods = pods.iter().filter(|pod| pods::is_ready(pod)).count();
        let unprobed = object["kind"] != "Job" && pods.iter().any(|pod| is_unprobed(pod));
        let rule = pods::Rule { counted_by_job: object["kind"] == "Job", ..self.rule };
        let health = match self.of_pods(picture, object, &pods, &rule) {
            Some(trouble) => trouble,
            None => match own {
                Health::Ready if !picture.is_complete(object) => progressing("its pods have not been looked at yet"),
                Health::Progressing { why } => match refused_by_event(picture, object) {
                    Some(trouble) => trouble,
                    None => progressing(in_words(picture, &why, &pods, &rule)),
                },
                // What stands in the way of its pods explains a Job that has failed, or a deadline that is over.
                Health::Broken(trouble) => Health::Broken(Box::new(explained(*trouble, &pods, &rule))),
                other => other,
            },
        };
        Standing { health, ready_pods, unprobed }
    }

    /// The worst that the pods of the newest revision say.
    fn of_pods(&self, picture: &Picture, workload: &Value, pods: &[&Value], rule: &pods::Rule) -> Option<Health> {
        let mut doubtful = None;
        for pod in pods {
            match of_pod(picture, pod, rule) {
                Health::Ready | Health::Progressing { .. } => {}
                Health::Broken(trouble) => return Some(Health::Broken(trouble)),
                Health::Doubtful(trouble) => {
                    doubtful = Some(match doubtful {
                        Some(before) => the_worse(Some(before), trouble),
                        None => trouble,
                    });
                }
            }
        }
        // The pods that make way give their room and their quota back.
        let doubtful =
            doubtful.filter(|trouble| trouble.reason != "Unschedulable" || !related::others_leave(picture, workload));
        doubtful.map(Health::Doubtful)
    }
}

/// A pod by its status, by its node, and by what its kubelet complains about.
fn of_pod(picture: &Picture, pod: &Value, rule: &pods::Rule) -> Health {
    let health = pods::of(pod, rule);
    let Health::Progressing { why } = health else { return health };
    if let Some(trouble) = gone_node(picture, pod) {
        return Health::Doubtful(Box::new(trouble));
    }
    let uid = text(&pod["metadata"]["uid"]);
    match picture.warning(uid, &["FailedMount", "FailedAttachVolume"]) {
        Some(warning) if warning.message.contains("not found") => {
            let trouble = Trouble::of_pod(pod, &warning.reason, warning.message.as_str(), Blame::Release);
            Health::Doubtful(Box::new(trouble))
        }
        Some(_) | None => Health::Progressing { why },
    }
}

/// What the release does wrong says more than what the world does: it stays when the world has mended itself.
fn the_worse(known: Option<Box<Trouble>>, other: Box<Trouble>) -> Box<Trouble> {
    match known {
        Some(known) if known.blame == Blame::Release || other.blame == Blame::World => known,
        Some(_) | None => other,
    }
}

/// A DaemonSet's pods stay on nodes that do not answer, for as long as these are away: nobody may wait for them.
fn lost_nodes(picture: &Picture, workload: &Value) -> usize {
    match text(&workload["kind"]) {
        "DaemonSet" => {
            let pods = related::own_pods(picture, workload).into_iter();
            let lost = pods.filter(|pod| gone_node(picture, pod).is_some());
            lost.map(|pod| text(&pod["spec"]["nodeName"])).collect::<BTreeSet<_>>().len()
        }
        _ => 0,
    }
}

/// How a DaemonSet stands on the other nodes, which are counted by the pods that are ready there.
fn without_nodes(daemon_set: &Value, lost: usize, ready_pods: usize) -> Health {
    let key = "desiredNumberScheduled";
    let wanted = daemon_set["status"][key].as_u64().unwrap_or(0).saturating_sub(lost as u64);
    let mut others = daemon_set.clone();
    others["status"][key] = wanted.into();
    match health::of(&others) {
        Health::Ready if wanted == 0 => progressing("none of its nodes answers"),
        Health::Ready if (ready_pods as u64) < wanted => {
            progressing(format!("ready on {ready_pods} of {wanted} nodes that answer"))
        }
        health => health,
    }
}

/// The node under a pod that is not ready does not answer: not the release's doing.
fn gone_node(picture: &Picture, pod: &Value) -> Option<Trouble> {
    let name = text(&pod["spec"]["nodeName"]);
    let conditions = picture.node(name)?["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    if ready["status"] == "True" {
        return None;
    }
    let message = format!("the node {name} does not answer: {}", text(&ready["message"]));
    Some(Trouble::of_pod(pod, "NodeNotReady", message, Blame::World))
}

/// StatefulSets, DaemonSets and Jobs say only by an event that they may not create their pods.
fn refused_by_event(picture: &Picture, workload: &Value) -> Option<Health> {
    let set = related::newest_replica_set(picture, workload).unwrap_or(workload);
    let warning = picture.warning(text(&set["metadata"]["uid"]), &["FailedCreate"])?;
    let made_some = !related::newest_pods(picture, workload).is_empty() && workload["kind"] == "Job";
    (!made_some).then(|| health::refusal(workload, &warning.reason, &warning.message))
}

/// Adds what the pods said where the workload itself only says that it is too late.
fn explained(mut trouble: Trouble, pods: &[&Value], rule: &pods::Rule) -> Trouble {
    let failed = pods.iter().rev().find(|pod| pod["status"]["phase"] == "Failed");
    let Some(pod) = failed.or_else(|| pods.iter().find(|pod| !pods::is_ready(pod))) else { return trouble };
    if let Health::Broken(why) = pods::of(pod, &pods::Rule { restarts: 0, counted_by_job: false, ..*rule }) {
        trouble.message = format!("{}; {}", trouble.message, why.headline());
        trouble.container = trouble.container.or(why.container);
    }
    trouble.node = pod["spec"]["nodeName"].as_str().map(str::to_owned);
    trouble.pod = Some(text(&pod["metadata"]["name"]).to_owned());
    trouble
}

/// `2 of 3 replicas are available; web-x on node-2: it runs and is not ready yet`
fn in_words(picture: &Picture, why: &str, pods: &[&Value], rule: &pods::Rule) -> String {
    let mut words = why.to_owned();
    let waiting: Vec<&&Value> = pods.iter().filter(|pod| !pods::is_ready(pod)).collect();
    for pod in waiting.iter().take(NAMED_MAX) {
        let Health::Progressing { why } = pods::of(pod, rule) else { continue };
        let node = pod["spec"]["nodeName"].as_str().map(|node| format!(" on {node}")).unwrap_or_default();
        words.push_str(&format!("; {}{node}: {why}", text(&pod["metadata"]["name"])));
        if let Some(warning) = picture.warning(text(&pod["metadata"]["uid"]), &[]) {
            words.push_str(&format!(" ({})", warning.message.trim().replace('\n', " ")));
        }
    }
    if waiting.len() > NAMED_MAX {
        words.push_str(&format!("; and {} more", waiting.len() - NAMED_MAX));
    }
    if let Some(why) = picture.nodes_unseen().filter(|_| waiting.iter().any(|pod| pod["spec"]["nodeName"].is_string()))
    {
        words.push_str(&format!("; whether its node answers is not known: {why}"));
    }
    words
}

fn is_unprobed(pod: &Value) -> bool {
    pod["spec"]["containers"].as_array().into_iter().flatten().any(|c| c["readinessProbe"].is_null())
}

fn forbidden(picture: &Picture, id: &ObjectId, now: Instant) -> Option<String> {
    let (error, since) = picture.lost(id).or_else(|| picture.endpoints_lost(id))?;
    (is_refusal(error) && now >= *since + FORBIDDEN_WITHIN).then(|| format!("cannot look at {id}: {error}"))
}

fn unheard(picture: &Picture, id: &ObjectId) -> String {
    match picture.lost(id) {
        Some((error, _)) => format!("cannot look at it: {error}"),
        None => "it has not been looked at yet".to_owned(),
    }
}

/// A Job may be collected when it is done; anything else has to be there.
fn absent(picture: &Picture, id: &ObjectId) -> Health {
    picture.end_of(id).unwrap_or_else(|| Health::Broken(Box::new(deleted(picture, id))))
}

fn deleted(picture: &Picture, id: &ObjectId) -> Trouble {
    let message = match picture.met.contains(id) {
        true => "somebody deleted it while its rollout was watched",
        false => "it is not there, though it was applied",
    };
    Trouble::new(id.clone(), DELETED, message, Blame::World)
}

fn progressing(why: impl Into<String>) -> Health {
    Health::Progressing { why: why.into() }
}

fn note(objects: usize, pods: usize) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    match pods {
        0 => format!("{} ready", count(objects, "object")),
        pods => format!("{} with {} ready", count(objects, "object"), count(pods, "pod")),
    }
}
