//! Releases that a renderer makes: an overlay by kubectl's kustomize, a chart by Helm 3 and 4.

use std::os::unix::fs::symlink;

use crate::{
    cluster,
    support::{Ran, Sandbox},
    world::{World, deployment},
};

const CHART: &str = "apiVersion: v2\nname: web\nversion: 0.1.0\n";
const TEMPLATE: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: '{{ .Release.Name }}', namespace: '{{ .Release.Namespace }}'}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: main
          image: 'shop/web:{{ .Values.tag }}'
";

/// A pipeline whose environment is rendered in this way.
fn pipeline(world: &World, file: &str, path: &str, render: &str) -> String {
    format!(
        "name: shop
components:
  web: {{ file: {file}, path: '{path}' }}
environments:
  staging:
    target:
      kubernetes:
        cluster: {{ identity: {}, kubeconfig: {} }}
        namespace: {}
        {render}
        rollout: {{ within: 60s }}
    bake: 50ms
",
        world.identity,
        world.cluster.kubeconfig().display(),
        world.namespace
    )
}

async fn image(world: &World) -> String {
    let web = world.get("Deployment", "web").await.expect("it is there");
    web["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("it is text").to_owned()
}

/// The program with `kubectl` on its PATH and no `kustomize`, whatever the machine has.
fn piton(sandbox: &Sandbox, words: &[&str]) -> Ran {
    let bin = sandbox.root().join("bin").display().to_string();
    let path = format!("{bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    tokio::task::block_in_place(|| sandbox.piton_with(&[("PATH", &path)], words))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlay_is_rendered_promoted_and_gone_back_from() {
    let world = World::new("overlay").await;
    let sandbox = Sandbox::empty();
    let kubectl = tokio::task::spawn_blocking(|| cluster::programs::KUBECTL.path()).await.expect("kubectl builds");
    std::fs::create_dir(sandbox.root().join("bin")).expect("a folder");
    symlink(kubectl, sandbox.root().join("bin/kubectl")).expect("a link");
    let file = "overlays/staging/kustomization.yaml";
    sandbox.write("pipelines/shop.yaml", pipeline(&world, file, "images[0].newTag", "kustomize: overlays/staging"));
    sandbox.write("base/web.yaml", deployment("web", "0.0.0", 1, ""));
    sandbox.write("base/kustomization.yaml", "resources: [web.yaml]\n");
    let overlay = |tag: &str| {
        format!(
            "resources: [../../base]\nimages:\n  - name: shop/web\n    newTag: {tag}\nreplicas: [{{name: web, count: 2}}]\n"
        )
    };
    sandbox.write(file, overlay("1.0.0"));
    sandbox.commit("the first release");
    piton(&sandbox, &["promote", "staging"]).ends(0).says("promoted").says("rendered by kustomize");
    assert_eq!(image(&world).await, "shop/web:1.0.0");
    assert_eq!(world.get("Deployment", "web").await.expect("it is there")["spec"]["replicas"], 2);

    sandbox.write(file, overlay("1.1.0-pull"));
    sandbox.commit("a bad one");
    piton(&sandbox, &["promote", "staging"]).ends(1).says("ImagePull");
    assert_eq!(image(&world).await, "shop/web:1.0.0");

    sandbox.write(file, overlay("1.2.0").replace("../../base", "https://example.invalid/base"));
    sandbox.commit("one from the network");
    piton(&sandbox, &["promote", "staging"]).ends(1).says("example.invalid");
    assert_eq!(image(&world).await, "shop/web:1.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_renderer_stops_what_is_new_and_never_the_way_back() {
    let world = World::new("renderer").await;
    let sandbox = Sandbox::empty();
    let helm = cluster::helm(3).await;
    let write = |tag: &str, renderer: &str| {
        let program = helm.display();
        let render = format!("helm: {{ chart: chart, release: web, values: [values.yaml], program: {program} }}");
        let render = format!("{render}\n        renderer: {renderer}");
        sandbox.write("pipelines/shop.yaml", pipeline(&world, "values.yaml", "tag", &render));
        sandbox.write("values.yaml", format!("tag: {tag}\nreplicas: 1\n"));
        sandbox.commit(&format!("{tag} by {renderer}"));
    };
    sandbox.write("chart/Chart.yaml", CHART);
    sandbox.write("chart/templates/web.yaml", TEMPLATE);
    std::fs::create_dir(sandbox.root().join("bin")).expect("a folder");
    for tag in ["1.0.0", "1.1.0"] {
        write(tag, "v3");
        let plan = piton(&sandbox, &["plan", "staging", "--json"]).ends(3).json();
        let renderer = plan["plan"]["renderer"].as_str();
        assert!(renderer.is_some_and(|renderer| renderer.starts_with("helm v3.")), "{plan}");
        piton(&sandbox, &["promote", "staging"]).ends(0);
    }
    write("1.2.0", "v2");
    let mut running = sandbox.start(&["promote", "staging"]);
    tokio::task::block_in_place(|| running.until_said("but the pipeline says `renderer: v2`"));
    assert_eq!(image(&world).await, "shop/web:1.1.0");
    piton(&sandbox, &["rollback", "staging", "--reason", "users complain"]).ends(0).says("rolled back");
    tokio::task::block_in_place(|| running.wait());
    assert_eq!(image(&world).await, "shop/web:1.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_is_rendered_promoted_and_gone_back_from() {
    for major in [3, 4] {
        let world = World::new("chart").await;
        let sandbox = Sandbox::empty();
        let helm = cluster::helm(major).await;
        let render =
            format!("helm: {{ chart: chart, release: web, values: [values.yaml], program: {} }}", helm.display());
        sandbox.write("pipelines/shop.yaml", pipeline(&world, "values.yaml", "tag", &render));
        sandbox.write("chart/Chart.yaml", CHART);
        sandbox.write("chart/templates/web.yaml", TEMPLATE);
        sandbox.write("values.yaml", "tag: 1.0.0\nreplicas: 1\n");
        sandbox.commit("the first release");
        std::fs::create_dir(sandbox.root().join("bin")).expect("a folder");
        piton(&sandbox, &["promote", "staging"]).ends(0).says("promoted").says(&format!("rendered by helm v{major}"));
        assert_eq!(image(&world).await, "shop/web:1.0.0");
        sandbox.write("values.yaml", "tag: 1.1.0-crash\nreplicas: 1\n");
        sandbox.commit("a bad one");
        piton(&sandbox, &["promote", "staging"]).ends(1).says("CrashLoopBackOff");
        assert_eq!(image(&world).await, "shop/web:1.0.0");
    }
}
