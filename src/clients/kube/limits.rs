//! How long the API server may take: a connection that died unnoticed must not hold an act until its own deadline.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, Uri};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, DynBody},
};
use tower::{BoxError, Layer, Service};

/// How long a connection may take to come up.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Watches that nothing happens on are ended by the server after some five minutes; one that is silent for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(310);

/// How long one request may take, its repetitions at an overloaded server included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub read: Duration,
    /// Admission webhooks have up to 30 seconds.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { read: Duration::from_secs(20), write: Duration::from_secs(40) }
    }
}

/// A client whose every request ends.
pub fn client(mut config: Config, limits: Limits) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(CONNECT_WITHIN);
    config.read_timeout = Some(SILENCE_MAX);
    // The time that a connection lay idle does not count.
    config.reset_reader_on_write = true;
    Ok(ClientBuilder::try_from(config)?.with_layer(&limits).build())
}

/// What bounds each request to the service under it.
pub struct Bounded<S> {
    service: S,
    limits: Limits,
}

impl<S> Layer<S> for Limits {
    type Service = Bounded<S>;

    fn layer(&self, service: S) -> Bounded<S> {
        Bounded { service, limits: *self }
    }
}

type Answer = Response<Box<DynBody>>;

impl<S> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Answer, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = if request.method() == Method::GET { self.limits.read } else { self.limits.write };
        let flows = flows(request.uri());
        let asked = self.service.call(request);
        Box::pin(async move {
            let answered = tokio::time::timeout(limit, async {
                let answer = asked.await?;
                if flows { Ok(answer) } else { whole(answer).await }
            });
            answered.await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}").into()))
        })
    }
}

/// Whether the answer has no end of its own: then only its beginning is waited for.
fn flows(uri: &Uri) -> bool {
    let said = |pair: &str| matches!(pair, "watch=true" | "watch=1" | "follow=true" | "follow=1");
    uri.query().is_some_and(|query| query.split('&').any(said))
}

/// The answer with all of its body.
async fn whole(answer: Answer) -> Result<Answer, BoxError> {
    let (head, body) = answer.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let body: Box<DynBody> = Box::new(Full::new(bytes).map_err(BoxError::from));
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
    use kube::{
        Api,
        api::{PostParams, WatchParams},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::clients::kube::{Cluster, KubeError};

    /// Takes every connection, and on each request says what it is told to, then nothing more.
    async fn mute(says: &'static str) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it has one");
        tokio::spawn(async move {
            let mut kept: Vec<TcpStream> = Vec::new();
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = [0; 4096];
                if connection.read(&mut request).await.is_ok() && connection.write_all(says.as_bytes()).await.is_ok() {
                    kept.push(connection);
                }
            }
        });
        crate::clients::http::install_tls_provider();
        let config = Config::new(format!("http://{address}").parse().expect("an address"));
        let brief = Duration::from_millis(300);
        client(config, Limits { read: brief, write: brief * 2 }).expect("a client")
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        // Not even a head, or a head and no body.
        for says in ["", HEAD] {
            let client = mute(says).await;
            let error = Cluster::new(client.clone()).identity().await.expect_err("there is no answer");
            assert!(matches!(&error, KubeError::Unreachable(why) if why == "no answer within 300ms"), "{error}");
            let maps: Api<ConfigMap> = Api::default_namespaced(client);
            let error =
                maps.create(&PostParams::default(), &ConfigMap::default()).await.expect_err("there is no answer");
            assert!(KubeError::from(error).to_string().ends_with("no answer within 600ms"));
        }
    }

    #[tokio::test]
    async fn a_watch_may_be_silent_once_it_has_begun() {
        let begun: Api<Namespace> = Api::all(mute(HEAD).await);
        let stream = begun.watch(&WatchParams::default(), "0").await.expect("it has begun");
        let mut stream = std::pin::pin!(stream);
        // Longer than any limit: until a request that began after it has run into one.
        let other = Cluster::new(mute("").await);
        tokio::select! {
            next = stream.next() => panic!("nothing was said, and this came: {next:?}"),
            answer = other.identity() => drop(answer.expect_err("there is no answer")),
        }
        let never: Api<Namespace> = Api::all(mute("").await);
        assert!(never.watch(&WatchParams::default(), "0").await.is_err(), "it has not begun");
    }

    #[test]
    fn only_what_flows_is_left_to_flow() {
        let flows = |path: &str| super::flows(&path.parse().expect("a path"));
        assert!(flows("/api/v1/pods?limit=5&watch=true") && flows("/api/v1/x/log?follow=true"));
        assert!(
            !flows("/api/v1/pods?limit=5")
                && !flows("/api/v1/pods/watch=true")
                && !flows("/x?labelSelector=watch%3Dtrue")
        );
    }
}
