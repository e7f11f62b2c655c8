//! The last words of a container, fetched within a moment: they explain a decision and never delay it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};
use tokio::time::timeout;

use crate::{
    clients::kube::Cluster,
    targets::kubernetes::health::{LOG_LINES_MAX, Trouble},
};

/// A decision waits no longer than this for its log.
const LOG_WITHIN: Duration = Duration::from_secs(1);
/// More bytes are not read, however long the lines are.
const LOG_BYTES_MAX: i64 = 16 * 1024;

/// Adds the end of the log of the container in trouble, where it has one and we may read it.
pub(super) async fn with_log(cluster: &Cluster, trouble: Trouble) -> Trouble {
    let Some((namespace, pod)) = trouble.pod_place() else { return trouble };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let read = last_lines(&pods, pod, trouble.container.as_deref());
    match timeout(LOG_WITHIN, read).await {
        Ok(Some(text)) => trouble.with_log(&text),
        Ok(None) | Err(_) => trouble,
    }
}

/// The log of the run that ended, or of the one that goes on; the other one may be empty or gone.
async fn last_lines(pods: &Api<Pod>, pod: &str, container: Option<&str>) -> Option<String> {
    let params = |previous: bool| LogParams {
        container: container.map(str::to_owned),
        previous,
        tail_lines: i64::try_from(LOG_LINES_MAX).ok(),
        limit_bytes: Some(LOG_BYTES_MAX),
        ..LogParams::default()
    };
    let (ended, current) = (params(true), params(false));
    let (ended, current) = futures_util::join!(pods.logs(pod, &ended), pods.logs(pod, &current));
    let words = |text: &String| !text.trim().is_empty();
    ended.ok().filter(words).or_else(|| current.ok().filter(words))
}
