//! Releases that the tool takes up, releases that it finds bad, and the way back.

use std::time::Instant;

use piton::targets::TargetError;
use serde_json::json;

use crate::world::{Kind, PATIENT_SECONDS, World, apply, back, git, live, shift};

#[tokio::test(flavor = "multi_thread")]
async fn argo_cd_takes_a_release_and_goes_back() {
    a_release_is_taken_and_gone_back_from(Kind::ArgoCd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_takes_a_release_and_goes_back() {
    a_release_is_taken_and_gone_back_from(Kind::Flux).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_upgrades_a_chart_and_goes_back() {
    a_release_is_taken_and_gone_back_from(Kind::FluxHelm).await;
}

async fn a_release_is_taken_and_gone_back_from(kind: Kind) {
    let world = World::new(kind).await;
    let target = world.target(world.config());
    let (one, two, bad) = (world.release("1"), world.release("2"), world.release("3-crash"));
    apply(&target, &one, 1).await.expect("nothing stands in the way");
    assert_eq!(git(&world.origin(), &["branch", "--list", "deploy/*"]), "", "nothing is pushed yet");
    shift(&target, &one, 1).await.expect("it is good");
    let done = shift(&target, &two, 1).await.expect("it is good");
    assert!(done.note.contains("healthy at commit"), "{}", done.note);
    assert_eq!(world.image().await, "shop/web:2");
    assert_eq!(live(&target).await.releases.get(&two.tree), Some(&10_000));
    shift(&target, &two, 1).await.expect("twice is once");
    assert_eq!(world.log().len(), 2, "the same lease does not push the same again");

    let began = Instant::now();
    let error = shift(&target, &bad, 1).await.expect_err("it never becomes ready");
    println!("{kind:?}: degraded decided: {:.2} s", began.elapsed().as_secs_f64());
    let pod = format!("Pod {}/web-", world.namespace);
    assert!(matches!(&error, TargetError::Release(why) if why.contains(&pod)), "{error}");
    let began = Instant::now();
    back(&target, &bad, Some(&two), 1).await.expect("there is a way back");
    println!("{kind:?}: rolled back: {:.2} s", began.elapsed().as_secs_f64());
    assert_eq!(world.image().await, "shop/web:2");
    assert_eq!(live(&target).await.releases.get(&two.tree), Some(&10_000));

    // One commit for each deploy, each with exactly the release's tree, the way back forward, too.
    let trees: Vec<String> = world.log().into_iter().map(|(_, tree)| tree).collect();
    assert_eq!(trees, [&one, &two, &bad, &two].map(|release| release.tree.to_string()));
    let (subject, _) = world.log().pop().expect("it has one");
    assert_eq!(subject, format!("production: back to release {}", two.tree.short()));
    let trailers = git(&world.origin(), &["log", "-1", "--format=%(trailers)", crate::world::BRANCH]);
    assert!(trailers.contains("Piton-Environment: production") && trailers.contains("Piton-Fence: 1"), "{trailers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_own_word_is_enough_where_pods_are_not_to_be_looked_at() {
    for (kind, said) in [(Kind::ArgoCd, "exceeded its progress deadline"), (Kind::Flux, "HealthCheckFailed")] {
        let world = World::new(kind).await;
        let mut config = world.config();
        config["pods"] = json!(false);
        let target = world.target(config);
        let one = world.release("1");
        shift(&target, &one, 1).await.expect("it is good");
        let error = shift(&target, &world.release("2-crash"), 1).await.expect_err("it never becomes ready");
        assert!(matches!(&error, TargetError::Release(why) if why.contains(said)), "{error}");
        back(&target, &one, Some(&one), 1).await.expect("there is a way back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_the_cluster_refuses_is_told_with_the_tools_words() {
    for kind in [Kind::ArgoCd, Kind::Flux] {
        let world = World::new(kind).await;
        let target = world.target(world.config());
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: NAMESPACE}\nspec: {ports: [{port: 99999}]}\n";
        let error = shift(&target, &world.release_of(text), 1).await.expect_err("no such port");
        assert!(matches!(&error, TargetError::Release(why) if why.contains("99999")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_on_top_of_ours_is_told() {
    for kind in [Kind::ArgoCd, Kind::Flux] {
        let world = World::new(kind).await;
        let target = world.target(world.config());
        shift(&target, &world.release("1"), 1).await.expect("it is good");
        let slow = world.release_within("2-slow-3600s", PATIENT_SECONDS);
        let push = async {
            let ours = || async { world.log().len() == 2 };
            world.cluster.wait_until("our commit", ours).await;
            world.push_by_hand("a quick fix");
            world.look_now().await;
        };
        let (shifted, ()) = tokio::join!(shift(&target, &slow, 1), push);
        let error = shifted.expect_err("somebody else pushed");
        assert!(matches!(error, TargetError::World { .. }), "{error}");
        assert!(
            error.to_string().contains("is superseded") && error.to_string().contains("\"a quick fix\" by mallory"),
            "{error}"
        );
    }
}
