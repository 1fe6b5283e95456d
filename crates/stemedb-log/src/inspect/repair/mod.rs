//! Makes a segment that verifies out of one that does not. The input is only read.
//!
//! Every group that can be proved is kept, on both sides of the damage; what cannot stands as a
//! lost group in the result, so that positions stay dense and the chain goes on from the hash that
//! the next provable group names. The result has the number, the salt and the place of the input:
//! its neighbours name these.
//!
//! | module | what |
//! |---|---|
//! | `source` | the file and its header, given or made |
//! | `neighbours` | what the other segments tell: where it began and ended |
//! | `salvage` | which groups can be proved, and what lies between them |
//! | `plan` | what the result will hold, what is lost, and whether that needs an operator's word |
//! | `write` | writes the result, reads it back, names it |
//! | `unpack` | gives a packed segment to all of these as blocks |
//! | `restore` | the other way: from an archive, without giving anything up |
//! | `patient` | reads a file of which some sectors cannot be read |
//!
//! Invariants:
//! - The result appears under its name whole, synced and read back, or not at all.
//! - A position that was ever in the log, as far as anything tells, is in the result: as a record
//!   or as lost. It is never given to another record.
//! - Nothing that was acknowledged, or may have been, is given up without `accept_loss`.

mod neighbours;
mod patient;
mod plan;
mod restore;
mod salvage;
mod source;
mod unpack;
mod write;

use std::path::PathBuf;

pub use restore::{RestoreOptions, RestoreReport, restore_segment};

use stemedb_io::Env;
use stemedb_model::{LogId, Position, Timeline};

use crate::error::LogError;
use crate::format::group::LostRange;

/// What to repair, and how far that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairOptions {
    /// The segment. Its neighbours are looked for in its folder. One that is not there is made
    /// anew, if its neighbours prove that it is missing.
    pub segment: PathBuf,
    /// Where the result goes; nothing may be there. Dropped bytes go to the same name with
    /// `.rejected` behind it.
    pub output: PathBuf,
    /// Keep only groups that end at or before this byte.
    pub truncate_at: Option<u64>,
    /// Say what would be done, and do nothing.
    pub plan: bool,
    /// Give up records that were acknowledged, or may have been.
    pub accept_loss: bool,
    /// A position that is known to have been acknowledged, for the newest segment of a log.
    pub witness: Option<Position>,
    /// The database and its branch, for a header that no neighbour can help to rebuild.
    pub identity: Option<(LogId, Timeline)>,
    /// Name and version of the tool, for the lost groups.
    pub tool: String,
}

/// What a repair did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairReport {
    /// File name of the input.
    pub file: String,
    /// Number of the segment.
    pub number: u64,
    /// Where the header is from.
    pub header: HeaderOrigin,
    /// Groups of records that are kept.
    pub groups: u64,
    /// Records that are kept.
    pub records: u64,
    /// First and last position of the result, lost ones among them; `None` without any.
    pub positions: Option<(Position, Position)>,
    /// What this repair gives up, ascending.
    pub lost: Vec<LostPositions>,
    /// What earlier repairs gave up.
    pub lost_before: Vec<LostRange>,
    /// Bytes at the end that may have held more records; nothing tells.
    pub undecided: Option<Undecided>,
    /// Bytes of the input that are not in the result, ascending.
    pub dropped: Vec<DroppedBytes>,
    /// Sectors of the input that the medium did not give.
    pub unreadable_sectors: u64,
    /// Length of the result in bytes.
    pub bytes: u64,
    /// Whether an operator's word was needed, and was not given: then nothing was written.
    pub refused: bool,
    /// What was written; `None` if nothing was.
    pub written: Option<RepairWritten>,
}

impl RepairReport {
    /// Records that were acknowledged, or may have been, are given up.
    pub fn needs_acceptance(&self) -> bool {
        !self.lost.is_empty() || self.undecided.is_some()
    }

    /// The result is the input.
    pub fn nothing_wrong(&self) -> bool {
        self.header == HeaderOrigin::Kept && self.dropped.is_empty() && !self.needs_acceptance()
    }
}

/// Where the header of a repaired segment is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderOrigin {
    /// It was whole.
    Kept,
    /// Made from what the neighbours and the blocks prove; a sentence.
    Rebuilt(String),
    /// There was no file; a sentence.
    Missing(String),
}

/// Positions that are given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPositions {
    /// First of them.
    pub first: Position,
    /// Last of them.
    pub last: Position,
    /// Whether they are known to have been durable; `None` if nothing can tell.
    pub acknowledged: Option<bool>,
    /// Where in the input they should have been, from this byte.
    pub byte: u64,
    /// What was found there.
    pub problem: String,
}

/// The end of a segment that nothing tells the meaning of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    /// The first position that may have been there; a later record will have it.
    pub first: Position,
    /// First byte.
    pub byte: u64,
    /// What was found.
    pub problem: String,
}

/// Bytes that are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DroppedBytes {
    /// First byte in the input.
    pub from: u64,
    /// The byte behind the last.
    pub to: u64,
}

/// Files that a repair made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairWritten {
    /// The repaired segment.
    pub output: PathBuf,
    /// The dropped bytes, one range behind the other; `None` if there were none.
    pub rejected: Option<PathBuf>,
}

/// Repairs one segment, or says what that would do. See [`RepairOptions`].
///
/// `Err` says why it cannot be repaired and what is missing; nothing was written then, and nothing
/// either if [`RepairReport::refused`]. Time: some passes over the segment.
pub fn repair(env: &Env, options: &RepairOptions) -> Result<RepairReport, LogError> {
    let rejected = with_suffix(&options.output, ".rejected");
    write::refuse_existing(env, &[&options.output, &rejected])?;
    let source = source::look(env, options)?;
    let salvage = salvage::salvage(&source)?;
    let plan = plan::plan(&source, salvage, options)?;
    let mut report = plan.report(&source);
    if options.plan {
        return Ok(report);
    }
    if report.needs_acceptance() && !options.accept_loss {
        report.refused = true;
        return Ok(report);
    }
    report.written = Some(write::write(env, &source, &plan, options, rejected)?);
    Ok(report)
}

/// `path` with something behind its name.
fn with_suffix(path: &std::path::Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
