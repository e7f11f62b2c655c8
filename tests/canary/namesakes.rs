//! Objects of others under the names that piton would give its own: they are refused before anything is made, and stay.

use serde_json::{Value, json};

use crate::{kinds::Kind, world::World};

/// One per name that a canary with an Ingress needs.
fn namesakes(namespace: &str) -> Vec<Value> {
    let pod = json!({"containers": [{"name": "a", "image": "team/tool:1.0.0-good"}]});
    vec![
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web-piton", "namespace": namespace,
            "annotations": {"nginx.ingress.kubernetes.io/canary": "true", "nginx.ingress.kubernetes.io/canary-weight": "30",
                "piton.dev/fence": "1"}},
            "spec": {"rules": [{"host": "team.example"}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-piton-canary", "namespace": namespace},
            "spec": {"selector": {"app": "tool"}, "ports": [{"port": 80}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web-piton-canary", "namespace": namespace},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "tool"}},
                "template": {"metadata": {"labels": {"app": "tool"}}, "spec": pod}}}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_others_is_refused_and_stays() {
    let world = World::with(Kind::Nginx).await;
    for namesake in namesakes(&world.namespace) {
        let kind = namesake["kind"].as_str().expect("a kind");
        let name = namesake["metadata"]["name"].as_str().expect("a name");
        let before = world.state().await;
        world.cluster.apply(&namesake.to_string()).await;
        let seen = async || world.get(kind, name).await.expect("it stays");
        let theirs = seen().await;
        let refused = world.bring_up(2).await.expect_err(kind).to_string();
        let said = format!("{kind} {}/{name} is there and is not of the canary", world.namespace);
        assert!(refused.contains(&said), "{refused}");
        // Promoted without a canary, and gone back from.
        for number in [2, 1] {
            world.promote(&world.kube, number).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
            let now = seen().await;
            assert_eq!(
                (&now["metadata"]["uid"], &now["spec"]),
                (&theirs["metadata"]["uid"], &theirs["spec"]),
                "{kind}"
            );
            assert!(now["metadata"]["deletionTimestamp"].is_null(), "{kind}");
        }
        let look = world.canary(&world.kube, 1).look().await.expect("a look");
        assert_eq!((look.tree, look.share.hundredths()), (None, 0), "{kind}: none of this is ours");
        world.cluster.kubectl(&["delete", kind, name, "-n", &world.namespace]).await;
        world.cluster.wait_until("nothing else was left", || async { world.state().await == before }).await;
    }
    world.gone().await;
}
