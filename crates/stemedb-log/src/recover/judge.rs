//! Decides what a survey means. Reads nothing, so every rule is a function of the evidence.

use stemedb_io::mutant;
use stemedb_model::{LogId, Position};

use super::floor::Floor;
use super::survey::{GroupsSurvey, SegmentSurvey};
use crate::error::LogError;
use crate::format::header::{FORMAT, HeaderState, SegmentHeader, segment_name};
use crate::walk::Bad;

/// Kinds of damage, as every tool names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DamageKind {
    /// A group that was on its way when power went; it was never durable.
    TornTail,
    /// Bytes are not what was written.
    Corrupt,
    /// A file, or the end of one, is not there.
    Missing,
    /// A file of another database or timeline.
    Foreign,
    /// A file at another's place, or twice.
    Swapped,
    /// Written by a newer build.
    TooNew,
    /// Positions that a repair gave up.
    Lost,
}

impl DamageKind {
    /// `torn_tail`, `corrupt`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::TornTail => "torn_tail",
            Self::Corrupt => "corrupt",
            Self::Missing => "missing",
            Self::Foreign => "foreign",
            Self::Swapped => "swapped",
            Self::TooNew => "too_new",
            Self::Lost => "lost",
        }
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// File name.
    pub file: String,
    /// First byte concerned.
    pub offset: u64,
    /// What kind of damage.
    pub kind: DamageKind,
    /// First position concerned; 0 if none.
    pub first: Position,
    /// Last position that is known to be concerned.
    pub last: Position,
    /// Whether records that were durable are concerned; `None` if nothing can tell.
    pub acknowledged: Option<bool>,
    /// What was found, in a sentence.
    pub problem: String,
}

/// What is known besides the files.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    pub(crate) log_id: Option<LogId>,
    /// A position that was acknowledged.
    pub(crate) witness: Option<Position>,
    /// Where the log begins, if not with segment 1.
    pub(crate) floor: Option<Floor>,
    /// Only one file was read: its neighbours cannot be missed.
    pub(crate) single_file: bool,
}

/// Judges segments in the order of their numbers. An empty answer: all is well.
pub(crate) fn judge(segments: &[SegmentSurvey], known: Known) -> Vec<Finding> {
    let mut judge = Judge { known, findings: Vec::new(), log_id: known.log_id };
    let written = segments.iter().rposition(|s| !s.is_spare()).map_or(0, |last| last + 1);
    let (written, _spares) = segments.split_at(written);
    let mut before: Option<&SegmentSurvey> = None;
    for (i, segment) in written.iter().enumerate() {
        judge.number(segment, before);
        judge.header(segment, before, written);
        match segment.written_header() {
            Some(header) => judge.groups(segment, header, written.get(i + 1)),
            None => judge.headless(segment, before, written.get(i + 1)),
        }
        before = Some(segment);
    }
    judge.witness(written);
    judge.findings
}

struct Judge {
    known: Known,
    findings: Vec<Finding>,
    log_id: Option<LogId>,
}

fn finding(segment: &SegmentSurvey, kind: DamageKind, problem: String) -> Finding {
    Finding {
        file: segment.name.clone(),
        offset: 0,
        kind,
        first: Position::NONE,
        last: Position::NONE,
        acknowledged: None,
        problem,
    }
}

impl Judge {
    fn number(&mut self, segment: &SegmentSurvey, before: Option<&SegmentSurvey>) {
        if self.known.single_file {
            return;
        }
        let floor = self.known.floor.map_or(1, |floor| floor.number);
        let expected = before.map_or(floor, |before| before.number + 1);
        if segment.number == expected {
            return;
        }
        let last_missing = segment.number.saturating_sub(1);
        let range = if last_missing == expected {
            segment_name(expected)
        } else {
            format!("{} to {}", segment_name(expected), segment_name(last_missing))
        };
        let first = match (before, self.known.floor) {
            (None, Some(floor)) => floor.first,
            (before, _) => before.and_then(SegmentSurvey::last).unwrap_or(Position::NONE).next(),
        };
        let last = segment.written_header().map_or(first, |header| header.fence.position);
        self.findings.push(Finding {
            file: range.clone(),
            first,
            last,
            acknowledged: Some(true),
            ..finding(
                segment,
                DamageKind::Missing,
                format!("{range} not there, {} is", segment.name),
            )
        });
    }

    fn header(
        &mut self,
        segment: &SegmentSurvey,
        before: Option<&SegmentSurvey>,
        all: &[SegmentSurvey],
    ) {
        if let HeaderState::TooNew(format) = segment.header {
            let problem = format!("format {format}, this build reads up to {FORMAT}");
            self.findings.push(finding(segment, DamageKind::TooNew, problem));
        }
        let Some(header) = segment.written_header() else { return };
        let expected = *self.log_id.get_or_insert(header.log_id);
        if header.log_id != expected {
            let problem = format!("belongs to log {}, expected {expected}", header.log_id);
            self.findings.push(finding(segment, DamageKind::Foreign, problem));
            return;
        }
        if header.number != segment.number {
            let twin = all
                .iter()
                .find(|other| other.name != segment.name && other.written_header() == Some(header));
            let problem = match twin {
                Some(twin) => format!("duplicated: the same segment as {}", twin.name),
                None => format!("its header says it is segment {}", header.number),
            };
            self.findings.push(finding(segment, DamageKind::Swapped, problem));
            return;
        }
        if let Some(before) = before.filter(|before| before.number + 1 == segment.number) {
            self.link(segment, header, before);
        } else if let (None, Some(floor)) = (before, self.known.floor) {
            if header.number == floor.number && !floor.fits(header) {
                let problem = "it is not the segment that the file `floor` names".to_string();
                self.findings.push(finding(segment, DamageKind::Swapped, problem));
            }
        } else if !self.known.single_file && before.is_none() && header.fence.segment != 0 {
            // Reported as missing by its number already, unless it claims to be the first.
            if header.number == 1 {
                let problem = "the first segment names one before it".to_string();
                self.findings.push(finding(segment, DamageKind::Swapped, problem));
            }
        }
    }

    fn link(&mut self, segment: &SegmentSurvey, header: &SegmentHeader, before: &SegmentSurvey) {
        let Some(previous) = before.written_header() else { return };
        let fence = &header.fence;
        if previous.log_id != header.log_id || previous.number != before.number {
            return;
        }
        if fence.segment != previous.number || fence.salt != previous.salt {
            let problem = format!("was written after another segment than {}", before.name);
            self.findings.push(finding(segment, DamageKind::Swapped, problem));
            return;
        }
        if header.partition != previous.partition {
            let problem = format!("partition {} among {}", header.partition, previous.partition);
            self.findings.push(finding(segment, DamageKind::Foreign, problem));
        }
        let branched = header.parent == Some((previous.timeline, fence.position));
        if header.timeline != previous.timeline && !branched {
            let problem = format!(
                "timeline {} does not follow {} at position {}",
                header.timeline, previous.timeline, fence.position
            );
            self.findings.push(finding(segment, DamageKind::Foreign, problem));
        }
    }

    fn groups(
        &mut self,
        segment: &SegmentSurvey,
        header: &SegmentHeader,
        next: Option<&SegmentSurvey>,
    ) {
        let Some(groups) = &segment.groups else { return };
        for lost in &groups.lost {
            let problem = format!("given up by {} at {} ms", lost.tool, lost.at.0);
            self.findings.push(Finding {
                first: lost.first,
                last: lost.last,
                acknowledged: Some(true),
                ..finding(segment, DamageKind::Lost, problem)
            });
        }
        let end = &groups.end;
        let fence = next
            .and_then(SegmentSurvey::written_header)
            .map(|next| next.fence)
            .filter(|fence| fence.segment == header.number && fence.salt == header.salt);
        if let (true, Some(bad)) = (header.packed, &groups.bad) {
            self.packed(segment, groups, bad, fence.map(|fence| fence.position));
            return;
        }
        match fence {
            Some(fence) if end.last < fence.position && mutant("skip_damaged_segment") => {}
            Some(fence) if end.last < fence.position => {
                let (offset, what) = stop(segment, groups);
                let resumes_at = segment.tail.as_ref().and_then(|tail| tail.resumes_at);
                let last =
                    resumes_at.map_or(fence.position, |next| Position(next.0.saturating_sub(1)));
                self.findings.push(Finding {
                    offset,
                    first: end.last.next(),
                    last: last.max(end.last.next()),
                    acknowledged: Some(true),
                    ..finding(
                        segment,
                        bad_kind(groups),
                        format!("{what}; the next segment proves that it was durable"),
                    )
                });
            }
            Some(fence) if end.last > fence.position || end.chain != fence.chain => {
                let problem = format!(
                    "its groups are not those that the next segment was written after (position {})",
                    fence.position
                );
                self.findings.push(finding(segment, DamageKind::Swapped, problem));
            }
            Some(_) => {}
            // A later file exists and is judged by itself; whether this one ends where it
            // should is what that file can no longer say.
            None => self.open_end(segment, header, groups, next.is_some()),
        }
    }

    /// A packed segment was durable as a whole before it took its name.
    fn packed(
        &mut self,
        segment: &SegmentSurvey,
        groups: &GroupsSurvey,
        bad: &Bad,
        fence: Option<Position>,
    ) {
        let first = groups.end.last.next();
        let last = groups.missing_to.or(fence).unwrap_or(groups.end.last);
        let (first, last, problem) = if last >= first {
            (first, last, bad.problem.clone())
        } else {
            // All records are there; only the way to them is damaged.
            let header = segment.written_header();
            let first = header.map_or(first, |header| header.fence.position.next());
            (first, groups.end.last, format!("{}; its records are whole", bad.problem))
        };
        let kind = if bad.too_new { DamageKind::TooNew } else { DamageKind::Corrupt };
        let found = finding(segment, kind, problem);
        self.findings.push(Finding {
            offset: bad.byte,
            first,
            last,
            acknowledged: Some(true),
            ..found
        });
    }

    /// The end of a segment that no fence vouches for.
    fn open_end(
        &mut self,
        segment: &SegmentSurvey,
        header: &SegmentHeader,
        groups: &GroupsSurvey,
        followed: bool,
    ) {
        if header.packed && !followed && !self.known.single_file {
            self.findings.push(cut(segment, header, groups));
        }
        let Some(tail) = &segment.tail else { return };
        let end = &groups.end;
        let first = end.last.next();
        let (offset, what) = stop(segment, groups);
        let bad = |acknowledged, last: Position, problem: String| Finding {
            offset,
            first,
            last: last.max(first),
            acknowledged,
            ..finding(segment, bad_kind(groups), problem)
        };
        if groups.bad.is_some() && mutant("truncate_at_bad_crc") {
            let torn = "the first block that does not verify ends the log".to_string();
            let kind = DamageKind::TornTail;
            self.findings.push(Finding { kind, ..bad(Some(false), first, torn) });
        } else if tail.watermark >= first {
            let last =
                tail.resumes_at.map_or(tail.watermark, |next| Position(next.0.saturating_sub(1)));
            let problem = format!("{what}; a later block proves that it was durable");
            self.findings.push(bad(Some(true), last, problem));
        } else if let Some(witness) = self.known.witness.filter(|witness| *witness >= first) {
            if groups.bad.is_some() || !tail.unwritten() {
                let problem = format!("{what}; position {witness} is known to have been durable");
                self.findings.push(bad(Some(true), witness, problem));
            } else if groups.closed && !followed && !self.known.single_file {
                let cut = cut(segment, header, groups);
                self.findings.push(Finding { last: witness, ..cut });
            }
        } else if let Some(found) = groups.bad.as_ref().filter(|bad| bad.too_new) {
            self.findings.push(finding(segment, DamageKind::TooNew, found.problem.clone()));
        } else if tail.unwritten() && groups.bad.is_none() {
            // What comes next is judged by itself, or is not to be judged. Only a closed segment is
            // shorter than it was prepared.
            let goes_on = groups.closed && !followed && !self.known.single_file;
            let short = !groups.closed && segment.len < header.segment_bytes;
            if goes_on || short {
                self.findings.push(cut(segment, header, groups));
            }
        } else if tail.torn() && segment.len >= header.segment_bytes {
            let problem = format!(
                "a group of which {} bytes arrived and others never did: it was not durable",
                tail.written_to - tail.from
            );
            self.findings.push(Finding {
                offset: tail.from,
                first,
                last: first,
                acknowledged: Some(false),
                ..finding(segment, DamageKind::TornTail, problem)
            });
        } else {
            let problem = format!("{what}; nothing says whether it was durable");
            self.findings.push(bad(None, first, problem));
        }
    }

    /// A segment without a readable header, in use or not.
    fn headless(
        &mut self,
        segment: &SegmentSurvey,
        before: Option<&SegmentSurvey>,
        next: Option<&SegmentSurvey>,
    ) {
        let Some(tail) = &segment.tail else { return };
        let first = before.and_then(SegmentSurvey::last).unwrap_or(Position::NONE).next();
        let what = match segment.header {
            HeaderState::Blank(_) => "the segment header is gone",
            _ => "the segment header does not match its checksum",
        };
        let bad = |acknowledged, last: Position, problem: String| Finding {
            first,
            last: last.max(first),
            acknowledged,
            ..finding(segment, DamageKind::Corrupt, problem)
        };
        let closed_before =
            before.is_some_and(|before| before.groups.as_ref().is_some_and(|groups| groups.closed));
        let found = if let Some(next) = next.and_then(SegmentSurvey::written_header) {
            let problem = format!("{what}; the next segment proves that it was in use");
            bad(Some(true), next.fence.position, problem)
        } else if closed_before {
            // A segment is closed only once the next one holds a durable group.
            let problem = format!("{what}; the segment before proves that it was in use");
            bad(Some(true), tail.watermark, problem)
        } else if tail.watermark >= first {
            let problem = format!("{what}; its blocks prove that records in it were durable");
            bad(Some(true), tail.watermark, problem)
        } else if let Some(witness) = self.known.witness.filter(|witness| *witness >= first) {
            let problem = format!("{what}; position {witness} is known to have been durable");
            bad(Some(true), witness, problem)
        } else if tail.torn() {
            Finding {
                first,
                last: first,
                acknowledged: Some(false),
                ..finding(
                    segment,
                    DamageKind::TornTail,
                    "the first group of the segment never arrived whole: it was not durable".into(),
                )
            }
        } else {
            bad(None, first, format!("{what}; nothing says whether records in it were durable"))
        };
        self.findings.push(found);
    }

    /// A position that was acknowledged must be in the log.
    fn witness(&mut self, written: &[SegmentSurvey]) {
        let Some(witness) = self.known.witness else { return };
        let Some(last_segment) = written.last() else { return };
        let last = written.iter().rev().find_map(SegmentSurvey::last).unwrap_or(Position::NONE);
        // What an earlier repair gave up has its positions, so it explains nothing that is missing.
        let explained = self
            .findings
            .iter()
            .any(|found| found.acknowledged == Some(true) && found.kind != DamageKind::Lost);
        if witness > last && !explained {
            self.findings.push(Finding {
                first: last.next(),
                last: witness,
                acknowledged: Some(true),
                ..finding(
                    last_segment,
                    DamageKind::Missing,
                    format!("the index has applied position {witness}, the log ends at {last}"),
                )
            });
        }
    }
}

fn bad_kind(groups: &GroupsSurvey) -> DamageKind {
    match &groups.bad {
        Some(bad) if bad.too_new => DamageKind::TooNew,
        _ => DamageKind::Corrupt,
    }
}

/// Where the provable groups end, and why.
fn stop(segment: &SegmentSurvey, groups: &GroupsSurvey) -> (u64, String) {
    let byte = u64::from(groups.end.block) * crate::format::block::BLOCK as u64;
    let packed = segment.written_header().is_some_and(|header| header.packed);
    match &groups.bad {
        Some(bad) => (bad.byte, bad.problem.clone()),
        None if packed => (segment.len, "it ends too early".into()),
        None if byte >= segment.len => (segment.len, "the file was cut off".into()),
        None => (byte, "a group is not there".into()),
    }
}

/// A file whose groups are whole, but which cannot be where the log ends.
fn cut(segment: &SegmentSurvey, header: &SegmentHeader, groups: &GroupsSurvey) -> Finding {
    let first = groups.end.last.next();
    if groups.closed {
        let next = segment_name(header.number.saturating_add(1));
        let problem = format!("{} says that the log went on in it", segment.name);
        return Finding {
            file: next,
            first,
            last: first,
            acknowledged: Some(true),
            ..finding(segment, DamageKind::Missing, problem)
        };
    }
    let problem = format!(
        "{} bytes long, prepared with {}: nothing says whether what was cut off was durable",
        segment.len, header.segment_bytes
    );
    Finding {
        offset: segment.len,
        first,
        last: first,
        ..finding(segment, DamageKind::Missing, problem)
    }
}

impl Finding {
    /// Whether an operator's word is enough to go on without the bytes concerned.
    pub(crate) fn undecided(&self) -> bool {
        self.acknowledged.is_none()
            && matches!(self.kind, DamageKind::Corrupt | DamageKind::Missing)
    }

    /// The error that refuses to open the log.
    pub(crate) fn to_error(&self, dir: &str) -> LogError {
        let file = self.file.clone();
        let problem = self.problem.clone();
        match self.kind {
            DamageKind::TooNew => {
                LogError::Misplaced { file, problem, hint: "use a newer build".into() }
            }
            DamageKind::Foreign | DamageKind::Swapped => LogError::Misplaced {
                file,
                problem: format!("{}: {problem}", self.kind.name()),
                hint: format!(
                    "put the right file there; if it is, and only its header is another's, \
                     `stemedb wal repair` makes a new one; see `stemedb wal verify {dir}`"
                ),
            },
            DamageKind::Missing if self.acknowledged.is_some() => LogError::Misplaced {
                file,
                problem: format!("missing: {problem} (positions {} to {})", self.first, self.last),
                hint: format!(
                    "put it back, or restore from a backup; see `stemedb wal verify {dir}`; what \
                     is gone for good, `stemedb wal repair` gives up (`--help`)"
                ),
            },
            _ if self.undecided() => LogError::TailUndecided {
                file,
                offset: self.offset,
                problem: format!("{problem} (from position {})", self.first),
                hint: format!(
                    "look with `stemedb wal verify {dir}`; `--void-tail` for one start gives \
                     these bytes up"
                ),
            },
            _ => LogError::Damaged {
                file,
                offset: self.offset,
                problem: format!("{}: {problem}", self.kind.name()),
                first: self.first,
                last: self.last,
                hint: format!(
                    "keep the file, see `stemedb wal verify {dir}`, then restore from a backup, or \
                     give up what is damaged and keep the rest: `stemedb wal repair --segment \
                     {dir}/{} --output FILE --plan`",
                    self.file
                ),
            },
        }
    }
}
