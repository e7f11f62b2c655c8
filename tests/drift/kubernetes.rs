//! On a real control plane: hand edits by name, manager and time; roll-outs that stopped half way; the way back.

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
        let cluster = Cluster::shared().await;
        let namespace = cluster.namespace("drift").await;
        let registry = Registry::start();
        registry.push("hub", "1.0.0");
        let place = Place { kubeconfig: Some(cluster.kubeconfig().to_path_buf()), context: None };
        let connected = piton::clients::kube::Cluster::connect(&place).await.expect("a connection");
        let identity = connected.identity().await.expect("an identity");
        let sandbox = Sandbox::empty();
        let kubeconfig = cluster.kubeconfig().display().to_string();
        sandbox.write("pipelines/sandbox.yaml", pipeline(&identity, &kubeconfig, &namespace));
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
