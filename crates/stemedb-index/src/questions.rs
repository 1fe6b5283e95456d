//! Questions kept in memory between reads: the sums behind the answers of a key.
//!
//! A question is made from all claims of its key when the key is first asked about, and from then on
//! brought up to date with what was recorded since, so that an answer costs the distinct values of the
//! key and not its claims. Nothing has to tell it that something changed: a read looks. It looks at
//! the registry records since (few), at the newest rows of the key, and at the newest facts about
//! claims of other keys that those of this one rest on; and not into storage where memory tells that
//! nothing was recorded about any of these. Where a registry record may concern what is kept, the
//! question is made anew.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use stemedb_lens::{
    Candidates, Dispute, LensName, Options, Question, Reliability, Resolution, same_claims,
};
use stemedb_model::{Cardinality, Key, Millis, Position, PredicateName, Registry, Subject, Value};

use crate::answers::{Learned, State};
use crate::bytes::Malformed;
use crate::error::IndexError;
use crate::format::{Table, last_position, pair_key, position_key};
use crate::rows::ClaimsRow;
use crate::snapshot::Snapshot;

/// A question that nobody has filled yet.
const EMPTY_BYTES: u64 = 512;

/// The questions that an index keeps: those asked most, within a bound of bytes.
pub(crate) struct Questions {
    kept: Cache<Key, Slot, ByBytes>,
    states: AtomicU64,
}

/// What the cache holds: it must weigh the same for as long as it does.
#[derive(Clone)]
struct Slot {
    bytes: u64,
    entry: Arc<Entry>,
}

type Entry = RwLock<Option<Kept>>;

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Slot> for ByBytes {
    fn weight(&self, _key: &Key, slot: &Slot) -> u64 {
        slot.bytes
    }
}

struct Kept {
    question: Question,
    state: State,
    rows: Vec<Rows>,
    /// Facts about its claims and about those they rest on.
    facts: usize,
    /// Its size when it was weighed last; nothing if it never was.
    weighed: usize,
}

/// Where claims of a question stand.
pub(crate) struct Rows {
    subject: Subject,
    predicate: PredicateName,
    pub(crate) opposing: bool,
    /// The number of that key; `None` until somebody speaks of it.
    pub(crate) number: Option<u64>,
}

/// Claims of a question whose answers are at hand: of more, an answer may cost more than a reader's turn.
const AT_HAND_MAX: usize = 1 << 10;
/// Rows looked at to see whether all claims of a key say the same.
const ALIKE_MAX: usize = 1 << 10;
/// A question that has grown by such a part is weighed again: what it takes beyond what it weighed is
/// not in the bound. Weighing costs its values, and its claims that are voted on.
const WEIGHED_PARTS: usize = 16;
/// What a claim takes in a question, about: text of so many bytes is as much growth.
const CLAIM_BYTES: usize = 512;
/// Questions about fewer claims are not kept for a list's sake: they are made again as fast.
const KEPT_FROM: usize = 64;

impl Questions {
    pub(crate) fn new(bytes: u64) -> Self {
        // The slots are a guess at how many there will be: most keys have a handful of claims.
        let slots = usize::try_from(bytes / (8 << 10)).unwrap_or(usize::MAX).max(16);
        let options = OptionsBuilder::new()
            // Each shard has its own part of the bytes, and a large question needs them in one.
            .shards(1)
            .estimated_items_capacity(slots)
            .weight_capacity(bytes)
            .build();
        let kept = match options {
            Ok(options) => Cache::with_options(
                options,
                ByBytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            Err(_) => Cache::with_weighter(slots, bytes, ByBytes),
        };
        Self { kept, states: AtomicU64::new(0) }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.kept.weight()
    }

    /// A state that no question had.
    fn new_state(&self) -> State {
        State(self.states.fetch_add(1, Ordering::Relaxed))
    }

    fn entry(&self, key: &Key) -> Arc<Entry> {
        if let Some(slot) = self.kept.get(key) {
            return slot.entry;
        }
        let entry = Arc::default();
        self.put(key.clone(), EMPTY_BYTES, Arc::clone(&entry));
        entry
    }

    fn kept(&self, key: &Key) -> Option<Arc<Entry>> {
        self.kept.get(key).map(|slot| slot.entry)
    }

    fn holds(&self, key: &Key) -> bool {
        self.kept.peek(key).is_some()
    }

    fn put(&self, key: Key, bytes: u64, entry: Arc<Entry>) {
        self.kept.insert(key, Slot { bytes, entry });
    }
}

impl Snapshot {
    /// Puts a question about one key at [`Snapshot::position`] to `ask`, ready for `options`. Kept from
    /// read to read under default options of what takes part; else it is made anew.
    ///
    /// Never of a part of the claims: past `claims_max` of them, or as many facts, it is
    /// [`IndexError::TooLarge`].
    ///
    /// Of a key that was asked about before, costs what was recorded about it since; the first time,
    /// and for another position, what [`Snapshot::candidates`] costs and O(n log n). Readers of one key
    /// wait for one another while it is brought up to date.
    pub fn question<T>(
        &self,
        key: &Key,
        options: &Options,
        claims_max: usize,
        ask: impl FnOnce(&Question) -> T,
    ) -> Result<T, IndexError> {
        self.asked(key, options, None, claims_max, |question, _| ask(question))
    }

    /// The answers to one key at [`Snapshot::position`] under each of `options`, in their order, and how
    /// many of them were kept from an earlier read. All options must be about the same claims
    /// ([`same_claims`]) at the same `valid_at`.
    ///
    /// Costs what [`Snapshot::question`] costs, and what the answers cost that are not kept. The first
    /// answer of the lens `trust` under another table than before costs the voices.
    pub fn answers(
        &self,
        key: &Key,
        options: &[Options],
        trust: Option<Learned<'_>>,
        claims_max: usize,
    ) -> Result<(Vec<Resolution>, usize), IndexError> {
        let Some(first) = options.first() else { return Ok((Vec::new(), 0)) };
        let table = trust.as_ref().map(|trust| trust as &dyn Reliability);
        let summed = options.iter().any(Options::sums_trust).then_some(table);
        self.asked(key, first, summed, claims_max, |question, state| {
            self.answer_all((question, state), options, trust)
        })
    }

    /// The same if memory holds all that it takes, and none of it is much; `None`: look with
    /// [`Snapshot::answers`]. Never waits, neither for storage nor for another reader.
    pub fn answers_at_hand(
        &self,
        key: &Key,
        options: &[Options],
        trust: Option<Learned<'_>>,
        claims_max: usize,
    ) -> Option<(Vec<Resolution>, usize)> {
        let first = options.first()?;
        if !same_claims(first, &Options::new(first.lens, first.evaluated_at)) {
            return None;
        }
        let table = trust.as_ref().map(|trust| trust as &dyn Reliability);
        let trusts = options.iter().any(Options::sums_trust);
        let answer = |kept: &Kept| {
            let question = &kept.question;
            let small = kept.check(claims_max.min(AT_HAND_MAX)).is_ok();
            (small && (!trusts || question.learned(table)))
                .then(|| self.answer_all((question, Some(kept.state)), options, trust))
        };
        let entry = self.store().questions.kept(&self.named(key))?;
        if let Some(kept) = &*entry.try_read().ok()?
            && kept.is_at(self.position(), first.valid_at)
        {
            return answer(kept);
        }
        let mut kept = entry.try_write().ok()?;
        let kept = kept.as_mut()?;
        if !self.pass(kept) {
            return None;
        }
        self.prepare(kept, first.valid_at);
        answer(kept)
    }

    fn answer_all(
        &self,
        question: (&Question, Option<State>),
        options: &[Options],
        trust: Option<Learned<'_>>,
    ) -> (Vec<Resolution>, usize) {
        let mut kept = 0;
        let answers = options.iter().map(|options| {
            let (answer, known) = self.store().answers.answer(question, options, trust);
            kept += usize::from(known);
            answer
        });
        (answers.collect(), kept)
    }

    /// The key that all of its entity are kept under.
    fn named(&self, key: &Key) -> Key {
        let subject = self.registry().canonical_subject(&key.space, &key.subject, self.position());
        Key { subject, ..key.clone() }
    }

    /// [`Snapshot::question`], and the state of one that is kept. `summed`: the table that its sums of
    /// trust are asked for under, or none; `None` if they are not asked for.
    fn asked<T>(
        &self,
        key: &Key,
        options: &Options,
        summed: Option<Option<&dyn Reliability>>,
        claims_max: usize,
        ask: impl FnOnce(&Question, Option<State>) -> T,
    ) -> Result<T, IndexError> {
        let as_of = self.position();
        let anew = || {
            let candidates = self.candidates(key, as_of, claims_max)?;
            Ok(Question::new(&candidates, options))
        };
        if !same_claims(options, &Options::new(options.lens, options.evaluated_at)) {
            return Ok(ask(&anew()?, None));
        }
        let named = self.named(key);
        let entry = self.store().questions.entry(&named);
        let learned = |question: &Question| summed.is_none_or(|table| question.learned(table));
        if let Ok(kept) = entry.read()
            && let Some(kept) = &*kept
            && kept.is_at(as_of, options.valid_at)
            && learned(&kept.question)
        {
            kept.check(claims_max)?;
            return Ok(ask(&kept.question, Some(kept.state)));
        }
        let mut kept = match entry.write() {
            Ok(kept) => kept,
            Err(poisoned) => {
                // Whoever panicked may have left it half done.
                let mut kept = poisoned.into_inner();
                *kept = None;
                entry.clear_poison();
                kept
            }
        };
        if kept.as_ref().is_some_and(|kept| kept.question.as_of() > as_of) {
            drop(kept);
            return Ok(ask(&anew()?, None));
        }
        let brought = match kept.take() {
            Some(known) => self.bring(known)?,
            None => None,
        };
        let known = match brought {
            Some(known) => known,
            None => self.make(&named, options, claims_max)?,
        };
        let known = kept.insert(known);
        self.prepare(known, options.valid_at);
        let answer = known.check(claims_max).map(|()| {
            if let Some(table) = summed {
                // It answers what it answered before, only faster: its state is the same.
                known.question.learn(table);
            }
            ask(&known.question, Some(known.state))
        });
        // One that is too large to be asked about takes its room all the same.
        let size = known.size();
        if known.weighed == 0 || size > known.weighed + known.weighed / WEIGHED_PARTS + 1 {
            known.weighed = size.max(1);
            let bytes = allocated(known.question.weight() as u64) + EMPTY_BYTES;
            // Before another one can bring it up to date and weigh more.
            self.store().questions.put(named, bytes, Arc::clone(&entry));
        }
        answer
    }

    /// The disagreement about a key, which is named by the smallest subject of its entity and stands in
    /// `rows`; `None` if all its claims say the same and nobody denies it. Of a key that was asked about
    /// before, or that has many claims, costs what was recorded since; else its claims.
    pub(crate) fn dispute(
        &self,
        key: &Key,
        rows: &[Rows],
        valid_at: Millis,
        claims_max: usize,
    ) -> Result<Option<Dispute>, IndexError> {
        let options = Options::new(LensName::Skeptic, valid_at);
        let ask = |question: &Question| Some(question.dispute(valid_at));
        if self.store().questions.holds(key) {
            return self.question(key, &options, claims_max, ask);
        }
        match self.alike(rows)? {
            Some(true) => Ok(None),
            Some(false) => {
                let candidates = self.candidates(key, self.position(), claims_max)?;
                Ok(ask(&Question::new(&candidates, &options)))
            }
            None => self.question(key, &options, claims_max, ask),
        }
    }

    /// Whether all claims say the same and nobody denies it; `None` if they are too many to look.
    fn alike(&self, rows: &[Rows]) -> Result<Option<bool>, IndexError> {
        let (mut first, mut claims, mut alike): (Option<Value>, usize, bool) = (None, 0, true);
        for rows in rows {
            let Some(number) = rows.number else { continue };
            alike &= !rows.opposing;
            let range = pair_key(number, Position::NONE)..=pair_key(number, self.position());
            for row in self.range(Table::Claims, range) {
                if claims >= if alike { ALIKE_MAX } else { KEPT_FROM } {
                    return Ok(None);
                }
                let (key, row) = row?;
                claims += 1;
                if !alike || !ClaimsRow::is_claim(&row) {
                    continue;
                }
                let bad = |Malformed| self.bad(Table::Claims, &key);
                let position = last_position(&key).ok_or_else(|| bad(Malformed))?;
                let ClaimsRow::Claim(claim) = ClaimsRow::decode(position, &row).map_err(bad)?
                else {
                    continue;
                };
                match &first {
                    Some(first) => alike = *first == claim.object,
                    None => first = Some(claim.object),
                }
            }
        }
        Ok(Some(alike))
    }

    fn make(&self, key: &Key, options: &Options, claims_max: usize) -> Result<Kept, IndexError> {
        let candidates = self.candidates(key, self.position(), claims_max)?;
        Ok(Kept {
            question: Question::new(&candidates, options),
            state: self.store().questions.new_state(),
            rows: self.rows_of(key, self.registry())?,
            facts: candidates.facts.len(),
            weighed: 0,
        })
    }

    /// The keys that make up a question.
    pub(crate) fn rows_of(&self, key: &Key, registry: &Registry) -> Result<Vec<Rows>, IndexError> {
        let as_of = self.position();
        let mut predicates = vec![(key.predicate.clone(), false)];
        if let Some(predicate) = registry.predicate(&key.space, &key.predicate, as_of)
            && predicate.cardinality == Cardinality::Many
        {
            let opposites = predicate.opposites.iter().filter(|name| **name != key.predicate);
            predicates.extend(opposites.map(|opposite| (opposite.clone(), true)));
        }
        let mut rows = Vec::new();
        for subject in registry.entity(&key.space, &key.subject, as_of) {
            for (predicate, opposing) in &predicates {
                let (subject, predicate) = (subject.clone(), predicate.clone());
                let mut one = Rows { subject, predicate, opposing: *opposing, number: None };
                self.find_number(key, &mut one)?;
                rows.push(one);
            }
        }
        Ok(rows)
    }

    fn find_number(&self, key: &Key, rows: &mut Rows) -> Result<(), IndexError> {
        let (subject, predicate) = (rows.subject.clone(), rows.predicate.clone());
        rows.number = self.key_number(&Key { space: key.space.clone(), subject, predicate })?;
        Ok(())
    }

    /// Brings a question to this position if that takes no look into storage.
    fn pass(&self, kept: &mut Kept) -> bool {
        let (since, as_of) = (kept.question.as_of(), self.position());
        if since == as_of {
            return true;
        }
        let touched = &self.store().touched;
        let rows_touched = |rows: &Rows| {
            rows.number.is_none_or(|number| touched.since(Table::Claims, number, since))
        };
        let fact_touched = |claim: &Position| touched.since(Table::Facts, claim.0, since);
        let pass = since < as_of
            && self.registered() <= since
            && !kept.rows.iter().any(rows_touched)
            && !kept.question.related().iter().any(fact_touched);
        if pass {
            kept.question.pass(self.registry(), as_of);
        }
        pass
    }

    fn prepare(&self, kept: &mut Kept, valid_at: Millis) {
        if !kept.question.ready(valid_at) {
            kept.question.prepare(valid_at);
            kept.state = self.store().questions.new_state();
        }
    }

    /// Brings a question to this position; `None` if it is easier, or the only way, to make it anew.
    fn bring(&self, mut kept: Kept) -> Result<Option<Kept>, IndexError> {
        if self.pass(&mut kept) {
            return Ok(Some(kept));
        }
        let since = kept.question.as_of();
        if self.concerned(&kept.question, since)? {
            return Ok(None);
        }
        let mut touched = BTreeSet::new();
        let key = kept.question.key().clone();
        for rows in &mut kept.rows {
            if rows.number.is_none() {
                self.find_number(&key, rows)?;
            }
            if let Some(number) = rows.number
                && self.store().touched.since(Table::Claims, number, since)
            {
                self.newest_rows(number, since, &mut touched, &mut kept.facts)?;
            }
        }
        self.newest_facts(kept.question.related(), since, &mut touched, &mut kept.facts)?;
        let affected = kept.question.affected(touched);
        let known = kept.question.claims();
        if affected.len() > 64 + known / 2 {
            return Ok(None);
        }
        let changed = self.some_candidates(&key, &kept.rows, &affected)?;
        for claim in &changed.related {
            if !kept.question.knows(claim.position) {
                kept.facts += self.facts_under(claim.position, self.position())?.len();
            }
        }
        kept.question.apply(&changed);
        if !affected.is_empty() {
            kept.state = self.store().questions.new_state();
        }
        Ok(Some(kept))
    }

    /// Whether a registry record since then changes what is known already.
    fn concerned(&self, question: &Question, since: Position) -> Result<bool, IndexError> {
        if self.registered() <= since {
            return Ok(false);
        }
        let range = position_key(since.next())..=position_key(self.position());
        for row in self.range(Table::Registry, range) {
            let (key, _) = row?;
            let bad = || self.bad(Table::Registry, &key);
            let position = last_position(&key).ok_or_else(bad)?;
            let signed = self.signed(position)?.ok_or_else(bad)?;
            if question.concerned_by(signed.record()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The claims of a key recorded since, and those that something was said of.
    fn newest_rows(
        &self,
        number: u64,
        since: Position,
        touched: &mut BTreeSet<Position>,
        facts: &mut usize,
    ) -> Result<(), IndexError> {
        let range = pair_key(number, since.next())..=pair_key(number, self.position());
        for row in self.range(Table::Claims, range) {
            let (key, row) = row?;
            let position = last_position(&key).ok_or_else(|| self.bad(Table::Claims, &key))?;
            if ClaimsRow::is_claim(&row) {
                touched.insert(position);
                continue;
            }
            *facts += 1;
            touched.insert(self.home(position)?);
        }
        Ok(())
    }

    /// The claims of other keys that something was said of since. Looks for facts about each of them,
    /// or at each record since, whichever is less.
    fn newest_facts(
        &self,
        related: &BTreeSet<Position>,
        since: Position,
        touched: &mut BTreeSet<Position>,
        facts: &mut usize,
    ) -> Result<(), IndexError> {
        let facts_since = &self.store().touched;
        let related: BTreeSet<Position> = related
            .iter()
            .filter(|claim| facts_since.since(Table::Facts, claim.0, since))
            .copied()
            .collect();
        if related.is_empty() {
            return Ok(());
        }
        let records = self.position().0.saturating_sub(since.0);
        if records < related.len() as u64 {
            for position in since.0 + 1..=self.position().0 {
                let Some(id) = self.id(Position(position))? else { continue };
                let home = self.id_row(&id)?.and_then(|row| row.home);
                if let Some(home) = home.filter(|home| related.contains(&home.assertion)) {
                    *facts += 1;
                    touched.insert(home.assertion);
                }
            }
            return Ok(());
        }
        for assertion in &related {
            let range =
                pair_key(assertion.0, since.next())..=pair_key(assertion.0, self.position());
            for row in self.range(Table::Facts, range) {
                row?;
                *facts += 1;
                touched.insert(*assertion);
            }
        }
        Ok(())
    }

    /// The assertion that a fact is about in the end.
    fn home(&self, fact: Position) -> Result<Position, IndexError> {
        let id = self.id(fact)?;
        let row = match id {
            Some(id) => self.id_row(&id)?,
            None => None,
        };
        let home = row.and_then(|row| row.home);
        home.map(|home| home.assertion)
            .ok_or_else(|| self.store().damaged(format_args!("fact {fact} is about no assertion")))
    }

    /// Some claims of a key and all that they depend on.
    fn some_candidates(
        &self,
        key: &Key,
        rows: &[Rows],
        wanted: &BTreeSet<Position>,
    ) -> Result<Candidates, IndexError> {
        let (mut claims, mut opposing, mut facts) = (Vec::new(), Vec::new(), Vec::new());
        for position in wanted {
            for rows in rows {
                let Some(number) = rows.number else { continue };
                let row = self.store().read(
                    self.tables(),
                    Table::Claims,
                    &pair_key(number, *position),
                    |row| ClaimsRow::decode(*position, row),
                )?;
                let Some(ClaimsRow::Claim(row)) = row else { continue };
                let claim = self.claim_from(*position, &rows.subject, &rows.predicate, row)?;
                if rows.opposing { &mut opposing } else { &mut claims }.push(claim);
                facts.extend(self.facts_under(*position, self.position())?);
                break;
            }
        }
        self.depending(key.clone(), claims, opposing, facts)
    }
}

/// With what the allocator rounds up and keeps between: a quarter, measured at a hundred thousand questions
/// of ten claims.
fn allocated(bytes: u64) -> u64 {
    bytes + bytes / 4
}

impl Kept {
    /// Whether it answers at this position, and for this time of validity, as it is.
    fn is_at(&self, position: Position, valid_at: Millis) -> bool {
        self.question.as_of() == position && self.question.ready(valid_at)
    }

    /// How large it is, as a number of claims, about.
    fn size(&self) -> usize {
        self.question.claims() + self.facts + self.question.text_bytes() / CLAIM_BYTES
    }

    fn check(&self, bound: usize) -> Result<(), IndexError> {
        let (claims, facts) = (self.question.claims() + self.question.related().len(), self.facts);
        match claims > bound || facts > bound {
            true => Err(IndexError::TooLarge { claims, facts, bound }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_may_take_most_of_the_memory() {
        let key = |name: &str| Key {
            space: stemedb_model::Space::default(),
            subject: Subject::parse(name).unwrap(),
            predicate: PredicateName::parse("p").unwrap(),
        };
        let questions = Questions::new(1 << 20);
        let (small, large) = (questions.entry(&key("small")), questions.entry(&key("large")));
        questions.put(key("large"), 900_000, Arc::clone(&large));
        assert!(Arc::ptr_eq(&questions.entry(&key("large")), &large));
        assert!(Arc::ptr_eq(&questions.entry(&key("small")), &small));
        // What cannot be kept is made anew each time.
        questions.put(key("large"), 2 << 20, Arc::clone(&large));
        assert!(!Arc::ptr_eq(&questions.entry(&key("large")), &large));
    }
}
