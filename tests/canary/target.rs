//! The whole target: acts as the engine asks for them, from files of a release.

use std::{fs, path::Path, sync::Arc};

use piton::{
    model::{Portion, Release, TreeId},
    targets::{Act, Checkout, Site, Target, TargetError, kubernetes::KubernetesTarget},
};
use serde_json::json;

use crate::{
    kinds::Kind,
    watcher::Watcher,
    world::{PODS, World, only_stable, release, share},
};

/// The files of each release.
struct Files(Vec<(TreeId, String)>);

impl Checkout for Files {
    fn checkout(&self, tree: &TreeId, dir: &Path) -> Result<(), TargetError> {
        let (_, text) = self.0.iter().find(|(known, _)| known == tree).expect("a release of this test");
        fs::create_dir_all(dir.join("deploy")).expect("a folder");
        fs::write(dir.join("deploy/all.yaml"), text).expect("a file");
        Ok(())
    }
}

/// The objects as text; release 3 brings another rule of the route.
fn text(world: &World, number: u8) -> String {
    let mut all: Vec<_> = world.manifests(number).into_iter().map(|manifest| manifest.object).collect();
    for object in &mut all {
        object["metadata"].as_object_mut().expect("a map").remove("annotations");
        if object["kind"] == "HTTPRoute" && number == 3 {
            object["spec"]["rules"][0]["matches"][0]["path"]["value"] = "/help".into();
        }
    }
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// The target of a shop with these releases.
pub async fn target(world: &World, dir: &Path, files: Vec<(TreeId, String)>) -> KubernetesTarget {
    let config = json!({
        "cluster": {"identity": world.kube.identity().await.expect("one"), "kubeconfig": world.cluster.kubeconfig()},
        "namespace": world.namespace,
        "manifests": ["deploy"],
        "rollout": {"within": "60s"},
        "prune": true,
        "canary": {"deployment": "web", "service": "web", "router": world.kind.router(), "drain": "0s"},
    });
    let site = Site {
        environment: "production".parse().expect("a name"),
        owner: piton::targets::Owner { pipeline: "shop".into(), branch: "piton/production".into() },
        state_dir: dir.join("state"),
        trees: Arc::new(Files(files)),
        program: "/nowhere".into(),
        progress: Default::default(),
    };
    KubernetesTarget::new(&config, site).expect("a good configuration")
}

pub async fn act(target: &KubernetesTarget, act: Act) -> String {
    target.perform(&act, 1).await.unwrap_or_else(|error| panic!("{act:?}: {error}")).note
}

async fn shares(target: &KubernetesTarget) -> Vec<(char, u16)> {
    let live = target.live().await.expect("it can be seen");
    live.releases.iter().map(|(tree, share)| (tree.as_str().chars().next().expect("a digit"), *share)).collect()
}

pub fn to(release: &Release, portion: &str) -> Act {
    Act::Shift { release: release.clone(), to: Portion::Share(share(portion)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_and_a_way_back_as_the_engine_asks_for_them() {
    let world = World::with(Kind::Gateway).await;
    let dir = tempfile::tempdir().expect("a folder");
    let files = [1, 2, 3].map(|number| (release(number).tree, text(&world, number)));
    let target = target(&world, dir.path(), files.into()).await;
    let [first, second, third] = [release(1), release(2), release(3)];
    // What runs already is taken over as the first release.
    for act_of_first in [Act::Apply { release: first.clone() }, Act::Settle { keep: Some(first.clone()) }] {
        act(&target, act_of_first).await;
    }
    assert_eq!(shares(&target).await, [('1', 10_000)]);
    let watcher = Watcher::of(&world);
    for (release, before) in [(&second, '1'), (&third, '2')] {
        let this = release.tree.as_str().chars().next().expect("a digit");
        act(&target, Act::Apply { release: release.clone() }).await;
        act(&target, to(release, "10%")).await;
        assert_eq!(shares(&target).await, [(before, 9_000), (this, 1_000)]);
        act(&target, to(release, "100%")).await;
        // Stable is up, and has no users.
        assert_eq!(shares(&target).await, [(before, 0), (this, 10_000)]);
        act(&target, Act::Settle { keep: Some(release.clone()) }).await;
        act(&target, Act::Settle { keep: Some(release.clone()) }).await;
        assert_eq!(shares(&target).await, [(this, 10_000)]);
    }
    let route = world.get("httproutes.gateway.networking.k8s.io", "web").await.expect("a route");
    assert_eq!(route["spec"]["rules"][0]["matches"][0]["path"]["value"], "/help");
    only_stable(&route);

    // From the middle of a canary, without a single restart; and from a release that is everywhere.
    let pods = world.stable_pods().await;
    act(&target, Act::Apply { release: second.clone() }).await;
    act(&target, to(&second, "50%")).await;
    act(&target, Act::Retreat { from: second.clone(), to: Some(third.clone()) }).await;
    assert_eq!(shares(&target).await, [('3', 10_000)]);
    assert_eq!(world.stable_pods().await, pods);
    watcher.saw_nothing_wrong().await;
    // Without a canary the Deployment is rolled under its users, one pod after the other.
    let watcher = Watcher::of_pods(&world, PODS, 1);
    act(&target, Act::Retreat { from: third.clone(), to: Some(second.clone()) }).await;
    world.stable_runs(2).await;
    assert_eq!(shares(&target).await, [('2', 10_000)]);
    watcher.saw_nothing_wrong().await;
    world.gone().await;
}
