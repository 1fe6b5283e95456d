//! Bringing the list of conflicts up to date.

use std::collections::HashSet;

use fjall::{OwnedWriteBatch, PersistMode};
use stemedb_lens::Dispute;
use stemedb_model::{Key, Millis, Position};

use super::touched::{Touched, Toucher};
use super::{ConflictPlace, ConflictStanding, conflict_key, encode, place_of, standing};
use crate::bytes::{Malformed, Reader, push_zigzag};
use crate::error::IndexError;
use crate::fold::key_of;
use crate::format::{Table, last_position, meta, parse_position, position_key, time_key};
use crate::index::Index;
use crate::pages::KeyFilter;
use crate::snapshot::Snapshot;
use crate::store::Store;

/// Records looked over in one step, and keys whose time has come.
const RECORDS_MAX: u64 = 4 << 10;
const DUE_MAX: usize = 4 << 10;
/// Keys judged between two batches, and listed at a time where all are judged.
const BATCH_KEYS: usize = 256;

const IN_CONFLICT: u8 = 1;
const REFERS: u8 = 2;
const BY_COSIGNER: u8 = 4;
const TOO_LARGE: u8 = 8;
const DUE: u8 = 16;

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    /// Where the list stands now.
    pub standing: ConflictStanding,
    /// There is more to do at once.
    pub more: bool,
    /// Keys that were judged.
    pub judged: u64,
}

impl Index {
    /// Takes a step towards [`Index::applied`]: some thousand records, with all keys that they touch.
    /// `now` is the time that validity is judged at; keys with more than `claims_max` claims are not
    /// judged, only counted. Between batches it asks whether to `stop`; what was done then is kept, and
    /// done again next time.
    ///
    /// Costs a few point reads for each claim on a key where all say the same, else what a question
    /// about the key costs; a broad record that for each of its keys. Never makes [`Index::apply`] wait
    /// for longer than one batch takes to write.
    pub fn follow_conflicts(
        &self,
        now: Millis,
        claims_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Followed, IndexError> {
        let _alone = self.follow();
        let (store, snapshot) = (self.store(), self.snapshot());
        store.check_alive()?;
        let known = standing(store, &store.db.snapshot())?;
        let to = Position(known.position.0.saturating_add(RECORDS_MAX)).min(snapshot.position());
        let mut toucher = Toucher::new(&snapshot);
        for position in known.position.0 + 1..=to.0 {
            // A lost position says nothing.
            let Some(signed) = snapshot.signed(Position(position))? else { continue };
            toucher.record(Position(position), || signed.id(), signed.record())?;
        }
        let mut touched = toucher.finish()?;
        let due_now = due(store, now, &mut touched)?;
        let newest = snapshot.position();
        let mut pass = Pass {
            index: self,
            store,
            now: now.max(snapshot.recorded_at()),
            snapshot,
            claims_max,
            stop,
            standing: known,
            batch: batch(store),
            waiting: 0,
            judged: 0,
            listed: HashSet::new(),
        };
        if !pass.judge_all(&touched)? {
            return Ok(Followed { standing: pass.standing, more: true, judged: pass.judged });
        }
        pass.standing.position = to;
        if to > known.position || pass.waiting > 0 {
            pass.write()?;
        }
        let more = to < newest || due_now == DUE_MAX;
        Ok(Followed { standing: pass.standing, more, judged: pass.judged })
    }
}

/// Adds the keys whose time has come: some claim of theirs has begun or ceased to be valid.
fn due(store: &Store, now: Millis, touched: &mut Touched) -> Result<usize, IndexError> {
    let end = [time_key(now).as_slice(), &[0xff; 8]].concat();
    let mut count = 0;
    for row in store.table(Table::Due).range(..=end).take(DUE_MAX) {
        let key = row.key().map_err(|error| store.storage("read index", &error))?;
        let number = last_position(&key).ok_or_else(|| store.damaged_row(Table::Due, &key))?;
        touched.keys.insert(number.0);
        count += 1;
    }
    Ok(count)
}

fn batch(store: &Store) -> OwnedWriteBatch {
    OwnedWriteBatch::with_capacity(store.db.clone(), 4 * BATCH_KEYS)
        .durability(Some(PersistMode::Buffer))
}

struct Pass<'a> {
    index: &'a Index,
    store: &'a Store,
    /// At or after the position that the step goes to. A newer one after each batch: who is told of a
    /// batch rests, and the storage keeps in memory all that was written since the oldest snapshot.
    snapshot: Snapshot,
    now: Millis,
    claims_max: usize,
    stop: &'a dyn Fn() -> bool,
    standing: ConflictStanding,
    batch: OwnedWriteBatch,
    /// Keys judged since the last batch.
    waiting: usize,
    judged: u64,
    /// Keys that have had their turn, by the number that they are listed under.
    listed: HashSet<u64>,
}

impl Pass<'_> {
    /// False if it was told to stop.
    fn judge_all(&mut self, touched: &Touched) -> Result<bool, IndexError> {
        for number in &touched.keys {
            if !self.judge(*number)? {
                return Ok(false);
            }
        }
        if touched.referring || touched.cosigned {
            let wanted = (if touched.referring { REFERS } else { 0 })
                | (if touched.cosigned { BY_COSIGNER } else { 0 });
            let mut from = 0;
            loop {
                let page = watched(self.store, from)?;
                let Some((last, _)) = page.last() else { break };
                from = last.saturating_add(1);
                for (number, watch) in page {
                    if watch.flags & wanted != 0 && !self.judge(number)? {
                        return Ok(false);
                    }
                }
            }
        }
        for space in &touched.spaces {
            let all = KeyFilter { space: Some(space.clone()), ..KeyFilter::default() };
            let mut after = None;
            loop {
                let rows = self.snapshot.key_rows(&all, after.as_ref());
                let page: Vec<_> = rows.take(BATCH_KEYS).collect::<Result<_, _>>()?;
                for (key, number) in &page {
                    if !self.judge_key(*number, key, true)? {
                        return Ok(false);
                    }
                }
                match page.into_iter().next_back() {
                    Some((key, _)) => after = Some(key),
                    None => break,
                }
            }
        }
        Ok(true)
    }

    fn judge(&mut self, number: u64) -> Result<bool, IndexError> {
        let signed = self.snapshot.signed(Position(number))?;
        let Some(key) = signed.and_then(|signed| key_of(signed.record())) else {
            return Err(self.store.damaged(format_args!("no assertion at {number}, a key")));
        };
        self.judge_key(number, &key, false)
    }

    /// Judges the entity that a key is of. In the course of `all` keys each has its own turn.
    /// False if told to stop.
    fn judge_key(&mut self, number: u64, key: &Key, all: bool) -> Result<bool, IndexError> {
        let registry = self.snapshot.registry();
        let subject =
            registry.canonical_subject(&key.space, &key.subject, self.snapshot.position());
        let named = Key { subject, ..key.clone() };
        let rows = self.snapshot.rows_of(&named, registry)?;
        let own: Vec<u64> =
            rows.iter().filter(|rows| !rows.opposing).filter_map(|rows| rows.number).collect();
        let Some(listed) = own.iter().min().copied() else { return Ok(true) };
        if (all && listed != number) || self.listed.contains(&listed) {
            return Ok(true);
        }
        if !all {
            self.listed.insert(listed);
        }
        let dispute = match self.snapshot.dispute(&named, &rows, self.now, self.claims_max) {
            Err(IndexError::TooLarge { .. }) => Some(None),
            other => other?.map(Some),
        };
        for other in own.into_iter().filter(|number| *number != listed) {
            self.replace(other, &named, None)?;
        }
        self.replace(listed, &named, dispute)?;
        self.judged += 1;
        self.waiting += 1;
        if self.waiting >= BATCH_KEYS {
            self.write()?;
            let stopped = (self.stop)();
            self.snapshot = self.index.snapshot();
            self.now = self.now.max(self.snapshot.recorded_at());
            return Ok(!stopped);
        }
        Ok(true)
    }

    /// Puts what is known of a key in the place of what was. `Some(None)`: it is too large.
    fn replace(
        &mut self,
        number: u64,
        key: &Key,
        dispute: Option<Option<Dispute>>,
    ) -> Result<(), IndexError> {
        let store = self.store;
        let row_key = position_key(Position(number));
        let watched = store.table(Table::Watched);
        let before = watched.get(row_key).map_err(|error| store.storage("read index", &error))?;
        if let Some(row) = &before {
            let was = Watch::decode(row)
                .map_err(|Malformed| store.damaged_row(Table::Watched, &row_key))?;
            if let Some(place) = &was.place {
                let old = conflict_key(&key.space, place);
                self.batch.remove(store.table(Table::Conflicts), old.as_slice());
                self.standing.open = self.standing.open.saturating_sub(1);
            }
            if let Some(due) = was.due {
                self.batch.remove(store.table(Table::Due), due_key(due, number).as_slice());
            }
            if was.flags & TOO_LARGE != 0 {
                self.standing.too_large = self.standing.too_large.saturating_sub(1);
            }
        }
        let watch = dispute.map_or(Watch::default(), |dispute| Watch::of(dispute, number));
        if let (Some(place), Some(Some(dispute))) = (&watch.place, dispute) {
            let row = encode(key, &dispute, self.snapshot.position(), self.now);
            let place = conflict_key(&key.space, place);
            self.batch.insert(store.table(Table::Conflicts), place.as_slice(), row);
            self.standing.open += 1;
        }
        if let Some(due) = watch.due {
            self.batch.insert(store.table(Table::Due), due_key(due, number).as_slice(), []);
        }
        if watch.flags & TOO_LARGE != 0 {
            self.standing.too_large += 1;
        }
        if watch.flags != 0 {
            self.batch.insert(watched, row_key.as_slice(), watch.encode());
        } else if before.is_some() {
            self.batch.remove(watched, row_key.as_slice());
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), IndexError> {
        let store = self.store;
        store.check_alive()?;
        store.room()?;
        let mut batch = std::mem::replace(&mut self.batch, batch(store));
        batch.insert(store.table(Table::Meta), meta::CONFLICTS, self.standing.encode());
        batch.commit().map_err(|error| store.storage("write index", &error))?;
        self.waiting = 0;
        Ok(())
    }
}

/// The next watched keys from a number on, as they are now; none: there are no more.
fn watched(store: &Store, from: u64) -> Result<Vec<(u64, Watch)>, IndexError> {
    let rows = store.table(Table::Watched).range(position_key(Position(from))..);
    let page = rows.take(BATCH_KEYS).map(|row| {
        let (key, row) = row.into_inner().map_err(|error| store.storage("read index", &error))?;
        let bad = || store.damaged_row(Table::Watched, &key);
        // The last number is nobody's: behind it there would be no end.
        let number = parse_position(&key).filter(|number| number.0 < u64::MAX).ok_or_else(bad)?;
        Ok((number.0, Watch::decode(&row).map_err(|Malformed| bad())?))
    });
    page.collect()
}

fn due_key(time: Millis, number: u64) -> Vec<u8> {
    [time_key(time), number.to_be_bytes()].concat()
}

/// A row of `watched`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Watch {
    flags: u8,
    due: Option<Millis>,
    place: Option<ConflictPlace>,
}

impl Watch {
    fn of(dispute: Option<Dispute>, number: u64) -> Self {
        let Some(dispute) = dispute else { return Self { flags: TOO_LARGE, ..Self::default() } };
        let place = (dispute.conflict_score > 0.0)
            .then(|| ConflictPlace::new(dispute.conflict_score, dispute.effective_values, number));
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(place.is_some(), IN_CONFLICT)
            | flag(dispute.refers, REFERS)
            | flag(dispute.by_cosigner, BY_COSIGNER)
            | flag(dispute.until.is_some(), DUE);
        Self { flags, due: dispute.until, place }
    }

    fn encode(&self) -> Vec<u8> {
        let mut row = vec![self.flags];
        if let Some(due) = self.due {
            push_zigzag(&mut row, due.0);
        }
        if let Some(place) = &self.place {
            row.extend_from_slice(place.as_bytes());
        }
        row
    }

    fn decode(row: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(row);
        let flags = reader.byte()?;
        let due = if flags & DUE != 0 { Some(Millis(reader.zigzag()?)) } else { None };
        let place = if flags & IN_CONFLICT != 0 { Some(place_of(reader.rest())?) } else { None };
        Ok(Self { flags, due, place })
    }
}

#[cfg(test)]
mod tests {
    use stemedb_model::{
        Assertion, Body, LifecycleState, LogId, PredicateName, Principal, Record, Signed,
        SigningKey, Space, Subject, Timeline, Value,
    };

    use super::*;
    use crate::entry::Entry;
    use crate::index::IndexConfig;

    /// Each value is another's.
    fn claim(position: u64, value: bool) -> Entry {
        about("s", position, value)
    }

    /// A claim about a subject of its own.
    fn another(position: u64) -> Entry {
        about(&format!("s{position}"), position, true)
    }

    fn about(subject: &str, position: u64, value: bool) -> Entry {
        let key = SigningKey::from_seed(&[u8::from(value); 32]);
        let claim = Assertion {
            subject: Subject::parse(subject).unwrap(),
            predicate: PredicateName::parse("p").unwrap(),
            object: Value::Boolean(value),
            confidence: 1.0,
            source: None,
            valid_from: None,
            valid_to: None,
            epoch: None,
            lifecycle: LifecycleState::Proposed,
            parent: None,
            derived_from: Vec::new(),
            vector: None,
            visual_hash: None,
            meta: Default::default(),
        };
        let record = Record {
            space: Space::default(),
            agent: key.agent_id(),
            at: Millis(1),
            log_id: None,
            body: Body::Assertion(claim),
        };
        Entry {
            position: Position(position),
            recorded_at: Millis(2),
            principal: Principal::parse(if value { "one" } else { "other" }).unwrap(),
            custodial: false,
            idempotency: None,
            signed: Signed::seal(record, &key).unwrap(),
        }
    }

    /// A claim, and another that denies it.
    fn opened(folder: &tempfile::TempDir) -> Index {
        let dir = folder.path().join("index");
        let config = IndexConfig { cache_bytes: 1 << 20, ..IndexConfig::new(&dir) };
        let index = Index::open(&config, Some((LogId([1; 16]), Timeline([2; 16])))).unwrap();
        index.apply(&[claim(1, true), claim(2, false)]).unwrap();
        index
    }

    /// How many rows of the list whoever reads has in his snapshot.
    fn seen(snapshot: &Snapshot) -> usize {
        snapshot.range::<[u8; 1]>(Table::Conflicts, ..).count()
    }

    #[test]
    fn with_nothing_to_apply_the_newest_snapshot_is_as_new_as_the_list_once_it_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let index = opened(&folder);
        let before = index.snapshot();
        let followed = index.follow_conflicts(Millis(3), 9, &|| false).unwrap();
        assert_eq!(followed.standing.open, 1);
        assert_eq!(seen(&index.snapshot()), 0, "it is the one that the last record made");
        {
            let _writer = index.hold();
            assert!(index.renew().is_none(), "a writer at work is not waited for");
        }
        let renewed = index.renew().unwrap();
        assert_eq!((seen(&renewed), seen(&index.snapshot()), seen(&before)), (1, 1, 0));
        assert!(renewed.same_state(&before));
        index.apply(&[claim(3, true)]).unwrap();
        assert!(!index.snapshot().same_state(&renewed), "another position");
        let other = opened(&tempfile::tempdir().unwrap());
        assert_eq!(other.snapshot().position(), renewed.position());
        assert!(!other.snapshot().same_state(&renewed), "another index");
    }

    #[test]
    fn a_step_that_is_renewed_on_its_way_sees_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let index = opened(&folder);
        let renewed = std::cell::Cell::new(0);
        let keys: Vec<_> = (3..3 + 2 * BATCH_KEYS as u64).map(another).collect();
        index.apply(&keys).unwrap();
        let between = || {
            drop(index.renew());
            renewed.set(seen(&index.snapshot()));
            false
        };
        index.follow_conflicts(Millis(3), 9, &between).unwrap();
        assert_eq!(renewed.get(), 1, "its first batch, before its end");
    }
}
