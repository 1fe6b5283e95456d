//! A cutter for a folder that another process may be writing to: for backups beside a server.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use stemedb_io::{Env, Open};
use stemedb_model::Position;

use super::Cutter;
use crate::config::OnFailure;
use crate::error::LogError;
use crate::format::block::BLOCK;
use crate::format::header::{FORMAT, HeaderState, SegmentHeader};
use crate::health::Health;
use crate::recover::floor::Floor;
use crate::recover::survey::{io, names, read_header};
use crate::segment::Groups;
use crate::shared::{Published, SegmentEntry, Shared};
use crate::syncs::Syncs;
use crate::telemetry::Meters;
use crate::walk::{Cursor, Step};

/// How many blocks are read at a time: 256 KiB.
const READ_AHEAD: u32 = 64;

impl Cutter {
    /// Of the log in `dir` as it is now, up to the newest position that its files show to have been
    /// durable: what is written later is not seen. Takes no lock and writes nothing. Reads the headers
    /// and the newest segment; the rest is proved while it is cut.
    pub fn of_folder(dir: &Path, env: &Env) -> Result<Self, LogError> {
        let vfs = &*env.vfs;
        let floor = Floor::load(vfs, dir)?;
        let mut found = names(vfs, dir)?.segments;
        if let Some(floor) = &floor {
            floor.cut(&mut found);
        }
        let misplaced = |file: &str, problem: String| LogError::Misplaced {
            file: file.into(),
            problem,
            hint: format!("run `stemedb wal verify {}`", dir.display()),
        };
        let mut segments: Vec<SegmentEntry> = Vec::new();
        let mut newest: Option<(String, SegmentHeader)> = None;
        for (number, name) in found {
            let file = vfs
                .open(&dir.join(&name), Open::Read)
                .map_err(|source| io(&name, "open", 0, source))?;
            let header = match read_header(&*file, &name)? {
                HeaderState::Ok(header) => header,
                // Prepared for what comes next.
                HeaderState::Blank(_) => break,
                HeaderState::TooNew(found) => {
                    return Err(LogError::TooNew { file: name, found, supported: FORMAT });
                }
                HeaderState::Bad(_) => {
                    let problem = "the segment header does not match its checksum".to_string();
                    return Err(misplaced(&name, problem));
                }
            };
            let expected = segments
                .last()
                .map_or(floor.as_ref().map_or(1, |floor| floor.number), |before| before.number + 1);
            if (number, header.number) != (expected, expected) {
                let problem = format!("missing or swapped: segment {expected} belongs here");
                return Err(misplaced(&name, problem));
            }
            let len = file.len().map_err(|source| io(&name, "measure", 0, source))?;
            segments.push(SegmentEntry {
                number,
                salt: header.salt,
                first: header.fence.position.next(),
                end: (len / BLOCK as u64) as u32,
                marks: None,
                since: header.fence.recorded_at,
                packed: header.packed,
            });
            newest = Some((name, header));
        }
        let Some((name, header)) = newest else {
            let problem = "missing: the folder holds no log".to_string();
            return Err(misplaced(&dir.display().to_string(), problem));
        };
        let end = durable_end(env, dir, &name, &header)?;
        let published = Published {
            identity: (end.last > Position::NONE).then_some((header.log_id, header.timeline)),
            end,
            floor: floor.map_or(Position(1), |floor| floor.first),
            segments,
            lost: Vec::new(),
        };
        let file_system = vfs
            .file_system(dir)
            .map_err(|source| io(&name, "ask for the file system of", 0, source))?;
        let health = Health::new(OnFailure::Stop, file_system);
        let syncs = Arc::new(Syncs::default());
        let meters = Meters::new(false);
        let shared = Shared::new(env.clone(), syncs, dir.into(), meters, health, published, 0);
        Ok(Self::new(Arc::new(shared)))
    }
}

/// Where the newest segment is known to have been durable: where it begins, or as far as a watermark
/// behind says.
fn durable_end(
    env: &Env,
    dir: &Path,
    name: &str,
    header: &SegmentHeader,
) -> Result<Cursor, LogError> {
    let file = env.vfs.open(&dir.join(name), Open::Read);
    let file = file.map_err(|source| io(name, "open", 0, source))?;
    let len = file.len().map_err(|source| io(name, "measure", 0, source))?;
    let mut groups = Groups::new(&*file, name, len, header, READ_AHEAD)?;
    let mut durable = Cursor::start_of(header);
    let mut behind: VecDeque<Cursor> = VecDeque::new();
    // What cannot be believed behind the last watermark is on its way, or torn.
    while let Step::Group(group) = groups.step()? {
        if group.kind.is_link() {
            behind.push_back(super::after(&group));
        }
        while let Some(next) = behind.front()
            && next.last <= group.watermark
        {
            durable = *next;
            behind.pop_front();
        }
    }
    Ok(durable)
}
