//! The writing end: one group, one write, one sync.

use std::sync::Arc;
use std::time::Duration;

use stemedb_io::{Env, FolderLock, VfsFile, mutant};
use stemedb_model::{LogId, Millis, Position, Timeline};

use crate::config::{Expect, Recovery, SEGMENT_BYTES_MAX, WalConfig};
use crate::entry::{Commit, NewEntry};
use crate::error::LogError;
use crate::format::block::{BLOCK, GroupKind, PAYLOAD, first_of};
use crate::format::group::{GroupPlace, blocks_of, encode_entries, encode_seal};
use crate::format::header::{Fence, SegmentHeader, encode_mark};
use crate::recover::open::{Active, Opened, make_folder, open};
use crate::shared::{Published, SegmentEntry, Shared};
use crate::telemetry::Meters;
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
    shared: Arc<Shared>,
    env: Env,
    config: WalConfig,
    log_id: LogId,
    timeline: Timeline,
    active: Option<Active>,
    end: Cursor,
    /// The last thing written is a seal of `end`.
    sealed: bool,
    /// Bytes of all segments in use.
    bytes: u64,
    worker: Worker,
    /// A group on its way to the file; kept for its memory.
    blocks: Vec<u8>,
    head: Vec<u8>,
    // Last, so that the folder is free only when nothing works on it any more.
    _lock: Box<dyn FolderLock>,
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
        config.segment_bytes = config.segment_bytes.next_multiple_of(BLOCK as u64);
        if !(BLOCKS_MIN * BLOCK as u64..=SEGMENT_BYTES_MAX).contains(&config.segment_bytes) {
            return Err(LogError::Refused(format!(
                "segments of {} bytes cannot be",
                config.segment_bytes
            )));
        }
        let meters = Meters::new();
        let lock = lock_folder(&config, &env, &expect)?;
        let Opened { log_id, timeline, end, active, spare, segments, bytes, recovery } =
            open(&config, &env, &expect)?;
        meters.recovered(recovery.took, recovery.durable);
        meters.folder(segments.len() as u64, bytes);
        if let Ok(space) = env.vfs.space(&config.dir) {
            meters.space(space);
        }
        if let Some(active) = &active {
            meters.segment_in_use(&active.name);
        }
        let identity = (end.last > Position::NONE).then_some((log_id, timeline));
        let published = Published { identity, end, segments };
        let shared = Arc::new(Shared::new(env.vfs.clone(), config.dir.clone(), meters, published));
        let worker = Worker::new(
            Arc::clone(&shared),
            env.clone(),
            config.segment_bytes,
            spare,
            config.prepare_in_background,
        )
        .map_err(|source| LogError::Io {
            op: "start the worker of",
            file: config.dir.display().to_string(),
            offset: 0,
            source,
        })?;
        let wal = Self {
            shared,
            env,
            config,
            log_id,
            timeline,
            active,
            end,
            sealed: recovery.sealed,
            bytes,
            worker,
            blocks: Vec::new(),
            head: Vec::new(),
            _lock: lock,
        };
        wal.worker.order(wal.next_number());
        Ok((wal, recovery))
    }

    /// The most bytes a group may have, as the sum of [`NewEntry::encoded_len`].
    pub fn group_bytes_max(&self) -> usize {
        // Less the header and the seals.
        let blocks = (self.config.segment_bytes / BLOCK as u64).saturating_sub(BLOCKS_MIN - 1);
        usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(PAYLOAD)
    }

    /// Seals, waits for background work, closes, and reports what dropping would hide.
    pub fn close(mut self) -> Result<(), LogError> {
        self.seal()?;
        self.worker.finish();
        if let Some(active) = self.active.take()
            && let Err(source) = active.file.close()
        {
            self.shared.poison("close", &active.name, 0, &source);
            return Err(LogError::Io { op: "close", file: active.name, offset: 0, source });
        }
        self.shared.refuse_if_read_only()
    }

    fn next_number(&self) -> u64 {
        self.active.as_ref().map_or(1, |active| active.number + 1)
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

    /// The next segment, to be written with its header in front of its first group.
    fn turn_over(&self) -> Result<(Active, SegmentHeader), LogError> {
        let spare = self.worker.take(self.next_number())?;
        let fence = match &self.active {
            Some(active) => self.end.fence(active.number, active.salt),
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

    /// One write and one sync of `self.blocks`. After an error the log is read-only.
    fn commit(&self, file: &dyn VfsFile, name: &str, block: u32) -> Result<(), LogError> {
        let offset = u64::from(block) * BLOCK as u64;
        let failed = |op: &'static str, source: std::io::Error| {
            self.shared.poison(op, name, offset, &source);
            LogError::Io { op, file: name.to_string(), offset, source }
        };
        file.write_at(&self.blocks, offset).map_err(|source| failed("write", source))?;
        self.shared.meters.written(self.blocks.len());
        let started = self.env.clock.monotonic();
        if !mutant("ack_before_sync") {
            file.sync_data().map_err(|source| failed("sync", source))?;
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

    fn append_here(&mut self, group: &[NewEntry], blocks: usize) -> Result<Commit, LogError> {
        let recorded_at = Millis(self.env.clock.now_ms()).max(self.end.recorded_at);
        let first = self.end.last.next();
        let turned = if self.fits(blocks) { None } else { Some(self.turn_over()?) };

        let target = match &turned {
            Some((active, _)) => Some(active),
            None => self.active.as_ref(),
        };
        let Some(target) = target else {
            return Err(LogError::Refused("a log without a segment".into()));
        };
        let (salt, start) = (target.salt, target.next);
        let header_blocks = usize::from(turned.is_some());
        let group_block = start + header_blocks as u32;
        let place = self.place(salt, group_block, recorded_at);
        self.blocks.clear();
        self.blocks.resize((header_blocks + blocks) * BLOCK, 0);
        let (header_space, group_space) = self.blocks.split_at_mut(header_blocks * BLOCK);
        if let Some((_, header)) = &turned {
            header.encode(header_space);
            encode_mark(header.number, header.salt, header_space);
        }
        let chain = encode_entries(group, &place, group_space, &mut self.head);

        match &turned {
            Some((active, _)) => self.commit(&*active.file, &active.name, start)?,
            None => {
                if let Some(active) = &self.active {
                    self.commit(&*active.file, &active.name, start)?;
                }
            }
        }
        let left = self.end;
        self.sealed = false;
        self.end = Cursor {
            block: group_block + blocks as u32,
            group: place.group,
            last: Position(first.0.saturating_add(group.len() as u64 - 1)),
            recorded_at,
            chain,
        };
        let entry = turned.as_ref().map(|(active, _)| SegmentEntry {
            number: active.number,
            salt,
            first,
            end: 0,
            marks: Some(Marks::default()),
        });
        self.publish(entry, start);
        if let Some((active, _)) = turned {
            self.turned_over(active, &left);
        }
        if let Some(active) = &mut self.active {
            active.next = self.end.block;
        }
        self.shared.meters.committed(group.len(), self.end.last);
        Ok(Commit { first, recorded_at })
    }

    /// The first group of `active` is durable: hands the segment before it to the worker, which
    /// also prepares the one after it.
    fn turned_over(&mut self, active: Active, left: &Cursor) {
        self.shared.meters.segment_in_use(&active.name);
        self.bytes += u64::from(active.blocks) * BLOCK as u64;
        let number = active.number;
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
            self.bytes -= u64::from(old.blocks.saturating_sub(old.next + 1)) * BLOCK as u64;
            self.worker.retire(Retired { name: old.name, file: old.file, seal });
        }
        self.shared.meters.folder(number, self.bytes);
        self.worker.order(number + 1);
    }
}

impl Log for Wal {
    fn append(&mut self, group: &[NewEntry]) -> Result<Commit, LogError> {
        self.shared.refuse_if_read_only()?;
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
        self.append_here(group, blocks_of(bytes))
    }

    fn seal(&mut self) -> Result<(), LogError> {
        self.shared.refuse_if_read_only()?;
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
        self.commit(&*active.file, &active.name, block)?;
        self.sealed = true;
        self.end.block = block + 1;
        self.publish(None, block);
        if let Some(active) = &mut self.active {
            active.next = block + 1;
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.shared) as Arc<dyn LogReader>
    }
}

fn lock_folder(
    config: &WalConfig,
    env: &Env,
    expect: &Expect,
) -> Result<Box<dyn FolderLock>, LogError> {
    let dir = config.dir.display().to_string();
    if matches!(expect, Expect::New { .. }) {
        make_folder(&*env.vfs, &config.dir)?;
    }
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
