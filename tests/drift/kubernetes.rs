//! On a real control plane: hand edits by name, manager and time; roll-outs that stopped half way; the way back.

use std::time::{Duration, Instant};

use piton::clients::kube::Place;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    registry::Registry,
    support::{Ran, Sandbox},
};

/// A deploy repository whose production is a namespace of the shared cluster, and images in a registry of its own.
struct World {
    cluster: &'static Cluster,
    namespace: String,
    sandbox: Sandbox,
    registry: Registry,
}

impl World {
    async fn new() -> World {
        World::with(|_| String::new()).await
    }

    /// With more objects beside the Deployment `web`.
    async fn with(more: impl Fn(&str) -> String) -> World {
        World::made(more, |registry| registry.push("hub", "1.0.0"), "").await
    }

    /// With this in the registry, and these lines more in the pipeline.
    async fn made(more: impl Fn(&str) -> String, fill: impl Fn(&Registry), lines: &str) -> World {
        let cluster = Cluster::shared().await;
        let namespace = cluster.namespace("drift").await;
        let registry = Registry::start();
        fill(&registry);
        let place = Place { kubeconfig: Some(cluster.kubeconfig().to_path_buf()), context: None };
        let connected = piton::clients::kube::Cluster::connect(&place).await.expect("a connection");
        let identity = connected.identity().await.expect("an identity");
        let sandbox = Sandbox::empty();
        let kubeconfig = cluster.kubeconfig().display().to_string();
        sandbox.write("pipelines/sandbox.yaml", pipeline(&identity, &kubeconfig, &namespace) + lines);
        sandbox.write("k8s/web.yaml", deployment(&registry.address(), "1.0.0") + &more(&namespace));
        sandbox.commit("the first release");
        let world = World { cluster, namespace, sandbox, registry };
        world.piton(&["promote", "production"]).ends(0);
        world
    }

    /// The program is another process: the runtime goes on meanwhile.
    fn piton(&self, words: &[&str]) -> Ran {
        tokio::task::block_in_place(|| self.sandbox.piton(words))
    }

    fn differences(&self, ends: i32) -> Vec<Value> {
        let ran = self.piton(&["drift", "production", "--json"]).ends(ends);
        ran.json()["differences"].as_array().expect("a list").clone()
    }

    async fn kubectl(&self, words: &[&str]) {
        let all: Vec<&str> = ["--namespace", &self.namespace].iter().chain(words).copied().collect();
        self.cluster.kubectl(&all).await;
    }

    async fn live(&self, kind: &str, name: &str) -> Value {
        self.cluster.get(kind, &self.namespace, name).await.expect("it is there")
    }
}

fn pipeline(identity: &str, kubeconfig: &str, namespace: &str) -> String {
    format!(
        "name: sandbox
components:
  web: {{ file: k8s/web.yaml, path: '#1:spec.template.spec.containers[name=web].image', part: tag }}
environments:
  production:
    target:
      kubernetes:
        cluster: {{ identity: {identity}, kubeconfig: {kubeconfig} }}
        namespace: {namespace}
        manifests: [k8s]
        rollout: {{ within: 2m }}
    bake: 100ms
    way_back: {{ every: 24h }}
"
    )
}

fn deployment(registry: &str, tag: &str) -> String {
    format!(
        "# the front page
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2 # enough
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      containers:
        - name: web
          image: {registry}/hub:{tag}
          env: [{{ name: MODE, value: fast }}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_edit_is_named_holds_the_deploy_and_is_adopted() {
    let world = World::new().await;
    assert_eq!(world.differences(0), [] as [Value; 0]);
    world.kubectl(&["scale", "deployment/web", "--replicas=3"]).await;
    world.kubectl(&["set", "env", "deployment/web", "MODE=slow", "--field-manager=a-colleague"]).await;
    world.kubectl(&["rollout", "status", "deployment/web"]).await;

    let found = world.differences(3);
    let of = |field: &str| found.iter().find(|d| d["field"] == field).unwrap_or_else(|| panic!("{field}: {found:#?}"));
    let replicas = of("spec.replicas");
    assert_eq!((&replicas["wanted"], &replicas["live"]), (&json!(2), &json!(3)));
    assert!(replicas["by"].as_str().expect("a manager").starts_with("kubectl"), "{replicas}");

    let mode = of("spec.template.spec.containers[name=web].env[name=MODE].value");
    assert!(mode["at"].as_str().is_some(), "{mode}");
    assert_eq!((&mode["live"], &mode["by"]), (&json!("slow"), &json!("a-colleague")));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!(
        mode["source"],
        json!({ "file": "k8s/web.yaml", "document": 0,
            "path": ["spec", "template", "spec", "containers", "0", "env", "0", "value"] })
    );

    world.registry.push("hub", "1.1.0");
    world.piton(&["promote", "production"]).ends(0).says("up to date");
    world.sandbox.write("notes.txt", "anything");
    world.sandbox.commit("anything");
    world.piton(&["promote", "production"]).ends(4).says("waiting for the drift to end");
    world.piton(&["drift", "production", "--adopt", "--reason", "the exam"]).ends(0);
    world.sandbox.git(&["pull", "--quiet", "origin", "main"]);
    let text = world.sandbox.read("k8s/web.yaml");
    let expected = deployment(&world.registry.address(), "1.0.0");
    let expected = expected.replace("replicas: 2 #", "replicas: 3 #").replace("value: fast", "value: slow");
    assert_eq!(text, expected);
    // A step to the commit before it would take the hand edits away, which the target refuses.
    world.piton(&["promote", "production", "--to", "main"]).ends(0).says("promoted");
    assert_eq!(world.differences(0), [] as [Value; 0]);
}

/// The first item of the list is another one by now, with the very value that was deployed.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_edit_is_not_adopted_into_a_file_that_has_moved_on() {
    let world = World::new().await;
    world.kubectl(&["set", "env", "deployment/web", "MODE=slow"]).await;
    world.kubectl(&["rollout", "status", "deployment/web"]).await;
    let env = "env: [{ name: MODE";
    let moved = world.sandbox.read("k8s/web.yaml").replace(env, "env: [{ name: FIRST, value: fast }, { name: MODE");
    world.sandbox.write("k8s/web.yaml", &moved);
    world.sandbox.commit("one more");
    let refused = world.piton(&["drift", "production", "--adopt"]).ends(4);
    let refused = refused.complains("`k8s/web.yaml` in the source branch is not the one that was deployed");
    refused.complains("into the source branch by hand");
    assert_eq!(world.sandbox.git_in(&world.sandbox.origin(), &["show", "main:k8s/web.yaml"]) + "\n", moved);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_as_the_release_says_again() {
    let more = "---
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { colour: blue }
---
apiVersion: v1
kind: Secret
metadata: { name: key }
stringData: { token: t0psecret }
";
    let world = World::with(|_| more.to_owned()).await;
    assert_eq!(world.differences(0), [] as [Value; 0]);
    world.kubectl(&["scale", "deployment/web", "--replicas=1"]).await;
    world.kubectl(&["delete", "configmap/settings"]).await;
    let patch = r#"{"stringData":{"token":"an0ther"}}"#;
    world.kubectl(&["patch", "secret/key", "--type=merge", "--patch", patch]).await;

    let ran = world.piton(&["drift", "production", "--json"]).ends(3);
    let told = format!("{}{}", ran.out, ran.err);
    let namespace = &world.namespace;
    assert!(told.contains(&format!("ConfigMap {namespace}/settings")), "{told}");
    let found = ran.json()["differences"].as_array().expect("a list").clone();
    let secret = found.iter().find(|d| d["object"] == format!("Secret {namespace}/key")).expect("the secret");
    assert_eq!(secret["live"], "(not shown)");
    for encoded in ["t0psecret", "an0ther", "dDBwc2VjcmV0", "YW4wdGhlcg"] {
        assert!(!told.contains(encoded), "{told}");
    }
    let log = world.sandbox.git_in(&world.sandbox.origin(), &["log", "--format=%B", "piton/production"]);
    assert!(log.contains("drift: ") && !log.contains("YW4wdGhlcg"), "{log}");

    world.piton(&["drift", "production", "--adopt"]).ends(4);
    world.piton(&["drift", "production", "--drop"]).ends(0);
    assert_eq!(world.live("Deployment", "web").await["spec"]["replicas"], 2);
    assert_eq!(world.live("ConfigMap", "settings").await["data"]["colour"], "blue");
    assert_eq!(world.live("Secret", "key").await["data"]["token"], "dDBwc2VjcmV0");
    assert_eq!(world.differences(0), [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_out_that_does_not_reach_its_pods_is_found() {
    let world = World::new().await;
    // Somebody changes its pods and stops the roll-out before it begins: our fields are as they were.
    world.kubectl(&["rollout", "pause", "deployment/web"]).await;
    let patch = r#"{"spec":{"template":{"metadata":{"annotations":{"by":"hand"}}}}}"#;
    world.kubectl(&["patch", "deployment/web", "--type=merge", "--patch", patch]).await;
    world
        .cluster
        .wait_until("its controller has seen it", || async {
            let live = world.live("Deployment", "web").await;
            live["status"]["observedGeneration"] == live["metadata"]["generation"]
        })
        .await;
    let found = world.differences(3);
    assert_eq!((&found[0]["field"], &found[0]["wanted"]), (&json!("pods of this release"), &json!(2)), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_deleted_by_hand_is_missed_and_the_rollback_needs_no_permission() {
    let world = World::new().await;
    world.registry.push("hub", "1.1.0");
    world.sandbox.write("k8s/web.yaml", deployment(&world.registry.address(), "1.1.0"));
    world.sandbox.commit("hub 1.1.0");
    world.piton(&["promote", "production"]).ends(0);
    world.kubectl(&["delete", "deployment/web"]).await;
    let found = world.differences(3);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["object"], format!("Deployment {}/web", world.namespace));
    world.piton(&["rollback", "production"]).ends(0);
    let image = &world.live("Deployment", "web").await["spec"]["template"]["spec"]["containers"][0]["image"];
    assert!(image.as_str().expect("an image").ends_with("hub:1.0.0"), "{image}");
    assert_eq!(world.differences(0), [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_gone_or_moved_is_told_before_it_is_the_only_way_back() {
    let world = World::new().await;
    world.registry.push("hub", "1.1.0");
    world.sandbox.write("k8s/web.yaml", deployment(&world.registry.address(), "1.1.0"));
    world.sandbox.commit("hub 1.1.0");
    world.registry.remove("hub", "1.0.0");
    let held = world.piton(&["promote", "production"]).ends(4);
    assert!(held.out.contains("is not in its registry any more"), "{held}");
    world.piton(&["status"]).ends(0).says("could not be deployed again");
    // Pushed again, but not the same.
    world.registry.push_other("hub", "1.0.0");
    world.piton(&["promote", "production"]).ends(4).says("when it was deployed, and leads to");
    world.registry.push("hub", "1.0.0");
    world.piton(&["promote", "production", "--wait"]).ends(0).says("promoted");
    assert!(world.registry.tokens_given() > 0, "the registry asks for tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_led_elsewhere_when_it_was_looked_up_is_drift_of_every_pod() {
    // The nodes have what the tag led to before it was moved.
    let world = World::made(|_| String::new(), |registry| registry.push_other("hub", "1.0.0"), "").await;
    let found = world.differences(3);
    assert_eq!(found.len(), 1, "{found:#?}");
    let image = format!("{}/hub:1.0.0", world.registry.address());
    assert_eq!(found[0]["field"], format!("image {image} of container web"));
    assert!(found[0]["live"].as_str().expect("a text").ends_with(" in 2"), "{found:#?}");
    assert!(found[0]["wanted"].as_str().expect("a text").starts_with("sha256:"), "{found:#?}");
}

/// Waits until this is the last that the ledger says of drift, whoever found it out.
async fn until_written(world: &World, event: &str, look: impl Fn()) {
    let written = || async {
        look();
        let trailers = "--format=%(trailers:key=Piton-Event,valueonly,unfold)";
        let log = world.sandbox.git_in(&world.sandbox.origin(), &["log", "--reverse", trailers, "piton/production"]);
        let ends = |line: &&str| line.contains(r#""event":"drifted""#) || line.contains(r#""event":"drift_ended""#);
        let last = log.lines().rfind(ends).unwrap_or_default().to_owned();
        if last.contains(&format!(r#""event":"{event}""#)) { Ok(()) } else { Err(last) }
    };
    world.cluster.wait_until(&format!("the ledger to say `{event}`"), written).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_edit_is_found_by_whoever_stands_guard_within_its_interval() {
    let lines = "    drift: { every: 2s }\n";
    let world = World::made(|_| String::new(), |registry| registry.push("hub", "1.0.0"), lines).await;
    let asked = Instant::now();
    assert_eq!(world.differences(0), [] as [Value; 0]);
    let one_look = asked.elapsed();

    let state = world.sandbox.path("controller").display().to_string();
    let follow = format!("shop={}", world.sandbox.origin().display());
    let words = ["serve", "--listen", "127.0.0.1:0", "--state-dir", &state, "--follow", &follow, "--no-lease"];
    let mut controller = world.sandbox.start(&words);
    tokio::task::block_in_place(|| controller.until_said("serving on http://127.0.0.1:"));
    world.kubectl(&["scale", "deployment/web", "--replicas=3"]).await;
    until_written(&world, "drifted", || ()).await;
    world.kubectl(&["scale", "deployment/web", "--replicas=2"]).await;
    until_written(&world, "drift_ended", || ()).await;
    let edited = Instant::now();
    world.kubectl(&["scale", "deployment/web", "--replicas=4"]).await;
    until_written(&world, "drifted", || ()).await;
    let found = edited.elapsed();
    println!(
        "measured: found {:.1} s after the edit; one look by hand: {:.1} s",
        found.as_secs_f64(),
        one_look.as_secs_f64()
    );
    assert!(found < Duration::from_secs(2) + 5 * one_look, "{found:?} with looks of {one_look:?}");
    controller.signal(nix::sys::signal::Signal::SIGTERM);
    tokio::task::block_in_place(|| controller.wait()).ends(0);

    // A schedule finds what ends, too.
    world.kubectl(&["scale", "deployment/web", "--replicas=2"]).await;
    until_written(&world, "drift_ended", || drop(world.piton(&["tick"]))).await;
}
