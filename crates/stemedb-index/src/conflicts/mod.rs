//! Conflicts as an index: the keys that are in conflict now, the worst first, without resolving any.
//!
//! The tables `conflicts`, `watched` and `due` follow the rest by themselves, after the acknowledgement
//! and at their own pace: [`Index::follow_conflicts`] takes the records since it was called last, finds
//! the keys whose disagreement they may change, and judges these anew. A record that touches many keys
//! (a source retracted) takes as long as judging them does. What a key's row says was true at the row's
//! own position, and up to the position of the page no row is out of date.
//!
//! Keys in which nobody ever named a second value can be in no conflict and have no row anywhere, so
//! that following a stream of new keys costs some point reads each.

mod follow;
mod touched;

use std::ops::Bound;

use fjall::Readable;
use stemedb_lens::{Dispute, Status};
use stemedb_model::{Key, Millis, Position, PredicateName, Space, Subject};

use crate::bytes::{Malformed, Reader, push_varint, push_zigzag};
use crate::error::IndexError;
use crate::format::{Table, meta};
use crate::index::Index;
use crate::store::Store;

pub use follow::Followed;

/// Rows looked at for one page. A filter that few rows pass gives short pages, not slow ones.
const SCAN_MAX: usize = 10_000;

/// A key in conflict.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// The key, named by the smallest subject of its alias class.
    pub key: Key,
    /// Agreement.
    pub status: Status,
    /// min(1, entropy of the shares in bits); above 0.
    pub conflict_score: f64,
    /// 2^entropy.
    pub effective_values: f64,
    /// Share of the first value less that of the second.
    pub margin: f64,
    /// Effective number of independent voices.
    pub evidence: f64,
    /// Candidate values.
    pub values: u64,
    /// Assertions that take part.
    pub claims: u64,
    /// The database that it was judged at.
    pub position: Position,
    /// The time that it was judged at.
    pub valid_at: Millis,
}

/// Which conflicts to list. Everything that is set must fit.
#[derive(Debug, Clone, PartialEq)]
pub struct ConflictFilter {
    /// In this space.
    pub space: Space,
    /// Subjects that begin with these bytes.
    pub subject_prefix: Option<String>,
    /// This predicate.
    pub predicate: Option<PredicateName>,
    /// This status.
    pub status: Option<Status>,
    /// At least this conflict score: the rows below are not read.
    pub score_min: f64,
}

impl ConflictFilter {
    /// Every conflict of a space.
    pub fn new(space: Space) -> Self {
        Self { space, subject_prefix: None, predicate: None, status: None, score_min: 0.0 }
    }

    fn fits(&self, conflict: &Conflict) -> bool {
        let prefix = self.subject_prefix.as_deref().unwrap_or_default();
        conflict.key.subject.as_str().starts_with(prefix)
            && self.predicate.as_ref().is_none_or(|predicate| *predicate == conflict.key.predicate)
            && self.status.is_none_or(|status| status == conflict.status)
    }
}

/// Where a conflict stands in the list of its space: by score, then by effective number of values, both
/// falling, then the key that was spoken of first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConflictPlace([u8; 24]);

impl ConflictPlace {
    fn new(score: f64, effective_values: f64, number: u64) -> Self {
        // The bits of floats that are not negative sort as they do.
        let parts = [!score.to_bits(), !effective_values.to_bits(), number].map(u64::to_be_bytes);
        let mut place = [0; 24];
        place.iter_mut().zip(parts.iter().flatten()).for_each(|(to, from)| *to = *from);
        Self(place)
    }

    /// From bytes that [`ConflictPlace::as_bytes`] gave. Any 24 bytes are some place.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Sorts as the list does.
    pub fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }

    fn number(&self, at: usize) -> u64 {
        let word = self.0.as_chunks::<8>().0.get(at).copied().unwrap_or_default();
        u64::from_be_bytes(word)
    }

    fn score(&self) -> f64 {
        f64::from_bits(!self.number(0))
    }

    fn effective_values(&self) -> f64 {
        f64::from_bits(!self.number(1))
    }
}

/// Part of the list of conflicts.
#[derive(Debug, Clone, PartialEq)]
pub struct ConflictPage {
    /// How far the whole list was brought.
    pub standing: ConflictStanding,
    /// The worst first.
    pub items: Vec<Conflict>,
    /// Where to go on; `None` at the end. A page may be short, or empty, and still have one.
    pub next: Option<ConflictPlace>,
}

/// How far conflicts are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConflictStanding {
    /// Everything recorded up to here is told; rows may be newer.
    pub position: Position,
    /// Keys in conflict, in all spaces.
    pub open: u64,
    /// Keys with more claims than a resolution may have: of them it is not known.
    pub too_large: u64,
}

impl ConflictStanding {
    pub(crate) const NONE: Self = Self { position: Position::NONE, open: 0, too_large: 0 };

    fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(24);
        push_varint(&mut row, self.position.0);
        push_varint(&mut row, self.open);
        push_varint(&mut row, self.too_large);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(row);
        let position = Position(reader.varint()?);
        let (open, too_large) = (reader.varint()?, reader.varint()?);
        reader.end()?;
        Ok(Self { position, open, too_large })
    }
}

impl Index {
    /// Conflicts of a space as far as they are known, the worst first, after `after`, at most `limit` (at
    /// least 1). Costs the rows that it looks at, about a microsecond each.
    ///
    /// The list goes on changing between pages: a key whose conflict grows or falls past the place where
    /// one page ended may be seen twice or not at all.
    pub fn conflicts(
        &self,
        filter: &ConflictFilter,
        after: Option<&ConflictPlace>,
        limit: usize,
    ) -> Result<ConflictPage, IndexError> {
        let store = self.store();
        let tables = store.db.snapshot();
        let standing = standing(store, &tables)?;
        let start = match after {
            Some(place) => Bound::Excluded(conflict_key(&filter.space, place)),
            None => Bound::Included(space_key(&filter.space, 0)),
        };
        let end = Bound::Excluded(space_key(&filter.space, 1));
        let (mut items, mut examined) = (Vec::new(), None);
        let rows = tables.range(store.table(Table::Conflicts), (start, end));
        for (scanned, row) in rows.enumerate() {
            if items.len() >= limit.max(1) || scanned >= SCAN_MAX {
                return Ok(ConflictPage { standing, items, next: examined });
            }
            let (key, row) =
                row.into_inner().map_err(|error| store.storage("read index", &error))?;
            let bad = |Malformed| store.damaged_row(Table::Conflicts, &key);
            let place = place_of(&key).map_err(bad)?;
            let conflict = decode(&filter.space, &place, &row).map_err(bad)?;
            if conflict.conflict_score < filter.score_min {
                break;
            }
            if filter.fits(&conflict) {
                items.push(conflict);
            }
            examined = Some(place);
        }
        Ok(ConflictPage { standing, items, next: None })
    }

    /// How far conflicts are known, and how many there are. One point read.
    pub fn conflict_standing(&self) -> Result<ConflictStanding, IndexError> {
        let store = self.store();
        standing(store, &store.db.snapshot())
    }
}

fn standing(store: &Store, tables: &fjall::Snapshot) -> Result<ConflictStanding, IndexError> {
    let known = store.read(tables, Table::Meta, meta::CONFLICTS, ConflictStanding::decode)?;
    Ok(known.unwrap_or(ConflictStanding::NONE))
}

fn space_key(space: &Space, end: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(space.as_str().len() + 25);
    key.extend_from_slice(space.as_str().as_bytes());
    key.push(end);
    key
}

fn conflict_key(space: &Space, place: &ConflictPlace) -> Vec<u8> {
    let mut key = space_key(space, 0);
    key.extend_from_slice(&place.0);
    key
}

fn place_of(key: &[u8]) -> Result<ConflictPlace, Malformed> {
    key.last_chunk().copied().map(ConflictPlace).ok_or(Malformed)
}

const STATUSES: [(u8, Status); 3] =
    [(1, Status::Unanimous), (2, Status::Agreed), (3, Status::Contested)];

fn encode(key: &Key, dispute: &Dispute, position: Position, valid_at: Millis) -> Vec<u8> {
    let mut row = Vec::with_capacity(64);
    let tag = STATUSES.iter().find(|(_, status)| *status == dispute.status);
    row.push(tag.map_or(0, |(tag, _)| *tag));
    row.extend_from_slice(&dispute.margin.to_le_bytes());
    row.extend_from_slice(&dispute.evidence.to_le_bytes());
    for count in [dispute.values, dispute.claims, position.0] {
        push_varint(&mut row, count);
    }
    push_zigzag(&mut row, valid_at.0);
    for name in [key.subject.as_str(), key.predicate.as_str()] {
        push_varint(&mut row, name.len() as u64);
        row.extend_from_slice(name.as_bytes());
    }
    row
}

fn decode(space: &Space, place: &ConflictPlace, row: &[u8]) -> Result<Conflict, Malformed> {
    let mut reader = Reader::new(row);
    let tag = reader.byte()?;
    let status = STATUSES.iter().find(|(known, _)| *known == tag).ok_or(Malformed)?.1;
    let (margin, evidence) = (reader.float()?, reader.float()?);
    let (values, claims) = (reader.varint()?, reader.varint()?);
    let position = Position(reader.varint()?);
    let valid_at = Millis(reader.zigzag()?);
    let subject = Subject::parse(reader.text()?).map_err(|_| Malformed)?;
    let predicate = PredicateName::parse(reader.text()?).map_err(|_| Malformed)?;
    reader.end()?;
    Ok(Conflict {
        key: Key { space: space.clone(), subject, predicate },
        status,
        conflict_score: place.score(),
        effective_values: place.effective_values(),
        margin,
        evidence,
        values,
        claims,
        position,
        valid_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_sort_worst_first() {
        let places = [
            ConflictPlace::new(1.0, 3.5, 9),
            ConflictPlace::new(1.0, 2.0, 1),
            ConflictPlace::new(1.0, 2.0, 2),
            ConflictPlace::new(0.5, 1.4, 1),
            ConflictPlace::new(f64::MIN_POSITIVE, 1.0, 1),
        ];
        assert!(places.map(|place| place.0).is_sorted());
        assert_eq!((places[0].score(), places[0].effective_values()), (1.0, 3.5));
        assert_eq!(places[0].number(2), 9);
    }

    #[test]
    fn rows_come_back() {
        let key = Key {
            space: Space::default(),
            subject: Subject::parse("drogues/é").unwrap(),
            predicate: PredicateName::parse("p").unwrap(),
        };
        let dispute = Dispute {
            status: Status::Agreed,
            conflict_score: 0.25,
            effective_values: 1.2,
            margin: 0.9,
            evidence: 3.0,
            values: 2,
            claims: 500,
            until: None,
            refers: false,
            by_cosigner: false,
        };
        let place = ConflictPlace::new(0.25, 1.2, 7);
        let row = encode(&key, &dispute, Position(12), Millis(-3));
        let conflict = decode(&key.space, &place, &row).unwrap();
        assert_eq!((&conflict.key, conflict.status), (&key, Status::Agreed));
        assert_eq!((conflict.margin, conflict.evidence), (0.9, 3.0));
        assert_eq!((conflict.conflict_score, conflict.effective_values), (0.25, 1.2));
        assert_eq!((conflict.values, conflict.claims), (2, 500));
        assert_eq!((conflict.position, conflict.valid_at), (Position(12), Millis(-3)));
        for end in 0..row.len() {
            assert_eq!(decode(&key.space, &place, &row[..end]), Err(Malformed));
        }
        let standing = ConflictStanding { position: Position(300), open: 2, too_large: 1 };
        assert_eq!(ConflictStanding::decode(&standing.encode()), Ok(standing));
    }
}
