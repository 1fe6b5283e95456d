//! What every request passes on its way in and out: who may ask at all, how many at once, how long
//! the URL may be; and the counting of answers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::app::App;
use crate::auth::{Access, Caller, Done, access, authorize, class};
use crate::body::{check_encoding, discard};
use crate::client::Client;
use crate::error::{ApiError, ApiResult, Sent};
use crate::limiter::{Allowance, Class};
use crate::slots::Slot;
use crate::span::{self, Part};
use crate::wire::{AdminEntry, ErrorCode, KeyRole, Time};

/// Nothing in an answer is ever run or shown as a page.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// The documentation page has its own files, and images and styles in them.
const PAGE_POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// An answer waits no longer than this for its entry in the trail.
const TRAIL_TIMEOUT: Duration = Duration::from_secs(5);
/// Characters of a URL that an entry holds.
const PATH_MAX: usize = 512;
/// Names a request in the log and in its answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of a caller's own.
const REQUEST_ID_MAX: usize = 64;
/// The label of what has no route.
const OTHER: &str = "other";

/// The middleware around all routes.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let began = app.engine.monotonic();
    let endpoint = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| OTHER.to_owned(), |path| template(path.as_str()));
    let method = method_label(request.method());
    let id = RequestId::of(&app, request.headers());
    let span = span::request(id.as_str(), method, &endpoint, request.headers());
    let answered = answer(&app, request, next, &endpoint, method, began);
    let mut response = answered.instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id.0);
    response
}

/// What lines of the log about a request have in common, and its answer, too.
struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's own, if it can stand in a log; else one of ours.
    fn of(app: &App, headers: &HeaderMap) -> Self {
        let fine = |text: &[u8]| {
            (1..=REQUEST_ID_MAX).contains(&text.len())
                && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
        };
        let given = headers.get(REQUEST_ID).filter(|given| fine(given.as_bytes()));
        let made = || HeaderValue::from_str(&app.next_request_id());
        Self(given.cloned().or_else(|| made().ok()).unwrap_or(HeaderValue::from_static("none")))
    }

    fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

async fn answer(
    app: &Arc<App>,
    mut request: Request<Body>,
    next: Next,
    endpoint: &str,
    method: &'static str,
    began: Duration,
) -> Response {
    let _in_flight = app.metrics.request_began();
    if let Some(client) = request.extensions().get::<Client>() {
        let client = client.through(&app.config.trusted_proxies, request.headers());
        request.extensions_mut().insert(client);
    }
    let client = request.extensions().get::<Client>().copied();
    let writes = class(request.method(), endpoint) == Some(Class::Write);
    let admitted = span::part(Part::Admit).in_scope(|| admit(app, &request, endpoint));
    let mut response = match admitted {
        Ok(Admitted { _slot, caller, allowance }) => {
            let act = caller.and_then(|caller| {
                let act = Act::of(app, &request, endpoint, &caller);
                request.extensions_mut().insert(caller);
                act
            });
            let mut response = match act {
                Some(act) => act.done(app, next.run(request)).await,
                None => next.run(request).await,
            };
            // Once more: the process may have stood still since.
            if let Some(fenced) = fenced(app, writes, &response) {
                response = fenced;
            }
            if let Some(allowance) = allowance {
                allowance.tell(response.headers_mut());
            }
            response
        }
        Err(error) => {
            discard(request.into_body()).await;
            error.into_response()
        }
    };
    if let Some(sent) = response.extensions().get::<Sent>()
        && !sent.counted
    {
        app.metrics.rejected(sent.code);
    }
    harden(endpoint, response.headers_mut());
    let took = app.engine.monotonic().saturating_sub(began);
    let status = response.status().as_u16();
    app.metrics.request_ended(endpoint, method, status, took);
    tracing::info!(
        status,
        took_us = span::micros(took),
        client = client.map(tracing::field::display),
        "answered"
    );
    span::answered(status);
    // As late as it can be: whoever reads the log may have kept it waiting, too.
    if let Some(fenced) = fenced(app, writes, &response) {
        tracing::warn!("the lease is not held any more: the answer is `fenced`, not the one above");
        response = fenced;
        harden(endpoint, response.headers_mut());
    }
    response
}

/// What is told instead of the good answer to a write, if another node may write by now.
fn fenced(app: &App, writes: bool, answer: &Response) -> Option<Response> {
    let good = writes && answer.status().is_success();
    let refused = if good { app.engine.may_write().err() } else { None };
    refused.map(|error| ApiError::from(error).into_response())
}

/// What an administrator or operator does to the node.
struct Act(AdminEntry);

impl Act {
    /// `None` of what changes nothing, or nothing of the node's own.
    fn of(app: &App, request: &Request<Body>, endpoint: &str, caller: &Caller) -> Option<Self> {
        let method = request.method();
        let privileged = match access(method, endpoint)? {
            Access::Open | Access::Scrape => false,
            Access::Role(role) => role >= KeyRole::Operator,
        };
        if !privileged || matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        let at = Time(app.engine.now());
        let name = format!("{method} {endpoint}");
        let client = request.extensions().get::<Client>();
        let via = if client == Some(&Client::Socket) { "socket" } else { "http" };
        let mut entry = AdminEntry::new(at, &name, caller.principal.as_str(), via);
        entry.key = caller.key.clone();
        entry.client = client.filter(|client| **client != Client::Socket).map(Client::to_string);
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        entry.path = (path != endpoint).then(|| path.chars().take(PATH_MAX).collect());
        Some(Self(entry))
    }

    /// Does it and takes it down. In a task of its own: where the connection breaks, the act goes on,
    /// and so must its entry.
    async fn done(
        self,
        app: &Arc<App>,
        act: impl Future<Output = Response> + Send + 'static,
    ) -> Response {
        let app = Arc::clone(app);
        let act = async move {
            let response = act.await;
            let taken_down = self.answered(&response).take_down(&app);
            taken_down.instrument(span::part(Part::Audit)).await;
            response
        };
        let task = tokio::spawn(act.in_current_span());
        let broke = |error| ApiError::internal(format!("the request broke off: {error}"));
        task.await.unwrap_or_else(|error| broke(error).into_response())
    }

    /// What it came to.
    fn answered(mut self, response: &Response) -> Self {
        self.0.status = Some(response.status().as_u16());
        let sent = response.extensions().get::<Sent>().map(|sent| sent.code.as_str().to_owned());
        self.0.detail = response.extensions().get::<Done>().map(|done| done.0.clone()).or(sent);
        self
    }

    /// Durable before the act is answered. Where that fails, the act is done all the same: what an
    /// operator needs most on a failing disk must not depend on that disk.
    async fn take_down(self, app: &Arc<App>) {
        let (app, act) = (Arc::clone(app), self.0.act.clone());
        let written = tokio::task::spawn_blocking(move || app.trail.append(self.0));
        let problem = match tokio::time::timeout(TRAIL_TIMEOUT, written).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            // It may arrive yet.
            Err(_) => format!("the disk took longer than {} s", TRAIL_TIMEOUT.as_secs()),
        };
        tracing::error!(act, problem, "an act of an administrator was not taken down");
    }
}

/// What browsers are told about every answer: that it is what it says it is, that no other site may
/// show it in a frame, that nobody keeps it.
fn harden(endpoint: &str, headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let page = endpoint == "/docs";
    let policy = if page { PAGE_POLICY } else { POLICY };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if !page {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
}

/// The files of the documentation page are one endpoint.
fn template(path: &str) -> String {
    if path.starts_with("/docs") { "/docs".to_owned() } else { path.to_owned() }
}

/// A method is a word of the caller's; as a label it must be one of few.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::DELETE => "DELETE",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::POST => "POST",
        Method::PUT => "PUT",
        _ => "OTHER",
    }
}

/// A request that is to be answered.
struct Admitted {
    /// Its place among those under way.
    _slot: Option<Slot>,
    caller: Option<Caller>,
    allowance: Option<Allowance>,
}

fn admit(app: &App, request: &Request<Body>, endpoint: &str) -> ApiResult<Admitted> {
    let client = request.extensions().get::<Client>();
    let socket = client == Some(&Client::Socket);
    if !app.config.auth.enabled && !socket {
        check_local(request.uri(), request.headers())?;
    }
    let uri_bytes = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let limits = app.limits();
    let most = limits.uri_bytes;
    if uri_bytes > most {
        let detail = format!("the URL is {uri_bytes} bytes long, expected at most {most}");
        return Err(ApiError::new(ErrorCode::UriTooLong, detail));
    }
    check_head(request.headers(), uri_bytes, limits.head_bytes)?;
    check_encoding(request.headers())?;
    let caller = authorize(app, request, (endpoint != OTHER).then_some(endpoint));
    // An operator who may open the socket is let in whatever others do. Whoever shows no good key takes
    // from the allowance of the address.
    let class = class(request.method(), endpoint);
    let known = caller.as_ref().ok().and_then(Option::as_ref);
    let taken = class.filter(|_| !socket).map(|class| app.limiter.take(class, known, client));
    let allowance = taken.transpose()?.flatten();
    let caller = caller?;
    // Probes and scrapes are answered however busy the node is.
    if class.is_none() {
        return Ok(Admitted { _slot: None, caller, allowance });
    }
    let slot = app.requests.try_take().ok_or_else(|| {
        let most = app.requests.most();
        let detail = format!("{most} requests are under way, which is the limit");
        ApiError::new(ErrorCode::Overloaded, detail)
    })?;
    Ok(Admitted { _slot: Some(slot), caller, allowance })
}

/// The parser has a bound of its own, above this one, and answers without a body.
fn check_head(headers: &HeaderMap, uri_bytes: usize, most: usize) -> ApiResult<()> {
    // A colon, a space and a line end with each.
    let header_bytes =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let bytes = uri_bytes + headers.iter().map(header_bytes).sum::<usize>();
    if bytes <= most {
        return Ok(());
    }
    let detail = format!("URL and headers are {bytes} bytes long, expected at most {most}");
    Err(ApiError::new(ErrorCode::HeadersTooLarge, detail))
}

/// Without authentication only this machine may ask, for itself: a page of another site that had
/// its name point here (DNS rebinding) or that posts across sites is refused, and so is a proxy,
/// behind which everybody would look local.
fn check_local(uri: &Uri, headers: &HeaderMap) -> ApiResult<()> {
    let foreign = |what: &str, found: &str| {
        let detail = format!(
            "{what} is {found:?}: without authentication this server answers programs on its own \
             machine only, asked for as localhost, 127.0.0.1 or [::1] and not through a proxy"
        );
        Err(ApiError::new(ErrorCode::ForeignHost, detail).field(what))
    };
    if let Some(name) = headers.keys().find(|name| forwards(name.as_str())) {
        return foreign(name.as_str(), "present");
    }
    // HTTP/2 has no such header; the authority below stands in its place.
    let absent = headers.get(header::HOST).is_none() && uri.authority().is_some();
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        _ if absent => {}
        (Some(host), None) if is_local(host.to_str().unwrap_or_default()) => {}
        (host, second) => {
            let found = match (host, second) {
                (None, _) => "missing",
                (Some(host), None) => host.to_str().unwrap_or("not text"),
                (Some(_), Some(_)) => "given twice",
            };
            return foreign("Host", found);
        }
    }
    if let Some(authority) = uri.authority()
        && !is_local(authority.as_str())
    {
        return foreign("the URL's host", authority.as_str());
    }
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("not text");
        let host = origin.split_once("://").map(|(_, host)| host);
        if !host.is_some_and(is_local) {
            return foreign("Origin", origin);
        }
    }
    Ok(())
}

fn forwards(header: &str) -> bool {
    matches!(header, "forwarded" | "via" | "x-real-ip") || header.starts_with("x-forwarded-")
}

/// Whether `host`, with or without a port, names this machine.
fn is_local(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, "")) => (name, None),
            Some((name, port)) => (name, port.strip_prefix(':').or(Some("?"))),
            None => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    port.is_none_or(|port| port.parse::<u16>().is_ok())
        && (name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_hosts() {
        for host in [
            "localhost",
            "LOCALHOST:18180",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.9.9.9",
            "[::1]",
            "[::1]:1",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "10.0.0.1",
            "[::1",
            "[::1]80",
            "[::2]:80",
            "127.0.0.1:port",
            "127.0.0.1:80:80",
            "user@127.0.0.1",
            "0.0.0.0",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
