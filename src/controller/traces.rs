//! Sends a promotion's spans by OTLP when it has ended. Ids follow from what they name, so that a promotion that two
//! replicas tell of is one trace. A collector that is down costs only the trace.

use std::{
    pin::pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};

use crate::{clients::http::install_tls_provider, model::Stamp, report::TraceSpan};

/// The convention's variables: one for all signals, one for traces alone.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// Traces that wait for the collector; one more is dropped.
const WAITING_MAX: usize = 64;
/// The longest that one trace may take.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// The longest that leaving waits for the last ones.
const FLUSH_WITHIN: Duration = Duration::from_secs(6);

/// Where traces go. Clones share it.
#[derive(Clone)]
pub struct Traces {
    to: mpsc::SyncSender<Order>,
}

enum Order {
    Send(Vec<SpanData>),
    /// Answered when everything before it is sent.
    Flush(mpsc::Sender<()>),
}

impl Traces {
    /// `None` where no collector is named.
    pub fn from_surroundings() -> Option<Traces> {
        let named = |name: &&str| std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
        ENDPOINTS.iter().find(|name| named(name))?;
        let (to, orders) = mpsc::sync_channel(WAITING_MAX);
        // The exporter blocks, and must not be touched from a thread of the runtime.
        let started = std::thread::Builder::new().name("traces".to_owned()).spawn(move || send_all(&orders));
        match started {
            Ok(_) => Some(Traces { to }),
            Err(error) => {
                tracing::warn!(%error, "no traces: their thread cannot be started");
                None
            }
        }
    }

    /// Hands a promotion's spans over. `key` names the promotion among all.
    pub fn send(&self, key: &str, spans: &[TraceSpan]) {
        let data: Vec<SpanData> = (0..spans.len()).map(|number| span_data(key, spans, number)).collect();
        if !data.is_empty() && self.to.try_send(Order::Send(data)).is_err() {
            tracing::warn!("a trace is dropped: the collector is too slow");
        }
    }

    /// Waits until everything is sent, with an end.
    pub fn flush(&self) {
        let (done, flushed) = mpsc::channel();
        if self.to.try_send(Order::Flush(done)).is_ok() {
            // Late or never: leaving waits for no collector.
            let _ = flushed.recv_timeout(FLUSH_WITHIN);
        }
    }
}

fn send_all(orders: &mpsc::Receiver<Order>) {
    // The exporter's own client panics without one.
    install_tls_provider();
    let mut exporter = match SpanExporter::builder().with_http().with_timeout(SEND_WITHIN).build() {
        Ok(exporter) => exporter,
        Err(error) => return tracing::warn!(%error, "no traces: their exporter cannot be made"),
    };
    exporter.set_resource(&Resource::builder().with_service_name("piton").build());
    while let Ok(order) = orders.recv() {
        match order {
            Order::Send(spans) => {
                if let Err(error) = block_on(exporter.export(spans)) {
                    tracing::warn!(%error, "a trace could not be sent");
                }
            }
            // Who asked may have stopped waiting.
            Order::Flush(done) => drop(done.send(())),
        }
    }
}

fn span_data(key: &str, spans: &[TraceSpan], number: usize) -> SpanData {
    let span = &spans[number];
    let trace_id = TraceId::from_bytes(bytes_of(key));
    let id = |number: usize| SpanId::from_bytes(bytes_of(&format!("{key}/{number}")));
    let state = TraceState::default();
    let attributes = span.attributes.iter().map(|(name, value)| KeyValue::new(*name, value.clone()));
    SpanData {
        span_context: SpanContext::new(trace_id, id(number), TraceFlags::SAMPLED, false, state),
        parent_span_id: span.parent.map_or(SpanId::INVALID, id),
        parent_span_is_remote: false,
        span_kind: if span.parent.is_none() { SpanKind::Server } else { SpanKind::Internal },
        name: span.name.clone().into(),
        start_time: time_of(span.from),
        end_time: time_of(span.until),
        attributes: attributes.collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.failed.as_ref().map_or(Status::Ok, |why| Status::error(why.clone())),
        instrumentation_scope: InstrumentationScope::builder("piton").with_version(env!("CARGO_PKG_VERSION")).build(),
    }
}

/// The first bytes of the text's hash; never all zero, as a hash is not.
fn bytes_of<const N: usize>(text: &str) -> [u8; N] {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut bytes = [0; N];
    bytes.copy_from_slice(&digest.as_ref()[..N]);
    bytes
}

fn time_of(at: Stamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on a thread that belongs to no runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}
