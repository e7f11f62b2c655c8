#![doc = include_str!("README.md")]
#![allow(dead_code, reason = "each test binary uses another part of this")]

pub mod access;
pub mod kubelet;
pub mod needs;
pub mod node;
pub mod objects;
pub mod plane;
pub mod ports;
pub mod programs;
pub mod reaper;
pub mod waiting;

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::runtime::Runtime;

use plane::Plane;

/// Nothing here takes longer, however loaded the machine is.
pub const LONGEST: Duration = Duration::from_secs(120);
/// How long a connection may take to come up.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes the fake kubelet plays; none: no pod ever runs.
    pub nodes: usize,
    /// Also a real node, `real-1`, with real pods; it needs root.
    pub real_node: bool,
    /// From a container's start to its readiness.
    pub ready_after: Duration,
    /// The first pause of a crash loop and of a pull that fails; a real kubelet's is as long.
    pub back_off: Duration,
    /// A node that has said nothing for so long is not ready.
    pub node_grace_seconds: u32,
    /// More flags for the API server.
    pub apiserver_flags: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            nodes: 3,
            real_node: false,
            ready_after: Duration::from_millis(200),
            back_off: Duration::from_secs(10),
            node_grace_seconds: 40,
            apiserver_flags: Vec::new(),
        }
    }
}

/// A real control plane on loopback, with nodes that a fake kubelet plays.
pub struct Cluster {
    plane: Mutex<Plane>,
    kubeconfig: PathBuf,
    objects: objects::Objects,
    kubelet: kubelet::FakeKubelet,
    real_node: Option<node::RealNode>,
    runtime: Option<Runtime>,
    namespaces: AtomicUsize,
    /// From nothing to a default service account.
    pub started_in: Duration,
}

static SHARED: OnceLock<Cluster> = OnceLock::new();

impl Cluster {
    /// The cluster of this test binary. It starts when it is first asked for, and ends with the process.
    pub async fn shared() -> &'static Cluster {
        Cluster::shared_with(Options::default()).await
    }

    /// The same where all tests of the binary want another one than usual.
    pub async fn shared_with(options: Options) -> &'static Cluster {
        let start = || SHARED.get_or_init(|| Cluster::up(options));
        started(tokio::task::spawn_blocking(start).await)
    }

    /// A cluster of one's own, which ends when it is dropped.
    pub async fn start(options: Options) -> Cluster {
        started(tokio::task::spawn_blocking(|| Cluster::up(options)).await)
    }

    /// The same outside of async code.
    pub fn up(options: Options) -> Cluster {
        for program in programs::CONTROL_PLANE {
            program.path();
        }
        let began = Instant::now();
        // The reaper removes it.
        let folder = tempfile::Builder::new().prefix("piton-cluster-").tempdir().expect("a temporary folder").keep();
        let mut plane = Plane::start(&folder, &options.apiserver_flags).expect("the programs start");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let token = access::admin_token(&folder).expect("it was written");
        let kubeconfig = access::write_kubeconfig(&folder, &plane.url(), "admin", &token).expect("room on the disk");
        let objects = runtime.block_on(answering(&mut plane, &kubeconfig));
        plane.start_controllers(options.node_grace_seconds).expect("the programs start");
        let real_node = options.real_node.then(|| node::RealNode::start(&plane.reaper, &kubeconfig));
        let real_node = real_node.transpose().unwrap_or_else(|error| panic!("no real node: {error}\n{}", plane.logs()));
        let kubelet = runtime.block_on(async {
            let kubelet = play_nodes(&objects, &options, &folder).await;
            objects.default_account("default").await;
            objects.nodes_take_pods(&kubelet.nodes).await.unwrap_or_else(|why| panic!("{why}\n{}", plane.logs()));
            if real_node.is_some() {
                let real = objects.nodes_take_pods(&[node::NAME.to_owned()]).await;
                real.unwrap_or_else(|why| panic!("{why}\n{}", plane.logs()));
            }
            kubelet
        });
        Cluster {
            plane: Mutex::new(plane),
            kubeconfig,
            objects,
            kubelet,
            real_node,
            runtime: Some(runtime),
            namespaces: AtomicUsize::new(0),
            started_in: began.elapsed(),
        }
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The cluster's folder: logs (`kube-apiserver.log`…), kubeconfig files, keys.
    pub fn folder(&self) -> PathBuf {
        self.plane().folder().to_owned()
    }

    /// The API server's address.
    pub fn url(&self) -> String {
        self.plane().url()
    }

    /// A new connection as administrator. It belongs to the runtime it is made in, so each test makes its own.
    pub async fn client(&self) -> piton::clients::kube::Cluster {
        connect(&self.kubeconfig).await.expect("the file is right")
    }

    /// Runs another program in the cluster's folder, where `admin.kubeconfig` is, until the cluster ends.
    pub fn run_beside(&self, program: &programs::GoProgram, flags: &[String]) {
        self.plane().start_beside(program, flags).expect("the program starts");
    }

    /// The nodes that we play.
    pub fn kubelet(&self) -> &kubelet::FakeKubelet {
        &self.kubelet
    }

    /// The real node, where the options ask for one.
    pub fn real_node(&self) -> &node::RealNode {
        self.real_node.as_ref().expect("the options of this cluster ask for no real node")
    }

    /// Kills the API server without a warning; who asks gets no connection.
    pub fn kill_apiserver(&self) {
        self.plane().kill_apiserver();
    }

    /// Starts the API server again on the same port with the same data, and waits until it is ready.
    pub async fn restart_apiserver(&self) {
        {
            let mut plane = self.plane();
            plane.kill_apiserver();
            plane.start_apiserver().expect("the program starts");
        }
        self.wait_until("the API server is ready again", || self.objects.ready()).await;
    }

    /// Stops the API server in its tracks: connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.plane().signal_apiserver(Signal::SIGSTOP);
    }

    /// Lets a paused API server go on.
    pub fn resume(&self) {
        self.plane().signal_apiserver(Signal::SIGCONT);
    }

    /// The last lines of every program of the control plane.
    pub fn logs(&self) -> String {
        self.plane().logs()
    }

    fn plane(&self) -> MutexGuard<'_, Plane> {
        // A test that failed while it held the lock leaves a plane that others can still use.
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a future where our own connection lives.
    async fn inside<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = self.runtime.as_ref().expect("it lives as long as the cluster");
        started(runtime.spawn(future).await)
    }

    fn next_number(&self) -> usize {
        self.namespaces.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A runtime must not wait for its end inside of another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a thread gave; its panic is ours.
fn started<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// The path of Helm 3 or 4, built on first request.
pub async fn helm(major: u32) -> PathBuf {
    let program = match major {
        3 => programs::HELM_3,
        4 => programs::HELM_4,
        other => panic!("there is no Helm {other} here"),
    };
    tokio::task::spawn_blocking(move || program.path()).await.expect("Helm builds")
}

async fn play_nodes(objects: &objects::Objects, options: &Options, folder: &Path) -> kubelet::FakeKubelet {
    let pace = kubelet::container::Pace { ready_after: options.ready_after, back_off: options.back_off };
    let grace = Duration::from_secs(options.node_grace_seconds.into());
    let client = objects.client.clone();
    kubelet::FakeKubelet::start(client, options.nodes, pace, grace, folder).await.expect("the nodes are registered")
}

/// A connection of the tests' own: by its name the API server's audit log tells it from piton's.
async fn connect(kubeconfig: &Path) -> Result<piton::clients::kube::Cluster, String> {
    let file = kube::config::Kubeconfig::read_from(kubeconfig).map_err(|error| error.to_string())?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options).await;
    let mut config = config.map_err(|error| error.to_string())?;
    config.connect_timeout = Some(CONNECT_WITHIN);
    let agent = hyper::header::HeaderValue::from_static("tests-of-piton");
    config.headers.push((hyper::header::USER_AGENT, agent));
    piton::clients::http::install_tls_provider();
    let client = kube::Client::try_from(config).map_err(|error| error.to_string())?;
    Ok(piton::clients::kube::Cluster::new(client))
}

/// Waits until the API server is ready, or says which program fell.
async fn answering(plane: &mut Plane, kubeconfig: &Path) -> objects::Objects {
    let certificates = plane.folder().join("certs");
    let ready = waiting::until("the API server is ready", LONGEST, || {
        let (fallen, certificates) = (plane.fallen(), &certificates);
        async move {
            match fallen {
                Some(fallen) => Ok(Err(fallen)),
                None => looked_into(certificates, kubeconfig).await.map(Ok),
            }
        }
    });
    let ended = ready.await.and_then(|ready| ready);
    ended.unwrap_or_else(|why| panic!("{why}\n{}", plane.logs()))
}

/// A connection is made anew at every look: it keeps the authority that it has read.
async fn looked_into(certificates: &Path, kubeconfig: &Path) -> Result<objects::Objects, String> {
    access::whole(certificates)?;
    let objects = objects::Objects::new(connect(kubeconfig).await?);
    objects.ready().await?;
    Ok(objects)
}
