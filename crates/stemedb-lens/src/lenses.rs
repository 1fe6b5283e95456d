//! Step 5, the rules: what one side of a value weighs under each lens.
//!
//! All weights are integers. The `skeptic` lens weighs nothing here: its weights are the shares of
//! the disagreement among the claims it hears.

use std::collections::HashMap;

use stemedb_model::{AgentId, Hash, Key, Tier};

use crate::camp::Camp;
use crate::custom::Weighed;
use crate::decay::{Sum, WEIGHT_BITS, WEIGHT_ONE, Weight, half_life};
use crate::options::{Decay, LensName, Options};
use crate::question::{Ballot, Question};
use crate::statements::Statement;
use crate::tally::Strength;

/// Weight of a side without claims under `recency`, where 0 is a moment like any other: before
/// every moment.
pub const NEVER: i128 = i64::MIN as i128 - 1;

/// A table of learned trust: how reliable an agent is on a topic.
///
/// Must be a pure function of its arguments for as long as a table is used; the table that belongs
/// to a position is named by the trust snapshot in force there.
pub trait Reliability {
    /// Reliability of `agent` (the first key of its replacement chain) on the topic that `key`
    /// belongs to, in 2^-30, at most 2^30; `None` if nothing was learned about it, which counts as
    /// 1/2.
    fn reliability(&self, agent: &AgentId, key: &Key) -> Option<u64>;

    /// Names what it says, if there is a name at hand: under one name the same agent is always as
    /// reliable. Sums are kept under names ([`Question::learn`]).
    fn name(&self) -> Option<Hash> {
        None
    }
}

/// How reliable somebody unknown is.
pub(crate) const UNKNOWN: u64 = 1 << (WEIGHT_BITS - 1);

/// How reliable an agent is on the topic that `key` belongs to, in 2^-30.
pub(crate) fn reliability(trust: Option<&dyn Reliability>, agent: &AgentId, key: &Key) -> u64 {
    let learned = trust.and_then(|trust| trust.reliability(agent, key));
    learned.unwrap_or(UNKNOWN).min(WEIGHT_ONE)
}

/// The scales of one lens for one question.
pub(crate) struct Scales<'q> {
    pub(crate) question: &'q Question,
    pub(crate) options: &'q Options,
    pub(crate) trust: Option<&'q dyn Reliability>,
    /// What claims weigh under a lens of one's own.
    pub(crate) weighed: Option<&'q Weighed>,
}

impl Scales<'_> {
    /// The weight of one side of a value. `best` is the best tier that has candidates in the same
    /// question, `ballots` are the votes on the claims of this side.
    pub(crate) fn weigh(&self, camp: &Camp, best: Option<Tier>, ballots: &[&Ballot]) -> i128 {
        match self.options.lens {
            LensName::Recency => self.recency(camp),
            LensName::Consensus => self.consensus(camp),
            LensName::Confidence => self.confidence(camp),
            LensName::Authority | LensName::Layered => self.authority(camp, best),
            LensName::Trust => self.trust(camp),
            LensName::Votes => self.votes(camp, ballots),
            LensName::Skeptic => 0,
            LensName::Custom => self.weighed.map_or(0, |weighed| weighed.weigh(camp, self)),
        }
    }

    /// The only tier whose claims have a say, where `best` is the best with candidates; `None`: all
    /// have.
    pub(crate) fn hears_only(&self, best: Option<Tier>) -> Option<Tier> {
        match self.options.lens {
            // Of no candidate there is nothing to hear in any tier.
            LensName::Authority | LensName::Layered => best,
            _ => None,
        }
    }

    /// `recency`: the newest claimed time, min(at, recorded_at), in milliseconds; [`NEVER`] without
    /// claims. Decay does not matter to it. O(1).
    ///
    /// The last-writer-wins register (Shapiro et al., "Conflict-free Replicated Data Types", SSS
    /// 2011), with the claimed time bounded by the recorded one so that nobody can write from the
    /// future.
    fn recency(&self, camp: &Camp) -> i128 {
        camp.latest().map_or(NEVER, |newest| newest.0.into())
    }

    /// `consensus`: one vote per voice, 2^30 each, whatever its confidence; decayed by the age of
    /// the voice's strongest claim. O(1), with decay O(voices).
    ///
    /// Majority voting, the baseline of truth discovery (Li et al., "A Survey on Truth Discovery",
    /// SIGKDD Explorations 17(2), 2015), over voices instead of accounts.
    fn consensus(&self, camp: &Camp) -> i128 {
        if self.options.decay == Decay::Off {
            return (camp.tally.spoken().len() as u64 * WEIGHT_ONE).into();
        }
        self.sum(camp, |claim| self.weight(claim, 1.0))
    }

    /// `confidence`: the highest single confidence, decayed, in 2^-30. O(1), with decay O(claims).
    ///
    /// The max rule of combining classifiers (Kittler, Hatef, Duin, Matas, "On Combining
    /// Classifiers", IEEE PAMI 20(3), 1998).
    fn confidence(&self, camp: &Camp) -> i128 {
        if self.options.decay == Decay::Off {
            return camp.most_confident().into();
        }
        let claims = camp.claims().filter_map(|claim| self.statement(claim));
        let weights = claims.map(|claim| {
            let mut one = Sum::default();
            one.add(self.weight(claim, claim.strength().confidence()));
            one.at(self.options.evaluated_at)
        });
        weights.max().unwrap_or(0).cast_signed()
    }

    /// `authority`: the sum over the voices of the best tier that has candidates, of confidence
    /// times decay, in 2^-30; other tiers weigh nothing. O(1), with decay O(voices).
    ///
    /// A lexicographic order of evidence classes, as evidence-based medicine uses it (Guyatt et
    /// al., "GRADE: an emerging consensus on rating quality of evidence", BMJ 336, 2008).
    fn authority(&self, camp: &Camp, best: Option<Tier>) -> i128 {
        let Some(best) = best else { return 0 };
        if self.options.decay == Decay::Off {
            return camp.tally.tier(best).support.cast_signed();
        }
        // The strongest are of the best tier, so nothing behind the last of it is looked at.
        let of_best = camp.tally.spoken().skip_while(|claim| claim.tier() < best);
        let of_best = of_best.take_while(|claim| claim.tier() == best);
        self.sum_of(of_best, |claim| self.weight(claim, claim.strength().confidence()))
    }

    /// `trust`: the sum over voices of confidence times decay times the learned reliability of the
    /// agent that stands for the voice's strongest claim, in 2^-30. O(1) under the table that the
    /// question's sums are kept under; under others and with decay O(voices).
    ///
    /// Weighted voting with source weights (Yin, Han, Yu, "Truth Discovery with Multiple
    /// Conflicting Information Providers on the Web", IEEE TKDE 20(6), 2008); the weights come from
    /// a snapshot in the log, never from the read.
    fn trust(&self, camp: &Camp) -> i128 {
        if self.options.sums_trust() && self.question.learned(self.trust) {
            return camp.trusted().cast_signed();
        }
        let mut known = HashMap::new();
        self.sum(camp, |claim| {
            let reliability =
                *known.entry(claim.agent).or_insert_with(|| self.reliability(claim.agent));
            self.weight(claim, claim.strength().confidence()).scaled(reliability)
        })
    }

    /// `votes`: max(0, support + sum over voters of clamp(sum of its votes on that value, -1, 1)
    /// times the reliability of the voter), in 2^-30. Support is that of all voices, decayed;
    /// votes do not fade. A voter is a voice; the least reliable of the keys it voted with counts.
    /// O(votes), with decay O(voices + votes).
    ///
    /// Range voting with bounded ballots: no voter moves a value by more than one full claim.
    fn votes(&self, camp: &Camp, ballots: &[&Ballot]) -> i128 {
        let support = match self.options.decay {
            Decay::Off => camp.tally.support().cast_signed(),
            _ => self.sum(camp, |claim| self.weight(claim, claim.strength().confidence())),
        };
        support.saturating_add(self.moved(ballots)).max(0)
    }

    /// What voters add to a side of a value or take from it, in 2^-30.
    pub(crate) fn moved(&self, ballots: &[&Ballot]) -> i128 {
        let mut voters: HashMap<u32, (i128, u64)> = HashMap::new();
        for ballot in ballots {
            let (sum, reliability) = voters.entry(ballot.voice).or_insert((0, WEIGHT_ONE));
            *sum += i128::from(ballot.weight);
            *reliability = self.reliability(ballot.agent).min(*reliability);
        }
        let one = i128::from(WEIGHT_ONE);
        voters
            .values()
            // Division rounds towards zero, so a vote against is the exact mirror of one for.
            .map(|(sum, reliability)| (*sum).clamp(-one, one) * i128::from(*reliability) / one)
            .sum()
    }

    fn statement(&self, claim: &Strength) -> Option<&Statement> {
        self.question.statements.find(claim.position())
    }

    /// The sum of `weight` over the strongest claims of the voices, in 2^-30, at the time of
    /// evaluation.
    fn sum(&self, camp: &Camp, weight: impl FnMut(&Statement) -> Weight) -> i128 {
        self.sum_of(camp.tally.spoken(), weight)
    }

    fn sum_of<'a>(
        &self,
        claims: impl Iterator<Item = &'a Strength>,
        mut weight: impl FnMut(&Statement) -> Weight,
    ) -> i128 {
        let mut sum = Sum::default();
        claims.filter_map(|claim| self.statement(claim)).for_each(|claim| sum.add(weight(claim)));
        sum.at(self.options.evaluated_at).cast_signed()
    }

    /// `confidence` as a weight that fades with the age of `claim`.
    fn weight(&self, claim: &Statement, confidence: f64) -> Weight {
        let half_life = half_life(self.options.decay, self.question.half_life, claim.tier);
        // Nothing weighs more than it did when it was new.
        let time = claim.time.min(self.options.evaluated_at);
        Weight::new(confidence, time, half_life)
    }

    /// How reliable an agent is on the topic of the question, in 2^-30.
    pub(crate) fn reliability(&self, agent: u32) -> u64 {
        let statements = &self.question.statements;
        let agent = statements.lookup.agent_name(agent);
        agent.map_or(UNKNOWN, |agent| reliability(self.trust, agent, statements.key()))
    }
}
