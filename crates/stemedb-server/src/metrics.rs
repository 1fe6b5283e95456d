//! What the server exports, and the one recorder behind it.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::span;
use crate::wire::{ErrorCode, KeyRole};

const REQUESTS: &str = "stemedb_http_requests_total";
const REQUEST_SECONDS: &str = "stemedb_http_request_duration_seconds";
const WRITE_STEP_SECONDS: &str = "stemedb_write_step_duration_seconds";
const IN_FLIGHT: &str = "stemedb_http_in_flight";
const REJECTED: &str = "stemedb_requests_rejected_total";
const QUERIES: &str = "stemedb_queries_total";
const QUERY_SECONDS: &str = "stemedb_query_latency_seconds";
const KEYS: &str = "stemedb_api_keys";
const CERTIFICATE: &str = "stemedb_tls_certificate_expiry_timestamp_seconds";
const RELOADS: &str = "stemedb_config_reloads_total";
const BUILD_INFO: &str = "stemedb_build_info";

/// Upper bounds of the latency histograms, in seconds: from a cached read to the request timeout.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// Upper bounds of histograms that count records.
const RECORDS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];
/// Durations that are histograms. Whatever is not named here or in [`COUNTED`] is a summary:
/// `stemedb_wal_fsync_duration_seconds` is one by contract.
const TIMED: [&str; 5] = [
    REQUEST_SECONDS,
    QUERY_SECONDS,
    WRITE_STEP_SECONDS,
    "stemedb_storage_operation_duration_seconds",
    "stemedb_wal_fsync_latency_seconds",
];
/// Numbers of records that are histograms.
const COUNTED: [&str; 1] = ["stemedb_wal_batch_size"];
/// Quantiles of summaries.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];
/// How often histograms are gathered in when nobody scrapes, so that they do not grow.
pub(crate) const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The endpoints that answer questions; the label of the query metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Question {
    Explain,
    Layered,
    Query,
    Replay,
    Resolve,
    Skeptic,
}

impl Question {
    const ALL: [Self; 6] =
        [Self::Explain, Self::Layered, Self::Query, Self::Replay, Self::Resolve, Self::Skeptic];

    fn as_str(self) -> &'static str {
        match self {
            Self::Explain => "/v1/explain",
            Self::Layered => "/v1/layered",
            Self::Query => "/v1/query",
            Self::Replay => "/v1/replay",
            Self::Resolve => "/v1/resolve",
            Self::Skeptic => "/v1/skeptic",
        }
    }
}

/// A part of the walk of one record; the `step` label.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WriteStep {
    /// JSON to fields.
    Parse,
    /// Canonical bytes, id, signature.
    Verify,
    /// From the queue to the acknowledgement.
    Commit,
}

impl WriteStep {
    fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Verify => "verify",
            Self::Commit => "commit",
        }
    }
}

/// The Prometheus text.
#[derive(Clone)]
pub(crate) struct Metrics {
    handle: Option<PrometheusHandle>,
    process: metrics_process::Collector,
}

/// Installs the recorder of this process, if none is there yet: before the log and the engine
/// open, so that what they set to 0 is exported. Further calls change nothing.
pub fn install_recorder() {
    recorder();
}

fn recorder() -> Option<PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            install().inspect_err(|error| tracing::error!(%error, "metrics are not exported")).ok()
        })
        .clone()
}

/// Fails only if somebody else installed a recorder, whose metrics cannot be shown here.
fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new().set_quantiles(&QUANTILES)?;
    for name in TIMED {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.into()), &SECONDS)?;
    }
    for name in COUNTED {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.into()), &RECORDS)?;
    }
    builder.install_recorder()
}

impl Metrics {
    pub(crate) fn install(commit: &str) -> Self {
        let handle = recorder();
        let process = metrics_process::Collector::default();
        process.describe();
        describe_counter!(REQUESTS, Unit::Count, "requests answered");
        describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "time to the head of the answer");
        describe_histogram!(
            WRITE_STEP_SECONDS,
            Unit::Seconds,
            "steps of requests that write one record, by step"
        );
        describe_gauge!(IN_FLIGHT, Unit::Count, "requests being worked on");
        describe_counter!(QUERIES, Unit::Count, "questions answered, one for each key and lens");
        describe_histogram!(QUERY_SECONDS, Unit::Seconds, "time to answer a question");
        describe_gauge!(KEYS, Unit::Count, "live API keys, by role");
        describe_gauge!(
            CERTIFICATE,
            Unit::Seconds,
            "when the TLS certificate ends to be valid, since the unix epoch; 0 without TLS"
        );
        describe_counter!(RELOADS, Unit::Count, "reloads of the configuration, by result");
        gauge!(CERTIFICATE).set(0.0);
        for result in ["taken", "refused"] {
            counter!(RELOADS, "result" => result).increment(0);
        }
        describe_gauge!(BUILD_INFO, Unit::Count, "always 1; the labels say what runs");
        gauge!(IN_FLIGHT).set(0.0);
        let labels =
            [("version", env!("CARGO_PKG_VERSION").to_owned()), ("commit", commit.to_owned())];
        gauge!(BUILD_INFO, &labels).set(1.0);
        for code in ErrorCode::ALL {
            counter!(REJECTED, "reason" => code.as_str()).increment(0);
        }
        for question in Question::ALL {
            for lens in lens_labels() {
                counter!(QUERIES, "endpoint" => question.as_str(), "lens" => lens).increment(0);
            }
        }
        Self { handle, process }
    }

    /// Sets the request counters of an endpoint to 0.
    pub(crate) fn known(&self, endpoint: &str, method: &str, status: &str) {
        let labels = [
            ("endpoint", endpoint.to_owned()),
            ("method", method.to_owned()),
            ("status", status.to_owned()),
        ];
        counter!(REQUESTS, &labels).increment(0);
    }

    /// The text that Prometheus scrapes.
    pub(crate) fn render(&self) -> Option<String> {
        self.process.collect();
        self.handle.as_ref().map(PrometheusHandle::render)
    }

    /// Gathers in what histograms have taken since the last time.
    pub(crate) fn upkeep(&self) {
        if let Some(handle) = &self.handle {
            handle.run_upkeep();
        }
    }

    /// Counts the request as in flight while the result lives: also one whose caller goes away,
    /// which ends without an answer.
    pub(crate) fn request_began(&self) -> InFlight {
        gauge!(IN_FLIGHT).increment(1.0);
        InFlight
    }

    pub(crate) fn request_ended(
        &self,
        endpoint: &str,
        method: &'static str,
        status: u16,
        took: Duration,
    ) {
        let labels = [
            ("endpoint", endpoint.to_owned()),
            ("method", method.to_owned()),
            ("status", status.to_string()),
        ];
        counter!(REQUESTS, &labels).increment(1);
        histogram!(REQUEST_SECONDS, "endpoint" => endpoint.to_owned()).record(took);
    }

    /// A step of a write ended well.
    pub(crate) fn write_step(&self, step: WriteStep, took: Duration) {
        histogram!(WRITE_STEP_SECONDS, "step" => step.as_str()).record(took);
    }

    /// So many live API keys have this role.
    pub(crate) fn keys(&self, role: KeyRole, live: usize) {
        gauge!(KEYS, "role" => role.as_str()).set(live as f64);
    }

    /// When the certificate ends; 0 without TLS.
    pub(crate) fn certificate(&self, end: stemedb_model::Millis) {
        gauge!(CERTIFICATE).set(end.0 as f64 / 1_000.0);
    }

    /// The configuration was read again, and taken or not.
    pub(crate) fn reloaded(&self, taken: bool) {
        counter!(RELOADS, "result" => if taken { "taken" } else { "refused" }).increment(1);
    }

    pub(crate) fn rejected(&self, code: ErrorCode) {
        counter!(REJECTED, "reason" => code.as_str()).increment(1);
    }

    /// `lens` is `None` for a page of assertions.
    pub(crate) fn asked(
        &self,
        question: Question,
        lens: Option<stemedb_lens::LensName>,
        answers: u64,
    ) {
        let lens = lens.map_or(NO_LENS, stemedb_lens::LensName::as_str);
        span::lens(lens);
        counter!(QUERIES, "endpoint" => question.as_str(), "lens" => lens).increment(answers);
    }

    pub(crate) fn answered(&self, question: Question, took: Duration) {
        histogram!(QUERY_SECONDS, "endpoint" => question.as_str()).record(took);
    }
}

/// A request that is being worked on.
pub(crate) struct InFlight;

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(IN_FLIGHT).decrement(1.0);
    }
}

const NO_LENS: &str = "none";
/// All lenses of one's own: their names are not ours to count by.
const CUSTOM: &str = "custom";

fn lens_labels() -> impl Iterator<Item = &'static str> {
    stemedb_lens::LensName::ALL.into_iter().map(|lens| lens.as_str()).chain([CUSTOM, NO_LENS])
}
