//! The contract of [`Log`] as code: one function per clause. Every implementation runs them all,
//! in its tests, through [`all`]. A broken clause panics and says which.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a check for tests: its panic is the verdict"
)]

use std::sync::Arc;
use std::time::Duration;

use stemedb_io::sim::SimClock;
use stemedb_model::{Hash, LogId, Millis, Position, Principal, RecordId, Signature, Timeline};

use crate::{Entry, Log, LogError, LogState, MemoryLog, NewEntry, Outcome};

/// The log id that every log under test is made with.
pub const LOG_ID: LogId = LogId([7; 16]);
/// The timeline that every log under test is made with.
pub const TIMELINE: Timeline = Timeline([9; 16]);
/// What the clock of a log under test says at first.
pub const START_MS: i64 = 1_700_000_000_000;

/// A fresh, empty log, and the clock it takes its time from.
pub struct Subject {
    /// The log.
    pub log: Box<dyn Log>,
    /// Its clock, at [`START_MS`].
    pub clock: Arc<SimClock>,
    /// Makes every write fail from now on as a broken medium would; `None` where the medium cannot
    /// be broken on purpose, and clause 4 is not checked then.
    pub break_medium: Option<Box<dyn FnMut()>>,
    /// Takes that back; `None` where it cannot be mended.
    pub mend_medium: Option<Box<dyn FnMut()>>,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}

/// An entry made from `seed`, with a body of `body_len` bytes. Its id and signature are not those
/// of a real record; a log does not look.
pub fn sample(seed: u64, body_len: usize) -> NewEntry {
    let hash = |tag: u8| *blake3::hash(&[&seed.to_le_bytes()[..], &[tag]].concat()).as_bytes();
    let mut signature = [0; 64];
    let (left, right) = signature.split_at_mut(32);
    left.copy_from_slice(&hash(1));
    right.copy_from_slice(&hash(2));
    let mut body = vec![0; body_len];
    blake3::Hasher::new().update(&hash(3)).finalize_xof().fill(&mut body);
    NewEntry {
        id: RecordId(hash(0)),
        signature: Signature(signature),
        principal: Principal::parse(["alice", "bob", "c"].get(seed as usize % 3).unwrap()).unwrap(),
        custodial: seed.is_multiple_of(4),
        idempotency: seed.is_multiple_of(5).then(|| Hash(hash(4))),
        body: body.into(),
    }
}

/// Runs every clause, each on a fresh log.
pub fn all(make: &mut dyn FnMut() -> Subject) {
    positions_are_dense(make());
    what_is_read_is_what_was_written(make());
    time_never_goes_back(make());
    an_empty_group_is_refused_and_changes_nothing(make());
    readers_follow_the_writer(make());
    a_scan_starts_anywhere_and_stops_when_told(make());
    the_root_is_that_of_the_reference(make());
    identity_is_known_from_genesis_on(make());
    a_seal_changes_nothing_that_is_read(make());
    after_a_failure_reads_go_on_and_writes_do_not(make());
    what_a_failure_left_is_decided_once_the_medium_is_mended(make());
    a_detached_log_comes_back_as_it_was(make());
}

/// Groups of many shapes: single, several, empty bodies, longer than a block, than several.
const SHAPES: &[&[usize]] = &[
    &[300],
    &[0],
    &[1, 2, 3],
    &[3_800, 5, 4_096],
    &[20_000],
    &[250, 251, 252, 253, 254, 255, 256, 257, 258, 259, 260, 261, 262, 263, 264, 265],
    &[9_000, 100, 9_000],
];

fn groups() -> Vec<Vec<NewEntry>> {
    let mut seed = 0;
    let mut entry = |len: &usize| {
        seed += 1;
        sample(seed, *len)
    };
    SHAPES.iter().map(|shape| shape.iter().map(&mut entry).collect()).collect()
}

fn fill(log: &mut dyn Log) -> Vec<NewEntry> {
    let groups = groups();
    for group in &groups {
        log.append(group).unwrap();
    }
    groups.concat()
}

fn scan_all(log: &dyn Log, from: u64) -> Vec<Entry> {
    let mut found = Vec::new();
    log.reader()
        .scan(Position(from), &mut |group| {
            assert!(!group.is_empty(), "a scan visits no empty group");
            found.extend(group);
            Ok(true)
        })
        .unwrap();
    found
}

/// Clause 1: the first record is 1, each record adds exactly one.
pub fn positions_are_dense(mut subject: Subject) {
    let mut next = 1;
    for group in groups() {
        assert_eq!(subject.log.append(&group).unwrap().first, Position(next));
        next += group.len() as u64;
        assert_eq!(subject.log.reader().durable().0, Position(next - 1));
    }
    let reader = subject.log.reader();
    for outside in [Position::NONE, Position(next), Position::MAX] {
        assert_eq!(reader.read(outside).unwrap(), None, "position {outside}");
    }
}

/// Clause 2: every field of every entry comes back, by position and by scan.
pub fn what_is_read_is_what_was_written(mut subject: Subject) {
    let written = fill(&mut *subject.log);
    let reader = subject.log.reader();
    let scanned = scan_all(&*subject.log, 1);
    assert_eq!(scanned.len(), written.len());
    for ((position, new), scanned) in (1..).map(Position).zip(&written).zip(&scanned) {
        let read = reader.read(position).unwrap().unwrap();
        assert_eq!(&read, scanned, "read and scan agree");
        assert_eq!((&read.new, read.position, read.registry), (new, position, position));
    }
}

/// Clause 2: `recorded_at` is the clock's, except where that would go back.
pub fn time_never_goes_back(mut subject: Subject) {
    for (n, (wall, recorded)) in [
        (START_MS, START_MS),
        (START_MS + 5, START_MS + 5),
        (3, START_MS + 5),
        (i64::MAX, i64::MAX),
    ]
    .into_iter()
    .enumerate()
    {
        subject.clock.set_wall(wall);
        let commit = subject.log.append(&[sample(n as u64, 10)]).unwrap();
        assert_eq!(commit.recorded_at, Millis(recorded));
        let entry = subject.log.reader().read(commit.first).unwrap().unwrap();
        assert_eq!(entry.recorded_at, Millis(recorded));
        assert_eq!(subject.log.reader().durable(), (commit.first, Millis(recorded)));
    }
}

/// An empty group is the caller's mistake; the log goes on.
pub fn an_empty_group_is_refused_and_changes_nothing(mut subject: Subject) {
    let before = subject.log.reader().root();
    assert!(matches!(subject.log.append(&[]), Err(LogError::Refused(_))));
    assert_eq!(subject.log.reader().root(), before);
    assert_eq!(subject.log.reader().state(), LogState::Ok);
    assert_eq!(subject.log.append(&[sample(1, 1)]).unwrap().first, Position(1));
}

/// Clause 3, as far as one process can see it: a reader made earlier sees what was appended later,
/// from other threads too.
pub fn readers_follow_the_writer(mut subject: Subject) {
    let reader = subject.log.reader();
    assert_eq!(reader.durable().0, Position::NONE);
    let follower = std::thread::spawn({
        let reader = Arc::clone(&reader);
        move || {
            let mut seen = 0;
            while seen < 50 {
                let durable = reader.durable().0.0;
                for position in seen + 1..=durable {
                    let entry = reader.read(Position(position)).unwrap();
                    assert_eq!(entry.unwrap().new, sample(position, 100), "position {position}");
                }
                seen = durable;
                std::thread::yield_now();
            }
        }
    });
    for n in 1..=50 {
        subject.log.append(&[sample(n, 100)]).unwrap();
    }
    if follower.join().is_err() {
        panic!("a reader on another thread saw something else than what was written");
    }
    assert_eq!(reader.durable().0, Position(50));
}

/// Scans begin at any position, in the middle of a group too, and end when the visitor says.
pub fn a_scan_starts_anywhere_and_stops_when_told(mut subject: Subject) {
    let written = fill(&mut *subject.log);
    for from in 0..=written.len() as u64 + 2 {
        let found: Vec<u64> = scan_all(&*subject.log, from).iter().map(|e| e.position.0).collect();
        let expected: Vec<u64> = (from.max(1)..=written.len() as u64).collect();
        assert_eq!(found, expected, "from {from}");
    }
    let mut visits = 0;
    let stop = |_| {
        visits += 1;
        Ok(visits < 2)
    };
    subject.log.reader().scan(Position(1), &mut { stop }).unwrap();
    assert_eq!(visits, 2);
    let error = |_| Err(LogError::Refused("enough".into()));
    let answer = subject.log.reader().scan(Position(1), &mut { error });
    assert!(matches!(answer, Err(LogError::Refused(_))), "an error of the visitor comes back");
}

/// The chain is a function of the groups and of nothing else.
pub fn the_root_is_that_of_the_reference(mut subject: Subject) {
    let clock = Arc::new(SimClock::new(START_MS));
    let mut reference = MemoryLog::new(LOG_ID, TIMELINE, clock.clone());
    assert_eq!(subject.log.reader().root(), reference.reader().root());
    for (n, group) in groups().iter().enumerate() {
        for clock in [&subject.clock, &clock] {
            clock.set_wall(START_MS + n as i64);
        }
        subject.log.append(group).unwrap();
        reference.append(group).unwrap();
        assert_eq!(subject.log.reader().root(), reference.reader().root(), "after group {n}");
        subject.log.seal().unwrap();
    }
    assert_eq!(scan_all(&*subject.log, 1), scan_all(&reference, 1));
}

/// `identity` is `None` before the first group and never changes after it.
pub fn identity_is_known_from_genesis_on(mut subject: Subject) {
    assert_eq!(subject.log.reader().identity(), None);
    subject.log.append(&[sample(1, 9)]).unwrap();
    assert_eq!(subject.log.reader().identity(), Some((LOG_ID, TIMELINE)));
}

/// Seals, also repeated and on an empty log, are invisible.
pub fn a_seal_changes_nothing_that_is_read(mut subject: Subject) {
    subject.log.seal().unwrap();
    let written = fill(&mut *subject.log);
    let root = subject.log.reader().root();
    for _ in 0..3 {
        subject.log.seal().unwrap();
    }
    assert_eq!(subject.log.reader().root(), root);
    assert_eq!(scan_all(&*subject.log, 1).len(), written.len());
    let first = subject.log.append(&[sample(1, 1)]).unwrap().first;
    assert_eq!(first.0, written.len() as u64 + 1);
}

/// Clause 4.
pub fn after_a_failure_reads_go_on_and_writes_do_not(mut subject: Subject) {
    let Some(mut break_medium) = subject.break_medium.take() else {
        return;
    };
    let written = fill(&mut *subject.log);
    let reader = subject.log.reader();
    let before = (reader.root(), reader.durable());
    break_medium();
    let failed = subject.log.append(&[sample(1, 10)]).unwrap_err();
    assert!(matches!(failed, LogError::Io { .. }), "{failed}");
    assert_eq!(failed.outcome(), Outcome::Indeterminate);
    for _ in 0..3 {
        let refused = subject.log.append(&[sample(2, 10)]).unwrap_err();
        assert!(matches!(refused, LogError::ReadOnly { .. }), "{refused}");
        assert_eq!(refused.outcome(), Outcome::NotWritten);
        assert!(matches!(subject.log.seal(), Err(LogError::ReadOnly { .. })));
    }
    assert!(matches!(reader.state(), LogState::ReadOnly { .. }));
    assert_eq!((reader.root(), reader.durable()), before, "what is not durable is not shown");
    assert_eq!(scan_all(&*subject.log, 1).len(), written.len());
    assert_eq!(reader.read(Position(1)).unwrap().unwrap().new, *written.first().unwrap());
}

/// Clauses 3 and 4: an indeterminate group is made durable at its place, before anything else.
pub fn what_a_failure_left_is_decided_once_the_medium_is_mended(mut subject: Subject) {
    let (Some(mut break_medium), Some(mut mend_medium)) =
        (subject.break_medium.take(), subject.mend_medium.take())
    else {
        return;
    };
    let mut written = fill(&mut *subject.log);
    break_medium();
    let held = [sample(101, 10), sample(102, 5_000)];
    let failed = subject.log.append(&held).unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Indeterminate, "{failed}");
    // While it is broken, asking changes nothing.
    for _ in 0..3 {
        subject.clock.step(Duration::from_secs(100));
        subject.log.resume().unwrap_err();
        assert_eq!(scan_all(&*subject.log, 1).len(), written.len());
    }
    mend_medium();
    subject.clock.step(Duration::from_secs(100));
    let commit = subject.log.resume().unwrap().unwrap();
    assert_eq!(commit.first.0, written.len() as u64 + 1);
    written.extend(held);
    let reader = subject.log.reader();
    assert!(matches!(reader.state(), LogState::Degraded { .. }), "{:?}", reader.state());
    let again = subject.log.append(&[sample(103, 1)]).unwrap();
    assert_eq!(again.first.0, written.len() as u64 + 1);
    written.push(sample(103, 1));
    let there: Vec<NewEntry> = scan_all(&*subject.log, 1).into_iter().map(|e| e.new).collect();
    assert_eq!(there, written);
    assert!(subject.log.acknowledge().is_some());
    assert_eq!(reader.state(), LogState::Ok);
    assert_eq!(subject.log.resume().unwrap(), None, "nothing is left to decide");
}

/// Between `detach` and `attach` nothing is written; afterwards nothing has changed.
pub fn a_detached_log_comes_back_as_it_was(mut subject: Subject) {
    let written = fill(&mut *subject.log);
    let reader = subject.log.reader();
    let before = (reader.root(), reader.durable());
    subject.log.detach().unwrap();
    assert_eq!(reader.state(), LogState::Detached);
    let refused = subject.log.append(&[sample(1, 10)]).unwrap_err();
    assert_eq!(refused.outcome(), Outcome::NotWritten, "{refused}");
    subject.log.resume().unwrap_err();
    subject.log.detach().unwrap();
    assert_eq!(subject.log.attach().unwrap(), None);
    assert_eq!(reader.state(), LogState::Ok);
    assert_eq!((reader.root(), reader.durable()), before);
    let first = subject.log.append(&[sample(1, 1)]).unwrap().first;
    assert_eq!(first.0, written.len() as u64 + 1);
    assert_eq!(scan_all(&*subject.log, 1).len(), written.len() + 1);
}
