//! Reading: the database at one position, evaluated at one time.

use std::collections::BTreeSet;
use std::sync::Arc;

use stemedb_index::{Entry, Filter, KeyFilter, Learned, Page, Snapshot};
use stemedb_lens::{
    Candidates, Change, CustomLens, Excluded, Fact, FactKind, LensName, Options, Question, Reason,
    Resolution, Standing, changes, resolve_many, same_claims, standings,
};
use stemedb_model::{Body, Hash, Key, Kind, LensState, Millis, Position, RecordId, Space};

use crate::error::ReadError;
use crate::fates::Fate;
use crate::metrics::{self, Operation};
use crate::shared::Shared;
use crate::token::SnapshotToken;
use crate::trust::reliability;

/// How many lenses are named to somebody who asked for another.
const LENSES_TOLD: usize = 40;

/// Which past is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// After this record.
    Position(Position),
    /// After the last record committed at or before this time.
    Time(Millis),
}

/// The database at one position. Every answer it gives is of that position, whatever is written
/// meanwhile. Cheap to clone. Keeps the index open while it lives, and in memory what is written
/// meanwhile: of a long walk, [`View::renew`] it between two steps.
#[derive(Clone)]
pub struct View {
    pub(crate) shared: Arc<Shared>,
    snapshot: Snapshot,
    as_of: Position,
    evaluated_at: Millis,
}

/// One record and what the log says of it.
#[derive(Debug, Clone)]
pub struct RecordView {
    /// The record with its envelope.
    pub entry: Entry,
    /// Of an assertion: tier, voice, lifecycle state and exclusion under default options.
    pub standing: Option<Standing>,
    /// Why it does not count, as of the view, if it does not: of an assertion, what its standing
    /// says; of other records, `retracted` or `agent_revoked`.
    pub excluded: Option<Excluded>,
    /// Votes, cosigns, retractions, supersessions and lifecycle records about an assertion or
    /// about another of these, ascending by position, those that do not count among them.
    pub facts: Vec<Fact>,
}

/// One answer at two moments.
#[derive(Debug, Clone)]
pub struct Diff {
    /// The later one.
    pub now: Resolution,
    /// The earlier one.
    pub then: Resolution,
    /// Whether something else is registered about the predicate.
    pub predicate_changed: bool,
    /// What became of the claims in between, by position.
    pub changes: Vec<Change>,
}

impl View {
    pub(crate) fn newest(shared: Arc<Shared>, snapshot: Snapshot, now: Millis) -> Self {
        let as_of = snapshot.position();
        let evaluated_at = now.max(snapshot.recorded_at());
        Self { shared, snapshot, as_of, evaluated_at }
    }

    /// The same database at an earlier moment: weights are then taken at that moment too. Refuses
    /// positions and times that are still to come, since their answers could change.
    pub fn as_of(&self, as_of: AsOf) -> Result<Self, ReadError> {
        let (position, evaluated_at) = match as_of {
            AsOf::Position(asked) if asked > self.as_of => {
                return Err(ReadError::AheadOfLog { asked, newest: self.as_of });
            }
            // Before the first record nothing has weight at any time.
            AsOf::Position(Position::NONE) => (Position::NONE, Millis(0)),
            AsOf::Position(asked) => {
                // At a lost position the moment is that of the record before it.
                let entry = self.snapshot.entry(self.snapshot.lost().record_at(asked))?;
                (asked, entry.map_or(self.evaluated_at, |entry| entry.recorded_at))
            }
            AsOf::Time(asked) if asked > self.evaluated_at => {
                return Err(ReadError::AheadOfClock { asked, now: self.evaluated_at });
            }
            AsOf::Time(asked) => (self.snapshot.position_at(asked)?.min(self.as_of), asked),
        };
        Ok(Self { as_of: position, evaluated_at, ..self.clone() })
    }

    /// The same position, with weights taken at another time.
    #[must_use]
    pub fn evaluated(&self, evaluated_at: Millis) -> Self {
        Self { evaluated_at, ..self.clone() }
    }

    /// Lets go of the state of the index that it has held so far, for the newest one: what it says
    /// stays the same, of the same position and time. Costs no look into storage.
    ///
    /// [`View::resolve`] then begins with the claims of the key, as of any earlier position.
    pub fn renew(&mut self) {
        let newest = self.shared.applied.newest();
        // No index is put to use before it is as far as the one before. If that ever failed, the old
        // state would still answer rightly.
        if newest.position() >= self.as_of {
            self.snapshot = newest;
        }
    }

    /// The newest record that answers rest on.
    pub fn position(&self) -> Position {
        self.as_of
    }

    /// The time that weights are taken at: with `as_of` that time, else the later of the clock
    /// and the newest commit. The default of `valid_at` too.
    pub fn evaluated_at(&self) -> Millis {
        self.evaluated_at
    }

    /// Position and timeline in one, for answers.
    pub fn token(&self) -> SnapshotToken {
        SnapshotToken { timeline: self.shared.timeline, position: self.as_of }
    }

    /// The index at this or a later position; give its reads [`View::position`] as `as_of`.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The default options of a lens here.
    pub fn options(&self, lens: LensName) -> Options {
        Options::new(lens, self.evaluated_at)
    }

    /// A lens of one's own as it stands here: this version, or the highest one.
    pub fn lens(
        &self,
        space: &Space,
        name: &str,
        version: Option<u64>,
    ) -> Result<(LensState, Arc<CustomLens>), ReadError> {
        let registry = self.snapshot.registry();
        let Some(state) = registry.lens(space, name, version, self.as_of) else {
            let asked = version.map_or(name.to_owned(), |version| format!("{name}@{version}"));
            let built_in = LensName::ALL.iter().map(|lens| lens.as_str().to_owned());
            let own = registry.lenses(space, self.as_of).into_iter();
            let own = own.map(|state| format!("{}@{}", state.lens.name, state.lens.version));
            let known = built_in.chain(own).take(LENSES_TOLD).collect();
            return Err(ReadError::LensUnknown { asked, known });
        };
        match CustomLens::new(Arc::clone(&state.lens)) {
            Ok(lens) => Ok((state, Arc::new(lens))),
            Err(problem) => {
                let name = format!("{}@{}", state.lens.name, state.lens.version);
                Err(ReadError::LensUnusable { name, problem })
            }
        }
    }

    /// Answers one key under each of `options`, in their order. Of the newest position, and with the
    /// claims that take part by default, costs the distinct values of the key and what was recorded
    /// about it since it was asked about last, and less where the answer itself was kept; else its
    /// claims.
    ///
    /// Never made from a part: past the configured bound it is
    /// [`IndexError::TooLarge`](stemedb_index::IndexError::TooLarge). Lenses that ask for learned
    /// trust need its table: see [`View::trust`].
    pub fn resolve(&self, key: &Key, options: &[Options]) -> Result<Vec<Resolution>, ReadError> {
        let trust = match options.iter().any(Options::uses_trust) {
            true => self.trust(&key.space)?,
            false => None,
        };
        if options.is_empty() {
            return Ok(Vec::new());
        }
        if !self.is_of_one_question(options) {
            let trust = reliability(trust.as_ref());
            return Ok(resolve_many(&self.candidates(key)?, options, trust));
        }
        let trust = trust.as_ref().zip(self.trust_snapshot(&key.space));
        let trust = trust
            .map(|(table, in_force)| Learned { table: &**table, hash: in_force.snapshot.table });
        let claims_max = self.shared.config.resolve_claims_max;
        let (answers, kept) =
            self.read(|snapshot| snapshot.answers(key, options, trust, claims_max))?;
        metrics::answers(kept, answers.len() - kept);
        Ok(answers)
    }

    /// The same if memory holds all that it takes and it costs microseconds; `None`: ask
    /// [`View::resolve`]. Never waits, so it may be called where nothing may.
    pub fn resolve_at_hand(&self, key: &Key, options: &[Options]) -> Option<Vec<Resolution>> {
        if !self.is_of_one_question(options) {
            return None;
        }
        let trust = match options.iter().any(Options::uses_trust) {
            true => self.known_trust(&key.space)?,
            false => None,
        };
        let trust = trust.as_ref().map(|(table, hash)| Learned { table: &**table, hash: *hash });
        let claims_max = self.shared.config.resolve_claims_max;
        let since = self.shared.clock.monotonic();
        let (answers, kept) = self.snapshot.answers_at_hand(key, options, trust, claims_max)?;
        let took = self.shared.clock.monotonic().saturating_sub(since);
        metrics::operation(Operation::Read, took, false);
        metrics::answers(kept, answers.len() - kept);
        Some(answers)
    }

    /// Whether these are asked of what questions are kept of: the newest position, and the claims that
    /// take part by default, at one time.
    fn is_of_one_question(&self, options: &[Options]) -> bool {
        let defaults = self.options(LensName::Authority);
        let valid_at = options.first().map(|first| first.valid_at);
        let of_one = |one: &Options| same_claims(one, &defaults) && Some(one.valid_at) == valid_at;
        self.as_of == self.snapshot.position() && options.iter().all(of_one)
    }

    /// The answer to one key here and at `earlier`, and what became of its claims in between. `options`
    /// are those of here and of there. Costs two resolutions, within the bound of [`View::resolve`].
    pub fn diff(
        &self,
        earlier: &Self,
        key: &Key,
        [now, then]: [&Options; 2],
    ) -> Result<Diff, ReadError> {
        let (here, there) = (self.candidates(key)?, earlier.candidates(key)?);
        let answer = |view: &Self, candidates: &Candidates, options: &Options| {
            let trust = match options.uses_trust() {
                true => view.trust(&key.space)?,
                false => None,
            };
            let (question, trust) =
                (Question::new(candidates, options), reliability(trust.as_ref()));
            let standings = question.standings(options, trust);
            Ok::<_, ReadError>((question.answer(options, trust), standings))
        };
        let (answer_now, standings_now) = answer(self, &here, now)?;
        let (answer_then, standings_then) = answer(earlier, &there, then)?;
        let predicate =
            |at: Position| self.snapshot.registry().predicate(&key.space, &key.predicate, at);
        Ok(Diff {
            predicate_changed: predicate(self.as_of) != predicate(earlier.as_of),
            now: answer_now,
            then: answer_then,
            changes: changes(&standings_then, &standings_now, &here, earlier.position()),
        })
    }

    /// Everything the log says about a key, whole, for what `resolve` does not answer.
    pub fn candidates(&self, key: &Key) -> Result<Candidates, ReadError> {
        let claims_max = self.shared.config.resolve_claims_max;
        self.read(|snapshot| snapshot.candidates(key, self.as_of, claims_max))
    }

    /// A record by its id; `None` if the log does not hold it at this position. Of one that is on
    /// its way, or was given to a log that failed, [`ReadError::Undecided`].
    pub fn find(&self, id: &RecordId) -> Result<Option<Entry>, ReadError> {
        let position = self.read(|snapshot| snapshot.position_of(id))?;
        match position {
            Some(position) if position <= self.as_of => self.entry(position),
            Some(_) => Ok(None),
            None => match self.shared.fates.of(id) {
                Some(Fate::Durable(position)) => Err(ReadError::NotApplied { id: *id, position }),
                Some(Fate::Undecided) => Err(ReadError::Undecided { id: *id }),
                // On its way, unless it has arrived, after this view's position.
                None if self.shared.intake.holds(id)
                    && self.shared.applied.newest().position_of(id)?.is_none() =>
                {
                    Err(ReadError::Undecided { id: *id })
                }
                None => Ok(None),
            },
        }
    }

    /// A record by its id, with what the log says of it. Of an assertion that costs its whole key,
    /// within the bound of [`View::resolve`]; [`View::find`] costs the record alone.
    pub fn record(&self, id: &RecordId) -> Result<Option<RecordView>, ReadError> {
        let Some(entry) = self.find(id)? else { return Ok(None) };
        let position = entry.position;
        let kind = entry.signed.record().kind();
        let facts = match kind {
            Kind::Assertion => self.read(|snapshot| snapshot.facts_under(position, self.as_of))?,
            _ => self.read(|snapshot| snapshot.facts(position, self.as_of))?,
        };
        let (standing, excluded) = match key_of(&entry) {
            Some(key) => {
                let standing = self.standing(&key, position)?;
                let excluded = standing.as_ref().and_then(|standing| standing.excluded.clone());
                (standing, excluded)
            }
            None => (None, self.record_excluded(&entry, &facts)),
        };
        Ok(Some(RecordView { entry, standing, excluded, facts }))
    }

    /// How an assertion stands in its key, under default options. Costs the key.
    fn standing(&self, key: &Key, position: Position) -> Result<Option<Standing>, ReadError> {
        let candidates = self.candidates(key)?;
        let standings = standings(&candidates, &self.options(LensName::Authority));
        Ok(standings.into_iter().find(|standing| standing.position == position))
    }

    /// Why a record that is no assertion does not count.
    fn record_excluded(&self, entry: &Entry, facts: &[Fact]) -> Option<Excluded> {
        let registry = self.snapshot.registry();
        let record = entry.signed.record();
        let excluded = |reason, by| Excluded { position: entry.position, reason, by };
        let (space, position) = (&record.space, entry.position);
        if let Some(by) = registry.revoked_by(space, &record.agent, position, self.as_of) {
            return Some(excluded(Reason::AgentRevoked, Some(by)));
        }
        // Registries fold the retractions of what they hold themselves.
        if registry.holds(&entry.signed.id(), self.as_of) == Some(false) {
            return Some(excluded(Reason::Retracted, None));
        }
        // A retraction is newer than what it takes back, so from the newest down each is decided
        // before its target is met.
        let mut retracted = BTreeSet::new();
        let mut by = None;
        for fact in facts.iter().rev() {
            let live = !retracted.contains(&fact.position)
                && registry.counts(space, &fact.agent, fact.position, self.as_of);
            if live && fact.kind == FactKind::Retract {
                retracted.insert(fact.target);
                if fact.target == entry.position {
                    by = Some(fact.position);
                }
            }
        }
        by.map(|by| excluded(Reason::Retracted, Some(by)))
    }

    /// The record at a position; `None` outside `1..=position()`, [`ReadError::Lost`] where a
    /// repair of the log gave it up.
    pub fn entry(&self, position: Position) -> Result<Option<Entry>, ReadError> {
        if position > self.as_of {
            return Ok(None);
        }
        let found = self.read(|snapshot| snapshot.entry(position))?;
        match self.snapshot.lost().at(position) {
            Some((first, last)) if found.is_none() => {
                Err(ReadError::Lost { position, first, last })
            }
            _ => Ok(found),
        }
    }

    /// Whether a repair of the log gave up any position that this view's answers would rest on.
    pub fn history_lost(&self) -> bool {
        self.snapshot.lost().any_up_to(self.as_of)
    }

    /// Up to `limit` records from `from` on, in order; lost ones are passed over.
    pub fn entries(&self, from: Position, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        let mut position = from.max(Position(1));
        while entries.len() < limit && position <= self.as_of {
            if let Some((_, last)) = self.snapshot.lost().at(position) {
                position = last.next();
                continue;
            }
            let Some(entry) = self.entry(position)? else { break };
            entries.push(entry);
            position = position.next();
        }
        Ok(entries)
    }

    /// Assertions that fit `filter`, excluded ones among them, ascending by position: up to
    /// `limit` of those after `after`, and where to go on.
    pub fn assertions(
        &self,
        filter: &Filter,
        after: Option<Position>,
        limit: usize,
    ) -> Result<(Vec<Entry>, Option<Position>), ReadError> {
        let page = self.read(|snapshot| snapshot.assertions(filter, self.as_of, after, limit))?;
        let mut entries = Vec::with_capacity(page.items.len());
        for position in page.items {
            entries.extend(self.entry(position)?);
        }
        Ok((entries, page.next))
    }

    /// Keys that fit `filter`, in byte order: up to `limit` of those after `after`.
    pub fn keys(
        &self,
        filter: &KeyFilter,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page<Key>, ReadError> {
        self.read(|snapshot| snapshot.keys(filter, self.as_of, after, limit))
    }

    /// The chain hash of the log at its newest group, with the position that it stands for; that
    /// may be newer than this view.
    pub fn log_root(&self) -> (Position, Hash) {
        self.shared.log.root()
    }

    /// One look into the index, timed and counted.
    fn read<T, E>(&self, look: impl FnOnce(&Snapshot) -> Result<T, E>) -> Result<T, ReadError>
    where
        ReadError: From<E>,
    {
        let since = self.shared.clock.monotonic();
        let result = look(&self.snapshot);
        let took = self.shared.clock.monotonic().saturating_sub(since);
        metrics::operation(Operation::Read, took, result.is_err());
        Ok(result?)
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("position", &self.as_of)
            .field("evaluated_at", &self.evaluated_at)
            .finish_non_exhaustive()
    }
}

/// The key of an assertion as written.
pub(crate) fn key_of(entry: &Entry) -> Option<Key> {
    let record = entry.signed.record();
    let Body::Assertion(assertion) = &record.body else { return None };
    Some(Key {
        space: record.space.clone(),
        subject: assertion.subject.clone(),
        predicate: assertion.predicate.clone(),
    })
}
