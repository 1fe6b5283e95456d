//! Proving the files of the audit, without a node.

use std::io;
use std::path::Path;

use stemedb_io::Vfs;
use stemedb_model::{Hash, LogId};

use super::chain::ORIGIN;
use super::walk::{Walk, name, numbers, open_file, path, walk};
use super::writer::place;
use crate::wire::{AuditFence, HashHex};

/// One file of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFile {
    /// Its name.
    pub file: String,
    /// Its first and last entry, if it has any.
    pub entries: Option<(u64, u64)>,
    /// How many of its bytes count.
    pub bytes: u64,
    /// Bytes behind these: a write that was cut short, which never counted.
    pub cut: u64,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFinding {
    /// The file.
    pub file: String,
    /// The byte at which the bad place begins.
    pub byte: u64,
    /// The entry that stands there, or that comes first behind it.
    pub id: u64,
    /// What is wrong, with all of the above, for people.
    pub problem: String,
}

/// What the files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// The files, oldest first.
    pub files: Vec<AuditFile>,
    /// What is wrong. Nothing: every byte that counts is as it was written.
    pub findings: Vec<AuditFinding>,
    /// The newest entry.
    pub last: u64,
    /// The chain there.
    pub chain: Option<Hash>,
    /// Whose reads they are of.
    pub log_id: Option<LogId>,
}

impl AuditReport {
    fn find(&mut self, file: u64, byte: u64, id: u64, problem: String) {
        self.findings.push(AuditFinding { file: name(file), byte, id, problem });
    }
}

/// Reads every file of a folder of the audit and proves the chain through all of them. Writes
/// nothing; a node may be writing meanwhile.
pub fn verify(vfs: &dyn Vfs, dir: &Path) -> io::Result<AuditReport> {
    let mut report = AuditReport::default();
    // From the newest to the oldest: a file says how much of the one before it counts.
    let mut wanted: Option<AuditFence> = None;
    let (mut kept_from, mut above) = (None, None);
    let mut walks: Vec<(u64, Walk)> = Vec::new();
    let numbers = numbers(vfs, dir)?;
    for number in numbers.iter().copied().rev() {
        let (file, length) = open_file(vfs, &path(dir, number))?;
        let fence = match wanted {
            // Its later neighbours are linked to an older file: nothing in it counts.
            Some(fence) if fence.file < number => {
                report.files.push(void(number, length));
                continue;
            }
            Some(fence) if fence.file == number => Some(fence),
            Some(fence) => {
                let above: u64 = above.unwrap_or(number);
                missing(&mut report, above, fence.file, walks.last());
                None
            }
            None => None,
        };
        let Some(walk) = walk(&*file, length, fence.map(|fence| fence.bytes))? else {
            report.files.push(void(number, length));
            continue;
        };
        for bad in &walk.damaged {
            report.find(number, bad.byte, bad.id, place(number, bad));
        }
        if let Some(fence) = fence
            && walk.damaged.is_empty()
            && walk.chain != fence.chain.0
        {
            let problem = format!(
                "{}, byte {}: its end is not what {} was linked to",
                name(number),
                fence.bytes,
                name(above.unwrap_or(number))
            );
            report.find(number, fence.bytes, walk.last, problem);
        }
        check_header(&mut report, number, &walk);
        kept_from = kept_from.or(walk.header.as_ref().map(|header| header.kept_from));
        wanted = walk.header.as_ref().map(|header| header.previous.unwrap_or(FIRST));
        above = Some(number);
        walks.push((number, walk));
    }
    // What the oldest one is linked to is gone: retention says so, or nobody does.
    if let (Some(fence), Some(above)) = (wanted, above)
        && fence.bytes > 0
        && kept_from.is_none_or(|from| fence.file >= from)
    {
        missing(&mut report, above, fence.file, walks.last());
    }
    finish(&mut report, &walks);
    Ok(report)
}

/// What the first file is linked to.
const FIRST: AuditFence = AuditFence { file: 0, bytes: 0, chain: HashHex(ORIGIN), cut: 0 };

fn void(number: u64, cut: u64) -> AuditFile {
    AuditFile { file: name(number), entries: None, bytes: 0, cut }
}

fn missing(report: &mut AuditReport, above: u64, file: u64, later: Option<&(u64, Walk)>) {
    let id = later.map_or(0, |(_, walk)| walk.first.saturating_sub(1));
    let problem = format!("{} is missing, to which {} is linked", name(file), name(above));
    report.find(file, 0, id, problem);
}

fn check_header(report: &mut AuditReport, number: u64, walk: &Walk) {
    let Some(header) = &walk.header else { return };
    if header.file != number {
        let problem = format!("{} was written as {}", name(number), name(header.file));
        report.find(number, 0, walk.first, problem);
    }
    if header.audit != super::AUDIT_FORMAT {
        let (found, known) = (header.audit, super::AUDIT_FORMAT);
        let problem = format!("{} has format {found}, this build knows {known}", name(number));
        report.find(number, 0, walk.first, problem);
    }
    match report.log_id {
        Some(log_id) if log_id != header.log_id.0 => {
            let problem = format!("{} is of another database, {}", name(number), header.log_id.0);
            report.find(number, 0, walk.first, problem);
        }
        _ => report.log_id = Some(header.log_id.0),
    }
}

/// Numbers must go on from file to file; then everything in the order of people.
fn finish(report: &mut AuditReport, walks: &[(u64, Walk)]) {
    for pair in walks.windows(2) {
        let [(later, after), (earlier, before)] = pair else { continue };
        let linked = after.header.as_ref().and_then(|header| header.previous);
        let next = linked.is_some_and(|fence| fence.file == *earlier);
        let whole = before.damaged.is_empty() && after.damaged.is_empty();
        if next && whole && after.first != before.last + 1 {
            let problem = format!(
                "{} begins with entry {}, expected {}",
                name(*later),
                after.first,
                before.last + 1
            );
            report.find(*later, 0, after.first, problem);
        }
    }
    for (number, walk) in walks {
        report.files.push(AuditFile {
            file: name(*number),
            entries: (walk.last >= walk.first).then_some((walk.first, walk.last)),
            bytes: walk.end,
            cut: walk.cut(),
        });
    }
    report.files.sort_by(|a, b| a.file.cmp(&b.file));
    report.findings.sort_by(|a, b| (&a.file, a.byte).cmp(&(&b.file, b.byte)));
    if let Some((_, newest)) = walks.first() {
        report.last = newest.last;
        report.chain = Some(newest.chain);
    }
}
