//! API keys: made, listed, rotated, revoked; and what administrators did.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Request, StatusCode, Uri, header};
use axum::response::Response;

use stemedb_model::Principal;

use super::json;
use crate::app::{App, register_key};
use crate::auth::{Done, KeyError, KeyStore, Token};
use crate::body::read_json;
use crate::error::{ApiError, ApiResult};
use crate::openapi::{AdminAuditProblems, ListKeysProblems, MakeKeyProblems, OneKeyProblems};
use crate::question::{params, within};
use crate::wire::{
    AdminPage, AdminParams, ErrorCode, KeyInfo, KeyList, KeyRole, MadeKey, NewKey, RotateKey,
    from_json,
};

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// How long an old secret is taken unless asked otherwise: an hour to change it everywhere.
const GRACE_SECONDS: u64 = 3_600;

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        let detail = error.to_string();
        match error {
            KeyError::Invalid { field, .. } => {
                Self::new(ErrorCode::InvalidField, detail).field(field)
            }
            KeyError::Unknown(_) | KeyError::Revoked(_) => {
                Self::new(ErrorCode::ApiKeyNotFound, detail)
            }
            KeyError::NameTaken(_) => Self::new(ErrorCode::ApiKeyExists, detail).field("name"),
            KeyError::LastAdmin(_) => Self::new(ErrorCode::LastAdminKey, detail),
            KeyError::File { .. }
            | KeyError::Damaged { .. }
            | KeyError::InUse(_)
            | KeyError::Full => {
                tracing::error!(detail, "the API keys were not changed");
                Self::new(ErrorCode::KeysUnavailable, detail)
            }
        }
    }
}

/// The keys of a standby are its primary's.
fn changeable(app: &App) -> ApiResult<()> {
    match &app.replica {
        Some(_) => app.engine.may_write().map_err(ApiError::from),
        None => Ok(()),
    }
}

/// Does something with the keys on a thread that may block.
async fn with_keys<T: Send + 'static>(
    app: &Arc<App>,
    act: impl FnOnce(&App, &KeyStore) -> Result<T, KeyError> + Send + 'static,
) -> ApiResult<T> {
    let app = Arc::clone(app);
    let done = tokio::task::spawn_blocking(move || match &app.keys {
        Some(keys) => act(&app, keys).map_err(ApiError::from),
        None => {
            let detail = "this server runs without authentication: there are no API keys";
            Err(ApiError::new(ErrorCode::NotFound, detail))
        }
    });
    done.await.map_err(|error| ApiError::internal(format!("the request broke off: {error}")))?
}

/// An answer that nobody keeps, and what the trail tells of it.
fn answer(
    status: StatusCode,
    body: &impl serde::Serialize,
    done: Option<String>,
) -> ApiResult<Response> {
    let mut response = json(status, body)?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(done) = done {
        response.extensions_mut().insert(Done(done));
    }
    Ok(response)
}

fn told(what: &str, key: &KeyInfo) -> Option<String> {
    Some(format!("{what} key {} ({}, {}, {})", key.id, key.name, key.role, key.principal))
}

/// The API keys, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/admin/keys",
    operation_id = "list_keys",
    tag = "admin",
    responses((status = 200, description = "The keys, the oldest first", body = KeyList),
        ListKeysProblems)
)]
pub(crate) async fn list(State(app): State<Arc<App>>) -> ApiResult<Response> {
    let keys = with_keys(&app, |app, keys| {
        let mut keys = keys.list();
        for key in keys.iter_mut().filter(|key| key.quota.is_some()) {
            key.used_today = Some(app.quotas.used(&key.id));
        }
        Ok(keys)
    })
    .await?;
    answer(StatusCode::OK, &KeyList { keys }, None)
}

/// Makes an API key. The answer shows its secret, which is never shown again.
#[utoipa::path(
    post,
    path = "/v1/admin/keys",
    operation_id = "create_key",
    tag = "admin",
    request_body(content = NewKey, content_type = "application/json"),
    responses((status = 201, description = "The key and its secret", body = MadeKey),
        MakeKeyProblems)
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> ApiResult<Response> {
    changeable(&app)?;
    let limits = app.limits();
    let body = read_json(request, limits.body_bytes, limits.body_timeout).await?;
    let new: NewKey = from_json(&body)?;
    let (token, key) = with_keys(&app, move |app, keys| {
        let (token, key) = keys.create(&new)?;
        app.count_keys();
        // The server signs for its holder from now on; where the root key is at hand, with the
        // ceiling that the configuration says.
        if key.role >= KeyRole::Writer {
            let owner = Principal::parse(&key.principal).ok();
            if let Some(Err(error)) = owner.map(|owner| app.custodian(&owner)) {
                tracing::warn!(key = key.id, problem = error.problem.detail, "no signing key");
            }
            if let Err(problem) = register_key(app, &key.id) {
                tracing::warn!(key = key.id, %problem, "its signing key is not registered");
            }
        }
        Ok((token, key))
    })
    .await?;
    let done = told("made", &key);
    answer(StatusCode::CREATED, &made(&token, key), done)
}

fn made(token: &Token, key: KeyInfo) -> MadeKey {
    MadeKey { secret: token.reveal(), key }
}

/// Revokes an API key, from now on and for good.
#[utoipa::path(
    delete,
    path = "/v1/admin/keys/{id}",
    operation_id = "revoke_key",
    tag = "admin",
    params(("id" = String, Path, description = "The key")),
    responses((status = 200, description = "The key, revoked", body = KeyInfo), OneKeyProblems)
)]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> ApiResult<Response> {
    changeable(&app)?;
    let Path(id) = path.map_err(|error| ApiError::parameter("id", error.body_text()))?;
    let key = with_keys(&app, move |app, keys| {
        let key = keys.revoke(&id)?;
        app.count_keys();
        Ok(key)
    })
    .await?;
    let done = told("revoked", &key);
    answer(StatusCode::OK, &key, done)
}

/// Gives an API key another secret. The one of now is still taken for a while, so that its holders
/// can change it one after the other; one from before that no longer.
#[utoipa::path(
    post,
    path = "/v1/admin/keys/{id}/rotate",
    operation_id = "rotate_key",
    tag = "admin",
    params(("id" = String, Path, description = "The key")),
    request_body(content = RotateKey, content_type = "application/json"),
    responses((status = 200, description = "The key and its new secret", body = MadeKey),
        MakeKeyProblems)
)]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> ApiResult<Response> {
    changeable(&app)?;
    let Path(id) = path.map_err(|error| ApiError::parameter("id", error.body_text()))?;
    let limits = app.limits();
    let body = read_json(request, limits.body_bytes, limits.body_timeout).await?;
    let RotateKey { grace_seconds } = from_json(&body)?;
    let grace = grace_seconds.unwrap_or(GRACE_SECONDS);
    let (token, key) = with_keys(&app, move |_, keys| keys.rotate(&id, grace)).await?;
    let done = told("rotated", &key);
    answer(StatusCode::OK, &made(&token, key), done)
}

/// What administrators did, newest first.
#[utoipa::path(
    get,
    path = "/v1/audit/admin",
    operation_id = "audit_admin",
    tag = "admin",
    params(AdminParams),
    responses((status = 200, description = "A page", body = AdminPage), AdminAuditProblems)
)]
pub(crate) async fn trail(State(app): State<Arc<App>>, uri: Uri) -> ApiResult<Response> {
    let asked: AdminParams = params(&uri)?;
    let limit = within("limit", asked.limit, LIMIT, LIMIT_MAX)?;
    let before = match asked.cursor.as_deref().map(str::parse::<u64>) {
        None => u64::MAX,
        Some(Ok(before)) => before,
        Some(Err(_)) => {
            return Err(ApiError::parameter("cursor", "is not one that an answer gave"));
        }
    };
    let reading = Arc::clone(&app);
    let (entries, more, problems) = app
        .read(move || {
            reading.trail.page(before, limit).map_err(|error| {
                let detail = format!("what administrators did cannot be read: {error}");
                ApiError::new(ErrorCode::AuditUnavailable, detail)
            })
        })
        .await?;
    let cursor = entries.last().filter(|_| more).map(|last| last.id.to_string());
    answer(StatusCode::OK, &AdminPage { entries, cursor, problems }, None)
}
