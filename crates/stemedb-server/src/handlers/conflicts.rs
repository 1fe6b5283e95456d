//! The keys that claims disagree about most.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use stemedb_engine::SnapshotToken;
use stemedb_index::{Conflict, ConflictFilter, ConflictPage};
use stemedb_model::Position;

use super::json;
use crate::answer::{status, status_of};
use crate::app::App;
use crate::auth::Caller;
use crate::cursor::{After, Cursor, conflict_hash};
use crate::error::{ApiError, ApiResult};
use crate::openapi::ConflictProblems;
use crate::question::{params, position, predicate, within};
use crate::wire::{self, ConflictParams, ConflictsAnswer, PredicateText, SubjectText, Time};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// Keys by how much their claims disagree, the worst first, without resolving any. The list follows the
/// log by itself, some moments behind; `at_least` waits for it.
#[utoipa::path(
    get,
    path = "/v1/conflicts",
    tag = "questions",
    params(ConflictParams),
    responses(
        (status = 200, description = "A page of conflicts", body = ConflictsAnswer),
        ConflictProblems
    )
)]
pub(crate) async fn conflicts(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
) -> ApiResult<Response> {
    let asked: ConflictParams = params(&uri)?;
    let limit = within("limit", asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let score_min = asked.score_min.unwrap_or_default();
    if !(0.0..=1.0).contains(&score_min) {
        return Err(ApiError::parameter("score_min", format!("{score_min}, expected 0 to 1")));
    }
    let filter = ConflictFilter {
        space: caller.space(asked.space.as_ref())?,
        subject_prefix: asked.subject_prefix.clone(),
        predicate: asked.predicate.as_ref().map(predicate).transpose()?,
        status: asked.status.map(status_of),
        score_min,
    };
    let hash = conflict_hash(&asked);
    let cursor = asked.cursor.as_deref().map(|text| Cursor::parse(text, &hash)).transpose()?;
    let after = match cursor {
        None => None,
        Some(Cursor { snapshot, after: After::Conflict(place), .. }) => {
            app.engine.position_of(&snapshot)?;
            Some(place)
        }
        Some(_) => return Err(Cursor::mismatch()),
    };
    let at_least = asked.at_least.as_ref().map(|named| position(&app, "at_least", named));
    app.reach_conflicts(at_least.transpose()?.unwrap_or(Position::NONE)).await?;
    let engine = Arc::clone(&app.engine);
    let page = app.read(move || Ok(engine.conflicts(&filter, after.as_ref(), limit)?)).await?;
    json(StatusCode::OK, &answer(&app, page, &hash))
}

fn answer(app: &App, page: ConflictPage, hash: &[u8; 8]) -> ConflictsAnswer {
    let ConflictPage { standing, items, next } = page;
    let snapshot = SnapshotToken { timeline: app.engine.timeline(), position: standing.position };
    let evaluated_at = app.engine.now();
    let cursor = next.map(|place| {
        Cursor { snapshot, evaluated_at, after: After::Conflict(place) }.to_text(hash)
    });
    ConflictsAnswer {
        position: standing.position.0,
        snapshot: snapshot.to_string(),
        open: standing.open,
        too_large: standing.too_large,
        conflicts: items.into_iter().map(row).collect(),
        cursor,
    }
}

fn row(conflict: Conflict) -> wire::Conflict {
    wire::Conflict {
        subject: SubjectText(conflict.key.subject.to_string()),
        predicate: PredicateText(conflict.key.predicate.to_string()),
        status: status(conflict.status),
        conflict_score: conflict.conflict_score,
        effective_values: conflict.effective_values,
        margin: conflict.margin,
        evidence: conflict.evidence,
        values: conflict.values,
        claims: conflict.claims,
        position: conflict.position.0,
        valid_at: Time(conflict.valid_at),
    }
}
