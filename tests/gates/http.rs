use std::time::Duration;

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
    response::Redirect,
    routing::{any, get},
};
use futures_util::{StreamExt, stream};
use piton::model::{Saw, Span};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{SECRET_VARIABLE, assert_bad, assert_blind, assert_good, look, nobody, secret, serve};

async fn ask(config: Value, url: &str) -> Saw {
    look("http", config, url, Span::seconds(20)).await
}

/// A service with good and bad days.
async fn service() -> String {
    let endless = || async {
        let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
        Body::from_stream(stream::repeat(chunk).map(Ok::<_, std::io::Error>))
    };
    let stalls = || async {
        let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::from("{\"ok\":")) });
        Body::from_stream(first.chain(stream::pending()))
    };
    let echo = |method: axum::http::Method, headers: HeaderMap, body: String| async move {
        let seen = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        axum::Json(json!({
            "method": method.as_str(),
            "authorized": seen("authorization") == format!("Bearer {}", secret()),
            "key": seen("x-key") == secret(),
            "plain": seen("x-plain"),
            "body": body,
        }))
    };
    let router = Router::new()
        .route("/ok", get(|| async { axum::Json(json!({"ok": true, "checks": [{"name": "db", "ok": true}]})) }))
        .route("/forbidden", get(|| async { (StatusCode::FORBIDDEN, [(header::WWW_AUTHENTICATE, "token")], "no") }))
        .route("/moved", get(|| async { Redirect::to("/ok") }))
        .route("/never", get(|| async { std::future::pending::<axum::response::Response>().await }))
        .route("/endless", get(endless))
        .route("/stalls", get(stalls))
        .route("/bytes", get(|| async { [b'a', 0xff, b'b'] }))
        .route("/echo", any(echo));
    serve(router).await
}

#[tokio::test]
async fn what_is_expected_is_data() {
    let url = service().await;
    for (good, says) in [
        (json!({"url": "${url}/ok"}), "200 after"),
        (json!({"url": "${url}/forbidden", "expect": {"status": [403, 424]}}), "403 after"),
        (
            json!({"url": "${url}/forbidden", "expect": {"status": 403, "headers": {"WWW-Authenticate": "token"}}}),
            "403",
        ),
        (
            json!({"url": "${url}/ok", "expect": {"body": {"json": [{"path": "$.checks[*].ok", "equals": true}]}}}),
            "200",
        ),
        (json!({"url": "${url}/ok", "expect": {"body": {"contains": "db", "regex": "\"ok\": ?true"}}}), "200"),
        (json!({"url": "${url}/bytes", "expect": {"body": {"contains": "a\u{fffd}b"}}}), "200"),
        (json!({"url": "${url}/moved", "expect": {"status": 303, "headers": {"location": {"regex": "^/ok$"}}}}), "303"),
        (json!({"url": "${url}/moved", "follow_redirects": true}), "200"),
    ] {
        assert_good(&ask(good, &url).await, says);
    }
    for (bad, says) in [
        (json!({"url": "${url}/forbidden"}), "expected status 2xx"),
        (json!({"url": "${url}/moved"}), "303"),
        (json!({"url": "${url}/none"}), "404"),
        (json!({"url": "${url}/ok", "expect": {"status": [403, "5xx"]}}), "expected status 403 or 5xx"),
        (json!({"url": "${url}/ok", "expect": {"headers": {"x-none": "1"}}}), "the header `x-none` is missing"),
        (
            json!({"url": "${url}/ok", "expect": {"headers": {"content-type": "text"}}}),
            "the header `content-type` is `appl",
        ),
        (json!({"url": "${url}/ok", "expect": {"body": {"contains": "cake"}}}), "the body does not contain `cake`"),
        (
            json!({"url": "${url}/ok", "expect": {"body": {"json": [{"path": "$.no"}]}}}),
            "the body has nothing at `$.no`",
        ),
        (json!({"url": "${url}/bytes", "expect": {"body": {"json": [{"path": "$.no"}]}}}), "the body is not JSON"),
    ] {
        assert_bad(&ask(bad, &url).await, says);
    }
}

#[tokio::test]
async fn slow_endless_and_huge_answers_are_survived() {
    let url = service().await;
    let brief = Span(700);
    let saw = look("http", json!({"url": "${url}/never"}), &url, brief).await;
    assert_bad(&saw, &format!("no answer from {url}/never within 700ms"));
    let body = json!({"body": {"json": [{"path": "$.ok"}]}});
    let saw = look("http", json!({"url": "${url}/stalls", "expect": body}), &url, brief).await;
    assert_bad(&saw, "answered 200, and its body was not complete within 700ms");
    // Nobody expects anything of these bodies, so nobody waits for them.
    assert_good(&look("http", json!({"url": "${url}/stalls"}), &url, Span::seconds(20)).await, "200");
    assert_good(&ask(json!({"url": "${url}/endless"}), &url).await, "200");
    let contains = |text: &str| json!({"url": "${url}/endless", "expect": {"body": {"contains": text}}});
    assert_good(&ask(contains("xxx"), &url).await, "200");
    assert_bad(&ask(contains("y"), &url).await, "the first 1048576 bytes of the body does not contain `y`");
    let json_of_it = json!({"url": "${url}/endless", "expect": {"body": {"json": [{"path": "$.a"}]}}});
    assert_bad(&ask(json_of_it, &url).await, "the body is longer than 1048576 bytes");
}

#[tokio::test]
async fn a_late_answer_is_bad_when_it_says_so() {
    let slow = || async {
        tokio::time::timeout(Duration::from_millis(60), std::future::pending::<()>())
            .await
            .expect_err("it never comes");
        "late"
    };
    let url = serve(Router::new().route("/", get(slow))).await;
    let config = |max: &str| json!({"url": "${url}/", "expect": {"max_latency": max}});
    assert_bad(&ask(config("50ms"), &url).await, "expected an answer within 50ms");
    assert_good(&ask(config("15s"), &url).await, "200");
}

#[tokio::test]
async fn down_is_bad_and_not_knowing_is_blind() {
    let url = nobody().await;
    assert_bad(&ask(json!({"url": "${url}/"}), &url).await, &format!("cannot connect to {url}/"));
    assert_blind(&ask(json!({"url": "http://no-such-host.invalid/"}), &url).await, "`no-such-host.invalid`");
    assert_blind(&ask(json!({"url": "${nowhere}/"}), &url).await, "known are metrics_url, url");
    assert_blind(&ask(json!({"url": "file:///etc/passwd"}), &url).await, "the scheme is `file`");
    assert_blind(&ask(json!({"url": "not an address"}), &url).await, "not an address");
    let secret_gone = json!({"url": "${url}/", "token": "PITON_NOT_SET"});
    assert_blind(&ask(secret_gone, &url).await, "the environment variable `PITON_NOT_SET` is not set");
}

#[tokio::test]
async fn broken_connections_and_foreign_protocols_are_bad() {
    for answer in ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"] {
        let url = raw(answer).await;
        let config = json!({"url": "${url}/", "expect": {"body": {"contains": "abc"}}});
        assert_bad(&ask(config, &url).await, &format!("{url}/ broke the connection"));
    }
    let url = service().await.replace("http:", "https:");
    assert_bad(&ask(json!({"url": "${url}/"}), &url).await, "cannot speak TLS with");
}

#[tokio::test]
async fn secrets_are_sent_and_never_shown() {
    let url = service().await;
    let mut config = json!({
        "url": "${url}/echo?key=value",
        "method": "POST",
        "headers": {"x-plain": "to ${url}"},
        "secret_headers": {"X-Key": SECRET_VARIABLE},
        "token": SECRET_VARIABLE,
        "body": "hello $${x}",
        "expect": {"body": {"json": [
            {"path": "$.authorized", "equals": true},
            {"path": "$.key", "equals": true},
            {"path": "$.method", "equals": "POST"},
            {"path": "$.plain", "equals": "to ${url}"},
            {"path": "$.body", "equals": "hello $${x}"},
        ]}},
    });
    assert_good(&ask(config.clone(), &url).await, "200");
    config["url"] = json!("${url}/echo?password=hunter2");
    let saw = ask(config, &nobody().await).await;
    assert_bad(&saw, "/echo?…");
    assert!(!format!("{saw:?}").contains(&secret()) && !format!("{saw:?}").contains("hunter2"), "{saw:?}");
}

/// The client works on a machine that trusts no certificate at all; that takes a process of its own.
#[tokio::test]
async fn plain_http_needs_no_trusted_certificates() {
    const CHILD: &str = "PITON_TEST_WITHOUT_CERTIFICATES";
    if std::env::var(CHILD).is_ok() {
        let url = service().await;
        assert_good(&ask(json!({"url": "${url}/ok"}), &url).await, "200");
        return;
    }
    let empty = tempfile::NamedTempFile::new().expect("a temporary file");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let name = "http::plain_http_needs_no_trusted_certificates";
    let child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", name])
        .env(CHILD, "1")
        .env("SSL_CERT_FILE", empty.path())
        .env("SSL_CERT_DIR", dir.path())
        // A proxy in the environment is not asked about this machine.
        .env("http_proxy", "http://127.0.0.1:9")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

/// Reads a request, gives exactly these bytes, and closes.
async fn raw(answer: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}
