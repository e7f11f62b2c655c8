//! A deploy repository whose production is a namespace with real pods behind a real router.

use std::sync::OnceLock;

use piton::model::{Event, Portion, Stamp, What};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    cluster::{Cluster, Options, router::Router},
    laws::Laws,
    support::{Running, Sandbox, until_or},
    users::Users,
};

/// Pods of the workload.
pub const REPLICAS: usize = 2;
/// The canary's Deployment and its Service.
pub const CANARY: &str = "web-piton-canary";

/// What carries the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gateway,
    Traefik,
}

impl Kind {
    pub fn route_kind(self) -> &'static str {
        match self {
            Kind::Gateway => "httproutes.gateway.networking.k8s.io",
            Kind::Traefik => "traefikservices.traefik.io",
        }
    }

    /// Where the weights are in the route.
    pub fn backends(self) -> &'static str {
        match self {
            Kind::Gateway => "/spec/rules/0/backendRefs",
            Kind::Traefik => "/spec/weighted/services",
        }
    }

    /// `router:` in the pipeline file.
    pub fn router(self) -> &'static str {
        match self {
            Kind::Gateway => "{ gateway: { routes: [web] } }",
            Kind::Traefik => "{ traefik: { services: [web] } }",
        }
    }

    /// The route in the release.
    fn route(self) -> &'static str {
        match self {
            Kind::Gateway => HTTP_ROUTE,
            Kind::Traefik => TRAEFIK_SERVICE,
        }
    }
}

pub struct World {
    pub sandbox: Sandbox,
    pub namespace: String,
    pub cluster: &'static Cluster,
    pub router: Router<'static>,
    pub kind: Kind,
    runtime: Runtime,
}

static SHARED: OnceLock<Cluster> = OnceLock::new();

impl World {
    /// Version 1.0.0 is live, and the router leads to it. `canary` are more keys of the target's canary, `steps` the pipeline's.
    pub fn established(kind: Kind, canary: &str, steps: &str) -> World {
        let cluster = SHARED.get_or_init(|| Cluster::up(Options { nodes: 0, real_node: true, ..Options::default() }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let namespace = runtime.block_on(cluster.namespace("shop"));
        let router = runtime.block_on(cluster.router(&namespace));
        let world = World { sandbox: Sandbox::empty(), namespace, cluster, router, kind, runtime };
        world.image("1.0.0");
        world.sandbox.write("deploy/web.yaml", DEPLOYMENT.replace("@REPLICAS@", &REPLICAS.to_string()));
        world.sandbox.write("deploy/service.yaml", SERVICE);
        world.sandbox.write("deploy/route.yaml", kind.route());
        // The router hears of the first release a moment after it is there.
        world.write_pipeline(canary, "gates: { during: [pods] }\n    bake: 0s");
        world.sandbox.commit("the first version");
        world.sandbox.piton(&["promote", "production"]).ends(0);
        world.users(&[]).until_served("1.0.0");
        world.write_pipeline(canary, steps);
        world.sandbox.commit("under gates");
        world
    }

    fn write_pipeline(&self, canary: &str, steps: &str) {
        let identity = self.object("Namespace", "", "kube-system").expect("it is always there");
        let text = PIPELINE
            .replace("@IDENTITY@", identity["metadata"]["uid"].as_str().expect("a UID"))
            .replace("@KUBECONFIG@", &self.cluster.kubeconfig().display().to_string())
            .replace("@NAMESPACE@", &self.namespace)
            .replace("@ROUTER@", self.kind.router())
            .replace("@CANARY@", canary)
            .replace("@URL@", &self.router.url(""))
            .replace("@STEPS@", steps);
        self.sandbox.write("pipelines/shop.yaml", text);
    }

    /// The node knows the image of this version.
    fn image(&self, version: &str) {
        self.cluster.real_node().sample_image(version).expect("the runtime takes the image");
    }

    /// Another version in the repository.
    pub fn bump(&self, version: &str) {
        self.image(version);
        let path = "spec.template.spec.containers[name=web].image";
        self.sandbox.piton(&["edit", "deploy/web.yaml", path, &format!("sample:{version}")]).ends(0);
        self.sandbox.commit(&format!("web {version}"));
    }

    /// Takes all that is in the repository there at once: the pipeline's own change would be a step of its own.
    pub fn promote(&self) -> Running {
        let head = self.sandbox.git(&["rev-parse", "HEAD"]);
        self.sandbox.start(&["promote", "production", "--to", &head])
    }

    /// Somebody who asks all the time which version it is.
    pub fn users(&self, headers: &[(&'static str, &'static str)]) -> Users {
        Users::of(&self.router.url("/version"), headers)
    }

    pub fn laws(&self) -> Laws {
        Laws::of(self.cluster, &self.namespace, self.kind)
    }

    // ---- what is there

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.block_on(self.cluster.get(kind, namespace, name))
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.object(kind, &self.namespace, name)
    }

    pub fn kubectl(&self, words: &[&str]) -> String {
        let namespace = format!("--namespace={}", self.namespace);
        let words: Vec<&str> = [namespace.as_str()].into_iter().chain(words.iter().copied()).collect();
        self.block_on(self.cluster.kubectl(&words))
    }

    /// Who the pods of stable are, not only how many.
    pub fn stable_pods(&self) -> Vec<String> {
        let pods = self.block_on(self.cluster.list("pods", &self.namespace, "app=web"));
        let alive = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        alive.map(|pod| pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until nothing of a canary is left: no Deployment, no Service, no backend and no word of ours on the route.
    pub fn nothing_of_a_canary_is_left(&self) {
        let clean = || {
            let gone = ["Deployment", "Service"].iter().all(|kind| self.get(kind, CANARY).is_none());
            let route = self.get(self.kind.route_kind(), "web")?;
            let backends = route.pointer(self.kind.backends())?.as_array()?.len();
            let word = &route["metadata"]["annotations"]["piton.dev/traffic"];
            (gone && backends == 1 && word.is_null()).then_some(())
        };
        let said = || format!("{:?}", self.get(self.kind.route_kind(), "web"));
        until_or("nothing of a canary to be left", clean, said);
    }

    pub fn status(&self) -> Value {
        self.sandbox.status("production")
    }

    /// Everything that the ledger in the origin says.
    pub fn events(&self) -> Vec<Event> {
        let words = ["log", "--reverse", "--first-parent", "--format=%B", "piton/production"];
        let log = self.sandbox.git_in(&self.sandbox.origin(), &words);
        let events = log.lines().filter_map(|line| line.strip_prefix("Piton-Event: "));
        events.map(|event| serde_json::from_str(event).expect("an event")).collect()
    }

    /// From when to when the last promotion stood at this share, by the ledger's own times, and what was said of the move.
    pub fn stood_at(&self, share: &str) -> (Stamp, Stamp, String) {
        let share = Portion::Share(share.parse().expect("a share"));
        let events = self.events();
        let moved = events.iter().rposition(|event| matches!(&event.what, What::Shifted { to, .. } if *to == share));
        let moved = moved.unwrap_or_else(|| panic!("nobody was ever moved to {share}"));
        let What::Shifted { note, .. } = &events[moved].what else { unreachable!("it was just found") };
        let ended = events[moved..]
            .iter()
            .find(|event| matches!(event.what, What::StepPassed { .. } | What::RollbackBegan { .. }));
        (events[moved].at, ended.map_or(events[moved].at, |event| event.at), note.clone())
    }
}

const PIPELINE: &str = r#"name: shop

components:
  web: { file: deploy/web.yaml, path: "spec.template.spec.containers[name=web].image", part: tag }

gates:
  pods: { workload: {}, every: 500ms }
  work: { http: { url: "@URL@/work", expect: { status: 200 } }, every: 100ms, timeout: 10s }

defaults:
  deadline: 10m
  deploy: { tries: 2 }
  rollback: { within: 5m, tries: 50, pause: 500ms }
  target:
    kubernetes:
      cluster: { identity: "@IDENTITY@", kubeconfig: "@KUBECONFIG@" }
      namespace: "@NAMESPACE@"
      manifests: ["deploy/*.yaml"]
      rollout: { within: 2m }
      canary:
        deployment: web
        service: web
        router: @ROUTER@
        verify: { url: "@URL@/version", json: $.version, is: "${version.web}", samples: 100, within: 20s }
        @CANARY@

environments:
  production:
    @STEPS@
"#;

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: @REPLICAS@
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: web
          image: sample:1.0.0
          ports: [{ containerPort: 8080 }]
          readinessProbe: { httpGet: { path: /ready, port: 8080 }, periodSeconds: 1 }
";

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
";

const HTTP_ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: web }
spec:
  parentRefs: [{ name: front }]
  rules:
    - matches: [{ path: { type: PathPrefix, value: / } }]
      backendRefs: [{ name: web, port: 80 }]
";

const TRAEFIK_SERVICE: &str = "apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: { name: web }
spec: { weighted: { services: [{ name: web, port: 80 }] } }
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: { name: web }
spec:
  entryPoints: [web]
  routes: [{ kind: Rule, match: PathPrefix(`/`), services: [{ name: web, kind: TraefikService }] }]
";
