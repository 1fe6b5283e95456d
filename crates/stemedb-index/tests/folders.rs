//! What a folder can be instead of a good index, and what survives a crash.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use std::fs;
use std::path::Path;

use fjall::{Database, KeyspaceCreateOptions};
use stemedb_index::format::{FORMAT, Table};
use stemedb_index::*;
use stemedb_model::*;
use support::*;

fn refusal(dir: &Path, identity: Option<(LogId, Timeline)>) -> IndexError {
    Index::open(&config(dir), identity).expect_err("must be refused")
}

fn some_claims(count: usize) -> Vec<Entry> {
    records((0..count).map(|i| (i, Body::Assertion(assertion(i, i / 4, i as f64)))))
}

/// As a process that is killed leaves it: no flush, no close.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Name and nice value of each thread of this process.
fn threads() -> Vec<(String, i32)> {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| {
        let dir = thread.unwrap().path();
        let name = fs::read_to_string(dir.join("comm")).unwrap().trim().to_owned();
        let stat = fs::read_to_string(dir.join("stat")).unwrap();
        // The name may hold anything; behind it the 17th field.
        let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap();
        (name, nice.parse().unwrap())
    });
    threads.collect()
}

/// What another thread does, whenever it comes to it.
fn soon(happened: impl Fn() -> bool) -> bool {
    (0..200_000).any(|_| {
        std::thread::yield_now();
        happened()
    })
}

/// Changes the rows of an index behind its back.
fn tamper(dir: &Path, change: impl FnOnce(&dyn Fn(Table) -> fjall::Keyspace)) {
    let db = Database::builder(dir).open().unwrap();
    change(&|table: Table| db.keyspace(table.name(), KeyspaceCreateOptions::default).unwrap());
    db.persist(fjall::PersistMode::SyncAll).unwrap();
}

#[test]
fn the_storage_comes_behind_those_that_answer() {
    let own = threads()[0].1;
    assert!(own <= 9, "needs room for a difference: this process has nice {own}");
    let folder = Folder::new();
    let _index = folder.open();
    let behind = |name: &str| -> Vec<i32> {
        threads().into_iter().filter(|thread| thread.0 == name).map(|thread| thread.1).collect()
    };
    // A thread gives itself its name, and one of them its priority, some time after it began.
    for name in ["fjall:worker", "index-buffers"] {
        assert!(soon(|| behind(name) == [own + 10]), "{name}: {:?}", behind(name));
    }
}

#[test]
fn a_full_write_buffer_becomes_a_table_at_the_next_batch() {
    let folder = Folder::new();
    let index = folder.open();
    let files = || {
        let keyspaces = fs::read_dir(folder.path().join("keyspaces")).unwrap();
        let tables = keyspaces.map(|one| fs::read_dir(one.unwrap().path().join("tables")).unwrap());
        tables.flatten().count()
    };
    let before = files();
    let long = Value::Text("x".repeat(60_000).into());
    let claim = |i| Assertion { object: long.clone(), ..assertion(i, 0, 0.0) };
    // 12 MB; by itself the storage would keep more.
    let entries = records((0..200).map(|i| (i, Body::Assertion(claim(i)))));
    for group in entries.chunks(10) {
        index.apply(group).unwrap();
    }
    assert!(soon(|| files() > before), "nothing was written");
}

#[test]
fn an_index_goes_on_as_that_of_a_branch_that_has_all_of_it() {
    let (folder, branch) = (Folder::new(), Timeline([1; 16]));
    let index = folder.open();
    index.apply(&some_claims(3)).unwrap();
    let applied = index.applied();
    assert!(!index.go_on_as(branch, Position(applied.0 - 1)).unwrap());
    drop(index);
    assert!(folder.open().go_on_as(branch, applied).unwrap());
    let error = refusal(&folder.path(), Some((LOG, TIMELINE)));
    assert!(matches!(error, IndexError::Foreign { what: "timeline", .. }), "{error}");
    let index = Index::open(&config(&folder.path()), Some((LOG, branch))).unwrap();
    assert_eq!(index.applied(), applied);
}

#[test]
fn another_database_and_another_branch_are_refused_by_name() {
    let folder = Folder::new();
    folder.open().apply(&some_claims(3)).unwrap();
    let error = refusal(&folder.path(), Some((LogId([8; 16]), TIMELINE)));
    assert!(matches!(error, IndexError::Foreign { what: "log", .. }), "{error}");
    assert!(error.to_string().contains(&LOG.to_string()), "{error}");
    let error = refusal(&folder.path(), Some((LOG, Timeline([1; 16]))));
    assert!(matches!(error, IndexError::Foreign { what: "timeline", .. }), "{error}");
    let error = refusal(&folder.path(), None);
    assert!(matches!(error, IndexError::Foreign { what: "log", .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(folder.open().applied(), Position(4), "the refusals changed nothing");
}

#[test]
fn an_index_opened_before_genesis_learns_its_name_from_it() {
    let folder = Folder::new();
    let index = Index::open(&config(&folder.path()), None).unwrap();
    assert_eq!(index.applied(), Position::NONE);
    index.apply(&some_claims(1)).unwrap();
    drop(index);
    let error = refusal(&folder.path(), Some((LogId([8; 16]), TIMELINE)));
    assert!(matches!(error, IndexError::Foreign { what: "log", .. }), "{error}");
    let index = folder.open();
    index.identify(LOG, TIMELINE).unwrap();
    assert!(matches!(
        index.identify(LOG, Timeline([1; 16])),
        Err(IndexError::Foreign { what: "timeline", .. })
    ));
    drop(index);
    let error = refusal(&folder.path(), Some((LOG, Timeline([1; 16]))));
    assert!(matches!(error, IndexError::Foreign { what: "timeline", .. }), "{error}");
}

#[test]
fn an_unknown_format_is_named() {
    let folder = Folder::new();
    drop(folder.open());
    tamper(&folder.path(), |table| table(Table::Meta).insert("format", [99u8]).unwrap());
    let error = refusal(&folder.path(), Some((LOG, TIMELINE)));
    assert!(
        matches!(error, IndexError::UnknownFormat { found: 99, supported: FORMAT, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("rebuilt from the log"), "{error}");
}

#[test]
fn what_is_no_index_is_left_alone() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path()).unwrap();
    fs::create_dir(folder.path().join("thesis")).unwrap();
    let error = refusal(&folder.path(), Some((LOG, TIMELINE)));
    assert!(matches!(&error, IndexError::NotAnIndex { file, .. } if file == "thesis"), "{error}");
    assert!(matches!(remove(&folder.path()), Err(IndexError::NotAnIndex { .. })));
    assert!(folder.path().join("thesis").exists());
}

#[test]
fn one_process_at_a_time() {
    let folder = Folder::new();
    let index = folder.open();
    let error = refusal(&folder.path(), Some((LOG, TIMELINE)));
    assert!(matches!(error, IndexError::InUse { .. }), "{error}");
    // A snapshot reads from the folder, so it holds it too.
    let snapshot = index.snapshot();
    drop(index);
    assert!(matches!(refusal(&folder.path(), Some((LOG, TIMELINE))), IndexError::InUse { .. }));
    drop(snapshot);
    folder.open();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn another_index_is_found_once_it_is_put_in_force() {
    let folder = Folder::new();
    let (old, entries) = (folder.open(), some_claims(3));
    old.apply(&entries[..2]).unwrap();
    let new = old.another(LOG, TIMELINE).unwrap();
    new.apply(&entries).unwrap();
    // Whoever asks meanwhile is refused, and removes nothing.
    assert!(matches!(refusal(&folder.path(), Some((LOG, TIMELINE))), IndexError::InUse { .. }));
    assert!(folder.path().join("rebuilt-1").exists());
    drop((old, new));
    let old = folder.open();
    assert_eq!(old.applied(), Position(2), "it was not put in force");
    assert!(!folder.path().join("rebuilt-1").exists());

    let new = old.another(LOG, TIMELINE).unwrap();
    new.apply(&entries).unwrap();
    new.put_in_force().unwrap();
    drop((old, new));
    let index = folder.open();
    assert_eq!(index.applied(), Position(4));
    assert!(check(&index.snapshot()).unwrap().is_whole());
    assert_eq!(names(&folder.path()), ["current", "rebuilt-1"]);
}

#[test]
fn an_index_is_removed_when_nobody_reads_from_it() {
    let folder = Folder::new();
    let (old, entries) = (folder.open(), some_claims(3));
    old.apply(&entries).unwrap();
    let new = old.another(LOG, TIMELINE).unwrap();
    new.apply(&entries).unwrap();
    new.put_in_force().unwrap();
    let old = std::sync::Arc::new(old);
    let (twice, snapshot) = (std::sync::Arc::clone(&old), old.snapshot());
    let old = old.retire().unwrap().unwrap();
    drop(twice);
    let old = old.retire().unwrap().unwrap();
    assert!(snapshot.entry(Position(1)).unwrap().is_some());
    drop(snapshot);
    assert!(old.retire().unwrap().is_none());
    assert_eq!(names(&folder.path()), ["current", "rebuilt-1"]);
    // One that never came into force goes without a trace.
    let aborted = std::sync::Arc::new(new.another(LOG, TIMELINE).unwrap());
    assert!(aborted.retire().unwrap().is_none());
    assert_eq!(names(&folder.path()), ["current", "rebuilt-1"]);
    drop(new);
    assert_eq!(folder.open().applied(), Position(4));
    remove(&folder.path()).unwrap();
    assert!(!folder.path().exists());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it damages real files")]
fn a_name_of_an_index_that_is_not_there_is_damage() {
    let folder = Folder::new();
    drop(folder.open());
    for name in ["rebuilt-9", "..", "", "keyspaces"] {
        fs::write(folder.path().join("current"), name).unwrap();
        let error = refusal(&folder.path(), Some((LOG, TIMELINE)));
        assert_eq!(error.kind(), ErrorKind::Rebuild, "{error}");
    }
    remove(&folder.path()).unwrap();
    assert_eq!(folder.open().applied(), Position::NONE);
}

#[test]
fn a_killed_process_leaves_whole_groups() {
    let folder = Folder::new();
    let index = folder.open();
    let entries = some_claims(40);
    for (group, entries) in entries.chunks(7).enumerate() {
        index.apply(entries).unwrap();
        let dead = folder.path().with_file_name(format!("dead-{group}"));
        copy(&folder.path(), &dead);
        let risen = open(&dead);
        assert_eq!(risen.applied(), index.applied());
        let report = check(&risen.snapshot()).unwrap();
        assert!(report.is_whole(), "{:?}", report.problems);
    }
}

/// A power cut may take the end of the journal, anywhere. What is left is a shorter history.
#[test]
fn a_torn_journal_leaves_whole_groups() {
    let folder = Folder::new();
    let index = folder.open();
    let entries = some_claims(30);
    for group in entries.chunks(4) {
        index.apply(group).unwrap();
    }
    let journal = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .find(|name| name.to_string_lossy().ends_with(".jnl"))
        .unwrap();
    // The file is allocated ahead; what was written ends before its zeros.
    let mut bytes = Vec::new();
    fs::File::options()
        .read(true)
        .open(folder.path().join(&journal))
        .and_then(|mut file| std::io::Read::read_to_end(&mut file, &mut bytes))
        .unwrap();
    let whole = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let mut seen = Vec::new();
    for cut in 0..24 {
        let dead = folder.path().with_file_name(format!("torn-{cut}"));
        copy(&folder.path(), &dead);
        let file = fs::OpenOptions::new().write(true).open(dead.join(&journal)).unwrap();
        file.set_len(whole - whole * cut / 25 - cut % 3).unwrap();
        let risen = open(&dead);
        let applied = risen.applied();
        assert!(applied.0.is_multiple_of(4) || applied.0 == 31, "{applied} is inside a group");
        let report = check(&risen.snapshot()).unwrap();
        assert!(report.is_whole(), "{:?}", report.problems);
        risen.apply(&entries[applied.0 as usize..]).unwrap();
        let report = check(&risen.snapshot()).unwrap();
        assert!(report.is_whole(), "after the replay: {:?}", report.problems);
        seen.push(applied.0);
    }
    seen.dedup();
    assert!(seen.len() > 5, "the cuts made a difference: {seen:?}");
}

#[test]
fn a_half_made_folder_is_rebuilt() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path().join("keyspaces")).unwrap();
    let error = refusal(&folder.path(), Some((LOG, TIMELINE)));
    assert!(matches!(error, IndexError::Damaged { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Rebuild);
    remove(&folder.path()).unwrap();
    assert!(!folder.path().exists());
    remove(&folder.path()).unwrap();
    // Made by fjall, never marked by us.
    drop(Database::builder(folder.path()).open().unwrap());
    let error = refusal(&folder.path(), Some((LOG, TIMELINE)));
    assert!(matches!(error, IndexError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("delete the folder"), "{error}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it damages real files")]
fn damaged_files_are_an_error_not_a_panic() {
    let folder = Folder::new();
    let index = folder.open();
    index.apply(&some_claims(20)).unwrap();
    index.compact().unwrap();
    drop(index);
    let mut files = Vec::new();
    list(&folder.path(), &mut files);
    files.sort();
    files.retain(|file| file.extension().is_none_or(|ext| ext != "jnl"));
    let mut refused = 0;
    // Every other file, each in one of three ways, to be quick.
    for (number, file) in files.iter().enumerate().step_by(2) {
        let length = fs::metadata(file).unwrap().len();
        let dead = folder.path().with_file_name(format!("damaged-{number}"));
        copy(&folder.path(), &dead);
        let file = dead.join(file.strip_prefix(folder.path()).unwrap());
        let mut opened = fs::OpenOptions::new().write(true).open(&file).unwrap();
        // Blocks of rows are read only when asked for, so theirs is a case of its own.
        let way = if file.parent().is_some_and(|p| p.ends_with("tables")) { 1 } else { number % 3 };
        match way {
            0 => opened.set_len(length / 2).unwrap(),
            1 => std::io::Write::write_all(&mut opened, &[0; 8]).unwrap(),
            _ => fs::remove_file(&file).unwrap(),
        }
        let what = format!("{}, {way}", file.display());
        let error = match Index::open(&config(&dead), Some((LOG, TIMELINE))) {
            Err(error) => error,
            // Some files are rewritten, or read only when a row of theirs is asked for.
            Ok(index) => match check(&index.snapshot()) {
                Ok(report) => {
                    assert!(report.is_whole(), "{what}: {:?}", report.problems);
                    continue;
                }
                Err(error) => {
                    assert!(index.failure().is_some(), "{what}: {error} must stop the index");
                    error
                }
            },
        };
        assert_eq!(error.kind(), ErrorKind::Rebuild, "{what}: {error}");
        refused += 1;
        fs::remove_dir_all(&dead).unwrap();
    }
    assert!(refused > 5, "only {refused} damaged files were noticed");
}

/// fjall asserts that journals are files.
#[test]
fn a_panic_inside_the_storage_is_damage() {
    let folder = Folder::new();
    folder.open().apply(&some_claims(1)).unwrap();
    fs::create_dir(folder.path().join("77.jnl")).unwrap();
    let error = refusal(&folder.path(), Some((LOG, TIMELINE)));
    assert_eq!(error.kind(), ErrorKind::Rebuild, "{error}");
}

fn list(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}

#[test]
fn records_and_position_must_agree() {
    let folder = Folder::new();
    folder.open().apply(&some_claims(5)).unwrap();
    tamper(&folder.path(), |table| {
        table(Table::Records).remove(6u64.to_be_bytes().as_slice()).unwrap();
    });
    let error = refusal(&folder.path(), Some((LOG, TIMELINE)));
    assert!(matches!(error, IndexError::Damaged { .. }), "{error}");
}

#[test]
fn the_inspector_sees_a_missing_a_changed_and_a_surplus_row() {
    let folder = Folder::new();
    let entries = some_claims(5);
    folder.open().apply(&entries).unwrap();
    let posting = |position: u64| {
        let mut key = vec![1];
        key.extend(2u64.to_be_bytes());
        key.extend(position.to_be_bytes());
        key
    };
    let problems = || {
        let index = folder.open();
        let report = check(&index.snapshot()).unwrap();
        assert_eq!(report.problems.len() as u64, report.problem_count);
        report.problems
    };
    assert_eq!(problems(), Vec::<String>::new());

    tamper(&folder.path(), |table| table(Table::Postings).insert(posting(99), "").unwrap());
    let found = problems();
    assert!(found.len() == 1 && found[0].contains("call for"), "{found:?}");

    tamper(&folder.path(), |table| {
        table(Table::Postings).remove(posting(99)).unwrap();
        table(Table::Postings).remove(posting(2)).unwrap();
    });
    let found = problems();
    assert!(found.len() == 2 && found[0].contains("is missing"), "{found:?}");

    tamper(&folder.path(), |table| {
        table(Table::Postings).insert(posting(2), "").unwrap();
        table(Table::Times).insert((2_000_002u64 ^ (1 << 63)).to_be_bytes(), [1u8]).unwrap();
    });
    let found = problems();
    assert!(found.len() == 1 && found[0].contains("differs"), "{found:?}");
}

/// Storage that fails must stop the index, not hang it: its threads die, and nobody else would
/// write the buffers out that fjall waits for.
#[test]
fn failing_storage_stops_the_index() {
    let folder = Folder::new();
    let index = folder.open();
    let entries = some_claims(12);
    index.apply(&entries[..8]).unwrap();
    fs::remove_dir_all(folder.path().join("keyspaces")).unwrap();
    let error = index.compact().expect_err("nowhere to write tables");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = index.apply(&entries[8..]).expect_err("stopped");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(index.failure().is_some());
    assert_eq!(index.applied(), Position(8));
    let snapshot = index.snapshot();
    assert_eq!(snapshot.entry(Position(8)).unwrap().as_ref(), Some(&entries[7]), "reads go on");
}
