//! Steps 2 and 3 for one key: who stands behind which value, before any lens is chosen.

use std::borrow::Cow;
use std::collections::HashMap;

use stemedb_model::{Cardinality, Millis, Position, Tier, Value};

use crate::candidates::Candidates;
use crate::choosing::Filter;
use crate::disagreement::{Disagreement, disagree};
use crate::exclude::{Exclusion, exclude};
use crate::options::Options;
use crate::tally::{Strength, Tally};
use crate::values::{Canon, group};

/// One claim that takes part in the disagreement.
pub(crate) struct Live {
    pub(crate) strength: Strength,
    /// min(at, recorded_at): what decay and recency go by.
    pub(crate) time: Millis,
    /// Who stands for it.
    pub(crate) agent: u32,
    voice: u32,
    source: u32,
    /// Index of its value; `None` if it denies a value that nobody asserts.
    value: Option<usize>,
    opposing: bool,
    judged: usize,
}

/// A live vote on a live claim.
pub(crate) struct Ballot {
    claim: usize,
    pub(crate) voice: u32,
    pub(crate) agent: u32,
    /// -2^30 to 2^30.
    pub(crate) weight: i64,
}

/// A candidate value: a centre and the exact values within tolerance that it took.
pub(crate) struct Group {
    pub(crate) value: Value,
    /// The centre first, then ascending.
    pub(crate) members: Vec<Value>,
}

/// The claims on one side of one value.
#[derive(Clone, Default)]
pub(crate) struct Camp {
    /// Indices into the question's claims.
    pub(crate) claims: Vec<usize>,
    pub(crate) tally: Tally<u32, u32>,
}

/// Both sides of one value. Under cardinality one nobody denies.
#[derive(Clone, Default)]
pub(crate) struct Camps {
    pub(crate) yes: Camp,
    pub(crate) no: Camp,
}

impl Camps {
    fn side(&mut self, opposing: bool) -> &mut Camp {
        if opposing { &mut self.no } else { &mut self.yes }
    }

    fn absorb(&mut self, other: Self) {
        for opposing in [false, true] {
            let side = self.side(opposing);
            let other = if opposing { &other.no } else { &other.yes };
            side.claims.extend(&other.claims);
            side.tally.merge(&other.tally);
        }
    }
}

/// What all lenses share that agree on which claims take part.
pub(crate) struct Question<'a> {
    pub(crate) exclusion: Exclusion<'a>,
    pub(crate) many: bool,
    pub(crate) half_life: Option<u64>,
    pub(crate) groups: Vec<Group>,
    /// Ascending by position.
    pub(crate) live: Vec<Live>,
    pub(crate) ballots: Vec<Ballot>,
    /// Per group, before filters.
    pub(crate) camps: Vec<Camps>,
    pub(crate) disagreement: Disagreement,
}

impl<'a> Question<'a> {
    /// Everything up to and including step 4. O(n log n) in claims and facts.
    pub(crate) fn new(candidates: &'a Candidates, options: &Options) -> Self {
        let mut exclusion = exclude(candidates, options);
        let many = exclusion.cardinality == Cardinality::Many;
        let (mut live, exact) = exact_values(&exclusion, candidates);
        let canon = Canon::new(&exclusion.lookup, &candidates.key.predicate);
        let half_life = canon.half_life();
        let exact_camps = tally(exact.len(), &live, |_| true);
        let supports: Vec<_> = exact_camps
            .iter()
            .map(|camps| (!camps.yes.claims.is_empty()).then(|| camps.yes.tally.support()))
            .collect();
        let centres = group(&canon, &exact, &supports);
        let (groups, camps, group_of) = gather(exact, exact_camps, &supports, &centres);
        for claim in &mut live {
            claim.value = claim.value.and_then(|value| group_of.get(value).copied().flatten());
        }
        let ballots = ballots(&mut exclusion, &live);
        let disagreement = disagree(&camps, many);
        Self { exclusion, many, half_life, groups, live, ballots, camps, disagreement }
    }

    /// The camps of the claims that pass; those of the question itself if all do.
    pub(crate) fn heard(&self, filter: &Filter) -> Cow<'_, [Camps]> {
        if filter.keeps_all() {
            return Cow::Borrowed(&self.camps);
        }
        let passes = |claim: &Live| {
            self.exclusion.judged.get(claim.judged).is_some_and(|judged| filter.passes(judged))
        };
        Cow::Owned(tally(self.groups.len(), &self.live, passes))
    }

    /// The camps of one tier's claims among those heard.
    pub(crate) fn of_tier(&self, heard: &[Camps], tier: Tier) -> Vec<Camps> {
        let of_camp = |camp: &Camp| {
            let mut of_tier = Camp::default();
            for index in &camp.claims {
                if let Some(claim) = self.live.get(*index)
                    && claim.strength.tier() == tier
                {
                    of_tier.claims.push(*index);
                    of_tier.tally.add(&claim.source, &claim.voice, claim.strength);
                }
            }
            of_tier
        };
        let of_camps = |camps: &Camps| Camps { yes: of_camp(&camps.yes), no: of_camp(&camps.no) };
        heard.iter().map(of_camps).collect()
    }

    pub(crate) fn claim(&self, position: Position) -> Option<&Live> {
        self.live.get(self.index(position)?)
    }

    /// The ballots on each claim that is heard, by value and side.
    pub(crate) fn ballots_on(&self, heard: &[Camps]) -> HashMap<(usize, bool), Vec<&Ballot>> {
        let mut on = HashMap::new();
        for ballot in &self.ballots {
            let Some(claim) = self.live.get(ballot.claim) else { continue };
            let Some(value) = claim.value else { continue };
            let heard = heard.get(value).is_some_and(|camps| {
                let camp = if claim.opposing { &camps.no } else { &camps.yes };
                camp.claims.binary_search(&ballot.claim).is_ok()
            });
            if heard {
                on.entry((value, claim.opposing)).or_insert_with(Vec::new).push(ballot);
            }
        }
        on
    }

    fn index(&self, position: Position) -> Option<usize> {
        find(&self.live, position)
    }
}

fn find(live: &[Live], position: Position) -> Option<usize> {
    live.binary_search_by_key(&position, |claim| claim.strength.position()).ok()
}

/// The live claims, and the distinct values that they name by index.
fn exact_values(exclusion: &Exclusion<'_>, candidates: &Candidates) -> (Vec<Live>, Vec<Value>) {
    let canon = Canon::new(&exclusion.lookup, &candidates.key.predicate);
    let mut live = Vec::new();
    let mut exact = Vec::new();
    let mut known: HashMap<Value, usize> = HashMap::new();
    for (index, judged) in exclusion.judged.iter().enumerate() {
        if !judged.live() {
            continue;
        }
        let claim = judged.claim;
        let value = canon.value(&claim.object, judged.opposing.then_some(&claim.predicate));
        let value = *known.entry(value).or_insert_with_key(|value| {
            exact.push(value.clone());
            exact.len() - 1
        });
        live.push(Live {
            strength: Strength::new(judged.tier, claim.confidence, claim.position),
            time: claim.at.min(claim.recorded_at),
            agent: judged.agent,
            voice: judged.voice,
            source: judged.source,
            value: Some(value),
            opposing: judged.opposing,
            judged: index,
        });
    }
    (live, exact)
}

/// The camps of `values` values, of the claims that `passes` lets through.
fn tally(values: usize, live: &[Live], passes: impl Fn(&Live) -> bool) -> Vec<Camps> {
    let mut camps = vec![Camps::default(); values];
    for (index, claim) in live.iter().enumerate() {
        let of_value = claim.value.and_then(|value| camps.get_mut(value));
        if let Some(of_value) = of_value
            && passes(claim)
        {
            let camp = of_value.side(claim.opposing);
            camp.claims.push(index);
            camp.tally.add(&claim.source, &claim.voice, claim.strength);
        }
    }
    camps
}

/// Exact values into groups: the groups, their camps, and the group of each exact value. Values
/// that are only denied stay outside unless a group takes them.
fn gather(
    exact: Vec<Value>,
    exact_camps: Vec<Camps>,
    supports: &[Option<u128>],
    centres: &[usize],
) -> (Vec<Group>, Vec<Camps>, Vec<Option<usize>>) {
    let mut groups = Vec::new();
    let mut group_of = vec![None; exact.len()];
    for (index, (value, group)) in exact.iter().zip(&mut group_of).enumerate() {
        let asserted = supports.get(index).is_some_and(Option::is_some);
        if asserted && centres.get(index) == Some(&index) {
            *group = Some(groups.len());
            groups.push(Group { value: value.clone(), members: vec![value.clone()] });
        }
    }
    let mut camps = vec![Camps::default(); groups.len()];
    for (index, ((value, exact_camps), centre)) in
        exact.into_iter().zip(exact_camps).zip(centres).enumerate()
    {
        let Some(group) = group_of.get(*centre).copied().flatten() else { continue };
        if let (Some(own), Some(into), Some(of)) =
            (group_of.get_mut(index), camps.get_mut(group), groups.get_mut(group))
        {
            *own = Some(group);
            if index != *centre {
                of.members.push(value);
            }
            if into.yes.claims.is_empty() && into.no.claims.is_empty() {
                *into = exact_camps;
            } else {
                into.absorb(exact_camps);
            }
        }
    }
    for (group, camps) in groups.iter_mut().zip(&mut camps) {
        if let [_, rest @ ..] = group.members.as_mut_slice() {
            rest.sort_unstable();
        }
        camps.yes.claims.sort_unstable();
        camps.no.claims.sort_unstable();
    }
    (groups, camps, group_of)
}

fn ballots(exclusion: &mut Exclusion<'_>, live: &[Live]) -> Vec<Ballot> {
    let mut ballots = Vec::new();
    for vote in &exclusion.votes {
        let Some(claim) = find(live, vote.assertion) else { continue };
        let weight = if vote.weight.is_nan() { 0.0 } else { vote.weight.clamp(-1.0, 1.0) };
        ballots.push(Ballot {
            claim,
            voice: exclusion.lookup.voice(vote.signer, vote.principal),
            agent: vote.signer.agent,
            weight: (weight * crate::decay::WEIGHT_ONE as f64).round_ties_even() as i64,
        });
    }
    ballots
}
