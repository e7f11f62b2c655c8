//! Who we are and what we may do, and that it ends in the middle.

use crate::world::{CANARY, World};

/// Everything that a promotion of this pipeline does.
const RIGHTS: &str = r#"[
  {apiGroups: [""], resources: [namespaces], verbs: [get]},
  {apiGroups: [""], resources: [configmaps, secrets, services, pods, pods/log, events, serviceaccounts],
   verbs: [get, list, watch, create, patch, update, delete]},
  {apiGroups: [apps], resources: [deployments, replicasets, statefulsets, daemonsets],
   verbs: [get, list, watch, create, patch, update, delete]},
  {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]},
  {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [get, list, watch]},
  {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [get, list, watch]},
  {apiGroups: [events.k8s.io], resources: [events], verbs: [get, list, watch]},
  {nonResourceURLs: ["*"], verbs: [get]}
]"#;

fn with_rights(world: &World, user: &str, rights: &str) {
    let kubeconfig = world.block_on(world.cluster.user(user, rights));
    world.write_pipeline(&kubeconfig, CANARY);
    world.sandbox.commit("another user");
}

#[test]
fn rights_that_are_withdrawn_in_the_middle_are_named_and_the_promotion_goes_on_with_them() {
    let world = World::new(CANARY);
    with_rights(&world, "withdrawn", RIGHTS);
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
    with_rights(&world, "forsaken", RIGHTS);
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
    let world = World::new(CANARY);
    let kubeconfig = world.block_on(world.cluster.user("expiring", RIGHTS));
    world.write_pipeline(&kubeconfig, CANARY);
    world.sandbox.commit("a user with a token");
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
