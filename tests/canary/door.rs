//! A door to the API server that falls shut at a certain write, for good: what a runner sees that is killed there.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicIsize, Ordering},
    },
};

use http_body_util::BodyExt;
use hyper::{Method, Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use piton::clients::kube::Cluster as Kube;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

/// Where the runner dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The write was never made.
    Before,
    /// It was made, and nobody heard of it.
    After,
}

pub struct Door {
    pub kube: Kube,
    /// What went through, in this order: method, path and body.
    pub writes: Arc<Mutex<Vec<(Method, String, Vec<u8>)>>>,
    shut: Arc<Notify>,
    serving: JoinHandle<()>,
}

struct Behind {
    client: kube::Client,
    writes_left: AtomicIsize,
    cut: Cut,
    writes: Arc<Mutex<Vec<(Method, String, Vec<u8>)>>>,
    shut: Arc<Notify>,
}

impl Door {
    /// Lets so many writes through.
    pub async fn open(to: &Kube, writes: usize, cut: Cut) -> Door {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shut = Arc::new(Notify::new());
        let writes_left = AtomicIsize::new(isize::try_from(writes).expect("a few"));
        let writes = Arc::new(Mutex::default());
        let (client, log) = (to.client.clone(), writes.clone());
        let behind = Arc::new(Behind { client, writes_left, cut, writes: log, shut: shut.clone() });
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let behind = behind.clone();
                tokio::spawn(async move {
                    let pass = service_fn(|request| pass(behind.clone(), request));
                    // Who hangs up in the middle does not want to know.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), pass).await;
                });
            }
        });
        let address = format!("http://127.0.0.1:{port}").parse().expect("an address");
        let client = kube::Client::try_from(kube::Config::new(address)).expect("a client");
        Door { kube: Kube::new(client), writes, shut, serving }
    }

    /// Does it until it is done, or until the door falls shut and the one who does it is dead.
    pub async fn through<T>(&self, doing: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shut.notified() => None,
            done = doing => Some(done),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(behind: Arc<Behind>, request: Request<Incoming>) -> io::Result<hyper::Response<Body>> {
    let tried = request.uri().query().is_some_and(|query| query.contains("dryRun"));
    let writes = request.method() != Method::GET && !tried;
    let last = writes && behind.writes_left.fetch_sub(1, Ordering::SeqCst) <= 0;
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(hyper::header::HOST);
    let send = |request| behind.client.send(request);
    let cut = || {
        behind.shut.notify_one();
        io::Error::other("the door is shut")
    };
    if last && behind.cut == Cut::Before {
        return Err(cut());
    }
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes().to_vec();
    if writes {
        let entry = (parts.method.clone(), parts.uri.path().to_owned(), body.clone());
        behind.writes.lock().map_err(|_| io::Error::other("a test has failed"))?.push(entry);
    }
    let answer = send(Request::from_parts(parts, Body::from(body))).await.map_err(io::Error::other)?;
    if last { Err(cut()) } else { Ok(answer) }
}
