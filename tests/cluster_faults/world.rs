//! A deploy repository whose production is a namespace of a real cluster, with somebody who watches what users get.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use piton::{
    clients::kube::{self, Place},
    model::{AttemptId, Event, Portion, Share, Span, Stamp, Step, What},
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    cluster::{Cluster, Options},
    door::Door,
    support::{Ran, Running, Sandbox, until_or},
    watchman::Watchman,
};

/// Pods of the workload.
pub const REPLICAS: usize = 2;
/// How long half of the users stay on the canary at least.
pub const HOLD: Span = Span::seconds(3);

/// Half of the users for three seconds, or longer while the gate is kept from looking, then all.
pub const CANARY: &str = "
  production:
    gates: { during: [looks] }
    canary: [{ share: 50%, hold: 3s }, { share: 100%, hold: 0s }]
    bake: 300ms
";

/// The same where it is given up soon.
pub fn impatient() -> String {
    let tries = "deploy: { tries: 2 }\n    rollback: { within: 20s, tries: 2, pause: 500ms }\n    bake";
    CANARY.replace("bake", tries)
}

/// All users at once, then three seconds under gates.
pub const ROLLING: &str = "
  production:
    gates: { during: [looks] }
    bake: 3s
";

pub struct World {
    pub sandbox: Sandbox,
    pub namespace: String,
    pub cluster: Arc<Cluster>,
    pub door: Door,
    pub watchman: Watchman,
    /// Whether there is a canary step.
    splits: bool,
    runtime: Runtime,
    // Last, so that the next one comes when everything of this one is gone.
    _turn: Option<MutexGuard<'static, Option<Arc<Cluster>>>>,
}

/// For tests that do no harm to the cluster itself.
static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
/// For those that do, one after the other.
static HARMED: Mutex<Option<Arc<Cluster>>> = Mutex::new(None);

impl World {
    /// In the cluster that these tests share, with version 1.0.0 live.
    pub fn new(environments: &str) -> World {
        let shared = SHARED.get_or_init(|| Arc::new(Cluster::up(Options::default())));
        World::established(shared.clone(), environments)
    }

    /// In a cluster whose API server may be killed or stopped, as nobody else is there, with version 1.0.0 live.
    pub fn to_harm(environments: &str) -> World {
        let mut turn = HARMED.lock().unwrap_or_else(|failed| {
            // Whoever failed may have left it without its server.
            HARMED.clear_poison();
            let mut turn = failed.into_inner();
            *turn = None;
            turn
        });
        let cluster = turn.get_or_insert_with(|| Arc::new(Cluster::up(Options::default()))).clone();
        World { _turn: Some(turn), ..World::established(cluster, environments) }
    }

    /// In a cluster of its own, with version 1.0.0 live.
    pub fn alone(options: Options, environments: &str) -> World {
        World::established(Arc::new(Cluster::up(options)), environments)
    }

    fn established(cluster: Arc<Cluster>, environments: &str) -> World {
        let world = World::empty(cluster, environments);
        world.sandbox.piton(&["promote", "production"]).ends(0);
        world.settles_on("1.0.0");
        world.watchman.begin();
        world
    }

    /// A namespace and a repository for it, with nothing live yet.
    fn empty(cluster: Arc<Cluster>, environments: &str) -> World {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let namespace = runtime.block_on(cluster.namespace("faults"));
        let sandbox = Sandbox::empty();
        let door = Door::before(cluster.kubeconfig(), sandbox.root());
        let watchman = Watchman::of(cluster.kubeconfig(), &namespace);
        let splits = environments.contains("canary:");
        let world = World { sandbox, namespace, cluster, door, watchman, splits, runtime, _turn: None };
        let kubeconfig = world.door.kubeconfig.clone();
        world.write_pipeline(&kubeconfig, environments);
        world.sandbox.write("deploy/web.yaml", DEPLOYMENT.replace("@REPLICAS@", &REPLICAS.to_string()));
        world.sandbox.write("deploy/service.yaml", SERVICE);
        world.sandbox.write("deploy/config.yaml", CONFIG);
        world.sandbox.commit("the first version");
        world
    }

    /// The pipeline as it is read by this kubeconfig's user.
    pub fn write_pipeline(&self, kubeconfig: &Path, environments: &str) {
        let identity = self.object("Namespace", "", "kube-system").expect("it is always there");
        let identity = identity["metadata"]["uid"].as_str().expect("a UID").to_owned();
        let text = PIPELINE
            .replace("@IDENTITY@", &identity)
            .replace("@KUBECONFIG@", &kubeconfig.display().to_string())
            .replace("@NAMESPACE@", &self.namespace)
            .replace("@BLINDFOLD@", &self.blindfold().display().to_string())
            .replace("@CANARY@", if self.splits { TRACK } else { "" })
            .replace("@ENVIRONMENTS@", environments.trim_matches('\n'));
        self.sandbox.write("pipelines/shop.yaml", text);
    }

    /// Another version in the repository.
    pub fn bump(&self, version: &str) {
        self.sandbox.piton(&["edit", "deploy/web.yaml", IMAGE_PATH, &image(version)]).ends(0);
        self.sandbox.piton(&["edit", "deploy/config.yaml", "data.greeting", version]).ends(0);
        self.sandbox.commit(&format!("web {version}"));
    }

    pub fn promote(&self) -> Running {
        self.sandbox.start(&["promote", "production"])
    }

    /// A promotion that has half of the users on the canary, and stays there until it may go on, however long a fault takes
    /// to be made.
    pub fn in_the_middle_of(&self, version: &str) -> Running {
        fs::write(self.blindfold(), "").expect("room on the disk");
        self.bump(version);
        let mut running = self.promote();
        running.until_said("→ 50%");
        running
    }

    /// The middle may be over.
    pub fn may_go_on(&self) {
        fs::remove_file(self.blindfold()).expect("it is in the middle");
    }

    /// While this file is there the gate sees nothing, which neither passes nor fails.
    fn blindfold(&self) -> PathBuf {
        self.sandbox.path("blindfold")
    }

    /// Waits until the API server really refuses the bearer of this kubeconfig with this code.
    pub fn until_refused(&self, kubeconfig: &Path, code: u16) {
        let place = Place { kubeconfig: Some(kubeconfig.to_owned()), context: None };
        let look = async || {
            let bearer = kube::Cluster::connect(&place).await.map_err(|error| error.to_string())?;
            match bearer.identity().await {
                Err(error) if error.code() == Some(code) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        let what = format!("the API server to answer {code}");
        self.block_on(self.cluster.wait_until(&what, look));
    }

    // ---- what is there

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.block_on(self.cluster.get(kind, namespace, name))
    }

    pub fn kubectl(&self, words: &[&str]) -> String {
        let namespace = format!("--namespace={}", self.namespace);
        let words: Vec<&str> = [namespace.as_str()].into_iter().chain(words.iter().copied()).collect();
        self.block_on(self.cluster.kubectl(&words))
    }

    /// The names of Deployments beside the stable one.
    pub fn canaries(&self) -> Vec<String> {
        let all = self.block_on(self.cluster.list("Deployment", &self.namespace, ""));
        let names = all.iter().map(|one| one["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        names.filter(|name| name != "web").collect()
    }

    /// The versions of the pods that users reach: ready, and behind the Service.
    pub fn served(&self) -> Vec<String> {
        self.watchman.serving()
    }

    /// Waits until users get this version and nothing else, its configuration is the one that goes with it, and nothing of
    /// a canary is left.
    pub fn settles_on(&self, version: &str) {
        let so = || {
            let served = self.served();
            // The rest is asked of the server only then: many wait here at once.
            (served.len() == REPLICAS && served.iter().all(|v| v == version)).then_some(())?;
            let config = self.object("ConfigMap", &self.namespace, "web")?;
            (config["data"]["greeting"] == version && self.canaries().is_empty()).then_some(())
        };
        let said = || format!("served {:?}, beside it {:?}\n{}", self.served(), self.canaries(), self.status());
        until_or(&format!("users to get {version} alone"), so, said);
    }

    pub fn status(&self) -> Value {
        self.sandbox.status("production")
    }

    /// What must be so after every fault, whatever it was.
    pub fn keeps_the_laws(&self) {
        assert!(self.watchman.was_always_served(), "there was a moment in which nobody was served");
        self.every_step_had_its_soak();
        let status = self.status();
        assert!(status["attempt"].is_null() && status["rollback"].is_null(), "something is left open: {status}");
    }

    /// From the move of half of the users to the next step it takes as long as the pipeline says, by the ledger's own times.
    fn every_step_had_its_soak(&self) {
        let half = Portion::Share(Share::of_hundredths(5_000).expect("half"));
        let mut places: BTreeMap<AttemptId, usize> = BTreeMap::new();
        let mut moved: BTreeMap<AttemptId, Stamp> = BTreeMap::new();
        let mut begun = AttemptId(0);
        for Event { at, what, .. } in self.events() {
            match what {
                What::Started { plan } => {
                    begun = AttemptId(begun.0 + 1);
                    let is_half = |step: &Step| matches!(step, Step::Shift { to, .. } if *to == half);
                    places.extend(plan.steps.iter().position(is_half).map(|place| (begun, place)));
                }
                What::Shifted { attempt, to, .. } if to == half => {
                    moved.entry(attempt).or_insert(at);
                }
                What::StepPassed { attempt, step } if places.get(&attempt) == Some(&step) => {
                    let since = moved[&attempt];
                    let soaked = at.since(since);
                    assert!(soaked >= HOLD, "{attempt} was left {soaked} after half of the users were moved");
                }
                _ => {}
            }
        }
    }

    /// Everything that the ledger in the origin says.
    pub fn events(&self) -> Vec<Event> {
        let words = ["log", "--reverse", "--first-parent", "--format=%B", "piton/production"];
        let log = self.sandbox.git_in(&self.sandbox.origin(), &words);
        let events = log.lines().filter_map(|line| line.strip_prefix("Piton-Event: "));
        events.map(|event| serde_json::from_str(event).expect("an event")).collect()
    }
}

/// Runs to the end with the help of ticks, as a schedule would; how it ended last.
pub fn tick_to_the_end(world: &World) -> Ran {
    let mut last = None;
    until_or(
        "the ticks to come to an end",
        || {
            last = Some(world.sandbox.piton(&["tick"]));
            let status = world.status();
            (status["attempt"].is_null() && status["rollback"].is_null()).then_some(())
        },
        String::new,
    );
    last.expect("it was run")
}

pub const IMAGE_PATH: &str = "spec.template.spec.containers[name=web].image";

pub fn image(version: &str) -> String {
    format!("registry.test/web:{version}")
}

const PIPELINE: &str = r#"name: shop

components:
  web: { file: deploy/web.yaml, path: "spec.template.spec.containers[name=web].image", part: tag }

gates:
  looks: { command: { run: [sh, -c, "test ! -e '@BLINDFOLD@' || exit 75"] }, every: 200ms }

defaults:
  deadline: 10m
  drift: { every: 2s }
  deploy: { tries: 20 }
  rollback: { within: 5m, tries: 50, pause: 500ms }
  target:
    kubernetes:
      cluster: { identity: "@IDENTITY@", kubeconfig: "@KUBECONFIG@" }
      namespace: "@NAMESPACE@"
      manifests: ["deploy/*.yaml"]
      rollout: { within: 1m }
@CANARY@
environments:
@ENVIRONMENTS@
"#;

const TRACK: &str = "      canary: { deployment: web, service: web, router: replicas }
";

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: @REPLICAS@
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: registry.test/web:1.0.0
          envFrom: [{ configMapRef: { name: web } }]
";

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
";

const CONFIG: &str = "apiVersion: v1
kind: ConfigMap
metadata: { name: web }
data: { greeting: 1.0.0 }
";
