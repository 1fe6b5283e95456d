//! Step 1, the second half: what is said of one key, kept up to date.
//!
//! A statement is an assertion of the key (or, under cardinality many, of an opposite), judged. The
//! first half of its fate is its own ([`judge`]); here it meets the others: under cardinality one an
//! agent has one live statement per place, and a child takes the place of its author's parent. Last
//! comes the time asked about.
//!
//! Statements are added and judged again one by one or all at once, and it cannot be seen which: what
//! is asked of this type depends on the log alone.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use stemedb_model::{
    Body, Cardinality, Key, LifecycleState, Millis, Position, PredicateName, Record, SourceIdent,
    Tier, Value, Voice,
};

use crate::candidates::Candidates;
use crate::choosing::{Choosing, Filter};
use crate::exclude::{Judged, Judgement, Role, judge};
use crate::facts::LiveVote;
use crate::lookup::{Lookup, Numbers};
use crate::options::Options;
use crate::ranked::Ranked;
use crate::resolution::{Excluded, Reason};
use crate::tally::Strength;
use crate::values::{Canon, text_bytes};

/// One assertion of the key, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The assertion.
    pub position: Position,
    /// It denies values of the key, under an opposite predicate.
    pub opposing: bool,
    /// Its tier: the worst of what its author, its source and its premises allow.
    pub tier: Tier,
    /// Whom it counts for.
    pub voice: Option<Voice>,
    /// The source behind what it names: several keys may be bound to one.
    pub source: Option<SourceIdent>,
    /// Its lifecycle state.
    pub state: LifecycleState,
    /// The cosign that it stands by, its author being revoked.
    pub cosign: Option<Position>,
    /// Why it takes no part, if so; `filtered` included.
    pub excluded: Option<Excluded>,
}

/// Judges every assertion of the key (and, under cardinality many, of its opposites) under
/// `options`, ascending by position. The options' lens, decay and `evaluated_at` play no part: for what
/// a lens of one's own filters, ask a [`Question`](crate::Question).
/// Time O(n log n) in claims, premises and facts.
pub fn standings(candidates: &Candidates, options: &Options) -> Vec<Standing> {
    let (statements, _) = Statements::of(candidates, options);
    statements.standings(&Filter::new(&statements.lookup, options))
}

/// An assertion with all that the later steps ask about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statement {
    pub(crate) position: Position,
    pub(crate) opposing: bool,
    /// Who stands for it: the author, or the best cosigner of a revoked author.
    pub(crate) agent: u32,
    pub(crate) author: u32,
    pub(crate) voice: u32,
    pub(crate) source: u32,
    pub(crate) tier: Tier,
    pub(crate) state: LifecycleState,
    pub(crate) confidence: f64,
    /// min(at, recorded_at): what decay and recency go by.
    pub(crate) time: Millis,
    /// Number of its value, in the form in which values are compared.
    pub(crate) value: u32,
    cosign: Option<Position>,
    /// Agents other than the author that stand by it.
    pub(crate) cosigns: u32,
    parent: Option<Position>,
    /// Which predicate it was made under: 0 is the one asked about.
    predicate: u32,
    valid_from: Option<Millis>,
    valid_to: Option<Millis>,
    /// Why it is excluded, whatever the other statements are and whenever it is asked about.
    fallen: Option<(Reason, Option<Position>)>,
    /// Whether it takes part in the disagreement.
    part: Part,
}

/// What a statement has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Not settled yet; takes no part.
    Open,
    In,
    Out(Reason),
}

impl Statement {
    pub(crate) fn strength(&self) -> Strength {
        Strength::new(self.tier, self.confidence, self.position).by(self.agent)
    }

    fn valid(&self, at: Millis) -> bool {
        self.valid_from.is_none_or(|from| from <= at) && self.valid_to.is_none_or(|to| to > at)
    }
}

#[cfg(test)]
impl Statement {
    /// A claim of which no more is known than who makes it, from where, and how strong it is.
    pub(crate) fn bare(strength: Strength, agent: u32, source: u32) -> Self {
        Self {
            position: strength.position(),
            opposing: false,
            agent,
            author: agent,
            voice: agent,
            source,
            tier: strength.tier(),
            state: LifecycleState::Proposed,
            confidence: strength.confidence(),
            time: Millis(0),
            value: 0,
            cosign: None,
            cosigns: 0,
            parent: None,
            predicate: 0,
            valid_from: None,
            valid_to: None,
            fallen: None,
            part: Part::In,
        }
    }
}

/// What only one live statement can hold under cardinality one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    predicate: u32,
    author: u32,
    valid_from: Option<Millis>,
    valid_to: Option<Millis>,
}

/// A statement that takes part now, or does so no more.
#[derive(Debug)]
pub(crate) enum Moved {
    /// As it was.
    Left(Statement),
    Joined(Position),
}

/// All statements of one key.
#[derive(Debug, Clone)]
pub(crate) struct Statements {
    key: Key,
    choosing: Choosing,
    valid_at: Millis,
    pub(crate) lookup: Lookup,
    pub(crate) cardinality: Cardinality,
    /// Ascending by position.
    all: Vec<Statement>,
    values: Numbers<Value>,
    /// Of the values, beside what each of them takes anyway.
    text_bytes: usize,
    predicates: Numbers<PredicateName>,
    /// Of each predicate in turn.
    cardinalities: Vec<Cardinality>,
    /// Statements that have not fallen, newest first.
    places: HashMap<Place, Ranked<Reverse<Position>>>,
    /// Of those, the children of each statement of the same author, newest first.
    children: HashMap<Position, Ranked<Reverse<Position>>>,
    /// When statements begin and cease to be valid.
    bounds: BTreeSet<(Millis, Position)>,
    /// Those that take no part, and how many for which reason, in the order of [`Reason::ALL`].
    out: BTreeSet<Position>,
    out_for: [u64; Reason::ALL.len()],
    /// What depends on what, as (what is depended on, what depends on it).
    dependants: BTreeSet<(Position, Position)>,
    /// Claims of other keys that statements depend on.
    related: BTreeSet<Position>,
    /// Some claim, here or beneath one of these, was made under an epoch, refers to a subject, or was
    /// ever there for a cosigner.
    under_epochs: bool,
    refers: bool,
    by_cosigner: bool,
}

impl Statements {
    /// Those of all candidates, and the votes on them.
    pub(crate) fn of<'a>(
        candidates: &'a Candidates,
        options: &Options,
    ) -> (Self, Vec<LiveVote<'a>>) {
        let mut statements = Self::none(candidates, options);
        let (_, votes) = statements.apply(candidates);
        (statements, votes)
    }

    /// No statement yet of the key that `candidates` are of.
    pub(crate) fn none(candidates: &Candidates, options: &Options) -> Self {
        let key = candidates.key.clone();
        let before = options.asserted_before;
        let registry = candidates.registry.clone();
        let lookup = Lookup::new(registry, key.space.clone(), candidates.as_of, before);
        let cardinality = cardinality(&lookup, &key.predicate, Cardinality::One);
        let mut predicates = Numbers::new();
        predicates.of(key.predicate.clone());
        Self {
            key,
            choosing: Choosing::of(options),
            valid_at: options.valid_at,
            lookup,
            cardinality,
            all: Vec::new(),
            values: Numbers::new(),
            text_bytes: 0,
            predicates,
            cardinalities: vec![cardinality],
            places: HashMap::new(),
            children: HashMap::new(),
            bounds: BTreeSet::new(),
            out: BTreeSet::new(),
            out_for: [0; Reason::ALL.len()],
            dependants: BTreeSet::new(),
            related: BTreeSet::new(),
            under_epochs: false,
            refers: false,
            by_cosigner: false,
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn choosing(&self) -> Choosing {
        self.choosing
    }

    pub(crate) fn related(&self) -> &BTreeSet<Position> {
        &self.related
    }

    /// How many there are, and how many of them take no part.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.all.len(), self.out.len())
    }

    /// Whether any value was a subject.
    pub(crate) fn refers(&self) -> bool {
        self.refers
    }

    /// Whether any claim was there for a cosigner instead of its author.
    pub(crate) fn by_cosigner(&self) -> bool {
        self.by_cosigner
    }

    /// When the first statement begins or ceases to be valid after `time`.
    pub(crate) fn next_bound(&self, time: Millis) -> Option<Millis> {
        let after = (time, Position(u64::MAX));
        let mut later = self.bounds.range((Bound::Excluded(after), Bound::Unbounded));
        later.next().map(|(bound, _)| *bound)
    }

    /// How many take no part, by reason.
    pub(crate) fn out_for(&self) -> &[u64; Reason::ALL.len()] {
        &self.out_for
    }

    pub(crate) fn find(&self, position: Position) -> Option<&Statement> {
        self.all.get(self.index(position).ok()?)
    }

    /// All of them, ascending by position.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Statement> {
        self.all.iter()
    }

    /// What a statement claims, in the form in which values are compared.
    pub(crate) fn value(&self, statement: &Statement) -> Option<&Value> {
        self.values.name(statement.value)
    }

    /// The statements that take part, ascending by position. O(n).
    pub(crate) fn in_play(&self) -> impl Iterator<Item = &Statement> {
        self.all.iter().filter(|statement| statement.part == Part::In)
    }

    /// One of them, if it takes part.
    pub(crate) fn playing(&self, position: Position) -> Option<&Statement> {
        self.find(position).filter(|statement| statement.part == Part::In)
    }

    /// Values by number; some of them may be nobody's any more.
    pub(crate) fn values(&self) -> &[Value] {
        self.values.names()
    }

    /// Whether a registry record, recorded after all that is in here, changes what is here in any
    /// other way than through the claims that come after it: then all of it is to be made anew.
    pub(crate) fn concerned_by(&self, record: &Record) -> bool {
        let here = record.space == self.key.space;
        match &record.body {
            Body::Epoch(epoch) => here && self.under_epochs && epoch.supersedes.is_some(),
            Body::Predicate(predicate) => {
                here && (predicate.name == self.key.predicate
                    || self.predicates.known(&predicate.name).is_some())
            }
            Body::Alias(alias) => {
                let lookup = &self.lookup;
                let subjects =
                    || lookup.registry().entity(lookup.space(), &self.key.subject, lookup.as_of());
                here && (self.refers
                    || subjects().iter().any(|one| *one == alias.subject || *one == alias.other))
            }
            _ => self.lookup.concerned_by(record),
        }
    }

    /// Everything here that depends on any of `touched`, these included if they are statements.
    pub(crate) fn affected(
        &self,
        touched: impl IntoIterator<Item = Position>,
    ) -> BTreeSet<Position> {
        let mut todo: Vec<Position> = touched.into_iter().collect();
        let mut seen: BTreeSet<Position> = todo.iter().copied().collect();
        while let Some(position) = todo.pop() {
            let range = (position, Position::NONE)..=(position, Position(u64::MAX));
            for (_, dependant) in self.dependants.range(range) {
                if seen.insert(*dependant) {
                    todo.push(*dependant);
                }
            }
        }
        seen.retain(|position| !self.related.contains(position));
        seen
    }

    /// Takes in claims: new ones, and known ones whose fate may have changed. `changed` must hold all
    /// that they depend on; its other claims must be known already or related.
    /// O(c log n) for c claims among n.
    pub(crate) fn apply<'a>(&mut self, changed: &'a Candidates) -> (Vec<Moved>, Vec<LiveVote<'a>>) {
        self.lookup.advance(&changed.registry, changed.as_of);
        let Judgement { claims, votes, dependants } =
            judge(changed, self.cardinality, self.choosing, &mut self.lookup);
        self.dependants.extend(dependants);
        let canon = Canon::new(&self.lookup, &self.key.predicate);
        let canonical = |judged: &Judged<'_>| match judged.role {
            Role::Key => Some(canon.value(&judged.claim.object, None)),
            Role::Opposing => {
                Some(canon.value(&judged.claim.object, Some(&judged.claim.predicate)))
            }
            Role::Related => None,
        };
        let values: Vec<Option<Value>> = claims.iter().map(canonical).collect();
        let mut moved = Vec::new();
        let mut touched = Vec::with_capacity(claims.len());
        for (judged, value) in claims.into_iter().zip(values) {
            let claim = judged.claim;
            self.under_epochs |= claim.epoch.is_some();
            self.by_cosigner |= judged.cosign.is_some();
            let Some(value) = value else {
                // One of the key's own may be here for what others rest on alone.
                if self.index(claim.position).is_err() {
                    self.related.insert(claim.position);
                }
                continue;
            };
            if !judged.kept {
                continue;
            }
            let opposing = judged.role == Role::Opposing;
            self.refers |= matches!(value, Value::Reference(_));
            let value = self.number(value);
            let statement = Statement {
                position: claim.position,
                opposing,
                agent: judged.agent,
                author: judged.author,
                voice: judged.voice,
                source: judged.source,
                tier: judged.tier,
                state: judged.state,
                confidence: claim.confidence,
                time: claim.at.min(claim.recorded_at),
                value,
                cosign: judged.cosign,
                cosigns: judged.cosigns,
                parent: claim.parent.filter(|parent| *parent < claim.position),
                predicate: match opposing {
                    true => self.predicate(&claim.predicate),
                    false => 0,
                },
                valid_from: claim.valid_from,
                valid_to: claim.valid_to,
                fallen: judged.reason,
                part: Part::Open,
            };
            self.put(statement, &mut moved, &mut touched);
        }
        touched.sort_unstable();
        touched.dedup();
        for position in touched {
            self.settle(position, &mut moved);
        }
        (moved, votes)
    }

    /// Asks about another time. Costs the statements that begin or cease to be valid in between.
    pub(crate) fn move_to(&mut self, valid_at: Millis) -> Vec<Moved> {
        let mut moved = Vec::new();
        let (from, to) = (self.valid_at.min(valid_at), self.valid_at.max(valid_at));
        self.valid_at = valid_at;
        // A bound at the earlier time is behind both.
        let between = (from, Position(u64::MAX))..=(to, Position(u64::MAX));
        let crossed: BTreeSet<Position> =
            self.bounds.range(between).map(|(_, position)| *position).collect();
        crossed.into_iter().for_each(|position| self.settle(position, &mut moved));
        moved
    }

    /// Whether that other time makes a difference.
    pub(crate) fn same_at(&self, valid_at: Millis) -> bool {
        let (from, to) = (self.valid_at.min(valid_at), self.valid_at.max(valid_at));
        let mut between = self.bounds.range((from, Position(u64::MAX))..=(to, Position(u64::MAX)));
        between.next().is_none()
    }

    /// Why statements have no part in the answer, ascending by position. O(n) with a filter, else in
    /// those that it names.
    pub(crate) fn excluded(&self, filter: &Filter) -> Vec<Excluded> {
        if filter.keeps_all() {
            return self
                .out
                .iter()
                .filter_map(|position| self.why(self.find(*position)?))
                .collect();
        }
        let filtered = |one: &Statement| Excluded {
            position: one.position,
            reason: Reason::Filtered,
            by: None,
        };
        let why = |one: &Statement| {
            self.why(one).or_else(|| (!filter.passes(one)).then(|| filtered(one)))
        };
        self.all.iter().filter_map(why).collect()
    }

    /// The newest of those that take no part, at most `most`, ascending by position.
    pub(crate) fn newest_out(&self, most: usize) -> Vec<Excluded> {
        let mut excluded = Vec::with_capacity(most.min(self.out.len()));
        let mut rest = self.all.as_slice();
        for position in self.out.iter().rev().take(most) {
            // Each lies a little before the one that was found last.
            let mut step = 1;
            let mut from = rest.len().saturating_sub(step);
            while from > 0 && rest.get(from).is_some_and(|one| one.position > *position) {
                step *= 2;
                from = rest.len().saturating_sub(step);
            }
            let near = rest.get(from..).unwrap_or_default();
            let Ok(at) = near.binary_search_by_key(position, |one| one.position) else { continue };
            excluded.extend(near.get(at).and_then(|one| self.why(one)));
            rest = rest.get(..from + at).unwrap_or_default();
        }
        excluded.reverse();
        excluded
    }

    pub(crate) fn standings(&self, filter: &Filter) -> Vec<Standing> {
        let mut excluded = self.excluded(filter).into_iter().peekable();
        let standing = |one: &Statement| Standing {
            position: one.position,
            opposing: one.opposing,
            tier: one.tier,
            voice: self.lookup.voice_name(one.voice).cloned(),
            source: self.lookup.source_name(one.source).cloned(),
            state: one.state,
            cosign: one.cosign,
            excluded: excluded.next_if(|excluded| excluded.position == one.position),
        };
        self.all.iter().map(standing).collect()
    }

    /// Bytes of memory, about.
    pub(crate) fn weight(&self) -> usize {
        let of_one = size_of::<Statement>();
        self.all.capacity() * of_one
            + self.values.names().len() * 160
            + self.text_bytes
            + self.places.len() * 96
            + (self.all.len() + self.bounds.len() + self.out.len() + self.children.len()) * 24
            + (self.dependants.len() + self.related.len()) * 24
            + self.lookup.weight()
    }

    fn index(&self, position: Position) -> Result<usize, usize> {
        self.all.binary_search_by_key(&position, |statement| statement.position)
    }

    fn number(&mut self, value: Value) -> u32 {
        let (before, text) = (self.values.names().len(), text_bytes(&value));
        let number = self.values.of(value);
        if self.values.names().len() > before {
            self.text_bytes += text;
        }
        number
    }

    /// Bytes of memory that its distinct values have for their text.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// The number of an opposite.
    fn predicate(&mut self, name: &PredicateName) -> u32 {
        let number = self.predicates.of(name.clone());
        if number as usize == self.cardinalities.len() {
            // Who denies two of many values denies both, unless the opposite was registered otherwise.
            self.cardinalities.push(cardinality(&self.lookup, name, Cardinality::Many));
        }
        number
    }

    /// Enters a statement, or puts it in the place of what was known of it. `touched` gets all that
    /// may take part now or take part no more.
    fn put(&mut self, statement: Statement, moved: &mut Vec<Moved>, touched: &mut Vec<Position>) {
        let position = statement.position;
        for bound in [statement.valid_from, statement.valid_to].into_iter().flatten() {
            self.bounds.insert((bound, position));
        }
        match self.index(position) {
            Ok(at) => {
                let Some(known) = self.all.get_mut(at) else { return };
                let was = std::mem::replace(known, statement.clone());
                self.leave(&was, touched);
                match was.part {
                    Part::In => {
                        moved.push(Moved::Left(was));
                        self.out.insert(position);
                    }
                    Part::Out(reason) => self.count(reason, false),
                    Part::Open => {}
                }
            }
            Err(at) => {
                self.all.insert(at, statement.clone());
                self.out.insert(position);
            }
        }
        self.enter(&statement, touched);
        touched.push(position);
    }

    fn place(&self, statement: &Statement) -> Option<Place> {
        let cardinality = self.cardinalities.get(statement.predicate as usize)?;
        (*cardinality == Cardinality::One).then_some(Place {
            predicate: statement.predicate,
            author: statement.author,
            valid_from: statement.valid_from,
            valid_to: statement.valid_to,
        })
    }

    /// The statement whose place its author gave it, if that is one.
    fn parent(&self, statement: &Statement) -> Option<Position> {
        let parent = self.find(statement.parent?)?;
        let same = parent.author == statement.author && parent.predicate == statement.predicate;
        same.then_some(parent.position)
    }

    fn enter(&mut self, statement: &Statement, touched: &mut Vec<Position>) {
        if statement.fallen.is_some() {
            return;
        }
        let one = Reverse(statement.position);
        if let Some(place) = self.place(statement) {
            match self.places.get_mut(&place) {
                Some(holders) => {
                    touched.extend(holders.first().map(|Reverse(holder)| *holder));
                    holders.insert(one);
                }
                None => {
                    self.places.insert(place, Ranked::One(one));
                }
            }
        }
        if let Some(parent) = self.parent(statement) {
            self.children
                .entry(parent)
                .and_modify(|children| children.insert(one))
                .or_insert(Ranked::One(one));
            touched.push(parent);
        }
    }

    fn leave(&mut self, statement: &Statement, touched: &mut Vec<Position>) {
        if statement.fallen.is_some() {
            return;
        }
        let one = Reverse(statement.position);
        if let Some(place) = self.place(statement)
            && let Some(holders) = self.places.get_mut(&place)
        {
            if holders.remove(&one) {
                self.places.remove(&place);
            } else {
                touched.extend(holders.first().map(|Reverse(holder)| *holder));
            }
        }
        if let Some(parent) = self.parent(statement)
            && let Some(children) = self.children.get_mut(&parent)
        {
            if children.remove(&one) {
                self.children.remove(&parent);
            }
            touched.push(parent);
        }
    }

    /// What took the place of a statement.
    fn replaced_by(&self, statement: &Statement) -> Option<Position> {
        let newest = |ranked: &Ranked<Reverse<Position>>| ranked.first().map(|Reverse(one)| *one);
        let holder = self.place(statement).and_then(|place| newest(self.places.get(&place)?));
        let holder = holder.filter(|holder| *holder != statement.position);
        let child = self.children.get(&statement.position).and_then(newest);
        holder.max(child)
    }

    fn why(&self, statement: &Statement) -> Option<Excluded> {
        let (reason, by) = match statement.fallen {
            Some(fallen) => fallen,
            None => match self.replaced_by(statement) {
                Some(by) => (Reason::Replaced, Some(by)),
                None if !statement.valid(self.valid_at) => (Reason::NotValidThen, None),
                None => return None,
            },
        };
        Some(Excluded { position: statement.position, reason, by })
    }

    /// Brings one statement into play or out of it.
    fn settle(&mut self, position: Position, moved: &mut Vec<Moved>) {
        let Ok(at) = self.index(position) else { return };
        let Some(statement) = self.all.get(at) else { return };
        let was = statement.part;
        let part = self.why(statement).map_or(Part::In, |excluded| Part::Out(excluded.reason));
        if part == was {
            return;
        }
        let left = (was == Part::In).then(|| Moved::Left(statement.clone()));
        if let Some(statement) = self.all.get_mut(at) {
            statement.part = part;
        }
        if let Part::Out(reason) = was {
            self.count(reason, false);
        }
        match part {
            Part::Out(reason) => {
                self.count(reason, true);
                self.out.insert(position);
            }
            Part::In | Part::Open => {
                self.out.remove(&position);
                moved.push(Moved::Joined(position));
            }
        }
        moved.extend(left);
    }

    /// One more of those that take no part for this reason, or one fewer.
    fn count(&mut self, reason: Reason, more: bool) {
        if let Some(count) = self.out_for.get_mut(reason as usize) {
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        }
    }
}

fn cardinality(
    lookup: &Lookup,
    predicate: &PredicateName,
    unregistered: Cardinality,
) -> Cardinality {
    let registered = lookup.registry().predicate(lookup.space(), predicate, lookup.as_of());
    registered.map_or(unregistered, |predicate| predicate.cardinality)
}
