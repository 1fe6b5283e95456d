//! Single records out.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use stemedb_engine::{ReadError, RecordView, View};
use stemedb_index::{Entry, IndexError};
use stemedb_model::{Kind, Position, RecordId};

use super::json;
use super::write::RecordIdPath;
use crate::answer::Names;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::openapi::{ReadPositionProblems, ReadRecordProblems};
use crate::question::{params, space, view};
use crate::wire::{ErrorCode, Id, RecordAnswer, RecordParams};

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
    id: RecordIdPath,
    uri: Uri,
) -> ApiResult<Response> {
    answer(app, id, uri, false).await
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
    id: RecordIdPath,
    uri: Uri,
) -> ApiResult<Response> {
    answer(app, id, uri, true).await
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
    path: Result<Path<u64>, PathRejection>,
    uri: Uri,
) -> ApiResult<Response> {
    let Path(position) =
        path.map_err(|error| ApiError::parameter("position", error.body_text()))?;
    let position = Position(position);
    let asked: RecordParams = params(&uri)?;
    let in_space = asked.space.as_ref().map(|name| space(Some(name))).transpose()?;
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let found = app
        .read(move || {
            let fits = |entry: &Entry| {
                in_space.as_ref().is_none_or(|space| *space == entry.signed.record().space)
            };
            let nothing = || {
                let newest = view.position();
                let detail = format!("no record at position {position}, the newest is {newest}");
                ApiError::new(ErrorCode::RecordNotFound, detail)
            };
            let entry = view.entry(position)?.filter(fits).ok_or_else(nothing)?;
            let found = find(&view, &entry.signed.id())?.ok_or_else(nothing)?;
            Names::new(&view).record(&found, false)
        })
        .await?;
    json(StatusCode::OK, &found)
}

async fn answer(
    app: Arc<App>,
    RecordIdPath(id): RecordIdPath,
    uri: Uri,
    assertion: bool,
) -> ApiResult<Response> {
    let asked: RecordParams = params(&uri)?;
    let in_space = asked.space.as_ref().map(|name| space(Some(name))).transpose()?;
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let found = app
        .read(move || {
            let fits = |found: &RecordView| {
                let record = found.entry.signed.record();
                in_space.as_ref().is_none_or(|space| *space == record.space)
                    && (!assertion || record.kind() == Kind::Assertion)
            };
            let Some(found) = find(&view, &id)?.filter(fits) else {
                let what = if assertion { "assertion" } else { "record" };
                let position = view.position();
                let detail = format!("no {what} {id} in the log up to position {position}");
                return Err(ApiError::new(ErrorCode::RecordNotFound, detail).id(id));
            };
            Names::new(&view).record(&found, assertion)
        })
        .await?;
    json(StatusCode::OK, &found)
}

/// A record as the view has it; one of a key with more claims than the bound without what only the
/// whole key could tell.
fn find(view: &View, id: &RecordId) -> ApiResult<Option<RecordView>> {
    match view.record(id) {
        Err(ReadError::Index(IndexError::TooLarge { .. })) => {}
        found => return Ok(found?),
    }
    let Some(position) = view.snapshot().position_of(id)? else { return Ok(None) };
    let Some(entry) = view.entry(position)? else { return Ok(None) };
    let facts = view.snapshot().facts_under(position, view.position())?;
    Ok(Some(RecordView { entry, standing: None, excluded: None, facts }))
}
