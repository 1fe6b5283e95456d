//! The middleware that sees questions and answers pass.

use std::sync::{Arc, OnceLock};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, State};
use axum::http::{Method, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tracing::Instrument;

use super::Observed;
use crate::app::App;
use crate::auth::Caller;
use crate::body::discard;
use crate::client::Client;
use crate::error::ApiError;
use crate::span::{self, Part};

/// Where the body of a question is left for the audit by whoever reads it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note(Arc<OnceLock<Bytes>>);

impl Note {
    /// Leaves the body; the first one counts.
    pub(crate) fn leave(&self, body: &Bytes) {
        let _ = self.0.set(body.clone());
    }
}

/// Takes down what passes, where the configuration says so.
pub(crate) async fn watch(
    State(app): State<Arc<App>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let endpoint = request.extensions().get::<MatchedPath>();
    let Some(endpoint) = endpoint.map(MatchedPath::as_str).filter(|name| app.audit.covers(name))
    else {
        return next.run(request).await;
    };
    let endpoint: Arc<str> = endpoint.into();
    if let Err(error) = app.audit.admit() {
        discard(request.into_body()).await;
        return error.into_response();
    }
    let note = Note::default();
    let caller = request.extensions().get::<Caller>();
    let principal = caller.map_or_else(|| app.principal.clone(), |caller| caller.principal.clone());
    let client = request.extensions().get::<Client>().map(Client::to_string);
    let method = if *request.method() == Method::POST { "POST" } else { "GET" };
    let path = endpoint.contains('{').then(|| request.uri().path().to_owned());
    let query = request.uri().query().map(str::to_owned);
    request.extensions_mut().insert(note.clone());
    let (head, body) = next.run(request).await.into_parts();
    // Of a stream nobody knows the length.
    let (body, answer) = if body.size_hint().exact().is_some() {
        match body.collect().await.map(http_body_util::Collected::to_bytes) {
            Ok(bytes) => (Body::from(bytes.clone()), Some(bytes)),
            Err(error) => {
                return ApiError::internal(format!("the answer broke off: {error}"))
                    .into_response();
            }
        }
    } else {
        (body, None)
    };
    let snapshot = head.headers.get("stemedb-snapshot").and_then(|value| value.to_str().ok());
    let read = Observed {
        at: app.engine.now(),
        principal,
        client,
        method,
        endpoint,
        path,
        query,
        body: note.0.get().cloned(),
        status: head.status.as_u16(),
        snapshot: snapshot.map(str::to_owned),
        answer,
    };
    let taken_down = app.audit.take_down(read, app.limits().request_timeout);
    match taken_down.instrument(span::part(Part::Audit)).await {
        Ok(()) => Response::from_parts(head, body),
        Err(error) => error.into_response(),
    }
}
