//! Is everything that was written still there, and is nothing else?

use std::path::Path;

use stemedb_io::Vfs;
use stemedb_model::{LogId, Position, Timeline};

use crate::error::LogError;
use crate::recover::floor::Floor;
use crate::recover::judge::{DamageKind, Finding, Known, judge};
use crate::recover::survey::{self, SegmentSurvey, names, survey_file};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// One for each segment, by number.
    pub segments: Vec<SegmentReport>,
    /// Everything that is wrong or worth knowing, by segment.
    pub findings: Vec<Finding>,
    /// Names in the folder that are not files of the log.
    pub unknown: Vec<String>,
    /// The first position that is here, if older segments were removed.
    pub first_kept: Option<Position>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    /// File name.
    pub file: String,
    /// Its number.
    pub number: u64,
    /// Prepared and not yet used.
    pub spare: bool,
    /// The database and branch that its header names.
    pub identity: Option<(LogId, Timeline)>,
    /// Length of the file.
    pub bytes: u64,
    /// Bytes of its entries: heads and bodies.
    pub entry_bytes: u64,
    /// Groups that are proved.
    pub groups: u64,
    /// Records that are proved.
    pub records: u64,
    /// First and last position that is proved or lost; `None` without any.
    pub positions: Option<(Position, Position)>,
    /// First bad byte, its kind, and whether durable records are concerned (`None`: nothing can
    /// tell).
    pub damage: Option<(u64, DamageKind, Option<bool>)>,
}

impl VerifyReport {
    /// Whole, or whole up to a tail that was never durable. Lost positions are damage that was
    /// repaired: they are reported and do not make a log less than whole.
    pub fn whole(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| matches!(finding.kind, DamageKind::TornTail | DamageKind::Lost))
    }

    /// What the tools exit with: 0 whole, 1 damage. (An `Err` of [`verify`] is 2.)
    pub fn exit_status(&self) -> u8 {
        u8::from(!self.whole())
    }
}

/// Checks a folder, or one segment by itself. Never writes; works beside a running server. An
/// `Err` means that it could not be checked. Time: one pass at the speed of the device, two if there
/// is something to report.
pub fn verify(path: &Path, vfs: &dyn Vfs) -> Result<VerifyReport, LogError> {
    verify_watched(path, vfs, &mut |_| ())
}

/// The same, telling now and then how many bytes more have been read; a second pass counts again.
pub fn verify_watched(
    path: &Path,
    vfs: &dyn Vfs,
    watch: &mut dyn FnMut(u64),
) -> Result<VerifyReport, LogError> {
    // While it is looked at, a log that is in use gets new groups, and segments change from spare
    // to used to cut. Damage stays: only what two looks in a row find is believed.
    let mut before = look(path, vfs, watch);
    let Look { surveys, findings, unknown, first_kept } = loop {
        match before {
            Ok(look) if look.findings.is_empty() => break look,
            Ok(before) => {
                let mut again = look(path, vfs, watch)?;
                again.findings.retain(|finding| before.findings.contains(finding));
                break again;
            }
            Err(_) => before = Ok(look(path, vfs, watch)?),
        }
    };
    let segments = surveys.iter().map(|survey| report(survey, &findings)).collect();
    Ok(VerifyReport { segments, findings, unknown, first_kept })
}

struct Look {
    surveys: Vec<SegmentSurvey>,
    findings: Vec<Finding>,
    unknown: Vec<String>,
    first_kept: Option<Position>,
}

fn look(path: &Path, vfs: &dyn Vfs, watch: &mut dyn FnMut(u64)) -> Result<Look, LogError> {
    let failed = |source| survey::io(&path.display().to_string(), "open", 0, source);
    let (mut floor, mut findings) = (None, Vec::new());
    let (surveys, unknown, single_file) = if vfs.metadata(path).map_err(failed)?.is_dir {
        floor = match Floor::load(vfs, path) {
            Err(LogError::Damaged { file, offset, problem, .. }) => {
                findings.push(Finding {
                    file,
                    offset,
                    kind: DamageKind::Corrupt,
                    first: Position::NONE,
                    last: Position::NONE,
                    acknowledged: Some(true),
                    problem,
                });
                None
            }
            loaded => loaded?,
        };
        let mut names = names(vfs, path)?;
        // What lies below the floor is no part of the log any more.
        if let Some(floor) = &floor {
            floor.cut(&mut names.segments);
        }
        (survey::survey_watched(vfs, path, &names.segments, None, watch)?, names.unknown, false)
    } else {
        (vec![survey_file(vfs, path)?], Vec::new(), true)
    };
    if surveys.is_empty() {
        return Err(LogError::Misplaced {
            file: path.display().to_string(),
            problem: "missing: the folder holds no log".into(),
            hint: "name a segment, or the folder of the segments".into(),
        });
    }
    findings.extend(judge(&surveys, Known { single_file, floor, ..Known::default() }));
    let first_kept = floor.map(|floor| floor.first);
    Ok(Look { surveys, findings, unknown, first_kept })
}

fn report(survey: &SegmentSurvey, findings: &[Finding]) -> SegmentReport {
    let header = survey.written_header();
    let groups = survey.groups.as_ref();
    let positions = header.zip(groups).and_then(|(header, groups)| {
        let (before, last) = (header.fence.position, groups.end.last);
        (last > before).then(|| (before.next(), last))
    });
    SegmentReport {
        file: survey.name.clone(),
        number: survey.number,
        spare: survey.is_spare(),
        identity: header.map(|header| (header.log_id, header.timeline)),
        bytes: survey.len,
        entry_bytes: groups.map_or(0, |groups| groups.bytes),
        groups: groups.map_or(0, |groups| groups.count),
        records: groups.map_or(0, |groups| groups.records),
        positions,
        damage: findings
            .iter()
            .find(|finding| finding.file == survey.name)
            .map(|finding| (finding.offset, finding.kind, finding.acknowledged)),
    }
}
