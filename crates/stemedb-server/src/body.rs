//! Bodies: how much, how long, of what type.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, header};
use http_body_util::BodyExt;

use crate::audit::Note;
use crate::error::{ApiError, ApiResult};
use crate::wire::ErrorCode;

/// How much of a refused body is still read, so that a client which writes before it reads gets
/// the answer instead of a broken connection.
const DISCARD_BYTES_MAX: usize = 16 << 20;
/// How long that may take.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);

/// The types that a JSON body may have.
pub(crate) const JSON: &[&str] = &["application/json"];
/// The types that an import may have.
pub(crate) const NDJSON: &[&str] = &["application/x-ndjson", "application/ndjson"];

/// Refuses a body of another type.
pub(crate) fn check_type(headers: &HeaderMap, expected: &[&str]) -> ApiResult<()> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = found.and_then(|found| found.split(';').next()).map(str::trim);
    if essence.is_some_and(|found| expected.iter().any(|one| found.eq_ignore_ascii_case(one))) {
        return Ok(());
    }
    let detail = format!(
        "Content-Type is {}, expected {}",
        found.unwrap_or("missing"),
        expected.join(" or ")
    );
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail).field("Content-Type"))
}

/// Refuses a body that is packed in a way which is not unpacked here.
pub(crate) fn check_encoding(headers: &HeaderMap) -> ApiResult<()> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let fine = |value: &[u8]| {
        value.eq_ignore_ascii_case(b"gzip") || value.eq_ignore_ascii_case(b"identity")
    };
    match (values.next(), values.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if fine(one.as_bytes()) => Ok(()),
        _ => {
            let detail = "Content-Encoding: expected gzip or identity, once";
            Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail).field("Content-Encoding"))
        }
    }
}

/// Reads a whole JSON body.
pub(crate) async fn read_json(
    request: Request<Body>,
    bytes_max: usize,
    timeout: Duration,
) -> ApiResult<Bytes> {
    let checked = check_type(request.headers(), JSON);
    let note = request.extensions().get::<Note>().cloned();
    let mut body = request.into_body();
    let read = async {
        checked?;
        read_all(&mut body, bytes_max, timeout).await
    };
    match read.await {
        Ok(bytes) => {
            if let Some(note) = note {
                note.leave(&bytes);
            }
            Ok(bytes)
        }
        Err(error) => {
            discard(body).await;
            Err(error)
        }
    }
}

async fn read_all(body: &mut Body, bytes_max: usize, timeout: Duration) -> ApiResult<Bytes> {
    let mut bytes = Vec::new();
    let read = async {
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if data.len() > bytes_max - bytes.len() {
                let detail = format!("the body is longer than {bytes_max} bytes, unpacked");
                return Err(ApiError::new(ErrorCode::BodyTooLarge, detail));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(())
    };
    tokio::time::timeout(timeout, read).await.map_err(|_| too_slow(timeout))??;
    Ok(bytes.into())
}

/// Reads the rest of a body that nobody wants, within bounds.
pub(crate) async fn discard(mut body: Body) {
    let read = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len);
            if len > left {
                break;
            }
            left -= len;
        }
    };
    // Whether it came to an end makes no difference any more.
    let _ = tokio::time::timeout(DISCARD_TIME_MAX, read).await;
}

/// A body that ended early, or could not be unpacked.
pub(crate) fn broken(error: axum::Error) -> ApiError {
    let mut detail = format!("the body cannot be read: {error}");
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !detail.ends_with(&cause_text) {
            detail = format!("{detail}: {cause_text}");
        }
        source = cause.source();
    }
    ApiError::new(ErrorCode::InvalidBody, detail)
}

pub(crate) fn too_slow(timeout: Duration) -> ApiError {
    let detail = format!("the body was not complete after {} ms", timeout.as_millis());
    ApiError::new(ErrorCode::BodyTimeout, detail)
}
