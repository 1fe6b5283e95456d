//! Learned trust: make a table, and say what it says about an agent.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use stemedb_lens::WEIGHT_ONE;
use stemedb_model::AgentId;

use super::json;
use crate::answer::Names;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::openapi::{LearnProblems, TrustProblems};
use crate::question::{params, view, within};
use crate::wire::{
    AgentKey, HashHex, LearnParams, LearnedTrust, SpaceText, TrustAnswer, TrustParams,
};

/// Claims compared with the answers, unless asked otherwise, and at most.
const COMPARED: usize = 100;
const COMPARED_MAX: usize = 1_000;

/// Learns from the log whom to trust, by agent and topic. The table counts once a trust snapshot names
/// it: `POST /v1/trust_snapshot` with the hashes of this answer. Takes seconds for a million claims.
#[utoipa::path(
    post,
    path = "/v1/trust/learn",
    tag = "trust",
    params(LearnParams),
    responses(
        (status = 200, description = "What was learned, by its hashes", body = LearnedTrust),
        LearnProblems
    )
)]
pub(crate) async fn learn(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
) -> ApiResult<Response> {
    let asked: LearnParams = params(&uri)?;
    let space = caller.space(asked.space.as_ref())?;
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    // It is long work, like an export.
    let place = app.stream()?;
    let learned = tokio::task::spawn_blocking(move || {
        let _place = place;
        view.learn_trust(&space)
    });
    let learned = learned
        .await
        .map_err(|error| ApiError::internal(format!("the learning broke off: {error}")))??;
    let answer = LearnedTrust {
        space: SpaceText(learned.space.to_string()),
        input_position: learned.snapshot.input_position.0,
        config: HashHex(learned.snapshot.config),
        table: HashHex(learned.snapshot.table),
        agents: learned.table.len() as u64,
        statements: learned.statements,
        took_ms: u64::try_from(learned.took.as_millis()).unwrap_or(u64::MAX),
    };
    json(StatusCode::OK, &answer)
}

/// What an agent is worth under the lens `trust`, by topic, and which of its claims are not the answer.
#[utoipa::path(
    get,
    path = "/v1/trust/{agent}",
    tag = "trust",
    params(("agent" = AgentKey, Path, description = "A key of the agent"), TrustParams),
    responses(
        (status = 200, description = "Reliability and reasons", body = TrustAnswer),
        TrustProblems
    )
)]
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> ApiResult<Response> {
    let Path(agent) = path.map_err(|error| ApiError::parameter("agent", error.body_text()))?;
    let agent: AgentId = agent.parse().map_err(|error| ApiError::parameter("agent", error))?;
    let asked: TrustParams = params(&uri)?;
    let compare = within("limit", asked.limit, COMPARED, COMPARED_MAX)?;
    let space = caller.space(asked.space.as_ref())?;
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let found = app
        .read(move || {
            let found = view.trust_of(&space, &agent, compare)?;
            Names::new(&view).trust(&space, &found)
        })
        .await?;
    json(StatusCode::OK, &found)
}

/// A reliability as people read it; one half where nothing was learned.
pub(crate) fn reliability(learned: Option<u64>) -> f64 {
    learned.map_or(0.5, |learned| learned as f64 / WEIGHT_ONE as f64)
}
