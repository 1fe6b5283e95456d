//! A disk in memory that tells durable from volatile, and breaks as ordered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::clock::SimClock;
use super::fault::{Armed, EIO, ENOSPC, EROFS, Fault, OpKind};
use super::inode::{Inode, PAGE, Personality, SECTOR};
use super::lock;
use super::mishap::{Mishap, Rates};
use super::names::{Names, Node};
use super::rng::SplitMix;
use crate::mutant;
use crate::vfs::{DirEntry, FileSystem, FolderLock, Metadata, Open, Space, Vfs, VfsFile};

/// A simulated file system. Clones share one disk.
///
/// - Bytes that were not synced may survive a crash, vanish, or tear at sectors of 512 bytes.
/// - Names that were not synced (created, renamed, removed) may be lost; syncing a file does not
///   save its name.
/// - Errors are injected per operation with [`SimVfs::inject`], or left to chance with
///   [`SimVfs::set_rates`], which can also make the medium lie.
/// - What a sync has confirmed and the medium does not hold is known: [`SimVfs::harmed`].
/// - Paths are absolute; `/` exists. Same seed and same calls: same results, byte for byte
///   ([`SimVfs::fingerprint`] tells).
#[derive(Debug, Clone)]
pub struct SimVfs(Arc<Mutex<State>>);

#[derive(Debug, Clone)]
struct State {
    rng: SplitMix,
    personality: Personality,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: Names,
    locks: BTreeSet<PathBuf>,
    faults: Vec<Armed>,
    /// Operations so far, by kind.
    counts: BTreeMap<OpKind, u64>,
    /// Changes and syncs that still happen before the power goes.
    power: Option<u64>,
    capacity: u64,
    rereads: bool,
    evicts: bool,
    fingerprint: u64,
    rates: Rates,
    /// Mishaps so far, by kind.
    struck: BTreeMap<Mishap, u64>,
    /// What befell the operation that has just begun.
    befell: Option<Mishap>,
    /// Operations that failed by fault or mishap and were not looked at yet.
    failures: Vec<Failed>,
    /// What a slow sync lets pass.
    clock: Option<Arc<SimClock>>,
    /// [`Personality::StickyReadOnly`] has struck.
    read_only: bool,
    /// A crash keeps any subset of the unsynced names, not only a first part.
    any_names: bool,
    /// Open files.
    open: u64,
    trace: VecDeque<Traced>,
    trace_len: usize,
}

/// An operation that the medium failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Which.
    pub op: OpKind,
    /// On which file or folder.
    pub path: PathBuf,
    /// The error of the system.
    pub errno: i32,
}

/// One operation, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// What was asked for.
    pub op: OpKind,
    /// Of which file or folder.
    pub path: PathBuf,
    /// Where in the file; 0 if that means nothing.
    pub offset: u64,
    /// How many bytes, or the new length.
    pub size: usize,
    /// The error of the system, if it failed by fault or mishap.
    pub errno: Option<i32>,
    /// What befell it, told or not.
    pub mishap: Option<Mishap>,
}

impl SimVfs {
    /// An empty disk. Everything that chance decides is drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: SplitMix(seed),
            personality: Personality::default(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: Names::new(),
            locks: BTreeSet::new(),
            faults: Vec::new(),
            counts: BTreeMap::new(),
            power: None,
            capacity: u64::MAX,
            rereads: true,
            evicts: true,
            fingerprint: 0xcbf2_9ce4_8422_2325,
            rates: Rates::none(),
            struck: BTreeMap::new(),
            befell: None,
            failures: Vec::new(),
            clock: None,
            read_only: false,
            any_names: false,
            open: 0,
            trace: VecDeque::new(),
            trace_len: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Sets what a failed sync does to the cache.
    pub fn set_personality(&self, personality: Personality) {
        self.state().personality = personality;
    }

    /// Says whether evicting a file does anything; true until said. If not, its pages stay, as
    /// where reads are served from a journal or another cache.
    pub fn set_evicts(&self, evicts: bool) {
        self.state().evicts = evicts;
    }

    /// Says whether an evicted file is known to be read from the medium; true until said.
    pub fn set_rereads(&self, rereads: bool) {
        self.state().rereads = rereads;
    }

    /// Sets the size of the disk in bytes; files may not grow beyond it (ENOSPC).
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Orders a fault; several may be armed, the first one that strikes decides.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(Armed::new(fault));
    }

    /// Takes back every fault.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Sets what goes wrong by chance; nothing, until said.
    pub fn set_rates(&self, rates: Rates) {
        self.state().rates = rates;
    }

    /// Mishaps so far, by kind.
    pub fn struck(&self) -> BTreeMap<Mishap, u64> {
        self.state().struck.clone()
    }

    /// The operations that failed by fault, mishap or EROFS since this was last asked.
    pub fn take_failures(&self) -> Vec<Failed> {
        std::mem::take(&mut self.state().failures)
    }

    /// The clock that a slow sync moves; without one no sync is slow.
    pub fn set_clock(&self, clock: Arc<SimClock>) {
        self.state().clock = Some(clock);
    }

    /// Whether a crash may keep any subset of the unsynced names, as on a file system without a
    /// journal, and not only the first ones.
    pub fn set_any_names(&self, any_names: bool) {
        self.state().any_names = any_names;
    }

    /// Whether an error has made it read-only; see [`Personality::StickyReadOnly`].
    pub fn read_only(&self) -> bool {
        self.state().read_only
    }

    /// Unmounts, checks and mounts again: what was not written is gone, as after a crash that loses
    /// everything unsynced, and it takes writes again. Refused (EBUSY) while a file is open or a
    /// folder locked.
    pub fn remount(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.open > 0 || !state.locks.is_empty() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        // An orderly unmount writes what it can; one of a file system that is read-only cannot.
        if !state.read_only {
            state.inodes.values_mut().for_each(Inode::sync);
            state.names.settle();
        }
        let State { inodes, names, rng, .. } = &mut *state;
        inodes.values_mut().for_each(Inode::forget);
        names.crash(false, rng);
        state.read_only = false;
        Ok(())
    }

    /// Whether the changes that [`Self::power_off_after`] allowed are used up.
    pub fn powered_off(&self) -> bool {
        !self.state().powered()
    }

    /// Sectors of 512 bytes of the medium under `path` that are not what a sync has confirmed,
    /// ascending: dropped, misdirected, rotten or unreadable.
    pub fn harmed(&self, path: &Path) -> Vec<usize> {
        self.with_inode(path, Inode::harmed).unwrap_or_default()
    }

    /// Whether a write that failed took a part of a sector of this file.
    pub fn ragged(&self, path: &Path) -> bool {
        self.with_inode(path, Inode::ragged).unwrap_or(false)
    }

    fn with_inode<T>(&self, path: &Path, look: impl FnOnce(&Inode) -> T) -> Option<T> {
        let state = self.state();
        match state.names.get(path) {
            Ok(Node::File(inode)) => state.inodes.get(&inode).map(look),
            _ => None,
        }
    }

    /// The medium changes a sector by itself; a cached copy of it stays. `false` if that changes
    /// nothing, or there is no such sector.
    pub fn harm(&self, path: &Path, sector: usize, bytes: &[u8]) -> bool {
        self.change_inode(path, |inode| inode.harm(sector, bytes))
    }

    /// From now on the medium does not give a sector (EIO), until it is written. `false` if there is
    /// no such sector.
    pub fn spoil(&self, path: &Path, sector: usize) -> bool {
        self.change_inode(path, |inode| inode.spoil(sector))
    }

    fn change_inode(&self, path: &Path, change: impl FnOnce(&mut Inode) -> bool) -> bool {
        let mut state = self.state();
        match state.names.get(path) {
            Ok(Node::File(inode)) => state.inodes.get_mut(&inode).is_some_and(change),
            _ => false,
        }
    }

    /// The disk as it would be if its medium had kept everything that it confirmed; otherwise a
    /// [`Self::fork`].
    pub fn unharmed(&self) -> Self {
        let disk = self.fork();
        disk.state().inodes.values_mut().for_each(Inode::restore);
        disk
    }

    /// Keeps the last so many operations for [`Self::trace`].
    pub fn keep_trace(&self, operations: usize) {
        self.state().trace_len = operations;
    }

    /// The last operations, oldest first.
    pub fn trace(&self) -> Vec<Traced> {
        self.state().trace.iter().cloned().collect()
    }

    /// Lets `changes` more changes and syncs through; from then on every operation fails with
    /// EIO and does nothing, as for a program whose machine has lost power. Then [`Self::crash`].
    pub fn power_off_after(&self, changes: u64) {
        self.state().power = Some(changes);
    }

    /// Changes and syncs so far: writes, syncs, lengths, names; not reads.
    pub fn changes(&self) -> u64 {
        let state = self.state();
        state.counts.iter().filter(|(op, _)| changes(**op)).map(|(_, count)| count).sum()
    }

    /// Operations of one kind so far.
    pub fn count(&self, op: OpKind) -> u64 {
        self.state().counts.get(&op).copied().unwrap_or(0)
    }

    /// Operations of every kind so far.
    pub fn count_all(&self) -> u64 {
        self.state().counts.values().sum()
    }

    /// The disk as it is found after loss of power now: faults, locks and cache are gone. This
    /// disk stays as it is; a second crash of it may leave another state.
    pub fn crash(&self) -> Self {
        let mut state = self.state();
        let mut after = state.clone();
        // So that crashing the same disk twice explores two states.
        state.rng.next();
        drop(state);
        for inode in after.inodes.values_mut() {
            inode.crash(&mut after.rng);
        }
        after.names.crash(after.any_names, &mut after.rng);
        after.read_only = false;
        after.restart();
        Self(Arc::new(Mutex::new(after)))
    }

    /// The disk as a new process finds it after the old one died, power staying on: the cache
    /// remains, faults and locks are gone.
    pub fn fork(&self) -> Self {
        let mut after = self.state().clone();
        after.restart();
        Self(Arc::new(Mutex::new(after)))
    }

    /// What the medium holds under `path`, whatever the cache says; `None` if there is no file.
    pub fn medium(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        match state.names.get(path) {
            Ok(Node::File(inode)) => state.inodes.get(&inode).map(|file| file.disk().to_vec()),
            _ => None,
        }
    }

    /// Puts `bytes` on the medium under `path` and makes that durable, with its folders: how a
    /// tester sets a scene, or damages one.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        let mut state = self.state();
        if let Some(parent) = path.parent() {
            state.create_dir_all(parent)?;
        }
        match state.names.get(path) {
            Ok(Node::File(inode)) => {
                state.inodes.insert(inode, Inode::durable(bytes));
            }
            Ok(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            Err(_) => {
                state.create(path, Inode::durable(bytes))?;
            }
        }
        state.names.settle();
        Ok(())
    }

    /// Flips bits of one byte on the medium under `path`; what the cache shows stays. For a disk
    /// that loses what it had confirmed.
    pub fn rot(&self, path: &Path, at: usize, bits: u8) -> io::Result<()> {
        let mut state = self.state();
        match state.names.get(path)? {
            Node::File(inode) => {
                state.inodes.get_mut(&inode).ok_or(io::ErrorKind::NotFound)?.rot(at, bits)
            }
            Node::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// Removes a file, durably.
    pub fn take(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.names.unlink(path)?;
        state.names.settle();
        Ok(())
    }

    /// All files, in byte order of their paths.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.files().map(|(path, _)| path.to_path_buf()).collect()
    }

    /// A hash of every operation so far: its path, place, size, bytes and outcome.
    pub fn fingerprint(&self) -> u64 {
        self.state().fingerprint
    }
}

/// Whether an operation may change what a crash leaves.
fn changes(op: OpKind) -> bool {
    !matches!(
        op,
        OpKind::Open
            | OpKind::ReadDir
            | OpKind::Metadata
            | OpKind::Space
            | OpKind::Lock
            | OpKind::Read
            | OpKind::ReadNowait
            | OpKind::Len
            | OpKind::Evict
    )
}

impl State {
    fn restart(&mut self) {
        self.locks.clear();
        self.faults.clear();
        self.rates = Rates::none();
        self.failures.clear();
        self.power = None;
        self.open = 0;
    }

    /// Counts an operation and decides whether it fails.
    fn begin(&mut self, op: OpKind, path: &Path, offset: u64, size: usize) -> io::Result<()> {
        *self.counts.entry(op).or_default() += 1;
        let power_gone = match &mut self.power {
            Some(0) => true,
            Some(left) if changes(op) => {
                *left -= 1;
                false
            }
            _ => false,
        };
        let creates = op == OpKind::Open && size == Open::CreateNew as usize;
        let writes = op == OpKind::Open && size != Open::Read as usize;
        let mut struck = power_gone.then_some(EIO);
        let refused = self.read_only && (writes || (changes(op) && op != OpKind::Close));
        struck = struck.or(refused.then_some(EROFS));
        for fault in &mut self.faults {
            let strikes = fault.strikes(op, path, &mut self.rng);
            struck = struck.or(strikes);
        }
        self.befell = None;
        if struck.is_none()
            && let Some(mishap) = self.rates.draw(op, creates, &mut self.rng)
        {
            struck = self.befall(mishap);
        }
        let sticky = self.personality == Personality::StickyReadOnly;
        if let (Some(errno), false) = (struck, power_gone) {
            self.failures.push(Failed { op, path: path.into(), errno });
            self.read_only |= sticky && changes(op) && op != OpKind::Close;
        }
        self.note_bytes(path.as_os_str().as_encoded_bytes());
        self.note(op as u64);
        self.note(offset);
        self.note(size as u64);
        self.note(struck.unwrap_or(0) as u64);
        if self.trace_len > 0 {
            if self.trace.len() >= self.trace_len {
                self.trace.pop_front();
            }
            let (path, mishap) = (path.into(), self.befell);
            self.trace.push_back(Traced { op, path, offset, size, errno: struck, mishap });
        }
        struck.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// Lets a mishap happen, as far as it is not a matter of bytes. Its error, if the program is
    /// told one.
    fn befall(&mut self, mishap: Mishap) -> Option<i32> {
        *self.struck.entry(mishap).or_default() += 1;
        self.befell = Some(mishap);
        let mut let_pass = |at_least: u64, below: u64| {
            let seconds = at_least + self.rng.below(below);
            if let Some(clock) = &self.clock {
                clock.step(Duration::from_secs(seconds));
            }
        };
        match mishap {
            Mishap::SyncSlow => let_pass(1, 9),
            Mishap::SyncHung => {
                let_pass(30, 90);
                return (self.rng.below(2) == 0).then_some(EIO);
            }
            _ => {}
        }
        mishap.errno()
    }

    /// FNV-1a, by words.
    fn note(&mut self, value: u64) {
        self.fingerprint =
            (self.fingerprint ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    fn note_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.note(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.note(u64::from(*byte));
        }
        self.note(bytes.len() as u64);
    }

    fn powered(&self) -> bool {
        self.power != Some(0)
    }

    fn create(&mut self, path: &Path, inode: Inode) -> io::Result<u64> {
        let number = self.next_inode;
        self.names.link(path, Node::File(number))?;
        self.next_inode += 1;
        self.inodes.insert(number, inode);
        Ok(number)
    }

    fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        match self.names.get(path) {
            Ok(Node::Dir) => Ok(()),
            Ok(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            Err(_) => {
                self.create_dir_all(path.parent().ok_or(io::ErrorKind::NotFound)?)?;
                self.names.link(path, Node::Dir)
            }
        }
    }

    fn used(&self) -> u64 {
        self.names
            .files()
            .filter_map(|(_, inode)| self.inodes.get(&inode))
            .map(|inode| inode.len() as u64)
            .sum()
    }

    /// Whether `inode` may become `len` bytes long.
    fn room(&self, inode: u64, len: usize) -> io::Result<()> {
        let now = self.inodes.get(&inode).map_or(0, Inode::len);
        let more = len.saturating_sub(now) as u64;
        if more > 0 && self.used().saturating_add(more) > self.capacity {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path, mode: Open) -> io::Result<Box<dyn VfsFile>> {
        let mut state = self.state();
        // Creating a file is a change; opening one is not.
        state.begin(OpKind::Open, path, 0, mode as usize)?;
        let inode = match (state.names.get(path), mode) {
            (Ok(Node::Dir), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Ok(Node::File(_)), Open::CreateNew) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (Ok(Node::File(inode)), _) => inode,
            (Err(_), Open::CreateNew) => state.create(path, Inode::default())?,
            (Err(error), _) => return Err(error),
        };
        let writable = mode != Open::Read;
        state.open += 1;
        // An error that nobody was told yet is told to who opens the file next.
        let unseen = |file: &Inode| file.errors - u64::from(file.errors > 0 && !file.told);
        let seen = AtomicU64::new(state.inodes.get(&inode).map_or(0, unseen));
        Ok(Box::new(SimFile { disk: self.clone(), inode, path: path.into(), writable, seen }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(OpKind::CreateDir, path, 0, 0)?;
        state.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state();
        state.begin(OpKind::ReadDir, path, 0, 0)?;
        let children = state.names.children(path)?;
        Ok(children
            .iter()
            .filter_map(|(path, node)| {
                let name = path.file_name()?.to_os_string();
                Some(DirEntry { name, is_dir: *node == Node::Dir })
            })
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(OpKind::Rename, to, 0, 0)?;
        state.names.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(OpKind::Remove, path, 0, 0)?;
        state.names.unlink(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if mutant("no_dir_sync") {
            return Ok(());
        }
        state.begin(OpKind::SyncDir, path, 0, 0)?;
        state.names.sync_dir(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let mut state = self.state();
        state.begin(OpKind::Metadata, path, 0, 0)?;
        Ok(match state.names.get(path)? {
            Node::Dir => Metadata { len: 0, is_dir: true },
            Node::File(inode) => Metadata {
                len: state.inodes.get(&inode).map_or(0, |inode| inode.len() as u64),
                is_dir: false,
            },
        })
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let mut state = self.state();
        state.begin(OpKind::Space, path, 0, 0)?;
        let (total, used) = (state.capacity, state.used());
        Ok(Space { total, available: total.saturating_sub(used) })
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        let state = self.state();
        state.names.get(path)?;
        let rereads = state.rereads;
        Ok(FileSystem { name: "simulated".into(), device: 1, rereads })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FolderLock>> {
        let mut state = self.state();
        state.begin(OpKind::Lock, path, 0, 0)?;
        state.names.children(path)?;
        if !state.locks.insert(path.into()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.clone(), path: path.into() }))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimVfs,
    path: PathBuf,
}

impl FolderLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

struct SimFile {
    disk: SimVfs,
    inode: u64,
    path: PathBuf,
    writable: bool,
    /// Errors of write-back that this descriptor need not be told.
    seen: AtomicU64,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        state.open = state.open.saturating_sub(1);
    }
}

impl SimFile {
    /// Counts the operation, decides whether it fails, and gives the disk.
    fn begin(&self, op: OpKind, offset: u64, size: usize) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.state();
        state.begin(op, &self.path, offset, size)?;
        Ok(state)
    }

    fn writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    /// The error of an earlier write-back, once for each descriptor.
    fn late(&self, state: &mut State, op: OpKind) -> io::Result<()> {
        let Some(file) = state.inodes.get_mut(&self.inode) else { return Ok(()) };
        let errors = file.errors;
        if self.seen.swap(errors, Ordering::SeqCst) >= errors {
            return Ok(());
        }
        file.told = true;
        state.failures.push(Failed { op, path: self.path.clone(), errno: EIO });
        Err(io::Error::from_raw_os_error(EIO))
    }

    fn sync(&self, op: OpKind) -> io::Result<()> {
        let mut state = self.disk.state();
        let begun = state.begin(op, &self.path, 0, 0);
        // Without power nothing happens any more; what was on its way is the crash's matter.
        // Nor does it on a file system that has become read-only before.
        let refused = |error: &io::Error| error.raw_os_error() == Some(EROFS);
        if begun.as_ref().is_err_and(|error| !state.powered() || refused(error)) {
            return begun;
        }
        let befell = state.befell;
        let State { inodes, rng, personality, .. } = &mut *state;
        let inode = inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        match (&begun, befell) {
            (Err(_), _) => {
                inode.sync_failing(*personality, rng);
                if *personality == Personality::ReportsLate {
                    // Every other descriptor will hear of it, too.
                    inode.errors += 1;
                    inode.told = true;
                    self.seen.store(inode.errors, Ordering::SeqCst);
                }
                return begun;
            }
            (Ok(()), Some(Mishap::SilentDrop | Mishap::LateReport)) => {
                let all = rng.below(2) == 0;
                inode.sync_but(|_| all || rng.below(3) == 0);
                if befell == Some(Mishap::LateReport) {
                    // This sync does not say it: only others may, later.
                    inode.errors += 1;
                    inode.told = false;
                    return Ok(());
                }
            }
            (Ok(()), Some(Mishap::MisdirectedWrite)) => state.sync_misdirected(self.inode),
            _ => inode.sync(),
        }
        self.late(&mut state, op)
    }
}

impl State {
    /// A sync that says ok, and of which one page is written somewhere else.
    fn sync_misdirected(&mut self, number: u64) {
        let State { inodes, rng, names, .. } = self;
        let Some(inode) = inodes.get_mut(&number) else { return };
        let dirty = inode.dirty();
        let pages: BTreeSet<usize> =
            dirty.iter().map(|(sector, _)| sector * SECTOR / PAGE).collect();
        let nth = rng.below(pages.len() as u64) as usize;
        let Some(lost) = pages.into_iter().nth(nth) else { return inode.sync() };
        inode.sync_but(|sector| sector * SECTOR / PAGE == lost);
        // Mostly to the same place of a neighbour or to a place nearby: a wrong bit of an address.
        let files: Vec<u64> = names.files().map(|(_, inode)| inode).collect();
        let other = files.get(rng.below(files.len() as u64) as usize).copied();
        let (to, page) = match rng.below(2) {
            0 => (other.unwrap_or(number), lost),
            _ => (number, lost ^ (1 << rng.below(3))),
        };
        if let Some(target) = inodes.get_mut(&to).filter(|_| (to, page) != (number, lost)) {
            for (sector, bytes) in dirty.iter().filter(|(sector, _)| sector * SECTOR / PAGE == lost)
            {
                target.harm(page * PAGE / SECTOR + sector % (PAGE / SECTOR), bytes);
            }
        }
    }
}

fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.begin(OpKind::Read, offset, buf.len())?;
        let offset = to_usize(offset)?;
        let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        if inode.unreadable(buf.len(), offset) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let read = inode.read(buf, offset);
        state.note_bytes(buf.get(..read).unwrap_or_default());
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?;
        let offset = to_usize(offset)?;
        let mut state = self.disk.state();
        let begun = state.begin(OpKind::Write, &self.path, offset as u64, buf.len());
        state.note_bytes(buf);
        let end = offset.checked_add(buf.len()).ok_or(io::ErrorKind::InvalidInput)?;
        let all = buf.len();
        let written = match (&begun, state.befell) {
            (Ok(()), _) => all,
            (Err(_), _) if !state.powered() => 0,
            (Err(error), _) if error.raw_os_error() == Some(EROFS) => 0,
            (Err(_), Some(Mishap::WriteEio | Mishap::WriteNoSpace)) => {
                state.rng.below((all / SECTOR) as u64 + 1) as usize * SECTOR
            }
            (Err(_), _) => state.rng.below(all as u64 + 1) as usize,
        };
        state.room(self.inode, end)?;
        let late = state.personality == Personality::ReportsLate;
        // The system begins to write back by itself, and nobody is told of the error yet.
        let behind = late && begun.is_ok() && {
            let State { rates, rng, .. } = &mut *state;
            rates.draw(OpKind::SyncData, false, rng) == Some(Mishap::SyncEio)
        };
        let State { inodes, rng, struck, personality, .. } = &mut *state;
        let inode = inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        inode.write(buf.get(..written).unwrap_or(buf), offset);
        if begun.is_err() {
            inode.fray(written, offset);
        }
        if behind {
            *struck.entry(Mishap::SyncEio).or_default() += 1;
            inode.sync_failing(*personality, rng);
            inode.errors += 1;
            inode.told = false;
        }
        begun
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(OpKind::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(OpKind::SyncAll)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        let len = to_usize(len)?;
        let mut state = self.begin(OpKind::SetLen, 0, len)?;
        state.room(self.inode, len)?;
        state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?.set_len(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.begin(OpKind::Len, 0, 0)?;
        Ok(state.inodes.get(&self.inode).map_or(0, |inode| inode.len() as u64))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        let len = to_usize(len)?;
        let mut state = self.begin(OpKind::Allocate, 0, len)?;
        state.room(self.inode, len)?;
        let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        inode.set_len(inode.len().max(len));
        Ok(())
    }

    fn evict(&self) -> io::Result<()> {
        let mut state = self.begin(OpKind::Evict, 0, 0)?;
        let State { inodes, evicts, .. } = &mut *state;
        let inode = inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        match *evicts {
            true if mutant("evict_range") => inode.evict_first_page(),
            true => inode.evict(),
            false => {}
        }
        Ok(())
    }

    fn read_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let mut state = self.begin(OpKind::ReadNowait, offset, buf.len())?;
        let offset = to_usize(offset)?;
        let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        if !inode.cached(buf.len(), offset) {
            return Ok(None);
        }
        let read = inode.read(buf, offset);
        state.note_bytes(buf.get(..read).unwrap_or_default());
        Ok(Some(read))
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        let mut state = self.begin(OpKind::Close, 0, 0)?;
        self.late(&mut state, OpKind::Close)
    }
}
