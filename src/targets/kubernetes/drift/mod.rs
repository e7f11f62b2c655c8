//! What in the cluster is not as the release says: fields of the objects, objects that are missing, pods that the release has
//! not reached.

pub mod fields;
mod pods;

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt, stream};
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use self::fields::{Change, Step};
use super::{health, inventory::INVENTORY_LABEL, manifest::Manifest};
use crate::{
    clients::kube::{Cluster, KubeError, ObjectId},
    model::{Difference, SourcePlace},
};

/// Objects that are looked at at the same time.
const AT_ONCE: usize = 8;
/// The name under which the release's objects are applied.
pub const MANAGER: &str = "piton";
/// Names under which parts of piton that steer traffic write.
const OUR_OTHERS: &str = "piton-";
/// The number of the lease says nothing about the release, nor does which inventory lists it.
const FENCE: &str = "piton.dev/fence";
const OUR_MARKS: &str = "piton.dev/";

/// An object as it is to be, with our marks on it; whether its file is the text that was applied.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub manifest: &'a Manifest,
    pub marked: Value,
    /// Plain manifests say literally what is applied; what a renderer made cannot be changed in place.
    pub literal: bool,
    /// Under whose name it is asked what applying would change; fields of this name that it does not set would go.
    pub manager: &'static str,
}

/// What an object would say to being applied.
#[derive(Debug)]
pub enum Answer {
    /// As it would be.
    Would(Box<Value>),
    /// The server says no, in a sentence.
    Refuses(String),
}

/// Every way in which the cluster is not as these objects say. An error: nothing is known.
pub async fn look(
    cluster: &Cluster,
    wanted: &[Wanted<'_>],
    digests: &BTreeMap<String, String>,
) -> Result<Vec<Difference>, KubeError> {
    let looks: Vec<_> = wanted.iter().map(|wanted| of_object(cluster, wanted, digests).boxed()).collect();
    let found: Vec<Result<Vec<Difference>, KubeError>> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let mut all = Vec::new();
    for differences in found {
        all.extend(differences?);
    }
    Ok(all)
}

async fn of_object(
    cluster: &Cluster,
    wanted: &Wanted<'_>,
    digests: &BTreeMap<String, String>,
) -> Result<Vec<Difference>, KubeError> {
    let id = &wanted.manifest.id;
    let api = match cluster.api(id).await {
        Ok(api) => api,
        Err(KubeError::UnknownKind { .. }) => return Ok(vec![missing(id)]),
        Err(error) => return Err(error),
    };
    let collected = health::is_collected_when_done(&wanted.manifest.object);
    let Some(live) = api.get_opt(&id.name).await? else {
        return Ok(if collected { Vec::new() } else { vec![missing(id)] });
    };
    if live.metadata.deletion_timestamp.is_some() {
        if collected && health::end(&value(&live)).is_some() {
            return Ok(Vec::new());
        }
        return Ok(vec![Difference { live: Some("being deleted".into()), ..missing(id) }]);
    }
    let live = value(&live);
    let would = match would_be(cluster, wanted).await? {
        Answer::Would(would) => would,
        Answer::Refuses(why) => {
            let why = format!("refuses the release: {why}");
            return Ok(vec![Difference { live: Some(why.into()), ..missing(id) }]);
        }
    };
    let changes = fields::changes(&comparable(&would), &comparable(&live));
    let mut differences: Vec<Difference> =
        changes.into_iter().filter_map(|change| difference(wanted, &live, change)).collect();
    differences.extend(pods::look(cluster, id, &live, digests).await?);
    Ok(differences)
}

/// Asks the server what the object would be with the release applied, and changes nothing.
pub async fn would_be(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<Answer, KubeError> {
    let (id, object) = (&wanted.manifest.id, &wanted.marked);
    let api = cluster.api(id).await?;
    let params = PatchParams { dry_run: true, ..PatchParams::apply(wanted.manager).force() };
    let answer = api.patch(&id.name, &params, &Patch::Apply(object)).await;
    match answer.map_err(|error| KubeError::from(error).of(object)) {
        Ok(would) => Ok(Answer::Would(Box::new(value(&would)))),
        // Rights that are missing, a lost race and a server in trouble say nothing about the object; fields of others are no
        // conflict, since it is asked by force.
        Err(error) => match (error.code(), error.to_string()) {
            (Some(400 | 422), why) => Ok(Answer::Refuses(why)),
            (Some(403), why) if why.contains("exceeded quota") || why.contains("admission") => Ok(Answer::Refuses(why)),
            (Some(_) | None, _) => Err(error),
        },
    }
}

/// Whether applying an object would change anything of it but our own marks.
pub async fn would_change(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<bool, KubeError> {
    let id = &wanted.manifest.id;
    let api = match cluster.api(id).await {
        Ok(api) => api,
        Err(KubeError::UnknownKind { .. }) => return Ok(true),
        Err(error) => return Err(error),
    };
    let Some(live) = api.get_opt(&id.name).await? else { return Ok(true) };
    match would_be(cluster, wanted).await? {
        Answer::Would(would) => Ok(unmarked(&would) != unmarked(&value(&live))),
        // It is to be heard where it is applied.
        Answer::Refuses(_) => Ok(true),
    }
}

/// Comparable, and without our marks.
fn unmarked(object: &Value) -> Value {
    let mut object = comparable(object);
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|key, _| !key.starts_with(OUR_MARKS));
    }
    object
}

fn value(object: &DynamicObject) -> Value {
    // It came as JSON.
    serde_json::to_value(object).unwrap_or_default()
}

fn missing(id: &ObjectId) -> Difference {
    Difference {
        object: id.to_string(),
        field: String::new(),
        wanted: Some("there".into()),
        live: None,
        by: None,
        at: None,
        source: None,
    }
}

/// Without what the server keeps for itself.
fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(top) = object.as_object_mut() {
        top.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for own in ["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"] {
            metadata.remove(own);
        }
        for (place, key) in [("annotations", FENCE), ("labels", INVENTORY_LABEL)] {
            if let Some(marks) = metadata.get_mut(place).and_then(Value::as_object_mut) {
                marks.remove(key);
            }
        }
    }
    object
}

fn difference(wanted: &Wanted<'_>, live: &Value, change: Change) -> Option<Difference> {
    let owner = fields::owner(live, &change.path);
    let field = fields::shown(&change.path);
    let scaled = |owner: &fields::Owner| {
        // A HorizontalPodAutoscaler writes through the scale; a person's `kubectl scale` has another name.
        owner.subresource == "scale" && owner.manager == "kube-controller-manager" && field == "spec.replicas"
    };
    if owner.as_ref().is_some_and(|owner| owner.manager.starts_with(OUR_OTHERS) || scaled(owner)) {
        return None;
    }
    let secret = is_secret(&wanted.manifest.id, &change.path);
    let source = source(wanted, &change).filter(|_| !secret);
    let hidden = |value: Option<Value>| if secret { Some(json!("(not shown)")) } else { value };
    let (wanted_value, live_value) = match (secret, change.wanted.is_some(), change.live.is_some()) {
        (true, true, false) => (hidden(None), None),
        (true, false, true) => (None, hidden(None)),
        (_, _, _) => (hidden(change.wanted), hidden(change.live)),
    };
    let owner = owner.filter(|owner| owner.manager != wanted.manager);
    Some(Difference {
        object: wanted.manifest.id.to_string(),
        field,
        wanted: wanted_value,
        live: live_value,
        by: owner.as_ref().map(|owner| owner.manager.clone()),
        at: owner.and_then(|owner| owner.at),
        source,
    })
}

/// Values that nobody may see.
fn is_secret(id: &ObjectId, path: &[Step]) -> bool {
    let first = path.first();
    let is = |key: &str| first == Some(&Step::Key(key.to_owned()));
    id.kind == "Secret" && id.group().is_empty() && (is("data") || is("stringData") || is("metadata"))
}

/// Where the release says this very value.
fn source(wanted: &Wanted<'_>, change: &Change) -> Option<SourcePlace> {
    let manifest = wanted.manifest;
    if !wanted.literal || manifest.file.is_empty() {
        return None;
    }
    let path = match fields::place_in(&manifest.object, &change.path) {
        Some(path) => path,
        // What was added by hand goes where its parent stands.
        None if change.wanted.is_none() => {
            let (last, above) = change.path.split_last()?;
            let Step::Key(last) = last else { return None };
            let mut path = fields::place_in(&manifest.object, above)?;
            path.push(last.clone());
            path
        }
        None => return None,
    };
    Some(SourcePlace { file: manifest.file.clone(), document: manifest.document, path })
}
