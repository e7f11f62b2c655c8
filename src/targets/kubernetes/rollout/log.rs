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
/// What a kubelet answers, as if it were a log, of a run whose log is gone.
const NO_LOG: &str = "unable to retrieve container logs for ";
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
    let told = |log: &String| has_words(log);
    ended.ok().filter(told).or_else(|| current.ok().filter(told))
}

fn has_words(log: &str) -> bool {
    !log.trim().is_empty() && !log.starts_with(NO_LOG)
}

#[cfg(test)]
mod tests {
    use super::has_words;

    #[test]
    fn what_a_kubelet_says_in_place_of_a_log_is_none() {
        for (text, has) in [
            ("cannot start: no such table: users\n", true),
            ("", false),
            (" \n", false),
            ("unable to retrieve container logs for containerd://49503c322cd00ebb", false),
        ] {
            assert_eq!(has_words(text), has, "{text:?}");
        }
    }
}
