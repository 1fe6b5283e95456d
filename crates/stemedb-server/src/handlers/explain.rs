//! Receipts of answers, and the same answers made again.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode, Uri};
use axum::response::Response;
use stemedb_engine::AsOf;
use stemedb_lens::{self as lens, Options, merkle};
use stemedb_model::{Hash, Key, Position};

use super::json;
use crate::answer::status;
use crate::app::App;
use crate::auth::Caller;
use crate::body::read_json;
use crate::cursor::{After, Cursor, explain_hash};
use crate::error::{ApiError, ApiResult};
use crate::metrics::Question;
use crate::openapi::{QueryProblems, ReplayProblems};
use crate::question::{Asked, Lens, params, predicate, sources, subject, view};
use crate::wire::{
    self, AgentKey, Considered, ErrorCode, ExplainParams, Explanation, HashHex, Id, PredicateText,
    Receipt, ReceiptOptions, ReceiptTrust, ReceiptValue, Replay, SpaceText, SubjectText, Tier,
    Time, from_json,
};

/// The receipt of an answer: everything it rests on, so that anybody with the log can make it again. The
/// assertions considered come in pages of 256, each with its way to the receipt's root.
#[utoipa::path(
    get,
    path = "/v1/explain",
    tag = "questions",
    params(ExplainParams),
    responses(
        (status = 200, description = "The receipt, and a page of what was considered", body = Explanation),
        QueryProblems
    )
)]
pub(crate) async fn receipt(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
) -> ApiResult<Response> {
    let began = app.engine.monotonic();
    let asked: ExplainParams = params(&uri)?;
    let hash = explain_hash(&asked);
    let options = Asked::explain(&asked)?;
    let key = Key {
        space: caller.space(asked.space.as_ref())?,
        subject: subject(&asked.subject)?,
        predicate: predicate(&asked.predicate)?,
    };
    let cursor = asked.cursor.as_deref().map(|text| Cursor::parse(text, &hash)).transpose()?;
    let mut view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let mut evaluated_at = view.evaluated_at();
    let mut after = Position::NONE;
    if let Some(cursor) = cursor {
        let position = app.engine.position_of(&cursor.snapshot)?;
        view = app.reach(position).await?.as_of(AsOf::Position(position))?;
        evaluated_at = cursor.evaluated_at;
        after = match cursor.after {
            After::Position(position) => position,
            After::Key(_) | After::Conflict(_) => return Err(Cursor::mismatch()),
        };
    }
    let lens = Lens::find(&view, &key.space, asked.lens.as_ref(), "lens")?;
    let label = lens.label();
    let answer = app
        .read(move || {
            let options = options.options(&lens, evaluated_at);
            let (receipt, considered) = view.explain(&key, &options)?;
            let begin = considered.partition_point(|one| one.position <= after);
            let page = begin / merkle::PAGE;
            let leaves: Vec<Hash> =
                considered.iter().map(|one| merkle::leaf(&one.bytes())).collect();
            let pages = merkle::pages(&leaves);
            let here = considered.chunks(merkle::PAGE).nth(page).unwrap_or_default();
            let more = page + 1 < pages.len();
            let next = here.last().filter(|_| more).map(|last| {
                let after = After::Position(last.position);
                Cursor { snapshot: view.token(), evaluated_at, after }.to_text(&hash)
            });
            Ok(Explanation {
                hash: HashHex(receipt.hash()),
                receipt: Receipt::from(&receipt),
                snapshot: view.token().to_string(),
                page: page as u64,
                pages: pages.len() as u64,
                considered: here.iter().map(Considered::from).collect(),
                path: merkle::path(&pages, page).into_iter().map(HashHex).collect(),
                cursor: next,
            })
        })
        .await?;
    app.metrics.asked(Question::Explain, Some(label), 1);
    app.metrics.answered(Question::Explain, app.engine.monotonic().saturating_sub(began));
    json(StatusCode::OK, &answer)
}

/// Makes a receipt again, from the log as it was, and compares. It is the same after a restart, after
/// the index was made anew, and on any node with the same log.
#[utoipa::path(
    post,
    path = "/v1/replay",
    tag = "questions",
    request_body(content = Receipt, content_type = "application/json"),
    responses(
        (status = 200, description = "Whether it is the same, and what is not", body = Replay),
        ReplayProblems
    )
)]
pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request<Body>,
) -> ApiResult<Response> {
    let limits = app.limits();
    let body = read_json(request, limits.body_bytes, limits.body_timeout).await?;
    let given: Receipt = from_json(&body)?;
    let began = app.engine.monotonic();
    let key = Key {
        space: caller.space(Some(&given.space))?,
        subject: subject(&given.subject)?,
        predicate: predicate(&given.predicate)?,
    };
    let view = app.reach(Position::NONE).await?;
    let view = view
        .as_of(AsOf::Position(Position(given.position)))
        .map_err(|error| ApiError::from(error).field("position"))?;
    let lens = Lens::find(&view, &key.space, Some(&given.lens), "lens")?;
    let options = options(&given, &lens)?;
    let answer = app
        .read(move || {
            let view = view.evaluated(options.evaluated_at);
            let (receipt, _) = view.explain(&key, &options)?;
            let here = Receipt::from(&receipt);
            let differences = differences(&given, &here)?;
            Ok(Replay {
                same: differences.is_empty(),
                differences,
                hash: HashHex(receipt.hash()),
                receipt: here,
            })
        })
        .await?;
    app.metrics.asked(Question::Replay, None, 1);
    app.metrics.answered(Question::Replay, app.engine.monotonic().saturating_sub(began));
    json(StatusCode::OK, &answer)
}

/// The fields of two receipts that are not the same, bit for bit.
fn differences(given: &Receipt, here: &Receipt) -> ApiResult<Vec<String>> {
    let fields = |receipt: &Receipt| match serde_json::to_value(receipt) {
        Ok(serde_json::Value::Object(fields)) => Ok(fields),
        _ => Err(ApiError::internal("a receipt is no JSON object")),
    };
    let (given, here) = (fields(given)?, fields(here)?);
    let mut names: Vec<&String> = given.keys().chain(here.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| given.get(*name) != here.get(*name));
    Ok(names.into_iter().cloned().collect())
}

/// Lens, options and times of a receipt.
fn options(receipt: &Receipt, lens: &Lens) -> ApiResult<Options> {
    let given = &receipt.options;
    if receipt.version != stemedb_lens::RECEIPT_VERSION {
        let problem = format!("version: {}, this build knows 1", receipt.version);
        return Err(ApiError::new(ErrorCode::InvalidField, problem).field("version"));
    }
    let certain = given.min_confidence.is_none_or(|least| (0.0..=1.0).contains(&least));
    if !certain {
        let problem = "options.min_confidence: expected 0 to 1";
        return Err(ApiError::new(ErrorCode::InvalidField, problem).field("options.min_confidence"));
    }
    Ok(Options {
        epoch_aware: given.epoch_aware,
        decay: given.decay.into(),
        min_confidence: given.min_confidence,
        lifecycle: given.lifecycle.as_ref().map(|all| all.iter().map(|one| one.0).collect()),
        tiers: given
            .tiers
            .as_ref()
            .map(|all| all.iter().map(|one| stemedb_model::Tier(one.0)).collect()),
        agents: given.agents.as_ref().map(|all| all.iter().map(|one| one.0).collect()),
        sources: sources("options.sources", given.sources.as_ref())?,
        asserted_before: given.asserted_before.map(|at| at.0),
        valid_at: receipt.valid_at.0,
        ..lens.options(receipt.evaluated_at.0)
    })
}

impl From<&lens::Receipt> for Receipt {
    fn from(receipt: &lens::Receipt) -> Self {
        let options = &receipt.options;
        Self {
            version: lens::RECEIPT_VERSION,
            space: SpaceText(receipt.key.space.to_string()),
            subject: SubjectText(receipt.key.subject.to_string()),
            predicate: PredicateText(receipt.key.predicate.to_string()),
            lens: wire::LensName(options.lens_name().into_owned()),
            options: ReceiptOptions {
                epoch_aware: options.epoch_aware,
                decay: options.decay.into(),
                min_confidence: options.min_confidence,
                lifecycle: options
                    .lifecycle
                    .as_ref()
                    .map(|all| all.iter().map(|one| wire::LifecycleState(*one)).collect()),
                tiers: options
                    .tiers
                    .as_ref()
                    .map(|all| all.iter().map(|one| Tier(one.0)).collect()),
                agents: options
                    .agents
                    .as_ref()
                    .map(|all| all.iter().map(|one| AgentKey(*one)).collect()),
                sources: options
                    .sources
                    .as_ref()
                    .map(|all| all.iter().map(wire::SourceKey::from).collect()),
                asserted_before: options.asserted_before.map(Time),
            },
            lens_hash: HashHex(receipt.lens_hash),
            position: receipt.position.0,
            evaluated_at: Time(options.evaluated_at),
            valid_at: Time(options.valid_at),
            trust: receipt.trust.as_ref().map(|trust| ReceiptTrust {
                input_position: trust.input_position.0,
                config: HashHex(trust.config),
                table: HashHex(trust.table),
            }),
            status: status(receipt.status),
            winners: receipt.winners.iter().map(|winner| *winner as u64).collect(),
            values: receipt.values.iter().map(ReceiptValue::from).collect(),
            considered: receipt.considered,
            excluded: receipt.excluded,
            root: HashHex(receipt.root),
        }
    }
}

impl From<&lens::ReceiptValue> for ReceiptValue {
    fn from(value: &lens::ReceiptValue) -> Self {
        Self {
            value: (&value.value).into(),
            share: value.share.to_string(),
            support: value.support.to_string(),
            against: value.against.to_string(),
            lens_weight: value.lens_weight.to_string(),
            lens_against: value.lens_against.to_string(),
            claims: value.claims,
            agents: value.agents,
            voices: value.voices,
        }
    }
}

impl From<&lens::Considered> for Considered {
    fn from(one: &lens::Considered) -> Self {
        Self {
            position: one.position.0,
            id: Id(one.id),
            opposing: one.opposing,
            tier: one.tier.0,
            value: (&one.value).into(),
            reason: one.excluded.map(|(reason, _)| reason.as_str().to_owned()),
            by: one.excluded.and_then(|(_, by)| by).map(|by| by.0),
        }
    }
}
