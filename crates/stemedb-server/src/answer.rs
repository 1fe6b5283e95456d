//! Domain to wire: what lenses and the log say, as JSON.

use std::collections::{BTreeMap, HashMap};

use stemedb_engine::{Diff, RecordView, Relation, Trace, TrustOf, View};
use stemedb_index::Entry;
use stemedb_lens::{self as lens, FactKind, LensName, Options, WEIGHT_ONE};
use stemedb_model::{Key, Position, RecordId, Space, Tier, Voice};

use crate::error::{ApiError, ApiResult};
use crate::handlers::trust::reliability;
use crate::wire::{
    self, AgentKey, AnyRecord, Class, Exclusion, HashHex, Id, LifecycleState, Object,
    PredicateText, Reference, SpaceText, Status, StoredRecord, SubjectText, Time,
};

/// How many changes a diff names: those of the newest claims.
const CHANGES_MAX: usize = 100;

/// Turns positions, which resolution works with, into ids, which people know; each is looked up
/// once.
pub(crate) struct Names<'a> {
    view: &'a View,
    ids: HashMap<Position, RecordId>,
    at_hand: bool,
}

impl<'a> Names<'a> {
    pub(crate) fn new(view: &'a View) -> Self {
        Self { view, ids: HashMap::new(), at_hand: false }
    }

    /// The same, which fails where it would have to look into storage.
    pub(crate) fn at_hand(view: &'a View) -> Self {
        Self { at_hand: true, ..Self::new(view) }
    }

    pub(crate) fn id(&mut self, position: Position) -> ApiResult<Id> {
        if let Some(id) = self.ids.get(&position) {
            return Ok(Id(*id));
        }
        let snapshot = self.view.snapshot();
        let found = match self.at_hand {
            true => snapshot.known_id(position),
            false => snapshot.id(position)?,
        };
        let id = found.ok_or_else(|| {
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
            members: match &*value.members {
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

    /// What an agent is worth.
    pub(crate) fn trust(&mut self, space: &Space, found: &TrustOf) -> ApiResult<wire::TrustAnswer> {
        let in_force = found.snapshot.as_ref().map(|in_force| wire::TrustInForce {
            snapshot: Reference { id: Id(in_force.id), position: in_force.position.0 },
            input_position: in_force.snapshot.input_position.0,
            config: HashHex(in_force.snapshot.config),
            table: HashHex(in_force.snapshot.table),
        });
        let mut topics = Vec::with_capacity(found.topics.len());
        for topic in &found.topics {
            let mut disputes = Vec::with_capacity(topic.disputes.len());
            for dispute in &topic.disputes {
                disputes.push(wire::Dispute {
                    id: self.id(dispute.position)?,
                    position: dispute.position.0,
                    subject: SubjectText(dispute.subject.to_string()),
                    says: (&dispute.says).into(),
                    answer: dispute.answer.as_ref().map(Into::into),
                });
            }
            topics.push(wire::TopicTrust {
                predicate: PredicateText(topic.predicate.to_string()),
                reliability: reliability(topic.reliability.or(found.overall)),
                learned: topic.reliability.is_some(),
                claims: topic.claims as u64,
                agreed: topic.agreed as u64,
                disputes,
            });
        }
        Ok(wire::TrustAnswer {
            position: self.view.position().0,
            space: SpaceText(space.to_string()),
            agent: AgentKey(found.agent),
            in_force,
            reliability: reliability(found.overall),
            learned: found.overall.is_some(),
            topics,
            compared: found.compared as u64,
            signed: found.signed as u64,
        })
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
        for one in &found.excluded {
            let Exclusion { reason, by } = self.exclusion(one)?;
            let id = self.id(one.position)?;
            excluded.push(wire::Excluded { id, position: one.position.0, reason, by });
        }
        let skipped = found.faults.len().saturating_sub(lens::EXCLUDED_MAX);
        let faults = found.faults.iter().skip(skipped);
        let faults: ApiResult<Vec<wire::LensFault>> = faults
            .map(|fault| {
                Ok(wire::LensFault {
                    claim: self.reference(fault.position)?,
                    field: fault.field.to_owned(),
                    problem: fault.problem.to_owned(),
                })
            })
            .collect();
        let layers: ApiResult<Vec<wire::Layer>> =
            found.layers.iter().map(|layer| self.layer(layer)).collect();
        Ok(wire::Resolution {
            space: SpaceText(found.key.space.to_string()),
            subject: SubjectText(found.key.subject.to_string()),
            predicate: PredicateText(found.key.predicate.to_string()),
            lens: wire::LensName(answered_by(found)),
            lens_hash: HashHex(found.lens_hash),
            trust_snapshot: trust_snapshot(self.view, found),
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
            excluded_count: found.excluded_count,
            excluded_for: reasons(&found.excluded_for),
            excluded,
            layers: layers?,
            cross_tier_conflict: (found.lens == LensName::Layered)
                .then_some(found.cross_tier_conflict),
            faults: faults?,
            diff: None,
        })
    }

    /// The answer of a lens with what it was at `earlier`, and what became of the claims in between.
    pub(crate) fn diff(&mut self, earlier: &View, found: &Diff) -> ApiResult<wire::Resolution> {
        let mut changes = Vec::new();
        let skipped = found.changes.len().saturating_sub(CHANGES_MAX);
        for change in found.changes.iter().skip(skipped) {
            changes.push(self.change(change)?);
        }
        let (then, now) = (&found.then, &found.now);
        let values = |answer: &lens::Resolution| -> Vec<Object> {
            let winners = answer.winners.iter().filter_map(|index| answer.values.get(*index));
            winners.map(|winner| (&winner.value).into()).collect()
        };
        let same = |a: &lens::ValueSupport, b: &lens::ValueSupport| a.value == b.value;
        let in_other = |list: &[lens::ValueSupport], one: &lens::ValueSupport| {
            list.iter().find(|other| same(other, one)).map(|o| (o.share, o.lens_share))
        };
        let mut rows = Vec::new();
        for value in &now.values {
            let (share_then, lens_share_then) = in_other(&then.values, value).unwrap_or_default();
            rows.push(wire::ValueChange {
                value: (&value.value).into(),
                share_then,
                share: value.share,
                lens_share_then,
                lens_share: value.lens_share,
            });
        }
        for value in then.values.iter().filter(|one| in_other(&now.values, one).is_none()) {
            rows.push(wire::ValueChange {
                value: (&value.value).into(),
                share_then: value.share,
                share: 0.0,
                lens_share_then: value.lens_share,
                lens_share: 0.0,
            });
        }
        let (winners_then, winners_now) = (values(then), values(now));
        let diff = wire::Diff {
            position: then.position.0,
            evaluated_at: Time(then.evaluated_at),
            changed: winners_then != winners_now || then.status != now.status,
            value: then.winner().map(|winner| (&winner.value).into()),
            winners: winners_then,
            status: status(then.status),
            conflict_score: then.conflict_score,
            margin: then.margin,
            lens_margin: then.lens_margin,
            trust_snapshot: trust_snapshot(earlier, then),
            predicate_changed: found.predicate_changed,
            values: rows,
            changes,
            changes_count: count(found.changes.len()),
        };
        Ok(wire::Resolution { diff: Some(Box::new(diff)), ..self.resolution(now)? })
    }

    fn change(&mut self, change: &lens::Change) -> ApiResult<wire::ClaimChange> {
        use lens::Became;
        use wire::ChangeKind;
        let mut told = wire::ClaimChange {
            id: self.id(change.position)?,
            position: change.position.0,
            opposing: change.opposing,
            change: ChangeKind::Left,
            reason: None,
            by: None,
            was: None,
            now: None,
            weight: None,
        };
        let tier = |tier: Tier| Some(tier.class().as_str().to_owned());
        let (kind, excluded, by) = match &change.became {
            Became::Asserted(excluded) => (ChangeKind::Asserted, excluded.as_ref(), None),
            Became::Joined(excluded) => (ChangeKind::Joined, excluded.as_ref(), None),
            Became::Left => (ChangeKind::Left, None, None),
            Became::Excluded(excluded) => (ChangeKind::Excluded, Some(excluded), None),
            Became::Counts(excluded) => (ChangeKind::Counts, Some(excluded), None),
            Became::Tier { was, now } => {
                (told.was, told.now) = (tier(*was), tier(*now));
                (ChangeKind::Tier, None, None)
            }
            Became::Lifecycle { was, now } => {
                (told.was, told.now) = (Some(was.as_str().into()), Some(now.as_str().into()));
                (ChangeKind::Lifecycle, None, None)
            }
            Became::Voice => (ChangeKind::Voice, None, None),
            Became::Source => (ChangeKind::Source, None, None),
            Became::Voted { by, weight } => {
                told.weight = Some(*weight);
                (ChangeKind::Voted, None, Some(*by))
            }
            Became::Cosigned { by } => (ChangeKind::Cosigned, None, Some(*by)),
            Became::TakenBack { by } => (ChangeKind::TakenBack, None, Some(*by)),
        };
        told.change = kind;
        told.by = by.map(|by| self.id(by)).transpose()?;
        if let Some(excluded) = excluded {
            let Exclusion { reason, by } = self.exclusion(excluded)?;
            (told.reason, told.by) = (Some(reason), by);
        }
        Ok(told)
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
            lens: wire::LensName(options.lens_name().into_owned()),
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
            excluded_for: BTreeMap::new(),
            excluded: Vec::new(),
            layers: Vec::new(),
            cross_tier_conflict: None,
            trust_snapshot: None,
            faults: Vec::new(),
            diff: None,
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

fn reasons(counts: &[(lens::Reason, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|(reason, count)| (reason.as_str().to_owned(), *count)).collect()
}

pub(crate) fn status(status: lens::Status) -> Status {
    match status {
        lens::Status::Unknown => Status::Unknown,
        lens::Status::Unanimous => Status::Unanimous,
        lens::Status::Agreed => Status::Agreed,
        lens::Status::Contested => Status::Contested,
    }
}

pub(crate) fn status_of(status: Status) -> lens::Status {
    match status {
        Status::Unknown => lens::Status::Unknown,
        Status::Unanimous => lens::Status::Unanimous,
        Status::Agreed => lens::Status::Agreed,
        Status::Contested => lens::Status::Contested,
    }
}

/// The lens that gave an answer.
pub(crate) fn answered_by(found: &lens::Resolution) -> String {
    match &found.custom {
        Some(custom) => custom.name(),
        None => found.lens.as_str().to_owned(),
    }
}

/// The trust snapshot that an answer rests on, if its lens asks for one.
fn trust_snapshot(view: &View, found: &lens::Resolution) -> Option<Reference> {
    let asks = match &found.custom {
        Some(custom) => custom.uses_trust(),
        None => matches!(found.lens, LensName::Trust | LensName::Votes),
    };
    let in_force = view.trust_snapshot(&found.key.space).filter(|_| asks)?;
    Some(Reference { id: Id(in_force.id), position: in_force.position.0 })
}
