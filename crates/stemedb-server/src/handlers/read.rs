//! Single records out.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use stemedb_engine::{RecordView, View};
use stemedb_index::Entry;
use stemedb_model::{Kind, Position, RecordId};

use super::json;
use super::write::RecordIdPath;
use crate::answer::Names;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::openapi::{ReadPositionProblems, ReadRecordProblems};
use crate::question::{params, view, within};
use crate::wire::{ErrorCode, Id, RecordAnswer, RecordParams, TraceAnswer, TraceParams};

/// How far a trace goes, unless asked otherwise, and at most.
const DEPTH: usize = 8;
const DEPTH_MAX: usize = 64;
/// Records of a trace, unless asked otherwise, and at most.
const TRACED: usize = 100;
const TRACED_MAX: usize = 1_000;

/// A record of any kind, and whether it counts.
#[utoipa::path(
    get,
    path = "/v1/records/{id}",
    tag = "records",
    params(("id" = Id, Path, description = "The record"), RecordParams),
    responses(
        (status = 200, description = "The record", body = RecordAnswer),
        ReadRecordProblems
    )
)]
pub(crate) async fn record(
    State(app): State<Arc<App>>,
    caller: Caller,
    id: RecordIdPath,
    uri: Uri,
) -> ApiResult<Response> {
    answer((app, caller), id, uri, false).await
}

/// An assertion with what others said of it, and how it stands.
#[utoipa::path(
    get,
    path = "/v1/assertions/{id}",
    tag = "records",
    params(("id" = Id, Path, description = "The assertion"), RecordParams),
    responses(
        (status = 200, description = "The assertion", body = RecordAnswer),
        ReadRecordProblems
    )
)]
pub(crate) async fn assertion(
    State(app): State<Arc<App>>,
    caller: Caller,
    id: RecordIdPath,
    uri: Uri,
) -> ApiResult<Response> {
    answer((app, caller), id, uri, true).await
}

/// The record at a position, and whether it counts: 410 `lost` where damage took it.
#[utoipa::path(
    get,
    path = "/v1/positions/{position}",
    tag = "records",
    params(
        ("position" = u64, Path, description = "The position", minimum = 1,
            maximum = 9223372036854775807_i64),
        RecordParams
    ),
    responses(
        (status = 200, description = "The record", body = RecordAnswer),
        ReadPositionProblems
    )
)]
pub(crate) async fn position(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<u64>, PathRejection>,
    uri: Uri,
) -> ApiResult<Response> {
    let Path(position) =
        path.map_err(|error| ApiError::parameter("position", error.body_text()))?;
    let position = Position(position);
    let asked: RecordParams = params(&uri)?;
    let in_space = asked.space.as_ref().map(|name| caller.space(Some(name))).transpose()?;
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let found = app
        .read(move || {
            let fits = |entry: &Entry| {
                let space = &entry.signed.record().space;
                caller.sees(space) && in_space.as_ref().is_none_or(|wanted| wanted == space)
            };
            let nothing = || {
                let newest = view.position();
                let detail = format!("no record at position {position}, the newest is {newest}");
                ApiError::new(ErrorCode::RecordNotFound, detail)
            };
            let entry = view.entry(position)?.filter(fits).ok_or_else(nothing)?;
            let found = view.record_or_bare(&entry.signed.id())?.ok_or_else(nothing)?;
            Names::new(&view).record(&found, false)
        })
        .await?;
    json(StatusCode::OK, &found)
}

async fn answer(
    (app, caller): (Arc<App>, Caller),
    RecordIdPath(id): RecordIdPath,
    uri: Uri,
    assertion: bool,
) -> ApiResult<Response> {
    let asked: RecordParams = params(&uri)?;
    let in_space = asked.space.as_ref().map(|name| caller.space(Some(name))).transpose()?;
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let found = app
        .read(move || {
            let fits = |found: &RecordView| {
                let record = found.entry.signed.record();
                caller.sees(&record.space)
                    && in_space.as_ref().is_none_or(|space| *space == record.space)
                    && (!assertion || record.kind() == Kind::Assertion)
            };
            let Some(found) = view.record_or_bare(&id)?.filter(fits) else {
                return Err(missing(if assertion { "assertion" } else { "record" }, id, &view));
            };
            Names::new(&view).record(&found, assertion)
        })
        .await?;
    json(StatusCode::OK, &found)
}

/// What an assertion rests on, revises and replaces, what came of it, and what others said of all of
/// that: parents, premises, dependants and supersessions in both directions, nearest first. A vote, a
/// retraction and the like lead to the assertion that they speak of, an epoch to the claims under it.
#[utoipa::path(
    get,
    path = "/v1/trace/{id}",
    tag = "records",
    params(("id" = Id, Path, description = "The record to begin at"), TraceParams),
    responses(
        (status = 200, description = "The neighbourhood", body = TraceAnswer),
        ReadRecordProblems
    )
)]
pub(crate) async fn trace(
    State(app): State<Arc<App>>,
    caller: Caller,
    RecordIdPath(id): RecordIdPath,
    uri: Uri,
) -> ApiResult<Response> {
    let asked: TraceParams = params(&uri)?;
    let depth = within("depth", asked.depth, DEPTH, DEPTH_MAX)?;
    let limit = within("limit", asked.limit, TRACED, TRACED_MAX)?;
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let found = app
        .read(move || {
            // All that a record is tied to is in its space.
            if caller.spaces.is_some()
                && let Some(found) = view.find(&id)?
                && !caller.sees(&found.signed.record().space)
            {
                return Err(missing("record", id, &view));
            }
            let Some(found) = view.trace(&id, depth, limit)? else {
                return Err(missing("record", id, &view));
            };
            Names::new(&view).trace(&found)
        })
        .await?;
    json(StatusCode::OK, &found)
}

fn missing(what: &str, id: RecordId, view: &View) -> ApiError {
    let detail = format!("no {what} {id} in the log up to position {}", view.position());
    ApiError::new(ErrorCode::RecordNotFound, detail).id(id)
}
