//! The medium fails and comes back: the log goes on by itself where it can prove that nothing is
//! lost, stops where it cannot, and never takes back what it said.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test the panic is the verdict"
)]

mod world;

use std::sync::Arc;
use std::time::Duration;

use stemedb_io::sim::{
    EIO, ENOSPC, Fault, Mishap, OpKind, Personality, Rates, SimClock, SimVfs, When,
};
use stemedb_io::{Env, Vfs};
use stemedb_log::conformance::START_MS;
use stemedb_log::{Log, LogError, LogState, NewEntry, OnFailure, Outcome, Wal, WalConfig};
use world::*;

const PERSONALITIES: [Personality; 3] =
    [Personality::KeepsNew, Personality::Reverts, Personality::Redirties];

fn fault(op: Option<OpKind>, path: &str, when: When, errno: i32) -> Fault {
    Fault { op, path: path.into(), when, errno }
}

/// A log whose clock the test moves.
fn open_with(vfs: &SimVfs, config: WalConfig) -> (Wal, Arc<SimClock>) {
    let clock = Arc::new(SimClock::new(START_MS));
    let env = Env { clock: clock.clone(), ..env_on(vfs, 77) };
    let (wal, _) = Wal::open(config, env, NEW).unwrap();
    (wal, clock)
}

/// Time passes; the wall clock is set back, so that the stamps stay those of the reference.
fn later(clock: &SimClock, seconds: u64) {
    clock.step(Duration::from_secs(seconds));
    clock.set_wall(START_MS);
}

/// Appends every group, as an engine would: what is undecided is asked for until it is decided,
/// what was not written is sent again. `mend` is called before each attempt to go on.
fn persist(wal: &mut Wal, groups: &[Vec<NewEntry>], clock: &SimClock, mend: &mut dyn FnMut()) {
    let mut position = wal.reader().durable().0.0;
    for (n, group) in groups.iter().enumerate() {
        let commit = loop {
            let error = match wal.append(group) {
                Ok(commit) => break commit,
                Err(error) => error,
            };
            mend();
            later(clock, 100);
            match (error.outcome(), wal.resume()) {
                (Outcome::Indeterminate, Ok(Some(commit))) => break commit,
                (Outcome::NotWritten, Ok(None)) => {}
                other => panic!("group {n}: {other:?}"),
            }
        };
        assert_eq!(commit.first.0, position + 1, "group {n} is not behind what was acknowledged");
        position += group.len() as u64;
        if n % 4 == 3 && wal.seal().is_err() {
            mend();
            later(clock, 100);
            assert_eq!(wal.resume().unwrap(), None);
        }
    }
}

/// Everything is there: now, for the next process, and after a power cut.
fn check_all(vfs: &SimVfs, wal: Wal, groups: &[Vec<NewEntry>]) {
    let all = groups.concat().len();
    assert_eq!(check_prefix(&*wal.reader(), groups), all);
    drop(wal);
    for disk in [vfs.fork(), vfs.crash()] {
        let (wal, _) = open(&disk, existing(Some(all as u64))).unwrap();
        assert_eq!(check_prefix(&*wal.reader(), groups), all);
    }
}

/// Each operation of a run fails once, on every kind of file system. Nothing is ever lost, nothing
/// is there twice, and the writer gets everything in without a restart.
#[test]
fn any_operation_may_fail_once() {
    let groups = script(21, 24);
    let whole = SimVfs::new(1);
    let (mut wal, clock) = open_with(&whole, config());
    let before = whole.count_all();
    persist(&mut wal, &groups, &clock, &mut || panic!("nothing failed"));
    let total = whole.count_all() - before;
    assert!(total > 60, "{total}");
    for personality in PERSONALITIES {
        let mut degraded = 0;
        for n in 1..=total {
            let vfs = SimVfs::new(n);
            vfs.set_personality(personality);
            let (mut wal, clock) = open_with(&vfs, config());
            vfs.inject(fault(None, "", When::Nth(n), EIO));
            persist(&mut wal, &groups, &clock, &mut || ());
            degraded += usize::from(matches!(wal.reader().state(), LogState::Degraded { .. }));
            check_all(&vfs, wal, &groups);
        }
        assert!(degraded > 20, "{personality:?}: {degraded} of {total}");
    }
}

/// The medium is gone from some operation on until somebody mends it.
#[test]
fn a_medium_may_be_gone_for_a_while() {
    let groups = script(22, 10);
    for op in [None, Some(OpKind::Write), Some(OpKind::SyncData), Some(OpKind::SyncAll)] {
        for errno in [EIO, ENOSPC] {
            for n in (1..80).step_by(3) {
                let vfs = SimVfs::new(n);
                let (mut wal, clock) = open_with(&vfs, config());
                vfs.inject(fault(op, "segment", When::From(n), errno));
                persist(&mut wal, &groups, &clock, &mut || vfs.clear_faults());
                vfs.clear_faults();
                check_all(&vfs, wal, &groups);
            }
        }
    }
}

/// A medium that confirms the fence and does not hold it: nobody is told "not written" of a group
/// that the next start may find.
#[test]
fn a_fence_that_the_medium_lacks_voids_nothing() {
    let groups = script(26, 3);
    let before = groups[..2].concat().len();
    let mut rates = Rates::none();
    rates.set(Mishap::SilentDrop, 1_000_000);
    let (mut voided, mut open_still) = (0, 0);
    for seed in 0..200 {
        let vfs = SimVfs::new(seed);
        let stops = WalConfig { on_failure: OnFailure::Stop, ..config() };
        let (mut wal, clock) = open_with(&vfs, stops);
        persist(&mut wal, &groups[..2], &clock, &mut || ());
        vfs.inject(fault(Some(OpKind::SyncData), "segment.001", When::Nth(1), EIO));
        vfs.set_rates(rates.clone());
        match wal.append(&groups[2]).unwrap_err().outcome() {
            Outcome::Indeterminate => open_still += 1,
            Outcome::NotWritten => {
                voided += 1;
                vfs.set_rates(Rates::none());
                drop(wal);
                let disk = vfs.crash();
                let (wal, _) = open(&disk, existing(None)).unwrap();
                assert_eq!(check_prefix(&*wal.reader(), &groups[..2]), before, "seed {seed}");
            }
        }
    }
    assert!(voided > 20 && open_still > 20, "{voided} {open_still}");
}

/// Where it cannot be proved what the medium holds, the group is voided, the log stops, and only
/// an operator or a restart brings it back.
#[test]
fn what_cannot_be_proved_is_not_healed() {
    let groups = script(23, 6);
    for seed in 0..30 {
        let vfs = SimVfs::new(seed);
        vfs.set_rereads(false);
        let (mut wal, clock) = open_with(&vfs, config());
        persist(&mut wal, &groups[..2], &clock, &mut || ());
        vfs.inject(fault(Some(OpKind::SyncData), "segment.001", When::Nth(1), EIO));
        let error = wal.append(&groups[2]).unwrap_err();
        assert!(matches!(error, LogError::GivenUp { .. }), "{error}");
        assert_eq!(error.outcome(), Outcome::NotWritten);
        assert!(error.to_string().contains("file system"), "{error}");
        later(&clock, 100);
        assert!(matches!(wal.resume(), Err(LogError::ReadOnly { .. })));
        // It is not in the log, whatever the medium kept of it.
        let durable = groups[..2].concat().len() as u64;
        for disk in [vfs.fork(), vfs.crash()] {
            let (wal, recovery) = open(&disk, existing(Some(durable))).unwrap();
            assert_eq!(recovery.durable.0, durable);
            check_prefix(&*wal.reader(), &groups);
        }
        let written = wal.attach().unwrap();
        assert_eq!(written, None, "told not written, and written");
        assert!(matches!(wal.reader().state(), LogState::Degraded { .. }));
        persist(&mut wal, &groups[2..], &clock, &mut || ());
        check_all(&vfs, wal, &groups);
    }
}

/// One failure may be an accident; the second one within an hour is not healed at once.
#[test]
fn a_second_failure_within_an_hour_stops() {
    for (pause_s, stops) in [(3_599, true), (3_600, false)] {
        let groups = script(24, 8);
        let vfs = SimVfs::new(4);
        let (mut wal, clock) = open_with(&vfs, config());
        let fail = || vfs.inject(fault(Some(OpKind::SyncData), "segment", When::Nth(1), EIO));
        fail();
        wal.append(&groups[0]).unwrap();
        assert!(matches!(wal.reader().state(), LogState::Degraded { .. }));
        later(&clock, pause_s);
        vfs.clear_faults();
        fail();
        let second = wal.append(&groups[1]);
        assert_eq!(second.is_err(), stops, "{second:?}");
        if let Err(error) = second {
            assert!(error.to_string().contains("second failure"), "{error}");
            assert_eq!(error.outcome(), Outcome::NotWritten);
            later(&clock, 1);
            assert_eq!(wal.resume().unwrap(), None);
            wal.append(&groups[1]).unwrap();
        }
        persist(&mut wal, &groups[2..], &clock, &mut || ());
        check_all(&vfs, wal, &groups);
    }
}

/// `wal.on_failure = "stop"`: told at once, nothing is left open, and the log comes back when the
/// medium does.
#[test]
fn a_log_told_to_stop_stops() {
    let groups = script(25, 6);
    let vfs = SimVfs::new(5);
    let stop = WalConfig { on_failure: OnFailure::Stop, ..config() };
    let (mut wal, clock) = open_with(&vfs, stop);
    vfs.inject(fault(Some(OpKind::Write), "segment", When::Nth(2), EIO));
    wal.append(&groups[0]).unwrap();
    let error = wal.append(&groups[1]).unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotWritten, "{error}");
    assert!(error.to_string().contains("on_failure"), "{error}");
    let refused = wal.append(&groups[1]).unwrap_err();
    assert!(matches!(refused, LogError::ReadOnly { .. }), "{refused}");
    persist(&mut wal, &groups[1..], &clock, &mut || ());
    check_all(&vfs, wal, &groups);
}

/// The durable part of the old segment is not on the medium, whatever the cache shows: no proof,
/// no writes, and the positions are named.
#[test]
fn a_failed_proof_names_the_positions() {
    let groups = script(26, 6);
    let vfs = SimVfs::new(6);
    let (mut wal, clock) = open_with(&vfs, config());
    persist(&mut wal, &groups[..3], &clock, &mut || ());
    // A disk that loses what it had confirmed.
    vfs.rot(&segment(1), 2 * 4096 + 100, 1).unwrap();
    vfs.inject(fault(Some(OpKind::SyncData), "segment.001", When::Nth(1), EIO));
    let told = wal.append(&groups[3]);
    let reason = match wal.reader().state() {
        LogState::ReadOnly { reason } => reason,
        other => panic!("proved what the medium has lost: {other:?}"),
    };
    assert!(reason.contains("segment.001.wal") && reason.contains("positions"), "{reason}");
    later(&clock, 100);
    wal.resume().unwrap_err();
    assert!(matches!(wal.append(&groups[4]), Err(LogError::ReadOnly { .. })));
    // What was said of the group is true all the same.
    let durable = wal.reader().durable().0.0 as usize;
    assert_eq!(durable, groups[..if told.is_ok() { 4 } else { 3 }].concat().len());
    drop(wal);
    let refused = open(&vfs.crash(), existing(None)).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { .. }), "{refused}");
}

/// Some file systems tell of a failed write when a file is closed. The log has left it by then, and
/// reads it back all the same.
#[test]
fn an_error_of_close_is_one_of_the_medium() {
    let groups = script(31, 16);
    for lost in [false, true] {
        let vfs = SimVfs::new(9);
        let (mut wal, _) = open_with(&vfs, config());
        vfs.inject(fault(Some(OpKind::Close), "segment.001", When::Nth(1), EIO));
        wal.append(&groups[0]).unwrap();
        if lost {
            vfs.rot(&segment(1), 4096 + 100, 1).unwrap();
        }
        let told = groups[1..].iter().find_map(|group| {
            wal.append(group).unwrap();
            Some(wal.reader().state()).filter(|state| *state != LogState::Ok)
        });
        match told {
            Some(LogState::Degraded { reason }) if !lost => {
                assert!(reason.contains("close"), "{reason}");
            }
            Some(LogState::ReadOnly { reason }) if lost => {
                assert!(reason.contains("close") && reason.contains("positions"), "{reason}");
            }
            other => panic!("an error of close was passed over, lost: {lost}: {other:?}"),
        }
    }
}

/// A file system that was checked may have lost a file: attaching says which, and can be repeated.
#[test]
fn attaching_proves_every_file() {
    let groups = script(27, 16);
    let vfs = SimVfs::new(7);
    let (mut wal, clock) = open_with(&vfs, config());
    persist(&mut wal, &groups, &clock, &mut || ());
    let held = vfs.fork();
    wal.detach().unwrap();
    assert!(open(&vfs, existing(None)).is_ok(), "the folder is free for others");
    let first = vfs.medium(&segment(1)).unwrap();
    vfs.take(&segment(1)).unwrap();
    let missing = wal.attach().unwrap_err();
    assert!(missing.to_string().contains("segment.001.wal"), "{missing}");
    assert_eq!(wal.reader().state(), LogState::Detached);
    assert!(matches!(wal.reader().read(stemedb_model::Position(1)), Err(LogError::Detached)));
    vfs.put(&segment(1), first).unwrap();
    assert_eq!(wal.attach().unwrap(), None);
    assert_eq!(wal.reader().state(), LogState::Ok);
    check_all(&vfs, wal, &groups);
    drop(held);
}

/// What keeps the file system busy is named instead of detaching in vain.
#[test]
fn detaching_is_refused_while_something_else_is_open_there() {
    let vfs = SimVfs::new(8);
    vfs.create_dir_all(std::path::Path::new("/data/index")).unwrap();
    let config = WalConfig { open_besides: vec!["/data/index".into()], ..config() };
    let (mut wal, _) = open_with(&vfs, config);
    wal.append(&script(28, 1)[0]).unwrap();
    let refused = wal.detach().unwrap_err();
    assert!(refused.to_string().contains("/data/index"), "{refused}");
    assert_eq!(wal.reader().state(), LogState::Ok);
    wal.append(&script(29, 1)[0]).unwrap();
}

/// The process dies, or the power goes, at every change while the log heals.
#[test]
fn a_crash_while_healing_loses_nothing() {
    let groups = script(30, 5);
    for personality in PERSONALITIES {
        for changes in 0..30 {
            let vfs = SimVfs::new(changes);
            vfs.set_personality(personality);
            let (mut wal, clock) = open_with(&vfs, config());
            persist(&mut wal, &groups[..3], &clock, &mut || ());
            let acknowledged = groups[..3].concat().len();
            vfs.inject(fault(Some(OpKind::SyncData), "segment.001", When::Nth(1), EIO));
            vfs.power_off_after(changes);
            let told = wal.append(&groups[3]).map_err(|error| error.outcome());
            drop(wal);
            for disk in [vfs.fork(), vfs.crash()] {
                let (wal, _) = open(&disk, existing(Some(acknowledged as u64))).unwrap();
                let durable = check_prefix(&*wal.reader(), &groups);
                let whole = groups[..4].concat().len();
                match told {
                    Ok(_) => assert_eq!(durable, whole),
                    Err(Outcome::NotWritten) => assert_eq!(durable, acknowledged),
                    Err(Outcome::Indeterminate) => {
                        assert!(durable == whole || durable == acknowledged);
                    }
                }
            }
        }
    }
}
