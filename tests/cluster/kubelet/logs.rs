//! The kubelet's own HTTPS endpoint, through which the API server reads the logs of containers.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{
    super::access,
    container::{Container, Phase},
    events::About,
};

/// What can be read of one container.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    current: Option<Vec<String>>,
    previous: Option<Vec<String>>,
    waits_for: &'static str,
}

impl Lines {
    /// While a container waits for its next start, its last run is both the current and the previous one.
    pub fn of(container: &Container) -> Lines {
        let [before, last] = &container.logs;
        let (has_run, has_ended) = (!last.is_empty(), container.ended.is_some());
        let runs = matches!(container.phase, Phase::Running { .. });
        let previous = if runs { before } else { last };
        Lines {
            current: has_run.then(|| last.clone()),
            previous: (has_ended && container.phase != Phase::Ended).then(|| previous.clone()),
            waits_for: match container.phase {
                Phase::PullError | Phase::PullBackOff => "trying and failing to pull image",
                Phase::ConfigError(_) => "CreateContainerConfigError",
                Phase::Creating => "ContainerCreating",
                Phase::Running { .. } | Phase::CrashLoop { .. } | Phase::Ended => "",
            },
        }
    }
}

/// The lines of all containers: by namespace and pod, then by container.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    pods: Arc<Mutex<BTreeMap<(String, String), BTreeMap<String, Lines>>>>,
}

impl Logs {
    pub fn publish(&self, about: &About, container: &str, lines: Lines) {
        let mut pods = self.pods.lock().expect("nobody panics while holding it");
        pods.entry(key(about)).or_default().insert(container.to_owned(), lines);
    }

    pub fn forget(&self, about: &About) {
        self.pods.lock().expect("nobody panics while holding it").remove(&key(about));
    }

    fn read(&self, namespace: &str, pod: &str, container: &str) -> Option<Lines> {
        let pods = self.pods.lock().expect("nobody panics while holding it");
        pods.get(&(namespace.to_owned(), pod.to_owned()))?.get(container).cloned()
    }
}

fn key(about: &About) -> (String, String) {
    (about.namespace.clone(), about.pod.clone())
}

/// Answers on a free port with the API server's own certificate, which that does not check; the port.
pub async fn serve(logs: Logs, certificates: &Path) -> io::Result<u16> {
    let (tls, listener) = (access::tls(certificates)?, TcpListener::bind(("127.0.0.1", 0)).await?);
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, logs) = (tls.clone(), logs.clone());
            tokio::spawn(async move {
                let answer = service_fn(|request| {
                    let answer = answer(&logs, &request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                // Who hangs up in the middle does not want to know.
                if let Ok(stream) = tls.accept(stream).await {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                }
            });
        }
    });
    Ok(port)
}

fn answer(logs: &Logs, request: &Request<Incoming>) -> Response<String> {
    let refuse =
        |status: StatusCode, text: String| Response::builder().status(status).body(text).expect("a good response");
    let path: Vec<_> = request.uri().path().trim_matches('/').split('/').collect();
    let ["containerLogs", namespace, pod, container] = path[..] else {
        return refuse(StatusCode::NOT_FOUND, format!("this kubelet only knows logs, not {}", request.uri().path()));
    };
    let Some(lines) = logs.read(namespace, pod, container) else {
        return refuse(StatusCode::NOT_FOUND, format!("pod \"{pod}\" not found"));
    };
    let query: BTreeMap<_, _> =
        request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
    let previous = query.get("previous") == Some(&"true");
    let Some(text) = (if previous { lines.previous } else { lines.current }) else {
        let why = match previous {
            true => format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"),
            false => format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {}", lines.waits_for),
        };
        return refuse(StatusCode::BAD_REQUEST, why);
    };
    let last = query.get("tailLines").and_then(|number| number.parse().ok()).unwrap_or(text.len());
    let lines = text[text.len().saturating_sub(last)..].iter().map(|line| format!("{line}\n"));
    Response::new(lines.collect())
}
