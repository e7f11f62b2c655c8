use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::cluster::{Cluster, LONGEST, Options, waiting};

#[tokio::test]
async fn a_control_plane_is_up_and_known_by_its_identity() {
    let cluster = Cluster::shared().await;
    eprintln!("up in {:?}", cluster.started_in);
    let identity = cluster.client().await.identity().await.expect("kube-system is there");
    assert_eq!(identity.len(), 36, "{identity}");
    assert!(cluster.kubectl(&["version"]).await.contains("Server Version: v1.36"));
}

#[tokio::test]
async fn a_namespace_is_ready_to_be_used() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("fresh").await;
    let config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: NS}, data: {k: v}}";
    cluster.apply(&config.replace("NS", &namespace)).await;
    let found = cluster.get("ConfigMap", &namespace, "a").await.expect("it was applied");
    assert_eq!(found["data"]["k"], "v");
    assert!(cluster.get("configmaps", &namespace, "b").await.is_none());
}

#[tokio::test]
async fn a_user_may_do_exactly_what_the_rules_say() {
    let cluster = Cluster::shared().await;
    let reads = r#"[{apiGroups: [""], resources: [configmaps], verbs: [list]}]"#;
    let reader = cluster.user("reader", reads).await;
    let may = |reader: std::path::PathBuf, verb: &'static str, what: &'static str| async move {
        let file = format!("--kubeconfig={}", reader.display());
        let answer = cluster.try_kubectl(&[&file, "auth", "can-i", verb, what, "--namespace=default"]).await;
        answer.is_ok_and(|answer| answer.trim() == "yes")
    };
    assert!(may(reader.clone(), "list", "configmaps").await);
    assert!(!may(reader.clone(), "list", "secrets").await);
    cluster.user("reader", "[]").await;
    cluster.wait_until("the right is withdrawn", || async { !may(reader.clone(), "list", "configmaps").await }).await;
}

#[tokio::test]
async fn a_killed_api_server_comes_back_with_its_data_and_a_dropped_cluster_leaves_nothing() {
    let cluster = Cluster::start(Options { nodes: 0, ..Options::default() }).await;
    let folder = cluster.folder();
    let before = cluster.client().await.identity().await.expect("it answers");
    cluster.kill_apiserver();
    cluster.client().await.identity().await.expect_err("nobody listens");
    cluster.restart_apiserver().await;
    let again = cluster.client().await.identity().await.expect("it answers again");
    assert_eq!(before, again);

    cluster.pause();
    let asked = cluster.client().await;
    let unanswered = tokio::time::timeout(Duration::from_millis(500), asked.identity()).await;
    assert!(unanswered.is_err(), "a paused server answers nothing: {unanswered:?}");
    cluster.resume();
    asked.identity().await.expect("it goes on");

    drop(cluster);
    assert!(!folder.exists(), "{} is left", folder.display());
}

#[tokio::test]
async fn nothing_is_left_of_a_cluster_whose_process_dies() {
    let tests = std::env::current_exe().expect("linux");
    let mut dies = Command::new(tests);
    dies.args(["--ignored", "--exact", "--nocapture", "plane::dies_with_a_cluster"]);
    let ended = tokio::task::spawn_blocking(move || dies.output()).await.expect("no panic").expect("it starts");
    assert!(!ended.status.success(), "it dies");
    let said = String::from_utf8_lossy(&ended.stdout);
    let folder = said.lines().find_map(|line| line.split_once("its folder: ")).expect("it says where it is").1;
    let gone = || async {
        let left = left_in(Path::new(folder));
        if left.is_empty() { Ok(()) } else { Err(format!("left: {left:?}")) }
    };
    waiting::until("everything is gone", LONGEST, gone).await.unwrap_or_else(|why| panic!("{why}"));
}

#[tokio::test]
#[ignore = "the test above starts it, in a process that dies of it"]
async fn dies_with_a_cluster() {
    let cluster = Cluster::shared().await;
    println!("its folder: {}", cluster.folder().display());
    std::process::abort();
}

/// The folder, and what runs in it.
fn left_in(folder: &Path) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").expect("linux").flatten().map(|entry| entry.path());
    let inside = |process: &PathBuf| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    processes.filter(inside).chain(folder.exists().then(|| folder.to_owned())).collect()
}

#[test]
fn a_machine_without_go_skips_the_group_loudly_or_fails_where_it_must_run() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    for (must_run, code, word) in [("0", 0, "SKIPPED: "), ("1", 101, "FAILED: ")] {
        let mut group = Command::new(std::env::current_exe().expect("linux"));
        group.env_clear().env("PATH", "/nowhere").env("PITON_TEST_CACHE", empty.path());
        let ended = group.env("PITON_TESTS_MUST_RUN", must_run).output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert!(
            said.contains(word) && said.contains(" tests of the group `cluster_itself`: it needs Go 1.26"),
            "{said}"
        );
        assert!(ended.stdout.is_empty(), "no test has run: {}", String::from_utf8_lossy(&ended.stdout));
    }
}
