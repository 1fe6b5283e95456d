//! How much is there, without reading all of it.

use std::path::Path;

use stemedb_io::Vfs;
use stemedb_model::{LogId, Millis, Position, Timeline};

use crate::error::LogError;
use crate::recover::floor::Floor;
use crate::recover::survey::{names, survey_last};

/// A log in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatReport {
    /// The database and branch of the newest segment.
    pub identity: Option<(LogId, Timeline)>,
    /// Newest position that is proved, with its `recorded_at`; `None` without any.
    pub last: Option<(Position, Millis)>,
    /// The first position that is here, if older segments were removed.
    pub first_kept: Option<Position>,
    /// Segments in use.
    pub segments: u64,
    /// Segments that are prepared and not yet used.
    pub spares: u64,
    /// Bytes of all segments, spares too.
    pub bytes: u64,
    /// Files that recovery or repair set aside.
    pub rejected: Vec<String>,
    /// Names that are not files of the log.
    pub unknown: Vec<String>,
}

/// Reads the names and lengths in a folder, and the newest segment in use.
pub fn stat(dir: &Path, vfs: &dyn Vfs) -> Result<StatReport, LogError> {
    let mut names = names(vfs, dir)?;
    let floor = Floor::load(vfs, dir)?;
    if let Some(floor) = &floor {
        floor.cut(&mut names.segments);
    }
    let mut report = StatReport {
        first_kept: floor.map(|floor| floor.first),
        rejected: names.rejected,
        unknown: names.unknown,
        ..StatReport::default()
    };
    for (_, name) in &names.segments {
        let metadata = vfs.metadata(&dir.join(name));
        report.bytes += metadata.map(|metadata| metadata.len).unwrap_or(0);
    }
    let mut in_use = names.segments.as_slice();
    while let Some((newest, older)) = in_use.split_last() {
        let found = survey_last(vfs, dir, newest)?;
        if !found.is_spare() {
            report.identity = found.written_header().map(|h| (h.log_id, h.timeline));
            report.last = found
                .groups
                .filter(|groups| groups.end.last > Position::NONE)
                .map(|groups| (groups.end.last, groups.end.recorded_at));
            break;
        }
        report.spares += 1;
        in_use = older;
    }
    report.segments = in_use.len() as u64;
    Ok(report)
}
