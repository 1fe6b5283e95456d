//! Errors as RFC 9457 problem documents, and the one list of their codes.

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::scalar::{Id, string};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $retryable:literal, $title:literal;)*) => {
        /// Everything that can be wrong, alphabetically. The code is API, the detail is not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ErrorCode {
            $(
                #[doc = $title]
                #[serde(rename = $code)]
                $name,
            )*
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in answers.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The HTTP status it goes with.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            /// Whether the same request may succeed later. Retrying a write is always safe.
            pub fn retryable(self) -> bool {
                match self {
                    $(Self::$name => $retryable,)*
                }
            }

            /// The same sentence for every occurrence.
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }
        }
    };
}

codes! {
    AgentNotBound = "agent_not_bound", 403, false, "The API key is bound to another agent";
    AgentUnregistered = "agent_unregistered", 403, false, "This database takes records of registered agents only";
    ApiKeyExists = "api_key_exists", 409, false, "A live API key has this name";
    ApiKeyExpired = "api_key_expired", 401, false, "The API key is no longer valid";
    ApiKeyInUrl = "api_key_in_url", 400, false, "An API key stands in the URL";
    ApiKeyMissing = "api_key_missing", 401, false, "The request shows no API key";
    ApiKeyNotFound = "api_key_not_found", 404, false, "There is no such API key";
    ApiKeyUnknown = "api_key_unknown", 401, false, "The API key is unknown here, or revoked";
    ArchiveUnavailable = "archive_unavailable", 503, true, "The archive takes nothing, and writes wait for it";
    AtAhead = "at_ahead", 400, false, "The claimed time lies more than five minutes ahead";
    AuditEntryNotFound = "audit_entry_not_found", 404, false, "The audit holds no such entry";
    AuditUnavailable = "audit_unavailable", 503, true, "Reads cannot be taken down, or what was taken down cannot be read";
    BadSignature = "bad_signature", 401, false, "The signature is not one of the record's agent";
    BodyTimeout = "body_timeout", 408, true, "The body came too slowly";
    BodyTooLarge = "body_too_large", 413, false, "The body is over the limit";
    ClockJump = "clock_jump", 503, true, "The clock jumped; writes wait for an operator";
    Conflict = "conflict", 409, false, "The record contradicts what the log holds";
    CursorMismatch = "cursor_mismatch", 400, false, "The cursor belongs to another question";
    Cycle = "cycle", 409, false, "The supersession would close a cycle";
    DeadlineExceeded = "deadline_exceeded", 504, true, "The deadline passed; nothing was written";
    Draining = "draining", 503, true, "The node takes no new writes";
    Fenced = "fenced", 500, true, "The node does not hold the lease: another may write";
    Forbidden = "forbidden", 403, false, "The agent has no right to do this";
    ForeignHost = "foreign_host", 403, false, "The request was made for another host or through a proxy";
    HeadersTooLarge = "headers_too_large", 431, false, "The headers are over the limit";
    IdMismatch = "id_mismatch", 400, false, "The record does not hash to the id given";
    IdempotencyConflict = "idempotency_conflict", 409, false, "The idempotency key stands for another record";
    Indeterminate = "indeterminate", 503, true, "The log has not decided about this record";
    IndexDamaged = "index_damaged", 500, false, "The index cannot answer this; the log still holds the records";
    IndexFailed = "index_failed", 500, false, "The index failed to take in what the log holds";
    Internal = "internal", 500, true, "An error of the server";
    InvalidBody = "invalid_body", 400, false, "The body cannot be read";
    InvalidField = "invalid_field", 400, false, "A field of the body is not as it must be";
    InvalidParameter = "invalid_parameter", 400, false, "A parameter is not as it must be";
    KeyReplaced = "key_replaced", 403, false, "The key gave its place to another";
    KeyRevoked = "key_revoked", 403, false, "The key is revoked";
    KeysUnavailable = "keys_unavailable", 503, true, "The list of API keys cannot be written";
    LastAdminKey = "last_admin_key", 409, false, "No other live API key has the role admin";
    LensInvalid = "lens_invalid", 422, false, "The definition of the lens cannot be used";
    LensNotFound = "lens_not_found", 404, false, "There is no such lens";
    Lost = "lost", 410, false, "The record was lost to damage, and a repair of the log gave it up";
    MalformedJson = "malformed_json", 400, false, "The body is not JSON";
    MethodNotAllowed = "method_not_allowed", 405, false, "The path has no such method";
    NotFound = "not_found", 404, false, "There is nothing at this path";
    NotReady = "not_ready", 503, true, "The node is not up yet";
    OutcomeUnknown = "outcome_unknown", 500, true, "The deadline passed after the write was queued";
    Overloaded = "overloaded", 503, true, "Too many requests at once";
    PositionAhead = "position_ahead", 409, true, "The position asked for is not here yet";
    QueueFull = "queue_full", 503, true, "The write queue is full";
    QuotaExceeded = "quota_exceeded", 429, true, "The API key has written what it may in a day";
    RateLimited = "rate_limited", 429, true, "The caller asks more often than it may";
    RecordNotFound = "record_not_found", 404, false, "The log holds no such record";
    ResolveTooLarge = "resolve_too_large", 422, false, "The resolution would need more claims than the bound";
    RoleTooLow = "role_too_low", 403, false, "The API key does not have the role that this takes";
    SigningDisabled = "signing_disabled", 403, false, "This server does not sign for its callers";
    SpaceForbidden = "space_forbidden", 403, false, "The API key is not for this space";
    Standby = "standby", 503, true, "The node is a standby: another takes writes";
    TrustPending = "trust_pending", 503, true, "The node is learning whom to trust";
    TrustTooLarge = "trust_too_large", 422, false, "There is more to learn trust from than the bound";
    TrustUnavailable = "trust_unavailable", 409, false, "The trust snapshot in force cannot be used";
    UnknownReference = "unknown_reference", 409, false, "The record names one that the log does not hold";
    UnsupportedMediaType = "unsupported_media_type", 415, false, "The body is of a type that is not taken here";
    UriTooLong = "uri_too_long", 414, false, "The URL is over the limit";
    WalUnavailable = "wal_unavailable", 500, true, "The log cannot make bytes durable";
    WhatIfTooLarge = "what_if_too_large", 422, false, "It could matter to more keys than the bound";
    WrongKind = "wrong_kind", 409, false, "The record names one of a kind that cannot stand there";
    WrongLog = "wrong_log", 409, false, "The record was signed for another database";
    WrongSpace = "wrong_space", 409, false, "The record names one of another space";
    WrongState = "wrong_state", 409, true, "The node is in another state";
    WrongTimeline = "wrong_timeline", 409, false, "The snapshot belongs to an abandoned timeline";
}

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        string()
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .description(Some("What is wrong, for programs"))
            .into()
    }
}

impl ToSchema for ErrorCode {}

/// An error, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!({
    "type": "urn:stemedb:error:invalid_field",
    "title": "A field of the body is not as it must be",
    "status": 400,
    "detail": "subject: 0 bytes long, expected 1 to 512 bytes of UTF-8",
    "code": "invalid_field",
    "retryable": false,
    "field": "subject"
})))]
pub struct Problem {
    /// `urn:stemedb:error:<code>`.
    #[serde(rename = "type")]
    #[schema(pattern = "^urn:stemedb:error:[a-z_]+$")]
    pub problem_type: String,
    /// The same sentence for every occurrence of the code.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What was wrong, where, and what was expected.
    pub detail: String,
    /// What a program looks at.
    pub code: ErrorCode,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The field or parameter that was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is known about the record: `not_written`, `indeterminate` or `durable_not_applied`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Where the record is durable, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The record that the answer is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
}

impl Problem {
    /// A problem without the optional parts.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            problem_type: format!("urn:stemedb:error:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            retryable: code.retryable(),
            field: None,
            outcome: None,
            position: None,
            id: None,
        }
    }

    /// The page of all codes, `docs/errors.md`.
    pub fn page() -> String {
        let mut page = String::from(PAGE);
        for code in ErrorCode::ALL {
            let retryable = if code.retryable() { "yes" } else { "no" };
            let (name, status, title) = (code.as_str(), code.status(), code.title());
            page.push_str(&format!("| `{name}` | {status} | {retryable} | {title} |\n"));
        }
        page
    }
}

const PAGE: &str = "\
# Errors

Made from `ErrorCode` in `crates/stemedb-server/src/wire/problem.rs`; a test keeps the two the same.

Every error is an `application/problem+json` document (RFC 9457): `type` (`urn:stemedb:error:<code>`),
`title`, `status`, `detail`, `code`, `retryable`; where it applies also `field`, `id`, `position`, and
`outcome`: `not_written` (the record is not in the log and will not appear), `indeterminate` (it may
appear) or `durable_not_applied` (it is in the log, but cannot be read yet). Programs look at `code`;
the wording of `detail` may change. Sending a write again is always safe: the same record is
answered `exists`. Answers with status 503 carry `Retry-After`.

| code | status | retryable | meaning |
|---|---:|---|---|
";

impl From<super::WireError> for Problem {
    fn from(error: super::WireError) -> Self {
        match error {
            super::WireError::Malformed(_) => {
                Self::new(ErrorCode::MalformedJson, error.to_string())
            }
            super::WireError::Field { ref field, .. } => Self {
                field: Some(field.clone()),
                ..Self::new(ErrorCode::InvalidField, error.to_string())
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_alphabetical() {
        let names: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
    }

    #[test]
    fn a_server_error_says_so() {
        for code in ErrorCode::ALL {
            assert!((400..600).contains(&code.status()), "{code:?}");
            // 503 means: not now. Anything else would be a lie to a client that retries.
            assert!(code.status() != 503 || code.retryable(), "{code:?}");
        }
    }
}
