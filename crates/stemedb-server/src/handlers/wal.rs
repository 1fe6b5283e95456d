//! The log, for operators: seal, take it off its file system and put it back, acknowledge.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use stemedb_engine::{Engine, EngineError};
use stemedb_log::{ErrorKind, LogError};

use super::json as answer;
use super::node::node;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::openapi::WalProblems;
use crate::wire::{ErrorCode, Node};

/// What the log may take for a few small files.
pub(super) const SHORT: Duration = Duration::from_secs(60);
/// What it may take to read all of it.
const LONG: Duration = Duration::from_secs(3600);

pub(super) fn problem(error: &EngineError) -> ApiError {
    let code = match error {
        EngineError::Log(LogError::Locked { .. }) => ErrorCode::WrongState,
        EngineError::Log(error) if error.kind() == ErrorKind::Caller => ErrorCode::WrongState,
        EngineError::NotReady { .. } | EngineError::Rebuilding => ErrorCode::WrongState,
        EngineError::Index(_) => ErrorCode::IndexFailed,
        EngineError::Thread(_) => ErrorCode::Internal,
        _ => ErrorCode::WalUnavailable,
    };
    ApiError::new(code, error.to_string())
}

/// Asks the log on a thread that may block, and answers with the node afterwards.
async fn ask(
    app: &Arc<App>,
    act: impl FnOnce(&Engine) -> Result<(), EngineError> + Send + 'static,
) -> ApiResult<Response> {
    let engine = Arc::clone(&app.engine);
    tokio::task::spawn_blocking(move || act(&engine))
        .await
        .map_err(|error| ApiError::internal(format!("the request broke off: {error}")))?
        .map_err(|error| problem(&error))?;
    answer(StatusCode::OK, &node(&app.engine.node()))
}

/// Writes the newest watermark into the log: whoever reads its files then knows that all of it was
/// durable.
#[utoipa::path(
    post,
    path = "/v1/admin/wal/seal",
    tag = "admin",
    responses((status = 200, description = "The node afterwards", body = Node), WalProblems)
)]
pub(crate) async fn seal(State(app): State<Arc<App>>) -> ApiResult<Response> {
    ask(&app, |engine| engine.seal_log(SHORT)).await
}

/// Closes every file of the log, so that its file system can be unmounted and checked. Writes are
/// refused until it is attached; reads go on. Refused while other files of the node lie there.
#[utoipa::path(
    post,
    path = "/v1/admin/wal/detach",
    tag = "admin",
    responses((status = 200, description = "The node afterwards", body = Node), WalProblems)
)]
pub(crate) async fn detach(State(app): State<Arc<App>>) -> ApiResult<Response> {
    ask(&app, |engine| engine.detach_log(SHORT)).await
}

/// Reads all of the log, proves that everything durable is there, and takes writes again. Also for
/// a log that stopped where it cannot judge by itself what its file system holds.
#[utoipa::path(
    post,
    path = "/v1/admin/wal/attach",
    tag = "admin",
    responses((status = 200, description = "The node afterwards", body = Node), WalProblems)
)]
pub(crate) async fn attach(State(app): State<Arc<App>>) -> ApiResult<Response> {
    ask(&app, |engine| engine.attach_log(LONG)).await
}

/// Somebody has seen why the log is degraded: it is no more.
///
/// Also that the clock jumped: writes are taken by the clock as it is now.
#[utoipa::path(
    post,
    path = "/v1/admin/wal/acknowledge",
    tag = "admin",
    responses((status = 200, description = "The node afterwards", body = Node), WalProblems)
)]
pub(crate) async fn acknowledge(State(app): State<Arc<App>>) -> ApiResult<Response> {
    ask(&app, |engine| {
        engine.acknowledge_clock();
        engine.acknowledge_log(SHORT).map(drop)
    })
    .await
}
