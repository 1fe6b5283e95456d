//! One function an endpoint: wire to domain, one engine call, domain to wire.

pub(crate) mod audit;
pub(crate) mod conflicts;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod feed;
pub(crate) mod import;
pub(crate) mod index;
pub(crate) mod keys;
pub(crate) mod lens;
pub(crate) mod meta;
pub(crate) mod node;
pub(crate) mod query;
pub(crate) mod read;
pub(crate) mod trust;
pub(crate) mod wal;
pub(crate) mod whatif;
pub(crate) mod write;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use crate::error::{ApiError, ApiResult};

/// Most answers are shorter: they are written without being moved.
const ANSWER_BYTES: usize = 4 << 10;

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> ApiResult<Response> {
    let mut bytes = Vec::with_capacity(ANSWER_BYTES);
    serde_json::to_writer(&mut bytes, body)
        .map_err(|error| ApiError::internal(format!("the answer cannot be written: {error}")))?;
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}
