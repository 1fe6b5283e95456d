//! What the span of a request says: to lines of the log, and to traces that are exported.
//!
//! Fields are recorded where they are known. Where nobody takes spans, that costs a look.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::HeaderMap;
use stemedb_model::Position;
use tracing::Span;
use tracing::field::Empty;

/// Has a new span join the trace that these headers name; the id of its trace.
pub type Join = Box<dyn Fn(&Span, &HeaderMap) -> Option<String> + Send + Sync>;

static JOIN: OnceLock<Join> = OnceLock::new();

/// Has the spans of requests join the traces of their callers. For the whole process, like whoever takes
/// the spans; the first that is given counts.
pub fn join_traces(join: Join) {
    let _ = JOIN.set(join);
}

/// The span of one request.
pub(crate) fn request(id: &str, method: &'static str, endpoint: &str, headers: &HeaderMap) -> Span {
    let span = tracing::error_span!(
        "request",
        id,
        method,
        endpoint,
        trace_id = Empty,
        lens = Empty,
        position = Empty,
        commit_us = Empty,
        status = Empty
    );
    // Before anything is done in it: a span that has begun has its trace.
    if let Some(trace) = JOIN.get().and_then(|join| join(&span, headers)) {
        span.record("trace_id", trace);
    }
    span
}

/// A part of a request that has a span of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// Whether it is answered at all: host, key, rate, room.
    Admit,
    /// A record is read, its signature verified or made, its quota taken.
    Validate,
    /// A record waits for its group to be durable and applied.
    Commit,
    /// A read waits for the position that it wants.
    Wait,
    /// The work on the index: look up, resolve.
    Read,
    /// What was done is taken down.
    Audit,
}

/// The span of a part, in the one that is current. Nothing is made of it for lines of the log, unless
/// they tell all, nor outside of requests.
pub(crate) fn part(part: Part) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    match part {
        Part::Admit => tracing::debug_span!("admit"),
        Part::Validate => tracing::debug_span!("validate"),
        Part::Commit => tracing::debug_span!("commit"),
        Part::Wait => tracing::debug_span!("wait"),
        Part::Read => tracing::debug_span!("read"),
        Part::Audit => tracing::debug_span!("audit"),
    }
}

/// The position that was written, or that the answer is of.
pub(crate) fn position(position: Position) {
    Span::current().record("position", position.0);
}

/// The lens that was asked with.
pub(crate) fn lens(name: &'static str) {
    Span::current().record("lens", name);
}

/// How long the record waited for its group to be durable and applied.
pub(crate) fn committed(took: Duration) {
    Span::current().record("commit_us", micros(took));
}

/// How it was answered. The last thing that is recorded: the line that says the same comes before.
pub(crate) fn answered(status: u16) {
    Span::current().record("status", status);
}

/// In whole microseconds.
pub(crate) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
