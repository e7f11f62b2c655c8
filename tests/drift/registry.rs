//! A small registry that behaves: it asks for a token, answers `HEAD`, and forgets what it is told to forget.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use piton::clients::registry::{Found, Logins, Reference, RegistryError};

#[derive(Default)]
struct Shelf {
    /// Repository and tag, or digest, to the digest.
    manifests: Mutex<BTreeMap<(String, String), String>>,
    tokens: AtomicUsize,
    closed: AtomicBool,
    broken: AtomicBool,
}

pub struct Registry {
    port: u16,
    shelf: Arc<Shelf>,
}

impl Registry {
    pub fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shelf = Arc::new(Shelf::default());
        let serving = shelf.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.closed.load(Ordering::SeqCst) {
                    return;
                }
                let shelf = serving.clone();
                // Whoever goes away in the middle has what it wanted.
                std::thread::spawn(move || shelf.serve(stream, port).ok());
            }
        });
        Registry { port, shelf }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn push(&self, repository: &str, tag: &str) {
        self.put(repository, tag, digest(&format!("{}/{repository}:{tag}", self.address())));
    }

    /// Another image under the same tag.
    pub fn push_other(&self, repository: &str, tag: &str) {
        self.put(repository, tag, digest(&format!("another {repository}:{tag}")));
    }

    fn put(&self, repository: &str, tag: &str, digest: String) {
        let mut manifests = self.shelf.manifests.lock().expect("nobody panics with it");
        manifests.insert((repository.to_owned(), digest.clone()), digest.clone());
        manifests.insert((repository.to_owned(), tag.to_owned()), digest);
    }

    pub fn remove(&self, repository: &str, tag: &str) {
        self.shelf.manifests.lock().expect("nobody panics with it").remove(&(repository.to_owned(), tag.to_owned()));
    }

    pub fn tokens_given(&self) -> usize {
        self.shelf.tokens.load(Ordering::SeqCst)
    }

    fn break_down(&self) {
        self.shelf.broken.store(true, Ordering::SeqCst);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shelf.closed.store(true, Ordering::SeqCst);
        // The one that waits for the next connection gets it, and ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// As the nodes of the test's cluster name the image of this reference.
fn digest(text: &str) -> String {
    let hash = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).expect("a hash").to_string();
    format!("sha256:{hash}{}", "0".repeat(24))
}

impl Shelf {
    fn serve(&self, mut stream: TcpStream, port: u16) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or(Ok(String::new()))?;
        let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let authorized = headers.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer let-me-in"));
        let (status, head, body) = match path.strip_prefix("/v2/") {
            _ if self.broken.load(Ordering::SeqCst) => ("503 Service Unavailable", String::new(), String::new()),
            None if path.starts_with("/token?") && path.contains("scope=repository") => {
                self.tokens.fetch_add(1, Ordering::SeqCst);
                ("200 OK", String::new(), r#"{"token":"let-me-in"}"#.to_owned())
            }
            None => ("404 Not Found", String::new(), String::new()),
            Some(rest) if !authorized => {
                let repository = rest.split("/manifests/").next().unwrap_or_default();
                let realm = format!("http://127.0.0.1:{port}/token");
                let scope = format!("repository:{repository}:pull");
                let challenge = format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"{scope}\"");
                ("401 Unauthorized", format!("www-authenticate: {challenge}\r\n"), String::new())
            }
            Some(rest) => {
                let (repository, which) = rest.split_once("/manifests/").unwrap_or((rest, ""));
                let manifests = self.manifests.lock().expect("nobody panics with it");
                match manifests.get(&(repository.to_owned(), which.to_owned())) {
                    Some(digest) => ("200 OK", format!("docker-content-digest: {digest}\r\n"), String::new()),
                    None => ("404 Not Found", String::new(), String::new()),
                }
            }
        };
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\n{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
    }
}

#[tokio::test]
async fn references_lead_to_digests_or_nowhere_or_nobody_knows() {
    let registry = Registry::start();
    registry.push("team/hub", "1.0.0");
    let at = registry.address();
    let logins = Logins::default();
    let ask = async |text: String| text.parse::<Reference>().expect("a reference").look_up(&logins).await;
    let pushed = digest(&format!("{at}/team/hub:1.0.0"));
    let by_tag = ask(format!("{at}/team/hub:1.0.0")).await.expect("it answers");
    assert_eq!(by_tag, Found::Digest(pushed.clone()));
    let by_digest = ask(format!("{at}/team/hub@{pushed}")).await.expect("it answers");
    assert_eq!(by_digest, Found::Digest(pushed));
    assert_eq!(ask(format!("{at}/team/hub:2")).await.expect("it answers"), Found::Nothing);
    assert_eq!(registry.tokens_given(), 3);
    registry.break_down();
    let error = ask(format!("{at}/team/hub:1.0.0")).await.expect_err("it is down");
    assert!(matches!(error, RegistryError::Status { status: 503, .. }), "{error}");
    drop(registry);
    assert!(matches!(ask("127.0.0.1:1/hub:1".to_owned()).await, Err(RegistryError::Http(_))), "nobody listens there");
}
