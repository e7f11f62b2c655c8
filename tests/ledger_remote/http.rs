//! A git host: `git http-backend` behind a real HTTP server in a process of its own, which can be told to misbehave.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use crate::{git_http, ledger_world::git};

/// What a clone sends to be let in.
pub const TOKEN_HEADER: &str = "Authorization: Basic cGl0b246czNjcjN0LXRva2Vu";
const TOKEN: &str = "Basic cGl0b246czNjcjN0LXRva2Vu";

const ROOT_VARIABLE: &str = "PITON_TEST_GIT_ROOT";

/// The server's process; it is gone when this is dropped, and when the test's own process is gone.
pub struct Host {
    child: Child,
    port: u16,
    root: PathBuf,
}

impl Host {
    /// Serves the repositories in this folder.
    pub fn start(root: &Path) -> Host {
        let this_binary = std::env::current_exe().expect("a test knows its binary");
        let mut command = Command::new(this_binary);
        command.args(["--exact", "http::server_process", "--ignored", "--nocapture"]);
        command.env(ROOT_VARIABLE, root).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the test binary starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("port ")?.parse().ok())
            .expect("the server says its port");
        Host { child, port, root: root.to_owned() }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/origin.git", self.port)
    }

    /// How it behaves from now on: `ok`, `hang`, `forbid`, `die before` a push, or once `die after` it.
    pub fn behave(&self, mode: &str) {
        std::fs::write(self.root.join("mode.new"), mode).expect("the mode is written");
        std::fs::rename(self.root.join("mode.new"), self.root.join("mode")).expect("the mode is there");
    }

    /// A new clone that comes through here, with the token where CI's checkout puts it.
    pub fn clone(&self, name: &str) -> PathBuf {
        let token = format!("http.extraheader={TOKEN_HEADER}");
        git(&self.root, &["-c", &token, "clone", "--quiet", &self.url(), name]);
        let dir = self.root.join(name);
        git(&dir, &["config", "http.extraheader", TOKEN_HEADER]);
        dir
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: the server, in a process of its own.
#[test]
#[ignore = "started by the other tests"]
fn server_process() {
    let root = PathBuf::from(std::env::var(ROOT_VARIABLE).expect("the test that starts this says where"));
    // The test's end of this pipe closes with its process, however it ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("\nport {}", listener.local_addr().expect("it is bound").port());
        let app = Router::new().fallback(answer).with_state(root);
        axum::serve(listener, app).await.expect("it serves");
    });
}

async fn answer(State(root): State<PathBuf>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if headers.get(header::AUTHORIZATION).is_none_or(|value| value != TOKEN) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")]).into_response();
    }
    let pushes = uri.to_string().contains("git-receive-pack");
    let mode = std::fs::read_to_string(root.join("mode")).unwrap_or_default();
    match mode.as_str() {
        "hang" => std::future::pending().await,
        "forbid" if pushes => (StatusCode::FORBIDDEN, "no").into_response(),
        "die before" if pushes && method == Method::POST => broken(),
        "die after" if pushes && method == Method::POST => {
            std::fs::write(root.join("mode"), "ok").expect("the mode is written");
            git_http::answer(root, method, uri, headers, body).await;
            broken()
        }
        _ => git_http::answer(root, method, uri, headers, body).await,
    }
}

/// An answer that begins well and breaks off.
fn broken() -> Response {
    let parts = [Ok(Bytes::from("00")), Err(std::io::Error::other("the server died"))];
    let body = Body::from_stream(futures_util::stream::iter(parts));
    ([(header::CONTENT_TYPE, "application/x-git-receive-pack-result")], body).into_response()
}
