//! The server about itself: metrics, specification, and what there is not.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::response::Response;

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::openapi::MetricsProblems;
use crate::wire::ErrorCode;

/// What Prometheus scrapes.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "node",
    responses(
        (status = 200, description = "Prometheus text", body = String, content_type = "text/plain"),
        MetricsProblems
    )
)]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> ApiResult<Response> {
    app.engine.observe();
    let text = app
        .metrics
        .render()
        .ok_or_else(|| ApiError::internal("another recorder is installed in this process"))?;
    let mut response = Response::new(Body::from(text));
    let prometheus = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, prometheus);
    Ok(response)
}

/// The answer where there is no route.
pub(crate) async fn no_route(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is nothing at {}", uri.path()))
}

/// The answer where there is a route, but not for this method.
pub(crate) async fn no_method(method: Method, uri: Uri) -> ApiError {
    let detail = format!("{} does not take {method}", uri.path());
    ApiError::new(ErrorCode::MethodNotAllowed, detail)
}
