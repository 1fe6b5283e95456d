//! Power is cut, syncs fail, processes die: acknowledged records stay, and no record appears that
//! was not written.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test the panic is the verdict")]

mod world;

use proptest::prelude::*;
use stemedb_io::sim::{EIO, ENOSPC, Fault, OpKind, Personality, SimVfs, When};
use stemedb_log::{Log, LogError, LogState, NewEntry, Outcome, Recovery, Wal, WalConfig};
use world::*;

/// Runs a script from an empty disk, the power going after so many changes.
fn until_power_off(seed: u64, groups: &[Vec<NewEntry>], changes: u64) -> (SimVfs, Ran) {
    let vfs = SimVfs::new(seed);
    vfs.power_off_after(changes);
    let mut ran = Ran::default();
    match open(&vfs, NEW) {
        Ok((mut wal, _)) => run(&mut wal, groups, &mut ran),
        Err(error) => ran.error = Some(error),
    }
    (vfs, ran)
}

/// Opens as a database would: with what its index knows, and as new if nothing was ever
/// acknowledged and nothing is there.
fn reopen(vfs: &SimVfs, ran: &Ran) -> Result<(Wal, Recovery), LogError> {
    reopen_with(vfs, ran, config())
}

fn reopen_with(vfs: &SimVfs, ran: &Ran, config: WalConfig) -> Result<(Wal, Recovery), LogError> {
    if ran.acknowledged == 0
        && let Ok(opened) = Wal::open(config.clone(), env_on(vfs, 77), NEW)
    {
        return Ok(opened);
    }
    let witness = (ran.acknowledged > 0).then_some(ran.acknowledged as u64);
    Wal::open(config, env_on(vfs, 77), existing(witness))
}

/// Whatever the crash left: nothing acknowledged is missing, nothing else appears, and the log
/// goes on from there and can be opened once more.
fn check_recovery(vfs: &SimVfs, ran: &Ran, groups: &[Vec<NewEntry>]) {
    let (mut wal, recovery) = match (reopen(vfs, ran), &ran.error) {
        // A write that failed in the middle of a sector leaves bytes that nothing can explain:
        // the operator is asked, and may void them.
        (Err(LogError::TailUndecided { .. }), Some(LogError::Io { .. })) => {
            reopen_with(vfs, ran, WalConfig { void_tail: true, ..config() }).unwrap()
        }
        (opened, _) => opened.unwrap(),
    };
    let durable = check_prefix(&*wal.reader(), groups);
    assert!(durable >= ran.acknowledged, "{durable} of {} acknowledged", ran.acknowledged);
    assert!(durable <= ran.possible.max(ran.acknowledged), "{durable} records, {ran:?}");
    assert_eq!(recovery.durable.0 as usize, durable);
    assert!(recovery.read_from_medium);

    let mut written = 0;
    let rest: Vec<_> = groups
        .iter()
        .skip_while(|group| {
            written += group.len();
            written <= durable
        })
        .cloned()
        .collect();
    let mut again = Ran { acknowledged: durable, ..Ran::default() };
    run(&mut wal, &rest, &mut again);
    assert!(again.error.is_none(), "{again:?}");
    drop(wal);
    let all: usize = groups.iter().map(Vec::len).sum();
    let (wal, _) = open(&vfs.crash(), existing(Some(all as u64))).unwrap();
    assert_eq!(check_prefix(&*wal.reader(), groups), all);
}

#[test]
fn power_is_cut_at_every_change() {
    for seed in 1..4 {
        let groups = script(seed, 24);
        let (whole, ran) = until_power_off(seed, &groups, u64::MAX);
        assert!(ran.error.is_none());
        assert!(whole.files().len() > 3, "the script is long enough to rotate");
        for changes in 0..whole.changes() {
            let (vfs, ran) = until_power_off(seed, &groups, changes);
            for _ in 0..3 {
                check_recovery(&vfs.crash(), &ran, &groups);
            }
        }
    }
}

#[test]
fn power_is_cut_again_at_every_change_of_the_recovery() {
    let groups = script(5, 10);
    let total = until_power_off(5, &groups, u64::MAX).0.changes();
    for changes in (total / 3..total).step_by(3) {
        let (vfs, ran) = until_power_off(5, &groups, changes);
        let crashed = vfs.crash();
        for again in 0..12 {
            let second = crashed.fork();
            second.power_off_after(again);
            let _ = reopen(&second, &ran);
            check_recovery(&second.crash(), &ran, &groups);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random groups, a cut at a random change, a random survival of what was not synced.
    #[test]
    fn recovery_gives_the_acknowledged_prefix(seed in any::<u32>(), part in 0u64..1000) {
        let groups = script(u64::from(seed), 12);
        let total = until_power_off(u64::from(seed), &groups, u64::MAX).0.changes();
        let (vfs, ran) = until_power_off(u64::from(seed), &groups, total * part / 1000);
        check_recovery(&vfs.crash(), &ran, &groups);
    }
}

/// Lines 1 to 3 of the evidence: a failed sync, then a new process on the same machine, whose
/// first sync says ok and whose cache still shows the group. Only the medium counts.
#[test]
fn a_failed_sync_is_decided_by_the_medium() {
    let groups = script(9, 8);
    let (mut appeared, mut vanished) = (0, 0);
    for personality in [Personality::KeepsNew, Personality::Reverts, Personality::Redirties] {
        for seed in 0..40 {
            for nth in [4, 5, 6, 9] {
                let vfs = SimVfs::new(seed);
                vfs.set_personality(personality);
                let (mut wal, _) = open(&vfs, NEW).unwrap();
                // All later ones, too: the log can neither heal nor say that the group is void.
                vfs.inject(fault(Some(OpKind::SyncData), When::From(nth), EIO));
                let mut ran = Ran::default();
                run(&mut wal, &groups, &mut ran);
                assert!(ran.error.is_some());
                let reader = wal.reader();
                let shown = reader.durable().0.0 as usize;
                assert_eq!(shown, ran.acknowledged, "readers are shown what is not durable");
                assert!(matches!(reader.state(), LogState::ReadOnly { .. }));
                check_prefix(&*reader, &groups);
                drop(wal);

                let restarted = vfs.fork();
                let (wal, _) = reopen(&restarted, &ran).unwrap();
                let durable = wal.reader().durable().0.0 as usize;
                drop(wal);
                if durable > ran.acknowledged {
                    appeared += 1;
                } else {
                    vanished += 1;
                }
                // What the restarted process showed must survive the power cut that follows.
                let (wal, _) = open(&restarted.crash(), existing(Some(durable as u64))).unwrap();
                let later = wal.reader().durable().0.0 as usize;
                assert_eq!(later, durable, "a value appeared and vanished");
                drop(wal);
                check_recovery(&restarted, &ran, &groups);
            }
        }
    }
    assert!(appeared > 10 && vanished > 10, "both fates were seen: {appeared}, {vanished}");
}

fn fault(op: Option<OpKind>, when: When, errno: i32) -> Fault {
    Fault { op, path: DIR.into(), when, errno }
}

/// One operation fails, or everything from one operation on: outcomes are honest, a log that could
/// not heal stays read-only, and the next process finds what was acknowledged.
#[test]
fn any_operation_may_fail() {
    let groups = script(21, 12);
    let (whole, _) = until_power_off(21, &groups, u64::MAX);
    let total = whole.count_all();
    let (mut not_written, mut indeterminate, mut read_only_later, mut healed) = (0, 0, 0, 0);
    for n in 1..=total {
        for when in [When::Nth(n), When::From(n)] {
            let vfs = SimVfs::new(21);
            vfs.inject(fault(None, when, EIO));
            let mut ran = Ran::default();
            let opened = open(&vfs, NEW);
            let Ok((mut wal, _)) = opened else {
                check_recovery(&vfs.fork(), &ran, &groups);
                continue;
            };
            run(&mut wal, &groups, &mut ran);
            if let Some(error) = &ran.error {
                match error.outcome() {
                    Outcome::NotWritten => not_written += 1,
                    Outcome::Indeterminate => indeterminate += 1,
                }
                vfs.clear_faults();
                let again = wal.append(&groups[0]).unwrap_err();
                assert!(matches!(again, LogError::ReadOnly { .. }), "{again}");
                read_only_later += 1;
            } else if matches!(wal.reader().state(), LogState::Degraded { .. }) {
                healed += 1;
            }
            drop(wal);
            check_recovery(&vfs.fork(), &ran, &groups);
            check_recovery(&vfs.crash(), &ran, &groups);
        }
    }
    let all = (not_written, indeterminate, read_only_later, healed);
    let seen = not_written > 5 && indeterminate > 10 && read_only_later > 20 && healed > 20;
    assert!(seen, "{all:?}");
}

/// No room for the next segment refuses before a byte is written, and ends when there is room.
#[test]
fn no_room_is_not_a_failure_of_the_medium() {
    let groups = script(3, 40);
    let vfs = SimVfs::new(3);
    vfs.set_capacity(3 * config().segment_bytes + 100);
    let (mut wal, _) = open(&vfs, NEW).unwrap();
    let mut ran = Ran::default();
    run(&mut wal, &groups, &mut ran);
    let reader = wal.reader();
    let error = ran.error.take().unwrap();
    assert!(matches!(error, LogError::Unprepared { .. }), "{error}");
    assert_eq!(error.outcome(), Outcome::NotWritten);
    assert!(matches!(reader.state(), LogState::Degraded { .. }));
    assert_eq!(check_prefix(&*reader, &groups), ran.acknowledged);

    vfs.set_capacity(u64::MAX);
    let mut written = 0;
    let rest: Vec<_> = groups
        .iter()
        .skip_while(|group| {
            written += group.len();
            written <= ran.acknowledged
        })
        .cloned()
        .collect();
    run(&mut wal, &rest, &mut ran);
    assert!(ran.error.is_none(), "{ran:?}");
    assert_eq!(reader.state(), LogState::Ok);
    assert_eq!(check_prefix(&*reader, &groups), groups.concat().len());
}

#[test]
fn no_room_at_a_sync_is_a_failure_of_the_medium() {
    let groups = script(3, 4);
    let vfs = SimVfs::new(3);
    let (mut wal, _) = open(&vfs, NEW).unwrap();
    let in_the_log =
        Fault { path: "segment.001".into(), ..fault(Some(OpKind::SyncData), When::Nth(2), ENOSPC) };
    vfs.inject(in_the_log);
    let mut ran = Ran::default();
    run(&mut wal, &groups, &mut ran);
    assert!(ran.error.is_none(), "{ran:?}");
    assert!(matches!(wal.reader().state(), LogState::Degraded { .. }));
    assert_eq!(check_prefix(&*wal.reader(), &groups), groups.concat().len());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (vfs, ran) = until_power_off(seed, &script(seed, 12), 60);
        let crashed = vfs.crash();
        let durable = reopen(&crashed, &ran).map(|(_, recovery)| recovery.durable);
        (vfs.fingerprint(), crashed.fingerprint(), durable.unwrap())
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4).0, run(5).0);
}

/// Found by the simulator (seed 1024): the folder was made, its name did not become durable, and
/// the next start found it there.
#[test]
fn a_folder_that_is_there_may_not_be_durable_yet() {
    let group = &script(1, 1)[0];
    for seed in 0..20 {
        let vfs = SimVfs::new(seed);
        vfs.inject(Fault {
            path: "/data".into(),
            ..fault(Some(OpKind::SyncDir), When::Nth(1), EIO)
        });
        let refused = open(&vfs, NEW).unwrap_err();
        assert!(matches!(refused, LogError::Io { .. }), "{refused}");
        let disk = vfs.fork();
        // The process that began ends before the folder is durable; the next one goes on.
        let (mut wal, _) = open(&disk, NEW).unwrap();
        wal.append(group).unwrap();
        drop(wal);
        let (wal, _) = open(&disk.crash(), existing(Some(group.len() as u64))).unwrap();
        assert_eq!(wal.reader().durable().0.0 as usize, group.len());
    }
}

/// Found by the simulator (seed 2017): the medium failed while a segment was prepared, then there
/// was no room, then there was, and nothing told of the failure any more.
#[test]
fn want_of_room_does_not_hide_a_failure() {
    let groups = script(3, 2);
    let vfs = SimVfs::new(1);
    let in_order = |op, nth, errno| {
        vfs.inject(Fault { path: "/wal".into(), ..fault(Some(op), When::Nth(nth), errno) });
    };
    // In the folder as it is opened, then after the rename of the first segment.
    in_order(OpKind::SyncDir, 2, EIO);
    in_order(OpKind::Allocate, 2, ENOSPC);
    let (mut wal, _) = open(&vfs, NEW).unwrap();
    wal.append(&groups[0]).unwrap();
    match wal.reader().state() {
        LogState::Degraded { reason } => assert!(reason.contains("sync folder"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// What is read of a segment at a start is read after its sync, and after its cache was dropped and
/// seen to be gone. What that look has fetched is dropped once more before: real files are read at
/// half the speed otherwise.
#[test]
fn a_start_reads_after_sync_drop_and_look() {
    let vfs = written(41, &script(41, 30), true);
    vfs.keep_trace(100_000);
    open(&vfs, existing(None)).unwrap();
    let trace = vfs.trace();
    let mut segments = 0;
    for path in (1..).map(segment).take_while(|path| vfs.medium(path).is_some()) {
        let ops: Vec<OpKind> =
            trace.iter().filter(|traced| traced.path == path).map(|traced| traced.op).collect();
        let first = |wanted| ops.iter().position(|op| *op == wanted).unwrap();
        let read = first(OpKind::Read);
        let before = ops.get(..read).unwrap();
        let last = |wanted| before.iter().rposition(|op| *op == wanted).unwrap();
        assert!(first(OpKind::SyncAll) < first(OpKind::Evict), "{path:?}: {ops:?}");
        assert!(first(OpKind::Evict) < first(OpKind::ReadNowait), "{path:?}: {ops:?}");
        assert!(last(OpKind::ReadNowait) < last(OpKind::Evict), "{path:?}: {ops:?}");
        segments += 1;
    }
    assert!(segments > 3, "{segments} segments");
}
