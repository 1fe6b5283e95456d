//! One cell: a server under load, a fault, an operator, and the judgement.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::cells::{Cell, Fault, FileChange, Kind, Means, Moment};
use super::judge::{self, ANSWER_MAX, Earlier, Findings};
use super::lab::Lab;
use super::load::{Ledger, Load, Told};
use super::node::{Client, Holdings, Node, Place, Started, State};
use super::{Abilities, interrupt};
use crate::fault::{Act, Aim, Plan, Times};

/// Small, so that a cell holds rotations.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Acknowledged before anything goes wrong.
const BEFORE: u64 = 150;
/// Acknowledged afterwards, to see that it goes on.
const AFTER: u64 = 60;
const START_MAX: Duration = Duration::from_secs(40);
const STOP_MAX: Duration = Duration::from_secs(40);
/// Counts attempts to pack a segment that the medium refused.
const REPACK_ERRORS: &str = "stemedb_wal_repack_errors_total";
/// Longest that a fault is waited for.
const STRIKE_MAX: Duration = Duration::from_secs(20);
/// How long a device hangs: longer than the log may make anybody wait.
const HANG: Duration = Duration::from_secs(14);
/// Longest that the node may take to show what it makes of a fault.
const REACTION_MAX: Duration = Duration::from_secs(13);
/// How long it may take until it sees that there is room again.
const ROOM_MAX: Duration = Duration::from_secs(20);
/// How long it may take to go on by itself when the disk is well again.
const RESUME_MAX: Duration = Duration::from_secs(6);
const RESENT: usize = 8;

/// What became of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It healed by itself and says so.
    Healed,
    /// Read-only with this code, then it went on by itself.
    Resumed(String),
    /// Read-only with this code until an operator came.
    Stopped(String),
    /// It ended, or did not start, and said why.
    Refused,
    /// What the disk lied about was found.
    Detected,
    /// It ended at once; some writers know that their records may be there.
    Told,
    /// Every promise held, and nothing had to be said.
    Unharmed,
    Impossible(&'static str),
    /// Not in the build under test.
    Absent(&'static str),
    /// Something forbidden happened.
    Red,
}

impl Verdict {
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Healed => "healed".into(),
            Self::Resumed(code) => format!("stopped({code}), resumed"),
            Self::Stopped(code) => format!("stopped({code})"),
            Self::Refused => "stopped(start)".into(),
            Self::Detected => "detected".into(),
            Self::Told => "indeterminate told".into(),
            Self::Unharmed => "unharmed".into(),
            Self::Impossible(reason) => format!("impossible: {reason}"),
            Self::Absent(reason) => format!("absent: {reason}"),
            Self::Red => "RED".into(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) cell: Cell,
    pub(crate) verdict: Verdict,
    /// What is forbidden and was seen.
    pub(crate) red: Vec<String>,
    /// What happened, in order.
    pub(crate) story: Vec<String>,
    pub(crate) acks: usize,
    pub(crate) not_written: usize,
    pub(crate) indeterminate: usize,
    pub(crate) unanswered: usize,
    /// Of the indeterminate ones, how many were there in the end.
    pub(crate) settled_there: usize,
    /// From the fault to the next acknowledgement, seconds.
    pub(crate) gap: Option<f64>,
    pub(crate) slowest: f64,
    /// Words that belong into the table.
    pub(crate) note: Option<String>,
    pub(crate) took: Duration,
}

impl Report {
    pub(super) fn without(cell: Cell, verdict: Verdict) -> Self {
        Self {
            cell,
            verdict,
            red: Vec::new(),
            story: Vec::new(),
            acks: 0,
            not_written: 0,
            indeterminate: 0,
            unanswered: 0,
            settled_there: 0,
            gap: None,
            slowest: 0.0,
            note: None,
            took: Duration::ZERO,
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "fault": self.cell.fault.name(),
            "fs": super::cells::fs_name(self.cell.fs),
            "moment": self.cell.moment.name(),
            "seed": self.cell.run_seed,
            "verdict": self.verdict.words(),
            "red": self.red,
            "story": self.story,
            "acks": self.acks,
            "not_written": self.not_written,
            "indeterminate": self.indeterminate,
            "unanswered": self.unanswered,
            "settled_there": self.settled_there,
            "gap_s": self.gap,
            "slowest_s": self.slowest,
            "note": self.note,
            "took_s": self.took.as_secs_f64(),
            "again": self.cell.command(),
        })
    }
}

/// Runs one cell in `folder`, which it fills.
pub(crate) fn run(
    cell: Cell,
    binary: &Path,
    abilities: &Abilities,
    folder: &Path,
) -> Result<Report> {
    match cell.moment {
        Moment::Repack if !abilities.repack => {
            return Ok(Report::without(cell, Verdict::Absent("this build does not repack")));
        }
        Moment::Repair if !abilities.repair => {
            return Ok(Report::without(cell, Verdict::Absent("this build does not repair")));
        }
        _ => {}
    }
    let means = match cell.means() {
        Ok(means) => means,
        Err(reason) => return Ok(Report::without(cell, Verdict::Impossible(reason))),
    };
    let began = Instant::now();
    let mut scene = Scene::set(cell, means, binary, abilities, folder)?;
    let verdict = match (means, cell.moment) {
        (Means::File(change), _) => scene.change_files(change),
        (Means::Clock, _) => scene.jump_the_clock(),
        (Means::Disk(plan), Moment::Group) if plan.act == Act::FailRead => scene.fail_reads(plan),
        (Means::Disk(plan) | Means::Kill(plan), Moment::Repair) => scene.repair(plan),
        (_, Moment::First | Moment::Recovery) => scene.while_starting(),
        _ => scene.under_load(),
    };
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(error) => {
            interrupt::check()?;
            scene.red.push(format!("the harness could not go on: {error:#}"));
            Verdict::Red
        }
    };
    Ok(scene.report(verdict, began.elapsed()))
}

struct Scene<'a> {
    cell: Cell,
    means: Means,
    abilities: &'a Abilities,
    rng: StdRng,
    // The server goes before the volume under it.
    node: Option<Node>,
    lab: Lab,
    place: Place,
    ledger: Arc<Ledger>,
    /// What was there when it was first known to have settled.
    earlier: Option<Earlier>,
    /// When the fault struck.
    struck: Option<Instant>,
    /// What it is degraded by although nothing has happened.
    usual: Option<String>,
    red: Vec<String>,
    story: Vec<String>,
    note: Option<String>,
    began: Instant,
}

/// How the node looked while it was watched.
#[derive(Default)]
struct Watched {
    read_only: Option<String>,
    degraded: Option<String>,
    /// It is ready and was read-only before.
    resumed: bool,
    died: bool,
}

impl<'a> Scene<'a> {
    fn set(
        cell: Cell,
        means: Means,
        binary: &Path,
        abilities: &'a Abilities,
        folder: &Path,
    ) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(cell.seed());
        let lab = Lab::new(cell.fs, folder, rng.random())?;
        let other = folder.join("other");
        std::fs::create_dir_all(&other)?;
        let volume = lab.path();
        let (data, wal, index) = match (means, cell.fault) {
            (Means::IndexDisk(_) | Means::IndexFull, _) => {
                (other.join("node"), other.join("wal"), volume.join("index"))
            }
            (_, Fault::EioEverywhereOneVolume) => {
                (volume.join("node"), volume.join("wal"), volume.join("index"))
            }
            _ => (other.join("node"), volume.join("wal"), other.join("index")),
        };
        let place = Place {
            binary: binary.to_owned(),
            data,
            wal,
            index,
            segment_bytes: SEGMENT_BYTES,
            under: Vec::new(),
            keys: false,
            environment: Vec::new(),
            said: folder.join("said.log"),
        };
        Ok(Self {
            cell,
            means,
            abilities,
            rng,
            node: None,
            lab,
            place,
            ledger: Arc::new(Ledger::new()),
            earlier: None,
            struck: None,
            usual: None,
            red: Vec::new(),
            story: Vec::new(),
            note: None,
            began: Instant::now(),
        })
    }

    fn tell(&mut self, words: impl Into<String>) {
        self.story.push(format!("{:.2} {}", self.began.elapsed().as_secs_f64(), words.into()));
    }

    fn forbid(&mut self, words: impl Into<String>) {
        let words = words.into();
        self.tell(format!("FORBIDDEN {words}"));
        self.red.push(words);
    }

    fn node(&mut self) -> Result<&mut Node> {
        self.node.as_mut().context("no server runs")
    }

    fn client(&mut self) -> Result<Client> {
        Ok(self.node()?.client())
    }

    /// What the plan does, where a disk does it.
    fn act(&self) -> Option<Act> {
        match self.means {
            Means::Disk(plan) | Means::IndexDisk(plan) | Means::Kill(plan) => Some(plan.act),
            _ => None,
        }
    }

    fn cuts(&self) -> bool {
        matches!(self.act(), Some(Act::Cut | Act::TornThenCut))
    }

    fn kills(&self) -> bool {
        matches!(self.means, Means::Kill(_))
    }

    fn hangs(&self) -> bool {
        !self.kills() && matches!(self.act(), Some(Act::Hang | Act::HangFlush))
    }

    fn lies(&self) -> bool {
        self.cell.fault.kind() == Kind::Lie
    }

    fn about_the_index(&self) -> bool {
        matches!(self.means, Means::IndexDisk(_) | Means::IndexFull)
    }

    // ---- starting and stopping

    /// Starts it; it must come up.
    fn start(&mut self, when: &str) -> Result<bool> {
        self.node = Some(self.place.spawn()?);
        match self.node()?.started(START_MAX)? {
            Started::Ready => {
                self.tell(format!("started {when}"));
                self.usual = self.client()?.state()?.degraded;
                Ok(true)
            }
            Started::Refused { status, words } => {
                self.node = None;
                self.tell(format!("refused to start {when} ({status}): {}", tail(&words)));
                self.forbid(format!("does not start {when}: {}", tail(&words)));
                Ok(false)
            }
            Started::Waiting => {
                let words = self.node()?.words();
                self.node = None;
                self.forbid(format!(
                    "does not come up {when} within {START_MAX:?}: {}",
                    tail(&words)
                ));
                Ok(false)
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(node) = &mut self.node {
            node.kill()?;
        }
        self.node = None;
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(mut node) = self.node.take()
            && !node.stop(STOP_MAX)?
        {
            self.forbid(format!("does not stop within {STOP_MAX:?} of SIGTERM"));
        }
        Ok(())
    }

    /// The whole of what it holds, if it answers.
    fn holdings(&mut self) -> Result<Holdings> {
        self.client()?.holdings()
    }

    // ---- the fault

    fn arm(&mut self, plan: Plan) {
        self.lab.disk().arm(plan);
        self.tell(format!("armed {plan:?}"));
    }

    /// Makes the fault. A disk strikes later, by itself.
    fn make(&mut self) -> Result<()> {
        match self.means {
            Means::Disk(plan) | Means::IndexDisk(plan) | Means::Kill(plan) => {
                let skip = match (self.cell.moment, plan.times) {
                    (Moment::Group, _) => self.rng.random_range(0..4),
                    _ => 0,
                };
                self.arm(Plan { skip, ..plan });
            }
            Means::VolumeFull | Means::IndexFull => {
                let leave = self.rng.random_range(0..64 << 10);
                self.lab.fill(leave)?;
                self.struck = Some(Instant::now());
                self.tell(format!("volume full but for {leave} bytes"));
            }
            Means::Quota => {
                self.lab.set_quota(Some(1 << 20))?;
                self.struck = Some(Instant::now());
                self.tell("quota set to less than is used");
            }
            Means::Clock | Means::File(_) => bail!("not a matter of the volume"),
        }
        Ok(())
    }

    fn wait_for_strike(&mut self) -> Result<()> {
        let began = Instant::now();
        // A journal writes a block a second time when it likes, and nobody syncs an index.
        let later = matches!(self.means, Means::Disk(plan) if plan.second)
            || matches!(self.means, Means::IndexDisk(_));
        while self.struck.is_none() {
            interrupt::check()?;
            self.struck = self.lab.disk().first_hit();
            if later {
                self.lab.write_back();
            }
            if began.elapsed() > STRIKE_MAX {
                let (writes, flushes) = self.lab.disk().counts();
                bail!("the fault never struck ({writes} writes, {flushes} flushes so far)");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.tell("struck");
        Ok(())
    }

    /// Takes the fault away, as far as anybody could without touching the machine.
    fn unmake(&mut self) -> Result<()> {
        match self.means {
            // A bad place stays bad until the disk is changed.
            Means::Disk(plan) if plan.times == Times::Here => {}
            Means::Disk(_) | Means::IndexDisk(_) | Means::Kill(_) => self.lab.disk().clear(),
            Means::VolumeFull | Means::IndexFull => self.lab.empty()?,
            Means::Quota => self.lab.set_quota(None)?,
            Means::Clock | Means::File(_) => {}
        }
        self.tell("the fault is taken away");
        Ok(())
    }

    // ---- watching

    /// Watches the node until `enough`, or for this long.
    fn watch(
        &mut self,
        seen: &mut Watched,
        longest: Duration,
        enough: impl Fn(&Watched) -> bool,
    ) -> Result<()> {
        let began = Instant::now();
        let mut last: Option<State> = None;
        let usual = self.usual.clone();
        while began.elapsed() < longest && !seen.died {
            interrupt::check()?;
            if let Some(status) = self.node()?.ended()? {
                let words = tail(&self.node()?.words());
                self.tell(format!("the server ended ({status}): {words}"));
                seen.died = true;
                break;
            }
            let state = self.client()?.state();
            if let Ok(state) = state {
                match state.state.as_str() {
                    "read_only" => {
                        seen.read_only = Some(state.code.clone().unwrap_or_default());
                        seen.resumed = false;
                    }
                    "ready" => {
                        seen.resumed = seen.read_only.is_some();
                        seen.degraded =
                            state.degraded.clone().filter(|words| Some(words) != usual.as_ref());
                    }
                    _ => {}
                }
                if last.as_ref() != Some(&state) {
                    self.tell(format!("{state:?}"));
                    last = Some(state);
                }
            }
            if enough(seen) {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Ok(())
    }

    // ---- scenarios

    fn under_load(&mut self) -> Result<Verdict> {
        if !self.start("at first")? {
            return Ok(Verdict::Red);
        }
        let client = self.client()?;
        let load = Load::start(&client, &self.ledger);
        self.warm_up(&load, BEFORE)?;
        self.make()?;
        if self.cell.moment == Moment::Seal {
            load.pause();
        }
        self.wait_for_strike()?;
        self.endure(load)
    }

    fn warm_up(&mut self, load: &Load, acks: u64) -> Result<()> {
        if !load.wait_for_acks(acks, Duration::from_secs(30)) {
            interrupt::check()?;
            bail!("no {acks} acknowledgements before the fault");
        }
        Ok(())
    }

    /// The fault has struck a server under load, or strikes now.
    fn endure(&mut self, load: Load) -> Result<Verdict> {
        if self.kills() {
            self.node()?.shoot();
            self.unmake()?;
            self.kill()?;
            load.finish();
            self.tell("killed");
            return self.after_a_crash(false);
        }
        let mut seen = Watched::default();
        if self.hangs() && self.lab.disk().hanging() {
            // Somebody comes while it hangs, also where nobody was there when it began to.
            self.watch(&mut seen, Duration::from_millis(500), |_| false)?;
            load.go_on();
            let rest = self.struck.map_or(HANG, |struck| HANG.saturating_sub(struck.elapsed()));
            self.watch(&mut seen, rest, |_| false)?;
            self.unmake()?;
            self.watch(&mut seen, RESUME_MAX, |seen| seen.resumed)?;
        } else {
            let longest = match (self.cell.fault.kind(), self.act()) {
                (_, Some(Act::Slow(time) | Act::SlowFlush(time))) => time + Duration::from_secs(1),
                _ if self.cuts() => Duration::from_secs(3),
                // It hung while the server started, and is over.
                _ if self.hangs() => Duration::from_millis(500),
                (Kind::Lie, _) => Duration::from_millis(500),
                // Nothing comes of it, mostly.
                _ if self.cell.moment == Moment::Repack => Duration::from_secs(3),
                _ => REACTION_MAX,
            };
            let quiet = self.cell.moment == Moment::Seal && self.cell.fault.kind() != Kind::Told;
            if quiet {
                load.go_on();
            }
            self.watch(&mut seen, longest, |seen| {
                seen.read_only.is_some() || seen.degraded.is_some()
            })?;
            load.go_on();
            self.watch(&mut seen, Duration::from_millis(700), |_| false)?;
            if self.cuts() {
                self.kill()?;
                load.finish();
                return self.after_a_crash(true);
            }
            self.unmake()?;
            if seen.read_only.is_some() {
                self.watch(&mut seen, RESUME_MAX, |seen| seen.resumed)?;
            }
        }
        load.pause();
        self.judge_the_living(&seen)?;
        let verdict = self.living_verdict(&seen);
        let resumed = seen.resumed || (seen.read_only.is_none() && !seen.died);
        if resumed {
            load.go_on();
            if !load.wait_for_acks(AFTER, Duration::from_secs(20)) {
                self.forbid("takes no writes although it says it is ready");
            }
            self.wait_for_room()?;
        }
        load.finish();
        self.operate(verdict, resumed)
    }

    /// Want of room is not to be acknowledged: it ends by itself, with the next writes.
    fn wait_for_room(&mut self) -> Result<()> {
        let client = self.client()?;
        let began = Instant::now();
        while client.state()?.degraded.is_some_and(|reason| reason.starts_with("no room"))
            && began.elapsed() < ROOM_MAX
        {
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn living_verdict(&mut self, seen: &Watched) -> Verdict {
        if seen.died {
            let words = "the server ended by itself";
            self.forbid(words);
            return Verdict::Red;
        }
        if self.abilities.heal
            && let Some(heals) = self.cell.heals()
        {
            let healed = seen.read_only.is_none() && seen.degraded.is_some();
            if healed != heals {
                let words =
                    if heals { "does not heal here" } else { "heals where it is not proved" };
                self.forbid(format!("{words}: {:?} {:?}", seen.read_only, seen.degraded));
            }
        }
        match (&seen.read_only, &seen.degraded) {
            (Some(code), _) if seen.resumed => Verdict::Resumed(code.clone()),
            (Some(code), _) => Verdict::Stopped(code.clone()),
            (None, Some(_)) => Verdict::Healed,
            (None, None) => {
                let told = self.cell.fault.kind() == Kind::Told
                    && !matches!(self.cell.fault, Fault::MetadataEio)
                    && !self.about_the_index();
                let noticed = self.cell.moment == Moment::Repack && self.packing_failed();
                if told && !noticed {
                    self.forbid("the disk said that it failed and nobody noticed");
                }
                Verdict::Unharmed
            }
        }
    }

    /// Packing touches nothing of the log before it is proved: its failures are counted, and that
    /// is all that comes of them.
    fn packing_failed(&mut self) -> bool {
        let counted = self.client().and_then(|client| client.metric(REPACK_ERRORS));
        self.tell(format!("{REPACK_ERRORS}: {counted:?}"));
        counted.is_ok_and(|errors| errors > 0.0)
    }

    /// Reads while the node is as the fault left it, and the answers so far.
    fn judge_the_living(&mut self, seen: &Watched) -> Result<()> {
        for words in self.ledger.problems() {
            self.forbid(words);
        }
        for words in judge::late_answers(&self.ledger) {
            self.forbid(words);
        }
        if seen.died {
            return Ok(());
        }
        let one_volume = self.cell.fault == Fault::EioEverywhereOneVolume || self.about_the_index();
        let failures = self.ledger.read_failures();
        if let Some(first) = failures.first()
            && !one_volume
        {
            self.forbid(format!("reads failed: {}, the first: {first}", failures.len()));
        }
        match self.holdings() {
            // Bytes that a lying disk lost may still be in the cache, or not.
            Ok(there) if !self.lies() => {
                for words in judge::check_running(&self.ledger, &there).words() {
                    self.forbid(format!("while it runs: {words}"));
                }
            }
            Ok(_) => {}
            Err(error) if one_volume || self.lies() => self.tell(format!("no export: {error:#}")),
            Err(error) => self.forbid(format!("reads do not go on: {error:#}")),
        }
        self.send_undecided_again()
    }

    /// A record of which nothing is known must not be called unwritten now.
    fn send_undecided_again(&mut self) -> Result<()> {
        let client = self.client()?;
        let undecided: Vec<u64> = self
            .ledger
            .attempts()
            .iter()
            .filter(|attempt| matches!(attempt.told, Told::Indeterminate { .. }))
            .map(|attempt| attempt.claim)
            .take(3)
            .collect();
        for claim in undecided {
            let told = self.ledger.send(&client, claim);
            self.tell(format!("undecided claim {claim} sent again: {told:?}"));
            let answer = client.post("/v1/assert", &crate::server::Claim(claim).body());
            if let Ok(answer) = answer
                && answer.text("code") == "indeterminate"
            {
                let id = answer.text("id").to_owned();
                let read = client.get(&format!("/v1/records/{id}"))?;
                if read.status != 503 {
                    let words = format!(
                        "claim {claim} is undecided, and a read of it is answered {} {}",
                        read.status,
                        read.text("code")
                    );
                    self.forbid(words);
                }
            }
        }
        Ok(())
    }

    /// What an operator does, by the state that the fault left.
    fn operate(&mut self, verdict: Verdict, running: bool) -> Result<Verdict> {
        if verdict == Verdict::Red && self.node.is_none() {
            return Ok(Verdict::Red);
        }
        if running {
            if matches!(verdict, Verdict::Healed) && self.abilities.acknowledge {
                self.acknowledge()?;
            }
            // The harshest end: nothing that was promised may depend on an orderly stop.
            self.kill()?;
            if self.lies() {
                return self.after_a_lie(verdict);
            }
            self.lab.disk().cut_power();
            self.lab.disk().clear();
            self.lab.remount(false)?;
            self.tell("killed, power cut, mounted again");
            self.start("after a power cut")?;
            return self.settle(verdict);
        }
        let whole = self.cell.fault != Fault::EioEverywhereOneVolume && !self.about_the_index();
        if self.abilities.detach && whole && self.rng.random_bool(0.4) {
            if self.detach_and_attach()? {
                return self.settle(verdict);
            }
            return Ok(Verdict::Red);
        }
        let in_place = self.rng.random_bool(0.5) && self.lab.writable();
        self.stop()?;
        self.lab.disk().clear();
        if in_place {
            self.tell("restarted in place");
        } else {
            self.lab.remount(true)?;
            self.tell("stopped, unmounted, checked, mounted");
        }
        self.restart(verdict)
    }

    fn restart(&mut self, verdict: Verdict) -> Result<Verdict> {
        if !self.start("after the fault")? {
            return Ok(Verdict::Red);
        }
        self.settle(verdict)
    }

    fn acknowledge(&mut self) -> Result<()> {
        let client = self.client()?;
        let answer = client.post("/v1/admin/wal/acknowledge", &json!({}))?;
        let state = client.state()?;
        self.tell(format!("acknowledged: {} {state:?}", answer.status));
        if answer.status != 200 || state.degraded != self.usual {
            self.forbid(format!("acknowledge is answered {}, then {state:?}", answer.status));
        }
        Ok(())
    }

    /// Closes the log, checks the volume, opens the log, while the server runs.
    fn detach_and_attach(&mut self) -> Result<bool> {
        let url = self.node()?.url().to_owned();
        let (status, words) = self.place.tool(&["admin", "wal", "detach", "--url", &url])?;
        self.tell(format!("detach: {status:?} {}", tail(&words)));
        if status != Some(0) {
            self.forbid(format!("cannot detach: {}", tail(&words)));
            return Ok(false);
        }
        let reads = self.client()?.get("/v1/query?subject=harness/1&predicate=holds")?;
        if reads.status != 200 {
            self.forbid(format!("a read while detached is answered {}", reads.status));
        }
        self.lab.disk().clear();
        self.lab.remount(true)?;
        let (status, words) = self.place.tool(&["admin", "wal", "attach", "--url", &url])?;
        self.tell(format!("attach: {status:?} {}", tail(&words)));
        let mut seen = Watched { read_only: Some(String::new()), ..Watched::default() };
        self.watch(&mut seen, Duration::from_secs(10), |seen| seen.resumed)?;
        if status != Some(0) || !seen.resumed {
            self.forbid(format!("cannot attach: {}", tail(&words)));
            return Ok(false);
        }
        self.note.get_or_insert_with(|| "attach".into());
        Ok(true)
    }

    fn after_a_crash(&mut self, dark: bool) -> Result<Verdict> {
        for words in self.ledger.problems() {
            self.forbid(words);
        }
        for words in judge::late_answers(&self.ledger) {
            self.forbid(words);
        }
        if dark {
            self.lab.disk().clear();
            self.lab.remount(false)?;
            self.tell("mounted again");
        }
        self.restart(Verdict::Unharmed)
    }

    /// The disk lied and the server was killed: the next start must find out.
    fn after_a_lie(&mut self, verdict: Verdict) -> Result<Verdict> {
        self.lab.disk().clear();
        self.lab.remount(false)?;
        self.node = Some(self.place.spawn()?);
        match self.node()?.started(START_MAX)? {
            Started::Ready => {
                let there = self.holdings()?;
                let findings = judge::check(&self.ledger, &there, None);
                if findings.lost.is_empty() {
                    self.tell("nothing was lost by the lie");
                    return self.settle(verdict);
                }
                for words in findings.words() {
                    self.forbid(format!("not detected: {words}"));
                }
                Ok(Verdict::Red)
            }
            Started::Waiting => {
                self.forbid(format!("a start on damage takes over {START_MAX:?}"));
                Ok(Verdict::Red)
            }
            Started::Refused { words, .. } => {
                self.node = None;
                self.judge_a_refusal(&words, true)?;
                let (status, told) = self.verify()?;
                // A file system with checksums of its own does not give the bytes out at all.
                let unreadable = status == Some(2) && told.contains("Input/output error");
                if status != Some(1) && !unreadable {
                    self.forbid(format!(
                        "the start says damage, and `wal verify` exits {status:?}: {}",
                        tail(&told)
                    ));
                }
                self.without_the_index()?;
                Ok(Verdict::Detected)
            }
        }
    }

    /// Damage with no witness but the log itself.
    fn without_the_index(&mut self) -> Result<()> {
        std::fs::remove_dir_all(&self.place.index)?;
        self.node = Some(self.place.spawn()?);
        match self.node()?.started(START_MAX)? {
            Started::Ready => {
                let there = self.holdings()?;
                let findings = judge::check(&self.ledger, &there, None);
                self.kill()?;
                if judge::only_the_tail(&findings, &there) {
                    let words = match findings.lost.len() {
                        0 => "unharmed".to_owned(),
                        lost => format!("undetectable, tail of {lost}"),
                    };
                    self.note = Some(format!("without index: {words}"));
                } else {
                    for words in findings.words() {
                        self.forbid(format!("not detected without the index: {words}"));
                    }
                }
            }
            Started::Refused { words, .. } => {
                self.node = None;
                self.judge_a_refusal(&words, true)?;
            }
            Started::Waiting => self.forbid("a start on damage without the index does not end"),
        }
        Ok(())
    }

    fn judge_a_refusal(&mut self, words: &str, damage: bool) -> Result<()> {
        self.tell(format!("refused: {}", tail(words)));
        for problem in judge::explains_itself(words, damage) {
            self.forbid(problem);
        }
        for command in judge::commands_named(words) {
            if let Some(problem) = self.unknown(&command)? {
                self.forbid(problem);
            }
        }
        // A flag by itself is one of `serve`.
        let flags = words.split('`').filter(|quoted| quoted.starts_with("--"));
        let flags: Vec<String> = flags.map(str::to_owned).collect();
        if !flags.is_empty() {
            let command = judge::Named { words: vec!["serve".into()], flags };
            if let Some(problem) = self.unknown(&command)? {
                self.forbid(problem);
            }
        }
        Ok(())
    }

    /// What is wrong with a command that people are told to type.
    fn unknown(&self, command: &judge::Named) -> Result<Option<String>> {
        let (mut path, mut help) = (Vec::new(), self.place.tool(&["--help"])?.1);
        for word in &command.words {
            if !help.contains("Commands:") {
                break;
            }
            path.push(word.as_str());
            let (status, words) = self.place.tool(&[path.as_slice(), &["--help"]].concat())?;
            if status != Some(0) {
                return Ok(Some(format!(
                    "names `stemedb {}`, which is no command",
                    path.join(" ")
                )));
            }
            help = words;
        }
        let missing = command.flags.iter().find(|flag| !help.contains(flag.as_str()));
        Ok(missing
            .map(|flag| format!("names `stemedb {} {flag}`, which is no flag", path.join(" "))))
    }

    fn verify(&mut self) -> Result<(Option<i32>, String)> {
        let wal = self.place.wal.display().to_string();
        self.place.tool(&["wal", "verify", &wal])
    }

    /// It runs again: everything must be as promised now, after another power cut, and with an index
    /// made anew.
    fn settle(&mut self, verdict: Verdict) -> Result<Verdict> {
        if self.node.is_none() {
            return Ok(Verdict::Red);
        }
        let there = self.holdings().context("an export after the restart")?;
        self.judge(&there, "after the restart");
        self.earlier = Some(Earlier::new(there, &self.ledger));

        let client = self.client()?;
        self.send_unwritten_again(&client);
        for _ in 0..AFTER {
            let told = self.ledger.send_next(&client);
            if told.promised().is_none() {
                self.forbid(format!("takes no writes after the restart: {told:?}"));
                break;
            }
        }
        self.kill()?;
        self.lab.disk().cut_power();
        self.lab.remount(true)?;
        if !self.start("after another power cut")? {
            return Ok(Verdict::Red);
        }
        let there = self.holdings()?;
        self.judge(&there, "after another power cut");
        self.stop()?;
        std::fs::remove_dir_all(&self.place.index)?;
        if !self.start("without its index")? {
            return Ok(Verdict::Red);
        }
        let again = self.holdings()?;
        self.judge(&again, "with a new index");
        if again != there {
            self.forbid("a new index tells another story than the old one");
        }
        self.stop()?;
        let (status, words) = self.verify()?;
        if status != Some(0) {
            self.forbid(format!(
                "the server runs on it, and `wal verify` exits {status:?}: {}",
                tail(&words)
            ));
        }
        Ok(verdict)
    }

    fn judge(&mut self, there: &Holdings, when: &str) {
        let findings: Findings = judge::check(&self.ledger, there, self.earlier.as_ref());
        self.tell(format!("{} claims are there {when}", there.len()));
        for words in findings.words() {
            self.forbid(format!("{when}: {words}"));
        }
    }

    fn send_unwritten_again(&mut self, client: &Client) {
        let unwritten: Vec<u64> = self
            .ledger
            .by_claim()
            .into_iter()
            .filter(|(_, attempts)| {
                attempts.iter().all(|one| matches!(one.told, Told::NotWritten { .. }))
            })
            .map(|(claim, _)| claim)
            .collect();
        let step = (unwritten.len() / RESENT).max(1);
        for claim in unwritten.into_iter().step_by(step).take(RESENT) {
            let told = self.ledger.send(client, claim);
            if !matches!(told, Told::Created { .. }) {
                self.forbid(format!("claim {claim} was not written; sent again: {told:?}"));
            }
        }
    }

    /// The fault is there when the server starts: for the first time, or after a power cut that tore
    /// the last group.
    fn while_starting(&mut self) -> Result<Verdict> {
        if self.cell.moment == Moment::Recovery {
            self.tear_the_tail()?;
        }
        self.make()?;
        self.node = Some(self.place.spawn()?);
        let began = Instant::now();
        let started = loop {
            interrupt::check()?;
            if self.struck.is_none() {
                self.struck = self.lab.disk().first_hit();
            }
            let started = self.node()?.started(Duration::from_millis(20))?;
            match started {
                Started::Waiting if self.kills() && self.struck.is_some() => {
                    self.node()?.shoot();
                    self.unmake()?;
                    self.kill()?;
                    self.tell("killed while starting");
                    return self.restart(Verdict::Unharmed);
                }
                Started::Waiting if self.hangs() && self.lab.disk().hanging() => {
                    std::thread::sleep(Duration::from_millis(200));
                    if self.struck.is_some_and(|struck| struck.elapsed() > HANG) {
                        self.tell("the start waits for the device");
                        self.unmake()?;
                    }
                }
                Started::Waiting if began.elapsed() > START_MAX => break started,
                Started::Waiting => {}
                _ => break started,
            }
        };
        if self.struck.is_none() {
            self.struck = self.lab.disk().first_hit();
        }
        match started {
            Started::Waiting => {
                self.forbid(format!("the start does not end within {START_MAX:?}"));
                Ok(Verdict::Red)
            }
            Started::Refused { words, .. } => {
                self.node = None;
                if self.lies() {
                    self.judge_a_refusal(&words, true)?;
                    return Ok(Verdict::Detected);
                }
                if self.struck.is_none() {
                    self.forbid(format!("refused before the fault struck: {}", tail(&words)));
                }
                if self.cuts() || self.cell.fault == Fault::EioEverywhereOneVolume {
                    self.tell(format!("refused: {}", tail(&words)));
                } else {
                    self.judge_a_refusal(&words, false)?;
                }
                let dark = self.lab.disk().dark();
                self.lab.disk().clear();
                if matches!(self.means, Means::VolumeFull) {
                    self.lab.empty()?;
                }
                if dark || self.rng.random_bool(0.5) || !self.lab.writable() {
                    self.lab.remount(!dark)?;
                    self.tell("unmounted and mounted");
                }
                self.restart(Verdict::Refused)
            }
            Started::Ready => {
                let client = self.client()?;
                let load = Load::start(&client, &self.ledger);
                if self.struck.is_none() {
                    self.note = Some("struck after the start".into());
                    self.wait_for_strike()?;
                }
                if !self.hangs()
                    && !self.kills()
                    && !self.cuts()
                    && self.cell.fault.kind() != Kind::Told
                {
                    self.warm_up(&load, AFTER)?;
                }
                self.endure(load)
            }
        }
    }

    /// A log whose last group arrived only in part.
    fn tear_the_tail(&mut self) -> Result<()> {
        if !self.start("at first")? {
            bail!("it did not start at first");
        }
        let client = self.client()?;
        let load = Load::start(&client, &self.ledger);
        self.warm_up(&load, BEFORE)?;
        let skip = self.rng.random_range(0..4);
        self.arm(Plan {
            aim: Aim::MidGroup,
            act: Act::TornThenCut,
            times: Times::Once,
            skip,
            second: false,
        });
        self.wait_for_strike()?;
        self.struck = None;
        self.kill()?;
        load.finish();
        self.ledger.forgive_reads();
        self.lab.disk().clear();
        self.lab.remount(false)?;
        self.tell("the last group is torn");
        Ok(())
    }

    /// The log of a running server cannot be read. Records are read from the index, so nobody but
    /// the inspector should notice, and it must not call that damage, nor whole.
    fn fail_reads(&mut self, plan: Plan) -> Result<Verdict> {
        if !self.start("at first")? {
            return Ok(Verdict::Red);
        }
        let client = self.client()?;
        let load = Load::start(&client, &self.ledger);
        self.warm_up(&load, 4 * BEFORE)?;
        load.pause();
        self.forget_cached(&self.place.wal)?;
        self.arm(plan);
        let (status, words) = self.verify()?;
        self.struck = self.lab.disk().first_hit();
        self.tell(format!("`wal verify` exits {status:?}: {}", tail(&words)));
        if self.struck.is_none() {
            bail!("nothing was read from the disk");
        }
        if status != Some(2) || !words.contains("segment.") {
            self.forbid(format!("unreadable: `wal verify` exits {status:?}: {}", tail(&words)));
        }
        let mut seen = Watched::default();
        self.watch(&mut seen, Duration::from_millis(300), |_| false)?;
        self.judge_the_living(&seen)?;
        load.go_on();
        if seen.read_only.is_none() && !load.wait_for_acks(AFTER, Duration::from_secs(20)) {
            self.forbid("takes no writes although it says it is ready");
        }
        load.finish();
        self.lab.disk().clear();
        let (status, words) = self.verify()?;
        if status != Some(0) {
            self.forbid(format!("readable: `wal verify` exits {status:?}: {}", tail(&words)));
        }
        self.note = Some("`wal verify` exits 2".into());
        self.operate(Verdict::Detected, true)
    }

    /// Drops what the kernel remembers of the files in a folder.
    fn forget_cached(&self, folder: &Path) -> Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let file = File::open(entry?.path())?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        Ok(())
    }

    /// Files of the log change while the server is stopped.
    fn change_files(&mut self, change: FileChange) -> Result<Verdict> {
        if !self.start("at first")? {
            return Ok(Verdict::Red);
        }
        let client = self.client()?;
        let load = Load::start(&client, &self.ledger);
        self.warm_up(&load, BEFORE)?;
        while self.segments()?.len() < 5 {
            self.warm_up(&load, BEFORE)?;
        }
        let copy = self.place.wal.with_extension("copy");
        let segments = self.segments()?;
        // The last one is prepared and empty.
        let active = segments.iter().rev().nth(1).context("no segment is in use")?.clone();
        std::fs::copy(&active, &copy)?;
        self.warm_up(&load, BEFORE)?;
        load.finish();
        self.stop()?;
        let used = segments.len() - 1;
        let (middle, other) = (used / 2, self.rng.random_range(0..used / 2));
        let (Some(middle), Some(other)) = (segments.get(middle), segments.get(other)) else {
            bail!("too few segments");
        };
        let aside = middle.with_extension("aside");
        let swap = |one: &PathBuf, two: &PathBuf| -> std::io::Result<()> {
            std::fs::rename(one, &aside)?;
            std::fs::rename(two, one)?;
            std::fs::rename(&aside, two)
        };
        let kept = self.lab.path().join("kept");
        match change {
            FileChange::Missing => std::fs::rename(middle, &kept)?,
            FileChange::Swapped => swap(middle, other)?,
            FileChange::Old => {
                std::fs::rename(&active, &kept)?;
                std::fs::copy(&copy, &active)?;
            }
        }
        self.tell(format!("{change:?}: {} of {used} segments", middle.display()));
        self.node = Some(self.place.spawn()?);
        let verdict = match self.node()?.started(START_MAX)? {
            Started::Ready => {
                self.forbid("started as if nothing were");
                self.kill()?;
                return Ok(Verdict::Red);
            }
            Started::Waiting => bail!("the start does not end"),
            Started::Refused { words, .. } => {
                self.node = None;
                self.judge_a_refusal(&words, true)?;
                let (status, told) = self.verify()?;
                // An older copy of a whole group is found by the index only.
                if status != Some(1) && change != FileChange::Old {
                    self.forbid(format!("`wal verify` exits {status:?}: {}", tail(&told)));
                }
                Verdict::Detected
            }
        };
        // The refused start must have changed nothing that the way back needs.
        match change {
            FileChange::Missing => std::fs::rename(&kept, middle)?,
            FileChange::Swapped => swap(middle, other)?,
            FileChange::Old => std::fs::rename(&kept, &active)?,
        }
        self.restart(verdict)
    }

    /// The disk fails under the repair of a damaged segment. The damage must stay as it was, and the
    /// next attempt must give what can be had.
    fn repair(&mut self, plan: Plan) -> Result<Verdict> {
        if !self.start("at first")? {
            return Ok(Verdict::Red);
        }
        let client = self.client()?;
        let load = Load::start(&client, &self.ledger);
        while self.segments()?.len() < 4 {
            self.warm_up(&load, BEFORE)?;
        }
        load.finish();
        self.stop()?;
        let segments = self.segments()?;
        let segment = segments.get(1).context("too few segments")?.clone();
        let block = u64::from(self.rng.random_range(20..120_u32));
        flip(&segment, block * 4096 + self.rng.random_range(0..500))?;
        let damaged = std::fs::read(&segment)?;
        self.tell(format!("block {block} of {} is damaged", segment.display()));
        self.lab.remount(false)?;

        let output = self.lab.path().join("repaired");
        self.arm(plan);
        let (status, words) = self.run_repair(&segment, &output)?;
        self.struck = self.lab.disk().first_hit();
        self.tell(format!("`wal repair` exits {status:?}: {}", tail(&words)));
        if self.struck.is_none() {
            bail!("the fault never struck");
        }
        let dark = self.lab.disk().dark();
        self.lab.disk().clear();
        self.lab.remount(!dark)?;
        let found = std::fs::read(&segment);
        if !found.as_ref().is_ok_and(|found| *found == damaged) {
            // A file system with checksums does not give the changed block out.
            let how = found.err().map_or_else(String::new, |error| format!(": {error}"));
            match self.act() {
                // It is the disk that put a block of the result there.
                Some(Act::Misdirect) => {
                    self.tell(format!("the disk changed the input of the repair{how}"));
                }
                _ => self.forbid(format!("a repair changed its input{how}")),
            }
        }
        let named = status.is_none() || words.contains("repaired") || words.contains("segment.");
        if !named || words.contains("panicked") {
            self.forbid(format!("a failed repair names no file: {}", tail(&words)));
        }
        let mut verdict = if status == Some(0) { Verdict::Unharmed } else { Verdict::Refused };
        if status == Some(0) {
            let file = output.display().to_string();
            let (status, words) = self.place.tool(&["wal", "verify", "--file", &file])?;
            if status != Some(0) {
                verdict = Verdict::Detected;
                self.tell(format!("`wal verify` of the result exits {status:?}: {}", tail(&words)));
                if self.cell.fault.kind() == Kind::Told {
                    self.forbid("the disk said that it failed, and the repair called it written");
                }
            }
        }
        if verdict != Verdict::Unharmed {
            for file in [output.clone(), output.with_extension("rejected")] {
                // A failed repair may have made it or not.
                let _ = std::fs::remove_file(file);
            }
            let (status, words) = self.run_repair(&segment, &output)?;
            if status != Some(0) {
                self.forbid(format!("the next repair exits {status:?}: {}", tail(&words)));
                return Ok(Verdict::Red);
            }
        }
        self.take_repaired(&segment, &output)?;
        Ok(verdict)
    }

    fn run_repair(&mut self, segment: &Path, output: &Path) -> Result<(Option<i32>, String)> {
        let (segment, output) = (segment.display().to_string(), output.display().to_string());
        let data = self.place.data.display().to_string();
        let mut child = std::process::Command::new(&self.place.binary)
            .args(["wal", "repair", "--segment", &segment, "--output", &output])
            .args(["--accept-loss", "--data-dir", &data])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        let began = Instant::now();
        while child.try_wait()?.is_none() {
            interrupt::check()?;
            let struck = self.lab.disk().first_hit();
            // Only the first one; after it, `self.struck` is set.
            if self.kills() && self.struck.is_none() && struck.is_some() {
                child.kill()?;
                self.lab.disk().clear();
            }
            if struck.is_some_and(|struck| struck.elapsed() > HANG) {
                self.lab.disk().clear();
            }
            if began.elapsed() > START_MAX {
                child.kill()?;
                self.lab.disk().clear();
                bail!("a repair does not end within {START_MAX:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output()?;
        let words = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&words).trim().to_owned()))
    }

    /// Puts the repaired segment in its place: what is lost then must be what the tool said.
    fn take_repaired(&mut self, segment: &Path, output: &Path) -> Result<()> {
        std::fs::rename(segment, self.lab.path().join("kept"))?;
        std::fs::rename(output, segment)?;
        let (status, words) = self.verify()?;
        if status != Some(0) {
            self.forbid(format!("verify of what was repaired: {status:?} {}", tail(&words)));
        }
        let (status, words) = self.place.tool(&["admin", "reindex"])?;
        if status != Some(0) {
            self.forbid(format!("reindex after a repair: {status:?} {}", tail(&words)));
        }
        if !self.start("on what was repaired")? {
            return Ok(());
        }
        let there = self.holdings()?;
        let findings = judge::check(&self.ledger, &there, None);
        let lost = findings.lost.len();
        self.note = Some(format!("{lost} given up"));
        for words in findings.others.iter().filter(|words| !words.starts_with("read once and gone"))
        {
            self.forbid(format!("after a repair: {words}"));
        }
        let client = self.client()?;
        for (claim, position) in findings.lost {
            let answer = client.get(&format!("/v1/positions/{position}"))?;
            if answer.status != 410 {
                let status = answer.status;
                self.forbid(format!("claim {claim}, given up at {position}, is answered {status}"));
            }
        }
        if lost == 0 || lost > 400 {
            self.forbid(format!("a repair of one block gave up {lost} claims"));
        }
        for _ in 0..AFTER {
            let told = self.ledger.send_next(&client);
            if told.promised().is_none() {
                self.forbid(format!("takes no writes after a repair: {told:?}"));
                break;
            }
        }
        Ok(())
    }

    /// Segments by number.
    fn segments(&self) -> Result<Vec<PathBuf>> {
        let mut segments: Vec<PathBuf> = std::fs::read_dir(&self.place.wal)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
            .collect();
        segments.sort();
        Ok(segments)
    }

    fn jump_the_clock(&mut self) -> Result<Verdict> {
        let Some(library) = &self.abilities.faketime else {
            return Ok(Verdict::Absent("libfaketime is not installed"));
        };
        let offset = self.place.said.with_extension("clock");
        std::fs::write(&offset, "+0")?;
        self.place.environment = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        if !self.start("at first")? {
            return Ok(Verdict::Red);
        }
        let client = self.client()?;
        let load = Load::start(&client, &self.ledger);
        self.warm_up(&load, BEFORE)?;
        std::fs::write(&offset, "+3600")?;
        self.struck = Some(Instant::now());
        self.tell("the wall clock is an hour ahead");
        let mut seen = Watched::default();
        self.watch(&mut seen, Duration::from_secs(5), |seen| seen.read_only.is_some())?;
        self.watch(&mut seen, Duration::from_millis(300), |_| false)?;
        std::fs::write(&offset, "+0")?;
        load.pause();
        self.judge_the_living(&seen)?;
        client.post("/v1/admin/wal/acknowledge", &Value::Null)?;
        let told = self.ledger.send_next(&client);
        if told.promised().is_none() {
            self.forbid(format!("once the clock is acknowledged a write is answered {told:?}"));
        }
        load.finish();
        self.place.environment.clear();
        let verdict = self.living_verdict(&seen);
        self.stop()?;
        self.restart(verdict)
    }

    // ---- the end

    fn report(mut self, verdict: Verdict, took: Duration) -> Report {
        for words in judge::late_answers(&self.ledger) {
            if !self.red.contains(&words) {
                self.forbid(words);
            }
        }
        let attempts = self.ledger.attempts();
        let count = |wanted: fn(&Told) -> bool| {
            attempts.iter().filter(|attempt| wanted(&attempt.told)).count()
        };
        let slowest = attempts.iter().map(|attempt| attempt.took).max().unwrap_or_default();
        let gap = self.struck.and_then(|struck| {
            let struck = self.ledger.moment(struck);
            let acked = attempts.iter().filter(|attempt| attempt.told.promised().is_some());
            let next =
                acked.map(super::load::Attempt::ended).filter(|ended| *ended > struck).min()?;
            Some((next - struck).as_secs_f64())
        });
        let reads = self.ledger.reads.load(Ordering::Relaxed);
        self.tell(format!("{reads} reads on the way"));
        if !self.red.is_empty()
            && let Ok(said) = std::fs::read_to_string(&self.place.said)
        {
            let lines: Vec<&str> = said.lines().collect();
            let from = lines.len().saturating_sub(60);
            self.story.extend(lines.iter().skip(from).map(|line| format!("said: {line}")));
        }
        let settled_there = self.earlier.as_ref().map_or(0, |earlier| {
            let undecided = |attempt: &&super::load::Attempt| {
                matches!(attempt.told, Told::Indeterminate { .. }) && earlier.has(attempt.claim)
            };
            attempts.iter().filter(undecided).count()
        });
        let indeterminate = count(|told| matches!(told, Told::Indeterminate { .. }));
        let verdict = match verdict {
            _ if !self.red.is_empty() => Verdict::Red,
            Verdict::Unharmed if indeterminate > 0 => Verdict::Told,
            verdict => verdict,
        };
        Report {
            cell: self.cell,
            verdict,
            acks: count(|told| told.promised().is_some()),
            not_written: count(|told| matches!(told, Told::NotWritten { .. })),
            indeterminate,
            unanswered: count(|told| matches!(told, Told::Nothing { .. })),
            settled_there,
            gap,
            slowest: slowest.as_secs_f64(),
            note: self.note.take(),
            red: std::mem::take(&mut self.red),
            story: std::mem::take(&mut self.story),
            took,
        }
    }
}

/// Flips one bit of a file, durably.
fn flip(path: &Path, at: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&byte.map(|byte| byte ^ 1), at)?;
    Ok(file.sync_all()?)
}

/// The end of a text, as one line.
fn tail(words: &str) -> String {
    let lines: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(4);
    lines.iter().skip(from).copied().collect::<Vec<_>>().join(" / ")
}

const _: () = assert!(ANSWER_MAX.as_secs() < HANG.as_secs());
