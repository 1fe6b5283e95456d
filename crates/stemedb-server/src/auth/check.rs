//! From the head of a request to its caller.

use axum::body::Body;
use axum::http::{HeaderMap, Request, Uri, header};

use super::caller::Caller;
use super::store::Denied;
use super::table::{Access, access, methods};
use super::token::{Token, contains_token};
use crate::app::App;
use crate::client::Client;
use crate::error::{ApiError, ApiResult};
use crate::wire::{ErrorCode, KeyRole};

/// Parameters in which people put keys. They end in logs, histories and `Referer` headers.
const NAMES: [&str; 6] =
    ["api_key", "api-key", "apikey", "x-api-key", "access_token", "authorization"];

/// Who asks, if that one may. `endpoint` is the template of the path; `None` where no route leads.
/// `Ok(None)` where nobody has to be anybody.
pub(crate) fn authorize(
    app: &App,
    request: &Request<Body>,
    endpoint: Option<&str>,
) -> ApiResult<Option<Caller>> {
    check_url(request.uri())?;
    // The fallback says that there is nothing.
    let Some(endpoint) = endpoint else { return Ok(None) };
    let Some(access) = access(request.method(), endpoint) else {
        return Err(nothing(request, endpoint));
    };
    if request.extensions().get::<Client>() == Some(&Client::Socket) {
        return on_socket(app, access, endpoint);
    }
    let Some(keys) = &app.keys else {
        return Ok(Some(Caller::local(app.principal.clone())));
    };
    let needed = match access {
        Access::Open => return Ok(None),
        Access::Scrape if !app.config.auth.metrics_need_key => return Ok(None),
        Access::Scrape | Access::Role(_) => access.role(),
    };
    let token = shown(request.headers())?;
    let key = keys.authenticate(&token).map_err(|denied| match denied {
        Denied::Expired => {
            let detail = format!("the API key {} is no longer valid: rotate it", token.id());
            ApiError::new(ErrorCode::ApiKeyExpired, detail)
        }
        Denied::Unknown | Denied::Revoked => {
            let detail = format!("the API key {} is unknown here, or revoked", token.id());
            ApiError::new(ErrorCode::ApiKeyUnknown, detail)
        }
    })?;
    match needed {
        Some(needed) if key.role() < needed => {
            let detail = format!(
                "{} {endpoint} takes the role {needed}; the API key {} has {}",
                request.method(),
                key.name(),
                key.role()
            );
            Err(ApiError::new(ErrorCode::RoleTooLow, detail))
        }
        _ => Ok(Some(Caller::holder(&key, token.hash()))),
    }
}

/// Whoever may open the socket may do what operators and administrators do; for all else there are keys.
fn on_socket(app: &App, access: Access, endpoint: &str) -> ApiResult<Option<Caller>> {
    match access {
        Access::Role(KeyRole::Reader | KeyRole::Writer) => {
            let detail = format!("{endpoint} is not answered on the admin socket, ask over HTTP");
            Err(ApiError::new(ErrorCode::NotFound, detail))
        }
        Access::Open => Ok(None),
        Access::Scrape | Access::Role(KeyRole::Operator | KeyRole::Admin) => {
            Ok(Some(Caller::local(app.principal.clone())))
        }
    }
}

fn nothing(request: &Request<Body>, endpoint: &str) -> ApiError {
    let path = request.uri().path();
    let methods = methods(endpoint);
    if methods.is_empty() {
        return ApiError::new(ErrorCode::NotFound, format!("there is nothing at {path}"));
    }
    let detail = format!("{path} does not take {}", request.method());
    ApiError::new(ErrorCode::MethodNotAllowed, detail).allow(&methods.join(", "))
}

/// The key that the headers show.
fn shown(headers: &HeaderMap) -> ApiResult<Token> {
    let twice = |field: &str| {
        let detail = "the API key is given more than once: send it as `Authorization: Bearer` or \
                      as `X-API-Key`";
        ApiError::new(ErrorCode::InvalidParameter, detail).field(field)
    };
    let mut bearer = headers.get_all(header::AUTHORIZATION).iter();
    let mut plain = headers.get_all("x-api-key").iter();
    let text = match (bearer.next(), plain.next()) {
        (None, None) => {
            let detail = "send an API key as `Authorization: Bearer stk_…` or as `X-API-Key: \
                          stk_…`; the first one is in <data_dir>/node/first-admin.key";
            return Err(ApiError::new(ErrorCode::ApiKeyMissing, detail));
        }
        (Some(_), Some(_)) => return Err(twice("X-API-Key")),
        (Some(value), None) => {
            let text = value.to_str().unwrap_or_default();
            let (scheme, rest) = text.split_once(' ').unwrap_or_default();
            if !scheme.eq_ignore_ascii_case("bearer") {
                let detail = "Authorization: expected `Bearer` and an API key";
                return Err(ApiError::new(ErrorCode::ApiKeyMissing, detail).field("Authorization"));
            }
            rest.trim_start()
        }
        (None, Some(value)) => value.to_str().unwrap_or_default(),
    };
    if bearer.next().is_some() {
        return Err(twice("Authorization"));
    }
    if plain.next().is_some() {
        return Err(twice("X-API-Key"));
    }
    Token::parse(text).ok_or_else(|| {
        let detail = "the API key is not of the form stk_<16 hex digits>_<48 hex digits>";
        ApiError::new(ErrorCode::ApiKeyUnknown, detail)
    })
}

/// A key in the URL was told to everybody on the way, whoever it belongs to.
fn check_url(uri: &Uri) -> ApiResult<()> {
    let query = uri.query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let named = pairs.any(|(name, value)| {
        NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
            || contains_token(&name)
            || contains_token(&value)
    });
    // As its parts, with escapes undone.
    let mut path = form_urlencoded::parse(uri.path().as_bytes());
    let in_path = path.any(|(name, value)| contains_token(&name) || contains_token(&value));
    if !named && !in_path {
        return Ok(());
    }
    let detail = "an API key belongs into the header Authorization or X-API-Key, never into the \
                  URL, which is written into logs: if this one is real, rotate it";
    Err(ApiError::new(ErrorCode::ApiKeyInUrl, detail))
}
