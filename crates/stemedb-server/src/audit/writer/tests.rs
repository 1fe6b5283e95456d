use std::collections::BTreeMap;

use serde_json::json;
use stemedb_io::Clock;
use stemedb_io::sim::{EIO, ENOSPC, Fault, OpKind, Personality, SimClock, SimVfs, When, world};
use tokio::sync::oneshot::Receiver;

use super::super::reader::{self, Filter};
use super::super::verify::{AuditReport, verify};
use super::*;

const LOG_ID: LogId = LogId([0x1d; 16]);
const DATA: &str = "/data";

fn config() -> AuditConfig {
    AuditConfig {
        rotate_bytes: 2_000,
        keep_bytes: 0,
        sync_every: Duration::ZERO,
        ..Default::default()
    }
}

/// A disk with a durable data folder.
fn disk(seed: u64) -> (SimVfs, Arc<SimClock>, Env) {
    let (vfs, clock, env) = world(seed, 1_760_000_000_000);
    vfs.create_dir_all(Path::new(DATA)).unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    (vfs, clock, env)
}

fn dir() -> PathBuf {
    crate::audit::audit_dir(Path::new(DATA))
}

fn open_writer(env: &Env, config: AuditConfig) -> (Writer, Arc<Shared>) {
    let shared = Arc::new(Shared::new());
    let writer = Writer::open(env, Path::new(DATA), LOG_ID, config, Arc::clone(&shared));
    (writer, shared)
}

/// An entry that can be told from all others.
fn read(n: u64) -> AuditEntry {
    let mut entry = blank(AuditKind::Read, Millis(n.cast_signed()));
    entry.principal = Some("local".into());
    entry.question = Some(json!({"subject": format!("s/{n}")}));
    entry
}

fn add(writer: &mut Writer, n: u64) -> Receiver<bool> {
    let (tell, told) = oneshot::channel();
    writer.add(read(n), Some(tell));
    told
}

fn report(vfs: &SimVfs) -> AuditReport {
    verify(vfs, &dir()).unwrap()
}

/// Everything that a fresh start can list, oldest first.
fn listed(env: &Env) -> Vec<AuditEntry> {
    let (_, shared) = open_writer(env, config());
    list(env, &shared)
}

fn list(env: &Env, shared: &Shared) -> Vec<AuditEntry> {
    let files = shared.now().files;
    let (mut all, mut before) = (Vec::new(), u64::MAX);
    loop {
        let filter = Filter::default();
        let (page, next) = reader::list(&*env.vfs, &dir(), &files, &filter, before, 7).unwrap();
        all.extend(page);
        match next {
            Some(next) => before = next,
            None => break,
        }
    }
    all.reverse();
    all
}

/// The questions by what they ask; an entry twice fails the test.
fn asked(entries: &[AuditEntry]) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.kind == AuditKind::Read) {
        let subject = entry.question.as_ref().unwrap()["subject"].as_str().unwrap().to_owned();
        let twice = found.insert(subject, entry.id);
        assert_eq!(twice, None, "{entry:?}");
    }
    found
}

fn dense(entries: &[AuditEntry]) {
    for pair in entries.windows(2) {
        assert_eq!(pair[1].id, pair[0].id + 1, "{pair:?}");
    }
}

#[test]
fn the_chain_goes_on_over_files_and_starts() {
    let (vfs, _, env) = disk(1);
    for start in 0..4u64 {
        let (mut writer, shared) = open_writer(&env, config());
        assert_eq!(shared.now().last, start * 26);
        for n in 0..25 {
            let told = add(&mut writer, start * 100 + n);
            if n % 3 == 0 {
                writer.work();
                assert_eq!(told.blocking_recv(), Ok(true));
            }
        }
        writer.close();
        assert_eq!(shared.failing(), None);
    }
    let found = report(&vfs);
    assert_eq!(found.findings, []);
    assert_eq!((found.last, found.log_id), (104, Some(LOG_ID)));
    assert!(found.files.len() > 8, "{:?}", found.files);
    assert!(found.files.iter().all(|file| file.cut == 0));
    let entries = listed(&env);
    assert_eq!(entries.len(), 104);
    assert_eq!(asked(&entries).len(), 100);
    dense(&entries);
    assert_eq!(found.chain, Some(entries[103].chain.0));
    let (_, shared) = open_writer(&env, config());
    let files = shared.now().files;
    for entry in &entries {
        let one = reader::find(&vfs, &dir(), &files, entry.id).unwrap();
        assert_eq!(one.as_ref(), Some(entry));
    }
    assert_eq!(reader::find(&vfs, &dir(), &files, 105).unwrap(), None);
    assert_eq!(reader::find(&vfs, &dir(), &files, 0).unwrap(), None);
}

#[test]
fn entries_are_found_by_what_they_say() {
    let (vfs, _, env) = disk(2);
    let (mut writer, shared) = open_writer(&env, config());
    for n in 0..40 {
        let mut entry = read(n);
        entry.principal = Some(if n % 2 == 0 { "even" } else { "odd" }.into());
        entry.endpoint = Some(if n < 20 { "/v1/query" } else { "/v1/resolve" }.into());
        writer.add(entry, None);
        writer.work();
    }
    let files = shared.now().files;
    let count = |filter: Filter| {
        reader::list(&vfs, &dir(), &files, &filter, u64::MAX, 1000).unwrap().0.len()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(count(Filter::default()), 40);
    assert_eq!(count(Filter { principal: text("odd"), ..Filter::default() }), 20);
    assert_eq!(count(Filter { endpoint: text("/v1/query"), ..Filter::default() }), 20);
    assert_eq!(count(Filter { subject: text("s/7"), ..Filter::default() }), 1);
    assert_eq!(count(Filter { subject: text("s"), ..Filter::default() }), 0);
    let (from, to) = (Some(Millis(5)), Some(Millis(9)));
    assert_eq!(count(Filter { from, to, ..Filter::default() }), 4);
}

/// Wherever power is lost: what was told durable is there once, the rest once or not at all, and
/// the chain goes on.
#[test]
fn what_was_told_durable_survives_loss_of_power() {
    let (mut told, mut cut) = (0, 0);
    for seed in 0..12 {
        for changes in 0.. {
            let (vfs, _, env) = disk(seed);
            vfs.power_off_after(changes);
            let (mut writer, _) = open_writer(&env, config());
            let mut durable = Vec::new();
            for n in 0..12 {
                let waits = add(&mut writer, n);
                writer.add(read(n + 1000), None);
                writer.work();
                if waits.blocking_recv() == Ok(true) {
                    durable.push(n);
                }
            }
            let done = !vfs.powered_off();
            let after = vfs.crash();
            let env = Env { vfs: Arc::new(after.clone()), ..env };
            let place = format!("seed {seed}, {changes} changes");
            let (mut writer, shared) = open_writer(&env, config());
            assert_eq!(shared.now().damaged, None, "{place}");
            let again = add(&mut writer, 998);
            writer.work();
            assert_eq!(again.blocking_recv(), Ok(true), "{place}");
            let found = report(&after);
            assert_eq!(found.findings, [], "{place}");
            cut += found.files.iter().map(|file| file.cut).sum::<u64>();
            let entries = list(&env, &shared);
            dense(&entries);
            let asked = asked(&entries);
            for n in &durable {
                assert!(asked.contains_key(&format!("s/{n}")), "{place}: {n} is gone");
            }
            told += durable.len();
            if done {
                break;
            }
        }
    }
    assert!(told > 1000 && cut > 1000, "{told} told, {cut} bytes cut");
}

/// One failure of any kind, at any operation, under any file system: the audit goes on in a fresh
/// file, nothing is lost and nothing is there twice.
#[test]
fn one_failure_loses_nothing() {
    let mut struck = 0;
    for personality in Personality::ALL {
        if personality == Personality::StickyReadOnly {
            continue;
        }
        for op in [OpKind::Open, OpKind::Write, OpKind::SyncAll, OpKind::SyncData, OpKind::SyncDir]
        {
            for errno in [EIO, ENOSPC] {
                for nth in 1..6 {
                    let (vfs, _, env) = disk(nth);
                    vfs.set_personality(personality);
                    let (mut writer, shared) = open_writer(&env, config());
                    let path = if op == OpKind::SyncDir { "" } else { "audit." }.to_owned();
                    vfs.inject(Fault { op: Some(op), path, when: When::Nth(nth), errno });
                    for n in 0..20 {
                        let told = add(&mut writer, n);
                        writer.work();
                        let place = format!("{personality:?} {op:?} {errno} {nth}: {n}");
                        assert_eq!(told.blocking_recv(), Ok(true), "{place}");
                    }
                    struck += vfs.take_failures().len();
                    writer.close();
                    assert_eq!(shared.failing(), None);
                    // What the medium holds, and what the cache says: both are whole.
                    for disk in [vfs.crash(), vfs.fork()] {
                        let place = format!("{personality:?} {op:?} {errno} {nth}");
                        assert_eq!(report(&disk).findings, [], "{place}");
                        let env = Env { vfs: Arc::new(disk), ..env.clone() };
                        let entries = listed(&env);
                        dense(&entries);
                        assert_eq!(asked(&entries).len(), 20, "{place}");
                    }
                }
            }
        }
    }
    assert!(struck > 150, "{struck}");
}

/// A full disk: who must be taken down is refused at once, the others wait or are counted; when
/// there is room again all goes on, and the gap is told.
#[test]
fn a_full_disk_is_told_and_left_behind() {
    let (vfs, clock, env) = disk(3);
    let (mut writer, shared) = open_writer(&env, config());
    assert_eq!(writer.due(), None);
    let before = add(&mut writer, 1);
    writer.work();
    assert_eq!(before.blocking_recv(), Ok(true));
    vfs.inject(Fault {
        op: Some(OpKind::Write),
        path: String::new(),
        when: When::From(1),
        errno: ENOSPC,
    });
    let (refused, kept) = (add(&mut writer, 2), 3);
    writer.add(read(kept), None);
    writer.work();
    assert_eq!(refused.blocking_recv(), Ok(false));
    let detail = shared.failing().unwrap();
    assert!(detail.contains("/data/node/audit") && detail.contains("os error 28"), "{detail}");
    // Before it is time nothing is tried.
    let tried = vfs.count(OpKind::Open);
    let refused = add(&mut writer, 4);
    writer.work();
    assert_eq!(refused.blocking_recv(), Ok(false));
    assert_eq!(vfs.count(OpKind::Open), tried);
    // What there is no memory for is dropped.
    let mut large = read(5);
    large.question = Some(json!("x".repeat(PENDING_BYTES_MAX / 2)));
    for _ in 0..4 {
        writer.add(large.clone(), None);
    }
    shared.drop_one();
    vfs.clear_faults();
    let mut waited = Duration::ZERO;
    while shared.failing().is_some() {
        let due = writer.due().unwrap();
        waited += due;
        clock.sleep(due);
        writer.work();
    }
    assert!(waited <= RETRY_FIRST, "{waited:?}");
    let told = add(&mut writer, 6);
    writer.work();
    assert_eq!(told.blocking_recv(), Ok(true));
    let entries = list(&env, &shared);
    dense(&entries);
    let kinds: Vec<(AuditKind, Option<u64>)> =
        entries.iter().map(|entry| (entry.kind, entry.dropped)).collect();
    // The first, the one that waited, one large one, then the gap: three large ones and one more.
    let read = (AuditKind::Read, None);
    assert_eq!(kinds, [read, read, read, (AuditKind::Gap, Some(4)), read]);
    assert_eq!(entries[1].question, Some(json!({"subject": "s/3"})));
    assert_eq!(report(&vfs).findings, []);
}

/// The wait between attempts grows, and has a bound; nothing is left behind by the attempts.
#[test]
fn a_disk_that_stays_bad_is_asked_ever_more_rarely() {
    let (vfs, clock, env) = disk(4);
    let (mut writer, shared) = open_writer(&env, AuditConfig { required: true, ..config() });
    vfs.inject(Fault {
        op: Some(OpKind::SyncAll),
        path: String::new(),
        when: When::From(1),
        errno: EIO,
    });
    let told = add(&mut writer, 1);
    writer.work();
    assert_eq!(told.blocking_recv(), Ok(false));
    let mut waits = Vec::new();
    for _ in 0..9 {
        // Nobody asks meanwhile: reads are refused.
        let due = writer.due().unwrap();
        waits.push(due.as_secs());
        clock.sleep(due);
        writer.work();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(vfs.read_dir(&dir()).unwrap(), []);
    vfs.clear_faults();
    clock.sleep(writer.due().unwrap());
    writer.work();
    assert_eq!(shared.failing(), None);
    let told = add(&mut writer, 2);
    writer.work();
    assert_eq!(told.blocking_recv(), Ok(true));
    assert_eq!(asked(&listed(&env)).len(), 1);
    assert_eq!(report(&vfs).findings, []);
}

/// Long questions that come together are all taken down.
#[test]
fn memory_bounds_batches_not_entries() {
    let (vfs, _, env) = disk(12);
    let (mut writer, shared) = open_writer(&env, config());
    for n in 0..12 {
        let mut large = read(n);
        large.question = Some(json!({"subject": format!("s/{n}"), "x": "x".repeat(3 << 20)}));
        writer.add(large, None);
    }
    writer.close();
    assert_eq!(asked(&list(&env, &shared)).len(), 12);
    assert_eq!(report(&vfs).findings, []);
}

/// An entry that nobody waits for is durable after the time that the configuration gives.
#[test]
fn entries_are_synced_in_time() {
    let (vfs, clock, env) = disk(5);
    let config = AuditConfig { sync_every: Duration::from_secs(1), ..config() };
    let (mut writer, shared) = open_writer(&env, config);
    writer.add(read(1), None);
    writer.work();
    assert_eq!((vfs.count(OpKind::SyncAll), shared.now().last), (0, 0));
    assert_eq!(writer.due(), Some(Duration::from_secs(1)));
    clock.sleep(Duration::from_millis(400));
    writer.add(read(2), None);
    writer.work();
    assert_eq!(writer.due(), Some(Duration::from_millis(600)));
    clock.sleep(Duration::from_millis(600));
    writer.work();
    assert_eq!((vfs.count(OpKind::SyncAll), shared.now().last), (1, 2));
    assert_eq!(writer.due(), None);
    // Somebody who waits hastens it.
    let told = add(&mut writer, 3);
    writer.work();
    assert_eq!(told.blocking_recv(), Ok(true));
}

fn change(vfs: &SimVfs, file: u64, at: usize, bytes: &[u8]) {
    let file = vfs.open(&path(&dir(), file), Open::Write).unwrap();
    file.write_at(bytes, at as u64).unwrap();
    file.sync_all().unwrap();
}

fn bytes(vfs: &SimVfs, file: u64) -> Vec<u8> {
    vfs.medium(&path(&dir(), file)).unwrap()
}

/// Every changed byte is named, with the entry it belongs to, before and after the node goes on.
#[test]
fn every_changed_byte_is_named() {
    let (vfs, _, env) = disk(6);
    let (mut writer, _) = open_writer(&env, AuditConfig { rotate_bytes: 700, ..config() });
    for n in 0..9 {
        writer.add(read(n), None);
        writer.work();
    }
    writer.close();
    let files = report(&vfs).files;
    assert!(files.len() > 2, "{files:?}");
    for number in 1..=files.len() as u64 {
        let whole = bytes(&vfs, number);
        let newest = number == files.len() as u64;
        // The last line says that all before it was durable; of itself nothing says so.
        let sure = match newest {
            true => whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1,
            false => whole.len(),
        };
        for at in 0..whole.len() {
            let disk = vfs.fork();
            change(&disk, number, at, &[whole[at] ^ 0x04]);
            let place = format!("file {number}, byte {at} of {sure}");
            let found = report(&disk);
            if at >= sure {
                assert_eq!(found.findings, [], "{place}");
                assert!(found.files.last().unwrap().cut > 0, "{place}");
                continue;
            }
            let line = whole[..at].iter().filter(|b| **b == b'\n').count();
            let begin = whole[..at].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let first = found.findings.first().unwrap_or_else(|| panic!("{place}: not noticed"));
            assert_eq!(
                (&*first.file, first.byte),
                (&*super::super::walk::name(number), begin as u64),
                "{place}: {first:?}"
            );
            let id = files[number as usize - 1].entries.unwrap().0 + line.saturating_sub(1) as u64;
            assert_eq!(first.id, id, "{place}: {first:?}");
            // The node goes on behind it, and it is still named.
            let env = Env { vfs: Arc::new(disk.clone()), ..env.clone() };
            let (mut writer, shared) = open_writer(&env, config());
            assert_eq!(shared.now().damaged.is_some(), newest, "{place}");
            let told = add(&mut writer, 500);
            writer.work();
            assert_eq!(told.blocking_recv(), Ok(true), "{place}");
            writer.close();
            let again = report(&disk);
            assert!(again.findings.contains(first), "{place}: {:?}", again.findings);
        }
    }
}

/// A newest file that ends early is a torn tail, whatever its length; an older one is damaged.
#[test]
fn a_torn_tail_is_cut_and_said_so() {
    let (vfs, _, env) = disk(7);
    let (mut writer, _) = open_writer(&env, config());
    for n in 0..12 {
        writer.add(read(n), None);
        writer.work();
    }
    drop(writer);
    let files = report(&vfs).files;
    assert_eq!(files.len(), 2, "{files:?}");
    let whole = bytes(&vfs, 2);
    for length in 0..whole.len() {
        let disk = vfs.fork();
        let file = disk.open(&path(&dir(), 2), Open::Write).unwrap();
        file.set_len(length as u64).unwrap();
        let found = report(&disk);
        assert_eq!(found.findings, [], "{length}");
        let env = Env { vfs: Arc::new(disk.clone()), ..env.clone() };
        let (mut writer, shared) = open_writer(&env, config());
        assert_eq!((shared.now().damaged, shared.now().last), (None, found.last), "{length}");
        let told = add(&mut writer, 500);
        writer.work();
        assert_eq!(told.blocking_recv(), Ok(true), "{length}");
        let after = report(&disk);
        assert_eq!(after.findings, [], "{length}");
        assert_eq!(after.last, found.last + 1, "{length}");
        let cut: u64 = after.files.iter().map(|file| file.cut).sum();
        let lines = whole[..length].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        assert_eq!(cut, (length - lines) as u64, "{length}");
        let told = header_of(&disk, 3).previous.unwrap().cut;
        assert_eq!(told, cut, "{length}");
    }
    let disk = vfs.fork();
    let file = disk.open(&path(&dir(), 1), Open::Write).unwrap();
    file.set_len(whole.len() as u64 / 2).unwrap();
    assert_ne!(report(&disk).findings, []);
}

fn header_of(vfs: &SimVfs, number: u64) -> AuditHeader {
    let (file, length) = open_file(vfs, &path(&dir(), number)).unwrap();
    header(&*file, length).unwrap().unwrap().0
}

#[test]
fn a_file_that_is_gone_or_of_another_database_is_named() {
    let (vfs, _, env) = disk(8);
    let (mut writer, _) = open_writer(&env, config());
    for n in 0..30 {
        writer.add(read(n), None);
        writer.work();
    }
    writer.close();
    let files = report(&vfs).files;
    assert!(files.len() > 3);
    for gone in 1..files.len() as u64 {
        let disk = vfs.fork();
        disk.remove_file(&path(&dir(), gone)).unwrap();
        let found = report(&disk);
        assert_eq!(found.findings.len(), 1, "{gone}: {found:?}");
        assert!(found.findings[0].problem.contains("is missing"), "{found:?}");
        assert_eq!(found.findings[0].file, super::super::walk::name(gone));
    }
    // Two files that have changed places.
    let disk = vfs.fork();
    disk.rename(&path(&dir(), 1), Path::new("/data/x")).unwrap();
    disk.rename(&path(&dir(), 2), &path(&dir(), 1)).unwrap();
    disk.rename(Path::new("/data/x"), &path(&dir(), 2)).unwrap();
    assert!(report(&disk).findings.iter().any(|one| one.problem.contains("was written as")));
    // A file of another database in the place of one.
    let (other, _, other_env) = disk_of_another();
    let foreign = bytes(&other, 2);
    drop(other_env);
    let disk = vfs.fork();
    disk.remove_file(&path(&dir(), 2)).unwrap();
    let file = disk.open(&path(&dir(), 2), Open::CreateNew).unwrap();
    file.write_at(&foreign, 0).unwrap();
    assert!(report(&disk).findings.iter().any(|one| one.problem.contains("another database")));
}

fn disk_of_another() -> (SimVfs, Arc<SimClock>, Env) {
    let (vfs, clock, env) = disk(9);
    let shared = Arc::new(Shared::new());
    let mut writer = Writer::open(&env, Path::new(DATA), LogId([7; 16]), config(), shared);
    for n in 0..30 {
        writer.add(read(n), None);
        writer.work();
    }
    (vfs, clock, env)
}

#[test]
fn retention_keeps_what_it_may_and_says_what_it_took() {
    let (vfs, _, env) = disk(10);
    let config = AuditConfig { keep_bytes: 6_000, ..config() };
    for start in 0..3u64 {
        let (mut writer, shared) = open_writer(&env, config.clone());
        for n in 0..40 {
            writer.add(read(start * 100 + n), None);
            writer.work();
            let kept: u64 = shared.now().files.iter().map(|file| file.bytes).sum();
            // A file is closed once it is longer, not before.
            assert!(kept <= 6_000 + 1_000, "{kept}");
        }
        writer.close();
    }
    let found = report(&vfs);
    assert_eq!(found.findings, []);
    assert!(found.files[0].entries.unwrap().0 > 80, "{:?}", found.files);
    assert!(found.files.len() >= 2, "{:?}", found.files);
    assert_eq!(found.last, 123);
    // Somebody else takes one more.
    let oldest = super::super::walk::number(found.files[0].file.as_ref()).unwrap();
    vfs.remove_file(&path(&dir(), oldest)).unwrap();
    assert!(report(&vfs).findings[0].problem.contains("is missing"));
}

/// A folder that cannot be read at the start does not keep the node from starting.
#[test]
fn a_folder_that_cannot_be_read_is_read_later() {
    let (vfs, clock, env) = disk(11);
    let (mut writer, _) = open_writer(&env, config());
    writer.add(read(1), None);
    writer.work();
    drop(writer);
    vfs.inject(Fault {
        op: Some(OpKind::ReadDir),
        path: String::new(),
        when: When::Nth(1),
        errno: EIO,
    });
    let (mut writer, shared) = open_writer(&env, config());
    assert!(shared.failing().is_some());
    clock.sleep(Duration::from_secs(1));
    let told = add(&mut writer, 2);
    writer.work();
    assert_eq!(told.blocking_recv(), Ok(true));
    assert_eq!(shared.failing(), None);
    let entries = list(&env, &shared);
    assert_eq!(asked(&entries).len(), 2);
    dense(&entries);
    assert_eq!(report(&vfs).findings, []);
}
