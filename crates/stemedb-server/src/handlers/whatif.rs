//! What would change if something were gone.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use stemedb_engine::{Dropped, WhatIfBounds};
use stemedb_lens::Resolution;
use stemedb_model::{Position, SourceKey};

use super::json;
use super::query::LENSES_MAX;
use crate::answer::{answered_by, status};
use crate::app::App;
use crate::auth::Caller;
use crate::body::read_json;
use crate::error::{ApiError, ApiResult};
use crate::openapi::WhatIfProblems;
use crate::question::{Lens, within};
use crate::wire::{
    ChangedAnswer, Drop, ErrorCode, LensName, PredicateText, ShortAnswer, SubjectText, Time,
    WhatIfAnswer, WhatIfRequest, from_json,
};

/// Answers shown, unless asked otherwise, and at most.
const SHOWN: usize = 100;
const SHOWN_MAX: usize = 1_000;
/// Keys that are looked at: some seconds.
const KEYS_MAX: usize = 100_000;

/// Which answers would be others if a source, an agent, an assertion or an epoch were gone, with all that
/// rests on it. Nothing is written.
#[utoipa::path(
    post,
    path = "/v1/whatif",
    tag = "questions",
    request_body(content = WhatIfRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The answers that would be others", body = WhatIfAnswer),
        WhatIfProblems
    )
)]
pub(crate) async fn what_if(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request<Body>,
) -> ApiResult<Response> {
    let limits = app.limits();
    let body = read_json(request, limits.body_bytes, limits.body_timeout).await?;
    let asked: WhatIfRequest = from_json(&body)?;
    let shown_max = within("limit", asked.limit, SHOWN, SHOWN_MAX)?;
    let lenses = asked.lenses.as_ref().map_or(1, Vec::len);
    if !(1..=LENSES_MAX).contains(&lenses) {
        let problem = format!("lenses: {lenses} items, expected 1 to {LENSES_MAX}");
        return Err(ApiError::new(ErrorCode::InvalidField, problem).field("lenses"));
    }
    let space = caller.space(asked.space.as_ref())?;
    let dropped = match asked.drop {
        Drop { source: Some(source), agent: None, assertion: None, epoch: None } => {
            Dropped::Source(SourceKey::from(source))
        }
        Drop { source: None, agent: Some(agent), assertion: None, epoch: None } => {
            Dropped::Agent(agent.0)
        }
        Drop { source: None, agent: None, assertion: Some(id), epoch: None } => {
            Dropped::Assertion(id.0)
        }
        Drop { source: None, agent: None, assertion: None, epoch: Some(id) } => {
            Dropped::Epoch(id.0)
        }
        _ => {
            let problem = "drop: expected exactly one of source, agent, assertion, epoch";
            return Err(ApiError::new(ErrorCode::InvalidField, problem).field("drop"));
        }
    };
    let view = app.reach(Position::NONE).await?;
    let lenses = Lens::all(&view, &space, asked.lenses.as_deref())?;
    let answer = app
        .read(move || {
            let options: Vec<_> =
                lenses.iter().map(|lens| lens.options(view.evaluated_at())).collect();
            let bounds = WhatIfBounds { keys_max: KEYS_MAX, shown_max };
            let found = view.what_if(&space, &dropped, &options, bounds)?.ok_or_else(|| {
                let detail = format!("there is nothing like that in space {space}");
                ApiError::new(ErrorCode::RecordNotFound, detail)
            })?;
            let changed = found.changed.iter().map(|one| ChangedAnswer {
                subject: SubjectText(one.now.key.subject.to_string()),
                predicate: PredicateText(one.now.key.predicate.to_string()),
                lens: LensName(answered_by(&one.now)),
                now: short(&one.now),
                then: short(&one.then),
            });
            Ok(WhatIfAnswer {
                position: view.position().0,
                snapshot: view.token().to_string(),
                evaluated_at: Time(view.evaluated_at()),
                keys: found.keys,
                changed_count: found.changed_count,
                changed: changed.collect(),
            })
        })
        .await?;
    json(StatusCode::OK, &answer)
}

fn short(answer: &Resolution) -> ShortAnswer {
    let winners = answer.winners.iter().filter_map(|index| answer.values.get(*index));
    ShortAnswer {
        winners: winners.map(|winner| (&winner.value).into()).collect(),
        status: status(answer.status),
        conflict_score: answer.conflict_score,
        claims: answer.considered.saturating_sub(answer.excluded_count),
    }
}
