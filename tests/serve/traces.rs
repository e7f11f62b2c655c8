//! Traces, as a collector gets them.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, status::StatusCode},
};
use prost::Message;

use crate::{
    support::until,
    world::{World, production},
};

/// A collector that keeps what it is sent.
struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = spans.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                let mut length = 0;
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().expect("a number");
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("it is OTLP");
                let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
                kept.lock().expect("no panic").extend(scopes.flat_map(|scope| scope.spans));
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = reader.into_inner().write_all(answer.as_bytes());
            }
        });
        Collector { port, spans }
    }

    fn traces_of(&self, result: &str) -> Vec<Vec<Span>> {
        let spans = self.spans.lock().expect("no panic").clone();
        let roots = spans.iter().filter(|span| attribute(span, "cicd.pipeline.result").as_deref() == Some(result));
        roots.map(|root| spans.iter().filter(|span| span.trace_id == root.trace_id).cloned().collect()).collect()
    }
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => panic!("not a text: {other:?}"),
    }
}

#[test]
fn promotions_and_rollbacks_are_traces() {
    let collector = Collector::start();
    let world = World::new(&production("200ms"));
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let controller = world.serve_with("a", &variables, &["--no-lease", "--poll", "300ms"]);
    world.until_promoted("production", "1.0.0");
    world.push("1.1.0-bad");
    let good = until("the trace of a promotion", || collector.traces_of("success").pop());
    let bad = until("the trace of a rollback", || collector.traces_of("failure").pop());
    check(
        &good,
        &["RUN shop", "step preflight", "step deploy", "step 10%", "gate fine", "apply", "shift to 50%", "step bake"],
    );
    check(&bad, &["RUN shop", "gate fine", "rollback", "retreat"]);
    let root = bad.iter().find(|span| span.parent_span_id.is_empty()).expect("a root");
    assert_eq!(root.status.as_ref().map(|status| status.code()), Some(StatusCode::Error));
    assert_eq!(attribute(root, "error.type").as_deref(), Some("fine"));
    assert_eq!(attribute(root, "deployment.environment.name").as_deref(), Some("production"));
    assert!(attribute(root, "vcs.ref.head.revision").is_some_and(|id| id.len() == 40));
    controller.leave().ends(0);
}

/// Exactly one root, every other span has its parent in the trace, none ends before it begins, and each is named as the
/// conventions for CI/CD require.
fn check(trace: &[Span], names: &[&str]) {
    let all: Vec<&str> = trace.iter().map(|span| span.name.as_str()).collect();
    for name in names {
        assert!(all.contains(name), "no {name} in {all:?}");
    }
    assert_eq!(trace.iter().filter(|span| span.parent_span_id.is_empty()).count(), 1, "{all:?}");
    for span in trace {
        let root = span.parent_span_id.is_empty();
        assert!(root || trace.iter().any(|parent| parent.span_id == span.parent_span_id), "{span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        let (run, address) = match root {
            true => ("cicd.pipeline.run.id", "cicd.pipeline.run.url.full"),
            false => ("cicd.pipeline.task.run.id", "cicd.pipeline.task.run.url.full"),
        };
        let run = attribute(span, run).unwrap_or_else(|| panic!("it has no id: {span:?}"));
        let address = attribute(span, address).unwrap_or_else(|| panic!("it has no address: {span:?}"));
        assert!(address.starts_with("file:///") && address.ends_with(&format!("#{run}")), "{address}");
        if !root {
            let result = attribute(span, "cicd.pipeline.task.run.result").expect("a result");
            assert_eq!(attribute(span, "error.type").is_some(), result != "success", "{span:?}");
        }
    }
    let mut runs: Vec<_> = trace.iter().filter_map(|span| attribute(span, "cicd.pipeline.task.run.id")).collect();
    runs.sort();
    let count = runs.len();
    runs.dedup();
    assert_eq!(runs.len(), count, "each run has an id of its own: {runs:?}");
}
