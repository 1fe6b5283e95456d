//! Opens a folder: makes the medium speak, judges what it says, acts on the judgement.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use stemedb_io::{Env, Open, Vfs, VfsFile};
use stemedb_model::{LogId, Millis, Position, Timeline};

use super::floor::Floor;
use super::judge::{DamageKind, Finding, Known, judge};
use super::survey::{self, Names, SegmentSurvey, survey};
use super::verified::Verified;
use crate::chain::chain_start;
use crate::config::{Expect, Recovery, Voided, WalConfig};
use crate::error::LogError;
use crate::format::block::{BLOCK, SECTOR};
use crate::format::group::LostRange;
use crate::format::header::{FORMAT, HeaderState, SegmentHeader, segment_name};
use crate::prove::{CACHE_LOOK_EVERY, drop_cache};
use crate::shared::SegmentEntry;
use crate::wal::file_system;
use crate::walk::{Cursor, Marks};

/// A last write is copied onto itself in pieces of this length.
const WRITE_AGAIN_BYTES: usize = 1 << 20;
use crate::worker::{Spare, prepare};

/// The segment that appends go to.
pub(crate) struct Active {
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) salt: u64,
    pub(crate) file: Box<dyn VfsFile>,
    /// The next block to write.
    pub(crate) next: u32,
    /// Blocks of the file.
    pub(crate) blocks: u32,
}

/// Everything that opening a log gives.
pub(crate) struct Opened {
    pub(crate) log_id: LogId,
    pub(crate) timeline: Timeline,
    pub(crate) end: Cursor,
    /// `None` in a new log.
    pub(crate) active: Option<Active>,
    pub(crate) spare: Option<Spare>,
    /// The first position that is kept.
    pub(crate) floor: Position,
    pub(crate) segments: Vec<SegmentEntry>,
    pub(crate) lost: Vec<LostRange>,
    pub(crate) bytes: u64,
    pub(crate) recovery: Recovery,
}

pub(crate) fn open(config: &WalConfig, env: &Env, expect: &Expect) -> Result<Opened, LogError> {
    let opener = Opener { config, env, vfs: &*env.vfs, dir: &config.dir };
    let started = env.clock.monotonic();
    let mut opened = opener.open(expect)?;
    opened.recovery.took = env.clock.monotonic().saturating_sub(started);
    Ok(opened)
}

/// Makes the folder and everything above it, durably, so that it can be locked. One that is there
/// may have been made by a process that ended before its name was durable, so names that are there
/// are synced, too: as far up as the same file system goes, and but for folders that this process
/// may not read, which it has not made.
pub(crate) fn make_folder(vfs: &dyn Vfs, dir: &Path) -> Result<(), LogError> {
    let failed = |op| move |source| survey::io(&dir.display().to_string(), op, 0, source);
    let mut missing = Vec::new();
    for above in dir.ancestors().take_while(|above| !above.as_os_str().is_empty()) {
        if !vfs.exists(above).map_err(failed("look at"))? {
            missing.push(above);
        }
    }
    vfs.create_dir_all(dir).map_err(failed("create"))?;
    let device = |path: &Path| vfs.file_system(path).map(|file_system| file_system.device);
    let own = device(dir).map_err(failed("ask for the file system of"))?;
    for made in dir.ancestors().take_while(|above| !above.as_os_str().is_empty()) {
        let parent = match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) => Path::new("."),
            None => break,
        };
        match vfs.sync_dir(parent) {
            Err(_) if !missing.contains(&made) && device(parent).ok() != Some(own) => break,
            Err(error)
                if !missing.contains(&made) && error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(failed("sync folder of"))?,
        }
    }
    Ok(())
}

/// Reads the folder of a log that this process owns as a start would, and says whether everything
/// durable is there. Changes nothing: what is behind `witness` is the caller's to void.
pub(crate) fn check(
    config: &WalConfig,
    env: &Env,
    log_id: LogId,
    witness: Option<Position>,
) -> Result<(), LogError> {
    let opener = Opener { config, env, vfs: &*env.vfs, dir: &config.dir };
    let mut names = survey::names(opener.vfs, opener.dir)?;
    let floor = Floor::load(opener.vfs, opener.dir)?;
    if let Some(floor) = &floor {
        floor.cut(&mut names.segments);
    }
    opener.settle(&names)?;
    let segments = survey(opener.vfs, opener.dir, &names.segments, None)?;
    if let Some((file, found)) = newer_format(&segments) {
        return Err(LogError::TooNew { file, found, supported: FORMAT });
    }
    let known = Known { log_id: Some(log_id), witness, floor, single_file: false };
    let findings = judge(&segments, known);
    let bad = findings.iter().find(|finding| {
        !matches!(finding.kind, DamageKind::TornTail | DamageKind::Lost) && !finding.undecided()
    });
    bad.map_or(Ok(()), |finding| Err(finding.to_error(&config.dir.display().to_string())))
}

/// A name for what is set aside of `segment`, not yet taken.
pub(crate) fn free_name(vfs: &dyn Vfs, dir: &Path, segment: &str) -> Result<String, LogError> {
    let mut name = format!("{segment}.rejected");
    let mut again = 1;
    while vfs.exists(&dir.join(&name)).map_err(|source| survey::io(&name, "look at", 0, source))? {
        again += 1;
        name = format!("{segment}.rejected-{again}");
    }
    Ok(name)
}

struct Opener<'a> {
    config: &'a WalConfig,
    env: &'a Env,
    vfs: &'a dyn Vfs,
    dir: &'a Path,
}

impl Opener<'_> {
    fn open(&self, expect: &Expect) -> Result<Opened, LogError> {
        let mut names = survey::names(self.vfs, self.dir)?;
        for name in &names.temporary {
            self.remove(name)?;
        }
        let floor = Floor::load(self.vfs, self.dir)?;
        let below = floor.map(|floor| floor.cut(&mut names.segments)).unwrap_or_default();
        let read_from_medium = self.settle(&names)?;
        let proved = Verified::load(self.vfs, self.dir).filter(|_| !self.config.verify_all);
        let mut segments = survey(self.vfs, self.dir, &names.segments, proved)?;
        if let Some((file, found)) = newer_format(&segments) {
            return Err(LogError::TooNew { file, found, supported: FORMAT });
        }
        let known = match expect {
            Expect::New { .. } => Known::default(),
            Expect::Existing { log_id, witness } => {
                Known { log_id: *log_id, witness: *witness, floor, single_file: false }
            }
        };
        let findings = judge(&segments, known);
        let voided = self.refuse_or_void(&findings)?;
        let mut warnings = self.warnings(&names, &findings, read_from_medium, below);

        // Whole files that never held a durable group lose their names; then what is left is
        // segments with headers, and behind them spares.
        let mut report = None;
        for segment in segments.extract_if(.., |s| s.written_header().is_none() && !s.is_spare()) {
            report = Some(self.set_aside(&segment, &voided)?);
        }
        let at = segments.iter().position(SegmentSurvey::is_spare).unwrap_or(segments.len());
        let spares = segments.split_off(at);
        let end = self.end(&segments, expect, floor)?;
        if matches!(expect, Expect::New { .. }) {
            for segment in segments.drain(..) {
                report = Some(self.set_aside(&segment, &voided)?);
            }
        }
        let next_number = segments.last().map_or(1, |last| last.number + 1);
        let mut spare = self.adopt_spare(spares, next_number, report.is_some())?;

        let identity = match (expect, segments.last().and_then(SegmentSurvey::written_header)) {
            (Expect::New { log_id, timeline }, _) => (*log_id, *timeline),
            (_, Some(header)) => (header.log_id, header.timeline),
            (_, None) => return Err(self.no_log(None)),
        };
        let mut active = None;
        if let Some(last) = segments.last() {
            if let Some((finding, because)) = void(&voided, &last.name) {
                report = Some(self.keep(last, finding, because)?);
                let ready = match spare.take() {
                    Some(spare) => spare,
                    None => prepare(
                        self.env,
                        self.dir,
                        next_number,
                        self.config.segment_bytes,
                        &AtomicBool::new(false),
                    )?,
                };
                active = Some(self.fence(last, &end, ready)?);
            } else {
                let resumed = self.resume(last, &end)?;
                if !(read_from_medium && self.rereads()) {
                    self.write_again(last, &resumed)?;
                }
                active = Some(resumed);
            }
        }
        if let Some(voided) = &report {
            let sentence = format!(
                "{} bytes of {} from byte {} on were never durable; kept as {}",
                voided.bytes, voided.file, voided.offset, voided.kept_as
            );
            tracing::warn!("{sentence}");
            warnings.push(sentence);
        }
        let sealed = report.is_none()
            && segments.last().and_then(|s| s.groups.as_ref()).is_some_and(|g| g.sealed);
        let recovery = Recovery {
            durable: end.last,
            segments: segments.len() as u64,
            segments_skipped: segments.iter().filter(|segment| segment.skipped()).count() as u64,
            sealed,
            voided: report,
            read_from_medium,
            warnings,
            took: std::time::Duration::ZERO,
        };
        self.remember(&segments, proved);
        let bytes = segments.iter().map(|segment| segment.len).sum();
        let groups = segments.iter().filter_map(|segment| segment.groups.as_ref());
        let lost = groups.flat_map(|groups| groups.lost.iter().cloned()).collect();
        let mut entries: Vec<_> = segments.into_iter().filter_map(entry).collect();
        if let Some(active) =
            active.as_ref().filter(|a| entries.last().is_none_or(|e| e.number < a.number))
        {
            entries.push(SegmentEntry {
                number: active.number,
                salt: active.salt,
                first: end.last.next(),
                end: active.next,
                marks: Some(Marks::default()),
                since: end.recorded_at,
                packed: false,
            });
        }
        let (log_id, timeline) = identity;
        let floor = floor.map_or(Position(1), |floor| floor.first);
        Ok(Opened {
            log_id,
            timeline,
            end,
            active,
            spare,
            floor,
            segments: entries,
            lost,
            bytes,
            recovery,
        })
    }

    /// Syncs what an earlier process may have left in the cache, then drops the cache, so that
    /// what is read next comes from the medium. Says whether the cache was seen to be gone.
    fn settle(&self, names: &Names) -> Result<bool, LogError> {
        let mut from_medium = true;
        for (_, name) in &names.segments {
            let failed = |op| move |source| survey::io(name, op, 0, source);
            let file = self.vfs.open(&self.dir.join(name), Open::Write).map_err(failed("open"))?;
            file.sync_all().map_err(failed("sync"))?;
            let evicted = file
                .len()
                .and_then(|len| drop_cache(&*file, len, CACHE_LOOK_EVERY, &*self.env.clock));
            from_medium &= evicted.unwrap_or(false);
            file.close().map_err(failed("close"))?;
        }
        let failed = |source| survey::io(&self.dir.display().to_string(), "sync folder", 0, source);
        self.vfs.sync_dir(self.dir).map_err(failed)?;
        if from_medium {
            self.forget_looks(names);
        }
        Ok(from_medium)
    }

    /// Each look into an empty cache has made the system read the page that it asked for. A page here
    /// and there breaks up every long read to come, so they are dropped as well, once all looks are
    /// done and most pages have arrived. They come from the medium like all else: nothing depends on
    /// this but time.
    fn forget_looks(&self, names: &Names) {
        for (_, name) in &names.segments {
            if let Ok(file) = self.vfs.open(&self.dir.join(name), Open::Read) {
                let _ = file.evict();
            }
        }
    }

    /// The findings whose bytes are given up, with the reason that allows it; `Err` if any other
    /// one forbids to start.
    fn refuse_or_void<'f>(&self, findings: &'f [Finding]) -> Result<Vec<Void<'f>>, LogError> {
        let dir = self.dir.display().to_string();
        let mut voided = Vec::new();
        let mut fatal: Vec<&Finding> = Vec::new();
        for finding in findings {
            match finding.kind {
                DamageKind::Lost => {}
                DamageKind::TornTail => voided.push((finding, "torn")),
                _ if finding.undecided() && self.config.void_tail => {
                    voided.push((finding, "operator"));
                }
                _ => fatal.push(finding),
            }
        }
        // Damage to acknowledged data is the worst news; an undecided tail may follow from it.
        fatal.sort_by_key(|finding| finding.acknowledged != Some(true));
        match fatal.first() {
            None => Ok(voided),
            Some(first) => {
                for finding in &fatal {
                    tracing::error!(
                        "{}, byte {}: {}: {}",
                        finding.file,
                        finding.offset,
                        finding.kind.name(),
                        finding.problem
                    );
                }
                Err(first.to_error(&dir))
            }
        }
    }

    fn warnings(
        &self,
        names: &Names,
        findings: &[Finding],
        from_medium: bool,
        below_floor: Vec<String>,
    ) -> Vec<String> {
        let mut warnings = below_floor;
        let unknown = names.unknown.iter();
        warnings
            .extend(unknown.map(|name| format!("{name} is not a file of the log; it is ignored")));
        let lost = findings.iter().filter(|finding| finding.kind == DamageKind::Lost);
        warnings.extend(lost.map(|finding| {
            format!("positions {} to {} are lost: {}", finding.first, finding.last, finding.problem)
        }));
        if !from_medium {
            warnings.push(
                "this file system does not let its cache be dropped: what was read may be the \
                 cache and not the medium"
                    .into(),
            );
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        warnings
    }

    /// Notes which segments need not be read again. Only a convenience: if it fails, the next start
    /// reads them once more.
    fn remember(&self, segments: &[SegmentSurvey], known: Option<Verified>) {
        let Some((last, closed)) = segments.split_last() else { return };
        let (Some(header), Some(next)) =
            (closed.last().and_then(SegmentSurvey::written_header), last.written_header())
        else {
            return;
        };
        let proved = Verified { number: header.number, salt: header.salt, chain: next.fence.chain };
        if known != Some(proved)
            && let Err(error) = proved.store(self.vfs, self.dir)
        {
            tracing::warn!("could not note which segments were verified: {error}");
        }
    }

    /// Where the log ends, if that is what the caller expects.
    fn end(
        &self,
        segments: &[SegmentSurvey],
        expect: &Expect,
        floor: Option<Floor>,
    ) -> Result<Cursor, LogError> {
        let end = segments.last().and_then(|last| last.groups.as_ref()).map(|groups| groups.end);
        let records = end.map_or(Position::NONE, |end| end.last);
        match expect {
            Expect::New { log_id, .. } if records == Position::NONE && floor.is_none() => {
                Ok(Cursor {
                    block: 1,
                    group: 0,
                    last: Position::NONE,
                    recorded_at: Millis(i64::MIN),
                    chain: chain_start(*log_id),
                })
            }
            Expect::New { .. } => Err(LogError::Misplaced {
                file: self.dir.display().to_string(),
                problem: format!("holds a log up to position {records}, expected none"),
                hint: "start it as an existing log, or give another folder".into(),
            }),
            Expect::Existing { witness, .. } => {
                end.filter(|end| end.last > Position::NONE).ok_or_else(|| self.no_log(*witness))
            }
        }
    }

    fn no_log(&self, witness: Option<Position>) -> LogError {
        let dir = self.dir.display();
        let (upto, repair) = match witness {
            Some(witness) => (
                format!(", with records up to position {witness}"),
                format!(
                    "; what is gone for good, `stemedb wal repair --segment {dir}/{} --witness \
                     {witness} --output FILE` gives up",
                    segment_name(1)
                ),
            ),
            None => Default::default(),
        };
        LogError::Misplaced {
            file: dir.to_string(),
            problem: format!("missing: the folder holds no log, and one is expected{upto}"),
            hint: format!(
                "check `wal.dir` and the mount; restore from a backup if the files are gone{repair}"
            ),
        }
    }

    /// Renames a file whose every byte is void.
    fn set_aside(&self, segment: &SegmentSurvey, voided: &[Void<'_>]) -> Result<Voided, LogError> {
        let kept_as = free_name(self.vfs, self.dir, &segment.name)?;
        let failed = |op| move |source| survey::io(&segment.name, op, 0, source);
        self.vfs
            .rename(&self.dir.join(&segment.name), &self.dir.join(&kept_as))
            .map_err(failed("rename"))?;
        self.vfs.sync_dir(self.dir).map_err(failed("sync folder of"))?;
        Ok(Voided {
            file: segment.name.clone(),
            offset: 0,
            bytes: segment.len,
            kept_as,
            because: void(voided, &segment.name).map_or("torn", |(_, because)| because),
        })
    }

    /// Copies the void bytes of a segment to a file of their own.
    fn keep(
        &self,
        segment: &SegmentSurvey,
        finding: &Finding,
        because: &'static str,
    ) -> Result<Voided, LogError> {
        let (from, to) = segment
            .tail
            .as_ref()
            .map_or((finding.offset, finding.offset), |tail| (tail.from, tail.written_to));
        let kept_as = free_name(self.vfs, self.dir, &segment.name)?;
        let failed = |op| move |source| survey::io(&segment.name, op, from, source);
        let source =
            self.vfs.open(&self.dir.join(&segment.name), Open::Read).map_err(failed("open"))?;
        let copy = self
            .vfs
            .open(&self.dir.join(&kept_as), Open::CreateNew)
            .map_err(failed("create a copy of"))?;
        let mut piece = vec![0; 1 << 20];
        let mut at = from;
        while at < to {
            let count = usize::try_from(to - at).unwrap_or(usize::MAX).min(piece.len());
            let bytes = piece.get_mut(..count).unwrap_or_default();
            source.read_exact_at(bytes, at).map_err(failed("read"))?;
            copy.write_at(bytes, at - from).map_err(failed("copy"))?;
            at += count as u64;
        }
        copy.sync_all().map_err(failed("sync the copy of"))?;
        copy.close().map_err(failed("close the copy of"))?;
        self.vfs.sync_dir(self.dir).map_err(failed("sync folder of"))?;
        let (file, bytes) = (segment.name.clone(), to - from);
        Ok(Voided { file, offset: from, bytes, kept_as, because })
    }

    /// Uses the spare that comes next and has the right length; removes all others.
    fn adopt_spare(
        &self,
        spares: Vec<SegmentSurvey>,
        next_number: u64,
        names_changed: bool,
    ) -> Result<Option<Spare>, LogError> {
        let mut adopted = None;
        let mut removed = names_changed;
        for spare in spares {
            let marked = match spare.header {
                HeaderState::Blank(marked) => marked,
                _ => None,
            };
            let fits = spare.number == next_number && spare.len == self.config.segment_bytes;
            if let Some(salt) = marked.filter(|_| fits) {
                let (number, name, bytes) = (spare.number, spare.name, spare.len);
                let file = self
                    .vfs
                    .open(&self.dir.join(&name), Open::Write)
                    .map_err(|source| survey::io(&name, "open", 0, source))?;
                adopted = Some(Spare { number, name, file, bytes, salt });
            } else {
                self.remove(&spare.name)?;
                removed = true;
            }
        }
        if removed {
            let failed = |source| survey::io("folder", "sync", 0, source);
            self.vfs.sync_dir(self.dir).map_err(failed)?;
        }
        Ok(adopted)
    }

    fn remove(&self, name: &str) -> Result<(), LogError> {
        match self.vfs.remove_file(&self.dir.join(name)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(survey::io(name, "remove", 0, source))
            }
            _ => Ok(()),
        }
    }

    /// Whether what is read after dropping the cache is known to come from the medium.
    fn rereads(&self) -> bool {
        file_system(self.config, self.env).is_ok_and(|there| there.rereads)
    }

    /// What was read may be the cache of a process that failed to sync it: the last group, of which
    /// no later group says that it was durable, is written once more with the seals behind it, the
    /// same bytes in the same place, and synced. Only then is it believed.
    fn write_again(&self, last: &SegmentSurvey, active: &Active) -> Result<(), LogError> {
        let Some(groups) = last.groups.as_ref().filter(|groups| !groups.closed) else {
            return Ok(());
        };
        let failed = |op, offset| move |source| survey::io(&last.name, op, offset, source);
        let end = u64::from(active.next) * BLOCK as u64;
        let mut at = u64::from(groups.last_write) * BLOCK as u64;
        let mut piece = vec![0; WRITE_AGAIN_BYTES];
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
            let now = piece.get_mut(..count).unwrap_or_default();
            active.file.read_exact_at(now, at).map_err(failed("read", at))?;
            active.file.write_at(now, at).map_err(failed("write", at))?;
            at += count as u64;
        }
        active.file.sync_data().map_err(failed("sync", end))
    }

    /// Goes on behind the last group: from there to the end of the file all was read as zero.
    fn resume(&self, last: &SegmentSurvey, end: &Cursor) -> Result<Active, LogError> {
        let header = last.written_header().ok_or_else(|| self.no_log(None))?;
        let file = self
            .vfs
            .open(&self.dir.join(&last.name), Open::Write)
            .map_err(|source| survey::io(&last.name, "open", 0, source))?;
        Ok(Active {
            name: last.name.clone(),
            number: last.number,
            salt: header.salt,
            file,
            next: end.block,
            blocks: (last.len / BLOCK as u64) as u32,
        })
    }

    /// Makes durable, before anything else is answered, that the log ends at `end` and that what
    /// lies behind it in `last` is void.
    fn fence(&self, last: &SegmentSurvey, end: &Cursor, spare: Spare) -> Result<Active, LogError> {
        let previous = last.written_header().ok_or_else(|| self.no_log(None))?;
        let header = SegmentHeader {
            number: spare.number,
            salt: spare.salt,
            segment_bytes: spare.bytes,
            fence: end.fence(previous.number, previous.salt),
            lost: 0,
            packed: false,
            ..previous.clone()
        };
        let mut sector = [0; SECTOR];
        header.encode(&mut sector);
        let failed = |op| move |source| survey::io(&last.name, op, 0, source);
        spare.file.write_at(&sector, 0).map_err(failed("write the fence of"))?;
        spare.file.sync_data().map_err(failed("sync the fence of"))?;
        Ok(Active {
            name: spare.name,
            number: spare.number,
            salt: header.salt,
            file: spare.file,
            next: 1,
            blocks: (spare.bytes / BLOCK as u64) as u32,
        })
    }
}

/// Bytes to give up, and who allows it.
type Void<'f> = (&'f Finding, &'static str);

/// What is given up of `file`.
fn void<'f>(voided: &[Void<'f>], file: &str) -> Option<Void<'f>> {
    voided.iter().find(|(finding, _)| finding.file == file).copied()
}

fn newer_format(segments: &[SegmentSurvey]) -> Option<(String, u32)> {
    segments.iter().find_map(|segment| match segment.header {
        HeaderState::TooNew(format) => Some((segment.name.clone(), format)),
        _ => None,
    })
}

fn entry(segment: SegmentSurvey) -> Option<SegmentEntry> {
    let header = segment.written_header().cloned()?;
    let groups = segment.groups?;
    Some(SegmentEntry {
        number: segment.number,
        salt: header.salt,
        first: header.fence.position.next(),
        since: header.fence.recorded_at,
        packed: header.packed,
        end: groups.end.block,
        marks: groups.marks,
    })
}
