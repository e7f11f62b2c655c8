//! Accounts that may not, and admission that does not.

use piton::{
    model::{Portion, Release},
    targets::{Act, Target, TargetError, kubernetes::KubernetesTarget},
};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Options},
    world::{World, apply, configmap, deployment, promote, retreat, shift},
};

#[tokio::test]
async fn a_right_that_is_withdrawn_is_named() {
    let world = World::new("rights").await;
    let all = "[{apiGroups: [''], resources: [namespaces, configmaps], verbs: [get, list, watch, create, patch, update, delete]}]";
    let kubeconfig = world.cluster.user(&world.namespace, all).await;
    let target = world.target_with(|config| config["cluster"]["kubeconfig"] = json!(kubeconfig));
    let old = world.release('a', &[("deploy/a.yaml", &configmap("a", "k", "1"))]);
    promote(&target, &old, 1).await;

    let less = "[{apiGroups: [''], resources: [namespaces], verbs: [get]}, {apiGroups: [''], resources: [configmaps], verbs: [get, watch, update]}]";
    world.cluster.user(&world.namespace, less).await;
    let new = world.release('b', &[("deploy/a.yaml", &configmap("a", "k", "2"))]);
    // The API server hears of it a moment later.
    let error = world.cluster.wait_until("it is forbidden", || async { shift(&target, &new, 2).await.err() }).await;
    assert!(matches!(error, TargetError::World { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("deploy/a.yaml:1: cannot apply ConfigMap") && text.contains("cannot patch resource"),
        "{text}"
    );
    assert!(text.contains("give piton's account this right"), "{text}");
}

#[tokio::test]
async fn credentials_that_are_no_more_valid_are_a_sentence() {
    let world = World::new("token").await;
    let kubeconfig = world.cluster.kubeconfig_with(&world.namespace, "not-a-token");
    let target = world.target_with(|config| config["cluster"]["kubeconfig"] = json!(kubeconfig));
    let release = world.release('a', &[("deploy/a.yaml", &configmap("a", "k", "1"))]);
    let error = apply(&target, &release, 1).await.expect_err("nobody knows it").to_string();
    assert!(error.contains("nothing was done") && error.contains("credentials are not valid"), "{error}");
}

#[tokio::test]
async fn admission_and_apis_that_do_not_answer_or_refuse_are_named() {
    // Its own cluster: a webhook that hangs for everybody would stop the others.
    let cluster = Cluster::start(Options { nodes: 0, ..Options::default() }).await;
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let world = World::in_cluster(cluster, "hook").await;
    let target = world.target();
    // Nobody listens there.
    let hook = format!(
        "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: mute}}
webhooks:
  - name: mute.example.org
    failurePolicy: Fail
    sideEffects: None
    timeoutSeconds: 1
    admissionReviewVersions: [v1]
    clientConfig: {{url: 'https://127.0.0.1:1/'}}
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {}}}}}
    objectSelector: {{matchLabels: {{app: hooked}}}}
    rules: [{{apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: [configmaps]}}]
",
        world.namespace
    );
    cluster.apply(&hook).await;
    let policy = "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-two}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: [configmaps]}]}
  validations: [{expression: \"!has(object.data) || !('k' in object.data) || object.data.k != '2'\", message: two is not allowed}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-two}
spec: {policyName: no-two, validationActions: [Deny]}
";
    cluster.apply(policy).await;
    let hooked = configmap("a", "k", "1").replace("{name: a}", "{name: a, labels: {app: hooked}}");
    let mute = world.release('a', &[("deploy/a.yaml", &hooked)]);
    let error = cluster.wait_until("the webhook is asked", || async { apply(&target, &mute, 1).await.err() }).await;
    assert!(matches!(error, TargetError::World { .. }), "{error:?}");
    assert!(error.to_string().contains("failed calling webhook \"mute.example.org\""), "{error}");
    assert!(error.to_string().contains("whoever runs it must mend it"), "{error}");

    let refused = world.release('b', &[("deploy/b.yaml", &configmap("b", "k", "2"))]);
    let error =
        cluster.wait_until("the policy is in force", || async { apply(&target, &refused, 2).await.err() }).await;
    assert!(matches!(error, TargetError::Release(_)), "{error:?}");
    assert!(
        error.to_string().contains("deploy/b.yaml:1: cannot apply ConfigMap")
            && error.to_string().contains("two is not allowed"),
        "{error}"
    );

    // An API that nobody serves is seen, too.
    let api = world.release('c', &[("deploy/api.yaml", UNSERVED)]);
    let impatient = world.target_with(|config| config["rollout"] = json!({"within": "5s"}));
    let error = shift(&impatient, &api, 3).await.expect_err("nobody serves it").to_string();
    assert!(error.contains("apiservice v1.unserved.example.org: it is not available: "), "{error}");
}

const UNSERVED: &str = "apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.unserved.example.org}
spec:
  group: unserved.example.org
  version: v1
  groupPriorityMinimum: 1000
  versionPriority: 15
  insecureSkipTLSVerify: true
  service: {namespace: NS, name: nobody}
";

/// A rule of `deploy/kubernetes/target.yaml`, and whether its comment says that it only helps.
struct Rule {
    rule: Value,
    only_helps: bool,
}

fn rules() -> Vec<Rule> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/target.yaml");
    let text = std::fs::read_to_string(file).expect("the manifest of the rights");
    let mut helpers = Vec::new();
    let mut comment = String::new();
    for line in text.lines().map(str::trim) {
        match line {
            line if line.starts_with('#') => comment.push_str(line),
            line => {
                if line.starts_with("- apiGroups:") {
                    helpers.push(comment.contains("Only helps"));
                }
                comment.clear();
            }
        }
    }
    let documents = serde_yaml::Deserializer::from_str(&text);
    let documents = documents.map(|document| <Value as serde::Deserialize>::deserialize(document).expect("it is YAML"));
    let all: Vec<Value> = documents.flat_map(|one| one["rules"].as_array().cloned().unwrap_or_default()).collect();
    assert_eq!(all.len(), helpers.len(), "each rule has its comment or none");
    all.into_iter().zip(helpers).map(|(rule, only_helps)| Rule { rule, only_helps }).collect()
}

/// Rules for what only a canary without a router or the way back of a StatefulSet does, each with its only verb.
const CANARY_ONLY: [(&str, &str); 2] = [("deployments/scale", "patch"), ("pods", "patch")];
const WAY_BACK_ONLY: (&str, &str) = ("pods/eviction", "create");

fn is_only(rule: &Value, (resource, verb): (&str, &str)) -> bool {
    rule["resources"] == json!([resource]) && rule["verbs"] == json!([verb])
}

/// All rules of the manifest, without one of them.
fn rules_without(one: Option<(&str, &str)>) -> String {
    let all = rules();
    let kept: Vec<&Value> =
        all.iter().map(|rule| &rule.rule).filter(|rule| one.is_none_or(|one| !is_only(rule, one))).collect();
    assert_eq!(kept.len() + usize::from(one.is_some()), all.len(), "the manifest has a rule of its own for {one:?}");
    serde_json::to_string(&kept).expect("it is JSON")
}

/// An object of each kind that the manifest's rules are for.
fn one_of_each() -> String {
    let pods = "{restartPolicy: Never, containers: [{name: main, image: 'shop/web:1'}]}";
    let cron = format!(", spec: {{schedule: '0 * * * *', jobTemplate: {{spec: {{template: {{spec: {pods}}}}}}}}}");
    let plain = [
        ("v1", "Secret", ", stringData: {k: v}"),
        ("v1", "ServiceAccount", ""),
        ("batch/v1", "CronJob", cron.as_str()),
        ("networking.k8s.io/v1", "Ingress", ", spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", ", spec: {}"),
        ("policy/v1", "PodDisruptionBudget", ", spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}"),
        (
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            ", spec: {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: other}}",
        ),
    ];
    let one = |(version, kind, rest): &(&str, &str, &str)| {
        format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: web}}{rest}}}\n")
    };
    let mut all: Vec<String> = plain.iter().map(one).collect();
    all.push(deployment("web", "1.0.0", 1, ""));
    all.push(service());
    all.push(configmap("a", "k", "1"));
    all.join("---\n")
}

fn service() -> String {
    "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80}]}}\n"
        .to_owned()
}

const HTTP_ROUTES: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: httproutes.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: 'unapproved, for a test'}
spec:
  group: gateway.networking.k8s.io
  names: {kind: HTTPRoute, plural: httproutes}
  scope: Namespaced
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";

#[tokio::test]
async fn each_right_of_the_manifest_is_named_where_it_is_missing() {
    let world = World::new("each").await;
    world.cluster.apply(HTTP_ROUTES).await;
    let (rules, everything) = (rules(), one_of_each());
    let release = world.release('a', &[("deploy/all.yaml", &everything)]);
    let shop = deployment("web", "1.0.0", 1, "") + "---\n" + &service();
    let served = world.release('b', &[("deploy/all.yaml", &shop)]);
    for (number, without) in rules.iter().enumerate() {
        let resources = without.rule["resources"].as_array().expect("a list").clone();
        let is = |name: &str| resources.iter().any(|resource| resource == name);
        // The release of this test does neither.
        if CANARY_ONLY.iter().chain([&WAY_BACK_ONLY]).any(|only| is_only(&without.rule, *only)) {
            continue;
        }
        let others = rules.iter().enumerate().filter(|(at, _)| *at != number).map(|(_, other)| &other.rule);
        let others = serde_json::to_string(&others.collect::<Vec<_>>()).expect("it is JSON");
        let kubeconfig = world.cluster.user(&format!("{}-{number}", world.namespace), &others).await;
        let target = world.target_with(|config| config["cluster"]["kubeconfig"] = json!(kubeconfig));
        let fence = u64::try_from(number).expect("few") + 1;
        let done = match without.only_helps || is("endpointslices") {
            true => shift(&target, &served, fence).await,
            false => apply(&target, &release, fence).await,
        };
        match (done, without.only_helps) {
            (Ok(_), helps) => assert!(helps, "nobody missed {resources:?}; does it only help?"),
            (Err(error), helps) => {
                assert!(!helps, "{resources:?} should only help: {error}");
                let named = resources.iter().filter_map(Value::as_str);
                let named =
                    named.map(|name| format!("resource \"{name}\"")).any(|name| error.to_string().contains(&name));
                assert!(named && error.to_string().contains("cannot "), "{resources:?}: {error}");
            }
        }
    }
}

/// A quarter of the users, then three quarters of them.
async fn climb(target: &KubernetesTarget, release: &Release, fence: u64) -> Result<(), TargetError> {
    apply(target, release, fence).await?;
    for share in ["25%", "75%"] {
        let to = Portion::Share(share.parse().expect("a share"));
        target.perform(&Act::Shift { release: release.clone(), to }, fence).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_without_a_router_needs_exactly_the_rights_of_the_manifest() {
    let world = World::new("canary").await;
    let release = |name: char, tag: &str| {
        world.release(name, &[("deploy/all.yaml", &(deployment("web", tag, 4, "") + "---\n" + &service()))])
    };
    let (old, new) = (release('a', "1.0.0"), release('b', "2.0.0"));
    let target = async |number: usize, without: Option<(&str, &str)>| {
        let kubeconfig = world.cluster.user(&format!("{}-{number}", world.namespace), &rules_without(without)).await;
        world.target_with(|config| {
            config["cluster"]["kubeconfig"] = json!(kubeconfig);
            config["canary"] = json!({"deployment": "web", "service": "web", "router": "replicas", "drain": "0s"});
        })
    };
    let able = target(0, None).await;
    promote(&able, &old, 1).await;
    climb(&able, &new, 2).await.expect("it has all rights");
    retreat(&able, &new, Some(&old), 2).await.expect("it has all rights");
    for (number, without) in CANARY_ONLY.into_iter().enumerate() {
        let (fence, (resource, verb)) = (u64::try_from(number).expect("few") + 3, without);
        let error = climb(&target(number + 1, Some(without)).await, &new, fence).await.expect_err(resource);
        assert!(matches!(error, TargetError::World { .. }), "it is not the release's fault: {error:?}");
        let said = error.to_string();
        assert!(said.contains(&format!("cannot {verb} resource \"{resource}\"")), "{said}");
        retreat(&able, &new, Some(&old), fence).await.expect("it has all rights");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_of_a_stateful_set_needs_exactly_the_rights_of_the_manifest() {
    let world = World::new("evicts").await;
    let release = |name: char, tag: &str| {
        let set = deployment("web", tag, 2, "")
            .replace("kind: Deployment", "kind: StatefulSet")
            .replace("  replicas: 2", "  serviceName: web\n  replicas: 2");
        world.release(name, &[("deploy/all.yaml", &set)])
    };
    let (old, new) = (release('a', "1.0.0"), release('b', "2.0.0-crash"));
    let target = async |name: &str, without: Option<(&str, &str)>, within: &str| {
        let kubeconfig = world.cluster.user(&format!("{}-{name}", world.namespace), &rules_without(without)).await;
        world.target_with(|config| {
            config["cluster"]["kubeconfig"] = json!(kubeconfig);
            config["rollout"] = json!({"within": within});
        })
    };
    let able = target("all", None, "60s").await;
    promote(&able, &old, 1).await;
    shift(&able, &new, 2).await.expect_err("it crashes");
    let unable = target("less", Some(WAY_BACK_ONLY), "10s").await;
    let said = retreat(&unable, &new, Some(&old), 2).await.expect_err("a pod is in the way").to_string();
    let (resource, verb) = WAY_BACK_ONLY;
    assert!(said.contains("holds up its StatefulSet and cannot be evicted"), "{said}");
    assert!(said.contains(&format!("cannot {verb} resource \"{resource}\"")), "{said}");
    assert!(said.contains("give piton's account this right"), "{said}");
    retreat(&able, &new, Some(&old), 2).await.expect("it has all rights");
}
