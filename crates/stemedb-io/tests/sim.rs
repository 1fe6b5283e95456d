//! The simulated disk loses exactly what a disk may lose, and does so by its seed.
#![expect(clippy::unwrap_used, reason = "in a test the panic is the verdict")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use std::sync::Arc;

use stemedb_io::sim::{
    EIO, ENOSPC, EROFS, Fault, Mishap, OpKind, Personality, Rates, SimClock, SimRng, SimVfs, When,
};
use stemedb_io::{Clock, Open, Rng, Vfs, VfsFile};

fn path() -> &'static Path {
    Path::new("/f")
}

/// A file of two pages of ones, durable with its name.
fn ones(seed: u64) -> (SimVfs, Box<dyn VfsFile>) {
    let vfs = SimVfs::new(seed);
    let file = vfs.open(path(), Open::CreateNew).unwrap();
    file.write_at(&[1; 8192], 0).unwrap();
    file.sync_all().unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    (vfs, file)
}

fn fault(op: OpKind, when: When) -> Fault {
    Fault { op: Some(op), path: String::new(), when, errno: EIO }
}

#[test]
fn what_is_synced_survives_and_what_is_not_tears_at_sectors() {
    let (mut vanished, mut survived, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let (vfs, file) = ones(seed);
        file.write_at(&[2; 4096], 0).unwrap();
        let after = vfs.crash().medium(path()).unwrap();
        assert!(after[4096..].iter().all(|b| *b == 1), "what was synced survives");
        let sectors: Vec<u8> = after[..4096]
            .chunks(512)
            .map(|sector| {
                assert!(sector.iter().all(|b| *b == sector[0]), "sectors are written whole");
                sector[0]
            })
            .collect();
        match sectors.iter().filter(|s| **s == 2).count() {
            0 => vanished += 1,
            8 => survived += 1,
            _ => torn += 1,
        }
    }
    assert!(vanished > 20 && survived > 20 && torn > 20, "{vanished} {survived} {torn}");
}

#[test]
fn unsynced_names_may_be_lost_and_synced_ones_are_not() {
    let mut states = BTreeSet::new();
    for seed in 0..50 {
        let vfs = SimVfs::new(seed);
        vfs.create_dir_all(Path::new("/d")).unwrap();
        vfs.sync_dir(Path::new("/")).unwrap();
        vfs.open(Path::new("/d/kept"), Open::CreateNew).unwrap();
        vfs.sync_dir(Path::new("/d")).unwrap();
        vfs.open(Path::new("/d/tmp"), Open::CreateNew).unwrap();
        vfs.rename(Path::new("/d/tmp"), Path::new("/d/new")).unwrap();
        vfs.remove_file(Path::new("/d/kept")).unwrap();
        let names: Vec<String> =
            vfs.crash().files().iter().map(|p| p.display().to_string()).collect();
        states.insert(names.join(" "));
    }
    let all = ["/d/kept", "/d/kept /d/tmp", "/d/kept /d/new", "/d/new"];
    assert_eq!(states, all.map(String::from).into());
}

#[test]
fn an_unsynced_folder_is_lost_with_what_is_in_it() {
    let mut lost = 0;
    for seed in 0..20 {
        let vfs = SimVfs::new(seed);
        vfs.create_dir_all(Path::new("/d")).unwrap();
        vfs.open(Path::new("/d/f"), Open::CreateNew).unwrap();
        vfs.sync_dir(Path::new("/d")).unwrap();
        lost += usize::from(vfs.crash().files().is_empty());
    }
    assert!(lost > 0 && lost < 20, "{lost}");
}

/// Line 1 of the evidence: the second sync says ok, the cache agrees, and the bytes are gone.
#[test]
fn a_second_sync_lies_after_a_failed_one() {
    for (personality, cache, second_sync_writes) in [
        (Personality::KeepsNew, 2, false),
        (Personality::Reverts, 1, false),
        (Personality::Redirties, 2, true),
    ] {
        let mut lost = 0;
        for seed in 0..40 {
            let (vfs, file) = ones(seed);
            vfs.set_personality(personality);
            vfs.inject(fault(OpKind::SyncData, When::Nth(1)));
            file.write_at(&[2; 4096], 0).unwrap();
            assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
            let mut byte = [0];
            file.read_exact_at(&mut byte, 0).unwrap();
            if personality != Personality::Reverts {
                assert_eq!(byte, [cache], "{personality:?}");
            }
            file.sync_data().unwrap();
            let medium = vfs.medium(path()).unwrap();
            lost += usize::from(medium[..4096].contains(&1));
            if !second_sync_writes {
                file.evict().unwrap();
                file.read_exact_at(&mut byte, 0).unwrap();
                assert_eq!(byte[0], medium[0], "after eviction the medium speaks");
            }
        }
        assert_eq!(lost > 0, !second_sync_writes, "{personality:?} lost {lost}");
    }
}

#[test]
fn faults_strike_when_ordered() {
    let struck = |when| {
        let (vfs, file) = ones(3);
        vfs.inject(fault(OpKind::Write, when));
        (1..=6).filter(|_| file.write_at(&[3; 10], 0).is_err()).count()
    };
    assert_eq!(struck(When::Nth(2)), 1);
    assert_eq!(struck(When::From(2)), 5);
    assert_eq!(struck(When::Ppm(1_000_000)), 6);
    assert_eq!(struck(When::Ppm(0)), 0);

    let (vfs, file) = ones(3);
    vfs.inject(Fault { path: "/other".into(), ..fault(OpKind::Write, When::From(1)) });
    file.write_at(&[3; 10], 0).unwrap();
    vfs.set_capacity(10_000);
    file.write_at(&[3; 10_000], 0).unwrap();
    assert_eq!(file.write_at(&[3], 10_000).unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!(vfs.space(path()).unwrap().available, 0);
}

#[test]
fn without_power_nothing_happens() {
    let (vfs, file) = ones(5);
    vfs.power_off_after(1);
    file.write_at(&[2; 4096], 0).unwrap();
    assert!(file.sync_data().is_err());
    assert!(file.write_at(&[2; 4096], 4096).is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
    let after = vfs.crash();
    assert!(after.medium(path()).unwrap()[4096..].iter().all(|b| *b == 1));
    after.open(path(), Open::Write).unwrap().sync_all().unwrap();
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (vfs, file) = ones(seed);
        vfs.inject(fault(OpKind::Write, When::Ppm(300_000)));
        let rng = SimRng::new(seed);
        for _ in 0..50 {
            let at = rng.next_u64() % 8000;
            let mut bytes = [0; 100];
            rng.fill(&mut bytes);
            let _ = file.write_at(&bytes, at);
        }
        let first = vfs.crash();
        let second = vfs.crash();
        (vfs.fingerprint(), first.medium(path()), second.medium(path()))
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    assert_ne!(run(7).1, run(7).2, "two crashes of one disk explore two states");
}

#[test]
fn clocks_step_and_jump() {
    let clock = SimClock::new(1_000);
    clock.sleep(Duration::from_micros(1_500));
    clock.sleep(Duration::from_micros(1_500));
    assert_eq!((clock.now_ms(), clock.monotonic()), (1_003, Duration::from_millis(3)));
    clock.set_wall(-5);
    assert_eq!((clock.now_ms(), clock.monotonic()), (-5, Duration::from_millis(3)));
    clock.step_on_read(Duration::from_secs(1));
    assert_eq!(clock.monotonic(), Duration::from_millis(1_003));
}

fn always(mishap: Mishap) -> Rates {
    let mut rates = Rates::none();
    rates.set(mishap, 1_000_000);
    rates
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn a_file_system_stays_read_only_until_it_is_mounted_again() {
    let (vfs, file) = ones(1);
    vfs.set_personality(Personality::StickyReadOnly);
    vfs.inject(fault(OpKind::SyncData, When::Nth(1)));
    file.write_at(&[2; 4096], 0).unwrap();
    assert_eq!(errno(file.sync_data()), Some(EIO));
    assert!(vfs.read_only());
    assert_eq!(errno(file.write_at(&[3], 0)), Some(EROFS));
    assert_eq!(errno(file.sync_data()), Some(EROFS));
    assert_eq!(errno(vfs.remove_file(path())), Some(EROFS));
    assert_eq!(errno(vfs.open(Path::new("/g"), Open::CreateNew).map(drop)), Some(EROFS));
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [2], "the cache keeps what the medium may not have");
    assert!(vfs.remount().is_err(), "a file is open");
    drop(file);
    vfs.remount().unwrap();
    let file = vfs.open(path(), Open::Write).unwrap();
    file.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(byte[0], vfs.medium(path()).unwrap()[0], "the cache is gone");
    file.write_at(&[4], 0).unwrap();
    file.sync_data().unwrap();
}

#[test]
fn a_late_error_is_told_once_to_every_descriptor() {
    let (vfs, file) = ones(2);
    let second = vfs.open(path(), Open::Write).unwrap();
    let third = vfs.open(path(), Open::Write).unwrap();
    vfs.set_personality(Personality::ReportsLate);
    vfs.set_rates(always(Mishap::SyncEio));
    file.write_at(&[2; 4096], 0).unwrap();
    vfs.set_rates(Rates::none());
    assert_eq!(errno(file.sync_data()), Some(EIO));
    file.sync_data().unwrap();
    assert_eq!(errno(second.sync_all()), Some(EIO), "another descriptor");
    assert_eq!(errno(third.close()), Some(EIO), "at close");
    vfs.open(path(), Open::Write).unwrap().sync_all().unwrap();
}

#[test]
fn lies_are_remembered_sector_by_sector() {
    let mut later = 0;
    for mishap in Mishap::ALL.into_iter().filter(|mishap| mishap.lies()) {
        let mut harmed = 0;
        for seed in 0..20 {
            let (vfs, file) = ones(seed);
            vfs.set_rates(always(mishap));
            file.write_at(&[2; 8192], 0).unwrap();
            file.sync_data().unwrap();
            vfs.set_rates(Rates::none());
            let medium = vfs.medium(path()).unwrap();
            let wrong: Vec<usize> = (0..16).filter(|sector| medium[sector * 512] != 2).collect();
            assert_eq!(vfs.harmed(path()), wrong, "{mishap:?}");
            assert_eq!(vfs.unharmed().medium(path()).unwrap(), [2; 8192]);
            harmed += wrong.len();
            later += usize::from(file.sync_data().is_err());
            // Writing it again mends it.
            file.write_at(&[3; 8192], 0).unwrap();
            file.sync_data().unwrap();
            assert_eq!(vfs.harmed(path()), [0; 0]);
        }
        assert!(harmed > 20, "{mishap:?}: {harmed}");
    }
    assert_eq!(later, 20, "a late report comes with the next sync");
}

#[test]
fn a_medium_rots_behind_the_cache() {
    let (vfs, file) = ones(3);
    file.read_exact_at(&mut [0], 0).unwrap();
    assert!(vfs.harm(path(), 1, &[9; 512]));
    assert!(!vfs.harm(path(), 1, &[9; 512]), "nothing changes");
    assert!(vfs.spoil(path(), 8));
    assert_eq!(vfs.harmed(path()), [1, 8]);
    let mut byte = [0];
    file.read_exact_at(&mut byte, 512).unwrap();
    assert_eq!(byte, [1], "the cache is as it was");
    file.evict().unwrap();
    file.read_exact_at(&mut byte, 512).unwrap();
    assert_eq!(byte, [9]);
    assert_eq!(errno(file.read_exact_at(&mut byte, 4096)), Some(EIO));
    assert_eq!(vfs.crash().harmed(path()), [1, 8], "harm outlives the power");
    assert!(vfs.harm(path(), 1, &[1; 512]));
    assert_eq!(vfs.harmed(path()), [8], "by chance it is right again");
}

#[test]
fn a_slow_sync_takes_its_time() {
    let (vfs, file) = ones(4);
    let clock = Arc::new(SimClock::new(0));
    vfs.set_clock(clock.clone());
    vfs.set_rates(always(Mishap::SyncSlow));
    file.sync_data().unwrap();
    assert!(clock.monotonic() >= Duration::from_secs(1));
    assert_eq!(vfs.struck().get(&Mishap::SyncSlow), Some(&1));
}

#[test]
fn without_a_journal_any_subset_of_names_survives() {
    let mut states = BTreeSet::new();
    for seed in 0..60 {
        let vfs = SimVfs::new(seed);
        vfs.set_any_names(true);
        for name in ["/a", "/b"] {
            vfs.open(Path::new(name), Open::CreateNew).unwrap();
        }
        states.insert(vfs.crash().files());
    }
    assert_eq!(states.len(), 4, "also the second one without the first");
}
