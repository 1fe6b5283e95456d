//! One run: what users, operators, time and the medium do to a log, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stemedb_io::Env;
use stemedb_io::sim::{
    EIO, ENOSPC, Failed, Fault, OpKind, Personality, Rates, SimClock, SimRng, SimVfs, Traced, When,
};
use stemedb_log::conformance::{START_MS, sample};
use stemedb_log::{
    DumpItem, Group, GroupKind, Log, LogError, LogReader, LogState, NewEntry, OnFailure, Wal, dump,
    verify,
};
use stemedb_model::Position;

use crate::dice::Dice;
use crate::model::{Broken, Judged, Model, Promise, broken};
use crate::profile::{DIR, Profile};
use crate::tally::Tally;

/// Operations and answers that are kept for people.
const TRACE: usize = 60;
const SECTOR: usize = 512;
const SECTORS_A_BLOCK: u64 = 8;

/// Which run, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// How many steps.
    pub steps: u64,
    /// Steps that are left out.
    pub skip: BTreeSet<u64>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// A hash of every operation on the disk, with its bytes, and of every answer.
    pub digest: u64,
    /// What was seen.
    pub tally: Tally,
    /// The promise that was not kept, and at which step; the end counts as one.
    pub broken: Option<(u64, Broken)>,
    /// What the run was like.
    pub profile: String,
    /// The last answers and operations, oldest first.
    pub trace: Vec<String>,
}

/// Runs a plan.
pub fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(plan.seed);
    let mut judged = Ok(());
    let mut at = 0;
    while at < plan.steps && judged.is_ok() {
        if !plan.skip.contains(&at) {
            world.dice = Dice::new(plan.seed, at);
            world.at = at;
            judged = world.step();
        }
        at += 1;
    }
    if judged.is_ok() {
        world.dice = Dice::new(plan.seed, u64::MAX - 1);
        world.at = at;
        judged = world.finish();
    }
    world.outcome(judged, at)
}

/// A running log.
pub(crate) struct Node {
    pub(crate) wal: Wal,
    pub(crate) reader: Arc<dyn LogReader>,
    /// Failures of the medium that the log has met since its start.
    failures: u64,
    /// Some of them must be told by the state.
    must_tell: bool,
    /// There was no room at some time since then.
    short: bool,
}

/// How the process ends once the disk takes nothing from it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    PowerCut,
    Kill,
}

/// How things were before an answer.
struct Scene {
    state: Option<LogState>,
    harmed: BTreeMap<PathBuf, Vec<usize>>,
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) at: u64,
    pub(crate) seed: u64,
    pub(crate) profile: Profile,
    pub(crate) disk: SimVfs,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) model: Model,
    pub(crate) node: Option<Node>,
    /// What happens when the changes that are still allowed are used up.
    pub(crate) armed: Option<End>,
    /// Chance strikes.
    pub(crate) weather: bool,
    /// Room is short.
    pub(crate) full: bool,
    /// The disk was asked to be as it is, and nothing has happened to it so far.
    pub(crate) untouched: bool,
    /// The log was attached over a cache that it could not drop: what it saw may not be on the
    /// medium. See the decision page on a failing medium, "Open".
    pub(crate) unproved_start: bool,
    /// A header that the medium had damaged was made again, or one that it never held was believed, or
    /// the log started without it: where it was a fence, nothing tells what it voided.
    pub(crate) fence_gone: bool,
    /// Positions that a repair may give up.
    pub(crate) may_lose: BTreeSet<u64>,
    pub(crate) tally: Tally,
    pub(crate) starts: u64,
    entries: u64,
    answers: u64,
    told: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let profile = Profile::draw(seed);
        let disk = SimVfs::new(seed ^ 0xd15c);
        let clock = Arc::new(SimClock::new(START_MS));
        let quiet = profile.rates == Rates::none();
        let mut world = Self {
            dice: Dice::new(seed, u64::MAX - 2),
            at: 0,
            seed,
            profile,
            disk: disk.clone(),
            clock,
            model: Model::default(),
            node: None,
            armed: None,
            weather: !quiet,
            full: false,
            untouched: true,
            unproved_start: false,
            fence_gone: false,
            may_lose: BTreeSet::new(),
            tally: Tally { runs: 1, ..Tally::default() },
            starts: 0,
            entries: 0,
            answers: 0,
            told: Vec::new(),
        };
        world.settle_in(disk);
        world
    }

    fn outcome(mut self, judged: Judged, at: u64) -> Outcome {
        self.collect();
        self.tally.steps = at + 1;
        self.tally.operations = self.disk.count_all();
        let mut trace = std::mem::take(&mut self.told);
        trace.push("the last operations on the disk:".into());
        trace.extend(self.disk.trace().iter().map(line));
        let revived = |broken: &Broken| {
            matches!(
                broken.promise,
                // Of a group written twice, the first writing has another time and another root.
                Promise::Asked
                    | Promise::NotWritten
                    | Promise::Decided
                    | Promise::Time
                    | Promise::Root
            )
        };
        let revived = self.fence_gone && judged.as_ref().is_err_and(revived);
        let cached = self.unproved_start && judged.is_err();
        if cached {
            self.tally.event("known: read from a cache when attached");
        } else if revived {
            self.tally.event("known: a fence is gone");
        }
        let known = cached || revived;
        Outcome {
            digest: self.disk.fingerprint() ^ self.answers.rotate_left(17),
            tally: self.tally,
            broken: judged.err().filter(|_| !known).map(|broken| (self.at, broken)),
            profile: format!("{:?}", self.profile),
            trace,
        }
    }

    /// Counts what has befallen the disk.
    fn collect(&mut self) {
        let struck = self.disk.struck();
        self.tally.struck(&struck, self.profile.personality);
    }

    /// Makes `disk` the one of this world, with its weather.
    pub(crate) fn settle_in(&mut self, disk: SimVfs) {
        self.disk = disk;
        self.disk.set_personality(self.profile.personality);
        self.disk.set_rereads(self.profile.rereads);
        self.disk.set_evicts(self.profile.evicts);
        self.disk.set_any_names(self.profile.any_names);
        self.disk.set_clock(Arc::clone(&self.clock));
        self.disk.keep_trace(TRACE);
        self.set_weather(self.weather);
    }

    pub(crate) fn set_weather(&mut self, on: bool) {
        self.weather = on;
        self.disk.set_rates(if on { self.profile.rates.clone() } else { Rates::none() });
    }

    /// The doors of one process.
    pub(crate) fn env(&self) -> Env {
        let rng = SimRng::new(self.seed ^ self.starts.wrapping_mul(0x9e37_79b9) ^ 0xca11);
        Env { clock: self.clock.clone(), rng: Arc::new(rng), vfs: Arc::new(self.disk.clone()) }
    }

    /// Puts an answer into the digest and the trace.
    pub(crate) fn note(&mut self, what: &str, answer: &dyn Debug) {
        let line = format!("step {}: {what}: {answer:?}", self.at);
        for byte in line.as_bytes() {
            self.answers = (self.answers ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.told.len() > TRACE {
            self.told.remove(0);
        }
        let short: String = line.chars().take(500).collect();
        self.told.push(short);
    }

    /// Whether the medium holds anything else than it has confirmed, in any segment.
    pub(crate) fn harmed(&self) -> bool {
        self.disk.files().iter().any(|path| is_segment(path) && !self.disk.harmed(path).is_empty())
    }

    /// Whether the medium lacks the header of a segment.
    pub(crate) fn header_harmed(&self) -> bool {
        let lacks = |path: &PathBuf| is_segment(path) && self.disk.harmed(path).contains(&0);
        self.disk.files().iter().any(lacks)
    }

    /// One step.
    fn step(&mut self) -> Judged {
        self.disk.take_failures();
        if self.node.is_none() {
            return self.start();
        }
        match self.dice.below(100) {
            0..45 => self.append()?,
            45..53 => self.work()?,
            53..58 => self.seal()?,
            58..64 => self.read()?,
            64..68 => self.scan()?,
            68..73 => self.resume()?,
            73..75 => self.acknowledge(),
            75..79 => self.pass_time(),
            79..82 => self.detach()?,
            82..86 => self.arm(),
            86..90 => self.order_faults(),
            90..92 => self.end(End::PowerCut),
            92..94 => self.end(End::Kill),
            94..95 => self.stop()?,
            95..96 => self.repack()?,
            96..97 => self.scrub()?,
            97..98 => self.rot(),
            _ => self.look()?,
        }
        self.after()
    }

    /// What must hold after every step.
    fn after(&mut self) -> Judged {
        if self.disk.powered_off() {
            self.end(self.armed.unwrap_or(End::Kill));
            return Ok(());
        }
        let Some(node) = &self.node else { return Ok(()) };
        match node.reader.state() {
            LogState::Ok if node.must_tell => {
                broken(Promise::Told, "the medium failed and the state is ok")
            }
            LogState::Degraded { reason } | LogState::ReadOnly { reason } if reason.is_empty() => {
                broken(Promise::Told, "a state without a reason")
            }
            _ => self.model.check_end(&*node.reader),
        }
    }

    /// Takes note of what the medium has failed meanwhile; `told`: the answer said so.
    fn count_failures(&mut self) -> Vec<Failed> {
        let failures = self.disk.take_failures();
        if let Some(node) = &mut self.node {
            node.failures += failures.len() as u64;
        }
        self.untouched &= failures.is_empty();
        failures
    }

    /// The state has to name these, if the log took part in them.
    fn must_tell(&mut self, failures: &[Failed]) {
        let tells = failures.iter().any(|failed| {
            let of_log = match failed.op {
                OpKind::SyncDir => failed.path == Path::new(DIR),
                OpKind::Write
                | OpKind::SyncData
                | OpKind::SyncAll
                | OpKind::SetLen
                | OpKind::Close
                | OpKind::Rename => failed.path.to_string_lossy().contains("/segment."),
                _ => false,
            };
            of_log && !wants_room(failed)
        });
        if let Some(node) = self.node.as_mut().filter(|_| tells) {
            node.must_tell = true;
        }
    }

    /// An error that the log gave for a read or an operation that changes nothing.
    pub(crate) fn excuse(&self, error: &LogError, failures: &[Failed]) -> Judged {
        let cause = match error {
            LogError::Damaged { .. } => self.harmed(),
            LogError::Io { .. } => !failures.is_empty() || self.harmed() || self.disk.powered_off(),
            LogError::Detached | LogError::ReadOnly { .. } => true,
            _ => false,
        };
        if cause { Ok(()) } else { broken(Promise::Cause, format!("nothing explains: {error}")) }
    }

    fn group(&mut self) -> Vec<NewEntry> {
        let (count, body) = match self.dice.below(8) {
            0 => (1, 9_000),
            1 => (1 + self.dice.below(20), 300),
            2 => (3, 4_000),
            3 => (1, 1),
            _ => (1 + self.dice.below(3), 300),
        };
        (0..count)
            .map(|_| {
                self.entries += 1;
                let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.entries);
                sample(seed, self.dice.below(body) as usize)
            })
            .collect()
    }

    fn append(&mut self) -> Judged {
        let group = self.group();
        let calm = self.calm();
        let before = self.before();
        let Some(node) = &mut self.node else { return Ok(()) };
        let answer = node.wal.append(&group);
        let state = node.reader.state();
        self.note("append", &answer);
        self.tally.event(match &answer {
            Ok(_) => "groups acknowledged",
            Err(error) if error.outcome() == stemedb_log::Outcome::Indeterminate => "indeterminate",
            Err(_) => "not written",
        });
        // Where nothing can be read back, a fence that the medium lied about cannot be noticed.
        self.fence_gone |= matches!(answer, Err(LogError::GivenUp { .. }))
            && !self.profile.rereads
            && self.header_harmed();
        self.model.appended(group, &answer)?;
        let failures = self.count_failures();
        self.must_tell(&failures);
        if let (Err(error), Some(())) = (&answer, self.once(calm, &failures)) {
            return broken(Promise::Heals, format!("one failure, {failures:?}, and then: {error}"));
        }
        if let Err(error) = &answer {
            self.refused(error, &failures)?;
        }
        self.proved(&answer, &state, &before)
    }

    /// Nothing has ever failed in this process, and everything is there for a failure to be healed.
    fn calm(&self) -> bool {
        let Some(node) = &self.node else { return false };
        let takes = matches!(node.reader.state(), LogState::Ok | LogState::Degraded { .. });
        takes
            && node.failures == 0
            && self.profile.rereads
            && self.profile.on_failure == OnFailure::Heal
            && self.profile.personality != Personality::StickyReadOnly
            && self.armed.is_none()
            // After want of room the next segment may not be ready yet.
            && !self.full
            && !node.short
            && !self.harmed()
    }

    /// `Some` if exactly one failure came after calm, of a kind that can be healed.
    fn once(&self, calm: bool, failures: &[Failed]) -> Option<()> {
        match failures {
            [one] if calm && !self.harmed() && !self.disk.powered_off() => {
                let reads = matches!(one.op, OpKind::Read | OpKind::ReadNowait | OpKind::Evict);
                (!wants_room(one) && !reads).then_some(())
            }
            _ => None,
        }
    }

    /// A refused write has a reason.
    fn refused(&self, error: &LogError, failures: &[Failed]) -> Judged {
        let Some(node) = &self.node else { return Ok(()) };
        let cause = match error {
            LogError::Unprepared { .. } => {
                node.short || node.failures > 0 || self.disk.powered_off()
            }
            LogError::ReadOnly { .. } | LogError::GivenUp { .. } => {
                matches!(node.reader.state(), LogState::ReadOnly { .. })
                    && (node.failures > 0 || self.harmed() || self.disk.powered_off())
            }
            LogError::Detached => node.reader.state() == LogState::Detached,
            // A group may be longer than the short segments of this run.
            LogError::Refused(_) => true,
            LogError::Io { .. } => !failures.is_empty() || self.disk.powered_off(),
            _ => false,
        };
        if cause { Ok(()) } else { broken(Promise::Cause, format!("nothing explains: {error}")) }
    }

    /// What an answer is compared with.
    fn before(&self) -> Scene {
        let state = self.node.as_ref().map(|node| node.reader.state());
        let files = self.disk.files().into_iter().filter(|path| is_segment(path));
        let harmed = files.map(|path| (path.clone(), self.disk.harmed(&path))).collect();
        Scene { state, harmed }
    }

    /// A log that goes on after a failure has proved the file that it left.
    fn proved<T>(&self, answer: &Result<T, LogError>, state: &LogState, before: &Scene) -> Judged {
        let (Ok(_), LogState::Degraded { reason }) = (answer, state) else { return Ok(()) };
        let Some((file, end)) = failed_at(reason) else { return Ok(()) };
        let known = match &before.state {
            Some(LogState::Degraded { reason }) => failed_at(reason),
            _ => None,
        };
        if known.is_some_and(|known| known == (file.clone(), end)) || self.disk.powered_off() {
            return Ok(());
        }
        let path = Path::new(DIR).join(&file);
        let harmed = before.harmed.get(&path);
        // Writing a sector again mends it.
        let still = self.disk.harmed(&path);
        // Only durable groups are proved: blocks from the first one on, up to the failure.
        let bad = harmed.into_iter().flatten().find(|sector| {
            let byte = (*sector * SECTOR) as u64;
            byte >= 4096 && byte < end && still.contains(sector) && !self.is_seal(&path, sector)
        });
        match bad {
            Some(sector) => {
                let detail = format!("{file} is damaged in sector {sector}, and: {reason}");
                broken(Promise::Proved, detail)
            }
            None => Ok(()),
        }
    }

    /// Whether this sector belongs to a seal: no record is lost with it, so no proof wants it.
    fn is_seal(&self, path: &Path, sector: &usize) -> bool {
        let mut seal = false;
        let all = (Position(0), Position(u64::MAX));
        let _ = dump(path, &self.disk.unharmed(), all, false, &mut |item| {
            if let DumpItem::Group(group) = item
                && matches!(group.kind, GroupKind::Seal | GroupKind::Close)
            {
                seal |= sectors_of(&group).contains(&(*sector as u64));
            }
            true
        });
        seal
    }

    fn work(&mut self) -> Judged {
        let calm = self.calm();
        let times = 1 + self.dice.below(3);
        for _ in 0..times {
            let Some(node) = &self.node else { return Ok(()) };
            if !node.wal.work() {
                break;
            }
        }
        let failures = self.count_failures();
        self.must_tell(&failures);
        let Some(node) = &self.node else { return Ok(()) };
        if let (LogState::ReadOnly { reason }, Some(())) =
            (node.reader.state(), self.once(calm, &failures))
        {
            return broken(
                Promise::Heals,
                format!("one failure, {failures:?}, and then: {reason}"),
            );
        }
        Ok(())
    }

    fn seal(&mut self) -> Judged {
        let calm = self.calm();
        let Some(node) = &mut self.node else { return Ok(()) };
        let answer = node.wal.seal();
        self.note("seal", &answer);
        let failures = self.count_failures();
        self.must_tell(&failures);
        match &answer {
            Ok(()) => Ok(()),
            Err(error) if self.once(calm, &failures).is_some() => {
                broken(Promise::Heals, format!("one failure, {failures:?}, and then: {error}"))
            }
            Err(error) => self.refused(error, &failures),
        }
    }

    fn read(&mut self) -> Judged {
        let position = self.dice.below(self.model.last() + 3);
        let Some(node) = &self.node else { return Ok(()) };
        let reader = Arc::clone(&node.reader);
        if position == 0 {
            return Ok(());
        }
        let found = self.model.read(&*reader, position);
        self.note("read", &found);
        let failures = self.count_failures();
        match found? {
            Some(error) => self.excuse(&error, &failures),
            None => Ok(()),
        }
    }

    pub(crate) fn scan(&mut self) -> Judged {
        let from = if self.dice.one_in(2) { 1 } else { 1 + self.dice.below(self.model.last() + 1) };
        let Some(node) = &self.node else { return Ok(()) };
        let reader = Arc::clone(&node.reader);
        let found = self.model.scan(&*reader, from);
        self.note("scan", &found);
        let failures = self.count_failures();
        match found? {
            Some(error) => self.excuse(&error, &failures),
            None => Ok(()),
        }
    }

    fn resume(&mut self) -> Judged {
        if self.dice.one_in(2) {
            self.mend();
        }
        if self.dice.one_in(2) {
            self.clock.step(Duration::from_secs(100));
        }
        let scene = self.before();
        let Some(node) = &mut self.node else { return Ok(()) };
        let before = node.reader.state();
        let answer = node.wal.resume();
        let state = node.reader.state();
        self.note("resume", &answer);
        self.model.continued(&answer)?;
        let failures = self.count_failures();
        if answer.is_err() || matches!(before, LogState::ReadOnly { .. }) {
            // The state tells them, or the answer did.
        } else {
            self.must_tell(&failures);
        }
        if answer.is_ok() && matches!(before, LogState::ReadOnly { .. }) {
            self.tally.event("resumed");
        }
        self.proved(&answer, &state, &scene)
    }

    fn acknowledge(&mut self) {
        let Some(node) = &mut self.node else { return };
        let seen = node.wal.acknowledge();
        let open = matches!(node.reader.state(), LogState::Ok | LogState::Degraded { .. });
        if seen.is_some() && open {
            node.must_tell = false;
        }
        if let Some(reason) = seen {
            self.tally.event("healed, and acknowledged");
            self.note("acknowledge", &reason);
        }
    }

    fn pass_time(&mut self) {
        match self.dice.below(4) {
            0 => self.clock.set_wall(START_MS + (self.dice.below(1 << 33) as i64) - (1 << 32)),
            1 => self.clock.step(Duration::from_secs(self.dice.below(2 * 3600))),
            2 => self.clock.step(Duration::from_secs(2 * 3600)),
            _ => self.clock.step(Duration::from_millis(self.dice.below(100_000))),
        }
    }

    fn detach(&mut self) -> Judged {
        let Some(node) = &mut self.node else { return Ok(()) };
        let answer = node.wal.detach();
        self.note("detach", &answer);
        // What failed is told by the state, or nobody can ask any more.
        let failures = self.count_failures();
        if let Err(error) = &answer {
            return self.refused(error, &failures);
        }
        self.tally.event("detached");
        if self.disk.powered_off() {
            return Ok(());
        }
        let mount = self.disk.read_only() || self.dice.one_in(2);
        if mount && let Err(error) = self.disk.remount() {
            return broken(Promise::Detached, error.to_string());
        }
        for attempt in 0..4 {
            if attempt == 2 {
                self.mend();
            }
            self.disk.take_failures();
            let before = self.before();
            let Some(node) = &mut self.node else { return Ok(()) };
            let answer = node.wal.attach();
            let state = node.reader.state();
            self.note("attach", &answer);
            self.model.continued(&answer)?;
            if !self.profile.evicts {
                self.unproved_start = true;
            }
            let failures = self.count_failures();
            if self.disk.powered_off() {
                return Ok(());
            }
            match answer {
                Ok(_) => {
                    if let Some(node) = &mut self.node {
                        // Everything is proved; a failure before is no concern of what comes.
                        node.must_tell = false;
                    }
                    return self.proved(&answer, &state, &before);
                }
                Err(error) if failures.is_empty() && !self.full => {
                    // Damage, or no room: the log stays off; a start has to decide.
                    let excuse = self.harmed()
                        || self.disk.read_only()
                        || self.unproved_start
                        || self.frayed();
                    if !excuse {
                        return broken(Promise::Resumes, format!("attach: {error}"));
                    }
                    self.end(End::Kill);
                    return Ok(());
                }
                Err(_) => {}
            }
        }
        self.end(End::Kill);
        Ok(())
    }

    /// A write that failed has left a part of a sector somewhere.
    pub(crate) fn frayed(&self) -> bool {
        self.disk.files().iter().any(|path| self.disk.ragged(path))
    }

    /// Lets the power go, or the process die, after a few changes more.
    fn arm(&mut self) {
        self.armed = Some(if self.dice.one_in(2) { End::PowerCut } else { End::Kill });
        self.disk.power_off_after(self.dice.below(12));
        self.untouched = false;
    }

    /// The operator or the medium changes its mind.
    fn order_faults(&mut self) {
        self.untouched = false;
        match self.dice.below(5) {
            0 => self.mend(),
            1 => {
                let on = !self.weather;
                self.set_weather(on);
            }
            2 => {
                let used: u64 = self.disk.files().iter().map(|path| self.len(path)).sum();
                self.full = true;
                if let Some(node) = &mut self.node {
                    node.short = true;
                }
                self.disk.set_capacity(used + self.dice.below(3 * self.profile.segment_bytes));
            }
            _ => {
                let ops = [
                    OpKind::Write,
                    OpKind::SyncData,
                    OpKind::SyncAll,
                    OpKind::SyncDir,
                    OpKind::Rename,
                    OpKind::SetLen,
                    OpKind::Close,
                    OpKind::Open,
                ];
                let op = self.dice.pick(&ops).copied();
                let nth = 1 + self.dice.below(4);
                let when = if self.dice.one_in(3) { When::From(nth) } else { When::Nth(nth) };
                let errno = if self.dice.one_in(4) { ENOSPC } else { EIO };
                self.disk.inject(Fault { op, path: "segment".into(), when, errno });
                let how = if matches!(when, When::From(_)) { "always" } else { "once" };
                let name = op.map_or("any".to_owned(), |op| format!("{op:?}"));
                self.tally.ordered(format!("ordered {name} {how}"), self.profile.personality);
            }
        }
    }

    /// The medium is whole again, what is on it aside.
    pub(crate) fn mend(&mut self) {
        self.disk.clear_faults();
        self.set_weather(false);
        self.full = false;
        self.disk.set_capacity(u64::MAX);
    }

    /// The process ends now.
    pub(crate) fn end(&mut self, how: End) {
        let after = match how {
            End::PowerCut => self.disk.crash(),
            End::Kill => self.disk.fork(),
        };
        self.tally.event(match how {
            End::PowerCut => "power cuts",
            End::Kill => "kills",
        });
        // Whatever the old process still does, it does to a disk that is gone.
        self.disk.power_off_after(0);
        self.node = None;
        self.armed = None;
        self.settle_in(after);
    }

    /// An orderly stop.
    fn stop(&mut self) -> Judged {
        let Some(node) = self.node.take() else { return Ok(()) };
        let failed_before = node.failures > 0;
        let closed = node.wal.close();
        self.note("close", &closed);
        let failures = self.count_failures();
        self.tally.event("orderly stops");
        if let Err(error) = &closed {
            let cause = failed_before
                || !failures.is_empty()
                || self.harmed()
                || self.full
                || self.disk.powered_off();
            if !cause {
                return broken(Promise::Cause, format!("close: {error}"));
            }
        }
        let cut = self.disk.powered_off() && self.armed == Some(End::PowerCut);
        self.end(if cut || self.dice.one_in(2) { End::PowerCut } else { End::Kill });
        Ok(())
    }

    /// The medium changes bytes that it has confirmed.
    fn rot(&mut self) {
        if !self.profile.lies {
            return;
        }
        let segments: Vec<PathBuf> =
            self.disk.files().into_iter().filter(|path| is_segment(path)).collect();
        // A medium that is going bad often does so where it is written, and then fails.
        let going = self.dice.one_in(2);
        let used = |path: &&PathBuf| {
            let block =
                self.disk.medium(path).and_then(|m| m.get(4096..4096 + SECTOR).map(<[u8]>::to_vec));
            block.is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))
        };
        let newest = segments.iter().rev().find(used).filter(|_| going).cloned();
        if newest.is_some() {
            let op = Some(OpKind::SyncData);
            self.disk.inject(Fault { op, path: "segment".into(), when: When::Nth(1), errno: EIO });
            self.tally.ordered("ordered SyncData after rot".into(), self.profile.personality);
        }
        let Some(path) = newest.or_else(|| self.dice.pick(&segments).cloned()) else { return };
        let sectors = self.len(&path) / SECTOR as u64;
        let medium = self.disk.medium(&path).unwrap_or_default();
        let at = |sector: usize| medium.get(sector * SECTOR..(sector + 1) * SECTOR);
        let mut sector = self.dice.below(sectors) as usize;
        if self.dice.one_in(2) {
            // Mostly where something is.
            let written: Vec<usize> = (0..sectors as usize)
                .filter(|sector| at(*sector).is_some_and(|s| s.iter().any(|byte| *byte != 0)))
                .collect();
            sector = self.dice.pick(&written).copied().unwrap_or(sector);
        }
        let Some(now) = at(sector) else { return };
        let (what, changed) = match self.dice.below(5) {
            0 | 1 => {
                let mut bytes = now.to_vec();
                let bit = self.dice.below(SECTOR as u64 * 8) as usize;
                if let Some(byte) = bytes.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                ("bit flip", self.disk.harm(&path, sector, &bytes))
            }
            2 => ("stale sector", self.disk.harm(&path, sector, &[0; SECTOR])),
            3 => ("unreadable sector", self.disk.spoil(&path, sector)),
            _ => {
                // What was meant for the same place of another segment.
                let other = self.dice.pick(&segments).and_then(|path| self.disk.medium(path));
                let bytes = other.as_ref().and_then(|other| {
                    other.get(sector * SECTOR..(sector + 1) * SECTOR).map(<[u8]>::to_vec)
                });
                let bytes = bytes.unwrap_or_default();
                ("misdirected sector", self.disk.harm(&path, sector, &bytes))
            }
        };
        if changed {
            self.untouched = false;
            self.tally.ordered(what.into(), self.profile.personality);
            let file = path.display().to_string();
            self.note(what, &(file, sector));
        }
    }

    pub(crate) fn len(&self, path: &Path) -> u64 {
        self.disk.medium(path).map_or(0, |bytes| bytes.len() as u64)
    }

    /// Sealed segments become small.
    fn repack(&mut self) -> Judged {
        let Some(node) = &self.node else { return Ok(()) };
        let answer = node.wal.repack_now();
        self.note("repack", &answer);
        let failures = self.count_failures();
        // The original is there until the rename, so only the folder's sync has to be told.
        let told: Vec<Failed> =
            failures.iter().filter(|failed| failed.op == OpKind::SyncDir).cloned().collect();
        self.must_tell(&told);
        match answer {
            Ok(repacked) => {
                if repacked.segments > 0 {
                    self.tally.event("segments packed");
                }
                Ok(())
            }
            Err(_) if self.full => Ok(()),
            // What the disk lied about is gone with the packed file, and the original is there.
            Err(LogError::Io { op: "prove", .. }) if self.profile.lies => {
                self.tally.event("packed files that were not believed");
                Ok(())
            }
            Err(error) => self.excuse(&error, &failures),
        }
    }

    /// Sealed segments are read again: what is reported is there.
    fn scrub(&mut self) -> Judged {
        let Some(node) = &self.node else { return Ok(()) };
        let answer = node.wal.scrub_now();
        self.note("scrub", &answer);
        let failures = self.count_failures();
        match answer {
            Ok(scrubbed) if scrubbed.damage.is_empty() => Ok(()),
            Ok(_) if self.harmed() => {
                self.tally.event("damage found by a scrub");
                Ok(())
            }
            Ok(scrubbed) => broken(Promise::Cause, format!("scrub: {:?}", scrubbed.damage)),
            Err(error) => self.excuse(&error, &failures),
        }
    }

    /// The inspector beside the running log: on a disk to which nothing happened it finds nothing.
    fn look(&mut self) -> Judged {
        let found = verify(Path::new(DIR), &self.disk);
        let clean = self.untouched && self.count_failures().is_empty() && !self.harmed();
        match found {
            Ok(report) if clean && !report.whole() => {
                broken(Promise::Cause, format!("verify finds {:?}", report.findings))
            }
            _ => Ok(()),
        }
    }

    /// The end of every run: on a medium that is whole again the log starts, has everything, and
    /// takes writes.
    fn finish(&mut self) -> Judged {
        self.mend();
        self.armed = None;
        let how =
            if self.disk.read_only() || self.dice.one_in(2) { End::PowerCut } else { End::Kill };
        if self.disk.powered_off() {
            self.end(self.armed.unwrap_or(End::Kill));
        }
        self.end(how);
        for last in [false, true] {
            self.mend();
            self.start_for_good()?;
            self.mend();
            let Some(node) = &self.node else {
                return broken(Promise::Starts, "no start in the end");
            };
            let reader = Arc::clone(&node.reader);
            self.model.check_lost(&reader.lost())?;
            let found = self.model.scan(&*reader, 1);
            self.note("last scan", &found);
            if let Some(error) = found? {
                return broken(Promise::Kept, format!("a scan after a full start: {error}"));
            }
            for position in 1..=self.model.last() + 1 {
                if let Some(error) = self.model.read(&*reader, position)? {
                    return broken(
                        Promise::Kept,
                        format!("reading {position} after a full start: {error}"),
                    );
                }
            }
            if last {
                return Ok(());
            }
            let group = vec![sample(self.seed ^ 0x1a57, 100)];
            let Some(node) = &mut self.node else { return Ok(()) };
            let answer = node.wal.append(&group);
            self.note("last append", &answer);
            self.model.appended(group, &answer)?;
            if let Err(error) = answer {
                return broken(Promise::Resumes, error.to_string());
            }
            self.end(End::PowerCut);
        }
        Ok(())
    }

    /// `failures`: what the medium has failed during the start.
    pub(crate) fn up(&mut self, wal: Wal, failures: u64) {
        let reader = wal.reader();
        self.node = Some(Node { wal, reader, failures, must_tell: false, short: self.full });
    }
}

/// The sectors of its segment that a group takes.
pub(crate) fn sectors_of(group: &Group) -> Range<u64> {
    let from = u64::from(group.block) * SECTORS_A_BLOCK;
    from..from + u64::from(group.blocks) * SECTORS_A_BLOCK
}

/// Want of room while a segment is prepared ends when there is room.
fn wants_room(failed: &Failed) -> bool {
    let prepares = matches!(failed.op, OpKind::Rename | OpKind::SyncDir | OpKind::Allocate)
        || failed.path.extension().is_some_and(|extension| extension == "tmp");
    failed.errno == ENOSPC && prepares
}

/// `segment.NNN.wal`, and nothing behind it.
pub(crate) fn is_segment(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.parent() == Some(Path::new(DIR)) && name.starts_with("segment.") && name.ends_with(".wal")
}

/// The file and byte of the failure that a reason begins with.
fn failed_at(reason: &str) -> Option<(String, u64)> {
    let rest = reason.strip_prefix("healed: ")?;
    let rest = rest.strip_prefix("sync of ").or_else(|| rest.strip_prefix("write of "))?;
    let (file, rest) = rest.split_once(" at byte ")?;
    let (byte, _) = rest.split_once(' ')?;
    Some((file.into(), byte.parse().ok()?))
}

fn line(traced: &Traced) -> String {
    let Traced { op, path, offset, size, errno, mishap } = traced;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let mut line = format!("{op:?} {file} at {offset}, {size}");
    if let Some(errno) = errno {
        line.push_str(&format!(": error {errno}"));
    }
    if let Some(mishap) = mishap {
        line.push_str(&format!(" ({})", mishap.name()));
    }
    line
}
