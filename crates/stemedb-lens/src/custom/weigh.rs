//! A definition on the claims of a question.

use std::collections::{BTreeMap, HashMap, HashSet};

use stemedb_model::{Aggregate, Position, Tier, Value};

use super::compile::Uses;
use super::inputs::Input;
use super::run::{Datum, Facts, Fading, Part, keeps, weighs};
use super::{CustomLens, LensFault};
use crate::camp::{Camp, Camps, Sides};
use crate::choosing::Filter;
use crate::decay::{Sum, WEIGHT_ONE, half_life};
use crate::lenses::Scales;
use crate::question::Ballot;
use crate::statements::Statement;

const DAY_MS: f64 = 86_400_000.0;

/// What the claims of a question weigh under a definition.
#[derive(Debug, Default)]
pub(crate) struct Weighed {
    /// What the definition leaves out, the faults among it.
    pub(crate) dropped: HashSet<Position>,
    pub(crate) faults: Vec<LensFault>,
    /// Of claims that have a say.
    weights: HashMap<Position, Vec<Part>>,
    aggregate: Option<Aggregate>,
}

/// Who has a say in favour of a value.
pub(crate) struct Say {
    pub(crate) claims: u64,
    pub(crate) agents: u64,
    pub(crate) newest: Position,
}

/// Figures of all that is heard in a question.
#[derive(Clone, Copy)]
struct OfQuestion {
    best_tier: i64,
    newest: i64,
    claims: i64,
}

/// Figures of one side of a value.
#[derive(Clone, Copy, Default)]
struct OfValue {
    claims: i64,
    agents: i64,
    voices: i64,
    best_tier: i64,
    votes: f64,
    rank: i64,
}

/// What is known of one claim.
struct OfClaim<'a, 'q> {
    weighing: &'a Weighing<'q>,
    statement: &'q Statement,
    agents: &'a [Option<u32>],
    sources: &'a [Option<u32>],
    question: OfQuestion,
    value: OfValue,
}

struct Weighing<'q> {
    scales: &'q Scales<'q>,
    /// By agent.
    reliability: HashMap<u32, u64>,
    /// By assertion: sums for and against in 2^-30, and how many.
    votes: HashMap<Position, (u64, u64, i64)>,
}

impl Weighed {
    /// Runs the definition on every claim that `filter` lets through. O(n log n) in these claims, with
    /// a bounded number of steps for each.
    pub(crate) fn new(scales: &Scales<'_>, lens: &CustomLens, mut filter: Filter) -> Self {
        let question = scales.question;
        let statements = &question.statements;
        let mut weighed = Self { aggregate: Some(lens.aggregate()), ..Self::default() };
        let of_filter = lens.filter.as_ref().map(|filter| &filter.uses);
        let mut weighing = Weighing::new(scales);
        for uses in of_filter.into_iter().chain([&lens.weight.uses]) {
            weighing.get_ready(uses);
        }
        if let Some(compiled) = &lens.filter {
            let (agents, sources) = weighing.named(&compiled.uses);
            for statement in statements.in_play().filter(|one| filter.passes(one)) {
                let of_claim = OfClaim {
                    weighing: &weighing,
                    statement,
                    agents: &agents,
                    sources: &sources,
                    question: OfQuestion { best_tier: 0, newest: 0, claims: 0 },
                    value: OfValue::default(),
                };
                match keeps(&compiled.root, &of_claim) {
                    Ok(true) => {}
                    Ok(false) => weighed.drop(statement.position),
                    Err(problem) => weighed.fault(statement.position, "filter", problem),
                }
            }
        }
        filter.drop(&weighed.dropped);
        let heard = match filter.keeps_all() {
            true => None,
            false => Some(question.heard(&filter)),
        };
        let all: Vec<Sides<'_>> = match &heard {
            Some(heard) => heard.iter().map(Camps::sides).collect(),
            None => question.candidates().map(|candidate| candidate.camps.sides()).collect(),
        };
        let ballots = match lens.weight.uses.votes {
            true => question.ballots_on(&all),
            false => BTreeMap::new(),
        };
        let of_all = OfQuestion::new(all.iter().map(|sides| sides.yes));
        let (agents, sources) = weighing.named(&lens.weight.uses);
        for (value, sides) in all.iter().enumerate() {
            let of_question = match question.many {
                true => OfQuestion::new([sides.yes, sides.no].into_iter()),
                false => of_all,
            };
            for (camp, opposing) in [(sides.yes, false), (sides.no, true)] {
                let on = ballots.get(&(value, opposing)).map_or(&[][..], Vec::as_slice);
                let of_value = weighing.of_value(camp, on);
                for (rank, claim) in camp.claims().enumerate() {
                    let Some(statement) = statements.find(claim.position()) else { continue };
                    let of_claim = OfClaim {
                        weighing: &weighing,
                        statement,
                        agents: &agents,
                        sources: &sources,
                        question: of_question,
                        value: OfValue { rank: whole(rank as u64), ..of_value },
                    };
                    let fading = Fading {
                        time: statement.time.min(scales.options.evaluated_at),
                        half_life: half_life(
                            scales.options.decay,
                            question.half_life,
                            statement.tier,
                        ),
                    };
                    match weighs(&lens.weight.root, &of_claim, fading) {
                        Ok(Some(parts)) => {
                            weighed.weights.insert(statement.position, parts);
                        }
                        Ok(None) => {}
                        Err(problem) => weighed.fault(statement.position, "weight", problem),
                    }
                }
            }
        }
        weighed.faults.sort_unstable_by_key(|fault| fault.position);
        weighed
    }

    fn drop(&mut self, position: Position) {
        self.dropped.insert(position);
    }

    fn fault(&mut self, position: Position, field: &'static str, problem: &'static str) {
        self.drop(position);
        self.faults.push(LensFault { position, field, problem });
    }

    /// What one side of a value weighs, at least 0. O(its voices), or its claims.
    pub(crate) fn weigh(&self, camp: &Camp, scales: &Scales<'_>) -> i128 {
        let at = scales.options.evaluated_at;
        let (mut gains, mut losses) = (Sum::default(), Sum::default());
        match self.aggregate {
            Some(Aggregate::Max) => {
                let of_claim = |parts: &Vec<Part>| {
                    let (mut gains, mut losses) = (Sum::default(), Sum::default());
                    add(parts, &mut gains, &mut losses);
                    gains.at(at).cast_signed() - losses.at(at).cast_signed()
                };
                let claims = camp.claims().filter_map(|one| self.weights.get(&one.position()));
                claims.map(of_claim).max().unwrap_or(0).max(0)
            }
            _ => {
                for claim in camp.tally.spoken() {
                    if let Some(parts) = self.weights.get(&claim.position()) {
                        add(parts, &mut gains, &mut losses);
                    }
                }
                (gains.at(at).cast_signed() - losses.at(at).cast_signed()).max(0)
            }
        }
    }

    /// Who has a say in favour of a value. O(claims).
    pub(crate) fn say(&self, camp: &Camp, scales: &Scales<'_>) -> Say {
        let with_a_say = camp.claims().map(|one| one.position());
        let with_a_say: Vec<Position> =
            with_a_say.filter(|position| self.weights.contains_key(position)).collect();
        let statements = &scales.question.statements;
        let agents: HashSet<u32> = with_a_say
            .iter()
            .filter_map(|position| statements.find(*position).map(|one| one.agent))
            .collect();
        Say {
            claims: with_a_say.len() as u64,
            agents: agents.len() as u64,
            newest: with_a_say.into_iter().max().unwrap_or(Position::NONE),
        }
    }
}

fn add(parts: &[Part], gains: &mut Sum, losses: &mut Sum) {
    for part in parts {
        let sum = if part.negative { &mut *losses } else { &mut *gains };
        sum.add(part.weight);
    }
}

impl OfQuestion {
    fn new<'a>(camps: impl Iterator<Item = &'a Camp> + Clone) -> Self {
        let best = camps.clone().filter_map(|camp| camp.tally.best_tier()).min();
        let newest = camps.clone().filter_map(Camp::latest).max();
        Self {
            best_tier: best.map_or(5, |Tier(tier)| tier.into()),
            newest: newest.map_or(0, |newest| newest.0),
            claims: whole(camps.map(|camp| camp.len() as u64).sum()),
        }
    }
}

impl<'q> Weighing<'q> {
    fn new(scales: &'q Scales<'q>) -> Self {
        Self { scales, reliability: HashMap::new(), votes: HashMap::new() }
    }

    /// Looks up what an expression will ask for.
    fn get_ready(&mut self, uses: &Uses) {
        let question = self.scales.question;
        if uses.trust && self.reliability.is_empty() {
            for statement in question.statements.in_play() {
                let agent = statement.agent;
                let learn = || self.scales.reliability(agent);
                self.reliability.entry(agent).or_insert_with(learn);
            }
        }
        if uses.votes && self.votes.is_empty() {
            for (assertion, ballots) in question.ballots() {
                let votes = self.votes.entry(*assertion).or_default();
                for ballot in ballots {
                    match ballot.weight {
                        weight @ 0.. => votes.0 += weight.unsigned_abs(),
                        weight => votes.1 += weight.unsigned_abs(),
                    }
                    votes.2 += 1;
                }
            }
        }
    }

    /// The agents and sources that an expression names, as this question knows them.
    fn named(&self, uses: &Uses) -> (Vec<Option<u32>>, Vec<Option<u32>>) {
        let lookup = &self.scales.question.statements.lookup;
        let agents = uses.agents.iter().map(|agent| lookup.agent_number(agent));
        let sources = uses.sources.iter().map(|source| lookup.source_number(source));
        (agents.collect(), sources.collect())
    }

    fn of_value(&self, camp: &Camp, ballots: &[&Ballot]) -> OfValue {
        OfValue {
            claims: whole(camp.len() as u64),
            agents: whole(camp.agents(None)),
            voices: whole(camp.tally.spoken().len() as u64),
            best_tier: camp.tally.best_tier().map_or(5, |Tier(tier)| tier.into()),
            // Exact while a value has fewer than 2^23 voters.
            votes: self.scales.moved(ballots) as f64 / WEIGHT_ONE as f64,
            rank: 0,
        }
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl<'q> Facts<'q> for OfClaim<'_, 'q> {
    fn input(&self, input: Input) -> Datum<'q> {
        let (one, weighing) = (self.statement, self.weighing);
        let options = weighing.scales.options;
        let statements = &weighing.scales.question.statements;
        let age = || options.evaluated_at.0.saturating_sub(one.time.0).max(0);
        let votes = || weighing.votes.get(&one.position).copied().unwrap_or_default();
        let unit = |weight: u64| weight as f64 / WEIGHT_ONE as f64;
        match input {
            Input::Confidence => Datum::Double(one.strength().confidence()),
            Input::Tier => Datum::Int(one.tier.0.into()),
            Input::Class => Datum::Text(one.tier.class().as_str()),
            Input::State => Datum::Text(one.state.as_str()),
            Input::Time => Datum::Int(one.time.0),
            Input::Age => Datum::Int(age()),
            Input::AgeDays => Datum::Double(age() as f64 / DAY_MS),
            Input::Position => Datum::Int(whole(one.position.0)),
            Input::Denies => Datum::Bool(one.opposing),
            Input::Registered => Datum::Bool(statements.lookup.registered(one.source)),
            Input::Cosigns => Datum::Int(one.cosigns.into()),
            Input::VotesFor => Datum::Double(unit(votes().0)),
            Input::VotesAgainst => Datum::Double(unit(votes().1)),
            Input::Voters => Datum::Int(votes().2),
            Input::Reliability => {
                let half = WEIGHT_ONE / 2;
                Datum::Double(unit(weighing.reliability.get(&one.agent).copied().unwrap_or(half)))
            }
            Input::Rank => Datum::Int(self.value.rank),
            Input::ValueType => Datum::Text(match statements.value(one) {
                Some(Value::Number { .. }) => "number",
                Some(Value::Boolean(_)) => "boolean",
                Some(Value::Time(_)) => "time",
                Some(Value::Reference(_)) => "reference",
                Some(Value::Text(_)) | None => "text",
            }),
            Input::Text => Datum::Text(match statements.value(one) {
                Some(Value::Text(text)) => text.as_ref(),
                _ => "",
            }),
            Input::Number => Datum::Double(match statements.value(one) {
                Some(Value::Number { value, .. }) => *value,
                _ => 0.0,
            }),
            Input::ValueClaims => Datum::Int(self.value.claims),
            Input::ValueAgents => Datum::Int(self.value.agents),
            Input::ValueVoices => Datum::Int(self.value.voices),
            Input::ValueTier => Datum::Int(self.value.best_tier),
            Input::ValueVotes => Datum::Double(self.value.votes),
            Input::BestTier => Datum::Int(self.question.best_tier),
            Input::Newest => Datum::Int(self.question.newest),
            Input::Claims => Datum::Int(self.question.claims),
            Input::EvaluatedAt => Datum::Int(options.evaluated_at.0),
            Input::ValidAt => Datum::Int(options.valid_at.0),
        }
    }

    fn by(&self, agent: usize) -> bool {
        self.agents.get(agent).copied().flatten() == Some(self.statement.author)
    }

    fn from(&self, source: usize) -> bool {
        self.sources.get(source).copied().flatten() == Some(self.statement.source)
    }
}
