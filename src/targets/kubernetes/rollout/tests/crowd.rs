//! A namespace in which others run more than we do, as a hub's users.

use super::*;

const WORKLOADS: usize = 6;
const FOREIGN: usize = 1_000;

fn named(kind: &str, name: &str, uid: &str, labels: Value) -> Value {
    let api_version = if kind == "Pod" { "v1" } else { "apps/v1" };
    json!({ "apiVersion": api_version, "kind": kind,
            "metadata": { "namespace": "hub", "name": name, "uid": uid, "labels": labels } })
}

fn app(n: usize) -> Value {
    let mut object = deployment(2);
    object["metadata"]["name"] = format!("web-{n}").into();
    object["metadata"]["uid"] = format!("d{n}").into();
    object["spec"]["selector"] = json!({ "matchLabels": { "app": format!("web-{n}") } });
    object
}

fn set_of(n: usize) -> Value {
    let mut set = named("ReplicaSet", &format!("web-{n}-2"), &format!("rs{n}"), json!({ "app": format!("web-{n}") }));
    set["metadata"]["annotations"] = json!({ "deployment.kubernetes.io/revision": "2" });
    set["metadata"]["ownerReferences"] = json!([{ "uid": format!("d{n}"), "controller": true }]);
    set
}

fn pod_of(n: usize) -> Value {
    let mut pod = pod("2", n, running(), true);
    pod["metadata"]["labels"] = json!({ "app": format!("web-{n}") });
    pod["metadata"]["ownerReferences"] = json!([{ "uid": format!("rs{n}"), "controller": true }]);
    pod
}

fn users() -> impl Iterator<Item = Value> {
    (0..FOREIGN).map(|n| named("Pod", &format!("user-{n}"), &format!("u{n}"), json!({ "app": "singleuser" })))
}

fn crowded() -> World {
    let wanted = (0..WORKLOADS).map(|n| id("Deployment", &format!("web-{n}"))).collect();
    World::new(wanted)
        .lists("Deployment", (0..WORKLOADS).map(app).collect())
        .lists("ReplicaSet", (0..WORKLOADS).map(set_of).collect())
        .lists("Pod", users().chain((0..WORKLOADS).map(pod_of)).collect())
}

#[test]
fn only_pods_that_ours_select_are_remembered() {
    let mut world = crowded();
    assert_eq!(world.needs.iter().filter(|need| need.kind == "Pod").count(), 1, "they are watched together");
    assert_eq!(world.after(0), "ready: 6 objects with 6 pods ready");
    assert_eq!(world.picture.of_kind("Pod", "hub").count(), WORKLOADS);
    for user in users() {
        world = world.tells("Pod", || Change::Applied(user.clone()));
    }
    assert_eq!(world.picture.of_kind("Pod", "hub").count(), WORKLOADS);
    assert_eq!(world.after(0), "ready: 6 objects with 6 pods ready");
}

#[test]
fn a_broken_one_in_the_crowd_is_seen() {
    let mut sick = pod_of(4);
    sick["status"]["containerStatuses"][0]["state"] = crash();
    sick["status"]["conditions"][1]["status"] = "False".into();
    let mut world = crowded().tells("Pod", || Change::Applied(sick.clone()));
    assert!(world.after(0).contains("CrashLoopBackOff"), "{}", world.after(0));
}

/// What the watch for five was not told must be listed for the sixth.
#[test]
fn a_workload_that_comes_later_is_listed_anew() {
    let wanted = (0..WORKLOADS).map(|n| id("Deployment", &format!("web-{n}"))).collect();
    let five = World::new(wanted).lists("Deployment", (0..5).map(app).collect());
    let of_pods = |world: &World| world.needs.iter().find(|need| need.kind == "Pod").cloned().expect("a watch of pods");
    let before = of_pods(&five);
    let six = five.lists("Pod", users().collect()).tells("Deployment", || Change::Applied(app(5)));
    assert_ne!(of_pods(&six), before);
    assert_eq!(six.picture.of_kind("Pod", "hub").count(), 0, "the old watch is closed, and what it told forgotten");
    let world = six.lists("ReplicaSet", (0..WORKLOADS).map(set_of).collect());
    let mut world = world.lists("Pod", users().chain((0..WORKLOADS).map(pod_of)).collect());
    assert_eq!(world.after(0), "ready: 6 objects with 6 pods ready");
}
