use serde_json::{Value, json};

use super::{check, say};
use crate::targets::kubernetes::health::{endpoints, gitops, of};

fn object(api_version: &str, kind: &str, status: Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "namespace": "hub", "name": "web", "generation": 4 },
        "spec": {}, "status": status,
    })
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "conditions": [{ "type": kind, "status": status, "reason": reason, "message": message }] })
}

#[test]
fn what_surrounds_the_workloads() {
    let crd = |status: Value| object("apiextensions.k8s.io/v1", "CustomResourceDefinition", status);
    let claim = |status: Value| object("v1", "PersistentVolumeClaim", status);
    let mut provisioned = claim(json!({ "phase": "Pending" }));
    provisioned["metadata"]["annotations"] = json!({ "volume.kubernetes.io/storage-provisioner": "disks.example" });
    let mut deleted = object("v1", "ConfigMap", json!({}));
    deleted["metadata"]["deletionTimestamp"] = "2026-11-21T13:00:00Z".into();
    let rows = vec![
        ("plain", object("v1", "ConfigMap", json!({})), "ready"),
        ("deleted", deleted, "progressing: it is being deleted"),
        (
            "ingress without a controller",
            object("networking.k8s.io/v1", "Ingress", json!({ "loadBalancer": {} })),
            "ready",
        ),
        ("namespace", object("v1", "Namespace", json!({ "phase": "Active" })), "ready"),
        (
            "namespace going",
            object("v1", "Namespace", json!({ "phase": "Terminating" })),
            "broken, by the world: Namespace hub/web: Terminating: the namespace is being deleted with everything in \
             it",
        ),
        ("crd", crd(condition("Established", "True", "", "")), "ready"),
        ("crd new", crd(json!({})), "progressing: its API is not served yet"),
        (
            "crd refused",
            crd(condition("NamesAccepted", "False", "ListKindConflict", "\"WebList\" is already in use")),
            "broken, by the release: CustomResourceDefinition hub/web: ListKindConflict: \"WebList\" is already in use",
        ),
        ("claim bound", claim(json!({ "phase": "Bound" })), "ready"),
        ("claim waits for its first pod", claim(json!({ "phase": "Pending" })), "ready"),
        ("claim", provisioned, "progressing: disks.example is making its volume"),
        (
            "scales nothing",
            object(
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                condition("AbleToScale", "False", "FailedGetScale", "not found"),
            ),
            "doubtful, by the release: HorizontalPodAutoscaler hub/web: FailedGetScale: not found",
        ),
        (
            "no metrics",
            object(
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                condition("ScalingActive", "False", "FailedGetResourceMetric", ""),
            ),
            "ready",
        ),
    ];
    check(rows, of);
}

#[test]
fn any_kind_by_its_conditions() {
    let any = |status: Value| object("example.org/v1", "Database", status);
    let rows = vec![
        ("silent", any(json!({})), "ready"),
        ("ready", any(condition("Ready", "True", "", "")), "ready"),
        ("unseen", any(json!({ "observedGeneration": 3 })), "progressing: its controller has not seen the change yet"),
        (
            "unseen, as text",
            any(json!({ "observedGeneration": "3" })),
            "progressing: its controller has not seen the change yet",
        ),
        (
            "not ready",
            any(condition("Ready", "False", "Creating", "the disk is made")),
            "progressing: it is not ready: the disk is made",
        ),
        ("unknown", any(condition("Available", "Unknown", "", "")), "progressing: it is not available: no reason"),
        ("works", any(condition("Reconciling", "True", "Moving", "")), "progressing: Moving"),
        (
            "stalled",
            any(condition("Stalled", "True", "NoCredentials", "the secret `db` is missing")),
            "broken, by the release: Database hub/web: NoCredentials: the secret `db` is missing",
        ),
    ];
    check(rows, of);
}

#[test]
fn services_have_ready_endpoints() {
    let service = |spec: Value| json!({ "apiVersion": "v1", "kind": "Service", "spec": spec });
    let selects = json!({ "selector": { "app": "web" } });
    let slice =
        |ready: Value| json!({ "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": ready } }] });
    let rows = [
        (service(selects.clone()), vec![], "progressing: it has no ready endpoints"),
        (service(selects.clone()), vec![slice(json!(false))], "progressing: it has no ready endpoints"),
        (service(selects.clone()), vec![slice(json!(false)), slice(json!(true))], "ready"),
        (service(selects), vec![slice(Value::Null)], "ready"),
        (service(json!({ "selector": { "app": "web" }, "clusterIP": "None" })), vec![slice(json!(true))], "ready"),
        (service(json!({ "clusterIP": "None" })), vec![], "ready"),
        (service(json!({ "type": "ExternalName", "externalName": "db.example" })), vec![], "ready"),
    ];
    for (service, slices, expected) in rows {
        assert_eq!(say(&endpoints(&service, &slices)), expected, "{service} {slices:?}");
    }
}

#[test]
fn routes() {
    let route = |conditions: Value| {
        let parents = json!({ "parents": [{ "parentRef": { "name": "front" }, "conditions": conditions }] });
        object("gateway.networking.k8s.io/v1", "HTTPRoute", parents)
    };
    let said = |kind: &str, status: &str, seen: i64| json!({ "type": kind, "status": status, "reason": "BackendNotFound", "message": "no Service web", "observedGeneration": seen });
    let rows = vec![
        ("nobody answers", object("gateway.networking.k8s.io/v1", "HTTPRoute", json!({})), "ready"),
        ("accepted", route(json!([said("Accepted", "True", 4), said("ResolvedRefs", "True", 4)])), "ready"),
        ("unseen", route(json!([said("Accepted", "True", 3)])), "progressing: a gateway has not seen the change yet"),
        (
            "refused",
            route(json!([said("Accepted", "False", 4)])),
            "broken, by the release: HTTPRoute hub/web: BackendNotFound: gateway front: no Service web",
        ),
        (
            "no backend",
            route(json!([said("Accepted", "True", 4), said("ResolvedRefs", "False", 4)])),
            "doubtful, by the release: HTTPRoute hub/web: BackendNotFound: gateway front: no Service web",
        ),
    ];
    check(rows, of);
}

const OURS: &str = "0123456789abcdef0123456789abcdef01234567";
const THEIRS: &str = "ffff456789abcdef0123456789abcdef01234567";

#[test]
fn argo_applications() {
    let application = |status: Value| object("argoproj.io/v1alpha1", "Application", status);
    let synced = |revision: &str, health: &str| {
        application(json!({
            "sync": { "status": "Synced", "revision": revision }, "health": { "status": health },
            "operationState": { "phase": "Succeeded", "syncResult": { "revision": revision } },
        }))
    };
    let mut failed = synced(THEIRS, "Healthy");
    failed["status"]["operationState"] = json!({
        "phase": "Failed", "message": "one or more objects failed to apply", "syncResult": { "revision": OURS },
    });
    let mut several = synced(THEIRS, "Healthy");
    several["status"]["sync"] = json!({ "status": "Synced", "revisions": [THEIRS, OURS] });
    let mut degraded = synced(OURS, "Degraded");
    degraded["status"]["resources"] = json!([
        { "kind": "Deployment", "namespace": "hub", "name": "web", "health": { "status": "Degraded", "message": "too \
         late" } },
    ]);
    let rows = vec![
        ("new", application(json!({})), "progressing: it is at no commit, not at 01234567 yet"),
        ("ours", synced(OURS, "Healthy"), "ready"),
        ("theirs", synced(THEIRS, "Healthy"), "progressing: it is at ffff4567, not at 01234567 yet"),
        ("several sources", several, "ready"),
        ("coming", synced(OURS, "Progressing"), "progressing: it is progressing"),
        ("degraded", degraded, "broken, by the release: Application hub/web: Degraded: Deployment hub/web: too late"),
        (
            "failed",
            failed,
            "broken, by the release: Application hub/web: SyncFailed: one or more objects failed to apply",
        ),
        (
            "wrong",
            application(json!({ "conditions": [{ "type": "InvalidSpecError", "message": "no project `x`" }] })),
            "broken, by the release: Application hub/web: InvalidSpecError: no project `x`",
        ),
    ];
    check(rows, |object| gitops::application(object, Some(OURS)));
}

#[test]
fn flux_kustomizations_and_releases() {
    let kustomization = |mut status: Value, applied: &str, attempted: &str| {
        status["observedGeneration"] = 4.into();
        status["lastAppliedRevision"] = applied.into();
        status["lastAttemptedRevision"] = attempted.into();
        object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", status)
    };
    let at = |commit: &str| format!("main@sha1:{commit}");
    let bad = |reason: &str| condition("Ready", "False", reason, "it went wrong");
    let rows = vec![
        ("ours", kustomization(condition("Ready", "True", "", ""), &at(OURS), &at(OURS)), "ready"),
        (
            "theirs",
            kustomization(condition("Ready", "True", "", ""), &at(THEIRS), &at(THEIRS)),
            "progressing: it is at ffff4567, not at 01234567 yet",
        ),
        (
            "unhealthy",
            kustomization(bad("HealthCheckFailed"), &at(THEIRS), &at(OURS)),
            "broken, by the release: Kustomization hub/web: HealthCheckFailed: it went wrong",
        ),
        (
            "the one before was unhealthy",
            kustomization(bad("HealthCheckFailed"), "", &at(THEIRS)),
            "progressing: it is at no commit, not at 01234567 yet",
        ),
    ];
    check(rows, |object| gitops::kustomization(object, Some(OURS)));

    // Flux has observed a generation only when all went well with it once.
    let never_well = |seen: i64| {
        let mut object = kustomization(bad("BuildFailed"), "", &at(OURS));
        object["status"]["observedGeneration"] = (-1).into();
        object["status"]["conditions"][0]["observedGeneration"] = seen.into();
        object
    };
    let rows = vec![
        ("first", never_well(4), "broken, by the release: Kustomization hub/web: BuildFailed: it went wrong"),
        ("of the generation before", never_well(3), "progressing: its controller has not seen the change yet"),
    ];
    check(rows, |object| gitops::kustomization(object, Some(OURS)));

    let release = |status: Value| object("helm.toolkit.fluxcd.io/v2", "HelmRelease", status);
    let rows = vec![
        ("good", release(condition("Ready", "True", "", "")), "ready"),
        (
            "works",
            release(condition("Ready", "Unknown", "Progressing", "running upgrade")),
            "progressing: it is not ready: running upgrade",
        ),
        (
            "failed",
            release(condition("Ready", "False", "UpgradeFailed", "timed out")),
            "broken, by the release: HelmRelease hub/web: UpgradeFailed: timed out",
        ),
    ];
    check(rows, of);
}
