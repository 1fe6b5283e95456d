//! The specification, from the handlers and the wire types.
//!
//! `docs/openapi.json` is this document as committed; a test keeps the two the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Ref, SchemaType, Type};
use utoipa::openapi::{Info, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, RefOr};
use utoipa::{IntoResponses, OpenApi as _, ToSchema};

use crate::auth::{Access, TABLE};
use crate::wire::{self, ErrorCode, Problem};

/// Error answers of every endpoint.
const ALWAYS: &[ErrorCode] = &[
    ErrorCode::ApiKeyInUrl,
    ErrorCode::ForeignHost,
    ErrorCode::HeadersTooLarge,
    ErrorCode::UriTooLong,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::Internal,
];
/// Of every endpoint but probes and metrics: those that take an API key.
const LIMITED: &[ErrorCode] = &[
    ErrorCode::ApiKeyExpired,
    ErrorCode::ApiKeyMissing,
    ErrorCode::ApiKeyUnknown,
    ErrorCode::InvalidParameter,
    ErrorCode::Overloaded,
    ErrorCode::RateLimited,
    ErrorCode::RoleTooLow,
];
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
    ErrorCode::SpaceForbidden,
    ErrorCode::WrongTimeline,
];
/// Of every endpoint whose reads are taken down.
const AUDITED: &[ErrorCode] = &[ErrorCode::AuditUnavailable];
/// Of every endpoint that resolves.
const RESOLVING: &[ErrorCode] =
    &[ErrorCode::ResolveTooLarge, ErrorCode::TrustPending, ErrorCode::TrustUnavailable];
/// Of every endpoint that takes the name of a lens.
const THROUGH: &[ErrorCode] = &[ErrorCode::LensInvalid, ErrorCode::LensNotFound];
/// Of every endpoint that writes.
const WRITING: &[ErrorCode] = &[
    ErrorCode::AgentNotBound,
    ErrorCode::AgentUnregistered,
    ErrorCode::ArchiveUnavailable,
    ErrorCode::AtAhead,
    ErrorCode::BadSignature,
    ErrorCode::ClockJump,
    ErrorCode::Conflict,
    ErrorCode::Cycle,
    ErrorCode::DeadlineExceeded,
    ErrorCode::Draining,
    ErrorCode::Fenced,
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
    ErrorCode::QuotaExceeded,
    ErrorCode::SigningDisabled,
    ErrorCode::SpaceForbidden,
    ErrorCode::Standby,
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
    /// Error answers of the metrics.
    MetricsProblems: LIMITED;
    /// Error answers of what is asked of the node.
    NodeProblems: LIMITED;
    /// Error answers of the list of API keys.
    ListKeysProblems: LIMITED, &[ErrorCode::NotFound];
    /// Error answers of a key that is made or rotated.
    MakeKeyProblems: LIMITED, ASKING, SENDING, &[
        ErrorCode::ApiKeyExists, ErrorCode::ApiKeyNotFound, ErrorCode::KeysUnavailable,
        ErrorCode::NotFound, ErrorCode::Standby
    ];
    /// Error answers of a key that is revoked.
    OneKeyProblems: LIMITED, ASKING, &[
        ErrorCode::ApiKeyNotFound, ErrorCode::KeysUnavailable, ErrorCode::LastAdminKey,
        ErrorCode::NotFound, ErrorCode::Standby
    ];
    /// Error answers of what administrators did.
    AdminAuditProblems: LIMITED, AUDITED, ASKING, &[ErrorCode::DeadlineExceeded];
    /// Error answers of `/readyz`.
    ReadyProblems: ASKING, &[ErrorCode::Draining, ErrorCode::NotReady, ErrorCode::Standby];
    /// Error answers of a drain.
    DrainProblems: LIMITED, ASKING, &[ErrorCode::WrongState];
    /// Error answers of an undrain.
    UndrainProblems: LIMITED, &[ErrorCode::WrongState];
    /// Error answers of a promotion.
    PromoteProblems: LIMITED, ASKING, &[ErrorCode::WrongState];
    /// Error answers of what operators ask of the log.
    WalProblems: LIMITED, &[ErrorCode::WalUnavailable, ErrorCode::WrongState];
    /// Error answers of a checkpoint.
    CheckpointProblems: LIMITED, &[
        ErrorCode::IndexFailed, ErrorCode::WalUnavailable, ErrorCode::WrongState
    ];
    /// Error answers where the index is to be made anew.
    ReindexProblems: LIMITED, &[ErrorCode::WrongState];
    /// Error answers of the endpoints that write one record.
    WriteProblems: LIMITED, ASKING, SENDING, WRITING;
    /// Error answers of an import, before it begins.
    ImportProblems: LIMITED, ASKING, &[
        ErrorCode::Draining, ErrorCode::Fenced, ErrorCode::NotReady, ErrorCode::Standby
    ];
    /// Error answers of an export, before it begins.
    ExportProblems: LIMITED, AUDITED, ASKING, READING;
    /// Error answers of a feed, before it begins.
    FeedProblems: LIMITED, AUDITED, ASKING, READING;
    /// Error answers of the endpoints that show one record.
    ReadRecordProblems: LIMITED, AUDITED, ASKING, READING, &[
        ErrorCode::Indeterminate, ErrorCode::IndexFailed, ErrorCode::RecordNotFound
    ];
    /// Error answers of the endpoint that shows the record at a position.
    ReadPositionProblems: LIMITED, AUDITED, ASKING, READING, &[
        ErrorCode::Indeterminate, ErrorCode::IndexFailed, ErrorCode::Lost, ErrorCode::RecordNotFound
    ];
    /// Error answers of the roots.
    RootProblems: LIMITED, ASKING, &[
        ErrorCode::DeadlineExceeded, ErrorCode::IndexDamaged, ErrorCode::NotReady
    ];
    /// Error answers of a query.
    QueryProblems: LIMITED, AUDITED, ASKING, READING, RESOLVING, THROUGH, &[ErrorCode::CursorMismatch];
    /// Error answers of the endpoints about one key.
    KeyProblems: LIMITED, AUDITED, ASKING, READING, RESOLVING;
    /// Error answers of a receipt made again.
    ReplayProblems: LIMITED, AUDITED, ASKING, SENDING, READING, RESOLVING, THROUGH;
    /// Error answers of the list of conflicts.
    ConflictProblems: LIMITED, AUDITED, ASKING, READING, &[ErrorCode::CursorMismatch];
    /// Error answers of what would change.
    WhatIfProblems: LIMITED, AUDITED, ASKING, SENDING, READING, RESOLVING, THROUGH, &[
        ErrorCode::RecordNotFound, ErrorCode::WhatIfTooLarge
    ];
    /// Error answers of the learning of trust.
    LearnProblems: LIMITED, ASKING, READING, &[ErrorCode::TrustTooLarge];
    /// Error answers of what is known about an agent.
    TrustProblems: LIMITED, AUDITED, ASKING, READING, RESOLVING;
    /// Error answers of a list of lenses.
    LensesProblems: LIMITED, ASKING, READING, &[ErrorCode::CursorMismatch];
    /// Error answers of one lens.
    LensProblems: LIMITED, ASKING, READING, &[ErrorCode::LensNotFound];
    /// Error answers of the audit's list.
    AuditProblems: LIMITED, AUDITED, ASKING, &[
        ErrorCode::CursorMismatch, ErrorCode::DeadlineExceeded
    ];
    /// Error answers of one entry of the audit.
    AuditEntryProblems: LIMITED, AUDITED, ASKING, &[
        ErrorCode::AuditEntryNotFound, ErrorCode::DeadlineExceeded
    ];
    /// Error answers of a bulk resolution.
    ResolveProblems: LIMITED, AUDITED, ASKING, SENDING, READING, RESOLVING, THROUGH;
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
    if status == 401 {
        let header = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(SchemaType::new(Type::String))))
            .description(Some("`Bearer`: send an API key"))
            .build();
        response = response.header("WWW-Authenticate", header);
    }
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
    wire::KindName,
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
    let mut document = serde_json::to_value(document)?;
    tighten(&mut document);
    secure(&mut document);
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// Says of each operation which API keys may use it, from the one table that decides.
fn secure(document: &mut Value) {
    let schemes = json!({
        "bearer": {
            "type": "http", "scheme": "bearer",
            "description": "An API key: `Authorization: Bearer stk_…`"
        },
        "api_key": {
            "type": "apiKey", "in": "header", "name": "X-API-Key",
            "description": "The same key in a header of its own; not both"
        }
    });
    if let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) {
        components.insert("securitySchemes".into(), schemes);
    }
    for (method, path, access, _) in TABLE {
        let operation = document
            .get_mut("paths")
            .and_then(|paths| paths.get_mut(path)?.get_mut(method.to_lowercase()))
            .and_then(Value::as_object_mut);
        let Some(operation) = operation else { continue };
        let security = match access {
            Access::Open => json!([]),
            // Both, and nothing: it depends on the configuration.
            Access::Scrape => json!([{}, {"bearer": []}, {"api_key": []}]),
            Access::Role(_) => json!([{"bearer": []}, {"api_key": []}]),
        };
        operation.insert("security".into(), security);
        if let Some(role) = access.role() {
            operation.insert("x-stemedb-role".into(), role.as_str().into());
        }
    }
}

/// Says what the derives cannot: that a field which may be left out need not be null, and which
/// fields go together.
fn tighten(document: &mut Value) {
    absent_instead_of_null(document);
    lines_are_no_value(document);
    let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut)
    else {
        return;
    };
    for schema in schemas.values_mut() {
        if schema.pointer("/properties/signature").is_some()
            && schema.pointer("/properties/agent").is_some()
        {
            let together = json!({"agent": ["signature", "at"], "signature": ["agent", "at"]});
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("dependentRequired".into(), together);
            }
        }
    }
    for name in ["Provenance", "Tolerance"] {
        if let Some(schema) = schemas.get_mut(name).and_then(Value::as_object_mut) {
            schema.insert("minProperties".into(), 1.into());
        }
    }
    // The derive forgets it for the forms of a tagged enum.
    let tagged = schemas.get_mut("Tagged").and_then(|schema| schema.get_mut("oneOf"));
    for form in tagged.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(form) = form.as_object_mut() {
            form.insert("additionalProperties".into(), false.into());
        }
    }
    for (name, rules) in [
        ("Conversion", vec![json!({"properties": {"multiply": {"not": {"const": 0}}}})]),
        (
            "Predicate",
            vec![
                json!({"dependentRequired": {"conversions": ["unit"]}}),
                of_types("unit", &["number"]),
                of_types("tolerance", &["number", "time"]),
            ],
        ),
    ] {
        if let Some(schema) = schemas.get_mut(name).and_then(Value::as_object_mut) {
            schema.insert("allOf".into(), rules.into());
        }
    }
    let register = ["name", "operator", "roles", "ceiling"];
    let replace = ["replaces", "consent"];
    let revoke = ["from_position"];
    for (name, variants) in [
        ("Epoch", vec![(vec!["supersedes", "mode"], vec![]), (vec![], vec!["supersedes", "mode"])]),
        ("Retract", vec![(vec!["source"], vec!["record"]), (vec!["record"], vec!["source"])]),
        (
            "Agent",
            vec![
                ([&replace[..], &revoke].concat(), vec!["ceiling"]),
                ([&register[..], &revoke].concat(), replace.to_vec()),
                ([&register[..], &replace].concat(), revoke.to_vec()),
            ],
        ),
    ] {
        if let Some(schema) = schemas.get_mut(name) {
            *schema = one_of(name, schema, &variants);
        }
    }
}

/// A field that only predicates of these types have; without a type it is one of any.
fn of_types(field: &str, types: &[&str]) -> Value {
    json!({"anyOf": [
        {"properties": {field: false}},
        {"properties": {"type": {"enum": types}}},
    ]})
}

/// A stream of JSON lines is no JSON value, and a schema would be taken for that of one.
fn lines_are_no_value(node: &mut Value) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(lines_are_no_value),
        Value::Object(map) => {
            if let Some(Value::Object(responses)) = map.get_mut("responses") {
                for response in responses.values_mut() {
                    let lines = response.pointer_mut("/content/application~1x-ndjson");
                    if let Some(Value::Object(lines)) = lines {
                        lines.remove("schema");
                    }
                }
            }
            map.values_mut().for_each(lines_are_no_value);
        }
        _ => {}
    }
}

/// One schema a form: each without some of the fields, and with others required.
fn one_of(name: &str, schema: &Value, variants: &[(Vec<&str>, Vec<&str>)]) -> Value {
    let mut forms = Vec::new();
    for (without, with) in variants {
        let mut form = schema.clone();
        if let Some(properties) = form.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|field, _| !without.contains(&field.as_str()));
        }
        let mut required: Vec<Value> =
            form.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        required.extend(with.iter().map(|field| Value::from(*field)));
        if let Some(form) = form.as_object_mut() {
            if !required.is_empty() {
                form.insert("required".into(), required.into());
            }
            form.remove("description");
            form.remove("examples");
            let fields = if with.is_empty() { &without[..] } else { &with[..] };
            let word = if with.is_empty() { "without" } else { "with" };
            form.insert("title".into(), format!("{name} {word} {}", fields.join(", ")).into());
        }
        forms.push(form);
    }
    let mut whole = Map::from_iter([("oneOf".to_owned(), forms.into())]);
    for kept in ["description", "examples"] {
        whole.extend(schema.get(kept).map(|value| (kept.to_owned(), value.clone())));
    }
    whole.into()
}

/// A field that may be left out is read the same when it is null, but nobody needs to send that.
/// Fields that are always there and may be null stay as they are.
fn absent_instead_of_null(node: &mut Value) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(absent_instead_of_null),
        Value::Object(map) => {
            map.values_mut().for_each(absent_instead_of_null);
            let required: Vec<String> = map
                .get("required")
                .and_then(Value::as_array)
                .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                .unwrap_or_default();
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                for (field, schema) in properties {
                    if !required.contains(field) {
                        not_null(schema);
                    }
                }
            }
            if map.contains_key("in")
                && let Some(schema) = map.get_mut("schema")
            {
                not_null(schema);
            }
        }
        _ => {}
    }
}

fn not_null(schema: &mut Value) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            if let Some(only) = schema.get_mut("type") {
                *only = one;
            }
        }
    }
    let Some(Value::Array(forms)) = schema.get_mut("oneOf") else { return };
    forms.retain(|form| form != &json!({"type": "null"}));
    if let [Value::Object(one)] = forms.as_slice() {
        let one = one.clone();
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("oneOf");
            schema.extend(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_may_be_left_out_need_not_be_null() {
        let mut schema = json!({
            "required": ["kept"],
            "properties": {
                "kept": {"type": ["string", "null"]},
                "text": {"type": ["string", "null"], "maxLength": 3},
                "other": {"oneOf": [{"type": "null"}, {"$ref": "#/x", "description": "d"}]}
            }
        });
        absent_instead_of_null(&mut schema);
        let expected = json!({
            "required": ["kept"],
            "properties": {
                "kept": {"type": ["string", "null"]},
                "text": {"type": "string", "maxLength": 3},
                "other": {"$ref": "#/x", "description": "d"}
            }
        });
        assert_eq!(schema, expected);
    }

    #[test]
    fn forms_have_their_own_fields() {
        let schema = json!({
            "description": "d", "required": ["a"], "properties": {"a": 1, "b": 2, "c": 3}
        });
        let forms = one_of("S", &schema, &[(vec!["b"], vec!["c"]), (vec!["c"], vec![])]);
        let expected = json!({
            "description": "d",
            "oneOf": [
                {"title": "S with c", "required": ["a", "c"], "properties": {"a": 1, "c": 3}},
                {"title": "S without c", "required": ["a"], "properties": {"a": 1, "b": 2}}
            ]
        });
        assert_eq!(forms, expected);
    }
}
