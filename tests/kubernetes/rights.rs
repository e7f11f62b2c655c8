//! Accounts that may not, and admission that does not.

use piton::targets::TargetError;
use serde_json::json;

use crate::{
    cluster::{Cluster, Options},
    world::{World, apply, configmap, promote, shift},
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
async fn a_webhook_that_does_not_answer_or_refuses_is_named() {
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
}
