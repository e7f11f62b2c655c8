//! A connection whose credentials may end in the middle: they are read again when the API server refuses them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper::{Request, Response, StatusCode};
use kube::{Client, Config, client::Body};

use super::{
    KubeError, Place, causes,
    limits::{self, Limits},
    skew::Skew,
};
use crate::clients::clock::{Clock, SystemClock};

/// Credentials are not read more often than this: a plugin may have to ask somebody far away.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Time to log in with, for a person too.
const PLUGIN_WITHIN: Duration = Duration::from_secs(60);

/// Makes a client that takes fresh credentials up: from a token file, a plugin, or a kubeconfig that was written anew.
pub async fn client(place: &Place) -> Result<Client, KubeError> {
    let first = fresh(place).await?;
    let namespace = first.default_namespace().to_owned();
    let current = Current { client: first, number: 0, read: Instant::now() };
    let bearer = Arc::new(Bearer { place: place.clone(), current: Mutex::new(current), skew: Skew::default() });
    let service = tower::service_fn(move |request| {
        let bearer = bearer.clone();
        async move { bearer.send(request).await }
    });
    Ok(Client::new(service, namespace))
}

struct Bearer {
    place: Place,
    current: Mutex<Current>,
    skew: Skew,
}

/// The client with the credentials that were read last, whichever time that was.
struct Current {
    client: Client,
    number: u64,
    read: Instant,
}

impl Bearer {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let (parts, body) = request.into_parts();
        let again = body.try_clone().map(|body| Request::from_parts(parts.clone(), body));
        let (client, number) = {
            let current = self.current();
            (current.client.clone(), current.number)
        };
        let sent = SystemClock.now();
        let answer = client.send(Request::from_parts(parts, body)).await?;
        if let Some(told) = self.skew.heard(answer.headers(), sent, SystemClock.now()) {
            tracing::warn!("{told}");
        }
        let Some(again) = again.filter(|_| answer.status() == StatusCode::UNAUTHORIZED) else { return Ok(answer) };
        // A request that was refused for who sent it has done nothing, and may be sent again.
        match self.renewed(number).await {
            Some(client) => client.send(again).await,
            None => Ok(answer),
        }
    }

    /// A client with other credentials than those that were refused, as far as there may be any.
    async fn renewed(&self, refused: u64) -> Option<Client> {
        {
            let mut current = self.current();
            if current.number != refused {
                return Some(current.client.clone());
            }
            if current.read.elapsed() < READ_AGAIN_AFTER {
                return None;
            }
            current.read = Instant::now();
        }
        let client = fresh(&self.place).await.ok()?;
        let mut current = self.current();
        (current.client, current.number) = (client.clone(), refused + 1);
        Some(client)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the configuration and its credentials as they are at this moment.
async fn fresh(place: &Place) -> Result<Client, KubeError> {
    made(super::configuration(place).await?, PLUGIN_WITHIN).await
}

/// A plugin is a program that is waited for: not where others wait too, and not for ever.
async fn made(config: Config, within: Duration) -> Result<Client, KubeError> {
    let made = tokio::task::spawn_blocking(move || limits::client(config, Limits::default()));
    match tokio::time::timeout(within, made).await {
        Ok(Ok(made)) => made.map_err(|error| KubeError::Config(causes(&error))),
        Ok(Err(error)) => Err(KubeError::Config(causes(&error))),
        Err(_) => Err(KubeError::Config(format!(
            "the program that the kubeconfig names for credentials did not end within {within:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use nix::{sys::stat::Mode, unistd::mkfifo};
    use serde_json::json;

    use super::*;
    use crate::clients::kube::configuration;

    #[tokio::test]
    async fn a_plugin_that_hangs_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let (never, kubeconfig) = (folder.path().join("never"), folder.path().join("config"));
        mkfifo(&never, Mode::S_IRWXU).expect("room on the disk");
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [&never], "interactiveMode": "Never",
        });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": "https://127.0.0.1:1"}}],
            "users": [{"name": "me", "user": {"exec": exec}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).expect("room on the disk");
        crate::clients::http::install_tls_provider();
        let config = configuration(&Place { kubeconfig: Some(kubeconfig), context: None }).await.expect("it is right");
        let said = made(config, Duration::from_millis(200)).await.err().map(|error| error.to_string());
        // It is let go, or it would outlive us.
        std::fs::OpenOptions::new().write(true).open(&never).expect("it is there");
        assert!(said.as_ref().is_some_and(|said| said.contains("did not end within 200ms")), "{said:?}");
    }
}
