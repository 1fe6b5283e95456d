//! Records as they come: a page of them, or a stream of events that goes on.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use http_body_util::channel::{Channel, Sender};
use stemedb_engine::{NodeState, ReadError, SnapshotToken, View};
use stemedb_model::{
    AgentId, Body as RecordBody, Kind, Position, PredicateName, Record, Space, Subject,
};

use crate::answer::stored;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::openapi::FeedProblems;
use crate::question::{params, position, predicate, subject, view, within};
use crate::slots::Slot;
use crate::wire::{AtLeast, FeedParams};

/// Records of a page, unless asked otherwise.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Records looked at for one page: with a filter that fits few of them a page may be empty, and the
/// next one goes on behind it.
const LOOKED_AT_MAX: usize = 10_000;
/// Records read together.
const CHUNK: usize = 256;
/// Pieces of a stream that wait for the caller to read.
const PIECES: usize = 4;
/// How often a stream that has told everything looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// A stream says something at least this often, so that neither end takes the other for dead.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// New records from a position on, in their order: a page of JSON lines, or with
/// `Accept: text/event-stream` a stream of events that goes on until the caller leaves or the node
/// drains. All records are told, also those that take no part in answers.
///
/// Each event has the snapshot behind its record as id; `Last-Event-ID` goes on behind it. Costs what
/// is looked at, whatever the filters let through.
#[utoipa::path(
    get,
    path = "/v1/feed",
    tag = "records",
    params(
        FeedParams,
        ("Last-Event-ID" = Option<AtLeast>, Header,
            description = "Go on behind this event; in place of `after`")
    ),
    responses(
        (status = 200, description = "A StoredRecord a line, or in each event",
            content((String = "application/x-ndjson"), (String = "text/event-stream")),
            headers(
                ("stemedb-snapshot" = String,
                    description = "Of a page: how far it looked, which is `after` of the next"),
                ("stemedb-more" = bool, description = "Of a page: there is more behind it")
            )),
        FeedProblems
    )
)]
pub(crate) async fn feed(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> ApiResult<Response> {
    let asked: FeedParams = params(&uri)?;
    let wanted = Wanted::of(&asked, &caller)?;
    let after = match headers.get("last-event-id") {
        Some(id) => {
            let id = id.to_str().unwrap_or_default();
            let id = AtLeast::parse(id)
                .map_err(|problem| ApiError::parameter("Last-Event-ID", problem))?;
            position(&app, "Last-Event-ID", &id)?
        }
        None => match &asked.after {
            Some(after) => position(&app, "after", after)?,
            None => Position::NONE,
        },
    };
    let view = view(&app, asked.at_least.as_ref(), None).await?;
    if after > view.position() {
        let newest = view.position();
        let problem = format!("position {after} is still to come, the newest is {newest}");
        return Err(ApiError::parameter("after", problem));
    }
    let limit = within("limit", asked.limit, LIMIT, LIMIT_MAX)?;
    if !asks_for_events(&headers) {
        let (page, more) = app
            .read(move || {
                let page = Page::of(&view, &wanted, after, limit, Form::Lines)?;
                let more = page.looked < view.position();
                Ok((page, more))
            })
            .await?;
        return Ok(answer("application/x-ndjson", Body::from(page.out), Some((page.id, more))));
    }
    let stream = Stream { wanted: Arc::new(wanted), after, _slot: app.feed()?, caller, app };
    let (pieces, body) = Channel::new(PIECES);
    tokio::spawn(stream.run(pieces));
    Ok(answer("text/event-stream", Body::new(body), None))
}

fn answer(form: &'static str, body: Body, page: Option<(String, bool)>) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some((snapshot, more)) = page {
        if let Ok(snapshot) = HeaderValue::from_str(&snapshot) {
            headers.insert("stemedb-snapshot", snapshot);
        }
        let more = if more { "true" } else { "false" };
        headers.insert("stemedb-more", HeaderValue::from_static(more));
    }
    response
}

fn asks_for_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut kinds = accepted.filter_map(|accepted| accepted.to_str().ok());
    kinds.any(|kinds| kinds.contains("text/event-stream"))
}

/// Which records are told.
struct Wanted {
    space: Space,
    kinds: Option<Vec<Kind>>,
    agent: Option<AgentId>,
    subject: Option<Subject>,
    subject_prefix: Option<String>,
    predicate: Option<PredicateName>,
}

impl Wanted {
    fn of(asked: &FeedParams, caller: &Caller) -> ApiResult<Self> {
        Ok(Self {
            space: caller.space(asked.space.as_ref())?,
            kinds: asked.kind.as_ref().map(|kinds| kinds.0.iter().map(|kind| kind.0).collect()),
            agent: asked.agent.map(|agent| agent.0),
            subject: asked.subject.as_ref().map(subject).transpose()?,
            subject_prefix: asked.subject_prefix.as_ref().map(|prefix| prefix.as_str().to_owned()),
            predicate: asked.predicate.as_ref().map(predicate).transpose()?,
        })
    }

    fn fits(&self, record: &Record) -> bool {
        let of_assertion =
            self.subject.is_some() || self.subject_prefix.is_some() || self.predicate.is_some();
        let assertion = match &record.body {
            RecordBody::Assertion(assertion) => Some(assertion),
            _ => None,
        };
        let named = match assertion {
            None => !of_assertion,
            Some(found) => {
                self.subject.as_ref().is_none_or(|subject| *subject == found.subject)
                    && self.predicate.as_ref().is_none_or(|name| *name == found.predicate)
                    && self
                        .subject_prefix
                        .as_ref()
                        .is_none_or(|prefix| found.subject.as_str().starts_with(prefix.as_str()))
            }
        };
        named
            && record.space == self.space
            && self.agent.is_none_or(|agent| agent == record.agent)
            && self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&record.kind()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Events,
}

struct Page {
    out: Vec<u8>,
    /// The newest record that was looked at.
    looked: Position,
    /// The same as the snapshot that goes on behind it.
    id: String,
}

impl Page {
    /// What `view` holds behind `after`: at most `limit` records.
    fn of(
        view: &View,
        wanted: &Wanted,
        after: Position,
        limit: usize,
        form: Form,
    ) -> ApiResult<Self> {
        let timeline = view.token().timeline;
        let id = |position| SnapshotToken { timeline, position }.to_string();
        let (mut out, mut told, mut looked_at) = (Vec::new(), 0, 0);
        let mut looked = after;
        'page: while looked_at < LOOKED_AT_MAX {
            let entries = view.entries(looked.next(), CHUNK)?;
            if entries.is_empty() {
                // Lost positions at the end are passed over, too.
                looked = view.position();
                break;
            }
            for entry in entries {
                if told == limit {
                    break 'page;
                }
                looked = entry.position;
                looked_at += 1;
                if !wanted.fits(entry.signed.record()) {
                    continue;
                }
                told += 1;
                if form == Form::Events {
                    out.extend_from_slice(b"id: ");
                    out.extend_from_slice(id(looked).as_bytes());
                    out.extend_from_slice(b"\nevent: record\ndata: ");
                }
                serde_json::to_writer(&mut out, &stored(&entry))
                    .map_err(|error| ApiError::internal(error.to_string()))?;
                out.extend_from_slice(if form == Form::Events { b"\n\n" } else { b"\n" });
            }
        }
        Ok(Self { out, looked, id: id(looked) })
    }
}

/// One caller's stream.
struct Stream {
    app: Arc<App>,
    caller: Caller,
    wanted: Arc<Wanted>,
    /// Looked at so far.
    after: Position,
    _slot: Slot,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

impl Stream {
    /// Tells until the caller is gone or slow, the node drains, or a read fails. A caller comes back
    /// by itself, with the id of the last event that it saw.
    async fn run(mut self, mut pieces: Sender<Bytes, Error>) {
        let engine = Arc::clone(&self.app.engine);
        let timeline = engine.timeline();
        let (mut spoke, mut told) = (engine.monotonic(), self.after);
        let mut piece = Vec::from("retry: 1000\n\n");
        loop {
            if !piece.is_empty() {
                (spoke, told) = (engine.monotonic(), self.after);
                let timeout = self.app.limits().body_timeout;
                let sent = pieces.send_data(std::mem::take(&mut piece).into());
                if !matches!(tokio::time::timeout(timeout, sent).await, Ok(Ok(()))) {
                    return pieces.abort("the feed was not read in time".into());
                }
            }
            if !matches!(
                engine.node().state,
                NodeState::Ready | NodeState::ReadOnly | NodeState::Standby
            ) {
                return;
            }
            if let Err(error) = self.caller.still(&self.app) {
                return pieces.abort(error.problem.detail.into());
            }
            match self.more().await {
                Ok(more) => piece = more,
                Err(error) => {
                    let detail = error.problem.detail;
                    let code = error.problem.code.as_str();
                    tracing::warn!(code, detail, "a feed broke off");
                    return pieces.abort(detail.into());
                }
            }
            if piece.is_empty() && engine.monotonic().saturating_sub(spoke) >= SILENCE_MAX {
                // Without data an event is none, but its id counts: what was passed over is not
                // looked at again.
                let token = SnapshotToken { timeline, position: self.after };
                piece = match told < self.after {
                    true => format!("id: {token}\n\n").into_bytes(),
                    false => Vec::from(": still here\n\n"),
                };
            }
        }
    }

    /// The next events; none after a while in which nothing came.
    async fn more(&mut self) -> ApiResult<Vec<u8>> {
        let view = match self.app.engine.view(self.after.next(), Duration::ZERO) {
            Ok(view) => view,
            Err(ReadError::Behind { .. }) => {
                tokio::time::sleep(LOOK_EVERY).await;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let (wanted, after) = (Arc::clone(&self.wanted), self.after);
        let page = move || Page::of(&view, &wanted, after, CHUNK, Form::Events);
        let page = self.app.read(page).await?;
        self.after = page.looked;
        Ok(page.out)
    }
}
