//! Everything that can go wrong, as the answer that a caller gets.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use stemedb_engine::{ReadError, WriteError, outcome_str};
use stemedb_index::{ErrorKind, IndexError};
use stemedb_model::{DecodeError, RecordId, Refusal, VerifyError};

use crate::limiter::Allowance;
use crate::wire::{ErrorCode, Id, Problem, WireError};

/// An error answer. Counted where it is sent, logged where it is the server's fault.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) problem: Box<Problem>,
    /// The value of `Retry-After`, where a later try makes sense.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the engine has counted the refusal already.
    pub(crate) counted: bool,
    /// What is left of the caller's allowance, where that is the reason.
    pub(crate) allowance: Option<Allowance>,
    /// The value of `Allow`.
    allow: Option<HeaderValue>,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            retry_after: retry_after(code),
            problem: Box::new(Problem::new(code, detail)),
            counted: false,
            allowance: None,
            allow: None,
        }
    }

    /// The methods that the path has.
    pub(crate) fn allow(mut self, methods: &str) -> Self {
        self.allow = HeaderValue::from_str(methods).ok();
        self
    }

    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.problem.field = Some(field.into());
        self
    }

    pub(crate) fn outcome(mut self, outcome: &str) -> Self {
        self.problem.outcome = Some(outcome.to_owned());
        self
    }

    pub(crate) fn position(mut self, position: Option<stemedb_model::Position>) -> Self {
        self.problem.position = position.map(|position| position.0);
        self
    }

    pub(crate) fn id(mut self, id: RecordId) -> Self {
        self.problem.id = Some(Id(id));
        self
    }

    /// A parameter of the path or the query.
    pub(crate) fn parameter(name: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::InvalidParameter, format!("{name}: {problem}")).field(name)
    }

    /// Something that should not be possible.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, detail)
    }
}

/// When to try again: soon where a queue drains by itself, later where somebody has to act.
fn retry_after(code: ErrorCode) -> Option<Duration> {
    match code {
        ErrorCode::AuditUnavailable
        | ErrorCode::Overloaded
        | ErrorCode::PositionAhead
        | ErrorCode::QueueFull
        | ErrorCode::QuotaExceeded
        | ErrorCode::RateLimited
        | ErrorCode::TrustPending => Some(Duration::from_secs(1)),
        ErrorCode::Draining
        | ErrorCode::NotReady
        | ErrorCode::ArchiveUnavailable
        | ErrorCode::ClockJump
        | ErrorCode::Indeterminate
        | ErrorCode::KeysUnavailable
        | ErrorCode::Standby => Some(Duration::from_secs(5)),
        ErrorCode::AgentNotBound
        | ErrorCode::AgentUnregistered
        | ErrorCode::ApiKeyExists
        | ErrorCode::ApiKeyExpired
        | ErrorCode::ApiKeyInUrl
        | ErrorCode::ApiKeyMissing
        | ErrorCode::ApiKeyNotFound
        | ErrorCode::ApiKeyUnknown
        | ErrorCode::AtAhead
        | ErrorCode::AuditEntryNotFound
        | ErrorCode::BadSignature
        | ErrorCode::BodyTimeout
        | ErrorCode::BodyTooLarge
        | ErrorCode::Conflict
        | ErrorCode::CursorMismatch
        | ErrorCode::Cycle
        | ErrorCode::DeadlineExceeded
        | ErrorCode::Fenced
        | ErrorCode::Forbidden
        | ErrorCode::ForeignHost
        | ErrorCode::HeadersTooLarge
        | ErrorCode::IdMismatch
        | ErrorCode::IdempotencyConflict
        | ErrorCode::IndexDamaged
        | ErrorCode::IndexFailed
        | ErrorCode::Internal
        | ErrorCode::InvalidBody
        | ErrorCode::InvalidField
        | ErrorCode::InvalidParameter
        | ErrorCode::KeyReplaced
        | ErrorCode::KeyRevoked
        | ErrorCode::LastAdminKey
        | ErrorCode::LensInvalid
        | ErrorCode::LensNotFound
        | ErrorCode::Lost
        | ErrorCode::MalformedJson
        | ErrorCode::MethodNotAllowed
        | ErrorCode::NotFound
        | ErrorCode::OutcomeUnknown
        | ErrorCode::RecordNotFound
        | ErrorCode::ResolveTooLarge
        | ErrorCode::RoleTooLow
        | ErrorCode::SigningDisabled
        | ErrorCode::SpaceForbidden
        | ErrorCode::TrustTooLarge
        | ErrorCode::TrustUnavailable
        | ErrorCode::UnknownReference
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::UriTooLong
        | ErrorCode::WalUnavailable
        | ErrorCode::WhatIfTooLarge
        | ErrorCode::WrongKind
        | ErrorCode::WrongLog
        | ErrorCode::WrongSpace
        | ErrorCode::WrongState
        | ErrorCode::WrongTimeline => None,
    }
}

/// What to show so that the answer is another: an API key. Of a bad signature nothing helps but a
/// good one, and a 401 has to say something.
fn challenge(code: ErrorCode) -> Option<&'static str> {
    match code.status() {
        401 if matches!(code, ErrorCode::ApiKeyExpired | ErrorCode::ApiKeyUnknown) => {
            Some("Bearer realm=\"stemedb\", error=\"invalid_token\"")
        }
        401 => Some("Bearer realm=\"stemedb\""),
        _ => None,
    }
}

/// The code of an error answer, for the metrics of whoever sends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) code: ErrorCode,
    pub(crate) counted: bool,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.problem.code;
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let status =
            StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Some(allowance) = self.allowance {
            allowance.tell(headers);
        }
        if let Some(methods) = self.allow {
            headers.insert(header::ALLOW, methods);
        }
        if let Some(challenge) = challenge(code) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response.extensions_mut().insert(Sent { code, counted: self.counted });
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(code = code.as_str(), detail = self.problem.detail, "request failed");
        }
        response
    }
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        let problem = Problem::from(error);
        Self {
            problem: Box::new(problem),
            retry_after: None,
            counted: false,
            allowance: None,
            allow: None,
        }
    }
}

impl From<VerifyError> for ApiError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Record(DecodeError::Invalid(invalid)) => WireError::from(invalid).into(),
            VerifyError::Record(decode) => {
                Self::new(ErrorCode::InvalidField, format!("bytes: {decode}")).field("bytes")
            }
            VerifyError::Signature(bad) => {
                let detail = format!(
                    "signature: {bad}; the record that was signed must have exactly these fields"
                );
                Self::new(ErrorCode::BadSignature, detail).field("signature")
            }
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::Forbidden { .. } => ErrorCode::Forbidden,
            Refusal::KeyRevoked { .. } => ErrorCode::KeyRevoked,
            Refusal::KeyReplaced { .. } => ErrorCode::KeyReplaced,
            Refusal::Unregistered { .. } => ErrorCode::AgentUnregistered,
            Refusal::UnknownReference { .. } => ErrorCode::UnknownReference,
            Refusal::WrongSpace { .. } => ErrorCode::WrongSpace,
            Refusal::WrongKind { .. } => ErrorCode::WrongKind,
            Refusal::Cycle { .. } => ErrorCode::Cycle,
            Refusal::WrongLog { .. } => ErrorCode::WrongLog,
            Refusal::Conflict(_) => ErrorCode::Conflict,
            // The enum may grow; what is refused by the log's state is a conflict with it.
            _ => ErrorCode::Conflict,
        };
        let field = match &refusal {
            Refusal::UnknownReference { field, .. }
            | Refusal::WrongSpace { field, .. }
            | Refusal::WrongKind { field, .. } => Some((*field).to_owned()),
            Refusal::WrongLog { .. } => Some("log_id".to_owned()),
            _ => None,
        };
        let mut error = Self::new(code, refusal.to_string());
        error.problem.field = field;
        error
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let detail = error.to_string();
        let mut api = match error {
            WriteError::Refused(refusal) => refusal.into(),
            WriteError::AtAhead { .. } => Self::new(ErrorCode::AtAhead, detail).field("at"),
            WriteError::Lens(problem) => {
                Self::new(ErrorCode::InvalidField, detail).field(problem.field)
            }
            WriteError::IdempotencyConflict { first } => {
                Self::new(ErrorCode::IdempotencyConflict, detail).id(first)
            }
            WriteError::QueueFull { .. } => Self::new(ErrorCode::QueueFull, detail),
            WriteError::Draining { .. } => Self::new(ErrorCode::Draining, detail),
            WriteError::NotReady { .. } => Self::new(ErrorCode::NotReady, detail),
            WriteError::ArchiveUnavailable { .. } => {
                Self::new(ErrorCode::ArchiveUnavailable, detail).outcome("not_written")
            }
            WriteError::ClockJump { .. } => Self::new(ErrorCode::ClockJump, detail),
            WriteError::Fenced { .. } => {
                Self::new(ErrorCode::Fenced, detail).outcome("indeterminate")
            }
            WriteError::Standby { .. } => {
                Self::new(ErrorCode::Standby, detail).outcome("not_written")
            }
            WriteError::DeadlineBeforeQueue => {
                Self::new(ErrorCode::DeadlineExceeded, detail).outcome("not_written")
            }
            WriteError::Indeterminate { .. } => {
                Self::new(ErrorCode::OutcomeUnknown, detail).outcome("indeterminate")
            }
            WriteError::Undecided { id } => {
                Self::new(ErrorCode::Indeterminate, detail).outcome("indeterminate").id(id)
            }
            WriteError::WalUnavailable { outcome, .. } => {
                Self::new(ErrorCode::WalUnavailable, detail).outcome(outcome_str(outcome))
            }
            WriteError::IndexFailed { position, .. } => {
                let outcome =
                    if position.is_some() { "durable_not_applied" } else { "not_written" };
                Self::new(ErrorCode::IndexFailed, detail).outcome(outcome).position(position)
            }
            // The enum may grow; nothing is known about such a write.
            _ => Self::new(ErrorCode::OutcomeUnknown, detail).outcome("indeterminate"),
        };
        api.counted = true;
        api
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let detail = error.to_string();
        match error {
            ReadError::NotReady { .. } => Self::new(ErrorCode::NotReady, detail),
            ReadError::Behind { .. } => {
                Self::new(ErrorCode::PositionAhead, detail).field("at_least")
            }
            ReadError::WrongTimeline { .. } => Self::new(ErrorCode::WrongTimeline, detail),
            ReadError::AheadOfLog { .. } | ReadError::AheadOfClock { .. } => {
                Self::new(ErrorCode::InvalidParameter, detail).field("as_of")
            }
            ReadError::Undecided { id } => {
                Self::new(ErrorCode::Indeterminate, detail).outcome("indeterminate").id(id)
            }
            ReadError::Lost { position, .. } => {
                let mut error = Self::new(ErrorCode::Lost, detail);
                error.problem.position = Some(position.0);
                error
            }
            ReadError::NotApplied { id, position } => Self::new(ErrorCode::IndexFailed, detail)
                .outcome("durable_not_applied")
                .position(Some(position))
                .id(id),
            ReadError::TrustPending { .. } => Self::new(ErrorCode::TrustPending, detail),
            ReadError::TrustUnavailable { position, .. } => {
                let mut error = Self::new(ErrorCode::TrustUnavailable, detail);
                error.problem.position = Some(position.0);
                error
            }
            ReadError::LensUnknown { .. } => Self::new(ErrorCode::LensNotFound, detail),
            ReadError::LensUnusable { .. } => Self::new(ErrorCode::LensInvalid, detail),
            ReadError::WhatIfTooLarge { .. } => Self::new(ErrorCode::WhatIfTooLarge, detail),
            ReadError::TrustTooLarge { .. } => Self::new(ErrorCode::TrustTooLarge, detail),
            ReadError::Index(index) => index.into(),
            _ => Self::internal(detail),
        }
    }
}

impl From<IndexError> for ApiError {
    fn from(error: IndexError) -> Self {
        let detail = error.to_string();
        match error.kind() {
            ErrorKind::TooLarge => Self::new(ErrorCode::ResolveTooLarge, detail),
            ErrorKind::Rebuild => Self::new(ErrorCode::IndexDamaged, detail),
            ErrorKind::Unavailable => Self::new(ErrorCode::IndexDamaged, detail),
            ErrorKind::Configuration | ErrorKind::Bug => Self::internal(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use stemedb_engine::NodeState;
    use stemedb_lens::LensProblem;
    use stemedb_log::Outcome;
    use stemedb_model::{AgentId, Kind, LogId, Millis, Position, RecordId, Space};

    use super::*;

    /// The engine counts what it refuses, the server what else is refused, in one metric.
    #[test]
    fn a_refusal_is_counted_under_the_code_that_is_told() {
        let id = RecordId([1; 32]);
        let reason = String::new;
        let (key, space, field) = (AgentId([1; 32]), Space::default(), "new");
        let refusals = [
            Refusal::Forbidden { agent: key, space: space.clone(), act: "vote", needs: reason() },
            Refusal::KeyRevoked { key, space: space.clone(), from: Position(1) },
            Refusal::KeyReplaced { key, by: key },
            Refusal::Unregistered { key, space: space.clone() },
            Refusal::UnknownReference { field, id },
            Refusal::WrongSpace { field, id, found: space.clone(), expected: space },
            Refusal::WrongKind { field, id, found: Kind::Vote, expected: "an assertion" },
            Refusal::Cycle { old: id, new: id },
            Refusal::WrongLog { found: None, expected: LogId([1; 16]) },
            Refusal::Conflict(reason()),
        ];
        let errors = [
            WriteError::AtAhead { at: Millis(1), now: Millis(0) },
            WriteError::Lens(LensProblem { field: "filter", problem: reason() }),
            WriteError::IdempotencyConflict { first: id },
            WriteError::QueueFull { records: 1, bytes: 1 },
            WriteError::Draining { state: NodeState::Draining },
            WriteError::NotReady { state: NodeState::Starting },
            WriteError::ClockJump { by_ms: 1 },
            WriteError::ArchiveUnavailable { reason: reason() },
            WriteError::Fenced { reason: reason() },
            WriteError::Standby { primary: reason() },
            WriteError::DeadlineBeforeQueue,
            WriteError::Indeterminate { reason: reason() },
            WriteError::Undecided { id },
            WriteError::WalUnavailable { outcome: Outcome::NotWritten, reason: reason() },
            WriteError::IndexFailed { position: None, reason: reason() },
        ];
        for error in refusals.map(WriteError::Refused).into_iter().chain(errors) {
            let (counted, words) = (error.reason(), error.to_string());
            assert_eq!(ApiError::from(error).problem.code.as_str(), counted, "{words}");
        }
    }
}
