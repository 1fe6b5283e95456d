//! Many records in: newline-delimited JSON, results line by line while the body still comes.
//!
//! ```text
//! body ─▶ lines ─▶ chunks ─▶ verify (parallel) ─▶ submit (in order) ─▶ results (in order)
//! ```
//!
//! Every arrow is bounded, so memory does not depend on the length of the import. Lines are
//! submitted in their order: one may refer to an earlier one. The same line is the same record, so
//! an import that was cut is resumed by sending it again.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use stemedb_engine::{Ack, AckStatus, NodeState, Submission, WriteError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::write::{Prepared, prepare, settle};
use crate::app::App;
use crate::auth::{Caller, Reserved};
use crate::body::{NDJSON, broken, check_type, discard, too_slow};
use crate::error::{ApiError, ApiResult};
use crate::openapi::ImportProblems;
use crate::question::params;
use crate::slots::Slot;
use crate::wire::{
    ErrorCode, Id, ImportLine, ImportParams, ImportResults, ImportStatus, ImportSummary, Incoming,
    Time,
};

/// Lines that are verified and submitted together. Large enough that handing them to another
/// thread costs nothing beside verifying them.
const CHUNK_LINES: usize = 256;
/// The same in bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks being verified ahead of the one that is submitted.
const VERIFYING: usize = 4;
/// Chunks whose fate is open.
const SUBMITTED: usize = 16;
/// Pieces of results that wait for the caller to read: some 10,000 lines, so that a caller which
/// writes a batch of that size before it reads does not wait for itself.
const RESULTS: usize = 64;

/// Writes every line as a record.
#[utoipa::path(
    post,
    path = "/v1/import",
    tag = "records",
    params(ImportParams),
    request_body(
        content = String,
        content_type = "application/x-ndjson",
        description = "One record a line, of any kind, with its `kind`: as fields or as canonical \
                       bytes, or as an export shows it. A line that the server is to sign needs \
                       `at`. Read the results while sending, or send batches of some thousand \
                       lines."
    ),
    responses(
        (status = 200, description = "A result a line in the order of the lines, each an \
                                      ImportLine, then one ImportSummary",
            body = String, content_type = "application/x-ndjson"),
        ImportProblems
    )
)]
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request<Body>,
) -> ApiResult<Response> {
    let began = begin(&app, &request);
    let (slot, asked) = match began {
        Ok(began) => began,
        Err(error) => {
            discard(request.into_body()).await;
            return Err(error);
        }
    };
    let (results, body) = Channel::new(RESULTS);
    tokio::spawn(run((app, caller), request.into_body(), results, asked, slot));
    let mut response = Response::new(Body::new(body));
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, ndjson);
    Ok(response)
}

/// What can be refused before anything is read.
fn begin(app: &App, request: &Request<Body>) -> ApiResult<(Slot, ImportParams)> {
    check_type(request.headers(), NDJSON)?;
    let asked = params(request.uri())?;
    let state = app.engine.node().state;
    match state {
        NodeState::Ready | NodeState::ReadOnly | NodeState::Standby => app.engine.may_write()?,
        NodeState::Starting | NodeState::Recovering => {
            return Err(WriteError::NotReady { state }.into());
        }
        NodeState::Draining | NodeState::Drained | NodeState::Stopped => {
            return Err(WriteError::Draining { state }.into());
        }
    }
    Ok((app.stream()?, asked))
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A line as it was cut from the body.
struct Line {
    number: u64,
    text: Result<Vec<u8>, ApiError>,
}

/// A line on its way.
enum Fate {
    Known(ApiError),
    Open(oneshot::Receiver<Result<Ack, WriteError>>, Option<Reserved>),
}

async fn run(
    (app, caller): (Arc<App>, Caller),
    body: Body,
    mut results: Sender<Bytes, Error>,
    asked: ImportParams,
    slot: Slot,
) {
    let (to_verify, mut verified) = mpsc::channel::<JoinHandle<Vec<Checked>>>(VERIFYING);
    let (to_report, mut submitted) = mpsc::channel::<Vec<(u64, Fate)>>(SUBMITTED);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let reading = read_lines((&app, &caller), body, to_verify, stopped);
    let submitting = async {
        let mut broke = false;
        while let Some(chunk) = verified.recv().await {
            let Ok(chunk) = chunk.await else {
                broke = true;
                break;
            };
            let (app, caller) = (Arc::clone(&app), caller.clone());
            let wait = app.limits().request_timeout;
            let submit = move || {
                let submit = |checked: Checked| match checked.prepared {
                    Err(error) => (checked.number, Fate::Known(error)),
                    Ok(Prepared { signed, custodial }) => {
                        let reserved = match app.quotas.reserve(&caller, signed.bytes().len()) {
                            Ok(reserved) => reserved,
                            Err(error) => return (checked.number, Fate::Known(error)),
                        };
                        let (reply, fate) = oneshot::channel();
                        let submission = Submission {
                            signed,
                            principal: caller.principal.clone(),
                            custodial,
                            idempotency: None,
                            deadline: None,
                        };
                        app.engine.submit_waiting(submission, wait, move |result| {
                            // If the import was given up, nobody asks for the result.
                            let _ = reply.send(result);
                        });
                        (checked.number, Fate::Open(fate, reserved))
                    }
                };
                chunk.into_iter().map(submit).collect()
            };
            let Ok(fates) = tokio::task::spawn_blocking(submit).await else {
                broke = true;
                break;
            };
            if to_report.send(fates).await.is_err() {
                break;
            }
        }
        drop(to_report);
        // The reader must not wait for a place that nobody frees.
        verified.close();
        broke
    };
    let reporting = async {
        let mut summary =
            ImportSummary { done: true, lines: 0, created: 0, exists: 0, errors: 0, stopped: None };
        while let Some(fates) = submitted.recv().await {
            let mut out = Vec::new();
            for (number, fate) in fates {
                let line = report(&app, number, fate, &mut summary).await;
                if let Some(error) = &line.error
                    && ends_import(error.code)
                    && summary.stopped.is_none()
                {
                    summary.stopped = Some(error.clone());
                    // Whether the reader has ended already makes no difference.
                    let _ = stop.send(true);
                }
                let wanted = match asked.results.unwrap_or(ImportResults::All) {
                    ImportResults::All => true,
                    ImportResults::Errors => line.status == ImportStatus::Error,
                };
                if wanted {
                    push_line(&mut out, &line);
                }
            }
            if !out.is_empty() && !send(&mut results, out, app.limits().body_timeout).await {
                submitted.close();
                let _ = stop.send(true);
                return None;
            }
        }
        Some((summary, results))
    };
    let (read, broke, reported) = tokio::join!(reading, submitting, reporting);
    drop(slot);
    let Some((mut summary, mut results)) = reported else {
        tracing::info!("an import was given up: its results were not read");
        return;
    };
    let Read { lines, error, rest } = read;
    summary.lines = lines;
    let error = match broke {
        true => Some(ApiError::internal("a worker of the import broke off")),
        false => error,
    };
    summary.stopped = summary.stopped.or(error.map(|error| *error.problem));
    let mut out = Vec::new();
    push_line(&mut out, &summary);
    // A caller that does not read its summary has lost nothing: the results were sent.
    let _ = send(&mut results, out, app.limits().body_timeout).await;
    drop(results);
    discard(rest).await;
}

/// Failures of the node, not of the line: what follows would fail alike.
fn ends_import(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ArchiveUnavailable
            | ErrorCode::ClockJump
            | ErrorCode::Draining
            | ErrorCode::Fenced
            | ErrorCode::IndexFailed
            | ErrorCode::Indeterminate
            | ErrorCode::NotReady
            | ErrorCode::OutcomeUnknown
            | ErrorCode::QueueFull
            | ErrorCode::QuotaExceeded
            | ErrorCode::Standby
            | ErrorCode::WalUnavailable
    )
}

async fn report(app: &App, number: u64, fate: Fate, summary: &mut ImportSummary) -> ImportLine {
    let result = match fate {
        Fate::Known(error) => Err(error),
        Fate::Open(fate, reserved) => {
            let result = match fate.await {
                Ok(result) => result.map_err(ApiError::from),
                Err(_) => {
                    Err(ApiError::new(ErrorCode::OutcomeUnknown, "the pipeline gave no answer")
                        .outcome("indeterminate"))
                }
            };
            settle(reserved, &result);
            result
        }
    };
    match result {
        Ok(ack) => {
            let status = match ack.status {
                AckStatus::Created => {
                    summary.created += 1;
                    ImportStatus::Created
                }
                AckStatus::Exists => {
                    summary.exists += 1;
                    ImportStatus::Exists
                }
            };
            ImportLine {
                line: number,
                status,
                id: Some(Id(ack.id)),
                position: Some(ack.position.0),
                recorded_at: Some(Time(ack.recorded_at)),
                error: None,
            }
        }
        Err(error) => {
            summary.errors += 1;
            if !error.counted {
                app.metrics.rejected(error.problem.code);
            }
            ImportLine {
                line: number,
                status: ImportStatus::Error,
                id: None,
                position: None,
                recorded_at: None,
                error: Some(*error.problem),
            }
        }
    }
}

fn push_line(out: &mut Vec<u8>, line: &impl serde::Serialize) {
    // Writing these plain structs to memory has no way to fail.
    if serde_json::to_writer(&mut *out, line).is_ok() {
        out.push(b'\n');
    }
}

async fn send(results: &mut Sender<Bytes, Error>, out: Vec<u8>, timeout: Duration) -> bool {
    matches!(tokio::time::timeout(timeout, results.send_data(out.into())).await, Ok(Ok(())))
}

/// A line with its signature made or verified.
struct Checked {
    number: u64,
    prepared: ApiResult<Prepared>,
}

/// How reading came to its end.
struct Read {
    lines: u64,
    error: Option<ApiError>,
    rest: Body,
}

/// Cuts the body into lines, and gives them out for verification chunk by chunk.
async fn read_lines(
    who: (&Arc<App>, &Caller),
    mut body: Body,
    to_verify: mpsc::Sender<JoinHandle<Vec<Checked>>>,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) -> Read {
    let limits = who.0.limits();
    let mut cutter = Cutter::new(limits.line_bytes);
    let mut bytes = 0u64;
    let error = loop {
        let frame = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break None,
            frame = tokio::time::timeout(limits.body_timeout, body.frame()) => frame,
        };
        if let Err(error) = who.1.still(who.0) {
            break Some(error);
        }
        let data = match frame {
            Err(_) => break Some(too_slow(limits.body_timeout)),
            Ok(Some(Err(error))) => break Some(broken(error)),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => data,
                Err(_) => continue,
            },
            Ok(None) => {
                cutter.end();
                while let Some(chunk) = cutter.take_any() {
                    // If nobody takes it, the caller is gone.
                    let _ = to_verify.send(verify(who, chunk)).await;
                }
                break None;
            }
        };
        bytes = bytes.saturating_add(data.len() as u64);
        if bytes > limits.import_bytes {
            let detail = format!("the body is longer than {} bytes, unpacked", limits.import_bytes);
            break Some(ApiError::new(ErrorCode::BodyTooLarge, detail));
        }
        cutter.push(&data);
        let mut gone = false;
        while let Some(chunk) = cutter.take_full() {
            gone |= to_verify.send(verify(who, chunk)).await.is_err();
        }
        // A caller that sends line by line waits for the result of each.
        if !gone
            && to_verify.capacity() > 0
            && let Some(chunk) = cutter.take_rest()
        {
            gone = to_verify.send(verify(who, chunk)).await.is_err();
        }
        if gone {
            break None;
        }
    };
    // Whole lines that came before the error are still worth their while.
    while error.is_some()
        && let Some(chunk) = cutter.take_any()
    {
        let _ = to_verify.send(verify(who, chunk)).await;
    }
    Read { lines: cutter.number, error, rest: body }
}

fn verify((app, caller): (&Arc<App>, &Caller), chunk: Vec<Line>) -> JoinHandle<Vec<Checked>> {
    let (app, caller) = (Arc::clone(app), caller.clone());
    tokio::task::spawn_blocking(move || {
        let check = |line: Line| {
            let prepared = line.text.and_then(|text| {
                let incoming = Incoming::parse(&text)?;
                prepare(&app, &caller, incoming, None)
            });
            Checked { number: line.number, prepared }
        };
        chunk.into_iter().map(check).collect()
    })
}

/// Cuts bytes into lines, and lines into chunks.
struct Cutter {
    line_bytes_max: usize,
    number: u64,
    partial: Vec<u8>,
    /// The line that is being read is over the limit; the rest of it is skipped.
    overlong: bool,
    lines: Vec<Line>,
    bytes: usize,
    full: Vec<Vec<Line>>,
}

impl Cutter {
    fn new(line_bytes_max: usize) -> Self {
        Self {
            line_bytes_max,
            number: 0,
            partial: Vec::new(),
            overlong: false,
            lines: Vec::new(),
            bytes: 0,
            full: Vec::new(),
        }
    }

    fn push(&mut self, data: &[u8]) {
        let mut rest = data;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.extend(line);
            self.end_line();
            rest = after.get(1..).unwrap_or_default();
        }
        self.extend(rest);
    }

    fn extend(&mut self, part: &[u8]) {
        if self.overlong || part.len() > self.line_bytes_max - self.partial.len() {
            self.overlong = true;
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(part);
        }
    }

    /// The body ended: what is there without a line feed is a line too.
    fn end(&mut self) {
        if self.overlong || !self.partial.is_empty() {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        self.number += 1;
        let text = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.overlong) {
            let detail = format!("the line is longer than {} bytes", self.line_bytes_max);
            let error = ApiError::new(ErrorCode::BodyTooLarge, detail);
            self.lines.push(Line { number: self.number, text: Err(error) });
        } else if text.iter().any(|byte| !byte.is_ascii_whitespace()) {
            self.bytes += text.len();
            self.lines.push(Line { number: self.number, text: Ok(text) });
        }
        if self.lines.len() >= CHUNK_LINES || self.bytes >= CHUNK_BYTES {
            self.bytes = 0;
            self.full.insert(0, std::mem::take(&mut self.lines));
        }
    }

    /// The oldest chunk that is full.
    fn take_full(&mut self) -> Option<Vec<Line>> {
        self.full.pop()
    }

    /// The lines that do not fill a chunk yet; all full ones were taken before.
    fn take_rest(&mut self) -> Option<Vec<Line>> {
        self.bytes = 0;
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() { None } else { Some(lines) }
    }

    /// The oldest lines that are left, whether they fill a chunk or not: the last line, which nothing
    /// ends, may fill one.
    fn take_any(&mut self) -> Option<Vec<Line>> {
        self.take_full().or_else(|| self.take_rest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number and text of each line, however the body is cut into pieces.
    fn cut(pieces: &[&str], line_bytes_max: usize) -> Vec<(u64, Option<String>)> {
        let mut cutter = Cutter::new(line_bytes_max);
        for piece in pieces {
            cutter.push(piece.as_bytes());
        }
        cutter.end();
        let lines = std::iter::from_fn(|| cutter.take_any()).flatten();
        let text =
            |line: Line| (line.number, line.text.ok().map(|t| String::from_utf8(t).unwrap()));
        lines.map(text).collect()
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let some = |number, text: &str| (number, Some(text.to_owned()));
        let expected = vec![some(1, "ab"), some(3, "c"), some(4, "d\r")];
        assert_eq!(cut(&["ab\n\nc\nd\r"], 8), expected);
        assert_eq!(cut(&["a", "b", "\n", "\nc", "\nd\r"], 8), expected);
        assert_eq!(cut(&["", " \n", ""], 8), vec![]);
    }

    #[test]
    fn an_overlong_line_is_one_error_and_the_next_is_read() {
        let expected = vec![(1, Some("1234".to_owned())), (2, None), (3, Some("ok".to_owned()))];
        assert_eq!(cut(&["1234\n12345\nok\n"], 4), expected);
        assert_eq!(cut(&["1234\n123", "45678901", "23\nok"], 4), expected);
    }

    #[test]
    fn chunks_keep_the_order() {
        // Also where the last line, which nothing ends, fills the last chunk.
        for (count, end) in [(CHUNK_LINES * 3 + 7, "\n"), (CHUNK_LINES * 2, "")] {
            let lines: Vec<String> = (0..count).map(|n| n.to_string()).collect();
            let lines = cut(&[&lines.join("\n"), end], 64);
            assert_eq!(lines.len(), count);
            for (index, (number, text)) in lines.into_iter().enumerate() {
                assert_eq!((number, text), (index as u64 + 1, Some(index.to_string())));
            }
        }
    }
}
