//! A read at one position.

use std::ops::RangeBounds;
use std::sync::Arc;

use fjall::{Readable, UserKey, UserValue};
use stemedb_lens::{Claim, Fact};
use stemedb_model::{
    AgentId, Hash, Key, Millis, Position, PredicateName, Principal, RecordId, Registry, Signed,
    SourceKey, Subject,
};

use crate::bytes::Malformed;
use crate::entry::Entry;
use crate::error::IndexError;
use crate::fold::key_of;
use crate::format::{NameTag, Table, key_key, last_position, pair_key, position_key, time_key};
use crate::index::{Counters, Cut};
use crate::lost::Lost;
use crate::rows::{ClaimRow, ClaimsRow, FactRow, IdRow, RecordRow, SourceRow};
use crate::store::{Name, Store, number};

/// The database at one position, storage and registries alike; later groups do not show. Cheap to
/// clone, and to hold for a moment: what is written meanwhile stays in memory, and the folder locked.
///
/// Reads take an `as_of` where an earlier position can be asked for; one beyond
/// [`Snapshot::position`] means that.
#[derive(Clone)]
pub struct Snapshot {
    store: Arc<Store>,
    cut: Arc<Cut>,
}

impl Snapshot {
    pub(crate) fn new(store: Arc<Store>, cut: Arc<Cut>) -> Self {
        Self { store, cut }
    }

    /// The newest position it shows; [`Position::NONE`] when empty.
    pub fn position(&self) -> Position {
        self.cut.applied.position
    }

    /// When that was committed; the smallest time when empty.
    pub fn recorded_at(&self) -> Millis {
        self.cut.applied.recorded_at
    }

    /// The registries at every position up to this one.
    pub fn registry(&self) -> &Registry {
        &self.cut.registry
    }

    /// The newest record that a registry holds.
    pub(crate) fn registered(&self) -> Position {
        self.cut.registered
    }

    /// Positions up to this one that a repair of the log gave up.
    pub fn lost(&self) -> &Lost {
        &self.cut.lost
    }

    /// How many of each thing there are.
    pub fn counters(&self) -> &Counters {
        &self.cut.applied.counters
    }

    /// Whether both are of one state of one index. The newer one may stand in for the other.
    pub fn same_state(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.store, &other.store) && self.position() == other.position()
    }

    /// Why the index behind it stopped; `None` while it is well. Answers of the `Known` interface,
    /// which cannot fail, are to be believed only while this is `None` after them.
    pub fn failure(&self) -> Option<&str> {
        self.store.failure()
    }

    /// The last position recorded at or before `time`; [`Position::NONE`] if there is none.
    pub fn position_at(&self, time: Millis) -> Result<Position, IndexError> {
        let mut rows = self.range(Table::Times, ..=time_key(time));
        match rows.next_back() {
            Some(row) => {
                let (key, row) = row?;
                let position = number(&row).map_err(|Malformed| self.bad(Table::Times, &key))?;
                Ok(Position(position))
            }
            None => Ok(Position::NONE),
        }
    }

    /// Where the record with this id is.
    pub fn position_of(&self, id: &RecordId) -> Result<Option<Position>, IndexError> {
        Ok(self.id_row(id)?.map(|row| row.position))
    }

    /// The record at a position, with its envelope; `None` outside `1..=position()` and where it is
    /// lost. Not verified again: it was when it was written.
    pub fn entry(&self, position: Position) -> Result<Option<Entry>, IndexError> {
        let key = position_key(position);
        let Some(row) = self.store.get(self.tables(), Table::Records, &key)? else {
            return Ok(None);
        };
        let row = RecordRow::decode(&row).map_err(|Malformed| self.bad(Table::Records, &key))?;
        let signed = Signed::trusted(row.bytes, row.signature)
            .map_err(|_| self.bad(Table::Records, &key))?;
        Ok(Some(Entry {
            position,
            recorded_at: row.recorded_at,
            principal: self.principal(row.principal)?,
            custodial: row.custodial,
            idempotency: row.idempotency,
            signed,
        }))
    }

    /// The id of the record at a position; `None` outside `1..=position()`. Costs a read and a hash of
    /// the record where it was not asked for lately.
    pub fn id(&self, position: Position) -> Result<Option<RecordId>, IndexError> {
        if position > self.position() {
            return Ok(None);
        }
        self.store.id(position, || Ok(self.signed(position)?.map(|signed| signed.id())))
    }

    /// The same if memory holds it; never looks into storage.
    pub fn known_id(&self, position: Position) -> Option<RecordId> {
        self.store.known_id(position).filter(|_| position <= self.position())
    }

    /// The id of an assertion that a read of this snapshot named.
    pub fn id_of_claim(&self, position: Position) -> Result<RecordId, IndexError> {
        let missing = || self.store.damaged(format_args!("no record at {position}, a claim"));
        self.id(position)?.ok_or_else(missing)
    }

    /// The newest record written under this hash of (principal, idempotency key).
    pub fn idempotency(&self, hash: &Hash) -> Result<Option<Position>, IndexError> {
        let position =
            self.store.read(self.tables(), Table::Idempotency, hash.as_bytes(), number)?;
        Ok(position.map(Position))
    }

    /// The assertion at a position as resolution sees it; `None` if no assertion is there.
    pub fn claim(&self, position: Position) -> Result<Option<Claim>, IndexError> {
        let Some(signed) = self.signed(position)? else { return Ok(None) };
        let Some(key) = key_of(signed.record()) else { return Ok(None) };
        let Some(number) = self.key_number(&key)? else { return Ok(None) };
        let row = pair_key(number, position);
        match self
            .store
            .read(self.tables(), Table::Claims, &row, |row| ClaimsRow::decode(position, row))?
        {
            Some(ClaimsRow::Claim(row)) => {
                self.claim_from(position, &key.subject, &key.predicate, row).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The facts about one record, assertion or itself a fact, ascending by position; none for
    /// records of other kinds, whose retractions the registry knows.
    ///
    /// Costs all facts about the assertion that the record belongs to.
    pub fn facts(&self, target: Position, as_of: Position) -> Result<Vec<Fact>, IndexError> {
        let Some(id) = self.id(target)? else { return Ok(Vec::new()) };
        let Some(home) = self.id_row(&id)?.and_then(|row| row.home) else {
            return Ok(Vec::new());
        };
        let mut facts = self.facts_under(home.assertion, as_of)?;
        facts.retain(|fact| fact.target == target);
        Ok(facts)
    }

    /// The facts about an assertion, and those about these, ascending by position.
    pub fn facts_under(
        &self,
        assertion: Position,
        as_of: Position,
    ) -> Result<Vec<Fact>, IndexError> {
        let range = pair_key(assertion.0, Position::NONE)..=pair_key(assertion.0, as_of);
        let mut facts = Vec::new();
        for row in self.range(Table::Facts, range) {
            let (key, row) = row?;
            let position = last_position(&key).ok_or_else(|| self.bad(Table::Facts, &key))?;
            let row = FactRow::decode(position, &row)
                .map_err(|Malformed| self.bad(Table::Facts, &key))?;
            facts.push(self.fact_from(position, row)?);
        }
        Ok(facts)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn tables(&self) -> &fjall::Snapshot {
        &self.cut.tables
    }

    /// The rows of a range of keys, in their order.
    pub(crate) fn range<K: AsRef<[u8]>>(
        &self,
        table: Table,
        range: impl RangeBounds<K>,
    ) -> impl DoubleEndedIterator<Item = Result<(UserKey, UserValue), IndexError>> {
        self.tables()
            .range(self.store.table(table), range)
            .map(|row| row.into_inner().map_err(|error| self.store.storage("read index", &error)))
    }

    /// The rows of a table. Costs its scan.
    pub(crate) fn count(&self, table: Table) -> Result<u64, IndexError> {
        let rows = self.tables().len(self.store.table(table));
        rows.map(|rows| rows as u64).map_err(|error| self.store.storage("read index", &error))
    }

    pub(crate) fn bad(&self, table: Table, key: &[u8]) -> IndexError {
        self.store.damaged_row(table, key)
    }

    pub(crate) fn id_row(&self, id: &RecordId) -> Result<Option<IdRow>, IndexError> {
        self.store.read(self.tables(), Table::Ids, id.as_bytes(), IdRow::decode)
    }

    /// The record at a position, without its envelope.
    pub(crate) fn signed(&self, position: Position) -> Result<Option<Signed>, IndexError> {
        let key = position_key(position);
        self.store.read(self.tables(), Table::Records, &key, |row| {
            let row = RecordRow::decode(row)?;
            Signed::trusted(row.bytes, row.signature).map_err(|_| Malformed)
        })
    }

    /// The number of a key: the position of its first claim.
    pub(crate) fn key_number(&self, key: &Key) -> Result<Option<u64>, IndexError> {
        let mut row = Vec::new();
        key_key(&mut row, &key.space, &key.subject, &key.predicate);
        self.store.read(self.tables(), Table::Keys, &row, number)
    }

    pub(crate) fn claim_from(
        &self,
        position: Position,
        subject: &Subject,
        predicate: &PredicateName,
        row: ClaimRow,
    ) -> Result<Claim, IndexError> {
        let agent = self.agent(row.agent)?;
        Ok(Claim {
            position,
            subject: subject.clone(),
            predicate: predicate.clone(),
            agent,
            principal: self.principal(row.principal)?,
            at: row.at,
            recorded_at: row.recorded_at,
            source: match row.source {
                SourceRow::Agent => SourceKey::Agent(agent),
                SourceRow::Evidence(number) => self.source(NameTag::Evidence, number)?,
                SourceRow::Uri(number) => self.source(NameTag::Uri, number)?,
            },
            class: row.class,
            object: row.object,
            confidence: row.confidence,
            valid_from: row.valid_from,
            valid_to: row.valid_to,
            epoch: row.epoch,
            lifecycle: row.lifecycle,
            parent: row.parent,
            premises: row.premises,
        })
    }

    pub(crate) fn fact_from(&self, position: Position, row: FactRow) -> Result<Fact, IndexError> {
        Ok(Fact {
            position,
            target: row.target,
            agent: self.agent(row.agent)?,
            principal: self.principal(row.principal)?,
            at: row.at,
            recorded_at: row.recorded_at,
            kind: row.kind,
        })
    }

    fn agent(&self, number: u64) -> Result<AgentId, IndexError> {
        match self.store.name(self.tables(), NameTag::Agent, number)? {
            Name::Agent(agent) => Ok(agent),
            _ => Err(self.store.damaged(format_args!("name of agent {number}"))),
        }
    }

    fn principal(&self, number: u64) -> Result<Principal, IndexError> {
        match self.store.name(self.tables(), NameTag::Principal, number)? {
            Name::Principal(principal) => Ok(principal),
            _ => Err(self.store.damaged(format_args!("name of principal {number}"))),
        }
    }

    fn source(&self, tag: NameTag, number: u64) -> Result<SourceKey, IndexError> {
        match self.store.name(self.tables(), tag, number)? {
            Name::Source(source) => Ok(source),
            _ => Err(self.store.damaged(format_args!("name of source {number}"))),
        }
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("position", &self.position()).finish_non_exhaustive()
    }
}
