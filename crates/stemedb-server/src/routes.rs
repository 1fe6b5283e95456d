//! Which path leads where.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use tower_http::decompression::RequestDecompressionLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::app::App;
use crate::audit::watch;
use crate::error::ApiError;
use crate::guard::guard;
use crate::handlers::{
    audit, conflicts, explain, export, feed, import, index, keys, lens, meta, node, query, read,
    trust, wal, whatif, write,
};
use crate::openapi as document;

const SPECIFICATION: &str = "/openapi.json";

fn documented() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(document::base())
        .routes(routes!(write::assert))
        .routes(routes!(write::cosign))
        .routes(routes!(write::vote))
        .routes(routes!(write::epoch))
        .routes(routes!(write::source))
        .routes(routes!(write::retract))
        .routes(routes!(write::supersede))
        .routes(routes!(write::predicate))
        .routes(routes!(write::alias))
        .routes(routes!(write::agent))
        .routes(routes!(write::lens))
        .routes(routes!(write::gold))
        .routes(routes!(write::trust_snapshot))
        .routes(routes!(write::lifecycle))
        .routes(routes!(read::assertion, write::put_assertion))
        .routes(routes!(read::record, write::put_record))
        .routes(routes!(read::position))
        .routes(routes!(read::trace))
        .routes(routes!(import::import))
        .routes(routes!(export::export))
        .routes(routes!(feed::feed))
        .routes(routes!(query::query))
        .routes(routes!(query::resolve_many))
        .routes(routes!(query::skeptic))
        .routes(routes!(query::layered))
        .routes(routes!(explain::receipt))
        .routes(routes!(explain::replay))
        .routes(routes!(conflicts::conflicts))
        .routes(routes!(lens::list))
        .routes(routes!(lens::show))
        .routes(routes!(whatif::what_if))
        .routes(routes!(trust::learn))
        .routes(routes!(trust::explain))
        .routes(routes!(audit::queries))
        .routes(routes!(audit::query))
        .routes(routes!(node::livez))
        .routes(routes!(node::readyz))
        .routes(routes!(node::health))
        .routes(routes!(node::show))
        .routes(routes!(node::root))
        .routes(routes!(node::drain))
        .routes(routes!(node::undrain))
        .routes(routes!(node::promote))
        .routes(routes!(index::checkpoint))
        .routes(routes!(index::reindex))
        .routes(routes!(wal::seal))
        .routes(routes!(wal::detach))
        .routes(routes!(wal::attach))
        .routes(routes!(wal::acknowledge))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::trail))
        .routes(routes!(meta::metrics))
}

/// The OpenAPI document of this build, as `docs/openapi.json` holds it.
pub fn openapi() -> Result<String, serde_json::Error> {
    document::text(&documented().into_openapi())
}

/// All routes, and what every request passes.
pub(crate) fn router(app: &Arc<App>) -> Result<Router, serde_json::Error> {
    let (routes, document) = documented().split_for_parts();
    announce(app, &document);
    let specification = Bytes::from(document::text(&document)?);
    let json = HeaderValue::from_static("application/json");
    let serve = move || {
        let answer = ([(header::CONTENT_TYPE, json.clone())], specification.clone());
        async move { answer }
    };
    let docs = SwaggerUi::new("/docs").config(Config::from(SPECIFICATION));
    let router = routes
        .route(SPECIFICATION, get(serve))
        .merge(docs)
        .fallback(meta::no_route)
        .method_not_allowed_fallback(meta::no_method)
        .with_state(Arc::clone(app))
        .layer(RequestDecompressionLayer::new())
        .layer(CatchPanicLayer::custom(|panic: Box<dyn std::any::Any + Send>| {
            drop(panic);
            ApiError::internal("a handler broke off; the log of the server says where")
                .into_response()
        }))
        .layer(from_fn_with_state(Arc::clone(app), watch))
        .layer(from_fn_with_state(Arc::clone(app), guard));
    Ok(match cors(&app.config.cors_origins) {
        // Outside the guard: a browser asks without a key whether it may send one.
        Some(cors) => router.layer(cors),
        None => router,
    })
}

/// Closed unless origins are named. No cookies are in use, so none are allowed.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let name = HeaderName::from_static;
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers([
                header::ACCEPT,
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                name("idempotency-key"),
                name("last-event-id"),
                name("traceparent"),
                name("tracestate"),
                name("x-api-key"),
                name("x-request-id"),
            ])
            .expose_headers([
                header::RETRY_AFTER,
                name("ratelimit-limit"),
                name("ratelimit-remaining"),
                name("ratelimit-reset"),
                name("stemedb-more"),
                name("stemedb-snapshot"),
                name("x-request-id"),
            ])
            .max_age(Duration::from_secs(600))
    })
}

/// Lets every answer that the specification knows begin at 0.
fn announce(app: &App, document: &OpenApi) {
    for (path, item) in &document.paths.paths {
        for (method, operation) in
            [("DELETE", &item.delete), ("GET", &item.get), ("POST", &item.post), ("PUT", &item.put)]
        {
            for status in operation.iter().flat_map(|one| one.responses.responses.keys()) {
                app.metrics.known(path, method, status);
            }
        }
    }
}
