//! What the span of a request says: to lines of the log, and to traces that are exported.
//!
//! Fields are recorded where they are known. Where nobody takes spans, that costs a look.

use std::time::Duration;

use stemedb_model::Position;
use tracing::Span;
use tracing::field::Empty;

/// The span of one request.
pub(crate) fn request(id: &str, method: &'static str, endpoint: &str) -> Span {
    tracing::error_span!(
        "request",
        id,
        method,
        endpoint,
        lens = Empty,
        position = Empty,
        commit_us = Empty,
        status = Empty
    )
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
