//! Who we are and what we may do, and that it ends in the middle.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::world::{CANARY, World, impatient};

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

/// Production is deployed by somebody with these rights and no more; the kubeconfig.
fn with_rights(world: &World, user: &str, environments: &str) -> PathBuf {
    let kubeconfig = world.block_on(world.cluster.user(user, RIGHTS));
    world.write_pipeline(&kubeconfig, environments);
    world.sandbox.commit("another user");
    world.sandbox.piton(&["promote", "production"]).ends(0);
    kubeconfig
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
    let kubeconfig = with_rights(&world, "withdrawn", CANARY);
    let mut running = world.in_the_middle_of("1.1.0");
    world.block_on(world.cluster.user("withdrawn", "[]"));
    world.until_refused(&kubeconfig, 403);
    world.may_go_on();
    running.until_said("forbidden");
    world.block_on(world.cluster.user("withdrawn", RIGHTS));
    running.wait().ends(0).says("promoted");
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

/// How the last words end: what is missing, and what a person can do.
const WITHOUT_RIGHTS: &str = "cannot get resource \"namespaces\" in API group \"\" in the namespace \"kube-system\" \
    (give piton's account this right, or it cannot go on); mend that and say `piton rollback`";
const WITHOUT_TOKEN: &str = "cannot tell which cluster this is, so nothing was done: Unauthorized (the credentials are \
    not valid, or not any more); mend that and say `piton rollback`";

#[test]
fn rights_that_stay_away_leave_it_stuck_with_a_sentence_and_the_way_back_open() {
    let world = World::new(&impatient());
    let kubeconfig = with_rights(&world, "forsaken", &impatient());
    let running = world.in_the_middle_of("1.1.0");
    world.block_on(world.cluster.user("forsaken", "[]"));
    world.until_refused(&kubeconfig, 403);
    world.may_go_on();
    running.wait().ends(5).says("going back failed").says(WITHOUT_RIGHTS);
    world.block_on(world.cluster.user("forsaken", RIGHTS));
    world.sandbox.piton(&["rollback", "production", "--reason", "the rights are back"]).ends(0).says("rolled back");
    world.settles_on("1.0.0");
    world.keeps_the_laws();
}

#[test]
fn a_token_that_ends_in_the_middle_is_named_and_a_fresh_one_goes_on() {
    let world = World::new(&impatient());
    let kubeconfig = with_rights(&world, "expiring", &impatient());
    let running = world.in_the_middle_of("1.1.0");
    // The account goes, and every token with it, for an API server that keeps a good one in mind not at once.
    world.block_on(world.cluster.kubectl(&["--namespace=test-users", "delete", "serviceaccount", "expiring"]));
    world.until_refused(&kubeconfig, 401);
    world.may_go_on();
    running.wait().ends(5).says("going back failed").says(WITHOUT_TOKEN);
    world.block_on(world.cluster.user("expiring", RIGHTS));
    world.sandbox.piton(&["rollback", "production", "--reason", "nobody knows"]).ends(0).says("rolled back");
    world.settles_on("1.0.0");
    world.keeps_the_laws();
}

/// A kubeconfig that says where the token is, and the token itself, which ends with the Secret it is bound to.
struct Renewed<'a> {
    world: &'a World,
    user: &'a str,
    token: PathBuf,
    kubeconfig: PathBuf,
}

impl<'a> Renewed<'a> {
    fn user(world: &'a World, user: &'a str, how: impl Fn(&str) -> Value) -> Renewed<'a> {
        let file = world.block_on(world.cluster.user(user, RIGHTS));
        let mut config: Value = serde_yaml::from_str(&fs::read_to_string(&file).expect("a file")).expect("YAML");
        let (token, kubeconfig) = (world.sandbox.path("token"), world.sandbox.path("renewed.kubeconfig"));
        config["users"][0]["user"] = how(&token.display().to_string());
        fs::write(&kubeconfig, config.to_string()).expect("room on the disk");
        let renewed = Renewed { world, user, token, kubeconfig };
        renewed.renew("first");
        renewed
    }

    fn kubectl(&self, words: &[&str]) -> String {
        let words: Vec<&str> = ["--namespace=test-users"].iter().chain(words).copied().collect();
        self.world.block_on(self.world.cluster.kubectl(&words))
    }

    /// Another token, bound to a Secret of this name; a kubeconfig that has nothing but it.
    fn renew(&self, name: &str) -> PathBuf {
        let secret = format!("{}-{name}", self.user);
        self.kubectl(&["create", "secret", "generic", &secret]);
        let bound = format!("--bound-object-name={secret}");
        let token = self.kubectl(&["create", "token", self.user, "--bound-object-kind=Secret", &bound]);
        fs::write(&self.token, token.trim()).expect("room on the disk");
        self.world.cluster.kubeconfig_with(&secret, token.trim())
    }

    fn ends(&self, name: &str, only: &Path) {
        self.kubectl(&["delete", "secret", &format!("{}-{name}", self.user)]);
        self.world.until_refused(only, 401);
    }
}

/// The running promotion takes the fresh token up, and nobody notices.
fn takes_a_fresh_token_up(user: &str, how: impl Fn(&str) -> Value) {
    let world = World::new(&impatient());
    let renewed = Renewed::user(&world, user, how);
    world.write_pipeline(&renewed.kubeconfig, &impatient());
    world.sandbox.commit("another user");
    world.sandbox.piton(&["promote", "production"]).ends(0);
    let second = renewed.renew("second");
    let running = world.in_the_middle_of("1.1.0");
    renewed.ends("first", &world.cluster.folder().join(format!("{user}-first.kubeconfig")));
    renewed.renew("third");
    renewed.ends("second", &second);
    world.may_go_on();
    let ran = running.wait().ends(0).says("promoted");
    assert!(!format!("{ran}").contains("Unauthorized"), "{ran}");
    world.settles_on("1.1.0");
    world.keeps_the_laws();
}

#[test]
fn a_token_file_that_is_renewed_is_read_again() {
    takes_a_fresh_token_up("renewed-file", |file| json!({ "tokenFile": file }));
}

/// The plugin says nothing of when its token ends.
#[test]
fn a_plugin_whose_token_ends_is_asked_again() {
    takes_a_fresh_token_up("renewed-plugin", |file| {
        let print = r#"printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}' "$(cat "$0")""#;
        json!({ "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", print, file],
            "interactiveMode": "Never",
        } })
    });
}
