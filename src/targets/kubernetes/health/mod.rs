//! What the status of an object says about it: pure functions of what the API server answered. One file per family.

mod cluster;
mod conditions;
mod containers;
pub mod gitops;
mod jobs;
mod network;
pub mod pods;
mod read;
#[cfg(test)]
mod tests;
mod trouble;
mod workloads;

use serde_json::Value;

pub use self::{
    jobs::{end, is_collected_when_done},
    network::{endpoints, is_served},
    read::is_observed,
    trouble::{LOG_LINES_MAX, Trouble},
    workloads::refusal,
};
use crate::{clients::kube::ObjectId, model::Blame};

/// How an object is doing.
#[derive(Debug, Clone, PartialEq)]
pub enum Health {
    Ready,
    /// Under way; `why` says what is missing, such as `2 of 3 replicas are ready`.
    Progressing {
        why: String,
    },
    /// Broken unless it mends itself within moments: no room on any node, a registry that does not answer.
    Doubtful(Box<Trouble>),
    /// It will not become ready by waiting.
    Broken(Box<Trouble>),
}

impl Health {
    fn progressing(why: impl Into<String>) -> Health {
        Health::Progressing { why: why.into() }
    }

    fn broken(trouble: Trouble) -> Health {
        Health::Broken(Box::new(trouble))
    }

    fn doubtful(trouble: Trouble) -> Health {
        Health::Doubtful(Box::new(trouble))
    }
}

/// The health of any object by its own status alone. What it makes (pods, endpoints) is looked at by `rollout`.
pub fn of(object: &Value) -> Health {
    let kind = object["kind"].as_str().unwrap_or_default();
    // A Job that is done stays so while the cluster collects it.
    let done = end(object) == Some(Health::Ready);
    if !object["metadata"]["deletionTimestamp"].is_null() && kind != "Namespace" && !done {
        return Health::progressing("it is being deleted");
    }
    match (group(object), kind) {
        ("apps", "Deployment") => workloads::deployment(object),
        ("apps", "StatefulSet") => workloads::stateful_set(object),
        ("apps", "DaemonSet") => workloads::daemon_set(object),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => workloads::replica_set(object),
        ("batch", "Job") => jobs::job(object),
        ("", "Pod") => pods::of(object, &pods::Rule::default()),
        ("", "Namespace") => cluster::namespace(object),
        ("", "PersistentVolumeClaim") => cluster::claim(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => cluster::definition(object),
        ("apiregistration.k8s.io", "APIService") => cluster::api_service(object),
        ("autoscaling", "HorizontalPodAutoscaler") => cluster::autoscaler(object),
        ("policy", "PodDisruptionBudget") => cluster::disruption_budget(object),
        ("gateway.networking.k8s.io", kind) if kind.ends_with("Route") => network::route(object),
        ("argoproj.io", "Application") => gitops::application(object, None),
        ("kustomize.toolkit.fluxcd.io", "Kustomization") => gitops::kustomization(object, None),
        ("helm.toolkit.fluxcd.io", "HelmRelease") => gitops::helm_release(object),
        _ if has_no_state(object) => Health::Ready,
        _ => conditions::of(object),
    }
}

/// Kinds that are what they are from the moment they are stored. An Ingress is one of them: whether anybody writes its
/// load balancer's address depends on the controller, and so does a Service's.
pub fn is_plain(id: &ObjectId) -> bool {
    match id.group() {
        "" => matches!(
            id.kind.as_str(),
            "ConfigMap"
                | "Secret"
                | "ServiceAccount"
                | "LimitRange"
                | "ResourceQuota"
                | "PersistentVolume"
                | "Endpoints"
        ),
        "apps" => id.kind == "ControllerRevision",
        "batch" => id.kind == "CronJob",
        "networking.k8s.io" => matches!(id.kind.as_str(), "Ingress" | "IngressClass" | "NetworkPolicy"),
        "rbac.authorization.k8s.io"
        | "scheduling.k8s.io"
        | "storage.k8s.io"
        | "admissionregistration.k8s.io"
        | "node.k8s.io"
        | "discovery.k8s.io"
        | "coordination.k8s.io" => true,
        _ => false,
    }
}

fn has_no_state(object: &Value) -> bool {
    // A Service is looked at together with its endpoints.
    let is_service = group(object).is_empty() && object["kind"] == "Service";
    is_service || ObjectId::of(object).is_some_and(|id| is_plain(&id))
}

fn group(object: &Value) -> &str {
    object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}
