//! The specification, from the handlers and the wire types.
//!
//! `docs/openapi.json` is this document as committed; a test keeps the two the same.

use std::collections::BTreeMap;

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Ref, SchemaType, Type};
use utoipa::openapi::{Info, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, RefOr};
use utoipa::{IntoResponses, OpenApi as _, ToSchema};

use crate::wire::{self, ErrorCode, Problem};

/// Error answers of every endpoint.
const ALWAYS: &[ErrorCode] = &[
    ErrorCode::ForeignHost,
    ErrorCode::HeadersTooLarge,
    ErrorCode::UriTooLong,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::Internal,
];
/// Of every endpoint but probes and metrics.
const LIMITED: &[ErrorCode] = &[ErrorCode::Overloaded];
/// Of every endpoint that takes parameters.
const ASKING: &[ErrorCode] = &[ErrorCode::InvalidParameter];
/// Of every endpoint that takes a JSON body.
const SENDING: &[ErrorCode] = &[
    ErrorCode::BodyTimeout,
    ErrorCode::BodyTooLarge,
    ErrorCode::InvalidBody,
    ErrorCode::InvalidField,
    ErrorCode::MalformedJson,
];
/// Of every endpoint that reads at a position.
const READING: &[ErrorCode] = &[
    ErrorCode::DeadlineExceeded,
    ErrorCode::IndexDamaged,
    ErrorCode::NotReady,
    ErrorCode::PositionAhead,
    ErrorCode::WrongTimeline,
];
/// Of every endpoint that resolves.
const RESOLVING: &[ErrorCode] = &[ErrorCode::ResolveTooLarge];
/// Of every endpoint that writes.
const WRITING: &[ErrorCode] = &[
    ErrorCode::AgentUnregistered,
    ErrorCode::AtAhead,
    ErrorCode::BadSignature,
    ErrorCode::ClockJump,
    ErrorCode::Conflict,
    ErrorCode::Cycle,
    ErrorCode::DeadlineExceeded,
    ErrorCode::Draining,
    ErrorCode::Forbidden,
    ErrorCode::IdMismatch,
    ErrorCode::IdempotencyConflict,
    ErrorCode::Indeterminate,
    ErrorCode::IndexFailed,
    ErrorCode::KeyReplaced,
    ErrorCode::KeyRevoked,
    ErrorCode::NotReady,
    ErrorCode::OutcomeUnknown,
    ErrorCode::QueueFull,
    ErrorCode::SigningDisabled,
    ErrorCode::UnknownReference,
    ErrorCode::WalUnavailable,
    ErrorCode::WrongKind,
    ErrorCode::WrongLog,
    ErrorCode::WrongSpace,
];

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $($group:expr),+;)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    answers(&[ALWAYS, $($group),+])
                }
            }
        )*
    };
}

problems! {
    /// Error answers of probes, which nothing limits.
    ProbeProblems: &[];
    /// Error answers of `/readyz`.
    ReadyProblems: ASKING, &[ErrorCode::Draining, ErrorCode::NotReady];
    /// Error answers of a drain.
    DrainProblems: LIMITED, ASKING, &[ErrorCode::WrongState];
    /// Error answers of an undrain.
    UndrainProblems: LIMITED, &[ErrorCode::WrongState];
    /// Error answers of the endpoints that write one record.
    WriteProblems: LIMITED, ASKING, SENDING, WRITING;
    /// Error answers of an import, before it begins.
    ImportProblems: LIMITED, ASKING, &[ErrorCode::Draining, ErrorCode::NotReady];
    /// Error answers of an export, before it begins.
    ExportProblems: LIMITED, ASKING, READING;
    /// Error answers of the endpoints that show one record.
    ReadRecordProblems: LIMITED, ASKING, READING, RESOLVING, &[
        ErrorCode::Indeterminate, ErrorCode::IndexFailed, ErrorCode::RecordNotFound
    ];
    /// Error answers of the roots.
    RootProblems: LIMITED, ASKING, &[
        ErrorCode::DeadlineExceeded, ErrorCode::IndexDamaged, ErrorCode::NotReady
    ];
    /// Error answers of a query.
    QueryProblems: LIMITED, ASKING, READING, RESOLVING, &[ErrorCode::CursorMismatch];
    /// Error answers of the endpoints about one key.
    KeyProblems: LIMITED, ASKING, READING, RESOLVING;
    /// Error answers of a bulk resolution.
    ResolveProblems: LIMITED, ASKING, SENDING, READING, RESOLVING;
}

/// One answer a status, its description listing the codes that have it.
fn answers(groups: &[&[ErrorCode]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in groups.iter().copied().flatten() {
        by_status.entry(code.status()).or_default().push(*code);
    }
    by_status
        .into_iter()
        .map(|(status, mut codes)| {
            codes.sort_unstable();
            codes.dedup();
            (status.to_string(), problem(status, &codes).into())
        })
        .collect()
}

fn problem(status: u16, codes: &[ErrorCode]) -> Response {
    let lines: Vec<String> =
        codes.iter().map(|code| format!("`{}`: {}.", code.as_str(), code.title())).collect();
    let content =
        ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    let mut response = ResponseBuilder::new()
        .description(lines.join(" "))
        .content("application/problem+json", content);
    if status == 503 {
        let seconds = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::Integer))
            .minimum(Some(1))
            .description(Some("seconds"));
        let header = HeaderBuilder::new()
            .schema(Some(seconds))
            .description(Some("When to try again"))
            .build();
        response = response.header("Retry-After", header);
    }
    response.build()
}

/// What the types themselves do not lead to.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(
    Problem,
    ErrorCode,
    wire::ImportLine,
    wire::ImportSummary,
    wire::StoredRecord,
    wire::AgentKey,
    wire::AsOf,
    wire::AtLeast,
    wire::Class,
    wire::Decay,
    wire::ExportFormat,
    wire::Id,
    wire::ImportResults,
    wire::LensName,
    wire::LifecycleState,
    wire::PredicateText,
    wire::ReadyFor,
    wire::Role,
    wire::SourceKey,
    wire::SpaceText,
    wire::SubjectText,
    wire::TieRule,
    wire::Tier,
    wire::TimeParam,
    wire::UriText,
)))]
struct Components;

/// The document before the routes are added.
pub(crate) fn base() -> OpenApi {
    let info: Info = InfoBuilder::new()
        .title("StemeDB")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A database for claims that disagree: signed claims in, resolved answers out, each \
             with the disagreement behind it. Errors are problem documents (RFC 9457) with a \
             stable `code`. Every write may be sent again: the same record is answered `exists`.",
        ))
        .license(Some(
            LicenseBuilder::new()
                .name("MIT OR Apache-2.0")
                .identifier(Some("MIT OR Apache-2.0"))
                .build(),
        ))
        .build();
    OpenApiBuilder::new().info(info).components(Components::openapi().components).build()
}

/// The document as it is committed: stable order, a line feed at the end.
pub(crate) fn text(document: &OpenApi) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}
