//! Domain to wire: what lenses and the log say, as JSON.

use std::collections::HashMap;

use stemedb_engine::{RecordView, Relation, Trace, View};
use stemedb_index::Entry;
use stemedb_lens::{self as lens, FactKind, LensName, Options, WEIGHT_ONE};
use stemedb_model::{Key, Position, RecordId, Tier, Voice};

use crate::error::{ApiError, ApiResult};
use crate::wire::{
    self, AgentKey, AnyRecord, Class, Exclusion, HashHex, Id, LifecycleState, Object,
    PredicateText, Reference, SpaceText, Status, StoredRecord, SubjectText, Time,
};

/// How many of the excluded assertions an answer names: the newest.
const EXCLUDED_MAX: usize = 100;

/// Turns positions, which resolution works with, into ids, which people know; each is looked up
/// once.
pub(crate) struct Names<'a> {
    view: &'a View,
    ids: HashMap<Position, RecordId>,
}

impl<'a> Names<'a> {
    pub(crate) fn new(view: &'a View) -> Self {
        Self { view, ids: HashMap::new() }
    }

    pub(crate) fn id(&mut self, position: Position) -> ApiResult<Id> {
        if let Some(id) = self.ids.get(&position) {
            return Ok(Id(*id));
        }
        let id = self.view.snapshot().id(position)?.ok_or_else(|| {
            ApiError::internal(format!("no record at position {position}, which an answer names"))
        })?;
        self.ids.insert(position, id);
        Ok(Id(id))
    }

    fn reference(&mut self, position: Position) -> ApiResult<Reference> {
        Ok(Reference { id: self.id(position)?, position: position.0 })
    }

    pub(crate) fn exclusion(&mut self, excluded: &lens::Excluded) -> ApiResult<Exclusion> {
        Ok(Exclusion {
            reason: excluded.reason.as_str().to_owned(),
            by: excluded.by.map(|by| self.id(by)).transpose()?,
        })
    }

    fn value(&mut self, value: &lens::ValueSupport) -> ApiResult<wire::Value> {
        let because: ApiResult<Vec<Reference>> =
            value.because.iter().map(|position| self.reference(*position)).collect();
        Ok(wire::Value {
            value: (&value.value).into(),
            // A value that stands for itself alone needs no list.
            members: match value.members.as_slice() {
                [] | [_] => Vec::new(),
                members => members.iter().map(Object::from).collect(),
            },
            share: value.share,
            support: support(value.support),
            against: support(value.against),
            lens_share: value.lens_share,
            lens_weight: value.lens_weight.to_string(),
            tier: value.best_tier.0,
            class: Class(value.best_tier.class()),
            claims: value.claims,
            agents: value.agents,
            voices: value.voices,
            because: because?,
        })
    }

    fn values(&mut self, values: &[lens::ValueSupport]) -> ApiResult<Vec<wire::Value>> {
        values.iter().map(|value| self.value(value)).collect()
    }

    /// The answer of a lens.
    pub(crate) fn resolution(&mut self, found: &lens::Resolution) -> ApiResult<wire::Resolution> {
        let winners: Vec<&lens::ValueSupport> =
            found.winners.iter().filter_map(|index| found.values.get(*index)).collect();
        let mut because = Vec::new();
        for winner in &winners {
            for position in &winner.because {
                because.push(self.reference(*position)?);
            }
        }
        let mut excluded = Vec::new();
        let skipped = found.excluded.len().saturating_sub(EXCLUDED_MAX);
        for one in found.excluded.iter().skip(skipped) {
            let Exclusion { reason, by } = self.exclusion(one)?;
            let id = self.id(one.position)?;
            excluded.push(wire::Excluded { id, position: one.position.0, reason, by });
        }
        let layers: ApiResult<Vec<wire::Layer>> =
            found.layers.iter().map(|layer| self.layer(layer)).collect();
        Ok(wire::Resolution {
            space: SpaceText(found.key.space.to_string()),
            subject: SubjectText(found.key.subject.to_string()),
            predicate: PredicateText(found.key.predicate.to_string()),
            lens: lens_name(found.lens),
            lens_hash: HashHex(found.lens_hash),
            position: found.position.0,
            snapshot: self.view.token().to_string(),
            evaluated_at: Time(found.evaluated_at),
            valid_at: Time(found.valid_at),
            complete: true,
            history_lost: self.view.history_lost(),
            value: found.winner().map(|winner| (&winner.value).into()),
            winners: winners.iter().map(|winner| (&winner.value).into()).collect(),
            status: status(found.status),
            conflict_score: found.conflict_score,
            effective_values: found.effective_values,
            margin: found.margin,
            lens_share: found.winner().map(|winner| winner.lens_share),
            lens_margin: found.lens_margin,
            evidence: found.evidence,
            because,
            candidates: self.values(&found.values)?,
            dissent: found
                .dissent
                .iter()
                .map(|dissent| wire::Dissent {
                    class: Class(dissent.class),
                    voices: dissent.voices,
                    claims: dissent.claims,
                    support: support(dissent.support),
                })
                .collect(),
            considered: found.considered,
            excluded_count: count(found.excluded.len()),
            excluded,
            layers: layers?,
            cross_tier_conflict: (found.lens == LensName::Layered)
                .then_some(found.cross_tier_conflict),
        })
    }

    fn layer(&mut self, layer: &lens::Layer) -> ApiResult<wire::Layer> {
        Ok(wire::Layer {
            tier: layer.tier.0,
            class: Class(layer.tier.class()),
            values: self.values(&layer.values)?,
            status: status(layer.status),
            conflict_score: layer.conflict_score,
        })
    }

    /// What is said of a key with more claims than the bound: nothing, and that it is so.
    pub(crate) fn incomplete(
        &self,
        key: &Key,
        options: &Options,
        claims: usize,
    ) -> wire::Resolution {
        wire::Resolution {
            space: SpaceText(key.space.to_string()),
            subject: SubjectText(key.subject.to_string()),
            predicate: PredicateText(key.predicate.to_string()),
            lens: lens_name(options.lens),
            lens_hash: HashHex(lens::lens_hash(options)),
            position: self.view.position().0,
            snapshot: self.view.token().to_string(),
            evaluated_at: Time(options.evaluated_at),
            valid_at: Time(options.valid_at),
            complete: false,
            history_lost: self.view.history_lost(),
            value: None,
            winners: Vec::new(),
            status: Status::Unknown,
            conflict_score: 0.0,
            effective_values: 0.0,
            margin: 0.0,
            lens_share: None,
            lens_margin: 0.0,
            evidence: 0.0,
            because: Vec::new(),
            candidates: Vec::new(),
            dissent: Vec::new(),
            considered: count(claims),
            excluded_count: 0,
            excluded: Vec::new(),
            layers: Vec::new(),
            cross_tier_conflict: None,
        }
    }

    /// One record and how it stands; `facts` says whether to show what others said of it.
    pub(crate) fn record(
        &mut self,
        found: &RecordView,
        facts: bool,
    ) -> ApiResult<wire::RecordAnswer> {
        let StoredRecord { position, recorded_at, principal, custodial, record } =
            stored(&found.entry);
        let facts: Option<ApiResult<Vec<wire::Fact>>> =
            facts.then(|| found.facts.iter().map(|fact| self.fact(fact)).collect());
        Ok(wire::RecordAnswer {
            position,
            recorded_at,
            principal,
            custodial,
            record,
            excluded: found.excluded.as_ref().map(|one| self.exclusion(one)).transpose()?,
            standing: found.standing.as_ref().map(standing),
            snapshot: self.view.token().to_string(),
            facts: facts.transpose()?,
        })
    }

    /// The neighbourhood of a record.
    pub(crate) fn trace(&mut self, found: &Trace) -> ApiResult<wire::TraceAnswer> {
        let records: ApiResult<Vec<wire::RecordAnswer>> =
            found.records.iter().map(|record| self.record(record, true)).collect();
        let links: ApiResult<Vec<wire::TraceLink>> = found
            .links
            .iter()
            .map(|link| {
                Ok(wire::TraceLink {
                    from: self.id(link.from)?,
                    to: self.id(link.to)?,
                    relation: match link.relation {
                        Relation::Revises => wire::Relation::Revises,
                        Relation::RestsOn => wire::Relation::RestsOn,
                        Relation::Supersedes => wire::Relation::Supersedes,
                        Relation::Under => wire::Relation::Under,
                    },
                    by: link.by.map(|by| self.id(by)).transpose()?,
                })
            })
            .collect();
        Ok(wire::TraceAnswer {
            position: self.view.position().0,
            snapshot: self.view.token().to_string(),
            records: records?,
            links: links?,
            complete: found.complete,
        })
    }

    fn fact(&mut self, fact: &lens::Fact) -> ApiResult<wire::Fact> {
        let mut wire = wire::Fact {
            id: self.id(fact.position)?,
            position: fact.position.0,
            target: self.id(fact.target)?,
            kind: wire::FactKind::Cosign,
            agent: AgentKey(fact.agent),
            at: Time(fact.at),
            recorded_at: Time(fact.recorded_at),
            weight: None,
            state: None,
            new: None,
        };
        match fact.kind {
            FactKind::Cosign => {}
            FactKind::Retract => wire.kind = wire::FactKind::Retract,
            FactKind::Supersede { new } => {
                wire.kind = wire::FactKind::Supersede;
                wire.new = Some(self.id(new)?);
            }
            FactKind::Vote { weight } => {
                wire.kind = wire::FactKind::Vote;
                wire.weight = Some(weight);
            }
            FactKind::Lifecycle { state } => {
                wire.kind = wire::FactKind::Lifecycle;
                wire.state = Some(LifecycleState(state));
            }
        }
        Ok(wire)
    }
}

/// A record as the log holds it.
pub(crate) fn stored(entry: &Entry) -> StoredRecord {
    let signed = &entry.signed;
    StoredRecord {
        position: entry.position.0,
        recorded_at: Time(entry.recorded_at),
        principal: entry.principal.to_string(),
        custodial: entry.custodial,
        record: AnyRecord::of(signed.record(), signed.id(), signed.signature()),
    }
}

fn standing(standing: &lens::Standing) -> wire::Standing {
    let Tier(tier) = standing.tier;
    wire::Standing {
        tier,
        class: Class(standing.tier.class()),
        lifecycle: LifecycleState(standing.state),
        voice: standing.voice.as_ref().map(|voice| match voice {
            Voice::Operator(operator) => format!("operator {operator}"),
            Voice::Agent(agent) => format!("agent {agent}"),
            Voice::Principal(principal) => format!("principal {principal}"),
        }),
    }
}

/// Support in units of one full confidence.
#[expect(clippy::cast_precision_loss, reason = "for people; the exact sum is in 2^-30")]
fn support(sum: u128) -> f64 {
    sum as f64 / WEIGHT_ONE as f64
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn status(status: lens::Status) -> Status {
    match status {
        lens::Status::Unknown => Status::Unknown,
        lens::Status::Unanimous => Status::Unanimous,
        lens::Status::Agreed => Status::Agreed,
        lens::Status::Contested => Status::Contested,
    }
}

fn lens_name(lens: LensName) -> wire::LensName {
    match lens {
        LensName::Recency => wire::LensName::Recency,
        LensName::Consensus => wire::LensName::Consensus,
        LensName::Confidence => wire::LensName::Confidence,
        LensName::Authority => wire::LensName::Authority,
        LensName::Trust => wire::LensName::Trust,
        LensName::Votes => wire::LensName::Votes,
        LensName::Skeptic => wire::LensName::Skeptic,
        LensName::Layered => wire::LensName::Layered,
    }
}

/// The other way.
pub(crate) fn lens_of(lens: wire::LensName) -> LensName {
    match lens {
        wire::LensName::Recency => LensName::Recency,
        wire::LensName::Consensus => LensName::Consensus,
        wire::LensName::Confidence => LensName::Confidence,
        wire::LensName::Authority => LensName::Authority,
        wire::LensName::Trust => LensName::Trust,
        wire::LensName::Votes => LensName::Votes,
        wire::LensName::Skeptic => LensName::Skeptic,
        wire::LensName::Layered => LensName::Layered,
    }
}
