//! The index, for operators: bring it to the medium, make it anew.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::json as answer;
use super::node::node;
use super::wal::{SHORT, problem};
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::openapi::{CheckpointProblems, ReindexProblems};
use crate::wire::{Checkpoint, Node};

/// Seals the log and brings the index to the medium: the next start has nothing to replay up to the
/// position that is answered. Reads and writes go on.
#[utoipa::path(
    post,
    path = "/v1/admin/checkpoint",
    tag = "admin",
    responses(
        (status = 200, description = "What is on the medium", body = Checkpoint),
        CheckpointProblems
    )
)]
pub(crate) async fn checkpoint(State(app): State<Arc<App>>) -> ApiResult<Response> {
    let engine = Arc::clone(&app.engine);
    let done = tokio::task::spawn_blocking(move || engine.checkpoint(SHORT))
        .await
        .map_err(|error| ApiError::internal(format!("the checkpoint broke off: {error}")))?
        .map_err(|error| problem(&error))?;
    let body = Checkpoint {
        position: done.position.0,
        durable: done.durable.0,
        index_bytes: done.index_bytes,
        took_ms: u64::try_from(done.took.as_millis()).unwrap_or(u64::MAX),
    };
    answer(StatusCode::OK, &body)
}

/// Begins to make the index anew from the log. Reads and writes go on with the old one until the new one
/// is where it is; `rebuild` in the answer of `GET /v1/admin/node` says how far that is, and how it ended.
/// A node that is `read_only` because its index failed takes writes again afterwards.
#[utoipa::path(
    post,
    path = "/v1/admin/reindex",
    tag = "admin",
    responses((status = 202, description = "The node; it has begun", body = Node), ReindexProblems)
)]
pub(crate) async fn reindex(State(app): State<Arc<App>>) -> ApiResult<Response> {
    app.engine.reindex().map_err(|error| problem(&error))?;
    answer(StatusCode::ACCEPTED, &node(&app.engine.node()))
}
