//! What is found before anything is pushed, and tools that never look.

use piton::targets::{Act, Target, TargetError, gitops::Config};
use serde_json::{Value, json};

use crate::world::{Kind, World, apply, back, git, shift};

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_never_looks_is_not_the_releases_fault() {
    for kind in [Kind::ArgoCd, Kind::Flux] {
        let world = World::new(kind).await;
        let mut config = world.config();
        let one = world.release("1");
        shift(&world.target(config.clone()), &one, 1).await.expect("it is good");
        world.look_away(true, &mut config);
        config["within"] = json!("2s");
        let error = shift(&world.target(config), &world.release("2"), 1).await.expect_err("nobody looks");
        assert!(matches!(error, TargetError::World { .. }), "{error}");
        assert!(error.to_string().contains("it did not take up our commit"), "{error}");
        world.look_away(false, &mut Value::Null);
        back(&world.target(world.config()), &one, Some(&one), 1).await.expect("it is awake again");
        assert_eq!(world.image().await, "shop/web:1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_fetched_is_said() {
    let world = World::new(Kind::Flux).await;
    let (one, two) = (world.release("1"), world.release("2"));
    shift(&world.target(world.config()), &one, 1).await.expect("it is good");
    world.forbid(true);
    let mut config = world.config();
    config["within"] = json!("5s");
    let error = shift(&world.target(config), &two, 1).await.expect_err("the source is behind a closed door");
    assert!(matches!(error, TargetError::World { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("it did not take up our commit") && said.contains("its GitRepository"), "{said}");
    assert!(said.contains("authorization failed") || said.contains("403"), "{said}");
    world.forbid(false);
    back(&world.target(world.config()), &two, Some(&one), 1).await.expect("the door is open again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_pushed_while_the_api_server_is_away() {
    let world = World::new(Kind::Flux).await;
    let (one, two) = (world.release("1"), world.release("2"));
    for release in [&one, &two] {
        shift(&world.target(world.config()), release, 1).await.expect("it is good");
    }
    let mut away = world.config();
    away["cluster"]["kubeconfig"] = json!(world.kubeconfig_of_nobody());
    let error = shift(&world.target(away.clone()), &one, 1).await.expect_err("forward, we look first");
    assert!(matches!(error, TargetError::Unreached { .. }), "{error}");
    assert_eq!(world.log().len(), 2, "nothing is pushed forward");
    let error = back(&world.target(away), &two, Some(&one), 1).await.expect_err("nobody knows how it ends");
    assert!(matches!(error, TargetError::World { .. }), "{error}");
    assert!(error.to_string().contains("the way back is pushed to `deploy/production` as "), "{error}");
    assert_eq!(world.log().pop().map(|(_, tree)| tree), Some(one.tree.to_string()));
    back(&world.target(world.config()), &two, Some(&one), 1).await.expect("the API server is there again");
    assert_eq!(world.log().len(), 3, "it is not pushed twice");
    assert_eq!(world.image().await, "shop/web:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_would_never_deploy_is_refused_before_the_push() {
    let argo = World::new(Kind::ArgoCd).await;
    argo.follow("main", "").await;
    assert!(refused(&argo).await.contains("follows `main`, not the branch `deploy/production`"));
    argo.follow("deploy/production", "enabled: false").await;
    assert!(refused(&argo).await.contains("does not sync by itself"));
    let flux = World::new(Kind::Flux).await;
    flux.follow("deploy/production", "suspend: true").await;
    assert!(refused(&flux).await.contains("is suspended"));
    flux.follow("other", "suspend: false").await;
    assert!(refused(&flux).await.contains("follows `other`"));
    flux.cluster
        .kubectl(&["delete", "--namespace", &flux.namespace, "kustomizations.kustomize.toolkit.fluxcd.io/web"])
        .await;
    assert!(refused(&flux).await.contains("is not there"));
}

async fn refused(world: &World) -> String {
    let target = world.target(world.config());
    let release = world.release("1");
    let error = apply(&target, &release, 1).await.expect_err("it would never deploy");
    assert!(matches!(error, TargetError::World { .. }), "{error}");
    shift(&target, &release, 1).await.expect_err("nor is anything pushed");
    assert_eq!(git(&world.origin(), &["branch", "--list", "deploy/*"]), "");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn older_runners_and_other_environments_are_refused() {
    let world = World::new(Kind::Flux).await;
    let target = world.target(world.config());
    let (one, two) = (world.release("1"), world.release("2"));
    shift(&target, &one, 7).await.expect("it is good");
    let acts = [
        Act::Apply { release: two.clone() },
        Act::Shift { release: two.clone(), to: piton::model::Portion::Share(piton::model::Share::WHOLE) },
        Act::Retreat { from: two.clone(), to: Some(one.clone()) },
        Act::Retreat { from: two.clone(), to: None },
    ];
    for act in acts {
        let refused = target.perform(&act, 6).await;
        assert!(matches!(refused, Err(TargetError::Fenced { ours: 6, seen: 7 })), "{act:?}: {refused:?}");
    }
    let other = world.target_of("staging", world.config());
    let error = apply(&other, &two, 8).await.expect_err("it is another's branch").to_string();
    assert!(error.contains("is of the environment `production`"), "{error}");
    assert_eq!(world.log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_refuses_the_push_is_told_with_its_words() {
    let world = World::new(Kind::Flux).await;
    let hook = world.origin().join("hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho branch is protected >&2\nexit 1\n").expect("a file");
    let release = world.release("1");
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let error = shift(&world.target(world.config()), &release, 1).await.expect_err("the host says no").to_string();
    assert!(error.contains("the git host refuses the push") && error.contains("branch is protected"), "{error}");
}

#[test]
fn bad_configurations_are_refused_with_the_reason() {
    let name = json!({ "name": "web", "namespace": "apps" });
    let cluster = json!({ "identity": "x" });
    let cases = [
        (json!({ "kustomization": name, "cluster": cluster }), "`branch` is missing"),
        (json!({ "branch": "deploy/x", "cluster": cluster }), "exactly one of"),
        (
            json!({ "branch": "deploy/x", "kustomization": name, "application": name, "cluster": cluster }),
            "exactly one of",
        ),
        (json!({ "branch": "deploy/x", "kustomization": name }), "`cluster` is missing"),
        (json!({ "branch": "piton/x", "kustomization": name, "cluster": cluster }), "piton's own records"),
        (json!({ "branch": "-x", "kustomization": name, "cluster": cluster }), "cannot be a branch"),
        (
            json!({ "cluster": cluster, "members": {
                "a": { "branch": "d", "application": name }, "b": { "branch": "d", "application": name } } }),
            "share the branch `d`",
        ),
    ];
    for (config, reason) in cases {
        let read: Config = serde_json::from_value(config.clone()).expect("its form is right");
        let error = read.units().expect_err(&config.to_string());
        assert!(error.contains(reason), "{config}: {error}");
    }
}
