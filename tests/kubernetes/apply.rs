//! Releases come, go back, and leave nothing behind that is theirs, and everything that is not.

use std::collections::BTreeMap;

use piton::{
    model::Difference,
    targets::{Act, Target, TargetError},
};
use serde_json::json;

use crate::world::{World, apply, configmap, deployment, live, promote, retreat, shift};

/// A kind of this test alone, named after its namespace; its object stands before it in the file.
fn widgets(world: &World) -> String {
    let kind = world.namespace.replace('-', "");
    format!(
        "apiVersion: {kind}.example.org/v1
kind: Widget
metadata: {{name: first}}
spec: {{size: 3}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: widgets.{kind}.example.org}}
spec:
  group: {kind}.example.org
  scope: Namespaced
  names: {{kind: Widget, plural: widgets, singular: widget}}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{size: {{type: integer}}}}}}}}}}}}
"
    )
}

#[tokio::test]
async fn a_crd_and_its_object_come_in_one_release_and_the_crd_stays() {
    let world = World::new("crd").await;
    let target = world.target();
    let kind = world.namespace.replace('-', "");
    let first =
        world.release('a', &[("deploy/all.yaml", &widgets(&world)), ("deploy/a.yaml", &configmap("a", "k", "1"))]);
    let tried = apply(&target, &first, 1).await.expect("it is tried").note;
    assert!(tried.contains("1 that wait for a namespace or kind of the release itself"), "{tried}");
    shift(&target, &first, 1).await.expect("it becomes live");
    let widget = world.get(&format!("widgets.{kind}.example.org"), "first").await.expect("it is there");
    assert_eq!(widget["spec"]["size"], 3);
    assert_eq!(widget["metadata"]["labels"]["piton.dev/environment"], "staging");
    assert_eq!(widget["metadata"]["annotations"]["piton.dev/fence"], "1");

    let second = world.release('b', &[("deploy/a.yaml", &configmap("a", "k", "2"))]);
    let note = promote(&target, &second, 2).await;
    assert!(note.contains("deleted: Widget") && note.contains("CRDs go only with `prune_also: [crds]`"), "{note}");
    assert!(world.get(&format!("widgets.{kind}.example.org"), "first").await.is_none());
    assert!(world.cluster.get("CustomResourceDefinition", "", &format!("widgets.{kind}.example.org")).await.is_some());
}

#[tokio::test]
async fn a_release_brings_its_own_namespace() {
    let world = World::new("own").await;
    let own = format!("{}-new", world.namespace);
    let target = world.target_with(|config| config["namespace"] = json!(own));
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {own}}}\n");
    let release = world.release('a', &[("deploy/ns.yaml", &namespace), ("deploy/a.yaml", &configmap("a", "k", "1"))]);
    promote(&target, &release, 1).await;
    assert!(world.cluster.get("ConfigMap", &own, "a").await.is_some());
    let gone = retreat(&target, &release, None, 2).await.expect("it is taken down").note;
    assert!(gone.contains("namespaces go only with"), "{gone}");
    assert!(world.cluster.get("ConfigMap", &own, "a").await.is_none());
    assert!(world.cluster.get("Namespace", "", &own).await.is_some());
}

#[tokio::test]
async fn a_rollback_restores_configuration_and_what_refers_to_it() {
    let world = World::new("back").await;
    let target = world.target();
    let secret = |name: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{token: {name}}}\n")
    };
    let refers = |name: &str| {
        format!("          env: [{{name: TOKEN, valueFrom: {{secretKeyRef: {{name: {name}, key: token}}}}}}]\n")
    };
    let files = |tag: &str, value: &str, name: &str| {
        [
            ("deploy/web.yaml", deployment("web", tag, 1, &refers(name))),
            ("deploy/config.yaml", configmap("settings", "mode", value)),
            ("deploy/secret.yaml", secret(name)),
        ]
    };
    let release = |tree: char, files: &[(&str, String)]| {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        world.release(tree, &files)
    };
    let old = release('a', &files("1.0.0", "old", "token-a"));
    let new = release('b', &files("1.1.0", "new", "token-b"));
    promote(&target, &old, 1).await;
    assert_eq!(live(&target).await.releases.get(&old.tree), Some(&10_000));
    promote(&target, &new, 2).await;
    assert!(world.get("Secret", "token-a").await.is_none());

    retreat(&target, &new, Some(&old), 3).await.expect("it goes back");
    let web = world.get("Deployment", "web").await.expect("it is there");
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "shop/web:1.0.0");
    assert_eq!(container["env"][0]["valueFrom"]["secretKeyRef"]["name"], "token-a");
    assert_eq!(world.get("ConfigMap", "settings").await.expect("it is there")["data"]["mode"], "old");
    assert!(world.get("Secret", "token-a").await.is_some());
    assert!(world.get("Secret", "token-b").await.is_none());
    let again = retreat(&target, &new, Some(&old), 3).await.expect("twice is as once").note;
    assert!(again.contains("was never left"), "{again}");
    assert_eq!(live(&target).await.releases.get(&old.tree), Some(&10_000));
}

#[tokio::test]
async fn a_release_that_is_broken_says_so_and_what_was_good_comes_back() {
    let world = World::new("broken").await;
    let target = world.target();
    let old = world.release('a', &[("deploy/web.yaml", &deployment("web", "1.0.0", 1, ""))]);
    let new = world.release('b', &[("deploy/web.yaml", &deployment("web", "1.1.0-pull", 1, ""))]);
    promote(&target, &old, 1).await;
    let error = shift(&target, &new, 2).await.expect_err("its image cannot be pulled");
    assert!(matches!(error, TargetError::Release(_)), "{error:?}");
    assert!(error.to_string().contains("ImagePull"), "{error}");
    assert_eq!(world.inventory().await["doing"], new.tree.as_str());
    retreat(&target, &new, Some(&old), 2).await.expect("it goes back");
    assert_eq!(world.inventory().await["stable"], old.tree.as_str());
    assert_eq!(live(&target).await.facts.get("broken").map(String::as_str), Some(""));
}

#[tokio::test]
async fn pruning_never_touches_what_is_foreign() {
    let world = World::new("foreign").await;
    let target = world.target();
    let place = format!("{{namespace: {}, name", world.namespace);
    world.cluster.apply(&configmap("theirs", "k", "0").replace("{name", &place)).await;
    let files = [("deploy/a.yaml", configmap("ours", "k", "1")), ("deploy/b.yaml", configmap("marked", "k", "1"))];
    let mut all: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let adopted = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: theirs}\ndata: {more: x}\n";
    all.push(("deploy/c.yaml", adopted));
    let first = world.release('a', &all);
    promote(&target, &first, 1).await;
    let theirs = world.get("ConfigMap", "theirs").await.expect("it is there");
    assert_eq!((&theirs["data"]["k"], &theirs["data"]["more"]), (&json!("0"), &json!("x")));
    // Someone makes one of ours their own, and another is made anew by someone.
    let ns = world.namespace.as_str();
    world.cluster.kubectl(&["label", "-n", ns, "configmap", "marked", "piton.dev/environment-"]).await;

    let second = world.release('b', &[("deploy/d.yaml", &configmap("later", "k", "1"))]);
    let note = promote(&target, &second, 2).await;
    assert!(note.contains("deleted: ConfigMap") && note.contains("ours"), "{note}");
    assert!(note.contains("it is not marked as ours") && note.contains("it was there before us"), "{note}");
    assert!(world.get("ConfigMap", "ours").await.is_none());
    for kept in ["theirs", "marked"] {
        assert!(world.get("ConfigMap", kept).await.is_some(), "{kept} is gone");
    }
}

#[tokio::test]
async fn what_was_begun_and_never_finished_is_found_and_finished() {
    let world = World::new("killed").await;
    let target = world.target();
    let names: Vec<String> = (0..60).map(|n| format!("c{n}")).collect();
    let many: String = names.iter().map(|name| configmap(name, "k", "1") + "---\n").collect();
    let first = world.release('a', &[("deploy/many.yaml", &many)]);
    // Dropped in the middle of its requests, as by a kill.
    let progress = std::sync::Arc::new(target);
    let killed = {
        let (target, release) = (progress.clone(), first.clone());
        tokio::spawn(async move { shift(&target, &release, 1).await })
    };
    world.cluster.wait_until("some of it is there", || async { world.get("ConfigMap", "c1").await.is_some() }).await;
    killed.abort();
    let inventory = world.inventory().await;
    assert_eq!(inventory["doing"], first.tree.as_str());
    assert_eq!(inventory["objects"]["v1 ConfigMap"][&world.namespace].as_object().map(|all| all.len()), Some(60));

    let target = world.target();
    let second = world.release('b', &[("deploy/one.yaml", &configmap("c0", "k", "2"))]);
    promote(&target, &second, 2).await;
    let left = world.cluster.list("configmaps", &world.namespace, "piton.dev/environment=staging").await;
    let mut left: Vec<&str> = left.iter().filter_map(|map| map["metadata"]["name"].as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, ["c0", "piton-staging"]);
}

#[tokio::test]
async fn without_its_inventory_a_release_is_applied_again_and_nothing_is_deleted() {
    let world = World::new("lost").await;
    let target = world.target();
    let old = world.release('a', &[("deploy/a.yaml", &configmap("a", "k", "1"))]);
    let new = world.release('b', &[("deploy/b.yaml", &configmap("b", "k", "1"))]);
    promote(&target, &old, 1).await;
    promote(&target, &new, 2).await;
    world.cluster.kubectl(&["delete", "-n", &world.namespace, "configmap", "piton-staging"]).await;
    retreat(&target, &new, Some(&old), 3).await.expect("it goes back");
    assert!(world.get("ConfigMap", "a").await.is_some());
    assert!(world.get("ConfigMap", "b").await.is_some(), "nobody knows whose it is");
    assert_eq!(live(&target).await.releases.get(&old.tree), Some(&10_000));
}

#[tokio::test]
async fn members_go_one_after_the_other() {
    let world = World::new("east").await;
    let west = world.cluster.namespace("west").await;
    let target = world.target_with(|config| {
        config["members"] = json!({"east": {}, "west": {"namespace": west}});
    });
    let old = world.release('a', &[("deploy/a.yaml", &configmap("a", "k", "1"))]);
    let new = world.release('b', &[("deploy/a.yaml", &configmap("a", "k", "2"))]);
    promote(&target, &old, 1).await;
    let to = piton::model::Portion::Members(vec!["west".to_owned()]);
    target.perform(&Act::Shift { release: new.clone(), to }, 2).await.expect("one member");
    let shares = live(&target).await.releases;
    assert_eq!((shares.get(&old.tree), shares.get(&new.tree)), (Some(&5_000), Some(&5_000)));
    assert_eq!(world.cluster.get("ConfigMap", &west, "a").await.expect("it is there")["data"]["k"], "2");
    assert_eq!(world.get("ConfigMap", "a").await.expect("it is there")["data"]["k"], "1");
    retreat(&target, &new, Some(&old), 3).await.expect("it goes back");
    assert_eq!(live(&target).await.releases.get(&old.tree), Some(&10_000));
}

const CLAIM: &str = "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

#[tokio::test]
async fn what_people_keep_is_deleted_only_when_the_pipeline_says_so() {
    let world = World::new("keep").await;
    let map = |value: &str| configmap("a", "k", value);
    let first = world.release('a', &[("deploy/claim.yaml", CLAIM), ("deploy/a.yaml", &map("1"))]);
    let second = world.release('b', &[("deploy/a.yaml", &map("2"))]);
    let third = world.release('c', &[("deploy/a.yaml", &map("3"))]);
    promote(&world.target(), &first, 1).await;
    let note = promote(&world.target(), &second, 2).await;
    assert!(note.contains("(volume claims go only with `prune_also: [volume_claims]`)"), "{note}");
    assert!(world.get("PersistentVolumeClaim", "data").await.is_some());

    let told = world.target_with(|config| config["prune_also"] = json!(["volume_claims"]));
    let note = promote(&told, &third, 3).await;
    assert!(note.contains(&format!("deleted: PersistentVolumeClaim {}/data", world.namespace)), "{note}");
    let gone = || async { world.get("PersistentVolumeClaim", "data").await.is_none() };
    world.cluster.wait_until("the claim is gone", gone).await;
}

#[tokio::test]
async fn nothing_is_deleted_where_the_pipeline_says_so() {
    let world = World::new("noprune").await;
    let maps = [configmap("a", "k", "1"), configmap("b", "k", "1")];
    let first = world.release('a', &[("deploy/a.yaml", &maps[0]), ("deploy/b.yaml", &maps[1])]);
    let second = world.release('b', &[("deploy/a.yaml", &maps[0])]);
    let never = || world.target_with(|config| config["prune"] = json!(false));
    promote(&never(), &first, 1).await;
    let note = promote(&never(), &second, 2).await;
    assert!(note.contains("/b (the pipeline says `prune: false`)"), "{note}");
    assert!(world.get("ConfigMap", "b").await.is_some());
    // It stays known: a pipeline that prunes deletes it.
    let third = world.release('c', &[("deploy/a.yaml", &configmap("a", "k", "2"))]);
    let note = promote(&world.target(), &third, 3).await;
    assert!(note.contains("deleted: ConfigMap") && world.get("ConfigMap", "b").await.is_none(), "{note}");
}

const HOARDER: &str = "apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 0
  serviceName: db
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: main, image: 'shop/db:1'}]}
";

#[tokio::test]
async fn a_stateful_set_that_would_take_its_claims_along_stays() {
    let world = World::new("hoard").await;
    let map = |value: &str| configmap("a", "k", value);
    let first = world.release('a', &[("deploy/db.yaml", HOARDER), ("deploy/a.yaml", &map("1"))]);
    promote(&world.target(), &first, 1).await;
    let second = world.release('b', &[("deploy/a.yaml", &map("2"))]);
    let note = promote(&world.target(), &second, 2).await;
    assert!(note.contains("`persistentVolumeClaimRetentionPolicy` deletes its volume claims with it"), "{note}");
    assert!(world.get("StatefulSet", "db").await.is_some());
    let told = world.target_with(|config| config["prune_also"] = json!(["volume_claims"]));
    let third = world.release('c', &[("deploy/a.yaml", &map("3"))]);
    let note = promote(&told, &third, 3).await;
    assert!(note.contains(&format!("deleted: StatefulSet {}/db", world.namespace)), "{note}");
}

const MIGRATION: &str = "apiVersion: batch/v1
kind: Job
metadata: {name: migrate}
spec:
  ttlSecondsAfterFinished: 1
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: 'shop/migrate:1'}]}
";

#[tokio::test]
async fn a_job_that_is_collected_is_neither_broken_nor_drift() {
    let world = World::new("collected").await;
    let files = [("deploy/job.yaml", MIGRATION), ("deploy/web.yaml", &deployment("web", "1.0.0", 1, ""))];
    let release = world.release('a', &files);
    let target = world.target();
    promote(&target, &release, 1).await;
    let gone = || async { world.get("Job", "migrate").await.is_none() };
    world.cluster.wait_until("the Job is collected", gone).await;
    // Another process has never seen the Job.
    for target in [target, world.target()] {
        let ready = || async {
            let facts = live(&target).await.facts;
            assert_eq!(facts.get("broken").map_or("", String::as_str), "");
            facts.contains_key("ready").then_some(()).ok_or(format!("{facts:?}"))
        };
        world.cluster.wait_until("all is well", ready).await;
        let found = target.drift(&release, &BTreeMap::new()).await.expect("it can be seen");
        assert_eq!(found, [] as [Difference; 0]);
    }
}

/// The Job of the release before was collected when it was done; the one of this name that failed since cannot be changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_changed_holds_up_no_way_back() {
    let world = World::new("passed").await;
    let job = |tag: &str| {
        format!(
            "apiVersion: batch/v1
kind: Job
metadata: {{name: migrate}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: migrate, image: 'shop/migrate:{tag}'}}]
"
        )
    };
    let release = |which: char, job_tag: &str, tag: &str| {
        world.release(which, &[("deploy/job.yaml", &job(job_tag)), ("deploy/web.yaml", &deployment("web", tag, 1, ""))])
    };
    let (first, second) = (release('a', "1.0.0-good", "1.0.0-good"), release('b', "2.0.0-exit-3", "2.0.0-good"));
    let target = world.target();
    promote(&target, &first, 1).await;
    world.cluster.kubectl(&["delete", "job/migrate", "-n", &world.namespace, "--wait"]).await;
    apply(&target, &second, 1).await.expect("it can be applied");
    let failed = shift(&target, &second, 1).await.expect_err("its Job fails").to_string();
    assert!(failed.contains("migrate"), "{failed}");
    let done = retreat(&target, &second, Some(&first), 1).await.expect("users go back");
    assert!(done.note.contains("left as another release made it: ") && done.note.contains("migrate"), "{}", done.note);
    let web = world.get("Deployment", "web").await.expect("it is there");
    assert_eq!(web["spec"]["template"]["spec"]["containers"][0]["image"], "shop/web:1.0.0-good");
}
