//! The audit of reads, read.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::json;
use crate::app::App;
use crate::audit::Filter;
use crate::cursor::{Cursor, hash_of};
use crate::error::{ApiError, ApiResult};
use crate::openapi::{AuditEntryProblems, AuditProblems};
use crate::question::{params, within};
use crate::wire::{AuditEntry, AuditPage, AuditParams, ErrorCode};

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// Who asked what and was told what, newest first. An entry is shown once it is durable.
#[utoipa::path(
    get,
    path = "/v1/audit/queries",
    operation_id = "audit_queries",
    tag = "admin",
    params(AuditParams),
    responses((status = 200, description = "A page", body = AuditPage), AuditProblems)
)]
pub(crate) async fn queries(State(app): State<Arc<App>>, uri: Uri) -> ApiResult<Response> {
    let asked: AuditParams = params(&uri)?;
    let limit = within("limit", asked.limit, LIMIT, LIMIT_MAX)?;
    let hash = hash_of(&AuditParams { cursor: None, limit: None, ..asked.clone() });
    let before = match &asked.cursor {
        None => u64::MAX,
        Some(text) => before(text, &hash)?,
    };
    let filter = Filter {
        principal: asked.principal,
        subject: asked.subject.map(|subject| subject.0),
        endpoint: asked.endpoint,
        from: asked.from.map(|from| from.0),
        to: asked.to.map(|to| to.0),
    };
    let reading = Arc::clone(&app);
    let (entries, next) = app.read(move || reading.audit.list(&filter, before, limit)).await?;
    json(StatusCode::OK, &AuditPage { entries, cursor: next.map(|next| cursor(next, &hash)) })
}

/// One entry of the audit.
#[utoipa::path(
    get,
    path = "/v1/audit/query/{id}",
    operation_id = "audit_query",
    tag = "admin",
    params(("id" = u64, Path, description = "The number of the entry", minimum = 1,
        maximum = 9223372036854775807_i64)),
    responses((status = 200, description = "The entry", body = AuditEntry), AuditEntryProblems)
)]
pub(crate) async fn query(
    State(app): State<Arc<App>>,
    path: Result<Path<u64>, PathRejection>,
) -> ApiResult<Response> {
    let Path(id) = path.map_err(|error| ApiError::parameter("id", error.body_text()))?;
    let reading = Arc::clone(&app);
    let found = app.read(move || reading.audit.find(id)).await?;
    let entry = found.ok_or_else(|| {
        let detail = format!("no entry {id} in the audit, the newest is {}", app.audit.last());
        ApiError::new(ErrorCode::AuditEntryNotFound, detail)
    })?;
    json(StatusCode::OK, &entry)
}

/// Hex of: version, a hash of the question, the number of the entry that the page before ended with.
fn cursor(before: u64, question: &[u8; 8]) -> String {
    hex::encode([&[VERSION][..], question, &before.to_be_bytes()].concat())
}

const VERSION: u8 = 1;

fn before(text: &str, question: &[u8; 8]) -> ApiResult<u64> {
    let bytes = hex::decode(text).unwrap_or_default();
    let parts = bytes.split_first().and_then(|(version, rest)| {
        let (of, rest) = rest.split_first_chunk::<8>()?;
        let before = u64::from_be_bytes(rest.try_into().ok()?);
        (*version == VERSION).then_some((*of, before))
    });
    match parts {
        Some((of, before)) if of == *question => Ok(before),
        Some(_) => Err(Cursor::mismatch()),
        None => Err(ApiError::parameter("cursor", "is not one that an answer gave")),
    }
}
