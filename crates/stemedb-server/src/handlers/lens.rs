//! Lenses: the built-in ones and those of a space, with what they say.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use stemedb_engine::{AsOf, View};
use stemedb_lens::{CustomLens, LENS_VERSION, LensName, Options, Published, lens_hash, published};
use stemedb_model::{self as model, LensState, Position};

use super::json;
use crate::app::App;
use crate::auth::Caller;
use crate::cursor::{After, Cursor, lenses_hash};
use crate::error::{ApiError, ApiResult};
use crate::openapi::{LensProblems, LensesProblems};
use crate::question::{name_and_version, params, view, within};
use crate::wire::{
    Aggregate, ExpressionText, HashHex, Id, LensAnswer, LensPage, LensParams, LensesParams,
    NameText, Reference, TieRule,
};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// The built-in lenses as definitions, then all versions of those that the space defines.
#[utoipa::path(
    get,
    path = "/v1/lenses",
    operation_id = "list_lenses",
    tag = "questions",
    params(LensesParams),
    responses((status = 200, description = "A page of lenses", body = LensPage), LensesProblems)
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
) -> ApiResult<Response> {
    let asked: LensesParams = params(&uri)?;
    let limit = within("limit", asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let space = caller.space(asked.space.as_ref())?;
    let hash = lenses_hash(&asked);
    let cursor = asked.cursor.as_deref().map(|text| Cursor::parse(text, &hash)).transpose()?;
    let mut view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let mut passed = 0;
    if let Some(cursor) = cursor {
        let position = app.engine.position_of(&cursor.snapshot)?;
        view = app.reach(position).await?.as_of(AsOf::Position(position))?;
        // How many came before: at one position the list is always the same.
        passed = match cursor.after {
            After::Position(passed) => usize::try_from(passed.0).unwrap_or(usize::MAX),
            _ => return Err(Cursor::mismatch()),
        };
    }
    let page = app
        .read(move || {
            let own = view.snapshot().registry().lenses(&space, view.position());
            let mut lenses: Vec<LensAnswer> = Vec::new();
            let built_in = published();
            let count = built_in.len() + own.len();
            let built_in = built_in.iter().skip(passed).take(limit);
            lenses.extend(built_in.map(|one| of_built_in(&view, one)));
            let skip = passed.saturating_sub(LensName::ALL.len());
            let rest = limit - lenses.len();
            lenses.extend(own.iter().skip(skip).take(rest).map(|state| of_record(&view, state)));
            let end = passed.saturating_add(lenses.len());
            let cursor = (end < count).then(|| {
                let after = After::Position(Position(end as u64));
                let (snapshot, evaluated_at) = (view.token(), view.evaluated_at());
                Cursor { snapshot, evaluated_at, after }.to_text(&hash)
            });
            let snapshot = view.token().to_string();
            Ok(LensPage { position: view.position().0, snapshot, lenses, cursor })
        })
        .await?;
    json(StatusCode::OK, &page)
}

/// One lens: `name` or `name@version`; without a version the highest one there is.
#[utoipa::path(
    get,
    path = "/v1/lenses/{name}",
    operation_id = "show_lens",
    tag = "questions",
    params(("name" = crate::wire::LensName, Path, description = "The lens"), LensParams),
    responses((status = 200, description = "What it says", body = LensAnswer), LensProblems)
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> ApiResult<Response> {
    let Path(name) = path.map_err(|error| ApiError::parameter("name", error.body_text()))?;
    let asked: LensParams = params(&uri)?;
    let space = caller.space(asked.space.as_ref())?;
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let built_in = published().into_iter().find(|one| one.lens.as_str() == name);
    if let Some(built_in) = built_in {
        return json(StatusCode::OK, &of_built_in(&view, &built_in));
    }
    let (own, version) = name_and_version(&name);
    // One that cannot be used is shown all the same.
    if let Some(state) = view.snapshot().registry().lens(&space, own, version, view.position()) {
        return json(StatusCode::OK, &of_record(&view, &state));
    }
    match view.lens(&space, own, version) {
        Ok((state, _)) => json(StatusCode::OK, &of_record(&view, &state)),
        Err(error) => Err(ApiError::from(error).field("name")),
    }
}

fn of_built_in(view: &View, one: &Published) -> LensAnswer {
    let hash = lens_hash(&Options::new(one.lens, view.evaluated_at()));
    let shown = LensAnswer {
        lens: one.lens.as_str().into(),
        name: one.lens.as_str().into(),
        version: LENS_VERSION,
        built_in: true,
        filter: None,
        weight: None,
        aggregate: None,
        ties: Vec::new(),
        definition: None,
        lens_hash: Some(HashHex(hash)),
        beyond: one.beyond.map(str::to_owned),
        record: None,
        problem: None,
    };
    match &one.definition {
        Some(definition) => saying(shown, definition),
        None => shown,
    }
}

fn of_record(view: &View, state: &LensState) -> LensAnswer {
    let lens = &state.lens;
    let (hash, problem) = match CustomLens::new(Arc::clone(lens)) {
        Ok(compiled) => {
            let options = Options::custom(Arc::new(compiled), view.evaluated_at());
            (Some(HashHex(lens_hash(&options))), None)
        }
        Err(problem) => (None, Some(problem.to_string())),
    };
    let shown = LensAnswer {
        lens: crate::wire::LensName(format!("{}@{}", lens.name, lens.version)),
        name: NameText(lens.name.to_string()),
        version: lens.version,
        built_in: false,
        filter: None,
        weight: None,
        aggregate: None,
        ties: Vec::new(),
        definition: None,
        lens_hash: hash,
        beyond: None,
        record: Some(Reference { id: Id(state.id), position: state.position.0 }),
        problem,
    };
    saying(shown, lens)
}

fn saying(shown: LensAnswer, lens: &model::Lens) -> LensAnswer {
    LensAnswer {
        filter: lens.filter.as_deref().map(ExpressionText::from),
        weight: Some(ExpressionText::from(lens.weight.as_ref())),
        aggregate: Some(Aggregate(lens.aggregate)),
        ties: lens.ties.iter().copied().map(TieRule).collect(),
        definition: Some(HashHex(stemedb_lens::definition_hash(lens))),
        ..shown
    }
}
