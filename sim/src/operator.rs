//! Starts the log, and does what an operator would where it rightly refuses: mends the medium,
//! repairs a segment, voids an end that nobody can decide.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stemedb_io::Vfs;
use stemedb_io::sim::Failed;
use stemedb_log::conformance::{LOG_ID, TIMELINE};
use stemedb_log::{
    DumpItem, Expect, GroupKind, LogError, Recovery, RepairOptions, Wal, WalConfig, dump, repair,
};
use stemedb_model::Position;

use crate::model::{Judged, Promise, broken};
use crate::profile::DIR;
use crate::world::{End, World, is_segment, sectors_of};

/// More attempts than any honest start needs.
const ATTEMPTS: u64 = 60;

impl World {
    /// Starts under whatever weather there is. One that fails for a true reason is tried again.
    pub(crate) fn start(&mut self) -> Judged {
        if self.dice.one_in(4) {
            self.armed = Some(if self.dice.one_in(2) { End::PowerCut } else { End::Kill });
            self.disk.power_off_after(self.dice.below(20));
            self.untouched = false;
        }
        self.start_until_up(false)
    }

    /// Starts, and proves every byte while doing so.
    pub(crate) fn start_for_good(&mut self) -> Judged {
        self.start_until_up(true)
    }

    fn start_until_up(&mut self, verify_all: bool) -> Judged {
        let mut void_tail = false;
        for attempt in 0..ATTEMPTS {
            if attempt > 3 {
                self.mend();
            }
            if self.disk.read_only() {
                // Whatever else is open there belongs to nobody.
                let _ = self.disk.remount();
            }
            self.disk.take_failures();
            let opened = self.open(void_tail, verify_all);
            let failures = self.disk.take_failures();
            self.untouched &= failures.is_empty();
            if self.disk.powered_off() {
                drop(opened);
                self.tally.event("ended during a start");
                self.end(self.armed.unwrap_or(End::Kill));
                continue;
            }
            let error = match opened {
                Ok((wal, recovery)) => {
                    return self.started(wal, &recovery, failures.len() as u64);
                }
                Err(error) => error,
            };
            self.tally.refusal(kind(&error));
            self.agree(&error, &failures)?;
            match &error {
                LogError::Io { .. } if !failures.is_empty() || self.full || attempt < 3 => {}
                LogError::TailUndecided { .. } => void_tail = true,
                _ if self.model.last() == 0 => self.begin_anew(),
                _ => self.repair_one(&error)?,
            }
        }
        broken(Promise::Starts, format!("no start in {ATTEMPTS} attempts"))
    }

    fn open(&mut self, void_tail: bool, verify_all: bool) -> Result<(Wal, Recovery), LogError> {
        let config = WalConfig { void_tail, verify_all, ..self.profile.config() };
        self.starts += 1;
        let last = self.model.last();
        if last == 0 {
            let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
            match Wal::open(config.clone(), self.env(), new) {
                // It may hold what was left open.
                Err(LogError::Misplaced { .. }) => {}
                answer => {
                    self.note("start as new", &answer);
                    return answer;
                }
            }
        }
        // What the index remembers; on a medium that keeps what it confirms, it may have forgotten.
        let witness = match self.dice.below(4) {
            _ if last == 0 => None,
            0 if !self.profile.lies => None,
            1 if !self.profile.lies => Some(1 + self.dice.below(last)),
            _ => Some(last),
        };
        let expect = Expect::Existing { log_id: Some(LOG_ID), witness: witness.map(Position) };
        let answer = Wal::open(config, self.env(), expect);
        self.note("start", &(witness, &answer));
        answer
    }

    fn started(&mut self, wal: Wal, recovery: &Recovery, failures: u64) -> Judged {
        self.tally.event("starts");
        if recovery.voided.is_some() {
            self.tally.event("starts that voided an end");
        }
        self.up(wal, failures);
        let Some(node) = &self.node else { return Ok(()) };
        let reader = Arc::clone(&node.reader);
        let held = self.model.holds();
        let before = self.model.last();
        self.fence_gone |= self.header_harmed();
        self.model.started(&*reader, &self.may_lose)?;
        if held {
            self.tally.event(match self.model.last() > before {
                true => "indeterminate: found at a start",
                false => "indeterminate: not found at a start",
            });
        }
        self.may_lose.clear();
        self.model.check_end(&*reader)?;
        self.model.check_lost(&reader.lost())?;
        let found = self.model.scan(&*reader, 1);
        self.note("scan", &found);
        let failures = self.disk.take_failures();
        match found? {
            Some(error) => self.excuse(&error, &failures),
            None => Ok(()),
        }
    }

    /// Whether a refused start is refused for a reason that is true.
    fn agree(&self, error: &LogError, failures: &[Failed]) -> Judged {
        let agrees = match error {
            LogError::Io { .. } => !failures.is_empty() || self.full || self.harmed(),
            LogError::Damaged { .. } => self.harmed(),
            LogError::Misplaced { .. } => self.harmed(),
            LogError::TailUndecided { .. } => self.harmed() || self.frayed(),
            _ => false,
        };
        if agrees {
            return Ok(());
        }
        broken(Promise::Starts, format!("refused, and nothing is wrong: {error}"))
    }

    /// Nothing was ever acknowledged: the folder goes, and all is as on the first day.
    fn begin_anew(&mut self) {
        for path in self.disk.files() {
            let _ = self.disk.take(&path);
        }
        self.model.begin_anew();
        self.tally.event("begun anew");
    }

    /// Positions of which some sector on the medium is not what it should be.
    fn damaged_positions(&self) -> BTreeSet<u64> {
        let whole = self.disk.unharmed();
        let mut damaged = BTreeSet::new();
        for path in self.disk.files().into_iter().filter(|path| is_segment(path)) {
            let harmed = self.disk.harmed(&path);
            let mut packed = false;
            let all = (Position(0), Position(u64::MAX));
            let _ = dump(&path, &whole, all, false, &mut |item| {
                match item {
                    DumpItem::Segment { header, .. } => {
                        packed = header.is_some_and(|header| header.packed);
                    }
                    DumpItem::Group(group)
                        if matches!(group.kind, GroupKind::Entries | GroupKind::Lost) =>
                    {
                        let sectors = sectors_of(&group);
                        let hit = harmed.iter().any(|sector| sectors.contains(&(*sector as u64)));
                        // A frame has up to 64 KiB, which here is most of a segment.
                        if hit || (packed && !harmed.is_empty()) {
                            damaged.extend(group.first.0..=group.last.0);
                        }
                    }
                    _ => {}
                }
                true
            });
        }
        damaged
    }

    /// Repairs the segment that the refusal names, or else the first one that is damaged.
    fn repair_one(&mut self, error: &LogError) -> Judged {
        self.may_lose.extend(self.damaged_positions());
        let (mut candidates, mut followed) = (VecDeque::new(), BTreeSet::new());
        if let LogError::Damaged { file, .. }
        | LogError::Misplaced { file, .. }
        | LogError::Io { file, .. } = error
        {
            candidates.push_back(Path::new(DIR).join(file));
        }
        let damaged = self.disk.files().into_iter();
        candidates.extend(damaged.filter(|p| is_segment(p) && !self.disk.harmed(p).is_empty()));
        candidates.retain(|path| is_segment(path));
        let mut why = Vec::new();
        while let Some(path) = candidates.pop_front() {
            let refused = why.len();
            if self.repair(&path, &mut why)? || self.disk.powered_off() {
                break;
            }
            // The hint of a refusal is followed.
            for hint in why.iter().skip(refused) {
                let first = hint.rsplit_once("; repair ").and_then(|(_, r)| r.split_once(" first"));
                let first = first.map(|(name, _)| Path::new(DIR).join(name));
                candidates
                    .extend(first.filter(|path| is_segment(path) && followed.insert(path.clone())));
            }
        }
        if self.disk.powered_off() {
            self.tally.event("ended during a repair");
            self.end(self.armed.unwrap_or(End::Kill));
        }
        self.note("repairs refused", &why);
        Ok(())
    }

    /// `true` if the segment was replaced.
    fn repair(&mut self, path: &Path, why: &mut Vec<String>) -> Judged<bool> {
        if self.dice.one_in(4) {
            self.armed = Some(if self.dice.one_in(2) { End::PowerCut } else { End::Kill });
            self.disk.power_off_after(self.dice.below(15));
        }
        self.starts += 1;
        let mut output = path.as_os_str().to_owned();
        output.push(format!(".repaired-{}", self.starts));
        let output = PathBuf::from(output);
        let options = RepairOptions {
            segment: path.into(),
            output: output.clone(),
            truncate_at: None,
            plan: false,
            accept_loss: true,
            witness: Some(Position(self.model.last())),
            identity: Some((LOG_ID, TIMELINE)),
            tool: "sim".into(),
        };
        let header = self.disk.harmed(path).contains(&0);
        let answer = repair(&self.env(), &options);
        self.note("repair", &answer);
        self.fence_gone |= header && answer.is_ok();
        let report = match answer {
            Ok(report) => report,
            Err(error) => {
                why.push(error.to_string());
                return Ok(false);
            }
        };
        for lost in &report.lost {
            let known = lost.first.0..=lost.last.0.min(self.model.last());
            let more = known.clone().find(|position| {
                !self.may_lose.contains(position) && !self.model.is_lost(*position)
            });
            if let Some(position) = more {
                let detail = format!("repair of {} gives up {position}: {lost:?}", path.display());
                return broken(Promise::Repaired, detail);
            }
        }
        if !self.disk.harmed(&output).is_empty() {
            // The medium lies about the result, too: once more.
            return Ok(false);
        }
        self.tally.event("repairs");
        let put = self.disk.rename(&output, path).and_then(|()| self.disk.sync_dir(Path::new(DIR)));
        Ok(put.is_ok())
    }
}

fn kind(error: &LogError) -> &'static str {
    match error {
        LogError::Io { .. } => "I/O",
        LogError::Damaged { .. } => "damaged",
        LogError::Misplaced { .. } => "misplaced",
        LogError::TooNew { .. } => "too new",
        LogError::TailUndecided { .. } => "undecided",
        LogError::Locked { .. } => "locked",
        _ => "other",
    }
}
