//! The log out again, as newline-delimited JSON or as N-Quads.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use http_body_util::channel::{Channel, Sender};
use stemedb_engine::{ReadError, View};
use stemedb_index::{Entry, IndexError};
use stemedb_lens::{LensName, Reason, standings};
use stemedb_model::{Body as RecordBody, Key, LogId, Position, RetractTarget, Space};
use tokio::runtime::Handle;

use crate::answer::stored;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::openapi::ExportProblems;
use crate::question::{params, view};
use crate::slots::Slot;
use crate::wire::{ExportFormat, ExportParams, Exported, NQUADS, write_record};

/// Records that are read and sent together.
const PAGE: usize = 256;
/// Pieces that wait for the caller to read.
const PIECES: usize = 4;
/// Keys whose excluded claims are kept at hand; past it they are worked out anew.
const KEYS_KEPT: usize = 100_000;

/// The records of a snapshot, ascending by position: a line of JSON each, or the quads of each.
#[utoipa::path(
    get,
    path = "/v1/export",
    tag = "records",
    params(ExportParams),
    responses(
        (status = 200, description = "A StoredRecord a line, or with `format=nquads` its quads; an \
                                      export that could not be finished is cut, and its \
                                      connection closed",
            content((String = "application/x-ndjson"), (String = "application/n-quads"))),
        ExportProblems
    )
)]
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
) -> ApiResult<Response> {
    let asked: ExportParams = params(&uri)?;
    let only = match &asked.space {
        Some(name) => Some(vec![caller.space(Some(name))?]),
        None => caller.spaces.clone(),
    };
    let slot = app.stream()?;
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let snapshot = view.token().to_string();
    let (lines, body) = Channel::new(PIECES);
    let form = asked.format.unwrap_or(ExportFormat::Ndjson);
    let timeout = app.limits().body_timeout;
    let export = Export {
        log_id: app.engine.log_id(),
        app,
        caller,
        view,
        form,
        only,
        live: asked.live.unwrap_or(true),
        excluded: HashMap::new(),
        left_out: Positions::default(),
        timeout,
        _slot: slot,
    };
    let after = Position(asked.after.unwrap_or_default());
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || export.run(after, lines, &runtime));
    let mut response = Response::new(Body::new(body));
    let media_type = HeaderValue::from_static(match form {
        ExportFormat::Ndjson => "application/x-ndjson",
        ExportFormat::Nquads => NQUADS,
    });
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    if let Ok(snapshot) = HeaderValue::from_str(&snapshot) {
        response.headers_mut().insert("stemedb-snapshot", snapshot);
    }
    Ok(response)
}

struct Export {
    app: Arc<App>,
    caller: Caller,
    view: View,
    form: ExportFormat,
    log_id: LogId,
    /// `None`: of all spaces.
    only: Option<Vec<Space>>,
    live: bool,
    /// The claims of a key that take no part.
    excluded: HashMap<Key, BTreeSet<Position>>,
    /// Records that were left out.
    left_out: Positions,
    timeout: Duration,
    _slot: Slot,
}

/// A set of positions, a bit for each up to the last one: an export may leave millions out.
#[derive(Default)]
struct Positions(Vec<u64>);

impl Positions {
    fn place(position: Position) -> (usize, u64) {
        (usize::try_from(position.0 / 64).unwrap_or(usize::MAX), 1 << (position.0 % 64))
    }

    fn insert(&mut self, position: Position) {
        let (at, bit) = Self::place(position);
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word |= bit;
        }
    }

    fn contains(&self, position: Position) -> bool {
        let (at, bit) = Self::place(position);
        self.0.get(at).is_some_and(|word| word & bit != 0)
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

impl Export {
    fn run(mut self, after: Position, mut lines: Sender<Bytes, Error>, runtime: &Handle) {
        let mut from = after.next();
        loop {
            let (out, next) = match self.page(from) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(
                        code = error.problem.code.as_str(),
                        detail = error.problem.detail,
                        "export failed"
                    );
                    lines.abort(error.problem.detail.into());
                    return;
                }
            };
            if !out.is_empty() {
                let sent = runtime.block_on(async {
                    tokio::time::timeout(self.timeout, lines.send_data(out.into())).await
                });
                if !matches!(sent, Ok(Ok(()))) {
                    lines.abort("the export was not read in time".into());
                    return;
                }
            }
            match next {
                Some(next) => from = next,
                None => return,
            }
            self.view.renew();
        }
    }

    fn page(&mut self, from: Position) -> ApiResult<(Vec<u8>, Option<Position>)> {
        self.caller.still(&self.app)?;
        let entries = self.view.entries(from, PAGE)?;
        let next = entries.last().map(|entry| entry.position.next());
        let mut out = Vec::new();
        for entry in entries {
            let record = entry.signed.record();
            if self.only.as_ref().is_some_and(|spaces| !spaces.contains(&record.space)) {
                continue;
            }
            if self.live && !self.is_live(&entry)? {
                self.left_out.insert(entry.position);
                continue;
            }
            match self.form {
                ExportFormat::Ndjson => {
                    serde_json::to_writer(&mut out, &stored(&entry))
                        .map_err(|error| ApiError::internal(error.to_string()))?;
                    out.push(b'\n');
                }
                ExportFormat::Nquads => {
                    let exported = Exported {
                        log_id: self.log_id,
                        position: entry.position,
                        recorded_at: entry.recorded_at,
                        principal: &entry.principal,
                        custodial: entry.custodial,
                        signed: &entry.signed,
                    };
                    let mut quads = String::new();
                    write_record(&mut quads, &exported);
                    out.extend_from_slice(quads.as_bytes());
                }
            }
        }
        Ok((out, next))
    }

    /// Whether a record counts. That a claim holds at another time than now does not make it
    /// less alive.
    fn is_live(&mut self, entry: &Entry) -> ApiResult<bool> {
        let record = entry.signed.record();
        let about = match &record.body {
            RecordBody::Assertion(assertion) => {
                let key = Key {
                    space: record.space.clone(),
                    subject: assertion.subject.clone(),
                    predicate: assertion.predicate.clone(),
                };
                return Ok(!self.excluded(key)?.contains(&entry.position));
            }
            RecordBody::Cosign(cosign) => Some(cosign.assertion),
            RecordBody::Vote(vote) => Some(vote.assertion),
            RecordBody::Lifecycle(lifecycle) => Some(lifecycle.assertion),
            RecordBody::Supersede(supersede) => Some(supersede.old),
            RecordBody::Retract(retract) => match &retract.target {
                RetractTarget::Record(id) => Some(*id),
                RetractTarget::Source(_) => None,
            },
            RecordBody::Genesis(_)
            | RecordBody::Epoch(_)
            | RecordBody::Source(_)
            | RecordBody::Predicate(_)
            | RecordBody::Alias(_)
            | RecordBody::Agent(_)
            | RecordBody::Lens(_)
            | RecordBody::Gold(_)
            | RecordBody::TrustSnapshot(_) => None,
        };
        if let Some(id) = about
            && let Some(position) =
                self.view.snapshot().position_of(&id).map_err(ReadError::from)?
            && self.left_out.contains(position)
        {
            return Ok(false);
        }
        let found = self.view.record(&entry.signed.id())?;
        Ok(found.is_some_and(|found| found.excluded.is_none()))
    }

    fn excluded(&mut self, key: Key) -> ApiResult<&BTreeSet<Position>> {
        if self.excluded.len() >= KEYS_KEPT && !self.excluded.contains_key(&key) {
            self.excluded.clear();
        }
        match self.excluded.entry(key) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::hash_map::Entry::Vacant(new) => {
                let candidates = match self.view.candidates(new.key()) {
                    // What cannot be told to be out is kept.
                    Err(ReadError::Index(IndexError::TooLarge { .. })) => {
                        return Ok(new.insert(BTreeSet::new()));
                    }
                    found => found?,
                };
                let options = self.view.options(LensName::Authority);
                let out = standings(&candidates, &options)
                    .into_iter()
                    .filter(|standing| {
                        standing
                            .excluded
                            .as_ref()
                            .is_some_and(|excluded| excluded.reason != Reason::NotValidThen)
                    })
                    .map(|standing| standing.position)
                    .collect();
                Ok(new.insert(out))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_positions_has_those_that_were_put_in() {
        let mut set = Positions::default();
        let all = [0, 1, 63, 64, 65, 1_000_000];
        assert!(all.iter().all(|one| !set.contains(Position(*one))));
        for (count, one) in all.into_iter().enumerate() {
            set.insert(Position(one));
            let there = all.iter().filter(|one| set.contains(Position(**one))).count();
            assert_eq!(there, count + 1);
        }
        assert!(
            ![2, 62, 66, 128, 999_999, u64::MAX].into_iter().any(|one| set.contains(Position(one)))
        );
    }
}
