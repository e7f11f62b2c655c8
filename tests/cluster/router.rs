//! A real router: Traefik on loopback, which leads requests to the addresses of pods by what the routes of one namespace say.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command},
};

use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{Cluster, plane::run_in_group, ports::Port, programs::TRAEFIK};

/// The definitions that Traefik reads: its own, and those of the Gateway API that it is built for.
const DEFINITIONS: [(&str, &str); 8] = [
    ("github.com/traefik/traefik/v3", "docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml"),
    (GATEWAY_API, "config/crd/standard/gateway.networking.k8s.io_gatewayclasses.yaml"),
    (GATEWAY_API, "config/crd/standard/gateway.networking.k8s.io_gateways.yaml"),
    (GATEWAY_API, "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
    (GATEWAY_API, "config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml"),
    (GATEWAY_API, "config/crd/standard/gateway.networking.k8s.io_referencegrants.yaml"),
    (GATEWAY_API, "config/crd/standard/gateway.networking.k8s.io_backendtlspolicies.yaml"),
    (GATEWAY_API, "config/crd/standard/gateway.networking.k8s.io_tlsroutes.yaml"),
];
const GATEWAY_API: &str = "sigs.k8s.io/gateway-api";

/// Definitions are the cluster's own: two tests must not install them at once.
static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// A router for one namespace; it ends when it is dropped.
pub struct Router<'a> {
    cluster: &'a Cluster,
    namespace: String,
    port: Port,
    child: Option<Child>,
}

/// One request that the router has answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Led {
    /// When it came in.
    #[serde(rename = "StartUTC")]
    pub at: jiff::Timestamp,
    /// The address of the pod that it was led to.
    #[serde(default)]
    pub service_addr: String,
    pub request_path: String,
    pub downstream_status: u16,
}

impl Cluster {
    /// Starts a router for the routes of a namespace. Its GatewayClass and its Gateway have the namespace's name.
    pub async fn router(&self, namespace: &str) -> Router<'_> {
        INSTALLED.get_or_init(|| self.install_definitions()).await;
        let mut router = Router { cluster: self, namespace: namespace.to_owned(), port: Port::reserve(), child: None };
        let gateway = GATEWAY.replace("@NAMESPACE@", namespace).replace("@PORT@", &router.port.number.to_string());
        self.apply(&gateway).await;
        router.start();
        router
    }

    async fn install_definitions(&self) {
        let files = tokio::task::spawn_blocking(|| DEFINITIONS.map(|(module, file)| TRAEFIK.file_of(module, file)));
        for file in files.await.expect("Traefik builds") {
            self.kubectl(&["apply", "--server-side", "--filename", &file.display().to_string()]).await;
        }
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=100s", "crd", "--all"]).await;
    }
}

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: @NAMESPACE@, labels: { piton.test/router: @NAMESPACE@ } }
spec: { controllerName: traefik.io/gateway-controller }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: front, namespace: @NAMESPACE@ }
spec:
  gatewayClassName: @NAMESPACE@
  listeners: [{ name: web, protocol: HTTP, port: @PORT@ }]
";

impl Router<'_> {
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.port.url("http"))
    }

    /// Starts it, for the first time or again; nothing is waited for.
    pub fn start(&mut self) {
        let (name, server) = (self.name(), self.cluster.url());
        let folder = self.cluster.folder();
        let file = |name: &str| folder.join(name).display().to_string();
        let mut traefik = Command::new(TRAEFIK.path());
        traefik.args(["--global.checknewversion=false", "--global.sendanonymoususage=false", "--log.level=INFO"]);
        traefik.arg(format!("--entrypoints.web.address=127.0.0.1:{}", self.port.number));
        traefik.args(["--accesslog=true", "--accesslog.format=json"]);
        traefik.arg(format!("--accesslog.filepath={}", file(&format!("{name}.requests"))));
        for provider in ["kubernetescrd", "kubernetesgateway"] {
            let provider = format!("--providers.{provider}");
            traefik.arg(format!("{provider}.endpoint={server}"));
            traefik.arg(format!("{provider}.token={}", file("admin.token")));
            traefik.arg(format!("{provider}.certauthfilepath={}", file("certs/apiserver.crt")));
            traefik.arg(format!("{provider}.namespaces={}", self.namespace));
        }
        traefik.arg(format!("--providers.kubernetesgateway.labelselector=piton.test/router={}", self.namespace));
        let path = std::env::var("PATH").unwrap_or_default();
        let started = run_in_group(&self.cluster.plane().reaper, &name, &mut traefik, &path);
        self.child = Some(started.expect("the program starts"));
    }

    /// Kills it without a warning; who asks gets no connection.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Every request that it has answered so far.
    pub fn requests(&self) -> Vec<Led> {
        let text = fs::read_to_string(self.cluster.folder().join(format!("{}.requests", self.name())));
        text.unwrap_or_default().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How many requests each pod's address got.
    pub fn by_address(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for led in self.requests() {
            *all.entry(led.service_addr).or_default() += 1;
        }
        all
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.cluster.folder().join(format!("{}.log", self.name()))).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    fn name(&self) -> String {
        format!("traefik-{}", self.namespace)
    }
}

impl Drop for Router<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}
