//! Steps 2 to 4 for one key: who stands behind which value, before any lens is chosen.
//!
//! A [`Question`] is what all lenses share. It can be kept: claims that were made since, and those whose
//! fate has changed, are brought in one by one, and every answer is the one that a question made anew
//! would give, bit for bit. Answering then costs the distinct values, not the claims.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use stemedb_model::{Cardinality, Key, Millis, Position, Record, Registry, Value};

use crate::camp::{Camps, Sides};
use crate::candidates::Candidates;
use crate::choosing::Filter;
use crate::decay::WEIGHT_ONE;
use crate::facts::LiveVote;
use crate::lenses::Reliability;
use crate::options::Options;
use crate::statements::{Moved, Statement, Statements};
use crate::trusting::Trusting;
use crate::values::{Canon, group};

/// A live vote.
#[derive(Debug, Clone)]
pub(crate) struct Ballot {
    pub(crate) voice: u32,
    pub(crate) agent: u32,
    /// -2^30 to 2^30.
    pub(crate) weight: i64,
}

/// A candidate value: a centre and the exact values within tolerance that it took.
#[derive(Debug, Clone)]
struct Group {
    centre: u32,
    /// The centre first, then ascending; empty if it is alone.
    members: Vec<u32>,
    /// `None` if it is alone.
    merged: Option<Box<Merged>>,
}

/// Several exact values as one.
#[derive(Debug, Clone)]
struct Merged {
    names: Arc<[Value]>,
    camps: Camps,
}

/// A candidate value as the lenses see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// The centre first, then ascending.
    pub(crate) members: &'a Arc<[Value]>,
    pub(crate) value: &'a Value,
    pub(crate) camps: &'a Camps,
}

/// One key and everything said of it that takes part, under the options that decide what does
/// (`epoch_aware`, `asserted_before`, `valid_at`, whether `lifecycle` names deprecated or rejected).
#[derive(Debug, Clone)]
pub struct Question {
    pub(crate) statements: Statements,
    pub(crate) many: bool,
    pub(crate) half_life: Option<u64>,
    /// By number of the exact value.
    exact: Vec<Camps>,
    /// Each exact value as the only member of its group.
    alone: Vec<Arc<[Value]>>,
    groups: Vec<Group>,
    /// The group of each exact value.
    group_of: Vec<Option<u32>>,
    /// The groups are those of an earlier state.
    stale: bool,
    /// Live votes by assertion.
    ballots: BTreeMap<Position, Vec<Ballot>>,
    /// What the sums of the lens `trust` are kept under.
    trusting: Trusting,
}

impl Question {
    /// Everything up to and including step 3. O(n log n) in claims and facts.
    pub fn new(candidates: &Candidates, options: &Options) -> Self {
        let statements = Statements::none(candidates, options);
        let canon = Canon::new(&statements.lookup, &candidates.key.predicate);
        let half_life = canon.half_life();
        let many = statements.cardinality == Cardinality::Many;
        let mut question = Self {
            statements,
            many,
            half_life,
            exact: Vec::new(),
            alone: Vec::new(),
            groups: Vec::new(),
            group_of: Vec::new(),
            stale: true,
            ballots: BTreeMap::new(),
            trusting: Trusting::default(),
        };
        question.apply(candidates);
        question.prepare(options.valid_at);
        question
    }

    /// The key, named by the smallest subject of its alias class.
    pub fn key(&self) -> &Key {
        self.statements.key()
    }

    /// It says what the log says up to here.
    pub fn as_of(&self) -> Position {
        self.statements.lookup.as_of()
    }

    /// How many assertions belong to the key, excluded or not.
    pub fn claims(&self) -> usize {
        self.statements.counts().0
    }

    /// Whether it has seen an assertion, of its own or another key.
    pub fn knows(&self, position: Position) -> bool {
        self.statements.related().contains(&position) || self.statements.find(position).is_some()
    }

    /// Claims of other keys that its own depend on, ascending.
    pub fn related(&self) -> &BTreeSet<Position> {
        self.statements.related()
    }

    /// Whether options are about the same claims, but for `valid_at`.
    pub fn fits(&self, options: &Options) -> bool {
        self.statements.choosing() == crate::choosing::Choosing::of(options)
    }

    /// Whether it can answer for this time as it is.
    pub fn ready(&self, valid_at: Millis) -> bool {
        !self.stale && self.statements.same_at(valid_at)
    }

    /// Whether a record of a registry, recorded after [`Question::as_of`], changes it in any other way
    /// than through claims that come later. Then it has to be made anew. Errs on that side.
    pub fn concerned_by(&self, record: &Record) -> bool {
        self.statements.concerned_by(record)
    }

    /// The assertions to judge again after something was said of `touched`: those among them that
    /// belong to the key, and all of the key that depend on any.
    pub fn affected(&self, touched: impl IntoIterator<Item = Position>) -> BTreeSet<Position> {
        self.statements.affected(touched)
    }

    /// Brings it to the position of `changed`: the claims made since, those in
    /// [`Question::affected`], and whatever all of these depend on, with the facts about any of them.
    /// O(c log n) for c claims.
    pub fn apply(&mut self, changed: &Candidates) {
        let (moved, votes) = self.statements.apply(changed);
        let claims = changed.claims.iter().chain(&changed.opposing);
        let judged: HashSet<Position> = claims.map(|claim| claim.position).collect();
        judged.iter().for_each(|position| {
            self.ballots.remove(position);
        });
        // Others of the key may be there because these rest on them: their votes are known.
        self.vote(votes.iter().filter(|vote| judged.contains(&vote.assertion)));
        self.move_all(moved);
    }

    /// Brings it to a later position up to which nothing was said of its claims, and none that it
    /// [is concerned by](Question::concerned_by) was recorded.
    pub fn pass(&mut self, registry: &Registry, as_of: Position) {
        self.statements.lookup.advance(registry, as_of);
    }

    /// Makes it ready to answer for a time of validity. Costs the claims that begin or cease to be valid
    /// on the way, and after a change the distinct values.
    pub fn prepare(&mut self, valid_at: Millis) {
        let moved = self.statements.move_to(valid_at);
        self.move_all(moved);
        if self.stale {
            self.regroup();
        }
    }

    /// From now on keeps the sums of the lens `trust` under this table, or under none, as they are at
    /// first; of a table without a [name](Reliability::name) none are kept, and nothing changes. No answer
    /// depends on it. O(voices), and of a table that they are kept under already the claims of agents
    /// that came since.
    pub fn learn(&mut self, trust: Option<&dyn Reliability>) {
        let (agents, key) = (self.statements.lookup.agents(), self.statements.key());
        if !self.trusting.is_under(trust) {
            let Some(trusting) = Trusting::new(trust, agents, key) else { return };
            self.trusting = trusting;
            let merged = self.groups.iter_mut().filter_map(|group| group.merged.as_mut());
            let camps = self.exact.iter_mut().chain(merged.map(|merged| &mut merged.camps));
            camps.for_each(|camps| camps.learn(&self.trusting));
        } else if let Some(table) = trust {
            for position in self.trusting.meet(table, agents, key) {
                let Some(statement) = self.statements.playing(position).cloned() else { continue };
                self.each_camp(statement.value, |camps, trusting| {
                    camps.weigh(&statement, trusting)
                });
            }
        }
    }

    /// Whether the sums of the lens `trust` are kept under this table, or under none: then that lens
    /// costs what others do.
    pub fn learned(&self, trust: Option<&dyn Reliability>) -> bool {
        self.trusting.is_under(trust) && self.trusting.is_complete()
    }

    /// Bytes of memory that its distinct values have for their text.
    pub fn text_bytes(&self) -> usize {
        self.statements.text_bytes()
    }

    /// Bytes of memory, about. O(values + claims that are voted on).
    pub fn weight(&self) -> usize {
        let ballots: usize = self.ballots.values().map(|on| 96 + on.len() * 24).sum();
        let camps: usize = self.exact.iter().map(Camps::weight).sum();
        let merged = self.groups.iter().filter_map(|group| group.merged.as_ref());
        let merged: usize =
            merged.map(|one| one.camps.weight() + one.names.len() * size_of::<Value>()).sum();
        let of_alone = size_of::<Arc<[Value]>>() + 16 + size_of::<Value>();
        size_of::<Self>()
            + self.statements.weight()
            + ballots
            + camps
            + merged
            + self.alone.len() * of_alone
            + self.groups.len() * size_of::<Group>()
            + self.trusting.bytes(self.statements.lookup.agents().len())
    }

    /// The candidate values, in no order that means anything.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        let values = self.statements.values();
        self.groups.iter().filter_map(move |group| {
            let centre = group.centre as usize;
            let (members, camps) = match &group.merged {
                Some(merged) => (&merged.names, &merged.camps),
                None => (self.alone.get(centre)?, self.exact.get(centre)?),
            };
            Some(Candidate { members, value: values.get(centre)?, camps })
        })
    }

    /// The camps of the claims that pass, for each of [`Question::candidates`]. O(n log n).
    pub(crate) fn heard(&self, filter: &Filter) -> Vec<Camps> {
        let mut heard = vec![Camps::default(); self.groups.len()];
        for statement in self.statements.in_play().filter(|statement| filter.passes(statement)) {
            let group = self.group_of(statement.value);
            if let Some(camps) = group.and_then(|group| heard.get_mut(group)) {
                camps.add(statement, &self.trusting);
            }
        }
        heard
    }

    /// The votes on claims that are heard, by candidate and side. O(votes).
    pub(crate) fn ballots_on(&self, heard: &[Sides<'_>]) -> BTreeMap<(usize, bool), Vec<&Ballot>> {
        let mut on = BTreeMap::new();
        for (assertion, ballots) in &self.ballots {
            let Some(claim) = self.statements.playing(*assertion) else { continue };
            let Some(value) = self.group_of(claim.value) else { continue };
            let heard = heard.get(value).is_some_and(|sides| {
                let camp = if claim.opposing { sides.no } else { sides.yes };
                camp.holds(claim)
            });
            if heard {
                on.entry((value, claim.opposing)).or_insert_with(Vec::new).extend(ballots);
            }
        }
        on
    }

    /// Live votes by assertion.
    pub(crate) fn ballots(&self) -> &BTreeMap<Position, Vec<Ballot>> {
        &self.ballots
    }

    fn group_of(&self, value: u32) -> Option<usize> {
        self.group_of.get(value as usize).copied().flatten().map(|group| group as usize)
    }

    fn vote<'a>(&mut self, votes: impl Iterator<Item = &'a LiveVote<'a>>) {
        for vote in votes {
            let weight = if vote.weight.is_nan() { 0.0 } else { vote.weight.clamp(-1.0, 1.0) };
            let ballot = Ballot {
                voice: self.statements.lookup.voice(vote.signer, vote.principal),
                agent: vote.signer.agent,
                weight: (weight * WEIGHT_ONE as f64).round_ties_even() as i64,
            };
            self.ballots.entry(vote.assertion).or_default().push(ballot);
        }
    }

    fn move_all(&mut self, moved: Vec<Moved>) {
        self.stale |= !moved.is_empty();
        for one in moved {
            match one {
                Moved::Left(statement) => {
                    self.each_camp(statement.value, |camps, trusting| {
                        camps.remove(&statement, trusting);
                    });
                    self.trusting.left(statement.position);
                }
                Moved::Joined(position) => {
                    let Some(statement) = self.statements.find(position).cloned() else { continue };
                    let value = statement.value as usize;
                    if self.exact.len() <= value {
                        self.exact.resize_with(value + 1, Camps::default);
                    }
                    self.trusting.joined(position, statement.agent);
                    self.each_camp(statement.value, |camps, trusting| {
                        camps.add(&statement, trusting);
                    });
                }
            }
        }
    }

    /// The camps that a claim of this value is in.
    fn each_camp(&mut self, value: u32, change: impl Fn(&mut Camps, &Trusting)) {
        if let Some(exact) = self.exact.get_mut(value as usize) {
            change(exact, &self.trusting);
        }
        let group = self.group_of(value);
        if let Some(group) = group.and_then(|group| self.groups.get_mut(group))
            && let Some(merged) = &mut group.merged
        {
            change(&mut merged.camps, &self.trusting);
        }
    }

    /// Step 3 again: which values are one. Groups that stay as they were keep what they know.
    fn regroup(&mut self) {
        let values = self.statements.values();
        let supports: Vec<Option<u128>> = self
            .exact
            .iter()
            .map(Camps::sides)
            .map(|sides| (!sides.yes.is_empty()).then(|| sides.yes.tally.support()))
            .collect();
        let canon = Canon::new(&self.statements.lookup, &self.statements.key().predicate);
        let taken = group(&canon, values.get(..supports.len()).unwrap_or(values), &supports);
        let mut known: BTreeMap<u32, Group> = std::mem::take(&mut self.groups)
            .into_iter()
            .filter(|group| group.merged.is_some())
            .map(|group| (group.centre, group))
            .collect();
        for value in values.iter().take(supports.len()).skip(self.alone.len()) {
            self.alone.push(Arc::from([value.clone()]));
        }
        let mut groups = Vec::new();
        let mut group_of = vec![None; supports.len()];
        for (index, (support, centre)) in supports.iter().zip(&taken).enumerate() {
            if support.is_some()
                && *centre == index
                && let Some(own) = group_of.get_mut(index)
            {
                *own = Some(groups.len() as u32);
                groups.push(Group { centre: index as u32, members: Vec::new(), merged: None });
            }
        }
        for (index, centre) in taken.iter().enumerate() {
            // Of a value that is only denied and that none took there is no question.
            let Some(group) = group_of.get(*centre).copied().flatten() else { continue };
            if index == *centre {
                continue;
            }
            let empty = self.exact.get(index).is_none_or(|camps| camps.sides().is_empty());
            if empty {
                continue;
            }
            if let (Some(own), Some(of)) = (group_of.get_mut(index), groups.get_mut(group as usize))
            {
                *own = Some(group);
                if of.members.is_empty() {
                    of.members.push(of.centre);
                }
                of.members.push(index as u32);
            }
        }
        for group in groups.iter_mut().filter(|group| !group.members.is_empty()) {
            if let [_, rest @ ..] = group.members.as_mut_slice() {
                rest.sort_unstable_by_key(|member| values.get(*member as usize));
            }
            group.merged = match known.remove(&group.centre) {
                Some(same) if same.members == group.members => same.merged,
                _ => {
                    let names = group.members.iter();
                    let names = names.filter_map(|member| values.get(*member as usize)).cloned();
                    let camps =
                        merge(&self.statements, &self.exact, &group.members, &self.trusting);
                    Some(Box::new(Merged { names: names.collect(), camps }))
                }
            };
        }
        self.groups = groups;
        self.group_of = group_of;
        self.stale = false;
    }
}

/// One value instead of several.
fn merge(statements: &Statements, exact: &[Camps], members: &[u32], trusting: &Trusting) -> Camps {
    let mut members: Vec<&Camps> =
        members.iter().filter_map(|member| exact.get(*member as usize)).collect();
    let size = |camps: &&Camps| camps.sides().yes.len() + camps.sides().no.len();
    // The largest is taken over as it is.
    members.sort_by_key(|camps| std::cmp::Reverse(size(camps)));
    let mut merged = members.first().map(|first| (*first).clone()).unwrap_or_default();
    for other in members.iter().skip(1) {
        let sides = other.sides();
        let claims = sides.yes.claims().chain(sides.no.claims());
        let claims = claims.filter_map(|claim| statements.find(claim.position()));
        claims.for_each(|statement: &Statement| merged.add(statement, trusting));
    }
    merged
}
