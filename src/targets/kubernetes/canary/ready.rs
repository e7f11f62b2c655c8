//! Waits for pods that can serve, as the cluster's own lists of endpoints tell it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt;
use kube::runtime::{WatchStreamExt, watcher, watcher::Event};
use serde_json::Value;

use crate::{
    clients::kube::ObjectId,
    targets::{
        Progress, TargetError,
        kubernetes::traffic::hand::{Hand, wrong},
    },
};

/// Whose endpoints of a Service are meant.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// Pods of the Deployment with this name.
    Of(&'a str),
    /// All others.
    NotOf(&'a str),
}

impl Whose<'_> {
    fn are(self, pod: &str) -> bool {
        let of = |name: &str| pod.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        match self {
            Whose::Of(name) => of(name),
            Whose::NotOf(name) => !of(name),
        }
    }
}

/// The pods behind a Service that are ready for requests.
pub async fn endpoints(
    hand: &Hand<'_>,
    namespace: &str,
    service: &str,
    whose: Whose<'_>,
) -> Result<BTreeSet<String>, TargetError> {
    let slices = hand.list(&slice(namespace), &of_service(service)).await?;
    Ok(ready_in(slices.iter(), whose))
}

/// Waits until a Service has so many ready pods.
pub async fn wait_endpoints(
    hand: &Hand<'_>,
    (namespace, service, whose): (&str, &str, Whose<'_>),
    at_least: u32,
    within: Duration,
    progress: &Progress,
) -> Result<(), TargetError> {
    let missing = |slices: &BTreeMap<String, Value>| {
        let ready = ready_in(slices.values(), whose).len();
        let said = format!("Service {namespace}/{service}: {ready} of {at_least} pods are ready for requests");
        (u32::try_from(ready).unwrap_or(u32::MAX) < at_least).then_some(said)
    };
    wait(hand, &slice(namespace), &of_service(service), within, progress, missing).await
}

/// Watches the objects with these labels until nothing is missing, or says what still is when the time is over.
pub async fn wait(
    hand: &Hand<'_>,
    id: &ObjectId,
    labels: &str,
    within: Duration,
    progress: &Progress,
    missing: impl Fn(&BTreeMap<String, Value>) -> Option<String>,
) -> Result<(), TargetError> {
    let api = hand.api(id).await?;
    let mut events = watcher(api, watcher::Config::default().labels(labels)).default_backoff().boxed();
    let mut known = BTreeMap::new();
    let mut fresh = BTreeMap::new();
    let mut said = format!("nothing is known of objects of kind {}", id.kind);
    let until = tokio::time::Instant::now() + within;
    loop {
        let event = match tokio::time::timeout_at(until, events.next()).await {
            Ok(Some(Ok(event))) => event,
            // The watcher begins again by itself, after a pause; the time limit holds all the while.
            Ok(Some(Err(_))) => continue,
            Ok(None) | Err(_) => return Err(wrong(format!("{said} after {} seconds", within.as_secs()))),
        };
        match event {
            Event::Init => fresh.clear(),
            Event::InitApply(object) => drop(fresh.insert(name(&object), value(&object))),
            Event::InitDone => known = std::mem::take(&mut fresh),
            Event::Apply(object) => drop(known.insert(name(&object), value(&object))),
            Event::Delete(object) => drop(known.remove(&name(&object))),
        }
        if !fresh.is_empty() {
            continue;
        }
        match missing(&known) {
            None => return Ok(()),
            Some(now) => {
                progress.say(now.clone());
                said = now;
            }
        }
    }
}

/// The names of pods that are ready in slices of endpoints; each pod counts once, whatever number of addresses it has.
fn ready_in<'a>(slices: impl Iterator<Item = &'a Value>, whose: Whose<'_>) -> BTreeSet<String> {
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    let named = ready.filter_map(|endpoint| {
        let pod = endpoint["targetRef"]["name"].as_str();
        pod.or_else(|| endpoint["addresses"][0].as_str()).map(str::to_owned)
    });
    named.filter(|pod| whose.are(pod)).collect()
}

/// Pods that are ready and stay.
pub fn pod_is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
    ready && pod["metadata"]["deletionTimestamp"].is_null()
}

fn slice(namespace: &str) -> ObjectId {
    super::id("discovery.k8s.io/v1", "EndpointSlice", namespace, "")
}

fn of_service(service: &str) -> String {
    format!("kubernetes.io/service-name={service}")
}

fn name(object: &kube::api::DynamicObject) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

fn value(object: &kube::api::DynamicObject) -> Value {
    // What came as JSON is JSON.
    serde_json::to_value(object).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_counts_once_and_only_when_ready() {
        let endpoint = |pod: &str, ready: Value| json!({"conditions": {"ready": ready}, "targetRef": {"name": pod}});
        let slices = [
            json!({"endpoints": [endpoint("web-1-a", json!(true)), endpoint("web-1-b", json!(false))]}),
            json!({"endpoints": [endpoint("web-1-a", json!(true)), endpoint("web-1-c", Value::Null)]}),
            json!({"endpoints": [endpoint("web-piton-canary-1-a", json!(true))]}),
            json!({"endpoints": null}),
        ];
        let canary = "web-piton-canary";
        assert_eq!(ready_in(slices.iter(), Whose::NotOf(canary)).len(), 2);
        assert_eq!(ready_in(slices.iter(), Whose::Of(canary)).len(), 1);
    }
}
