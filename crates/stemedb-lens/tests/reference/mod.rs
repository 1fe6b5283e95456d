//! Resolution as the contract puts it, slowly: sentences of `docs/format/answer.md` turned into
//! loops, recursion and maps, sharing no code with the crate but its types and the registry.
//! Exponential in the worst case; histories in tests are short.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::collections::{BTreeMap, BTreeSet};

use stemedb_lens::{
    Candidates, Claim, Decay, Dissent, EXCLUDED_MAX, Excluded, Fact, FactKind, Layer, LensName,
    Options, Reason, Reliability, Resolution, Status, ValueSupport, lens_hash,
};
use stemedb_model::{
    AgentId, Cardinality, LifecycleState, Position, Predicate, PredicateName, SourceClass,
    SourceIdent, Tier, Value, Voice,
};

const ONE: i128 = 1 << 30;

pub struct Reference<'a> {
    c: &'a Candidates,
    o: &'a Options,
    trust: Option<&'a dyn Reliability>,
    many: bool,
}

/// A claim, whether it denies, and why it takes no part.
type Judged<'a> = (&'a Claim, bool, Option<(Reason, Option<Position>)>);

/// A claim that takes part.
#[derive(Clone)]
struct Member {
    position: Position,
    tier: u8,
    confidence: f64,
    time: i64,
    source: SourceIdent,
    voice: Voice,
    /// Who stands for it.
    agent: AgentId,
    value: Value,
    opposing: bool,
}

impl Member {
    /// Greater is stronger.
    fn strength(&self) -> (i8, u64, i128) {
        (-(self.tier as i8), self.confidence.to_bits(), -i128::from(self.position.0))
    }
}

impl<'a> Reference<'a> {
    pub fn resolve(
        c: &'a Candidates,
        o: &'a Options,
        trust: Option<&'a dyn Reliability>,
    ) -> Resolution {
        let mut this = Self { c, o, trust, many: false };
        this.many = this.cardinality(&c.key.predicate) == Cardinality::Many;
        this.answer()
    }

    // ---- looking things up

    fn predicate(&self, name: &PredicateName) -> Option<std::sync::Arc<Predicate>> {
        self.c.registry.predicate(self.c.space(), name, self.c.as_of)
    }

    fn cardinality(&self, name: &PredicateName) -> Cardinality {
        self.predicate(name).map_or(Cardinality::One, |found| found.cardinality)
    }

    fn lineage(&self, agent: &AgentId) -> AgentId {
        self.c.registry.lineage(self.c.space(), agent, self.c.as_of)
    }

    fn counts(&self, agent: &AgentId, written: Position) -> bool {
        self.c.registry.counts(self.c.space(), agent, written, self.c.as_of)
    }

    fn all(&self) -> impl Iterator<Item = &'a Claim> {
        let lists = [&self.c.claims, &self.c.opposing, &self.c.related];
        lists.into_iter().flatten().filter(|claim| claim.position <= self.c.as_of)
    }

    fn claim(&self, at: Position) -> Option<&'a Claim> {
        self.all().find(|claim| claim.position == at)
    }

    fn kept(&self, claim: &Claim) -> bool {
        self.o.asserted_before.is_none_or(|before| claim.at < before)
    }

    // ---- facts

    fn live(&self, fact: &Fact) -> bool {
        fact.position <= self.c.as_of
            && self.o.asserted_before.is_none_or(|before| fact.at < before)
            && self.counts(&fact.agent, fact.position)
            && self.retraction(fact.position).is_none()
    }

    /// The oldest live retraction of a record.
    fn retraction(&self, target: Position) -> Option<Position> {
        let facts = self.c.facts.iter();
        facts
            .filter(|fact| fact.target == target && fact.kind == FactKind::Retract)
            .filter(|fact| self.live(fact))
            .map(|fact| fact.position)
            .min()
    }

    fn about(&self, target: Position) -> impl Iterator<Item = &'a Fact> {
        self.c.facts.iter().filter(move |fact| fact.target == target && self.live(fact))
    }

    fn moved(&self, target: Position) -> Option<(Position, LifecycleState)> {
        let moves = self.about(target).filter_map(|fact| match fact.kind {
            FactKind::Lifecycle { state } => Some((fact.position, state)),
            _ => None,
        });
        moves.max_by_key(|(position, _)| *position)
    }

    fn cosigner(&self, claim: &Claim) -> Option<&'a Fact> {
        let space = self.c.space();
        let cosigns = self.about(claim.position).filter(|fact| fact.kind == FactKind::Cosign);
        cosigns.filter(|fact| self.lineage(&fact.agent) != self.lineage(&claim.agent)).min_by_key(
            |fact| (self.c.registry.agent(space, &fact.agent, self.c.as_of).ceiling, fact.position),
        )
    }

    /// Links that hold, by the order of the log; one that would close a circle does not.
    fn links(&self) -> Vec<(Position, Position)> {
        let mut facts: Vec<_> = self.c.facts.iter().filter(|fact| self.live(fact)).collect();
        facts.sort_by_key(|fact| fact.position);
        let mut links: Vec<(Position, Position)> = Vec::new();
        for fact in facts {
            let FactKind::Supersede { new } = fact.kind else { continue };
            let there = |at| self.claim(at).is_some_and(|claim| self.kept(claim));
            if !there(fact.target) || !there(new) {
                continue;
            }
            let mut reach = BTreeSet::from([new]);
            while links.iter().any(|(old, new)| reach.contains(old) && reach.insert(*new)) {}
            if !reach.contains(&fact.target) {
                links.push((fact.target, new));
            }
        }
        links
    }

    // ---- step 1

    fn state(&self, claim: &Claim) -> LifecycleState {
        if let Some((_, state)) = self.moved(claim.position) {
            return state;
        }
        let reviewed =
            !matches!(claim.lifecycle, LifecycleState::Proposed | LifecycleState::UnderReview);
        if reviewed && !self.counts(&claim.agent, claim.position) {
            return LifecycleState::Proposed;
        }
        let registry = &self.c.registry;
        registry.declared_lifecycle(self.c.space(), &claim.agent, claim.lifecycle, claim.position)
    }

    /// Reasons that need no other claim, with whether what rests on the claim is undermined.
    fn alone(&self, claim: &Claim) -> Vec<(Reason, Option<Position>, bool)> {
        let (registry, space, as_of) = (&self.c.registry, self.c.space(), self.c.as_of);
        let before = self.o.asserted_before;
        let mut reasons = Vec::new();
        if let Some(by) = self.retraction(claim.position) {
            reasons.push((Reason::Retracted, Some(by), true));
        }
        if let Some(by) = registry.source_retracted(space, &claim.source, as_of, before) {
            reasons.push((Reason::SourceRetracted, Some(by), true));
        }
        if self.o.epoch_aware
            && let Some(epoch) = claim.epoch
            && let Some((_, id)) = self.c.epochs.iter().find(|(position, _)| *position == epoch)
            && let Some(by) = registry.epoch_superseded(id, as_of, before)
        {
            reasons.push((Reason::EpochSuperseded, Some(by), true));
        }
        let state = self.state(claim);
        let named = self.o.lifecycle.as_ref().is_some_and(|states| states.contains(&state));
        if matches!(state, LifecycleState::Deprecated | LifecycleState::Rejected) && !named {
            let by = self.moved(claim.position).map(|(by, _)| by);
            reasons.push((Reason::Lifecycle, by, state == LifecycleState::Rejected));
        }
        let revoked = registry.revoked_by(space, &claim.agent, claim.position, as_of);
        if revoked.is_some() && self.cosigner(claim).is_none() {
            reasons.push((Reason::AgentRevoked, revoked, true));
        }
        reasons
    }

    fn premises(&self, claim: &Claim) -> Vec<&'a Claim> {
        let mut premises: Vec<Position> = claim.premises.to_vec();
        premises.sort();
        let older = premises.into_iter().filter(|premise| *premise < claim.position);
        older.filter_map(|premise| self.claim(premise)).collect()
    }

    /// Whether `from` depends on `to`, through premises and the new ends of links.
    fn depends(&self, from: Position, to: Position) -> bool {
        let links = self.links();
        let mut reach = BTreeSet::from([from]);
        let mut todo = vec![from];
        while let Some(at) = todo.pop() {
            let mut next: Vec<Position> =
                links.iter().filter(|(old, _)| *old == at).map(|(_, new)| *new).collect();
            let claim = self.claim(at).unwrap();
            next.extend(self.premises(claim).iter().map(|premise| premise.position));
            todo.extend(next.into_iter().filter(|next| reach.insert(*next)));
        }
        reach.contains(&to)
    }

    fn undermined(&self, claim: &Claim) -> Option<Position> {
        let fallen =
            self.premises(claim).into_iter().filter(|premise| self.kept(premise)).find(|premise| {
                let links = self.links();
                let mut replacing = links
                    .iter()
                    .filter(|(old, _)| *old == premise.position)
                    .map(|(_, new)| self.claim(*new).unwrap());
                self.alone(premise).iter().any(|(_, _, undermines)| *undermines)
                    || self.undermined(premise).is_some()
                    || replacing
                        .any(|new| !self.depends(new.position, claim.position) && !self.gone(new))
            });
        fallen.map(|premise| premise.position)
    }

    /// Excluded for more than being superseded.
    fn gone(&self, claim: &Claim) -> bool {
        !self.alone(claim).is_empty() || self.undermined(claim).is_some()
    }

    fn first_stage(&self, claim: &Claim) -> Option<(Reason, Option<Position>)> {
        let mut reasons: Vec<(Reason, Option<Position>)> =
            self.alone(claim).into_iter().map(|(reason, by, _)| (reason, by)).collect();
        let links = self.links();
        let holding = links
            .iter()
            .find(|(old, new)| *old == claim.position && !self.gone(self.claim(*new).unwrap()));
        reasons.extend(holding.map(|(_, new)| (Reason::Superseded, Some(*new))));
        reasons.extend(self.undermined(claim).map(|by| (Reason::Undermined, Some(by))));
        reasons.into_iter().min_by_key(|(reason, _)| *reason)
    }

    fn tier(&self, claim: &Claim) -> Tier {
        let standing = if self.counts(&claim.agent, claim.position) {
            claim.agent
        } else {
            self.cosigner(claim).map_or(claim.agent, |fact| fact.agent)
        };
        let registry = &self.c.registry;
        let base =
            registry.base_tier(self.c.space(), &standing, &claim.source, claim.class, self.c.as_of);
        let premises = self.premises(claim);
        if premises.len() < claim.premises.len() {
            return Tier(5);
        }
        premises.into_iter().map(|premise| self.tier(premise)).chain([base]).max().unwrap()
    }

    /// The claims considered, each with its exclusion before filters.
    fn considered(&self) -> Vec<Judged<'a>> {
        let key = self.c.claims.iter().map(|claim| (claim, false));
        let opposing = self.c.opposing.iter().filter(|_| self.many).map(|claim| (claim, true));
        let mut judged: Vec<_> = key
            .chain(opposing)
            .filter(|(claim, _)| claim.position <= self.c.as_of && self.kept(claim))
            .map(|(claim, opposing)| (claim, opposing, self.first_stage(claim)))
            .collect();
        judged.sort_by_key(|(claim, ..)| claim.position);

        let named = |claim: &'a Claim, opposing: bool| {
            if opposing { claim.predicate.clone() } else { self.c.key.predicate.clone() }
        };
        let left: Vec<_> = judged.iter().filter(|(.., reason)| reason.is_none()).cloned().collect();
        for (claim, opposing, reason) in &mut judged {
            if reason.is_some() {
                continue;
            }
            let predicate = named(claim, *opposing);
            let replaces = |other: &Claim, other_opposing: bool| {
                let one = match self.predicate(&predicate) {
                    Some(registered) => registered.cardinality == Cardinality::One,
                    None => !*opposing,
                };
                let same_statement =
                    one && (other.valid_from, other.valid_to) == (claim.valid_from, claim.valid_to);
                other.position > claim.position
                    && self.lineage(&other.agent) == self.lineage(&claim.agent)
                    && named(self.claim(other.position).unwrap(), other_opposing) == predicate
                    && (same_statement || other.parent == Some(claim.position))
            };
            let newest =
                left.iter().filter(|(other, other_opposing, _)| replaces(other, *other_opposing));
            let newest = newest.map(|(other, ..)| other.position).max();
            *reason = newest.map(|by| (Reason::Replaced, Some(by)));
        }
        for (claim, _, reason) in &mut judged {
            let at = self.o.valid_at;
            let holds = claim.valid_from.is_none_or(|from| at >= from)
                && claim.valid_to.is_none_or(|to| at < to);
            if reason.is_none() && !holds {
                *reason = Some((Reason::NotValidThen, None));
            }
        }
        judged
    }

    fn passes(&self, claim: &Claim) -> bool {
        let o = self.o;
        let ident = |key| self.c.registry.source_id(self.c.space(), key, self.c.as_of);
        o.min_confidence.is_none_or(|least| claim.confidence >= least)
            && o.lifecycle.as_ref().is_none_or(|set| set.contains(&self.state(claim)))
            && o.tiers.as_ref().is_none_or(|set| set.contains(&self.tier(claim)))
            && o.agents.as_ref().is_none_or(|set| {
                set.iter().any(|key| self.lineage(key) == self.lineage(&claim.agent))
            })
            && o.sources
                .as_ref()
                .is_none_or(|set| set.iter().any(|key| ident(key) == ident(&claim.source)))
    }

    // ---- values

    fn member(&self, claim: &Claim, opposing: bool) -> Member {
        let registry = &self.c.registry;
        let (space, as_of) = (self.c.space(), self.c.as_of);
        let stands = match self.counts(&claim.agent, claim.position) {
            true => (claim.agent, &claim.principal),
            false => {
                let cosign = self.cosigner(claim).unwrap();
                (cosign.agent, &cosign.principal)
            }
        };
        Member {
            position: claim.position,
            tier: self.tier(claim).0,
            confidence: claim.confidence,
            time: claim.at.min(claim.recorded_at).0,
            source: registry.source_id(space, &claim.source, as_of),
            voice: registry.voice(space, &stands.0, stands.1, as_of),
            agent: self.lineage(&stands.0),
            value: self.canonical(claim, opposing),
            opposing,
        }
    }

    fn canonical(&self, claim: &Claim, opposing: bool) -> Value {
        let mut value = claim.object.clone();
        let mut predicates = Vec::new();
        if opposing {
            predicates.extend(self.predicate(&claim.predicate));
        }
        predicates.extend(self.predicate(&self.c.key.predicate));
        for predicate in predicates {
            let Value::Number { value: x, unit } = &value else { break };
            let known =
                predicate.conversions.iter().find(|known| Some(&known.unit) == unit.as_ref());
            if unit.is_none() || *unit == predicate.unit {
                value = Value::Number { value: *x, unit: predicate.unit.clone() };
            } else if let Some(known) = known {
                let converted = *x * known.multiply + known.add;
                if converted.is_finite() {
                    value = Value::Number { value: converted, unit: predicate.unit.clone() };
                }
            }
        }
        match value {
            Value::Reference(subject) => {
                let space = self.c.space();
                Value::Reference(self.c.registry.canonical_subject(space, &subject, self.c.as_of))
            }
            other => other,
        }
    }

    fn within(&self, centre: &Value, other: &Value) -> bool {
        if centre == other {
            return true;
        }
        let Some(predicate) = self.predicate(&self.c.key.predicate) else { return false };
        let Some(tolerance) = predicate.tolerance else { return false };
        let absolute = tolerance.absolute.unwrap_or(0.0);
        match (centre, other) {
            (Value::Number { value: c, unit }, Value::Number { value: x, unit: other })
                if *unit == predicate.unit && *other == predicate.unit =>
            {
                let reach = absolute.max(tolerance.relative.unwrap_or(0.0) * c.abs());
                c - reach <= *x && *x <= c + reach
            }
            (Value::Time(c), Value::Time(x)) => (c.0.abs_diff(x.0) as f64) <= absolute.floor(),
            _ => false,
        }
    }

    fn smaller_first(a: &Value, b: &Value) -> std::cmp::Ordering {
        match (a, b) {
            (Value::Number { value: a, .. }, Value::Number { value: b, .. }) => a.total_cmp(b),
            (Value::Time(a), Value::Time(b)) => a.cmp(b),
            _ => a.cmp(b),
        }
    }

    /// Groups of exact values, the centre first and the rest ascending.
    fn groups(&self, members: &[Member]) -> Vec<Vec<Value>> {
        let mut free: BTreeSet<Value> = members.iter().map(|member| member.value.clone()).collect();
        let mut groups = Vec::new();
        loop {
            let support = |value: &Value| -> u128 {
                let own: Vec<_> = members
                    .iter()
                    .filter(|member| !member.opposing && member.value == *value)
                    .cloned()
                    .collect();
                sum(&voices(&own))
            };
            let asserted = free.iter().filter(|value| {
                members.iter().any(|member| !member.opposing && member.value == **value)
            });
            let heaviest =
                asserted.max_by(|a, b| support(a).cmp(&support(b)).then(Self::smaller_first(b, a)));
            let Some(centre) = heaviest.cloned() else { return groups };
            let taken: Vec<Value> =
                free.iter().filter(|other| self.within(&centre, other)).cloned().collect();
            free.retain(|value| !taken.contains(value));
            let rest = taken.into_iter().filter(|value| *value != centre);
            groups.push(std::iter::once(centre.clone()).chain(rest).collect());
        }
    }

    // ---- steps 4 and 5

    fn sides(&self, group: &[Value], members: &[Member]) -> [Vec<Member>; 2] {
        [false, true].map(|opposing| {
            let own = members
                .iter()
                .filter(|member| member.opposing == opposing && group.contains(&member.value));
            own.cloned().collect()
        })
    }

    fn disagreement(&self, groups: &[Vec<Value>], members: &[Member]) -> Disagreement {
        let sides: Vec<_> = groups.iter().map(|group| self.sides(group, members)).collect();
        let mut found = if self.many {
            let mut questions = Vec::new();
            let mut shares = Vec::new();
            for [yes, no] in &sides {
                let question = disagree(&[yes.clone(), no.clone()]);
                shares.push(if yes.is_empty() { 0 } else { question.shares[0] });
                if !yes.is_empty() {
                    questions.push(question);
                }
            }
            let order = |status: Status| match status {
                Status::Unknown => 0,
                Status::Unanimous => 1,
                Status::Agreed => 2,
                Status::Contested => 3,
            };
            questions.sort_by_key(|question| {
                (order(question.status), std::cmp::Reverse(question.margin), question.entropy)
            });
            let worst = questions.pop().unwrap_or_else(|| disagree(&[]));
            Disagreement { shares, ..worst }
        } else {
            disagree(&sides.iter().map(|[yes, _]| yes.clone()).collect::<Vec<_>>())
        };
        let voices: Vec<Member> = sides.iter().flatten().flat_map(|side| voices(side)).collect();
        let squares: u128 = voices.iter().map(|voice| weight(voice.confidence).pow(2)).sum();
        found.evidence =
            if squares == 0 { 0.0 } else { sum(&voices).pow(2) as f64 / squares as f64 };
        found
    }

    fn half_life(&self, member: &Member) -> Option<i128> {
        const DAYS: [Option<i128>; 6] = [None, Some(730), Some(365), Some(180), Some(90), Some(30)];
        let of_predicate =
            self.predicate(&self.c.key.predicate).and_then(|predicate| predicate.half_life);
        match self.o.decay {
            Decay::Off => None,
            Decay::HalfLife(ms) => Some(i128::from(ms.max(1))),
            Decay::PerClass => match of_predicate {
                Some(ms) => Some(i128::from(ms.max(1))),
                None => DAYS[usize::from(member.tier)].map(|days| days * 86_400_000),
            },
        }
    }

    /// The sum of factors over members, each scaled by a reliability, at the time of evaluation.
    fn fading(&self, weights: &[(&Member, f64, u64)]) -> i128 {
        let now = i128::from(self.o.evaluated_at.0);
        let mut steady = 0u128;
        let mut buckets: BTreeMap<i128, BTreeMap<i128, u128>> = BTreeMap::new();
        for (member, factor, reliability) in weights {
            let scale = |m: u128| (m * u128::from(*reliability)) >> 30;
            match self.half_life(member) {
                None => steady += scale(weight(*factor)),
                Some(h) => {
                    let t = i128::from(member.time).min(now);
                    let fraction = t.rem_euclid(h) as f64 / h as f64;
                    let m = weight(factor * libm::exp2(fraction));
                    *buckets.entry(h).or_default().entry(t.div_euclid(h)).or_default() += scale(m);
                }
            }
        }
        for (h, sums) in buckets {
            let mut total = 0;
            for (n, sum) in sums {
                let distance = now.div_euclid(h) - n;
                total += if distance > 62 { 0 } else { sum >> distance };
            }
            let fraction = now.rem_euclid(h) as f64 / h as f64;
            steady += (total * weight(libm::exp2(-fraction))) >> 30;
        }
        i128::try_from(steady).unwrap()
    }

    fn reliability(&self, agent: &AgentId) -> u64 {
        let learned = self.trust.and_then(|trust| trust.reliability(agent, &self.c.key));
        learned.unwrap_or(1 << 29)
    }

    /// What one side weighs; `best` is the best tier of the question.
    fn weigh(&self, side: &[Member], best: Option<u8>) -> i128 {
        let voices = voices(side);
        let all = |factor: &dyn Fn(&Member) -> f64, reliability: &dyn Fn(&Member) -> u64| {
            let weights: Vec<_> =
                voices.iter().map(|voice| (voice, factor(voice), reliability(voice))).collect();
            self.fading(&weights)
        };
        let certain: &dyn Fn(&Member) -> u64 = &|_| 1 << 30;
        match self.o.lens {
            LensName::Recency => {
                side.iter().map(|m| i128::from(m.time)).max().unwrap_or(i128::from(i64::MIN) - 1)
            }
            LensName::Consensus => all(&|_| 1.0, certain),
            LensName::Confidence => {
                let alone = side.iter().map(|m| self.fading(&[(m, m.confidence, 1 << 30)]));
                alone.max().unwrap_or(0)
            }
            LensName::Authority | LensName::Layered => {
                let of_best = voices.iter().filter(|voice| Some(voice.tier) == best);
                let weights: Vec<_> =
                    of_best.map(|voice| (voice, voice.confidence, 1 << 30)).collect();
                self.fading(&weights)
            }
            LensName::Trust => all(&|m| m.confidence, &|m| self.reliability(&m.agent)),
            LensName::Votes => {
                let support = all(&|m| m.confidence, certain);
                let mut ballots: BTreeMap<Voice, (i128, u64)> = BTreeMap::new();
                for member in side {
                    let mut newest: BTreeMap<AgentId, (&Fact, f64)> = BTreeMap::new();
                    let mut votes: Vec<_> = self.about(member.position).collect();
                    votes.sort_by_key(|fact| fact.position);
                    for fact in votes {
                        if let FactKind::Vote { weight } = fact.kind {
                            newest.insert(self.lineage(&fact.agent), (fact, weight));
                        }
                    }
                    for (fact, weight) in newest.into_values() {
                        let voice = self.c.registry.voice(
                            self.c.space(),
                            &fact.agent,
                            &fact.principal,
                            self.c.as_of,
                        );
                        let ballot = ballots.entry(voice).or_insert((0, 1 << 30));
                        ballot.0 += (weight * ONE as f64).round_ties_even() as i128;
                        ballot.1 = ballot.1.min(self.reliability(&self.lineage(&fact.agent)));
                    }
                }
                let moved: i128 = ballots
                    .values()
                    .map(|(sum, trust)| (*sum).clamp(-ONE, ONE) * i128::from(*trust) / ONE)
                    .sum();
                (support + moved).max(0)
            }
            LensName::Skeptic => 0,
            LensName::Custom => unreachable!("it has no reference but itself"),
        }
    }

    /// The values that somebody in `base` asserts, weighed by who is heard, in order; with those
    /// that can win counted.
    fn rank(
        &self,
        groups: &[Vec<Value>],
        base: &[Member],
        heard: &[Member],
    ) -> (Vec<(usize, ValueSupport)>, usize) {
        let disagreement = self.disagreement(groups, base);
        let map = self.disagreement(groups, heard).shares;
        let overall = heard
            .iter()
            .filter(|m| !m.opposing && groups.iter().flatten().any(|value| *value == m.value))
            .map(|m| m.tier)
            .min();
        let layered = matches!(self.o.lens, LensName::Authority | LensName::Layered);
        let mut able = Vec::new();
        let mut unable = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            let [base_yes, base_no] = self.sides(group, base);
            let [yes, no] = self.sides(group, heard);
            if base_yes.is_empty() {
                continue;
            }
            let best = match self.many {
                true => yes.iter().chain(&no).map(|m| m.tier).min(),
                false => overall,
            };
            let saying: Vec<_> =
                yes.iter().filter(|m| !layered || Some(m.tier) == best).cloned().collect();
            let agents = |side: &[Member]| {
                side.iter().map(|m| m.agent).collect::<BTreeSet<_>>().len() as u64
            };
            let skeptic = self.o.lens == LensName::Skeptic;
            let mut strongest = voices(&yes);
            strongest.sort_by_key(|m| std::cmp::Reverse(m.strength()));
            let row = ValueSupport {
                value: group[0].clone(),
                members: group.clone().into(),
                support: sum(&voices(&base_yes)),
                against: sum(&voices(&base_no)),
                share: disagreement.shares[index] as f64 / 2f64.powi(52),
                lens_weight: if skeptic { map[index].into() } else { self.weigh(&yes, best) },
                lens_against: if self.many && !skeptic { self.weigh(&no, best) } else { 0 },
                lens_share: 0.0,
                best_tier: Tier(
                    yes.iter()
                        .map(|m| m.tier)
                        .min()
                        .unwrap_or_else(|| base_yes.iter().map(|m| m.tier).min().unwrap()),
                ),
                claims: yes.len() as u64,
                agents: agents(&yes),
                voices: voices(&yes).len() as u64,
                because: strongest.iter().take(10).map(|m| m.position).collect(),
            };
            let newest = saying.iter().map(|m| m.position).max();
            if saying.is_empty() {
                unable.push((index, row));
            } else {
                able.push((agents(&saying), newest, index, row));
            }
        }
        able.sort_by(|a, b| {
            (b.3.lens_weight, b.0, b.1)
                .cmp(&(a.3.lens_weight, a.0, a.1))
                .then_with(|| a.3.value.canonical_bytes().cmp(&b.3.value.canonical_bytes()))
        });
        unable.sort_by(|(_, a), (_, b)| {
            let bytes = |row: &ValueSupport| row.value.canonical_bytes();
            b.share.total_cmp(&a.share).then_with(|| bytes(a).cmp(&bytes(b)))
        });
        let count = able.len();
        let mut rows: Vec<_> = able.into_iter().map(|(.., index, row)| (index, row)).collect();
        self.lens_shares(&mut rows);
        rows.extend(unable);
        (rows, count)
    }

    fn lens_shares(&self, able: &mut [(usize, ValueSupport)]) {
        let total: i128 = able.iter().map(|(_, row)| row.lens_weight).sum();
        let newest = able.iter().map(|(_, row)| row.lens_weight).max();
        let ties = able.iter().filter(|(_, row)| Some(row.lens_weight) == newest).count() as i128;
        for (_, row) in able {
            let (yes, no) = (row.lens_weight, row.lens_against);
            let (part, whole) = match (self.o.lens, self.many) {
                (LensName::Skeptic, _) => (yes, 1 << 52),
                (LensName::Recency, true) if yes == no => (1, 2),
                (LensName::Recency, true) => (i128::from(yes > no), 1),
                (LensName::Recency, false) => (i128::from(Some(yes) == newest), ties),
                (_, true) => (yes, yes + no),
                (_, false) => (yes, total),
            };
            row.lens_share = ratio(part as u128, whole as u128) as f64 / 2f64.powi(52);
        }
    }

    fn winners(&self, rows: &[(usize, ValueSupport)], able: usize) -> Vec<usize> {
        let all = 0..able;
        match (self.o.lens, self.many) {
            (LensName::Skeptic, _) => Vec::new(),
            (_, false) => all.take(1).collect(),
            (_, true) => all.filter(|i| rows[*i].1.lens_weight > rows[*i].1.lens_against).collect(),
        }
    }

    fn answer(&self) -> Resolution {
        let considered = self.considered();
        let mut excluded = Vec::new();
        let (mut base, mut heard) = (Vec::new(), Vec::new());
        for (claim, opposing, reason) in &considered {
            let position = claim.position;
            if let Some((reason, by)) = *reason {
                excluded.push(Excluded { position, reason, by });
                continue;
            }
            base.push(self.member(claim, *opposing));
            if self.passes(claim) {
                heard.push(self.member(claim, *opposing));
            } else {
                excluded.push(Excluded { position, reason: Reason::Filtered, by: None });
            }
        }
        let groups = self.groups(&base);
        let disagreement = self.disagreement(&groups, &base);
        let (rows, able) = self.rank(&groups, &base, &heard);
        let winners = self.winners(&rows, able);
        let lens_margin = if self.many {
            let margins = rows[..able].iter().map(|(_, row)| {
                let silent = row.lens_share == 0.0 && row.lens_against == 0;
                if silent { 0.0 } else { (2.0 * row.lens_share - 1.0).abs() }
            });
            margins.min_by(f64::total_cmp).unwrap_or(0.0)
        } else {
            let share = |i: usize| rows.get(i).map_or(0.0, |(_, row)| row.lens_share);
            share(0) - share(1)
        };

        let mut dissent = Vec::new();
        for class in SourceClass::ALL {
            let mut of_tier = Dissent { class, voices: 0, claims: 0, support: 0 };
            for (i, (group, _)) in rows.iter().enumerate() {
                let [yes, no] = self.sides(&groups[*group], &heard);
                let side = if winners.contains(&i) { no } else { yes };
                let voices = voices(&side).into_iter().filter(|m| m.tier == class.tier().0);
                let voices: Vec<_> = voices.collect();
                of_tier.voices += voices.len() as u64;
                of_tier.support += sum(&voices);
                of_tier.claims += side.iter().filter(|m| m.tier == class.tier().0).count() as u64;
            }
            if of_tier.claims > 0 && self.o.lens != LensName::Skeptic {
                dissent.push(of_tier);
            }
        }

        let mut layers = Vec::new();
        let mut accepts: BTreeMap<usize, [u128; 2]> = BTreeMap::new();
        for class in SourceClass::ALL.into_iter().filter(|_| self.o.lens == LensName::Layered) {
            let tier = class.tier();
            let members: Vec<_> = heard.iter().filter(|m| m.tier == tier.0).cloned().collect();
            let (rows, able) = self.rank(&groups, &members, &members);
            let winners: Vec<_> =
                self.winners(&rows, able).into_iter().map(|i| rows[i].0).collect();
            for (index, group) in groups.iter().enumerate() {
                let [yes, no] = self.sides(group, &members);
                if !yes.is_empty() || !no.is_empty() {
                    let accepting = winners.contains(&index);
                    accepts.entry(index).or_default()[usize::from(!accepting)] += 1;
                }
            }
            if !rows.is_empty() {
                let inner = self.disagreement(&groups, &members);
                layers.push(Layer {
                    tier,
                    values: rows.into_iter().map(|(_, row)| row).collect(),
                    status: inner.status,
                    conflict_score: inner.conflict_score(),
                });
            }
        }
        let spread = |counts: &[u128]| {
            let whole = counts.iter().sum();
            entropy(&counts.iter().map(|count| ratio(*count, whole)).collect::<Vec<_>>())
        };
        let across = if self.many {
            accepts.values().map(|counts| spread(counts)).max().unwrap_or(0)
        } else {
            spread(&accepts.values().map(|counts| counts[0]).collect::<Vec<_>>())
        };

        Resolution {
            key: self.c.key.clone(),
            lens: self.o.lens,
            custom: None,
            faults: vec![],
            lens_hash: lens_hash(self.o),
            position: self.c.as_of,
            evaluated_at: self.o.evaluated_at,
            valid_at: self.o.valid_at,
            winners,
            status: disagreement.status,
            conflict_score: disagreement.conflict_score(),
            effective_values: if disagreement.status == Status::Unknown {
                0.0
            } else {
                libm::exp2(disagreement.entropy as f64 / 2f64.powi(40))
            },
            margin: disagreement.margin as f64 / 2f64.powi(52),
            lens_margin,
            evidence: disagreement.evidence,
            considered: considered.len() as u64,
            excluded_count: excluded.len() as u64,
            excluded_for: Reason::ALL
                .into_iter()
                .map(|reason| {
                    (reason, excluded.iter().filter(|one| one.reason == reason).count() as u64)
                })
                .filter(|(_, count)| *count > 0)
                .collect(),
            excluded: excluded.split_off(excluded.len().saturating_sub(EXCLUDED_MAX)),
            dissent,
            layers,
            cross_tier_conflict: (across as f64 / 2f64.powi(40)).min(1.0),
            values: rows.into_iter().map(|(_, row)| row).collect(),
        }
    }
}

struct Disagreement {
    shares: Vec<u64>,
    status: Status,
    entropy: u64,
    margin: u64,
    evidence: f64,
}

impl Disagreement {
    fn conflict_score(&self) -> f64 {
        (self.entropy as f64 / 2f64.powi(40)).min(1.0)
    }
}

fn weight(c: f64) -> u128 {
    (c * 2f64.powi(30)).round_ties_even() as u128
}

fn sum(members: &[Member]) -> u128 {
    members.iter().map(|member| weight(member.confidence)).sum()
}

/// Per source its strongest claim, then per voice the strongest of those.
fn voices(members: &[Member]) -> Vec<Member> {
    let mut sources: BTreeMap<SourceIdent, Member> = BTreeMap::new();
    let mut voices: BTreeMap<Voice, Member> = BTreeMap::new();
    for member in members {
        let held = sources.entry(member.source.clone()).or_insert_with(|| member.clone());
        if member.strength() > held.strength() {
            *held = member.clone();
        }
    }
    for member in sources.into_values() {
        let held = voices.entry(member.voice.clone()).or_insert_with(|| member.clone());
        if member.strength() > held.strength() {
            *held = member.clone();
        }
    }
    voices.into_values().collect()
}

/// part / whole in 2^-52, half to even.
fn ratio(part: u128, whole: u128) -> u64 {
    if whole == 0 {
        return 0;
    }
    // Test histories are small enough for the product.
    let scaled = part.checked_mul(1 << 52).unwrap();
    let (quotient, rest) = (scaled / whole, scaled % whole);
    let up = match (rest * 2).cmp(&whole) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => quotient % 2,
        std::cmp::Ordering::Greater => 1,
    };
    u64::try_from(quotient + up).unwrap()
}

fn entropy(shares: &[u64]) -> u64 {
    let terms = shares.iter().filter(|share| **share > 0).map(|share| {
        let p = *share as f64 / 2f64.powi(52);
        (-(p * libm::log2(p)) * 2f64.powi(40)).round_ties_even() as u64
    });
    terms.sum()
}

/// One question between sides.
fn disagree(sides: &[Vec<Member>]) -> Disagreement {
    let best = sides.iter().flatten().map(|member| member.tier).min();
    let in_best: Vec<Vec<Member>> = sides
        .iter()
        .map(|side| side.iter().filter(|member| Some(member.tier) == best).cloned().collect())
        .collect();
    let sums = |sides: &[Vec<Member>]| -> Vec<u128> {
        let sums: Vec<u128> = sides.iter().map(|side| sum(&voices(side))).collect();
        if sums.iter().all(|sum| *sum == 0) {
            return sides.iter().map(|side| u128::from(!side.is_empty())).collect();
        }
        sums
    };
    let (all, inside) = (sums(sides), sums(&in_best));
    let (all_sum, inside_sum): (u128, u128) = (all.iter().sum(), inside.iter().sum());
    let whole = 2 * all_sum * inside_sum;
    let parts: Vec<u128> =
        all.iter().zip(&inside).map(|(a, i)| a * inside_sum + i * all_sum).collect();
    let mut descending = parts.clone();
    descending.sort();
    descending.reverse();
    descending.extend([0, 0]);
    let lead = descending[0] - descending[1];
    let shares: Vec<u64> = parts.iter().map(|part| ratio(*part, whole)).collect();
    let status = match sides.iter().filter(|side| !side.is_empty()).count() {
        0 => Status::Unknown,
        1 => Status::Unanimous,
        _ if 3 * lead >= whole => Status::Agreed,
        _ => Status::Contested,
    };
    let entropy = entropy(&shares);
    Disagreement { status, entropy, margin: ratio(lead, whole), evidence: 0.0, shares }
}
