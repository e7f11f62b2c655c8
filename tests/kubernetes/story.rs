//! The whole way with the real program: a pipeline file, a deploy repository, a cluster.

use crate::{
    support::Sandbox,
    world::{World, configmap, deployment},
};

fn pipeline(world: &World) -> String {
    format!(
        "name: shop
components:
  web: {{ file: deploy/web.yaml, path: 'spec.template.spec.containers[0].image', }}
environments:
  staging:
    target:
      kubernetes:
        cluster: {{ identity: {}, kubeconfig: {} }}
        namespace: {}
        manifests: [deploy]
        rollout: {{ within: 60s }}
    bake: 50ms
",
        world.identity,
        world.cluster.kubeconfig().display(),
        world.namespace
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_promoted_and_a_broken_one_rolled_back() {
    let world = World::new("story").await;
    let sandbox = Sandbox::empty();
    sandbox.write("pipelines/shop.yaml", pipeline(&world));
    sandbox.write("deploy/web.yaml", deployment("web", "1.0.0", 1, ""));
    sandbox.write("deploy/settings.yaml", configmap("settings", "mode", "old"));
    sandbox.commit("the first release");
    let image = async || {
        let web = world.get("Deployment", "web").await.expect("it is there");
        web["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("it is text").to_owned()
    };
    piton(&sandbox, &["check"]).ends(0);
    piton(&sandbox, &["promote", "staging"]).ends(0).says("promoted");
    assert_eq!(image().await, "shop/web:1.0.0");

    sandbox.write("deploy/web.yaml", deployment("web", "1.1.0", 1, ""));
    sandbox.commit("a good one");
    piton(&sandbox, &["promote", "staging"]).ends(0).says("promoted");
    assert_eq!(image().await, "shop/web:1.1.0");

    sandbox.write("deploy/web.yaml", deployment("web", "1.2.0-crash", 1, ""));
    sandbox.commit("a bad one");
    let ran = piton(&sandbox, &["promote", "staging", "--json"]).ends(1).reason("rolled_back");
    assert!(ran.json()["cause"].as_str().expect("a cause").contains("CrashLoopBackOff"), "{ran}");
    assert_eq!(image().await, "shop/web:1.1.0");
    piton(&sandbox, &["status"]).ends(0).says("1.2.0-crash");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_secret_holds_is_told_to_nobody() {
    let world = World::new("pin").await;
    let sandbox = Sandbox::empty();
    sandbox.write("pipelines/shop.yaml", pipeline(&world));
    sandbox.write("deploy/web.yaml", deployment("web", "1.0.0", 1, ""));
    // A number without quotes is no text, and the server says which number.
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: door}\nstringData: {PIN: 83749201}\n";
    sandbox.write("deploy/door.yaml", secret);
    sandbox.commit("the first release");
    let ran = piton(&sandbox, &["promote", "staging"]).ends(1).says("PIN");
    let words: [&[&str]; 3] = [&["status", "staging"], &["status", "staging", "--json"], &["history", "staging"]];
    let mut told = vec![ran.to_string()];
    told.extend(words.map(|words| piton(&sandbox, words).to_string()));
    told.push(sandbox.git_in(&sandbox.origin(), &["log", "--format=%B", "piton/staging"]));
    assert!(told.last().is_some_and(|ledger| ledger.contains("PIN")), "the refusal is in the ledger");
    for text in told {
        assert!(!text.contains("83749201"), "{text}");
    }
}

/// The program waits for itself; the test's own tasks go on meanwhile.
fn piton(sandbox: &Sandbox, words: &[&str]) -> crate::support::Ran {
    tokio::task::block_in_place(|| sandbox.piton(words))
}
