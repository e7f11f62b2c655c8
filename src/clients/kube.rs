//! Speaks to a Kubernetes API server: where it is, which cluster it really is, how its objects are named, and failures as sentences.

mod limits;
mod renewed;
mod shared;
mod skew;
mod unsaid;
mod writes;

use std::{fmt, path::PathBuf, sync::Arc};

use hyper::header::{HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config, Discovery,
    api::{ApiResource, DynamicObject},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::Scope,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::RwLock;

pub use self::{
    unsaid::without_values,
    writes::{Applied, How, Seen},
};

/// By this name the API server's audit log tells our requests from those of others.
const AGENT: &str = concat!("piton/", env!("CARGO_PKG_VERSION"));
/// The namespace whose UID tells clusters apart: it is there from the first moment and cannot be replaced.
const IDENTITY_NAMESPACE: &str = "kube-system";

/// Which cluster is meant: a context of a kubeconfig file; without either, what KUBECONFIG, the home folder or the pod itself offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
}

/// A connection to one cluster. Cloning it shares the connection.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    kinds: Arc<RwLock<Option<Discovery>>>,
}

/// The name of one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    /// `v1`, `apps/v1`…
    pub api_version: String,
    pub kind: String,
    /// `None` for kinds that live in no namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
}

/// Why the API server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    #[error("cannot reach the cluster: {0}")]
    Config(String),
    /// The API server answered with a refusal; its words are without values that may be secret.
    #[error("{}", refusal(.0))]
    Refused(Box<kube::core::Status>),
    /// No answer, or none that can be read.
    #[error("the API server did not answer: {0}")]
    Unreachable(String),
    #[error("the cluster does not know the kind {kind} of {api_version}; is its CRD installed?")]
    UnknownKind { api_version: String, kind: String },
}

impl KubeError {
    /// The HTTP code of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            KubeError::Refused(status) => Some(status.code),
            KubeError::Config(_) | KubeError::Unreachable(_) | KubeError::UnknownKind { .. } => None,
        }
    }

    /// A field that cannot be changed while the object is there, such as a Job's pods.
    pub fn is_immutable(&self) -> bool {
        let is = |status: &kube::core::Status| status.code == 422 && status.message.contains("field is immutable");
        matches!(self, KubeError::Refused(status) if is(status))
    }

    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }
}

impl From<kube::Error> for KubeError {
    fn from(error: kube::Error) -> KubeError {
        match error {
            kube::Error::Api(status) => KubeError::Refused(Box::new(unsaid::tellable(*status))),
            // The word `ServiceError` says nothing to people.
            kube::Error::Service(error) => KubeError::Unreachable(causes(error.as_ref())),
            other => KubeError::Unreachable(causes(&other)),
        }
    }
}

impl ObjectId {
    /// Reads the name of an object that has one.
    pub fn of(object: &Value) -> Option<ObjectId> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(ObjectId {
            api_version: text(&object["apiVersion"])?,
            kind: text(&object["kind"])?,
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"])?,
        })
    }

    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    fn gvk(&self) -> GroupVersionKind {
        let version = self.api_version.split_once('/').map_or(self.api_version.as_str(), |(_, version)| version);
        GroupVersionKind::gvk(self.group(), version, &self.kind)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Cluster {
    /// Reads the configuration; nothing is sent yet.
    pub async fn connect(place: &Place) -> Result<Cluster, KubeError> {
        super::http::install_tls_provider();
        Ok(Cluster::new(renewed::client(place).await?))
    }

    /// The same; whoever means the same place while the connection is in use shares it, and what is known of its kinds.
    pub async fn shared(place: &Place) -> Result<Cluster, KubeError> {
        if let Some(cluster) = shared::find(place) {
            return Ok(cluster);
        }
        let cluster = Cluster::connect(place).await?;
        Ok(shared::keep(place, cluster))
    }

    /// With a client that has limits of its own.
    pub fn new(client: Client) -> Cluster {
        Cluster { client, kinds: Arc::default() }
    }

    /// Tells connections apart; clones of one have the same number as long as any of them lives.
    pub fn number(&self) -> usize {
        Arc::as_ptr(&self.kinds).addr()
    }

    /// What tells this cluster from every other: the UID of its namespace `kube-system`.
    pub async fn identity(&self) -> Result<String, KubeError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let found = namespaces.get(IDENTITY_NAMESPACE).await?;
        found.metadata.uid.ok_or_else(|| KubeError::Unreachable(format!("{IDENTITY_NAMESPACE} has no UID")))
    }

    /// The endpoint for this object's kind, in its namespace. Kinds are asked for once, and again when one is unknown.
    pub async fn api(&self, id: &ObjectId) -> Result<Api<DynamicObject>, KubeError> {
        let (resource, scope) = self.resource(id).await?;
        let api = Api::dynamic(self.client.clone(), &resource, &scope);
        Ok(match (&scope, &id.namespace) {
            (Scope::Namespaced, Some(namespace)) => api.constrain(namespace),
            (Scope::Namespaced, None) => api.constrain_default(),
            (Scope::Cluster, _) => api,
        })
    }

    /// Whether objects of this kind live in a namespace.
    pub async fn is_namespaced(&self, id: &ObjectId) -> Result<bool, KubeError> {
        Ok(self.resource(id).await?.1 == Scope::Namespaced)
    }

    /// Asks what kinds there are, unless that is known; who needs one and finds nothing asks again, and says why not.
    pub async fn learn_kinds(&self) {
        if self.kinds.read().await.is_none()
            && let Ok(kinds) = Discovery::new(self.client.clone()).run_aggregated().await
        {
            self.kinds.write().await.get_or_insert(kinds);
        }
    }

    /// Forgets what kinds there are: a CRD has come or gone.
    pub async fn forget_kinds(&self) {
        *self.kinds.write().await = None;
    }

    /// The object in the first of these versions of its API that the cluster serves; `None` where it serves none of them.
    pub async fn served(&self, id: &ObjectId, versions: &[&str]) -> Result<Option<ObjectId>, KubeError> {
        let named = |version: &&str| ObjectId { api_version: format!("{}/{version}", id.group()), ..id.clone() };
        let known = |kinds: &Discovery| versions.iter().map(named).find(|id| kinds.resolve_gvk(&id.gvk()).is_some());
        if versions.is_empty() {
            return Ok(None);
        }
        if let Some(found) = self.kinds.read().await.as_ref().and_then(known) {
            return Ok(Some(found));
        }
        let fresh = Discovery::new(self.client.clone()).run_aggregated().await?;
        let found = known(&fresh);
        *self.kinds.write().await = Some(fresh);
        Ok(found)
    }

    async fn resource(&self, id: &ObjectId) -> Result<(ApiResource, Scope), KubeError> {
        let gvk = id.gvk();
        if let Some(known) = self.kinds.read().await.as_ref().and_then(|kinds| kinds.resolve_gvk(&gvk)) {
            return Ok((known.0, known.1.scope));
        }
        let fresh = Discovery::new(self.client.clone()).run_aggregated().await?;
        let found = fresh.resolve_gvk(&gvk);
        *self.kinds.write().await = Some(fresh);
        let unknown = || KubeError::UnknownKind { api_version: id.api_version.clone(), kind: id.kind.clone() };
        found.map(|(resource, capabilities)| (resource, capabilities.scope)).ok_or_else(unknown)
    }
}

async fn configuration(place: &Place) -> Result<Config, KubeError> {
    let mut read = written(place).await?;
    read.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    Ok(read)
}

async fn written(place: &Place) -> Result<Config, KubeError> {
    let config = |error: &dyn std::error::Error| KubeError::Config(causes(error));
    let options = KubeConfigOptions { context: place.context.clone(), ..KubeConfigOptions::default() };
    match (&place.kubeconfig, &place.context) {
        (Some(file), _) => {
            let file = Kubeconfig::read_from(file).map_err(|e| config(&e))?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(|e| config(&e))
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|e| config(&e)),
        (None, None) => Config::infer().await.map_err(|e| config(&e)),
    }
}

/// A refusal in words: the server's own message, which names the object.
fn refusal(status: &kube::core::Status) -> String {
    match status.message.is_empty() {
        true => format!("the API server refused with {} {}", status.code, status.reason),
        false => status.message.clone(),
    }
}

/// An error and what lies under it, on one line; a cause that repeats its effect is left out.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        cause = error.source();
    }
    text
}
