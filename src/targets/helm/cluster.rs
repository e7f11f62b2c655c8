//! Which cluster is meant, and that it is the one.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    clients::kube::{Cluster, KubeError, Place},
    targets::TargetError,
};

/// A cluster, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The UID of its namespace `kube-system`: `kubectl get namespace kube-system -o jsonpath={.metadata.uid}`.
    pub identity: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
}

impl ClusterConfig {
    /// Connects, and refuses any other cluster than the one that is meant.
    pub async fn connect(&self) -> Result<Cluster, TargetError> {
        let place = Place { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() };
        let cannot = |what: &str, error: KubeError| TargetError::Unreached {
            what: format!("cannot {what}"),
            source: Some(Box::new(error)),
        };
        let cluster = Cluster::connect(&place).await.map_err(|error| cannot("find the cluster", error))?;
        let found = cluster.identity().await.map_err(|error| cannot("tell which cluster this is", error))?;
        match found == self.identity {
            true => Ok(cluster),
            false => Err(TargetError::Unreached {
                what: format!(
                    "this is another cluster: its identity is `{found}`, and the pipeline means `{}`; look at the \
                     context",
                    self.identity
                ),
                source: None,
            }),
        }
    }
}
