//! What is refused: before anything is written, and with who, what and what to do.

use piton::targets::TargetError;
use serde_json::json;

use crate::world::{World, apply, configmap, deployment, promote, retreat, shift};

#[tokio::test]
async fn another_cluster_is_refused_before_anything_is_written() {
    let world = World::new("wrong").await;
    let target = world.target_with(|config| config["cluster"]["identity"] = json!("another"));
    let release = world.release('a', &[("deploy/a.yaml", &configmap("a", "k", "1"))]);
    for done in [apply(&target, &release, 1).await, shift(&target, &release, 1).await] {
        let error = done.expect_err("it is another cluster").to_string();
        assert!(error.contains(&format!("is `{}`, the pipeline says `another`", world.identity)), "{error}");
    }
    let left = world.cluster.list("configmaps", &world.namespace, "").await;
    assert!(left.iter().all(|map| map["metadata"]["name"] == "kube-root-ca.crt"), "{left:?}");
}

#[tokio::test]
async fn an_older_runner_is_refused_and_one_under_way_is_stopped() {
    let world = World::new("fence").await;
    let target = world.target();
    let old = world.release('a', &[("deploy/a.yaml", &configmap("a", "k", "1"))]);
    let new = world.release('b', &[("deploy/a.yaml", &configmap("a", "k", "2"))]);
    promote(&target, &old, 7).await;
    let error = shift(&target, &new, 6).await.expect_err("it is too old");
    assert!(matches!(error, TargetError::Fenced { ours: 6, seen: 7 }), "{error:?}");
    assert_eq!(world.get("ConfigMap", "a").await.expect("it is there")["data"]["k"], "1");

    // One that waits for a slow rollout when the newer one comes.
    let slow = world.release('c', &[("deploy/web.yaml", &deployment("web", "1.0.0-slow-20s", 1, ""))]);
    let under_way = async {
        let target = world.target();
        shift(&target, &slow, 8).await
    };
    let newer = async {
        world
            .cluster
            .wait_until("the slow one is under way", || async { world.get("Deployment", "web").await.is_some() })
            .await;
        retreat(&world.target(), &slow, Some(&old), 9).await
    };
    let (stopped, back) = tokio::join!(under_way, newer);
    back.expect("the newer one goes back");
    let error = stopped.expect_err("it was overtaken");
    assert!(matches!(error, TargetError::Fenced { ours: 8, seen: 9 } | TargetError::Release(_)), "{error:?}");
    assert_eq!(world.inventory().await["stable"], old.tree.as_str());
    assert!(world.get("ConfigMap", "a").await.is_some());
}

#[tokio::test]
async fn without_the_inventory_the_numbers_on_the_objects_tell_who_is_too_late() {
    let world = World::new("unfenced").await;
    let target = world.target();
    let old = world.release('a', &[("deploy/a.yaml", &configmap("a", "k", "1"))]);
    let new = world.release('b', &[("deploy/a.yaml", &configmap("a", "k", "2"))]);
    promote(&target, &old, 7).await;
    world.cluster.kubectl(&["delete", "-n", &world.namespace, "configmap", "piton-staging"]).await;
    for refused in
        [apply(&target, &new, 6).await, shift(&target, &new, 6).await, retreat(&target, &new, Some(&old), 6).await]
    {
        let error = refused.expect_err("it is too old");
        assert!(matches!(error, TargetError::Fenced { ours: 6, seen: 7 }), "{error:?}");
    }
    assert_eq!(world.get("ConfigMap", "a").await.expect("it is there")["data"]["k"], "1");
    assert!(world.get("ConfigMap", "piton-staging").await.is_none(), "nothing was written");
    shift(&target, &new, 8).await.expect("it is the newest");
    assert_eq!(world.get("ConfigMap", "a").await.expect("it is there")["data"]["k"], "2");
}

#[tokio::test]
async fn an_object_of_another_environment_is_refused() {
    let world = World::new("two").await;
    let release = world.release('a', &[("deploy/a.yaml", &configmap("a", "k", "1"))]);
    promote(&world.target(), &release, 1).await;
    let other = world.target_for("production", |_| {});
    let error = apply(&other, &release, 1).await.expect_err("it is staging's").to_string();
    let said = format!(
        "deploy/a.yaml:1: ConfigMap {}/a belongs to the environment `staging` of piton; give one of them another name or \
         namespace, or take the label `piton.dev/environment` off",
        world.namespace
    );
    assert_eq!(error, said);
    assert!(world.get("ConfigMap", "piton-production").await.is_none(), "nothing was written");
}

#[tokio::test]
async fn a_hand_edit_is_named_and_stops_a_release_but_not_the_way_back() {
    let world = World::new("edit").await;
    let target = world.target();
    let files =
        |tag: &str, value: &str| [deployment("web", tag, 1, ""), configmap("settings", "mode", value)].join("---\n");
    let old = world.release('a', &[("deploy/all.yaml", &files("1.0.0", "old"))]);
    let new = world.release('b', &[("deploy/all.yaml", &files("1.1.0", "new"))]);
    promote(&target, &old, 1).await;
    let ns = world.namespace.clone();
    world.cluster.kubectl(&["scale", "-n", &ns, "deployment", "web", "--replicas=3"]).await;
    let patch = r#"{"data": {"mode": "by hand"}}"#;
    world.cluster.kubectl(&["patch", "-n", &ns, "configmap", "settings", "--type=merge", "-p", patch]).await;

    let error = apply(&target, &new, 2).await.expect_err("two fields belong to others").to_string();
    for part in [
        "`.spec.replicas` of Deployment",
        "`.data.mode` of ConfigMap",
        "(deploy/all.yaml:1)",
        "\"kubectl",
        "`force: true`",
    ] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert_eq!(world.get("ConfigMap", "settings").await.expect("it is there")["data"]["mode"], "by hand");

    let back = retreat(&target, &new, Some(&old), 3).await.expect("nothing was done").note;
    assert!(back.contains("was never left"), "{back}");
    let force = world.target_with(|config| config["force"] = json!(true));
    let note = promote(&force, &new, 4).await;
    assert!(
        note.contains("taken from others: `.data.mode`") && note.contains("`.spec.replicas` of Deployment"),
        "{note}"
    );
    world.cluster.kubectl(&["scale", "-n", &ns, "deployment", "web", "--replicas=2"]).await;
    world.cluster.kubectl(&["patch", "-n", &ns, "configmap", "settings", "--type=merge", "-p", patch]).await;
    let note = retreat(&target, &new, Some(&old), 5).await.expect("a hand edit does not hold it").note;
    assert!(
        note.contains("taken from others: `.data.mode`") && note.contains("left to others: `.spec.replicas`"),
        "{note}"
    );
    assert_eq!(world.get("ConfigMap", "settings").await.expect("it is there")["data"]["mode"], "old");
    let web = world.get("Deployment", "web").await.expect("it is there");
    assert_eq!(
        (&web["spec"]["replicas"], &web["spec"]["template"]["spec"]["containers"][0]["image"]),
        (&json!(2), &json!("shop/web:1.0.0"))
    );
}

#[tokio::test]
async fn two_pipelines_with_an_environment_of_the_same_name_do_not_delete_each_others_objects() {
    let world = World::new("two").await;
    let (first, second) = (world.target(), world.target_of("second/staging", |_| {}));
    let mine = world.release('a', &[("deploy/a.yaml", &configmap("a", "k", "1"))]);
    let theirs = world.release('b', &[("deploy/b.yaml", &configmap("b", "k", "1"))]);
    promote(&first, &mine, 1).await;
    for done in [shift(&second, &theirs, 2).await, retreat(&second, &theirs, None, 3).await] {
        let error = done.expect_err("the namespace is taken").to_string();
        assert!(
            error.contains("piton-staging belongs to the pipeline `shop` of the branch `piton/staging`"),
            "{error}"
        );
    }
    piton::targets::Target::live(&second).await.expect_err("what is live is not the second's");
    assert!(world.get("ConfigMap", "a").await.is_some() && world.get("ConfigMap", "b").await.is_none());
    assert_eq!(world.inventory().await["stable"], mine.tree.as_str());

    // In a namespace of its own the second takes an object over; the first lets go of it.
    let other = world.cluster.namespace("two-other").await;
    let apart = world.target_of("second/staging", |config| config["namespace"] = json!(other));
    let shared = configmap("a", "k", "2").replace("name: a", &format!("name: a, namespace: {}", world.namespace));
    let taken = world.release('c', &[("deploy/a.yaml", &shared)]);
    promote(&apart, &taken, 1).await;
    let without = world.release('d', &[("deploy/d.yaml", &configmap("d", "k", "1"))]);
    let note = promote(&first, &without, 2).await;
    assert!(note.contains("(another pipeline has applied it since)"), "{note}");
    assert_eq!(world.get("ConfigMap", "a").await.expect("it is the second's")["data"]["k"], "2");

    // The first is no more, and a person says so.
    let ns = world.namespace.clone();
    world.cluster.kubectl(&["annotate", "-n", &ns, "configmap", "piton-staging", "piton.dev/owner-"]).await;
    promote(&second, &theirs, 3).await;
    shift(&first, &mine, 4).await.expect_err("it belongs to the second");
}

#[tokio::test]
async fn the_way_back_brings_the_pods_that_somebody_took_away() {
    let world = World::new("none").await;
    let target = world.target();
    let old = world.release('a', &[("deploy/web.yaml", &deployment("web", "1.0.0", 2, ""))]);
    let new = world.release('b', &[("deploy/web.yaml", &deployment("web", "1.1.0", 2, ""))]);
    promote(&target, &old, 1).await;
    promote(&target, &new, 2).await;
    // To stop the damage.
    let ns = world.namespace.clone();
    world.cluster.kubectl(&["scale", "-n", &ns, "deployment", "web", "--replicas=0"]).await;
    retreat(&target, &new, Some(&old), 3).await.expect("it goes back");
    let web = world.get("Deployment", "web").await.expect("it is there");
    assert_eq!((&web["spec"]["replicas"], &web["status"]["readyReplicas"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn bad_files_are_refused_with_their_place() {
    let world = World::new("bad").await;
    let target = world.target_with(|config| config["opaque"] = json!(["deploy/*.enc"]));
    let good = configmap("a", "k", "1");
    let cases = [
        ("a: [1", "this is not YAML"),
        ("apiVersion: v1\nmetadata: {name: a}\n", "deploy/bad.yaml:1: there is no `kind`"),
        ("\0GITCRYPT\0xyz", "this file is encrypted (git-crypt)"),
        ("apiVersion: v1\nkind: Wigdet\nmetadata: {name: a}\n", "does not know the kind Wigdet of v1"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndatta: {}\n", "datta"),
    ];
    for (at, (text, expected)) in cases.into_iter().enumerate() {
        let tree = char::from_digit(u32::try_from(at).expect("small"), 16).expect("a digit");
        let mut files = vec![("deploy/bad.yaml", text), ("deploy/b.enc", "\0GITCRYPT\0xyz")];
        if at < 3 {
            files.push(("deploy/good.yaml", &good));
        }
        let release = world.release(tree, &files);
        let error = apply(&target, &release, 1).await.expect_err(text);
        assert!(matches!(error, TargetError::Release(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_quota_is_seen_before_anybody_is_moved() {
    let world = World::new("quota").await;
    let target = world.target();
    let quota = format!(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: small, namespace: {}}}\nspec: {{hard: {{count/services: '1'}}}}\n",
        world.namespace
    );
    world.cluster.apply(&quota).await;
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}], selector: {{app: x}}}}\n"
        )
    };
    let one = world.release('a', &[("deploy/a.yaml", &service("a"))]);
    // The quota's controller must have counted before it refuses rightly.
    world
        .cluster
        .wait_until("the quota is counted", || async {
            world.get("ResourceQuota", "small").await.is_some_and(|quota| quota["status"]["hard"].is_object())
        })
        .await;
    promote(&target, &one, 1).await;
    let two = world.release('b', &[("deploy/a.yaml", &service("a")), ("deploy/b.yaml", &service("b"))]);
    let error = world
        .cluster
        .wait_until("the quota refuses", || async {
            apply(&target, &two, 2).await.err().map(|error| error.to_string())
        })
        .await;
    assert!(
        error.contains("deploy/b.yaml:1: cannot apply Service") && error.contains("exceeded quota: small"),
        "{error}"
    );
}

#[tokio::test]
async fn a_namespace_that_goes_away_is_said_to() {
    let world = World::new("going").await;
    let target = world.target();
    let release = world.release('a', &[("deploy/a.yaml", &configmap("a", "k", "1"))]);
    promote(&target, &release, 1).await;
    // A finalizer that nobody takes off keeps the namespace going.
    let ns = world.namespace.clone();
    let patch = r#"{"metadata": {"finalizers": ["example.org/held"]}}"#;
    world.cluster.kubectl(&["patch", "-n", &ns, "configmap", "a", "--type=merge", "-p", patch]).await;
    world.cluster.kubectl(&["delete", "namespace", &ns, "--wait=false"]).await;
    let new = world.release('b', &[("deploy/b.yaml", &configmap("b", "k", "1"))]);
    let error = apply(&target, &new, 2).await.expect_err("it goes away");
    assert!(error.to_string().contains("being terminated"), "{error}");
    assert!(matches!(error, TargetError::World { .. }), "{error:?}");
    let free = r#"{"metadata": {"finalizers": null}}"#;
    world.cluster.kubectl(&["patch", "-n", &ns, "configmap", "a", "--type=merge", "-p", free]).await;
}

#[tokio::test]
async fn ten_thousand_objects_are_tried_and_refused_or_taken_in_one_piece() {
    let world = World::new("many").await;
    let target = world.target();
    let many: String = (0..20_001).map(|n| format!("---\n{}", configmap(&format!("c{n}"), "k", "1"))).collect();
    let release = world.release('a', &[("deploy/many.yaml", &many)]);
    let error = apply(&target, &release, 1).await.expect_err("that is too many").to_string();
    assert!(error.contains("20001 objects, more than 20000"), "{error}");
}
