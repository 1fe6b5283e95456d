//! Step 5, the rules: what one side of a value weighs under each lens.
//!
//! All weights are integers. The `skeptic` lens weighs nothing here: its weights are the shares of
//! the disagreement among the claims it hears.

use std::collections::HashMap;

use stemedb_model::{AgentId, Key, Millis, Tier};

use crate::decay::{Sum, WEIGHT_BITS, WEIGHT_ONE, Weight, half_life};
use crate::options::{LensName, Options};
use crate::question::{Ballot, Camp, Live, Question};

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
}

/// The scales of one lens for one question.
pub(crate) struct Scales<'q> {
    pub(crate) question: &'q Question<'q>,
    pub(crate) key: &'q Key,
    pub(crate) options: &'q Options,
    pub(crate) trust: Option<&'q dyn Reliability>,
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
        }
    }

    /// Whether a claim of `tier` has a say at all, where `best` is the best tier with candidates.
    pub(crate) fn hears(&self, tier: Tier, best: Option<Tier>) -> bool {
        match self.options.lens {
            LensName::Authority | LensName::Layered => Some(tier) == best,
            _ => true,
        }
    }

    /// `recency`: the newest claimed time, min(at, recorded_at), in milliseconds; [`NEVER`] without
    /// claims. Decay does not matter to it. O(claims).
    ///
    /// The last-writer-wins register (Shapiro et al., "Conflict-free Replicated Data Types", SSS
    /// 2011), with the claimed time bounded by the recorded one so that nobody can write from the
    /// future.
    fn recency(&self, camp: &Camp) -> i128 {
        let newest = self.claims(camp).map(|claim| claim.time.0).max();
        newest.map_or(NEVER, i128::from)
    }

    /// `consensus`: one vote per voice, 2^30 each, whatever its confidence; decayed by the age of
    /// the voice's strongest claim. O(voices).
    ///
    /// Majority voting, the baseline of truth discovery (Li et al., "A Survey on Truth Discovery",
    /// SIGKDD Explorations 17(2), 2015), over voices instead of accounts.
    fn consensus(&self, camp: &Camp) -> i128 {
        self.sum(camp, |_| true, |claim| self.weight(claim, 1.0))
    }

    /// `confidence`: the highest single confidence, decayed, in 2^-30. O(claims).
    ///
    /// The max rule of combining classifiers (Kittler, Hatef, Duin, Matas, "On Combining
    /// Classifiers", IEEE PAMI 20(3), 1998).
    fn confidence(&self, camp: &Camp) -> i128 {
        let weights = self.claims(camp).map(|claim| {
            let mut one = Sum::default();
            one.add(self.weight(claim, claim.strength.confidence()));
            one.at(self.options.evaluated_at)
        });
        weights.max().unwrap_or(0).cast_signed()
    }

    /// `authority`: the sum over the voices of the best tier that has candidates, of confidence
    /// times decay, in 2^-30; other tiers weigh nothing. O(voices).
    ///
    /// A lexicographic order of evidence classes, as evidence-based medicine uses it (Guyatt et
    /// al., "GRADE: an emerging consensus on rating quality of evidence", BMJ 336, 2008).
    fn authority(&self, camp: &Camp, best: Option<Tier>) -> i128 {
        let of_best = |claim: &Live| Some(claim.strength.tier()) == best;
        self.sum(camp, of_best, |claim| self.weight(claim, claim.strength.confidence()))
    }

    /// `trust`: the sum over voices of confidence times decay times the learned reliability of the
    /// agent that stands for the voice's strongest claim, in 2^-30. O(voices).
    ///
    /// Weighted voting with source weights (Yin, Han, Yu, "Truth Discovery with Multiple
    /// Conflicting Information Providers on the Web", IEEE TKDE 20(6), 2008); the weights come from
    /// a snapshot in the log, never from the read.
    fn trust(&self, camp: &Camp) -> i128 {
        self.sum(
            camp,
            |_| true,
            |claim| {
                let reliability = self.reliability(claim.agent);
                self.weight(claim, claim.strength.confidence()).scaled(reliability)
            },
        )
    }

    /// `votes`: max(0, support + sum over voters of clamp(sum of its votes on that value, -1, 1)
    /// times the reliability of the voter), in 2^-30. Support is that of all voices, decayed;
    /// votes do not fade. A voter is a voice; the least reliable of the keys it voted with counts.
    /// O(voices + votes).
    ///
    /// Range voting with bounded ballots: no voter moves a value by more than one full claim.
    fn votes(&self, camp: &Camp, ballots: &[&Ballot]) -> i128 {
        let support =
            self.sum(camp, |_| true, |claim| self.weight(claim, claim.strength.confidence()));
        let mut voters: HashMap<u32, (i128, u64)> = HashMap::new();
        for ballot in ballots {
            let (sum, reliability) = voters.entry(ballot.voice).or_insert((0, WEIGHT_ONE));
            *sum += i128::from(ballot.weight);
            *reliability = self.reliability(ballot.agent).min(*reliability);
        }
        let one = i128::from(WEIGHT_ONE);
        let moved: i128 = voters
            .values()
            // Division rounds towards zero, so a vote against is the exact mirror of one for.
            .map(|(sum, reliability)| (*sum).clamp(-one, one) * i128::from(*reliability) / one)
            .sum();
        support.saturating_add(moved).max(0)
    }

    fn claims(&self, camp: &Camp) -> impl Iterator<Item = &Live> {
        camp.claims.iter().filter_map(|index| self.question.live.get(*index))
    }

    /// The sum of `weight` over the strongest claims of the voices, in 2^-30, at the time of
    /// evaluation.
    fn sum(
        &self,
        camp: &Camp,
        keep: impl Fn(&Live) -> bool,
        weight: impl Fn(&Live) -> Weight,
    ) -> i128 {
        let mut sum = Sum::default();
        let strongest =
            camp.tally.voices().filter_map(|(_, claim)| self.question.claim(claim.position()));
        strongest.filter(|claim| keep(claim)).for_each(|claim| sum.add(weight(claim)));
        sum.at(self.options.evaluated_at).cast_signed()
    }

    /// `confidence` as a weight that fades with the age of `claim`.
    fn weight(&self, claim: &Live, confidence: f64) -> Weight {
        let half_life =
            half_life(self.options.decay, self.question.half_life, claim.strength.tier());
        // Nothing weighs more than it did when it was new.
        let time: Millis = claim.time.min(self.options.evaluated_at);
        Weight::new(confidence, time, half_life)
    }

    fn reliability(&self, agent: u32) -> u64 {
        const UNKNOWN: u64 = 1 << (WEIGHT_BITS - 1);
        let learned = self.trust.and_then(|trust| {
            trust.reliability(self.question.exclusion.lookup.agent_name(agent)?, self.key)
        });
        learned.unwrap_or(UNKNOWN).min(WEIGHT_ONE)
    }
}
