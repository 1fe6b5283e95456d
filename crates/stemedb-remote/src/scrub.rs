//! Which part of the archive is read again when, so that each is once in a round.
//!
//! The time follows from the hash of the part and the number of the round. So no place has to be kept,
//! and a node that is stopped every night does not pass over the same parts each time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::catalogue::Placed;

/// Bytes that are read again in a second at most.
const BYTES_PER_SECOND: u64 = 8 << 20;
/// What could not be read is tried again after this.
const AGAIN_AFTER_MS: i64 = 3_600_000;

#[derive(Default)]
pub(crate) struct Scrub {
    /// Length of a round; 0: nothing is read again.
    round_ms: i64,
    /// What is due before the next plan, by the time from which on it is.
    due: BTreeMap<(i64, String), Placed>,
    planned_until: Option<i64>,
    /// No part before this, by the monotonic clock.
    not_before: Duration,
    /// Objects that could not be read again, or are damaged and could not be replaced.
    unsound: BTreeSet<String>,
}

impl Scrub {
    pub(crate) fn new(round: Duration) -> Self {
        Self { round_ms: ms(round), ..Self::default() }
    }

    /// Takes up what is due up to `ahead` from now, of the parts that count and are there.
    pub(crate) fn plan<'a>(
        &mut self,
        parts: impl Iterator<Item = &'a Placed>,
        now_ms: i64,
        ahead: Duration,
    ) {
        let left: BTreeMap<String, i64> =
            std::mem::take(&mut self.due).into_keys().map(|(at, name)| (name, at)).collect();
        let unsound = std::mem::take(&mut self.unsound);
        let until = now_ms.saturating_add(ms(ahead));
        // A clock that was set back begins anew; one that was set ahead owes one round at most.
        let from = self.planned_until.filter(|planned| *planned <= until).unwrap_or(now_ms);
        let from = from.max(now_ms.saturating_sub(self.round_ms));
        self.planned_until = Some(until);
        for placed in parts {
            let name = placed.name();
            if unsound.contains(&name) {
                self.unsound.insert(name.clone());
            }
            let at = left.get(&name).copied().or_else(|| self.due_within(placed, from, until));
            if let Some(at) = at {
                self.due.insert((at, name), placed.clone());
            }
        }
    }

    /// When a part is due behind `from` and up to `until`, first.
    fn due_within(&self, placed: &Placed, from: i64, until: i64) -> Option<i64> {
        let length = u64::try_from(self.round_ms).ok().filter(|length| *length > 0)?;
        let rounds = from.div_euclid(self.round_ms)..=until.div_euclid(self.round_ms);
        rounds
            .map(|round| round * self.round_ms + within(placed, round, length))
            .find(|at| from < *at && *at <= until)
    }

    /// The part that is due now, if there is one. It stays until it is told what became of it.
    pub(crate) fn next(&self, now_ms: i64, monotonic: Duration) -> Option<Placed> {
        let ((at, _), placed) = self.due.first_key_value()?;
        (*at <= now_ms && monotonic >= self.not_before).then(|| placed.clone())
    }

    /// The part that was due is sound, or has been replaced.
    pub(crate) fn sound(&mut self, placed: &Placed, monotonic: Duration) {
        self.read(placed, monotonic);
        self.unsound.remove(&placed.name());
    }

    /// It is damaged, and stays so.
    pub(crate) fn damaged(&mut self, placed: &Placed, monotonic: Duration) {
        self.read(placed, monotonic);
        self.unsound.insert(placed.name());
    }

    /// Nobody knows: it is read again later.
    pub(crate) fn unread(&mut self, placed: &Placed, now_ms: i64, monotonic: Duration) {
        self.damaged(placed, monotonic);
        self.due.insert((now_ms.saturating_add(AGAIN_AFTER_MS), placed.name()), placed.clone());
    }

    fn read(&mut self, placed: &Placed, monotonic: Duration) {
        self.due.pop_first();
        let pause = placed.entry.bytes.saturating_mul(1_000) / BYTES_PER_SECOND;
        self.not_before = monotonic + Duration::from_millis(pause);
    }

    /// How many objects are not known to be sound.
    pub(crate) fn unsound(&self) -> u64 {
        self.unsound.len() as u64
    }
}

/// How far into a round of `length` a part is due.
fn within(placed: &Placed, round: i64, length: u64) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&placed.entry.hash.0).update(&round.to_le_bytes());
    let mut drawn = [0; 8];
    hasher.finalize_xof().fill(&mut drawn);
    i64::try_from(u64::from_le_bytes(drawn) % length).unwrap_or_default()
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use stemedb_log::{Link, PartContent};
    use stemedb_model::{Hash, LogId, Millis, Position, Timeline};

    use super::Scrub;
    use crate::catalogue::Placed;
    use crate::manifest::PartEntry;

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    const START_MS: i64 = 1_700_000_000_000;

    fn part(n: u8) -> Placed {
        let link = |position| Link { position, group: position.0, chain: Hash([n; 32]) };
        let content = PartContent {
            log_id: LogId([7; 16]),
            timeline: Timeline([9; 16]),
            segment: 1,
            salt: 1,
            start: link(Position(n.into())),
            end: link(Position(u64::from(n) + 1)),
            began_at: Millis(0),
            ended_at: Millis(0),
            records: 1,
        };
        let hash = Hash(*blake3::hash(&[n]).as_bytes());
        let entry = PartEntry {
            content,
            bytes: 16 << 20,
            hash,
            key_id: None,
            copy: 0,
            ends_segment: false,
        };
        Placed { archive: Timeline([9; 16]), entry }
    }

    /// Reads for so many days, planning once a day but on those that `off` names; how often each was
    /// read, and how many at once at most within a second.
    fn reads(days: i64, off: impl Fn(i64) -> bool) -> BTreeMap<String, u32> {
        let parts: Vec<Placed> = (0..200).map(part).collect();
        let mut scrub = Scrub::new(Duration::from_secs(10 * 24 * 3_600));
        let mut read = BTreeMap::new();
        for hour in 0..days * 24 {
            let (now, day) = (START_MS + hour * HOUR_MS, hour / 24);
            if hour % 24 == 0 && !off(day) {
                scrub.plan(parts.iter(), now, Duration::from_secs(24 * 3_600));
            }
            let mut clock = Duration::from_millis(u64::try_from(now).unwrap());
            for _ in 0..600 {
                while let Some(due) = scrub.next(now, clock) {
                    *read.entry(due.name()).or_default() += 1;
                    scrub.sound(&due, clock);
                    assert!(scrub.next(now, clock).is_none(), "two parts at once");
                }
                clock += Duration::from_secs(1);
            }
        }
        read
    }

    #[test]
    fn each_part_is_read_once_in_a_round() {
        // Three rounds, of which two are whole.
        let read = reads(30, |_| false);
        assert_eq!(read.len(), 200);
        assert!(read.values().all(|count| (2..=4).contains(count)), "{read:?}");
        assert!((550..=650).contains(&read.values().sum::<u32>()));
    }

    #[test]
    fn what_was_due_while_nobody_planned_is_read_afterwards() {
        let read = reads(30, |day| day % 3 != 0);
        // Two times that come up in one plan are one.
        assert_eq!(read.len(), 200);
        assert!(read.values().all(|count| (1..=4).contains(count)), "{read:?}");
        assert!(read.values().sum::<u32>() > 450);
    }

    #[test]
    fn what_could_not_be_read_is_told_and_read_again() {
        let parts = [part(1)];
        let mut scrub = Scrub::new(Duration::from_secs(24 * 3_600));
        scrub.plan(parts.iter(), START_MS, Duration::from_secs(48 * 3_600));
        let (now, clock) = (START_MS + 2 * DAY_MS, Duration::from_secs(1));
        let due = scrub.next(now, clock).unwrap();
        scrub.unread(&due, now, clock);
        assert_eq!(scrub.unsound(), 1);
        let clock = Duration::from_secs(60);
        assert_eq!(scrub.next(now, clock), None);
        let now = now + HOUR_MS;
        // It is known also after another plan, as long as the archive names it.
        scrub.plan(parts.iter(), now, Duration::from_secs(3_600));
        assert_eq!(scrub.unsound(), 1);
        let again = scrub.next(now, clock).unwrap();
        assert_eq!(again, due);
        scrub.sound(&again, clock);
        assert_eq!(scrub.unsound(), 0);
        scrub.damaged(&again, clock);
        scrub.plan([].iter(), now, Duration::from_secs(3_600));
        assert_eq!(scrub.unsound(), 0);
    }

    #[test]
    fn a_round_of_no_length_reads_nothing() {
        let parts = [part(1)];
        let mut scrub = Scrub::new(Duration::ZERO);
        scrub.plan(parts.iter(), START_MS, Duration::from_secs(48 * 3_600));
        assert_eq!(scrub.next(i64::MAX, Duration::MAX), None);
    }
}
