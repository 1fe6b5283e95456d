//! Wire to domain: which past is asked about, through which lens, with which options.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::Uri;
use serde::de::DeserializeOwned;
use stemedb_engine::{self as engine, SnapshotToken, View};
use stemedb_lens::{CustomLens, Decay, LensName, Options};
use stemedb_model::{
    AgentId, InvalidField, Millis, Position, PredicateName, SourceKey, Space, Subject, Tier,
};

use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::span;
use crate::wire::{
    self, AgentKey, AsOf, AtLeast, ErrorCode, ExplainParams, KeyParams, LifecycleState,
    PredicateText, QueryParams, ResolveRequest, SpaceText, SubjectText,
};

/// Reads the parameters of a query string; an error names the parameter.
pub(crate) fn params<T: DeserializeOwned>(uri: &Uri) -> ApiResult<T> {
    let query = uri.query().unwrap_or_default();
    // The library puts this character where bytes are no UTF-8: another question would be answered.
    let mut lossy = form(query).filter(|(_, value)| value.contains('\u{fffd}'));
    if let Some((name, _)) = lossy.next()
        && !query.to_ascii_lowercase().contains("%ef%bf%bd")
    {
        return Err(ApiError::parameter(&name, "is not UTF-8 once its escapes are undone"));
    }
    let pairs = serde_urlencoded::Deserializer::new(form(query));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().to_string();
        match wire::field_error(&path, &error.into_inner().to_string()) {
            wire::WireError::Field { field, problem } if field == "body" => {
                ApiError::parameter("query", problem)
            }
            wire::WireError::Field { field, problem } => ApiError::parameter(&field, problem),
            wire::WireError::Malformed(problem) => ApiError::parameter("query", problem),
        }
    })
}

fn form(query: &str) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(query.as_bytes())
}

/// A field of a query that the model refuses.
fn bad(invalid: InvalidField) -> ApiError {
    ApiError::parameter(invalid.field, invalid.problem)
}

/// The space of this name. Handlers ask [`Caller::space`](crate::auth::Caller::space), which knows
/// whether the caller may see it.
pub(crate) fn space(space: Option<&SpaceText>) -> ApiResult<Space> {
    space.map_or_else(|| Ok(Space::default()), |space| Space::parse(space.as_str()).map_err(bad))
}

pub(crate) fn subject(subject: &SubjectText) -> ApiResult<Subject> {
    Subject::parse(subject.as_str()).map_err(bad)
}

pub(crate) fn predicate(predicate: &PredicateText) -> ApiResult<PredicateName> {
    PredicateName::parse(predicate.as_str()).map_err(bad)
}

/// How many of something, from 1 to `most`.
pub(crate) fn within(
    field: &str,
    asked: Option<u32>,
    default: usize,
    most: usize,
) -> ApiResult<usize> {
    let value = asked.map_or(default, |asked| asked as usize);
    if (1..=most).contains(&value) {
        return Ok(value);
    }
    Err(ApiError::parameter(field, format!("{value}, expected 1 to {most}")))
}

fn token(app: &App, field: &str, text: &str) -> ApiResult<Position> {
    let token: SnapshotToken = text.parse().map_err(|error| ApiError::parameter(field, error))?;
    Ok(app.engine.position_of(&token)?)
}

/// The position that a reader names in `field`.
pub(crate) fn position(app: &App, field: &str, named: &AtLeast) -> ApiResult<Position> {
    match named {
        AtLeast::Position(position) => Ok(Position(*position)),
        AtLeast::Snapshot(text) => token(app, field, text),
    }
}

/// The state of the database that a read is of: at least as new as asked, and then as old.
pub(crate) async fn view(
    app: &Arc<App>,
    at_least: Option<&AtLeast>,
    as_of: Option<&AsOf>,
) -> ApiResult<View> {
    let at_least = at_least.map(|named| position(app, "at_least", named)).transpose()?;
    let newest = app.reach(at_least.unwrap_or(Position::NONE)).await?;
    let view = match as_of {
        None => newest,
        Some(as_of) => earlier(app, &newest, as_of)?,
    };
    span::position(view.position());
    Ok(view)
}

/// The state that the database was in at an earlier moment.
pub(crate) fn earlier(app: &App, newest: &View, as_of: &AsOf) -> ApiResult<View> {
    Ok(match as_of {
        AsOf::Position(position) => newest.as_of(engine::AsOf::Position(Position(*position)))?,
        AsOf::Snapshot(text) => newest.as_of(engine::AsOf::Position(token(app, "as_of", text)?))?,
        AsOf::Time(time) => newest.as_of(engine::AsOf::Time(time.0))?,
    })
}

/// A lens that was found.
#[derive(Debug, Clone)]
pub(crate) enum Lens {
    BuiltIn(LensName),
    Own(Arc<CustomLens>),
}

impl Lens {
    /// The lens of this name as it stands in a view; of none, `authority`. `field` is where it was asked
    /// for.
    pub(crate) fn find(
        view: &View,
        space: &Space,
        asked: Option<&wire::LensName>,
        field: &str,
    ) -> ApiResult<Self> {
        let Some(asked) = asked else { return Ok(Self::BuiltIn(LensName::Authority)) };
        let text = asked.as_str();
        if let Some(built_in) = LensName::parse(text) {
            return Ok(Self::BuiltIn(built_in));
        }
        let (name, version) = name_and_version(text);
        let found = view.lens(space, name, version);
        let (_, lens) = found.map_err(|error| ApiError::from(error).field(field))?;
        Ok(Self::Own(lens))
    }

    pub(crate) fn options(&self, evaluated_at: Millis) -> Options {
        match self {
            Self::BuiltIn(lens) => Options::new(*lens, evaluated_at),
            Self::Own(lens) => Options::custom(Arc::clone(lens), evaluated_at),
        }
    }

    /// For metrics: all of one's own are `custom`.
    pub(crate) fn label(&self) -> LensName {
        match self {
            Self::BuiltIn(lens) => *lens,
            Self::Own(_) => LensName::Custom,
        }
    }

    /// All lenses that a body asks for.
    pub(crate) fn all(
        view: &View,
        space: &Space,
        asked: Option<&[wire::LensName]>,
    ) -> ApiResult<Vec<Self>> {
        let Some(asked) = asked else { return Ok(vec![Self::BuiltIn(LensName::Authority)]) };
        asked.iter().map(|asked| Self::find(view, space, Some(asked), "lenses")).collect()
    }
}

/// `name@version`; a name that holds an `@` itself is meant unless digits follow its last one.
pub(crate) fn name_and_version(text: &str) -> (&str, Option<u64>) {
    match text.rsplit_once('@') {
        Some((name, digits))
            if !name.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            digits.parse().map_or((text, None), |version| (name, Some(version)))
        }
        _ => (text, None),
    }
}

/// What all lenses of one question share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    epoch_aware: Option<bool>,
    decay: Option<wire::Decay>,
    min_confidence: Option<f64>,
    lifecycle: Option<BTreeSet<stemedb_model::LifecycleState>>,
    tiers: Option<BTreeSet<Tier>>,
    agents: Option<BTreeSet<AgentId>>,
    sources: Option<BTreeSet<SourceKey>>,
    asserted_before: Option<Millis>,
    valid_at: Option<Millis>,
    /// With more claims than the bound, say so instead of refusing.
    pub(crate) partial: bool,
}

impl Asked {
    pub(crate) fn query(params: &QueryParams) -> ApiResult<Self> {
        let mut tiers = tiers(params.tiers.as_ref().map(|tiers| tiers.0.as_slice()));
        if let Some(class) = params.class {
            let tier = class.0.tier();
            let kept = tiers.is_none_or(|tiers| tiers.contains(&tier));
            tiers = Some(kept.then_some(tier).into_iter().collect());
        }
        Ok(Self {
            epoch_aware: params.epoch_aware,
            decay: params.decay,
            min_confidence: confidence(params.min_confidence)?,
            lifecycle: states(params.lifecycle.as_ref().map(|states| states.0.as_slice())),
            tiers,
            agents: params.agent.map(|agent| BTreeSet::from([agent.0])),
            sources: uri(params.source.as_ref())?,
            asserted_before: params.asserted_before.map(|at| at.0),
            valid_at: params.valid_at.map(|at| at.0),
            partial: params.partial.unwrap_or_default(),
        })
    }

    pub(crate) fn key(params: &KeyParams) -> ApiResult<Self> {
        Ok(Self {
            epoch_aware: params.epoch_aware,
            decay: params.decay,
            min_confidence: confidence(params.min_confidence)?,
            lifecycle: states(params.lifecycle.as_ref().map(|states| states.0.as_slice())),
            tiers: tiers(params.tiers.as_ref().map(|tiers| tiers.0.as_slice())),
            agents: params.agent.map(|agent| BTreeSet::from([agent.0])),
            sources: uri(params.source.as_ref())?,
            asserted_before: params.asserted_before.map(|at| at.0),
            valid_at: params.valid_at.map(|at| at.0),
            partial: params.partial.unwrap_or_default(),
        })
    }

    pub(crate) fn explain(params: &ExplainParams) -> ApiResult<Self> {
        let ExplainParams {
            space,
            subject,
            predicate,
            lens: _,
            agent,
            source,
            lifecycle,
            epoch_aware,
            decay,
            min_confidence,
            tiers,
            as_of,
            asserted_before,
            valid_at,
            at_least,
            cursor: _,
        } = params.clone();
        // A receipt is of all claims or none.
        let partial = None;
        Self::key(&KeyParams {
            space,
            subject,
            predicate,
            agent,
            source,
            lifecycle,
            epoch_aware,
            decay,
            min_confidence,
            tiers,
            partial,
            as_of,
            asserted_before,
            valid_at,
            at_least,
        })
    }

    pub(crate) fn resolve(request: &ResolveRequest) -> ApiResult<Self> {
        let agents = |agents: &Vec<AgentKey>| agents.iter().map(|agent| agent.0).collect();
        Ok(Self {
            epoch_aware: request.epoch_aware,
            decay: request.decay,
            min_confidence: confidence(request.min_confidence)?,
            lifecycle: states(request.lifecycle.as_deref()),
            tiers: tiers(request.tiers.as_deref()),
            agents: request.agents.as_ref().map(agents),
            sources: sources("sources", request.sources.as_ref())?,
            asserted_before: request.asserted_before.map(|at| at.0),
            valid_at: request.valid_at.map(|at| at.0),
            partial: request.partial.unwrap_or_default(),
        })
    }

    /// The options of one lens, at a time.
    pub(crate) fn options(&self, lens: &Lens, evaluated_at: Millis) -> Options {
        Options {
            epoch_aware: self.epoch_aware.unwrap_or(true),
            decay: self.decay.map(Decay::from).unwrap_or_default(),
            min_confidence: self.min_confidence,
            lifecycle: self.lifecycle.clone(),
            tiers: self.tiers.clone(),
            agents: self.agents.clone(),
            sources: self.sources.clone(),
            asserted_before: self.asserted_before,
            valid_at: self.valid_at.unwrap_or(evaluated_at),
            ..lens.options(evaluated_at)
        }
    }

    pub(crate) fn valid_at(&self, evaluated_at: Millis) -> Millis {
        self.valid_at.unwrap_or(evaluated_at)
    }
}

impl From<wire::Decay> for Decay {
    fn from(decay: wire::Decay) -> Self {
        match decay {
            wire::Decay::Off => Self::Off,
            wire::Decay::PerClass => Self::PerClass,
            wire::Decay::HalfLife(ms) => Self::HalfLife(ms),
        }
    }
}

impl From<Decay> for wire::Decay {
    fn from(decay: Decay) -> Self {
        match decay {
            Decay::Off => Self::Off,
            Decay::PerClass => Self::PerClass,
            Decay::HalfLife(ms) => Self::HalfLife(ms),
        }
    }
}

fn states(states: Option<&[LifecycleState]>) -> Option<BTreeSet<stemedb_model::LifecycleState>> {
    states.map(|states| states.iter().map(|state| state.0).collect())
}

fn uri(uri: Option<&wire::UriText>) -> ApiResult<Option<BTreeSet<SourceKey>>> {
    let Some(uri) = uri else { return Ok(None) };
    let source = SourceKey::Uri(uri.as_str().into());
    source.check("source").map_err(bad)?;
    Ok(Some(BTreeSet::from([source])))
}

/// The sources that a body names.
pub(crate) fn sources(
    field: &'static str,
    named: Option<&Vec<wire::SourceKey>>,
) -> ApiResult<Option<BTreeSet<SourceKey>>> {
    let Some(named) = named else { return Ok(None) };
    let sources: BTreeSet<SourceKey> = named.iter().cloned().map(SourceKey::from).collect();
    for source in &sources {
        source.check(field).map_err(|invalid| {
            let detail = format!("{}: {}", invalid.field, invalid.problem);
            ApiError::new(ErrorCode::InvalidField, detail).field(field)
        })?;
    }
    Ok(Some(sources))
}

fn tiers(tiers: Option<&[wire::Tier]>) -> Option<BTreeSet<Tier>> {
    tiers.map(|tiers| tiers.iter().map(|tier| Tier(tier.0)).collect())
}

fn confidence(least: Option<f64>) -> ApiResult<Option<f64>> {
    match least {
        Some(least) if !(0.0..=1.0).contains(&least) => {
            Err(ApiError::parameter("min_confidence", format!("{least}, expected 0 to 1")))
        }
        least => Ok(least),
    }
}
