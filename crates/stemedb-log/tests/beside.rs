//! A flush that fails for another file, on a disk that then forgets what it held for everybody.
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test the panic is the verdict, and it waits for a real thread"
)]

mod world;

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use stemedb_io::sim::{EIO, SimVfs};
use stemedb_io::{DirEntry, Env, FileSystem, FolderLock, Metadata, Open, Space, Vfs, VfsFile};
use stemedb_log::conformance::{START_MS, sample};
use stemedb_log::{Log, LogState, Wal, WalConfig};
use world::*;

/// Only a fault of the test takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How far the mishap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The next segment is being prepared; the disk is well.
    Well,
    /// The next sync of the segment in use is to fall into the gap.
    Due,
    /// The flush for the prepared segment has failed at the disk; nobody knows.
    Failed,
    /// The flush for the segment in use found nothing to do.
    Nothing,
    /// Another mishap: the thread that prepares the next segment panics.
    Panics,
    /// Another: a bad place, which the file system gives out again unless a file keeps it.
    BadPlace,
    /// Another: the third segment can not be written, wherever it lies, and everything else can.
    NoNext,
}

#[derive(Clone)]
struct Forgetful {
    disk: SimVfs,
    stage: Arc<(Mutex<Stage>, Condvar)>,
}

impl Forgetful {
    fn new() -> Self {
        let stage = Arc::new((Mutex::new(Stage::Well), Condvar::new()));
        Self { disk: SimVfs::new(3), stage }
    }

    fn to(&self, stage: Stage) {
        *self.stage.0.lock().unwrap() = stage;
        self.stage.1.notify_all();
    }

    fn wait_for(&self, wanted: Stage) {
        let stage = self.stage.0.lock().unwrap();
        let wait = self.stage.1.wait_timeout_while(stage, PATIENCE, |stage| *stage < wanted);
        assert!(!wait.unwrap().1.timed_out(), "never {wanted:?}");
    }

    fn at(&self) -> Stage {
        *self.stage.0.lock().unwrap()
    }

    /// Whether what the segment in use writes and syncs is lost: the flush for the prepared one fails
    /// now, or has failed already; which of the two comes first is up to the scheduler.
    fn loses(&self) -> bool {
        matches!(self.at(), Stage::Due | Stage::Failed)
    }
}

struct ForgetfulFile {
    file: Box<dyn VfsFile>,
    disk: Forgetful,
    name: String,
}

impl Vfs for Forgetful {
    fn open(&self, path: &Path, mode: Open) -> io::Result<Box<dyn VfsFile>> {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Ok(Box::new(ForgetfulFile { file: self.disk.open(path, mode)?, disk: self.clone(), name }))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.disk.metadata(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.disk.space(path)
    }
    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.disk.file_system(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FolderLock>> {
        self.disk.lock(path)
    }
}

impl VfsFile for ForgetfulFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        // What the disk will have forgotten.
        if self.name.starts_with("segment.001") && self.disk.loses() {
            return Ok(());
        }
        if self.name.starts_with("segment.003.wal.tmp") && self.disk.at() == Stage::BadPlace {
            let dir = self.disk.read_dir(Path::new(DIR))?;
            if !dir.iter().any(|entry| entry.name == "segment.003.wal.rejected") {
                return Err(io::Error::from_raw_os_error(EIO));
            }
        }
        // By the name it was opened under: the segments in use have had such names, too.
        if self.name.starts_with("segment.003.wal.tmp") && self.disk.at() == Stage::NoNext {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.file.write_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.name.starts_with("segment.003") && self.disk.at() == Stage::Panics {
            std::panic::panic_any("a fault of the test");
        }
        // The names they were opened under: both while they were prepared.
        if self.name.starts_with("segment.002") && self.disk.at() <= Stage::Due {
            self.disk.wait_for(Stage::Due);
            self.disk.to(Stage::Failed);
            self.disk.wait_for(Stage::Nothing);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if self.name.starts_with("segment.001") && self.disk.loses() {
            self.disk.wait_for(Stage::Failed);
            self.disk.to(Stage::Nothing);
            return Ok(());
        }
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn evict(&self) -> io::Result<()> {
        self.file.evict()
    }
    fn read_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file.read_nowait(buf, offset)
    }
    fn close(self: Box<Self>) -> io::Result<()> {
        self.file.close()
    }
}

/// The group is written again in a fresh segment: it is there after a power cut, and one failure was
/// healed, not two.
#[test]
fn a_group_outlives_a_flush_that_fails_for_another_file() {
    let disk = Forgetful::new();
    let env = Env { vfs: Arc::new(disk.clone()), ..env_on(&disk.disk, 77) };
    let config = WalConfig { prepare_in_background: true, ..config() };
    let groups = script(31, 2);
    let (mut wal, _) = Wal::open(config, env, NEW).unwrap();
    wal.append(&groups[0]).unwrap();
    disk.to(Stage::Due);
    wal.append(&groups[1]).unwrap();
    assert_eq!(disk.at(), Stage::Nothing, "the mishap did not happen");
    let all = groups.concat().len();
    let crashed = disk.disk.crash();
    let (again, _) = open(&crashed, existing(Some(all as u64))).unwrap();
    assert_eq!(check_prefix(&*again.reader(), &groups), all);
    let LogState::Degraded { reason } = wal.reader().state() else { panic!("nothing was told") };
    assert!(reason.contains("healed"), "{reason}");
}

/// A thread of the log that panics is a fault of ours; it keeps no writer waiting, and is told.
#[test]
fn nobody_waits_for_a_thread_that_panicked() {
    let disk = Forgetful::new();
    disk.to(Stage::Panics);
    let env = Env { vfs: Arc::new(disk.clone()), ..env_on(&disk.disk, 78) };
    let config = WalConfig { prepare_in_background: true, ..config() };
    let (mut wal, _) = Wal::open(config, env, NEW).unwrap();
    let groups = script(32, 200);
    let mut durable = 0;
    let refused = groups.iter().find_map(|group| match wal.append(group) {
        Ok(_) => {
            durable += group.len();
            None
        }
        Err(error) => Some(error.to_string()),
    });
    let refused = refused.expect("the log ran on without its third segment");
    let state = wal.reader().state();
    assert!(matches!(state, LogState::ReadOnly { .. }), "{state:?}: {refused}");
    let (again, _) = open(&disk.disk.crash(), existing(Some(durable as u64))).unwrap();
    // The group that was refused last may be there too: nobody was told that it is not.
    assert!(check_prefix(&*again.reader(), &groups) >= durable);
}

/// One bad place under the next segment is one failure, not one at every attempt.
#[test]
fn a_bad_place_is_not_given_out_again() {
    let disk = Forgetful::new();
    disk.to(Stage::BadPlace);
    let env = Env { vfs: Arc::new(disk.clone()), ..env_on(&disk.disk, 79) };
    let (mut wal, _) = Wal::open(config(), env, NEW).unwrap();
    let groups = script(33, 60);
    for group in &groups {
        wal.append(group).unwrap();
    }
    let LogState::Degraded { reason } = wal.reader().state() else { panic!("nothing was told") };
    assert!(reason.contains("healed") && reason.contains("segment.003"), "{reason}");
    let (again, _) = open(&disk.disk.crash(), existing(None)).unwrap();
    assert_eq!(check_prefix(&*again.reader(), &groups), groups.concat().len());
}

/// Where no next segment can be had, the log says so, and does not say in between that it takes writes.
#[test]
fn a_log_without_a_next_segment_is_not_ready() {
    let disk = Forgetful::new();
    // The first mishap is over.
    disk.to(Stage::Nothing);
    let clock = Arc::new(stemedb_io::sim::SimClock::new(START_MS));
    let env = env_on(&disk.disk, 80);
    let env = Env { vfs: Arc::new(disk.clone()), clock: clock.clone(), ..env };
    let config = WalConfig { prepare_in_background: true, ..config() };
    let (mut wal, _) = Wal::open(config, env, NEW).unwrap();
    // A block each: the segment in use has room when the next one fails.
    let groups: Vec<_> = (0..60).map(|n| vec![sample(n, 100)]).collect();
    wal.append(&groups[0]).unwrap();
    disk.to(Stage::NoNext);
    let mut written = 1;
    // The thread finds out while there is room left in the segment in use.
    while !matches!(wal.reader().state(), LogState::ReadOnly { .. }) {
        if wal.append(&groups[written]).is_err() {
            break;
        }
        written += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..20 {
        assert!(matches!(wal.reader().state(), LogState::ReadOnly { .. }));
        wal.resume().unwrap_err();
        clock.step(Duration::from_secs(60));
    }
    disk.to(Stage::Nothing);
    let held = wal.resume().unwrap();
    assert!(matches!(wal.reader().state(), LogState::Degraded { .. }));
    let written = written + usize::from(held.is_some());
    for group in &groups[written..] {
        wal.append(group).unwrap();
    }
    let (again, _) = open(&disk.disk.crash(), existing(None)).unwrap();
    // The clock went on, so this is not the reference's log to the bit.
    assert_eq!(again.reader().durable().0.0 as usize, groups.concat().len());
}
