//! Questions: one key or many, through one lens or many, or the assertions themselves.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode, Uri};
use axum::response::Response;
use stemedb_engine::{ReadError, View};
use stemedb_index::{Filter, IndexError, KeyFilter};
use stemedb_lens::{LensName, Options};
use stemedb_model::{Body as RecordBody, Key, Millis, Position, SourceKey, Space};

use super::json;
use crate::answer::{Names, stored};
use crate::app::App;
use crate::auth::Caller;
use crate::body::read_json;
use crate::cursor::{After, Cursor, question_hash};
use crate::error::{ApiError, ApiResult};
use crate::metrics::Question;
use crate::openapi::{KeyProblems, QueryProblems, ResolveProblems};
use crate::question::{Asked, Lens, earlier, params, predicate, subject, view, within};
use crate::span;
use crate::wire::{
    AssertionPage, ErrorCode, KeyParams, PredicateText, QueryParams, QueryResult, Resolution,
    ResolutionPage, ResolveRequest, ResolveResult, ResolvedKey, SubjectText, Time, from_json,
};

const KEYS_MAX: usize = 1_000;
pub(crate) const LENSES_MAX: usize = 16;
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// The answers to one key, through each of `options`.
fn resolve(
    view: &View,
    names: &mut Names<'_>,
    key: &Key,
    options: &[Options],
    partial: bool,
) -> ApiResult<Vec<Resolution>> {
    match view.resolve(key, options) {
        Ok(found) => found.iter().map(|one| names.resolution(one)).collect(),
        Err(ReadError::Index(IndexError::TooLarge { claims, .. })) if partial => {
            Ok(options.iter().map(|one| names.incomplete(key, one, claims)).collect())
        }
        Err(error) => {
            let mut error = ApiError::from(error);
            if error.problem.code == ErrorCode::ResolveTooLarge {
                let Key { space, subject, predicate } = key;
                let key = format!("{subject:?} {predicate:?} in space {space}");
                error.problem.detail = format!("{key}: {}", error.problem.detail);
            }
            Err(error)
        }
    }
}

/// The answer to one key through one lens: at once if memory holds all that it takes, else by a thread
/// that may wait for storage.
async fn one(
    app: &Arc<App>,
    view: View,
    key: Key,
    options: Options,
    partial: bool,
) -> ApiResult<Resolution> {
    let at_hand = || {
        let found = view.resolve_at_hand(&key, std::slice::from_ref(&options))?.pop()?;
        Names::at_hand(&view).resolution(&found).ok()
    };
    // Without a span: it is over before another look at the clock.
    if let Some(found) = at_hand() {
        return Ok(found);
    }
    app.read(move || {
        let found = resolve(&view, &mut Names::new(&view), &key, &[options], partial)?.pop();
        found.ok_or_else(|| ApiError::internal("a lens gave no answer"))
    })
    .await
}

/// One key through one lens; or a page of resolutions; or, without a lens, of assertions.
#[utoipa::path(
    get,
    path = "/v1/query",
    tag = "questions",
    params(QueryParams),
    responses(
        (status = 200, description = "A resolution, or a page", body = QueryResult),
        QueryProblems
    )
)]
pub(crate) async fn query(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
) -> ApiResult<Response> {
    let began = app.engine.monotonic();
    let asked: QueryParams = params(&uri)?;
    let space = caller.space(asked.space.as_ref())?;
    let limit = within("limit", asked.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let options = Asked::query(&asked)?;
    let key = whole_key(&asked, &space)?;
    let parse = |text| Cursor::parse(text, &question_hash(&asked));
    let cursor = asked.cursor.as_deref().map(parse).transpose()?;
    let mut view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let mut evaluated_at = view.evaluated_at();
    if let Some(cursor) = &cursor {
        // All pages are of the state that the first one was of.
        let position = app.engine.position_of(&cursor.snapshot)?;
        view = app.reach(position).await?.as_of(stemedb_engine::AsOf::Position(position))?;
        evaluated_at = cursor.evaluated_at;
        span::position(position);
    }
    let page = Page { space, limit, evaluated_at, after: cursor.map(|c| c.after) };
    let lens = match &asked.lens {
        None => None,
        named => Some(Lens::find(&view, &page.space, named.as_ref(), "lens")?),
    };
    let label = lens.as_ref().map(Lens::label);
    let since = match &asked.diff {
        None => None,
        Some(since) => Some(earlier(&app, &view, since).map_err(|error| error.field("diff"))?),
    };
    if lens.is_some() && asked.epoch.is_some() {
        let problem = "picks assertions; with a lens it would hide what the lens must see";
        return Err(ApiError::parameter("epoch", problem));
    }
    let (answer, answers) = match (lens, key, since) {
        (Some(lens), Some(key), None) => {
            let asked = options.options(&lens, page.evaluated_at);
            let found = one(&app, view, key, asked, options.partial).await?;
            (QueryResult::Resolution(Box::new(found)), 1)
        }
        (Some(lens), Some(key), Some(since)) => {
            let diff = move || diff((&view, &since), &key, &asked, &options, &lens);
            (QueryResult::Resolution(Box::new(app.read(diff).await?)), 1)
        }
        (Some(lens), None, since) => {
            if since.is_some() {
                let problem = "needs a whole key: subject and predicate";
                return Err(ApiError::parameter("diff", problem));
            }
            app.read(move || resolutions(&view, &asked, &options, &lens, &page)).await?
        }
        (None, ..) => {
            let page = app.read(move || assertions(&view, &asked, &page)).await?;
            (QueryResult::Assertions(page), 1)
        }
    };
    app.metrics.asked(Question::Query, label, answers);
    app.metrics.answered(Question::Query, app.engine.monotonic().saturating_sub(began));
    json(StatusCode::OK, &answer)
}

struct Page {
    space: Space,
    limit: usize,
    evaluated_at: Millis,
    after: Option<After>,
}

impl Page {
    fn cursor(&self, view: &View, asked: &QueryParams, after: After) -> String {
        let (snapshot, evaluated_at) = (view.token(), self.evaluated_at);
        Cursor { snapshot, evaluated_at, after }.to_text(&question_hash(asked))
    }
}

/// The key that a question names, if it names one.
fn whole_key(asked: &QueryParams, space: &Space) -> ApiResult<Option<Key>> {
    let (Some(subject_text), Some(predicate_text), None) =
        (&asked.subject, &asked.predicate, &asked.subject_prefix)
    else {
        return Ok(None);
    };
    let (subject, predicate) = (subject(subject_text)?, predicate(predicate_text)?);
    Ok(Some(Key { space: space.clone(), subject, predicate }))
}

/// The answer to a key now, with what it was at an earlier moment.
fn diff(
    (view, since): (&View, &View),
    key: &Key,
    asked: &QueryParams,
    options: &Asked,
    lens: &Lens,
) -> ApiResult<Resolution> {
    // The definition as it stood then.
    let then = Lens::find(since, &key.space, asked.lens.as_ref(), "lens")?;
    let then = options.options(&then, since.evaluated_at());
    let now = options.options(lens, view.evaluated_at());
    let found = view.diff(since, key, [&now, &then])?;
    Names::new(view).diff(since, &found)
}

/// The answers to all keys of a pattern, a page of them.
fn resolutions(
    view: &View,
    asked: &QueryParams,
    options: &Asked,
    lens: &Lens,
    page: &Page,
) -> ApiResult<(QueryResult, u64)> {
    let one = [options.options(lens, page.evaluated_at)];
    let mut names = Names::new(view);
    let filter = KeyFilter {
        space: Some(page.space.clone()),
        subject_prefix: asked.subject_prefix.as_ref().map(|prefix| prefix.0.clone()),
        subject: asked.subject.as_ref().map(subject).transpose()?,
        predicate: asked.predicate.as_ref().map(predicate).transpose()?,
    };
    let after = match &page.after {
        None => None,
        Some(After::Key(key)) => Some(key),
        Some(After::Position(_) | After::Conflict(_)) => return Err(Cursor::mismatch()),
    };
    let keys = view.keys(&filter, after, page.limit)?;
    let mut found = Vec::with_capacity(keys.items.len());
    for key in &keys.items {
        found.extend(resolve(view, &mut names, key, &one, options.partial)?);
    }
    let answers = u64::try_from(found.len()).unwrap_or(u64::MAX);
    let answer = ResolutionPage {
        position: view.position().0,
        snapshot: view.token().to_string(),
        evaluated_at: Time(page.evaluated_at),
        valid_at: Time(options.valid_at(page.evaluated_at)),
        resolutions: found,
        cursor: keys.next.map(|key| page.cursor(view, asked, After::Key(key))),
    };
    Ok((QueryResult::Resolutions(answer), answers))
}

fn assertions(view: &View, asked: &QueryParams, page: &Page) -> ApiResult<AssertionPage> {
    for (name, given) in [
        ("epoch_aware", asked.epoch_aware.is_some()),
        ("decay", asked.decay.is_some()),
        ("tiers", asked.tiers.is_some()),
        ("partial", asked.partial.is_some()),
        ("diff", asked.diff.is_some()),
    ] {
        if given {
            return Err(ApiError::parameter(name, "needs a lens"));
        }
    }
    let epoch = match &asked.epoch {
        None => None,
        // A position that no record has: nothing was made under an epoch that nobody knows.
        Some(id) => Some(view.snapshot().position_of(&id.0)?.unwrap_or(Position::NONE)),
    };
    let states = asked.lifecycle.as_ref().map(|states| states.0.as_slice());
    let filter = Filter {
        subject: asked.subject.as_ref().map(subject).transpose()?,
        subject_prefix: asked.subject_prefix.as_ref().map(|prefix| prefix.0.clone()),
        predicate: asked.predicate.as_ref().map(predicate).transpose()?,
        agent: asked.agent.map(|agent| agent.0),
        source: asked.source.as_ref().map(|uri| SourceKey::Uri(uri.as_str().into())),
        class: asked.class.map(|class| class.0),
        epoch,
        declared_lifecycle: match states {
            Some([one]) => Some(one.0),
            _ => None,
        },
        ..Filter::new(page.space.clone())
    };
    let after = match &page.after {
        None => None,
        Some(After::Position(position)) => Some(*position),
        Some(After::Key(_) | After::Conflict(_)) => return Err(Cursor::mismatch()),
    };
    let (mut entries, next) = view.assertions(&filter, after, page.limit)?;
    entries.retain(|entry| {
        let record = entry.signed.record();
        let RecordBody::Assertion(assertion) = &record.body else { return false };
        let before = asked.asserted_before.is_none_or(|time| record.at < time.0);
        let valid = asked.valid_at.is_none_or(|time| {
            assertion.valid_from.is_none_or(|from| from <= time.0)
                && assertion.valid_to.is_none_or(|to| time.0 < to)
        });
        let certain = asked.min_confidence.is_none_or(|least| assertion.confidence >= least);
        let state =
            states.is_none_or(|states| states.iter().any(|state| state.0 == assertion.lifecycle));
        before && valid && certain && state
    });
    Ok(AssertionPage {
        position: view.position().0,
        snapshot: view.token().to_string(),
        evaluated_at: Time(page.evaluated_at),
        assertions: entries.iter().map(stored).collect(),
        cursor: next.map(|position| page.cursor(view, asked, After::Position(position))),
    })
}

/// Many keys through many lenses, all at one position.
#[utoipa::path(
    post,
    path = "/v1/resolve",
    tag = "questions",
    request_body(content = ResolveRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The answers, in the order of the keys", body = ResolveResult),
        ResolveProblems
    )
)]
pub(crate) async fn resolve_many(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request<Body>,
) -> ApiResult<Response> {
    let limits = app.limits();
    let body = read_json(request, limits.body_bytes, limits.body_timeout).await?;
    let began = app.engine.monotonic();
    let asked: ResolveRequest = from_json(&body)?;
    let field = |name: &str, problem: String| {
        ApiError::new(ErrorCode::InvalidField, format!("{name}: {problem}")).field(name)
    };
    let lenses = asked.lenses.as_ref().map_or(1, Vec::len);
    for (name, found, most) in
        [("keys", asked.keys.len(), KEYS_MAX), ("lenses", lenses, LENSES_MAX)]
    {
        if !(1..=most).contains(&found) {
            return Err(field(name, format!("{found} items, expected 1 to {most}")));
        }
    }
    let asked_options = Asked::resolve(&asked)?;
    let space = caller.space(asked.space.as_ref())?;
    let mut keys = Vec::with_capacity(asked.keys.len());
    for (index, key) in asked.keys.iter().enumerate() {
        let named = |error: ApiError| {
            let name = error.problem.field.clone().unwrap_or_default();
            field(&format!("keys[{index}].{name}"), error.problem.detail.clone())
        };
        keys.push(Key {
            space: space.clone(),
            subject: subject(&key.subject).map_err(named)?,
            predicate: predicate(&key.predicate).map_err(named)?,
        });
    }
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
    let lenses = Lens::all(&view, &space, asked.lenses.as_deref())?;
    let labels: Vec<LensName> = lenses.iter().map(Lens::label).collect();
    let answer = app
        .read(move || {
            let evaluated_at = view.evaluated_at();
            let options: Vec<Options> =
                lenses.iter().map(|lens| asked_options.options(lens, evaluated_at)).collect();
            let mut results = Vec::with_capacity(keys.len());
            for key in &keys {
                let mut names = Names::new(&view);
                let found = resolve(&view, &mut names, key, &options, asked_options.partial)?;
                results.push(ResolvedKey {
                    subject: SubjectText(key.subject.to_string()),
                    predicate: PredicateText(key.predicate.to_string()),
                    resolutions: found,
                });
            }
            Ok(ResolveResult {
                position: view.position().0,
                snapshot: view.token().to_string(),
                evaluated_at: Time(evaluated_at),
                valid_at: Time(asked_options.valid_at(evaluated_at)),
                results,
            })
        })
        .await?;
    for lens in labels {
        app.metrics.asked(Question::Resolve, Some(lens), count);
    }
    app.metrics.answered(Question::Resolve, app.engine.monotonic().saturating_sub(began));
    json(StatusCode::OK, &answer)
}

async fn one_lens(
    (app, caller): (Arc<App>, Caller),
    uri: Uri,
    lens: LensName,
    question: Question,
) -> ApiResult<Response> {
    let began = app.engine.monotonic();
    let asked: KeyParams = params(&uri)?;
    let options = Asked::key(&asked)?;
    let key = Key {
        space: caller.space(asked.space.as_ref())?,
        subject: subject(&asked.subject)?,
        predicate: predicate(&asked.predicate)?,
    };
    let view = view(&app, asked.at_least.as_ref(), asked.as_of.as_ref()).await?;
    let one_options = options.options(&Lens::BuiltIn(lens), view.evaluated_at());
    let answer = one(&app, view, key, one_options, options.partial).await?;
    app.metrics.asked(question, Some(lens), 1);
    app.metrics.answered(question, app.engine.monotonic().saturating_sub(began));
    json(StatusCode::OK, &answer)
}

/// The map of disagreement about one key, without a winner.
#[utoipa::path(
    get,
    path = "/v1/skeptic",
    tag = "questions",
    params(KeyParams),
    responses((status = 200, description = "The disagreement", body = Resolution), KeyProblems)
)]
pub(crate) async fn skeptic(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
) -> ApiResult<Response> {
    one_lens((app, caller), uri, LensName::Skeptic, Question::Skeptic).await
}

/// What each authority tier says about one key, and where the tiers differ.
#[utoipa::path(
    get,
    path = "/v1/layered",
    tag = "questions",
    params(KeyParams),
    responses((status = 200, description = "The answer by tier", body = Resolution), KeyProblems)
)]
pub(crate) async fn layered(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
) -> ApiResult<Response> {
    one_lens((app, caller), uri, LensName::Layered, Question::Layered).await
}
