//! Who we are and what we may do, and that it ends in the middle.

use crate::world::{CANARY, World};

/// Everything that a promotion of this pipeline does.
const RIGHTS: &str = r#"[
  {apiGroups: [""], resources: [namespaces], verbs: [get]},
  {apiGroups: [""], resources: [configmaps, secrets, services, pods, pods/log, events, serviceaccounts],
   verbs: [get, list, watch, create, patch, update, delete]},
  {apiGroups: [apps], resources: [deployments, replicasets, statefulsets, daemonsets],
   verbs: [get, list, watch, create, patch, update, delete]},
  {apiGroups: [apps], resources: [deployments/scale], verbs: [get, patch, update]},
  {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]},
  {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [get, list, watch]},
  {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [get, list, watch]},
  {apiGroups: [events.k8s.io], resources: [events], verbs: [get, list, watch]},
  {nonResourceURLs: ["*"], verbs: [get]}
]"#;

/// The canary of a pipeline that gives up soon.
fn impatient() -> String {
    CANARY.replace("bake", "deploy: { tries: 2 }\n    rollback: { within: 20s, tries: 2 }\n    bake")
}

fn with_rights(world: &World, user: &str, environments: &str) {
    let kubeconfig = world.block_on(world.cluster.user(user, RIGHTS));
    world.write_pipeline(&kubeconfig, environments);
    world.sandbox.commit("another user");
}

/// What `deploy/kubernetes/target.yaml` gives, and nothing else, takes a release up and back through a canary.
#[test]
fn the_rights_of_the_manifest_are_enough() {
    let world = World::new(&impatient());
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/target.yaml");
    let rights = std::fs::read_to_string(file).expect("the manifest of the rights");
    let rights = rights.replace("namespace: shop", &format!("namespace: {}", world.namespace));
    world.block_on(async {
        let account = "apiVersion: v1\nkind: Namespace\nmetadata: {name: piton}\n---\n\
                       apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: piton, namespace: piton}\n";
        world.cluster.apply(account).await;
        world.cluster.apply(&rights).await;
    });
    let token = world.block_on(world.cluster.kubectl(&["--namespace=piton", "create", "token", "piton"]));
    let kubeconfig = world.cluster.kubeconfig_with("manifest", token.trim());
    world.write_pipeline(&kubeconfig, &impatient());
    world.sandbox.commit("another user");
    world.sandbox.piton(&["promote", "production"]).ends(0);
    world.bump("1.1.0");
    let up = world.promote().wait().ends(0);
    assert!(!format!("{up}").contains("forbidden"), "{up}");
    world.settles_on("1.1.0");
    world.bump("1.2.0-crash");
    let back = world.promote().wait().ends(1);
    assert!(!format!("{back}").contains("forbidden"), "{back}");
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

#[test]
fn rights_that_are_withdrawn_in_the_middle_are_named_and_the_promotion_goes_on_with_them() {
    let world = World::new(CANARY);
    with_rights(&world, "withdrawn", CANARY);
    world.sandbox.piton(&["promote", "production"]);
    let mut running = world.in_the_middle_of("1.1.0");
    world.block_on(world.cluster.user("withdrawn", "[]"));
    running.until_said("forbidden");
    world.block_on(world.cluster.user("withdrawn", RIGHTS));
    running.wait().ends(0);
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

#[test]
fn rights_that_stay_away_leave_it_stuck_with_a_sentence_and_the_way_back_open() {
    let world =
        World::new(&CANARY.replace("bake", "deploy: { tries: 2 }\n    rollback: { within: 20s, tries: 2 }\n    bake"));
    with_rights(&world, "forsaken", &impatient());
    world.sandbox.piton(&["promote", "production"]);
    let running = world.in_the_middle_of("1.1.0");
    world.block_on(world.cluster.user("forsaken", "[]"));
    let ran = running.wait().ends(5);
    assert!(format!("{ran}").contains("forbidden"), "{ran}");
    world.block_on(world.cluster.user("forsaken", RIGHTS));
    world.sandbox.piton(&["rollback", "production", "--reason", "the rights are back"]).ends(0);
    world.settles_on("1.0.0");
}

#[test]
fn a_token_that_ends_in_the_middle_is_named_and_a_fresh_one_goes_on() {
    let world = World::new(&impatient());
    with_rights(&world, "expiring", &impatient());
    world.sandbox.piton(&["promote", "production"]);
    let running = world.in_the_middle_of("1.1.0");
    // The account goes, and every token with it.
    world.block_on(world.cluster.kubectl(&["--namespace=test-users", "delete", "serviceaccount", "expiring"]));
    let ran = running.wait();
    assert!(ran.code.is_some_and(|code| code != 0), "{ran}");
    world.block_on(world.cluster.user("expiring", RIGHTS));
    world.sandbox.piton(&["rollback", "production", "--reason", "nobody knows"]).ends(0);
    world.settles_on("1.0.0");
}
