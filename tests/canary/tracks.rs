//! Several Deployments that are tried together.

use piton::{
    model::Share,
    targets::kubernetes::{
        canary::{Canary, Config},
        manifest::Manifest,
    },
};
use serde_json::{Value, json};

use crate::{
    kinds::Kind,
    world::{PODS, World, manifest, release, share},
};

const ROUTES: &str = "httproutes.gateway.networking.k8s.io";

/// The shop twice: as `web` and as `api`.
fn both(world: &World, number: u8) -> Vec<Manifest> {
    let web = world.manifests(number);
    let of_web = web.iter().filter(|one| one.id.name == "web");
    let api = of_web.map(|one| {
        let text = one.object.to_string().replace("\"web\"", "\"api\"").replace("shop/web", "shop/api");
        manifest(serde_json::from_str::<Value>(&text).expect("it is JSON"))
    });
    let api: Vec<Manifest> = api.collect();
    web.into_iter().chain(api).collect()
}

fn two(world: &World) -> Config {
    let track = |name: &str| {
        let router = json!({"gateway": {"routes": [name]}});
        json!({"deployment": name, "service": name, "router": router, "drain": "0s"})
    };
    let config: Value = ["api", "web"].map(track).into_iter().collect();
    assert_eq!(world.kind, Kind::Gateway);
    serde_json::from_value(config).expect("a configuration")
}

/// What a track's canary gets.
async fn given(world: &World, name: &str) -> Share {
    let route = world.get(ROUTES, name).await.expect("a route");
    let backends = route["spec"]["rules"][1]["backendRefs"].as_array().expect("backends").clone();
    let beside = backends.iter().find(|backend| backend["name"] != name);
    let weight = beside.and_then(|backend| backend["weight"].as_u64()).unwrap_or(0);
    Share::of_hundredths(u16::try_from(weight).expect("hundredths")).expect("a share")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_that_cannot_go_back_keeps_no_other_waiting() {
    let world = World::with(Kind::Gateway).await;
    let config = two(&world);
    let canary = || Canary { config: &config, ..world.canary(&world.kube, 1) };
    world.apply(&both(&world, 1)).await;
    let second = both(&world, 2);
    canary().bring_up(&release(2), &second).await.expect("both come up");
    canary().shift(&release(2), &second, share("50%")).await.expect("half");
    assert_eq!((given(&world, "api").await, given(&world, "web").await), (share("50%"), share("50%")));

    world.cluster.kubectl(&["delete", "deployment/api", "-n", &world.namespace]).await;
    world.cluster.wait_until("nobody serves the first", || async { world.served("api").await == 0 }).await;

    let failed = canary().hand_back(None).await.expect_err("one has nothing to go back to").to_string();
    assert!(failed.contains("/api is not there") && !failed.contains("/web"), "{failed}");
    assert_eq!(given(&world, "web").await, share("0%"), "the other's users are back");
    assert_eq!(given(&world, "api").await, share("50%"), "these have nowhere else to go");
    let left = async |name: &str| {
        world.get("Deployment", name).await.is_some_and(|found| found["metadata"]["deletionTimestamp"].is_null())
    };
    assert!(left("api-piton-canary").await, "it has users");
    assert!(!left("web-piton-canary").await, "it has none");

    world.apply(&both(&world, 1)).await;
    world.cluster.wait_until("the first is back", || async { world.served("api").await == PODS as usize }).await;
    canary().hand_back(None).await.expect("now all");
    assert_eq!(given(&world, "api").await, share("0%"));
    world.gone().await;
}
