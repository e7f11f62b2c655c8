//! Single reads and writes of objects, as the canary and the routers need them.

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Map, Value, json};

use crate::{
    clients::kube::{Cluster, KubeError, ObjectId},
    targets::TargetError,
};

/// The name under which we write fields.
pub const MANAGER: &str = "piton";
/// The number of the lease under which an object was written.
pub const FENCE: &str = "piton.dev/fence";
/// The label that all objects of a canary carry, with the name of its Deployment, and by which its pods are selected.
pub const CANARY: &str = "piton.dev/canary";

/// How often a deletion is tried again when the object changed in between.
const TRIES: usize = 5;

/// Writes under one lease, for one canary.
#[derive(Clone)]
pub struct Hand<'a> {
    pub cluster: &'a Cluster,
    pub fence: u64,
    /// The canary's Deployment: what this hand makes carries its name, and it deletes nothing else.
    pub owner: String,
}

impl Hand<'_> {
    /// The object; of a kind that the cluster does not know there is none.
    pub async fn get(&self, id: &ObjectId) -> Result<Option<Value>, TargetError> {
        let failed = |error| world(&format!("cannot read {id}"), error);
        let api = match self.cluster.api(id).await {
            Err(KubeError::UnknownKind { .. }) => return Ok(None),
            found => found.map_err(failed)?,
        };
        let found = api.get_opt(&id.name).await.map_err(|error| failed(error.into()))?;
        found.map(|object| value(&object)).transpose()
    }

    /// All objects of the kind of `id` in its namespace that carry these labels (`a=b,c=d`); all with an empty text.
    pub async fn list(&self, id: &ObjectId, labels: &str) -> Result<Vec<Value>, TargetError> {
        let failed = |error| world(&format!("cannot list objects of kind {}", id.kind), error);
        let api = self.cluster.api(id).await.map_err(failed)?;
        let found = api.list(&ListParams::default().labels(labels)).await.map_err(|error| failed(error.into()))?;
        let kind = |mut object: Value| {
            // Items of a list carry no kind.
            object["apiVersion"] = id.api_version.clone().into();
            object["kind"] = id.kind.clone().into();
            object
        };
        found.items.iter().map(|object| value(object).map(kind)).collect()
    }

    /// Makes an object of our own what it should be.
    pub async fn apply(&self, mut object: Value) -> Result<Value, TargetError> {
        let id = ObjectId::of(&object).ok_or_else(|| wrong("an object of the canary has no name"))?;
        self.check_free(&id).await?;
        mark(&mut object, FENCE, &self.fence.to_string());
        label(&mut object, CANARY, &self.owner);
        let failed = |error: KubeError| refused(&format!("cannot write {id}"), error.of(&object));
        let api = self.cluster.api(&id).await.map_err(failed)?;
        let params = PatchParams::apply(MANAGER).force();
        let new = api.patch(&id.name, &params, &Patch::Apply(&object)).await.map_err(|error| failed(error.into()))?;
        value(&new)
    }

    /// Writes what differs between the two, if the object is still as it was read; says whether it was.
    pub async fn exchange(&self, id: &ObjectId, old: &Value, new: &Value) -> Result<bool, TargetError> {
        let Some(mut patch) = difference(old, new) else { return Ok(true) };
        patch["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        let api = self.api(id).await?;
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch(&id.name, &params, &Patch::Merge(&patch)).await.map_err(KubeError::from) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(409) => Ok(false),
            Err(error) => Err(world(&format!("cannot write {id}"), error)),
        }
    }

    /// What the object would be with what differs between the two written; nothing is changed.
    pub async fn would_be(&self, id: &ObjectId, old: &Value, new: &Value) -> Result<Value, TargetError> {
        let Some(patch) = difference(old, new) else { return Ok(old.clone()) };
        let manager = Some(MANAGER.to_owned());
        let params = PatchParams { field_manager: manager, dry_run: true, ..PatchParams::default() };
        let tried = self.api(id).await?.patch(&id.name, &params, &Patch::Merge(&patch)).await;
        value(&tried.map_err(|error| world(&format!("cannot try to write {id}"), error.into()))?)
    }

    /// The object in the first of these versions of its API that the cluster serves.
    pub async fn served(&self, id: &ObjectId, versions: &[&str]) -> Result<Option<ObjectId>, TargetError> {
        let found = self.cluster.served(id, versions).await;
        found.map_err(|error| world("cannot ask the cluster for its kinds", error))
    }

    /// Writes a few fields of an object, whatever else is on it.
    pub async fn merge(&self, id: &ObjectId, patch: &Value) -> Result<(), TargetError> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let done = self.api(id).await?.patch(&id.name, &params, &Patch::Merge(patch)).await;
        done.map(drop).map_err(|error| world(&format!("cannot write {id}"), error.into()))
    }

    /// Sets how many pods a workload has, as an autoscaler does.
    pub async fn scale(&self, id: &ObjectId, replicas: u32) -> Result<(), TargetError> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = json!({ "spec": { "replicas": replicas } });
        let done = self.api(id).await?.patch_scale(&id.name, &params, &Patch::Merge(&patch)).await;
        done.map(drop).map_err(|error| world(&format!("cannot scale {id}"), error.into()))
    }

    /// Deletes an object of our own. One that is gone is fine, one whose kind is unknown never was, and one that others made
    /// under the same name stays.
    pub async fn delete(&self, id: &ObjectId) -> Result<(), TargetError> {
        for _ in 0..TRIES {
            let Some(live) = self.own(id).await? else { return Ok(()) };
            self.check_fence(&live)?;
            let uid = live["metadata"]["uid"].as_str().map(str::to_owned);
            let only = Preconditions { uid, resource_version: None };
            let params = DeleteParams::background().preconditions(only);
            match self.api(id).await?.delete(&id.name, &params).await.map_err(KubeError::from) {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                // Another object of this name came in between: whose is it?
                Err(error) if error.code() == Some(409) => {}
                Err(error) => return Err(world(&format!("cannot delete {id}"), error)),
            }
        }
        Err(wrong(format!("{id} was replaced by somebody else at every one of {TRIES} tries to delete it")))
    }

    /// The object, if this canary made it.
    pub async fn own(&self, id: &ObjectId) -> Result<Option<Value>, TargetError> {
        Ok(self.get(id).await?.filter(|live| self.is_own(live)))
    }

    pub fn is_own(&self, live: &Value) -> bool {
        live["metadata"]["labels"][CANARY] == self.owner.as_str()
    }

    /// Refuses a name that somebody else's object has, and what a newer lease has written.
    pub async fn check_free(&self, id: &ObjectId) -> Result<(), TargetError> {
        match self.get(id).await? {
            Some(live) if !self.is_own(&live) => Err(wrong(format!(
                "{id} is there and is not of the canary {}, which needs this name; give yours another name: piton writes \
                 over nothing that it did not make",
                self.owner
            ))),
            Some(live) => self.check_fence(&live),
            None => Ok(()),
        }
    }

    /// Refuses to act on what a newer lease has written.
    pub fn check_fence(&self, live: &Value) -> Result<(), TargetError> {
        let text = live["metadata"]["annotations"][FENCE].as_str();
        self.check_number(text.and_then(|text| text.parse().ok()))
    }

    pub fn check_number(&self, seen: Option<u64>) -> Result<(), TargetError> {
        match seen {
            Some(seen) if seen > self.fence => Err(TargetError::Fenced { ours: self.fence, seen }),
            Some(_) | None => Ok(()),
        }
    }

    pub async fn api(&self, id: &ObjectId) -> Result<Api<DynamicObject>, TargetError> {
        self.cluster.api(id).await.map_err(|error| world(&format!("cannot reach {id}"), error))
    }
}

/// An annotation of ours.
pub fn mark(object: &mut Value, key: &str, text: &str) {
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][key] = text.into();
}

/// A label of ours.
fn label(object: &mut Value, key: &str, text: &str) {
    if !object["metadata"]["labels"].is_object() {
        object["metadata"]["labels"] = json!({});
    }
    object["metadata"]["labels"][key] = text.into();
}

pub fn wrong(what: impl Into<String>) -> TargetError {
    TargetError::World { what: what.into(), source: None }
}

pub fn world(what: &str, error: KubeError) -> TargetError {
    TargetError::World { what: format!("{what}: {error}"), source: None }
}

/// A refusal of what the release wants is the release's fault; all else is the world's.
fn refused(what: &str, error: KubeError) -> TargetError {
    match error.code() {
        Some(400 | 422) => TargetError::Release(format!("{what}: {error}")),
        Some(_) | None => world(what, error),
    }
}

fn value(object: &DynamicObject) -> Result<Value, TargetError> {
    serde_json::to_value(object).map_err(|error| wrong(format!("cannot read an answer of the API server: {error}")))
}

/// The merge patch from one to the other; `None` when they are the same. Lists are written as a whole.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for (key, value) in after {
        match before.get(key) {
            Some(was) => patch.extend(difference(was, value).map(|patch| (key.clone(), patch))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    patch.extend(before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null)));
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let cases = [
            (json!({"a": 1, "b": {"c": [1, 2]}}), json!({"a": 1, "b": {"c": [1, 2]}}), None),
            (
                json!({"a": 1, "b": {"c": 1, "d": 2}}),
                json!({"a": 1, "b": {"c": 3, "d": 2}}),
                Some(json!({"b": {"c": 3}})),
            ),
            (json!({"a": 1, "b": 2}), json!({"b": 2}), Some(json!({"a": null}))),
            (json!({"l": [1, 2]}), json!({"l": [1, 3], "n": {}}), Some(json!({"l": [1, 3], "n": {}}))),
        ];
        for (old, new, patch) in cases {
            assert_eq!(difference(&old, &new), patch, "{old} to {new}");
        }
    }
}
