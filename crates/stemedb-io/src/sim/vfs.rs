//! A disk in memory that tells durable from volatile, and breaks as ordered.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::fault::{Armed, EIO, ENOSPC, Fault, OpKind};
use super::inode::{Inode, Personality};
use super::lock;
use super::names::{Names, Node};
use super::rng::SplitMix;
use crate::vfs::{DirEntry, FileSystem, FolderLock, Metadata, Open, Space, Vfs, VfsFile};

/// A simulated file system. Clones share one disk.
///
/// - Bytes that were not synced may survive a crash, vanish, or tear at sectors of 512 bytes.
/// - Names that were not synced (created, renamed, removed) may be lost; syncing a file does not
///   save its name.
/// - Errors are injected per operation with [`SimVfs::inject`].
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
    fingerprint: u64,
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
            fingerprint: 0xcbf2_9ce4_8422_2325,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Sets what a failed sync does to the cache.
    pub fn set_personality(&self, personality: Personality) {
        self.state().personality = personality;
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
        after.names.crash(&mut after.rng);
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

    /// A hash of every operation so far, its path, size and outcome.
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
        self.power = None;
    }

    /// Counts an operation and decides whether it fails.
    fn begin(&mut self, op: OpKind, path: &Path, size: usize) -> io::Result<()> {
        *self.counts.entry(op).or_default() += 1;
        let power_gone = match &mut self.power {
            Some(0) => true,
            Some(left) if changes(op) => {
                *left -= 1;
                false
            }
            _ => false,
        };
        let mut struck = power_gone.then_some(EIO);
        for fault in &mut self.faults {
            let strikes = fault.strikes(op, path, &mut self.rng);
            struck = struck.or(strikes);
        }
        for byte in path.as_os_str().as_encoded_bytes() {
            self.note(u64::from(*byte));
        }
        self.note(op as u64);
        self.note(size as u64);
        self.note(struck.unwrap_or(0) as u64);
        struck.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// FNV-1a.
    fn note(&mut self, value: u64) {
        self.fingerprint = (self.fingerprint ^ value).wrapping_mul(0x0100_0000_01b3);
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
        state.begin(OpKind::Open, path, mode as usize)?;
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
        Ok(Box::new(SimFile { disk: self.clone(), inode, path: path.into(), writable }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(OpKind::CreateDir, path, 0)?;
        state.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state();
        state.begin(OpKind::ReadDir, path, 0)?;
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
        state.begin(OpKind::Rename, to, 0)?;
        state.names.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(OpKind::Remove, path, 0)?;
        state.names.unlink(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(OpKind::SyncDir, path, 0)?;
        state.names.sync_dir(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let mut state = self.state();
        state.begin(OpKind::Metadata, path, 0)?;
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
        state.begin(OpKind::Space, path, 0)?;
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
        state.begin(OpKind::Lock, path, 0)?;
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
}

impl SimFile {
    /// Counts the operation, decides whether it fails, and gives the disk.
    fn begin(&self, op: OpKind, size: usize) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.state();
        state.begin(op, &self.path, size)?;
        Ok(state)
    }

    fn writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn sync(&self, op: OpKind) -> io::Result<()> {
        let mut state = self.disk.state();
        let begun = state.begin(op, &self.path, 0);
        let State { inodes, rng, personality, power, .. } = &mut *state;
        let inode = inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        match &begun {
            Ok(()) => inode.sync(),
            // Without power nothing happens any more; what was on its way is the crash's matter.
            Err(_) if *power == Some(0) => {}
            Err(_) => inode.sync_failing(*personality, rng),
        }
        begun
    }
}

fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.begin(OpKind::Read, buf.len())?;
        let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        Ok(inode.read(buf, to_usize(offset)?))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?;
        let offset = to_usize(offset)?;
        let mut state = self.disk.state();
        let begun = state.begin(OpKind::Write, &self.path, buf.len());
        let end = offset.checked_add(buf.len()).ok_or(io::ErrorKind::InvalidInput)?;
        let written = match &begun {
            Ok(()) => buf.len(),
            Err(_) if !state.powered() => 0,
            Err(_) => state.rng.below(buf.len() as u64 + 1) as usize,
        };
        state.room(self.inode, end)?;
        let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        inode.write(buf.get(..written).unwrap_or(buf), offset);
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
        let mut state = self.begin(OpKind::SetLen, len)?;
        state.room(self.inode, len)?;
        state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?.set_len(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.begin(OpKind::Len, 0)?;
        Ok(state.inodes.get(&self.inode).map_or(0, |inode| inode.len() as u64))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        let len = to_usize(len)?;
        let mut state = self.begin(OpKind::Allocate, len)?;
        state.room(self.inode, len)?;
        let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        inode.set_len(inode.len().max(len));
        Ok(())
    }

    fn evict(&self) -> io::Result<()> {
        let mut state = self.begin(OpKind::Evict, 0)?;
        state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?.evict();
        Ok(())
    }

    fn read_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let mut state = self.begin(OpKind::ReadNowait, buf.len())?;
        let offset = to_usize(offset)?;
        let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        Ok(if inode.cached(buf.len(), offset) { Some(inode.read(buf, offset)) } else { None })
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.begin(OpKind::Close, 0).map(drop)
    }
}
