//! Traces of requests, for an OpenTelemetry collector: OTLP over HTTP, off unless an endpoint is set.
//!
//! A request ends before its span is sent: spans wait in a bounded queue, from which a thread of its own
//! sends them together. What does not fit is dropped. A collector that is slow or gone costs no request
//! anything but that.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use metrics::{Unit, counter, describe_counter};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, TracerProvider};
use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use stemedb_io::Clock;
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::Registry;
use ureq::http::HeaderMap;
use ureq::tls::RootCerts;

use crate::config::Telemetry;
use crate::failure::Failure;
use crate::remote;

const SPANS: &str = "stemedb_telemetry_spans_total";
const SERVICE: &str = "stemedb";
/// The span of the server around all that it does for a request.
const REQUEST: &str = "request";
/// Where a caller names its trace and its span.
const PARENT: &str = "traceparent";
/// What has come together in this time is sent.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// Longest that a collector may take for one batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that the end of a node waits for what is not sent yet.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// A collector that does not answer is spoken of no more often than this.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Where spans go: `/v1/traces` at an endpoint.
pub fn traces_url(endpoint: &str) -> Result<String, String> {
    let expected = || "expected http://HOST:PORT or https://HOST:PORT".to_owned();
    let uri: ureq::http::Uri = endpoint.parse().map_err(|_| expected())?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.query().is_none() => {
            Ok(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        }
        _ => Err(expected()),
    }
}

/// The way of spans to a collector.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Opens it, if there is an endpoint. Whether anybody listens there is not asked.
    pub fn start(telemetry: &Telemetry, clock: &Arc<dyn Clock>) -> Result<Option<Self>, Failure> {
        let Some(endpoint) = &telemetry.otlp_endpoint else { return Ok(None) };
        let failed = |problem: &dyn std::fmt::Display| {
            Failure::error(format!("telemetry.otlp_endpoint `{endpoint}`: {problem}"))
        };
        let url = traces_url(endpoint).map_err(|problem| failed(&problem))?;
        // Before the first metric is named.
        stemedb_server::install_recorder();
        describe_counter!(
            SPANS,
            Unit::Count,
            "spans of requests, by what became of them: sent, or not taken by the collector"
        );
        for result in ["sent", "failed"] {
            counter!(SPANS, "result" => result).increment(0);
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Collector(agent()))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .with_timeout(SEND_TIMEOUT)
            .build()
            .map_err(|error| failed(&error))?;
        let resource = Resource::builder_empty()
            .with_service_name(SERVICE)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let batches = BatchConfigBuilder::default().with_scheduled_delay(SEND_EVERY).build();
        let processor = BatchSpanProcessor::builder(Counted::new(exporter, Arc::clone(clock)))
            .with_batch_config(batches)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                telemetry.sample_ratio,
            ))))
            .with_resource(resource)
            .build();
        stemedb_server::join_traces(Box::new(join));
        Ok(Some(Self(provider)))
    }

    /// Takes the spans of requests.
    pub fn layer(&self) -> impl Layer<Registry> + use<> {
        let ours = |metadata: &Metadata<'_>| {
            metadata.is_span() && metadata.target().starts_with("stemedb_server")
        };
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(ours))
    }

    /// Sends what is left, within a bound.
    pub fn stop(self) {
        // What was not taken has been said and counted.
        let _ = self.0.shutdown_with_timeout(STOP_TIMEOUT);
    }
}

/// Has the span of a request join the trace of its caller (W3C Trace Context), or begin one; the id of the
/// trace.
fn join(span: &Span, headers: &HeaderMap) -> Option<String> {
    // Of two nobody can say which is meant. What is not well-formed begins a trace, too.
    if headers.get_all(PARENT).iter().count() == 1 {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // It fails only for a span that nobody takes.
        let _ = span.set_parent(parent);
    }
    let context = span.context();
    let trace = context.span().span_context().clone();
    trace.is_valid().then(|| trace.trace_id().to_string())
}

/// Trusts whom the system trusts. An answer of 400 or above is an error.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .tls_config(remote::tls(RootCerts::PlatformVerifier, None))
        .timeout_global(Some(SEND_TIMEOUT))
        .build()
        .into()
}

/// The collector, asked on the thread of the exporter.
#[derive(Debug)]
struct Collector(ureq::Agent);

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.0.run(request.map(|body| body.to_vec()))?;
        let (head, mut body) = response.into_parts();
        Ok(Response::from_parts(head, Bytes::from(body.read_to_vec()?)))
    }
}

/// Counts what an exporter takes, and speaks of it when it takes nothing.
struct Counted<E> {
    inner: E,
    clock: Arc<dyn Clock>,
    /// When it was last spoken of, in ms on the clock, and 1 at least; 0: never.
    said_at: AtomicU64,
}

impl<E> Counted<E> {
    fn new(inner: E, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock, said_at: AtomicU64::new(0) }
    }

    /// Whether it is time to speak of it.
    fn may_say(&self) -> bool {
        let now = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX).max(1);
        let every = u64::try_from(SAID_EVERY.as_millis()).unwrap_or(u64::MAX);
        let before = self.said_at.load(Ordering::Relaxed);
        let due = before == 0 || now.saturating_sub(before) >= every;
        if due {
            self.said_at.store(now, Ordering::Relaxed);
        }
        due
    }
}

impl<E: Debug> Debug for Counted<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counted").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch.into_iter().map(conventional).collect()).await;
        let label = if result.is_ok() { "sent" } else { "failed" };
        counter!(SPANS, "result" => label).increment(spans);
        if let Err(error) = &result
            && self.may_say()
        {
            tracing::warn!(spans, %error, "spans were not taken by the collector, and are dropped");
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The span in the words that tools for traces look for: those of the OpenTelemetry conventions for
/// servers of HTTP, and `stemedb.` in front of our own.
fn conventional(mut span: SpanData) -> SpanData {
    // The parts of a request say all with their name.
    if span.name != REQUEST {
        return span;
    }
    span.span_kind = SpanKind::Server;
    // It is there for lines of the log.
    span.attributes.retain(|attribute| attribute.key.as_str() != "trace_id");
    let text = |span: &SpanData, key: &str| {
        let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
        found.map(|attribute| attribute.value.to_string()).unwrap_or_default()
    };
    let (method, route) = (text(&span, "method"), text(&span, "endpoint"));
    span.name = format!("{method} {route}").into();
    for KeyValue { key, value, .. } in &mut span.attributes {
        if key.as_str() == "status" && matches!(value, Value::I64(status) if *status >= 500) {
            span.status = Status::error("");
        }
        *key = match key.as_str() {
            "method" => Key::from_static_str("http.request.method"),
            "endpoint" => Key::from_static_str("http.route"),
            "status" => Key::from_static_str("http.response.status_code"),
            "id" => Key::from_static_str("stemedb.request_id"),
            "lens" => Key::from_static_str("stemedb.lens"),
            "position" => Key::from_static_str("stemedb.position"),
            "commit_us" => Key::from_static_str("stemedb.commit_us"),
            _ => continue,
        };
    }
    span
}
