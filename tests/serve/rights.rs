//! The rights in `deploy/kubernetes`: with exactly these the controller works, and without each it says which is
//! missing.

use std::path::Path;

use crate::{
    cluster::Cluster,
    support::until,
    world::{Controller, World, production},
};

const SHORT: [&str; 8] =
    ["--poll", "500ms", "--lease-duration", "6s", "--lease-deadline", "4s", "--lease-retry", "500ms"];

fn serve(world: &World, name: &str, lease: &str, kubeconfig: &Path) -> Controller {
    let kubeconfig = kubeconfig.display().to_string();
    let mut words = vec!["--lease", lease, "--kubeconfig", &kubeconfig];
    words.extend(SHORT);
    world.serve_with(name, &[("PITON_WEBHOOK_SECRET", "s3cr3t")], &words)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_are_taken_and_their_rights_are_enough() {
    let cluster = Cluster::start(crate::cluster::Options { nodes: 0, ..Default::default() }).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes");
    cluster.kubectl(&["apply", "-k", &folder.display().to_string()]).await;
    cluster.kubectl(&["create", "namespace", "shop"]).await;
    cluster.kubectl(&["apply", "-f", &folder.join("target.yaml").display().to_string()]).await;
    let deployed = cluster.get("Deployment", "piton", "piton").await.expect("the Deployment");
    assert_eq!(deployed["spec"]["replicas"], 2);
    let token = cluster.kubectl(&["create", "token", "piton", "--namespace", "piton"]).await;
    let kubeconfig = cluster.kubeconfig_with("piton", token.trim());
    let world = World::new(&production("100ms"));
    let leader = serve(&world, "a", "piton/piton", &kubeconfig);
    leader.until_ready("leader");
    let standby = serve(&world, "b", "piton/piton", &kubeconfig);
    standby.until_ready("standby");
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0");
    assert_eq!(super::hooks::github(&standby, "s3cr3t", "1").0, 202);
    world.until_promoted("production", "1.1.0");
    let left = leader.leave().ends(0);
    assert!(!left.err.contains("forbidden"), "{left}");
    standby.until_ready("leader");
    let left = standby.leave().ends(0);
    assert!(!left.err.contains("forbidden"), "{left}");
    let events = cluster.list("events.events.k8s.io", "piton", "").await;
    let promoted = events.iter().filter(|event| event["reason"] == "Promoted").count();
    assert_eq!(promoted, 2, "{events:?}");
}

const CREATE: &str = "{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}";
const EVENTS: &str = "{apiGroups: [events.k8s.io], resources: [events], verbs: [create]}";

fn on_the_lease(verbs: &str) -> String {
    format!("{{apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [piton], verbs: [{verbs}]}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named() {
    let cluster = Cluster::shared().await;
    let world = World::new(&production("100ms"));
    // Without these nobody can lead; what is missing stands on the page that says why it is not ready.
    let never_ready = [
        (
            "no-get",
            format!("[{CREATE}, {}, {EVENTS}]", on_the_lease("update, patch")),
            "cannot get resource \"leases\"",
        ),
        (
            "no-create",
            format!("[{}, {EVENTS}]", on_the_lease("get, update, patch")),
            "cannot create resource \"leases\"",
        ),
    ];
    for (name, rules, missing) in never_ready {
        let namespace = cluster.namespace("rights").await;
        let kubeconfig = cluster.user(name, &rules).await;
        let controller = serve(&world, name, &format!("{namespace}/piton"), &kubeconfig);
        until(missing, || {
            let (status, page) = controller.ask("/readyz");
            (status == 503 && page.contains(missing)).then_some(())
        });
        controller.leave().ends(0);
    }
    // It leads as it has made the Lease, and ends when it cannot renew it.
    let namespace = cluster.namespace("rights").await;
    let rules = format!("[{CREATE}, {}, {EVENTS}]", on_the_lease("get, patch"));
    let kubeconfig = cluster.user("no-update", &rules).await;
    let ended = serve(&world, "no-update", &format!("{namespace}/piton"), &kubeconfig).running.wait().ends(75);
    assert!(ended.err.contains("cannot update resource \"leases\""), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_only_help_are_named_and_stop_nothing() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("rights").await;
    let lease = format!("{namespace}/piton");
    let world = World::new(&production("100ms"));
    let rules = format!("[{CREATE}, {}]", on_the_lease("get, update"));
    let kubeconfig = cluster.user("no-help", &rules).await;
    let leader = serve(&world, "a", &lease, &kubeconfig);
    leader.until_ready("leader");
    let mut standby = serve(&world, "b", &lease, &kubeconfig);
    standby.until_ready("standby");
    world.until_promoted("production", "1.0.0");
    assert_eq!(super::hooks::github(&standby, "s3cr3t", "1").0, 202);
    until("the standby to say it", || standby.running.complained("cannot patch resource \"leases\"").then_some(()));
    standby.leave().ends(0);
    let left = leader.leave().ends(0);
    assert!(left.err.contains("cannot create resource \"events\""), "{left}");
}
