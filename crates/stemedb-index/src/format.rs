//! The tables of the index: the one page that says what every byte on disk means.
//!
//! Each table is one fjall keyspace (an LSM tree) of the same name. A group of entries changes all
//! of them in one atomic batch, the row `applied` included, so the tables never disagree about
//! how far they got. Rows are only added, except where *lifetime* says otherwise.
//!
//! Words: `u64`, `i64` are big-endian in keys, so that bytes sort as numbers (`i64` with its sign
//! bit flipped); `vi` is an LEB128 varint, `zz` a zigzag varint; in values a position that lies
//! behind the row's own is written as the distance back to it (`back`, a `vi`). A *number* stands
//! for a key or a name: it is the position of the first record that mentions it, so it is the same
//! however often and in whatever groups the index is rebuilt, and it says since when the name
//! exists. Tags are one byte.
//!
//! | table         | key                               | value                           | rows   |
//! |---------------|-----------------------------------|---------------------------------|--------|
//! | `meta`        | name (below)                      | by name                         | 4 to 6 |
//! | `records`     | position `u64`                    | record row                      | 1 a record |
//! | `ids`         | record id, 32 bytes               | id row                          | 1 a record |
//! | `idempotency` | hash of (principal, key), 32      | position `vi`                   | 1 a key |
//! | `times`       | recorded_at `i64`                 | last position of that time `vi` | 1 a time |
//! | `keys`        | space 00 subject 00 predicate     | number `vi`                     | 1 a key |
//! | `names`       | tag, name / tag + 16, number `u64`| number `vi` / name              | 2 a name |
//! | `claims`      | key number `u64`, position `u64`  | claim row or fact row           | 1 a claim or fact |
//! | `facts`       | assertion `u64`, position `u64`   | fact row                        | 1 a fact |
//! | `postings`    | tag, `u64`, position `u64`        | empty                           | 2 to 69 a claim |
//! | `registry`    | position `u64`                    | empty                           | 1 a registry record |
//! | `conflicts`   | space 00, conflict place          | conflict row                    | 1 a key in conflict |
//! | `watched`     | key number `u64`                  | watch row                       | 1 a key that may come to be in conflict |
//! | `due`         | time `i64`, key number `u64`      | empty                           | 1 a key with validity bounds to come |
//!
//! The last three follow the others by themselves: [`crate::conflicts`] says how. They are not a fold
//! over the log alone, since claims become valid and cease to be with time.
//!
//! Lifetime: that of the folder, except that `applied` in `meta` is overwritten by every group,
//! `lost` by every lost range, `conflicts` and the three tables that follow by themselves as they do,
//! the newest row of `times` by groups of the same millisecond, and a row of `idempotency` when
//! its key is used again.
//!
//! `meta`: `format` is [`FORMAT`] as `vi`; `log` the database's log_id, 16 bytes; `timeline` the
//! branch of its log, 16 bytes; `applied` the newest position `vi`, its recorded_at `zz`, then the
//! counters of [`crate::Counters`] in the order of their declaration, each `vi`; `lost`, where a
//! repair of the log gave positions up, their ranges in ascending order, each as its first position
//! `vi` and how many follow it `vi`. Such positions have no rows in any other table. `conflicts` is
//! the position `vi` up to which everything is told in the tables that follow by themselves, then how
//! many rows `conflicts` has `vi`, and how many keys are too large to be judged `vi`.
//!
//! *Record row*: recorded_at `zz`; flags (1 custodial, 2 idempotency hash); principal number `vi`;
//! the idempotency hash, 32 bytes, if flagged; signature, 64 bytes; the canonical bytes, to the
//! end. The id is their hash and not stored twice.
//!
//! *Id row*: kind tag; position `vi`; then, for an assertion, its key number `vi`; for a fact
//! about an assertion, the assertion's position `vi` and key number `vi`; else nothing.
//!
//! *Claim row* (an assertion, as `stemedb_lens::Claim` needs it; subject and predicate come from
//! the key it is read by):
//!
//! | field       | form   | meaning                                                              |
//! |-------------|--------|----------------------------------------------------------------------|
//! | kind        | 1 byte | 0                                                                    |
//! | flags       | 1 byte | bits 0 valid_from, 1 valid_to, 2 epoch, 3 parent, 4 premises, 5 confidence is not 1, 6–7 source: 0 the agent, 1 evidence, 2 URI |
//! | class       | 1 byte | declared class (6: none) x 8 + declared lifecycle                    |
//! | agent       | `vi`   | number                                                               |
//! | principal   | `vi`   | number                                                               |
//! | source      | `vi`   | number; absent if the agent is its own source                        |
//! | recorded_at | `zz`   | ms                                                                   |
//! | at          | `zz`   | recorded_at - at, wrapping                                           |
//! | confidence  | f64 LE | if flagged                                                           |
//! | valid_from, valid_to | `zz` | each if flagged                                               |
//! | epoch, parent | back | each if flagged                                                      |
//! | premises    | `vi`, back … | if flagged: count, then in the order of the record             |
//! | object      | tag, … | 0 text, 1 number, 2 number with unit, 3 false, 4 true, 5 time, 6 reference; number f64 LE, time `zz`, texts `vi` length and bytes, the unit after the number |
//!
//! *Fact row* (a later record about an assertion, or about such a record): kind (1 retract,
//! 2 supersede, 3 vote, 4 cosign, 5 lifecycle); target `back`; agent `vi`; principal `vi`;
//! recorded_at `zz`; recorded_at - at `zz`; then of a supersession the new assertion `back`, of a
//! vote the weight f64 LE, of a lifecycle record the state, one byte. A fact about a fact stands
//! under the same assertion and key as that fact: one range scan of a key finds its claims and
//! everything said about them.
//!
//! *Postings*, by tag: 1 agent number, 2 source number, 3 epoch position, 4 parent position,
//! 5 premise position, each → the assertions; 6 the new assertion of a supersession → the
//! supersede records.
//!
//! *Conflict place*: the bits of the conflict score and of the effective number of values, both f64 and
//! inverted, each a `u64`, so that the worst come first; then the key's number `u64`, of an entity the
//! smallest. *Conflict row*: status (1 unanimous, 2 agreed, 3 contested); margin f64 LE; evidence f64
//! LE; values `vi`; claims `vi`; the position `vi` and the time `zz` that it was judged at; subject and
//! predicate, each `vi` length and bytes.
//!
//! *Watch row*: flags (1 in conflict, 2 some value refers to a subject, 4 some claim stands by a
//! cosigner, 8 too large to be judged, 16 due); if due, when `zz`; if in conflict, the rest is its
//! conflict place.
//!
//! A record whose id is already there (the log forbids it) adds its record row and nothing else. A
//! reference to an id that no record has (its record was lost) is left out.

use std::sync::Arc;

use fjall::KeyspaceCreateOptions;
use fjall::compaction::Leveled;
use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
    PartitioningPolicy, PinningPolicy,
};
use stemedb_model::{Key, Millis, Position, PredicateName, Space, Subject};

/// The format this build writes and reads. Any change of this page is a new one: an index is
/// rebuilt, never migrated.
pub const FORMAT: u64 = 3;

/// Files of the storage are no longer than that, or than a write buffer. Each is synced whole, and while the
/// medium is busy with one the sync of the log waits.
const TABLE_BYTES: u64 = 8 << 20;

/// A table of the index. What is in each is on the page of its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the table at the top of the format page says it")]
pub enum Table {
    Meta,
    Records,
    Ids,
    Idempotency,
    Times,
    Keys,
    Names,
    Claims,
    Facts,
    Postings,
    Registry,
    Conflicts,
    Watched,
    Due,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 14] = [
        Self::Meta,
        Self::Records,
        Self::Ids,
        Self::Idempotency,
        Self::Times,
        Self::Keys,
        Self::Names,
        Self::Claims,
        Self::Facts,
        Self::Postings,
        Self::Registry,
        Self::Conflicts,
        Self::Watched,
        Self::Due,
    ];

    /// Whether it follows the others by itself, instead of by the group.
    pub fn follows(self) -> bool {
        matches!(self, Self::Conflicts | Self::Watched | Self::Due)
    }

    /// The name of its keyspace.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Records => "records",
            Self::Ids => "ids",
            Self::Idempotency => "idempotency",
            Self::Times => "times",
            Self::Keys => "keys",
            Self::Names => "names",
            Self::Claims => "claims",
            Self::Facts => "facts",
            Self::Postings => "postings",
            Self::Registry => "registry",
            Self::Conflicts => "conflicts",
            Self::Watched => "watched",
            Self::Due => "due",
        }
    }

    /// Bytes of a write buffer. One that is longer becomes a table, before the next batch.
    pub(crate) fn buffer_bytes(self) -> u64 {
        match self {
            Self::Meta | Self::Registry | Self::Due => 2 << 20,
            Self::Times | Self::Watched | Self::Idempotency => 4 << 20,
            Self::Records
            | Self::Ids
            | Self::Keys
            | Self::Names
            | Self::Claims
            | Self::Facts
            | Self::Postings
            | Self::Conflicts => 8 << 20,
        }
    }

    /// Block size, filter and length of files. They shape the files, not what is in them, and a table keeps
    /// those it was made with.
    pub(crate) fn options(self) -> KeyspaceCreateOptions {
        let (block_bytes, point_reads) = match self {
            Self::Meta | Self::Registry | Self::Due => (4 << 10, false),
            Self::Watched | Self::Idempotency | Self::Keys | Self::Names => (4 << 10, true),
            // Random keys do not compress; small blocks make the lookup cheap.
            Self::Ids => (4 << 10, true),
            Self::Records | Self::Times | Self::Conflicts => (8 << 10, false),
            // Read by range only: a filter would never be asked.
            Self::Claims => (8 << 10, false),
            Self::Facts | Self::Postings => (16 << 10, false),
        };
        let filter = if point_reads {
            FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0))
        } else {
            FilterPolicyEntry::None
        };
        KeyspaceCreateOptions::default()
            .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)))
            .data_block_size_policy(BlockSizePolicy::all(block_bytes))
            .data_block_compression_policy(CompressionPolicy::all(fjall::CompressionType::Lz4))
            .filter_policy(FilterPolicy::all(filter))
            // Filters and indexes of blocks stay in memory, some three bytes a claim: a write that looks
            // whether an id is there, and a read of a row, wait for at most the one block that holds it.
            .filter_block_partitioning_policy(PartitioningPolicy::all(false))
            .filter_block_pinning_policy(PinningPolicy::all(true))
            .index_block_partitioning_policy(PartitioningPolicy::all(false))
            .index_block_pinning_policy(PinningPolicy::all(true))
            // Never reached: see `Store::room`.
            .max_memtable_size(4 * self.buffer_bytes())
    }
}

/// What an interned name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum NameTag {
    Agent = 1,
    Principal = 2,
    Evidence = 3,
    Uri = 4,
}

/// What a posting lists assertions (or supersede records) by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Posting {
    Agent = 1,
    Source = 2,
    Epoch = 3,
    Parent = 4,
    Premise = 5,
    Superseding = 6,
}

/// Rows of `meta`.
pub(crate) mod meta {
    pub(crate) const FORMAT: &[u8] = b"format";
    pub(crate) const LOG: &[u8] = b"log";
    pub(crate) const TIMELINE: &[u8] = b"timeline";
    pub(crate) const APPLIED: &[u8] = b"applied";
    pub(crate) const LOST: &[u8] = b"lost";
    pub(crate) const CONFLICTS: &[u8] = b"conflicts";
}

pub(crate) fn position_key(position: Position) -> [u8; 8] {
    position.0.to_be_bytes()
}

/// `None` unless `key` is a position key.
pub(crate) fn parse_position(key: &[u8]) -> Option<Position> {
    key.try_into().ok().map(|bytes| Position(u64::from_be_bytes(bytes)))
}

/// Key of `claims` and `facts`.
pub(crate) fn pair_key(number: u64, position: Position) -> [u8; 16] {
    let mut key = [0; 16];
    let (head, tail) = key.split_at_mut(8);
    head.copy_from_slice(&number.to_be_bytes());
    tail.copy_from_slice(&position.0.to_be_bytes());
    key
}

/// `None` unless `key` is a pair key.
pub(crate) fn parse_pair(key: &[u8]) -> Option<(u64, Position)> {
    let (number, position) = key.split_at_checked(8)?;
    Some((u64::from_be_bytes(number.try_into().ok()?), parse_position(position)?))
}

/// Key of `postings`.
pub(crate) fn posting_key(posting: Posting, number: u64, position: Position) -> [u8; 17] {
    let mut key = [posting as u8; 17];
    let (_, pair) = key.split_at_mut(1);
    pair.copy_from_slice(&pair_key(number, position));
    key
}

/// The position at the end of a key of `claims`, `facts` or `postings`.
pub(crate) fn last_position(key: &[u8]) -> Option<Position> {
    parse_position(key.last_chunk::<8>()?)
}

pub(crate) fn time_key(time: Millis) -> [u8; 8] {
    (time.0.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Key of `names` from name to number.
pub(crate) fn name_key(out: &mut Vec<u8>, tag: NameTag, name: &[u8]) {
    out.clear();
    out.push(tag as u8);
    out.extend_from_slice(name);
}

/// Key of `names` from number to name.
pub(crate) fn number_key(tag: NameTag, number: u64) -> [u8; 9] {
    let mut key = [tag as u8 + 16; 9];
    let (_, tail) = key.split_at_mut(1);
    tail.copy_from_slice(&number.to_be_bytes());
    key
}

/// Key of `keys`. No part holds a control character, so 00 separates, and the order of the bytes
/// is that of (space, subject, predicate).
pub(crate) fn key_key(
    out: &mut Vec<u8>,
    space: &Space,
    subject: &Subject,
    predicate: &PredicateName,
) {
    out.clear();
    out.extend_from_slice(space.as_str().as_bytes());
    out.push(0);
    out.extend_from_slice(subject.as_str().as_bytes());
    out.push(0);
    out.extend_from_slice(predicate.as_str().as_bytes());
}

/// `None` unless `bytes` is a key of `keys`.
pub(crate) fn parse_key(bytes: &[u8]) -> Option<Key> {
    let mut parts = std::str::from_utf8(bytes).ok()?.split('\0');
    let key = Key {
        space: Space::parse(parts.next()?).ok()?,
        subject: Subject::parse(parts.next()?).ok()?,
        predicate: PredicateName::parse(parts.next()?).ok()?,
    };
    parts.next().is_none().then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: &Key) -> Vec<u8> {
        let mut out = Vec::new();
        key_key(&mut out, &key.space, &key.subject, &key.predicate);
        out
    }

    #[test]
    fn keys_sort_as_their_parts_and_come_back() {
        let mut keys = Vec::new();
        for space in ["a", "a-", "a.b", "b"] {
            for subject in ["a", "a!", "a b", "a/b", "aé", "b"] {
                for predicate in ["p", "p q", "q"] {
                    keys.push(Key {
                        space: Space::parse(space).unwrap(),
                        subject: Subject::parse(subject).unwrap(),
                        predicate: PredicateName::parse(predicate).unwrap(),
                    });
                }
            }
        }
        let mut by_parts = keys.clone();
        by_parts.sort();
        keys.sort_by_key(bytes);
        assert_eq!(keys, by_parts);
        for key in &keys {
            assert_eq!(parse_key(&bytes(key)).as_ref(), Some(key));
        }
        assert_eq!(parse_key(b"a\0b"), None);
        assert_eq!(parse_key(b"a\0b\0c\0d"), None);
    }

    #[test]
    fn times_sort_as_numbers() {
        let times = [i64::MIN, -2, -1, 0, 1, i64::MAX].map(|at| time_key(Millis(at)));
        assert!(times.is_sorted());
    }

    #[test]
    fn row_keys_are_frozen() {
        assert_eq!(pair_key(1, Position(2)), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(posting_key(Posting::Premise, 1, Position(2))[..2], [5, 0]);
        assert_eq!(last_position(&posting_key(Posting::Agent, 9, Position(7))), Some(Position(7)));
        assert_eq!(number_key(NameTag::Uri, 258), [20, 0, 0, 0, 0, 0, 0, 1, 2]);
    }
}
