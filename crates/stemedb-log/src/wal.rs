//! The writing end: one group, one write, one sync.

use std::sync::Arc;
use std::time::Duration;

use stemedb_io::{Env, FileSystem, FolderLock, VfsFile, mutant};
use stemedb_model::{LogId, Millis, Position, Timeline};

use crate::config::{Expect, Recovery, SEGMENT_BYTES_MAX, WalConfig};
use crate::entry::{Commit, NewEntry};
use crate::error::{Failure, LogError};
use crate::format::block::{BLOCK, GroupKind, PAYLOAD, first_of};
use crate::format::group::{GroupPlace, blocks_of, encode_entries, encode_seal};
use crate::format::header::{Fence, SegmentHeader, encode_mark};
use crate::heal::{Left, Probes};
use crate::health::Health;
use crate::part::Cutter;
use crate::prove::prove_header;
use crate::recover::open::{Active, Opened, make_folder, open};
use crate::removed::Removed;
use crate::shared::{Published, SegmentEntry, Shared};
use crate::syncs::{Counted, Syncs};
use crate::telemetry::Meters;
use crate::trim::{ArchiveProof, Trimmed, Trimmer};
use crate::upkeep::{Repacked, Scrubbed, Upkeep};
use crate::walk::{Cursor, Marks};
use crate::worker::{Retired, Worker};
use crate::{Log, LogReader};

/// Syncs that take longer than this are worth a line in the log.
const SLOW_SYNC: Duration = Duration::from_secs(1);
/// Blocks that a segment keeps for a seal and for the closing seal.
const SEAL_BLOCKS: usize = 2;
/// Header, one block of a group, the seals.
const BLOCKS_MIN: u64 = 2 + SEAL_BLOCKS as u64;

/// The write-ahead log on a file system.
pub struct Wal {
    pub(crate) shared: Arc<Shared>,
    pub(crate) env: Env,
    pub(crate) config: WalConfig,
    pub(crate) log_id: LogId,
    timeline: Timeline,
    /// Where groups go. `None` in a new log, and once the medium failed under it.
    pub(crate) active: Option<Active>,
    /// The newest segment that has a durable header, while none is active.
    pub(crate) left: Option<Left>,
    pub(crate) end: Cursor,
    /// The last thing written is a seal of `end`.
    sealed: bool,
    pub(crate) worker: Worker,
    pub(crate) upkeep: Upkeep,
    /// A group that was given to a medium that failed, and of which nobody was told that it is not
    /// written.
    pub(crate) held: Option<Vec<NewEntry>>,
    /// A prepared segment whose first write failed; its name is to be freed.
    pub(crate) spoiled: Option<String>,
    pub(crate) probes: Probes,
    /// A group on its way to the file; kept for its memory.
    blocks: Vec<u8>,
    head: Vec<u8>,
    // Last, so that the folder is free only when nothing works on it any more.
    pub(crate) lock: Option<Box<dyn FolderLock>>,
}

/// Why something is not durable.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// Nothing was given to the medium.
    Refused(LogError),
    /// The medium failed under it.
    Failed(Failure),
}

/// Blocks of the next segment that come with what is written into it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    /// A new segment begins: its header comes in front.
    header_blocks: usize,
    salt: u64,
    start: u32,
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal").field("dir", &self.config.dir).finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens the log in `config.dir`, which must be nobody else's, and says what was found.
    ///
    /// Everything is synced, read from the medium as far as the file system allows, and judged
    /// before anything is changed. An error changes nothing and names file, byte, kind, positions
    /// and the next command. Time: one pass over the folder at the speed of the device.
    pub fn open(
        mut config: WalConfig,
        env: Env,
        expect: Expect,
    ) -> Result<(Self, Recovery), LogError> {
        let syncs = Arc::new(Syncs::default());
        let vfs = Arc::new(Counted::new(Arc::clone(&env.vfs), Arc::clone(&syncs)));
        let env = Env { vfs, ..env };
        config.segment_bytes = config.segment_bytes.next_multiple_of(BLOCK as u64);
        if !(BLOCKS_MIN * BLOCK as u64..=SEGMENT_BYTES_MAX).contains(&config.segment_bytes) {
            return Err(LogError::Refused(format!(
                "segments of {} bytes cannot be",
                config.segment_bytes
            )));
        }
        let meters = Meters::new(config.log_fsync_errors);
        if matches!(expect, Expect::New { .. }) {
            make_folder(&*env.vfs, &config.dir)?;
        }
        let lock = lock_folder(&config, &env)?;
        let file_system = file_system(&config, &env)?;
        let Opened {
            log_id,
            timeline,
            end,
            active,
            spare,
            floor,
            segments,
            lost,
            bytes,
            mut recovery,
        } = open(&config, &env, &expect)?;
        if !file_system.rereads {
            recovery.warnings.push(format!(
                "the log lies on {}: if a write or sync fails there, it cannot be proved what the \
                 medium holds, and the log stops until an operator attaches it again",
                file_system.name
            ));
        }
        meters.recovered(recovery.took, recovery.durable);
        if let Some(active) = &active {
            meters.segment_known(&active.name);
        }
        // What the start has read need not be scrubbed at once.
        let proved = segments.iter().filter(|s| s.marks.is_some() && recovery.read_from_medium);
        let proved = proved.map(|segment| segment.number).collect();
        let identity = (end.last > Position::NONE).then_some((log_id, timeline));
        let published = Published { identity, end, floor, segments, lost };
        let health = Health::new(config.on_failure, file_system);
        let dir = config.dir.clone();
        let shared =
            Arc::new(Shared::new(env.clone(), syncs, dir, meters, health, published, bytes));
        let dir = config.dir.display().to_string();
        let thread_failed =
            |source| LogError::Io { op: "start a thread of", file: dir.clone(), offset: 0, source };
        let worker =
            Worker::new(Arc::clone(&shared), env.clone(), spare, &config).map_err(thread_failed)?;
        let upkeep = Upkeep::new(Arc::clone(&shared), env.clone(), &config, proved)
            .map_err(thread_failed)?;
        let wal = Self {
            shared,
            env,
            config,
            log_id,
            timeline,
            active,
            left: None,
            end,
            sealed: recovery.sealed,
            worker,
            upkeep,
            held: None,
            spoiled: None,
            probes: Probes::default(),
            blocks: Vec::new(),
            head: Vec::new(),
            lock: Some(lock),
        };
        wal.worker.order(wal.next_number());
        Ok((wal, recovery))
    }

    /// Does the oldest piece of background work that waits; see
    /// [`WalConfig::background_on_demand`]. `false` if there is none.
    pub fn work(&self) -> bool {
        self.worker.step()
    }

    /// Seals, waits for background work, closes, and reports what dropping would hide.
    pub fn close(mut self) -> Result<(), LogError> {
        self.seal()?;
        self.upkeep.finish();
        self.worker.finish();
        if let Some(active) = self.active.take()
            && let Err(source) = active.file.close()
        {
            let failure = Failure { op: "close", file: active.name, offset: 0, source };
            let _ = self.shared.failed(&failure);
            return Err(failure.into());
        }
        self.shared.refuse_if_closed()
    }

    /// Packs every sealed segment that may be packed, now and at full speed: what the upkeep
    /// thread does over time. For simulations and tools.
    pub fn repack_now(&self) -> Result<Repacked, LogError> {
        self.upkeep.repack_now()
    }

    /// Reads every sealed segment from the medium and proves it, now and at full speed: what the
    /// upkeep thread does over time. For simulations and tools.
    pub fn scrub_now(&self) -> Result<Scrubbed, LogError> {
        self.upkeep.scrub_now()
    }

    /// Removes the segments that end with or before `proof`'s position, after making durable that
    /// the log begins behind them. The newest two segments stay. Reads of what was removed are
    /// [`LogError::Trimmed`]. Refused unless [`WalConfig::retention`] allows it.
    pub fn trim(&mut self, proof: &ArchiveProof) -> Result<Trimmed, LogError> {
        self.trimmer().trim(proof)
    }

    /// The same beside the writer, on another thread.
    pub fn trimmer(&self) -> Trimmer {
        Trimmer {
            shared: Arc::clone(&self.shared),
            retention: self.config.retention,
            identity: (self.log_id, self.timeline),
        }
    }

    /// Has reads of what was removed here read it there. Once; what comes later is not used.
    pub fn read_removed_from(&self, removed: Arc<dyn Removed>) {
        let _ = self.shared.removed.set(removed);
    }

    /// Cuts parts off the log, beside the writer: for an archive or a backup.
    pub fn cutter(&self) -> Cutter {
        Cutter::new(Arc::clone(&self.shared))
    }

    /// The first position that is here.
    pub fn first_kept(&self) -> Position {
        self.shared.published(|log| log.floor)
    }

    /// Number of the newest segment.
    #[cfg(test)]
    pub(crate) fn shared_segments(&self) -> u64 {
        self.shared.published(|log| log.segments.last().map_or(0, |segment| segment.number))
    }

    /// The newest segment that has a durable header.
    fn newest(&self) -> Option<Left> {
        let active = self.active.as_ref();
        active.map(|active| Left { number: active.number, salt: active.salt }).or(self.left)
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.newest().map_or(1, |newest| newest.number + 1)
    }

    /// Room for `blocks` and for the seals that will follow.
    fn fits(&self, blocks: usize) -> bool {
        self.active.as_ref().is_some_and(|active| {
            active.blocks.saturating_sub(active.next) as usize >= blocks + SEAL_BLOCKS
        })
    }

    fn place(&self, salt: u64, block: u32, recorded_at: Millis) -> GroupPlace {
        GroupPlace {
            salt,
            block,
            group: self.end.group.saturating_add(1),
            first: self.end.last.next(),
            watermark: self.end.last,
            recorded_at,
            chain: self.end.chain,
        }
    }

    /// The next segment, to be written with its header in front of what comes first in it.
    fn turn_over(&self) -> Result<(Active, SegmentHeader), LogError> {
        let spare = self.worker.take(self.next_number())?;
        let fence = match self.newest() {
            Some(newest) => self.end.fence(newest.number, newest.salt),
            None => Fence { segment: 0, salt: 0, ..self.end.fence(0, 0) },
        };
        let header = SegmentHeader {
            log_id: self.log_id,
            timeline: self.timeline,
            parent: None,
            partition: self.config.partition,
            number: spare.number,
            salt: spare.salt,
            segment_bytes: spare.bytes,
            fence,
            lost: 0,
            packed: false,
        };
        let active = Active {
            name: spare.name,
            number: spare.number,
            salt: header.salt,
            file: spare.file,
            next: 0,
            blocks: (spare.bytes / BLOCK as u64) as u32,
        };
        Ok((active, header))
    }

    /// One write and one sync of `self.blocks`.
    fn commit(&self, file: &dyn VfsFile, name: &str, block: u32) -> Result<(), Failure> {
        let offset = u64::from(block) * BLOCK as u64;
        let failed =
            |op: &'static str| move |source| Failure { op, file: name.to_string(), offset, source };
        file.write_at(&self.blocks, offset).map_err(failed("write"))?;
        self.shared.meters.written(self.blocks.len());
        let started = self.env.clock.monotonic();
        if !mutant("ack_before_sync") {
            match file.sync_data() {
                Err(_) if mutant("retry_on_same_file") => file.sync_data(),
                synced => synced,
            }
            .map_err(failed("sync"))?;
        }
        let took = self.env.clock.monotonic().saturating_sub(started);
        self.shared.meters.synced(took);
        if took > SLOW_SYNC {
            tracing::warn!("a sync of {name} took {} ms", took.as_millis());
        }
        Ok(())
    }

    /// Tells readers about the group in `self.blocks`, which is durable and starts at `block`.
    fn publish(&self, new_segment: Option<SegmentEntry>, block: u32) {
        let firsts: Vec<_> = (block..)
            .zip(self.blocks.chunks_exact(BLOCK))
            .filter(|(number, _)| *number > 0)
            .filter_map(|(number, bytes)| Some((number, first_of(bytes)?)))
            .collect();
        let after = block + (self.blocks.len() / BLOCK) as u32;
        self.shared.publish(|log| {
            log.segments.extend(new_segment);
            if let Some(segment) = log.segments.last_mut() {
                for (number, first) in firsts {
                    if let Some(marks) = &mut segment.marks {
                        marks.note(number, first);
                    }
                }
                segment.end = after;
            }
            log.end = self.end;
            if self.end.last > Position::NONE {
                log.identity = Some((self.log_id, self.timeline));
            }
        });
    }

    /// Puts the group behind the last one, in a fresh segment if it does not fit, and makes it
    /// durable.
    pub(crate) fn write(&mut self, group: &[NewEntry]) -> Result<Commit, Unwritten> {
        let blocks = blocks_of(group.iter().map(NewEntry::encoded_len).sum());
        let recorded_at = Millis(self.env.clock.now_ms()).max(self.end.recorded_at);
        let first = self.end.last.next();
        let turned = if self.fits(blocks) {
            None
        } else {
            Some(self.turn_over().map_err(Unwritten::Refused)?)
        };
        let Target { header_blocks, salt, start } = self.target(&turned, blocks)?;
        let group_block = start + header_blocks as u32;
        let place = self.place(salt, group_block, recorded_at);
        let group_space = self.blocks.get_mut(header_blocks * BLOCK..).unwrap_or_default();
        let chain = encode_entries(group, &place, group_space, &mut self.head);
        let left = self.end;
        let end = Cursor {
            block: group_block + blocks as u32,
            group: place.group,
            last: Position(first.0.saturating_add(group.len() as u64 - 1)),
            recorded_at,
            chain,
        };
        if mutant("serve_undurable") && turned.is_none() {
            self.end = end;
            self.publish(None, start);
            self.end = left;
        }
        self.commit_to(&turned, start)?;
        self.sealed = false;
        self.end = end;
        self.enter(turned, start, &left);
        self.shared.meters.committed(group.len(), self.end.last);
        Ok(Commit { first, recorded_at })
    }

    /// Begins a fresh segment whose header says where the log ends: what lies behind that in the
    /// one before is void for ever.
    pub(crate) fn write_fence(&mut self) -> Result<(), Unwritten> {
        let turned = Some(self.turn_over().map_err(Unwritten::Refused)?);
        self.target(&turned, 0)?;
        self.commit_to(&turned, 0)?;
        // What a fence voids is told to those who wait, for ever: here a sync alone is not believed.
        if let (Some((active, header)), Ok(())) = (&turned, self.shared.health.provable()) {
            prove_header(&self.env, &self.config.dir, &active.name, header)
                .map_err(Unwritten::Failed)?;
        }
        let left = self.end;
        self.sealed = false;
        self.end.block = 1;
        self.enter(turned, 0, &left);
        Ok(())
    }

    /// Makes `self.blocks` as long as what will be written, with the header of a new segment in it.
    fn target(
        &mut self,
        turned: &Option<(Active, SegmentHeader)>,
        blocks: usize,
    ) -> Result<Target, Unwritten> {
        let target = match turned {
            Some((active, _)) => Target { header_blocks: 1, salt: active.salt, start: 0 },
            None => {
                let without = || LogError::Refused("a log without a segment".into());
                let active = self.active.as_ref().ok_or_else(without);
                let active = active.map_err(Unwritten::Refused)?;
                Target { header_blocks: 0, salt: active.salt, start: active.next }
            }
        };
        self.blocks.clear();
        self.blocks.resize((target.header_blocks + blocks) * BLOCK, 0);
        if let Some((_, header)) = turned {
            header.encode(&mut self.blocks);
            encode_mark(header.number, header.salt, &mut self.blocks);
        }
        Ok(target)
    }

    fn commit_to(
        &self,
        turned: &Option<(Active, SegmentHeader)>,
        start: u32,
    ) -> Result<(), Unwritten> {
        match turned.as_ref().map(|(active, _)| active).or(self.active.as_ref()) {
            Some(target) => {
                self.commit(&*target.file, &target.name, start).map_err(Unwritten::Failed)
            }
            None => Ok(()),
        }
    }

    /// `self.blocks` are durable from block `start` on, and the log ends at `self.end`.
    fn enter(&mut self, turned: Option<(Active, SegmentHeader)>, start: u32, left: &Cursor) {
        let entry = turned.as_ref().map(|(active, header)| SegmentEntry {
            number: active.number,
            salt: active.salt,
            first: header.fence.position.next(),
            end: 0,
            marks: Some(Marks::default()),
            since: header.fence.recorded_at,
            packed: false,
        });
        self.publish(entry, start);
        if let Some((active, _)) = turned {
            self.turned_over(active, left);
        }
        if let Some(active) = &mut self.active {
            active.next = self.end.block;
        }
    }

    /// The header of `active` is durable: hands the segment before it to the worker, which also
    /// prepares the one after it.
    fn turned_over(&mut self, active: Active, left: &Cursor) {
        self.shared.meters.segment_known(&active.name);
        self.shared.grown(u64::from(active.blocks) * BLOCK as u64);
        let number = active.number;
        self.left = None;
        if let Some(old) = self.active.replace(active) {
            self.shared.meters.rotated();
            let seal = GroupPlace {
                salt: old.salt,
                block: old.next,
                group: left.group,
                first: left.last.next(),
                watermark: left.last,
                recorded_at: left.recorded_at,
                chain: left.chain,
            };
            let cut = u64::from(old.blocks.saturating_sub(old.next + 1)) * BLOCK as u64;
            self.shared.shrunk(cut);
            self.worker.retire(Retired {
                number: old.number,
                name: old.name,
                file: old.file,
                seal,
            });
        }
        self.worker.order(number + 1);
    }
}

impl Log for Wal {
    fn append(&mut self, group: &[NewEntry]) -> Result<Commit, LogError> {
        self.shared.refuse_if_closed()?;
        if group.is_empty() {
            return Err(LogError::Refused("a group without entries".into()));
        }
        let bytes: usize = group.iter().map(NewEntry::encoded_len).sum();
        if bytes > self.group_bytes_max() {
            return Err(LogError::Refused(format!(
                "a group of {bytes} bytes; segments of {} bytes take groups of up to {}",
                self.config.segment_bytes,
                self.group_bytes_max()
            )));
        }
        match self.write(group) {
            Ok(commit) => Ok(commit),
            Err(Unwritten::Refused(error)) => Err(error),
            Err(Unwritten::Failed(failure)) => self.failed_under(group, failure),
        }
    }

    fn seal(&mut self) -> Result<(), LogError> {
        self.shared.refuse_if_closed()?;
        let Some(active) = &self.active else { return Ok(()) };
        // Room for a seal is kept behind every group.
        if self.sealed || active.next >= active.blocks {
            return Ok(());
        }
        let (salt, block) = (active.salt, active.next);
        let place =
            GroupPlace { group: self.end.group, ..self.place(salt, block, self.end.recorded_at) };
        self.blocks.clear();
        self.blocks.resize(BLOCK, 0);
        encode_seal(GroupKind::Seal, &place, &mut self.blocks);
        if let Err(failure) = self.commit(&*active.file, &active.name, block) {
            return self.failed_at_rest(failure);
        }
        self.sealed = true;
        self.end.block = block + 1;
        self.publish(None, block);
        if let Some(active) = &mut self.active {
            active.next = block + 1;
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<Option<Commit>, LogError> {
        self.resume_by_itself()
    }

    fn detach(&mut self) -> Result<(), LogError> {
        self.take_off()
    }

    fn attach(&mut self) -> Result<Option<Commit>, LogError> {
        self.put_back()
    }

    fn acknowledge(&mut self) -> Option<String> {
        let seen = self.shared.health.acknowledge();
        self.shared.tell_state();
        seen
    }

    fn group_bytes_max(&self) -> usize {
        // Less the header and the seals.
        let blocks = (self.config.segment_bytes / BLOCK as u64).saturating_sub(BLOCKS_MIN - 1);
        usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(PAYLOAD)
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.shared) as Arc<dyn LogReader>
    }
}

/// The file system that holds the log's folder.
pub(crate) fn file_system(config: &WalConfig, env: &Env) -> Result<FileSystem, LogError> {
    env.vfs.file_system(&config.dir).map_err(|source| LogError::Io {
        op: "ask for the file system of",
        file: config.dir.display().to_string(),
        offset: 0,
        source,
    })
}

/// Takes the folder for this process alone.
pub(crate) fn lock_folder(config: &WalConfig, env: &Env) -> Result<Box<dyn FolderLock>, LogError> {
    let dir = config.dir.display().to_string();
    env.vfs.lock(&config.dir).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => LogError::Locked { dir },
        std::io::ErrorKind::NotFound => LogError::Misplaced {
            file: dir,
            problem: "missing: the folder of the log is not there".into(),
            hint: "check `wal.dir` and the mount; restore from a backup if it is gone".into(),
        },
        _ => LogError::Io { op: "lock", file: dir, offset: 0, source },
    })
}
