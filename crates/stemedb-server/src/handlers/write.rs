//! Records in: one endpoint a kind, and two that are addressed by content.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use stemedb_engine::{self as engine, SnapshotToken, Submission};
use stemedb_model::{Hash, Principal, RecordId, Signed};
use tracing::Instrument;

use super::json;
use crate::answer::Names;
use crate::app::App;
use crate::auth::{Caller, Reserved};
use crate::body::read_json;
use crate::error::{ApiError, ApiResult};
use crate::metrics::WriteStep;
use crate::openapi::WriteProblems;
use crate::span::{self, Part};
use crate::wire::{
    self, Ack, AckStatus, AgentKey, Draft, ErrorCode, Id, Incoming, RecordRequest, Time, from_json,
};

/// A retry within this many bytes of name is a retry.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// What a body came to: signed, by whomever.
pub(crate) struct Prepared {
    pub(crate) signed: Signed,
    pub(crate) custodial: bool,
}

/// Makes a signed record of what a caller asked for: verifies the caller's signature, or signs for
/// the caller. Some tens of microseconds.
pub(crate) fn prepare(
    app: &App,
    caller: &Caller,
    incoming: Incoming,
    idempotency: Option<&Hash>,
) -> ApiResult<Prepared> {
    let (expected, signed, custodial) = match incoming {
        Incoming::Bytes(wire::SignedBytes { id, bytes, signature }) => {
            (id.map(|id| id.0), Signed::from_bytes(bytes.0, signature.0)?, false)
        }
        Incoming::Fields(draft) => {
            let custodial = draft.signature.is_none();
            (draft.id, sign_or_verify(app, caller, &draft, idempotency)?, custodial)
        }
    };
    check_id(&signed, expected)?;
    caller.may_send(&signed, custodial)?;
    Ok(Prepared { signed, custodial })
}

fn sign_or_verify(
    app: &App,
    caller: &Caller,
    draft: &Draft,
    idempotency: Option<&Hash>,
) -> ApiResult<Signed> {
    let log_id = app.engine.log_id();
    if let (Some(agent), Some(at), Some(signature)) = (draft.agent, draft.at, draft.signature) {
        return Ok(Signed::verify(draft.record(agent, at, log_id), signature)?);
    }
    let Some(key) = app.custodian(&caller.principal)? else {
        let detail = "the record has no signature, and this server does not sign for its callers";
        return Err(ApiError::new(ErrorCode::SigningDisabled, detail).field("signature"));
    };
    let at = match (draft.at, idempotency) {
        (Some(at), _) => at,
        (None, Some(key)) => app.engine.receipt_time(key)?,
        (None, None) => {
            let detail = "at: is missing; give it, or an Idempotency-Key header, so that a retry \
                          makes the same record";
            return Err(ApiError::new(ErrorCode::InvalidField, detail).field("at"));
        }
    };
    Signed::seal(draft.record(key.agent_id(), at, log_id), &key)
        .map_err(|invalid| wire::WireError::from(invalid).into())
}

pub(crate) fn check_id(signed: &Signed, expected: Option<RecordId>) -> ApiResult<()> {
    match expected {
        Some(expected) if expected != signed.id() => {
            let detail = format!("the record hashes to {}, not to {expected}", signed.id());
            Err(ApiError::new(ErrorCode::IdMismatch, detail).field("id"))
        }
        _ => Ok(()),
    }
}

/// The hash that stands in the log for a caller's idempotency key.
fn idempotency(headers: &HeaderMap, principal: &Principal) -> ApiResult<Option<Hash>> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let fine = |key: &[u8]| {
        (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
    };
    if keys.next().is_some() || !fine(key.as_bytes()) {
        let problem = "expected once, 1 to 255 visible ASCII characters";
        return Err(ApiError::parameter("Idempotency-Key", problem));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stemedb/v1/idempotency\0").update(principal.as_str().as_bytes());
    // A principal holds no zero byte, so the parts cannot be shifted.
    hasher.update(b"\0").update(key.as_bytes());
    Ok(Some(Hash(*hasher.finalize().as_bytes())))
}

/// Times the steps of a write, one after the other.
struct Steps<'a> {
    app: &'a App,
    since: Duration,
}

impl<'a> Steps<'a> {
    fn new(app: &'a App) -> Self {
        Self { app, since: app.engine.monotonic() }
    }

    fn ended(&mut self, step: WriteStep) {
        let now = self.app.engine.monotonic();
        let took = now.saturating_sub(self.since);
        self.app.metrics.write_step(step, took);
        if let WriteStep::Commit = step {
            span::committed(took);
        }
        self.since = now;
    }
}

/// Reads a body, submits its record, tells its fate.
async fn write(
    (app, caller): (Arc<App>, Caller),
    request: Request<Body>,
    path_id: Option<RecordId>,
    parse: fn(&[u8]) -> ApiResult<Incoming>,
) -> ApiResult<Response> {
    let idempotency = idempotency(request.headers(), &caller.principal)?;
    let limits = app.limits();
    let body = read_json(request, limits.body_bytes, limits.body_timeout).await?;
    let deadline = app.deadline();
    let mut steps = Steps::new(&app);
    let validated = async {
        let incoming = parse(&body)?;
        steps.ended(WriteStep::Parse);
        if matches!(&incoming, Incoming::Fields(draft) if draft.signature.is_none()) {
            app.meet(&caller.principal).await?;
        }
        let prepared = prepare(&app, &caller, incoming, idempotency.as_ref())?;
        check_id(&prepared.signed, path_id)?;
        let reserved = app.quotas.reserve(&caller, prepared.signed.bytes().len())?;
        Ok::<_, ApiError>((prepared, reserved))
    };
    let validated = validated.instrument(span::part(Part::Validate)).await?;
    let (Prepared { signed, custodial }, reserved) = validated;
    let (agent, at) = (signed.record().agent, signed.record().at);
    let submission = Submission {
        signed,
        principal: caller.principal.clone(),
        custodial,
        idempotency,
        deadline: Some(deadline),
    };
    steps.ended(WriteStep::Verify);
    let submitted = app.submit(submission).await;
    settle(reserved, &submitted);
    let ack = submitted?;
    steps.ended(WriteStep::Commit);
    span::position(ack.position);
    let excluded = match ack.status {
        engine::AckStatus::Created => None,
        engine::AckStatus::Exists => exclusion(&app, ack).await?,
    };
    let token = SnapshotToken { timeline: app.engine.timeline(), position: ack.position };
    let (status, created) = match ack.status {
        engine::AckStatus::Created => (StatusCode::CREATED, AckStatus::Created),
        engine::AckStatus::Exists => (StatusCode::OK, AckStatus::Exists),
    };
    let answer = Ack {
        id: Id(ack.id),
        position: ack.position.0,
        recorded_at: Time(ack.recorded_at),
        status: created,
        snapshot: token.to_string(),
        agent: AgentKey(agent),
        at: Time(at),
        custodial,
        excluded,
    };
    json(status, &answer)
}

/// A quota pays for a record that is new, and for one of which nobody knows that it is not.
pub(crate) fn settle(reserved: Option<Reserved>, submitted: &ApiResult<engine::Ack>) {
    let written = match submitted {
        Ok(ack) => ack.status == engine::AckStatus::Created,
        Err(error) => error.problem.outcome.as_ref().is_some_and(|known| known != "not_written"),
    };
    if let Some(reserved) = reserved.filter(|_| !written) {
        reserved.give_back();
    }
}

/// Whether a record that was there before counts now.
async fn exclusion(app: &Arc<App>, ack: engine::Ack) -> ApiResult<Option<wire::Exclusion>> {
    let engine = Arc::clone(&app.engine);
    app.read(move || {
        let view = engine.view(ack.position, Duration::ZERO)?;
        match view.record(&ack.id) {
            Ok(Some(found)) => {
                found.excluded.as_ref().map(|one| Names::new(&view).exclusion(one)).transpose()
            }
            Ok(None) => Ok(None),
            Err(error) => match ApiError::from(error) {
                // That it exists is certain; how it stands in a key too large to resolve is not.
                error if error.problem.code == ErrorCode::ResolveTooLarge => Ok(None),
                error => Err(error),
            },
        }
    })
    .await
}

fn one<T: RecordRequest>(body: &[u8]) -> ApiResult<Incoming> {
    let draft = from_json::<T>(body)?.draft()?;
    Ok(Incoming::Fields(Box::new(draft)))
}

fn any(body: &[u8]) -> ApiResult<Incoming> {
    Ok(Incoming::parse(body)?)
}

macro_rules! endpoint {
    ($name:ident, $path:literal, $record:ident, $summary:literal) => {
        #[doc = $summary]
        #[utoipa::path(
            post,
            path = $path,
            tag = "records",
            params(("Idempotency-Key" = Option<String>, Header,
                description = "Makes a retry the same record, also where the body has no `at`.",
                min_length = 1, max_length = 255, pattern = "^[!-~]+$")),
            request_body(content = wire::$record, content_type = "application/json"),
            responses(
                (status = 201, description = "A new record, durable and readable", body = Ack),
                (status = 200, description = "The same record was there before", body = Ack),
                WriteProblems
            )
        )]
        pub(crate) async fn $name(
            State(app): State<Arc<App>>,
            caller: Caller,
            request: Request<Body>,
        ) -> ApiResult<Response> {
            write((app, caller), request, None, one::<wire::$record>).await
        }
    };
}

endpoint!(assert, "/v1/assert", Assertion, "Claims that a subject has a predicate with a value.");
endpoint!(cosign, "/v1/cosign", Cosign, "Stands by an assertion.");
endpoint!(vote, "/v1/vote", Vote, "Votes for or against an assertion.");
endpoint!(epoch, "/v1/epoch", Epoch, "Opens an epoch, which may supersede another.");
endpoint!(source, "/v1/source", Source, "Registers or re-classifies a source.");
endpoint!(retract, "/v1/retract", Retract, "Takes a record or a source back.");
endpoint!(supersede, "/v1/supersede", Supersede, "Puts one assertion in the place of another.");
endpoint!(predicate, "/v1/predicate", Predicate, "Registers a predicate.");
endpoint!(alias, "/v1/alias", Alias, "Says that two subjects are one entity.");
endpoint!(agent, "/v1/agent", Agent, "Registers, replaces or revokes a key.");
endpoint!(lens, "/v1/lens", Lens, "Defines a version of a lens.");
endpoint!(gold, "/v1/gold", Gold, "Names a known-true value.");
endpoint!(
    trust_snapshot,
    "/v1/trust_snapshot",
    TrustSnapshot,
    "Names the learned trust table that counts from now on."
);
endpoint!(lifecycle, "/v1/lifecycle", Lifecycle, "Moves an assertion to a state.");

/// The `{id}` of a path.
pub(crate) struct RecordIdPath(pub(crate) RecordId);

impl<S: Send + Sync> FromRequestParts<S> for RecordIdPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|error| ApiError::parameter("id", error.body_text()))?;
        text.parse().map(Self).map_err(|error| ApiError::parameter("id", error))
    }
}

/// Writes an assertion under the id that it hashes to.
#[utoipa::path(
    put,
    path = "/v1/assertions/{id}",
    tag = "records",
    params(("id" = Id, Path, description = "What the record hashes to")),
    request_body(content = wire::Assertion, content_type = "application/json"),
    responses(
        (status = 201, description = "A new record, durable and readable", body = Ack),
        (status = 200, description = "The same record was there before", body = Ack),
        WriteProblems
    )
)]
pub(crate) async fn put_assertion(
    State(app): State<Arc<App>>,
    caller: Caller,
    id: RecordIdPath,
    request: Request<Body>,
) -> ApiResult<Response> {
    write((app, caller), request, Some(id.0), one::<wire::Assertion>).await
}

/// Writes a record of any kind under the id that it hashes to.
#[utoipa::path(
    put,
    path = "/v1/records/{id}",
    tag = "records",
    params(("id" = Id, Path, description = "What the record hashes to")),
    request_body(content = wire::AnyBody, content_type = "application/json"),
    responses(
        (status = 201, description = "A new record, durable and readable", body = Ack),
        (status = 200, description = "The same record was there before", body = Ack),
        WriteProblems
    )
)]
pub(crate) async fn put_record(
    State(app): State<Arc<App>>,
    caller: Caller,
    id: RecordIdPath,
    request: Request<Body>,
) -> ApiResult<Response> {
    write((app, caller), request, Some(id.0), any).await
}
