//! Where charts come from: the tree, a repository, and never something that nobody named.

use std::{fs, net::SocketAddr, path::Path};

use axum::Router;
use piton::targets::{Target, TargetError};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    registry::Registry,
    world::{LINK, World, apply, back, deploy},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_dependency_that_is_not_in_the_tree_is_refused_with_the_remedy() {
    let world = World::new(4).await;
    let target = world.target(world.config());
    let chart = "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies:\n- {name: redis, version: 20.x, repository: https://charts.example}\n";
    let release = world.release_with(&[("chart/Chart.yaml", chart), ("prod.yaml", "tag: 1")]);
    let error = apply(&target, &release, 1).await.expect_err("its chart is not complete");
    assert!(matches!(error, TargetError::Release(_)), "{error}");
    for words in
        ["`redis` 20.x", "run `helm dependency update chart`", "commit `chart/charts`", "`dependencies: update`"]
    {
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    let redis = ("chart/charts/redis/Chart.yaml", "apiVersion: v2\nname: redis\nversion: 20.0.1\n");
    let vendored = world.release_with(&[("chart/Chart.yaml", chart), redis, ("prod.yaml", "tag: 1")]);
    deploy(&target, &vendored, 1).await.expect("all is in the tree");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_out_of_the_release_is_refused() {
    let world = World::new(4).await;
    let target = world.target(world.config());
    let link = |to: &str| format!("{LINK}{to}");
    let refused = async |files: &[(&str, &str)]| {
        let error = apply(&target, &world.release_with(files), 1).await.expect_err("it leads out");
        assert!(matches!(error, TargetError::Release(_)), "{error}");
        error.to_string()
    };
    let values = ("prod.yaml", "tag: 1");
    let said = refused(&[values, ("chart/files/name", &link("/etc/hostname"))]).await;
    assert!(said.contains("`chart/files/name` leads out of the release"), "{said}");
    let said = refused(&[("prod.yaml", &link("../../../../../../../etc/hostname"))]).await;
    assert!(said.contains("`prod.yaml` leads out of the release"), "{said}");
    let through = [("chart/shared", &*link("../shared")), ("shared/name", &*link("/etc/hostname")), values];
    let said = refused(&through).await;
    assert!(said.contains("`shared/name` leads out of the release"), "{said}");
    let inside = [("chart/notes", &*link("../shared/notes")), ("shared/notes", "-"), values];
    let elsewhere = ("docs/hostname", &*link("/etc/hostname"));
    apply(&target, &world.release_with(&[&inside[..], &[elsewhere]].concat()), 1).await.expect("no such link is used");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packaged_chart_is_the_one_with_its_digest_with_helm_3() {
    a_packaged_chart_is_the_one_with_its_digest(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packaged_chart_is_the_one_with_its_digest_with_helm_4() {
    a_packaged_chart_is_the_one_with_its_digest(4).await;
}

async fn a_packaged_chart_is_the_one_with_its_digest(major: u32) {
    let world = World::new(major).await;
    let repository = Repository::start(&world).await;
    let mut config = world.config();
    config["chart"] =
        json!({ "from": repository.url, "name": "web", "version": "${version.hub}", "digests": "digests.yaml" });
    let target = world.target(config);
    let with = |digest: &str, tag: &str| {
        world.release_with(&[
            ("digests.yaml", &format!("1.0.0: {digest}")),
            ("prod.yaml", &format!("tag: {tag}\nimage: 127.0.0.1:1/web")),
        ])
    };
    let wrong = with(&format!("sha256:{}", "0".repeat(64)), "1");
    let error = apply(&target, &wrong, 1).await.expect_err("it is another").to_string();
    assert!(error.contains("is not the one that the release names") && error.contains(&repository.digest), "{error}");
    let (one, two) = (with(&repository.digest, "1"), with(&repository.digest, "2"));
    let done = deploy(&target, &one, 1).await.expect("it is the one");
    assert!(done.note.contains(&repository.digest), "{}", done.note);
    drop(repository);
    // The repository is gone, and the way back does not need it.
    deploy(&target, &two, 1).await.expect("it is kept");
    back(&target, &two, Some(&one), 1).await.expect("it is kept");
    let rehearsal = target.rehearse(&one).await.expect("it can be tried");
    assert_eq!(rehearsal.obstacles, Vec::<String>::new());
    assert_eq!(rehearsal.digests.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_in_a_registry_is_the_one_with_its_digest_with_helm_3() {
    a_chart_in_a_registry_is_the_one_with_its_digest(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_in_a_registry_is_the_one_with_its_digest_with_helm_4() {
    a_chart_in_a_registry_is_the_one_with_its_digest(4).await;
}

async fn a_chart_in_a_registry_is_the_one_with_its_digest(major: u32) {
    let world = World::new(major).await;
    let registry = Registry::start(&world).await;
    let pushed = registry.push(&world).await;
    let target_with = |digest: &str| {
        let mut config = world.config();
        config["chart"] = json!({ "from": pushed.from, "version": "${version.hub}", "digest": digest });
        world.target(config)
    };
    let (one, two) = (world.release("1", ""), world.release("2", ""));
    let wrong = format!("sha256:{}", "0".repeat(64));
    let error = apply(&target_with(&wrong), &one, 1).await.expect_err("it is another").to_string();
    assert!(error.contains("is not the one that the release names") && error.contains(&pushed.package), "{error}");
    deploy(&target_with(&pushed.package), &one, 1).await.expect("the package has this digest");
    let target = target_with(&pushed.manifest);
    let done = deploy(&target, &two, 1).await.expect("the manifest has this digest");
    assert!(done.note.contains(&pushed.manifest), "{}", done.note);
    drop(registry);
    back(&target, &two, Some(&one), 1).await.expect("it is kept, and needs no registry");
}

#[tokio::test(flavor = "multi_thread")]
async fn dependencies_are_fetched_where_the_pipeline_says_so() {
    let world = World::new(4).await;
    let repository = Repository::start(&world).await;
    let chart = format!(
        "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies:\n- {{name: web, version: 1.0.0, repository: '{}'}}\n",
        repository.url
    );
    let release = world.release_with(&[("shop/Chart.yaml", &chart), ("prod.yaml", "web: {tag: 1}")]);
    let mut config = world.config();
    config["chart"] = json!("shop");
    let error = apply(&world.target(config.clone()), &release, 1).await.expect_err("nothing lies in its `charts/`");
    assert!(error.to_string().contains("`web` 1.0.0"), "{error}");
    config["dependencies"] = json!("update");
    let target = world.target(config);
    deploy(&target, &release, 1).await.expect("its dependency is fetched");
    assert_eq!(world.container("web").await["image"], "shop/web:1");
    drop(repository);
    let next = world.release_with(&[("shop/Chart.yaml", &chart), ("prod.yaml", "web: {tag: 2}")]);
    let error = apply(&target, &next, 1).await.expect_err("there is nowhere to fetch from");
    assert!(matches!(error, TargetError::World { .. }), "{error}");
    assert!(error.to_string().contains("cannot fetch the charts that the chart depends on"), "{error}");
}

/// A chart repository on loopback, until it is dropped.
struct Repository {
    url: String,
    digest: String,
    server: tokio::task::JoinHandle<()>,
}

impl Repository {
    async fn start(world: &World) -> Repository {
        let dir = world.dir.path().join("repository");
        fs::create_dir_all(&dir).expect("a folder");
        let chart = world.files(&world.release("1", "")).join("chart");
        let (chart, to) = (chart.display().to_string(), dir.display().to_string());
        world.by_hand(&["package", &chart, "--destination", &to]).await;
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        world.by_hand(&["repo", "index", &to, "--url", &url]).await;
        let index = fs::read_to_string(dir.join("index.yaml")).expect("an index");
        let line = index.lines().find_map(|line| line.trim().strip_prefix("digest: ")).expect("a digest");
        let digest = format!("sha256:{line}");
        let served = Router::new().fallback(move |request: axum::extract::Request| file(dir.clone(), request));
        let server = tokio::spawn(async move { axum::serve(listener, served).await.expect("it serves") });
        Repository { url, digest, server }
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn file(dir: std::path::PathBuf, request: axum::extract::Request) -> Result<Vec<u8>, axum::http::StatusCode> {
    let name = Path::new(request.uri().path()).file_name().map(|name| dir.join(name));
    name.and_then(|path| fs::read(path).ok()).ok_or(axum::http::StatusCode::NOT_FOUND)
}
