//! Looks whether something answers on a loopback port.

use std::time::Duration;

use http_body_util::Empty;
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Says in words what was seen when it was not ready.
pub async fn check(port: u16, path: Option<&str>) -> Result<(), String> {
    let connecting = TcpStream::connect(("127.0.0.1", port));
    let Ok(Ok(stream)) = timeout(LOOK_TIMEOUT, connecting).await else { return Err(no_answer(port)) };
    let Some(path) = path else { return Ok(()) };
    match timeout(LOOK_TIMEOUT, status(stream, port, path)).await {
        Ok(Ok(status)) if status < 400 => Ok(()),
        Ok(Ok(status)) => Err(format!("GET {path} on port {port} answered {status}")),
        Ok(Err(error)) => Err(format!("GET {path} on port {port} failed: {error}")),
        Err(_) => {
            Err(format!("it listens on port {port} but did not answer GET {path} within {} s", LOOK_TIMEOUT.as_secs()))
        }
    }
}

pub fn no_answer(port: u16) -> String {
    format!("it does not listen on port {port} of 127.0.0.1")
}

async fn status(stream: TcpStream, port: u16, path: &str) -> Result<u16, hyper::Error> {
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header("host", format!("127.0.0.1:{port}")).body(Empty::<Bytes>::new());
    let request = request.expect("the path was checked with the configuration");
    let answer = async { send.send_request(request).await.map(|response| response.status().as_u16()) };
    tokio::pin!(answer);
    tokio::select! {
        status = &mut answer => status,
        // The connection may end first, with the answer read.
        _ = connection => answer.await,
    }
}
