//! Errors of system calls, injected into the binary under test. In each run one thread of the
//! server meets one fault at one call on a file of the log, once or from then on, while many
//! writers and readers talk to it. Then it is started again without faults, and once more without
//! its index, and everything that anybody was told is judged.
//!
//! `strace` replaces the call by its error, so the call is not made: a write that "failed" left
//! nothing, a close that "failed" leaks. It counts calls by thread, therefore it follows only one:
//! the main thread from its first instruction (a first start, a recovery), or the committer or the
//! worker of the log once the server is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use crate::mount::run as run_command;
use crate::outcomes::{Answer, Journal, Verdict};
use crate::server::Start;
use crate::talk::{Author, Line, Statement, Talk};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Faults to try, drawn from all that are possible; 0: all of them.
    #[arg(long, default_value_t = 60)]
    runs: usize,
    /// At most this call of its kind fails.
    #[arg(long, default_value_t = 40)]
    nth_max: u64,
    /// Concurrent writers.
    #[arg(long, default_value_t = 12)]
    writers: usize,
    /// Claims that each of them sends.
    #[arg(long, default_value_t = 40)]
    claims: usize,
    /// Runs at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only these faults, as a run prints them: `committer:fdatasync:EIO:3:once`.
    #[arg(long)]
    only: Vec<Fault>,
    /// Longest that an answer may take, in seconds: ten, and a margin for a laden machine.
    #[arg(long, default_value_t = 14)]
    answer_max: u64,
    /// A single error of the commit path must be healed: nobody is told anything but 201.
    #[arg(long)]
    require_heal: bool,
    /// A wrong behaviour to switch on (needs a build with the feature `mutants`).
    #[arg(long)]
    mutant: Option<String>,
    /// Succeed only if a broken promise is found: the test of the test.
    #[arg(long)]
    expect_problem: bool,
}

/// Small segments, so that a run rotates and prepares.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Paths that are watched for: more segments than a run makes.
const SEGMENTS: u64 = 40;
const READERS: usize = 2;
/// Runs from one line about the progress to the next.
const PROGRESS_RUNS: usize = 100;
/// A drain ends within 25 s.
const END_MAX: Duration = Duration::from_secs(40);
const CALLS: [&str; 13] = [
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "fallocate",
    "ftruncate",
    "close",
    "openat",
    "unlink",
    "unlinkat",
];

/// The thread that meets the fault, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The main thread of a first start.
    Create,
    /// The main thread of a start after a kill.
    Recover,
    /// The thread that appends.
    Committer,
    /// The thread that prepares segments and finishes them.
    Worker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Errno(&'static str),
    /// The call is made, and returns after so many milliseconds.
    Delay(u64),
    /// The process is killed before the call.
    Kill,
}

/// What goes wrong in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    place: Place,
    call: &'static str,
    effect: Effect,
    /// Which call of its kind by that thread on a file of the log, from 1.
    nth: u64,
    /// That call and all after it.
    always: bool,
}

const PLACES: [(Place, &str); 4] = [
    (Place::Create, "create"),
    (Place::Recover, "recover"),
    (Place::Committer, "committer"),
    (Place::Worker, "wal-worker"),
];
const ERRNOS: [&str; 6] = ["EIO", "ENOSPC", "EROFS", "EINTR", "EMFILE", "EDQUOT"];
/// One that is warned of, one that is a hang.
const DELAYS: [u64; 2] = [1_500, 12_000];

/// What may go wrong with a call, and whether also for good.
fn effects(call: &str) -> Vec<(Effect, bool)> {
    let errno = |names: &[&'static str]| -> Vec<(Effect, bool)> {
        names
            .iter()
            .flat_map(|name| [(Effect::Errno(name), false), (Effect::Errno(name), true)])
            .collect()
    };
    let mut effects = match call {
        "write" | "pwrite64" | "fsync" | "fdatasync" => {
            errno(&["EIO", "ENOSPC", "EROFS", "EDQUOT"])
        }
        "fallocate" => errno(&["EIO", "ENOSPC", "EROFS"]),
        "openat" => errno(&["EIO", "ENOSPC", "EROFS", "EMFILE"]),
        "close" => errno(&["EIO", "ENOSPC"]),
        _ => errno(&["EIO", "ENOSPC", "EROFS"]),
    };
    // A call that is interrupted for ever is nothing that a system does.
    effects.push((Effect::Errno("EINTR"), false));
    effects.push((Effect::Kill, false));
    if matches!(call, "pwrite64" | "fdatasync" | "fsync") {
        effects.extend(DELAYS.map(|ms| (Effect::Delay(ms), false)));
    }
    effects
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = PLACES.iter().find(|(place, _)| *place == self.place).map_or("", |(_, n)| n);
        let often = if self.always { "always" } else { "once" };
        write!(f, "{place}:{}:{}:{}:{often}", self.call, self.effect, self.nth)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(name) => f.write_str(name),
            Self::Delay(ms) => write!(f, "delay={ms}"),
            Self::Kill => f.write_str("KILL"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: expected PLACE:CALL:EFFECT:N:once or :always");
        let parts: Vec<&str> = text.split(':').collect();
        let [place, call, effect, nth, often] = parts.as_slice() else { return Err(wrong()) };
        let effect = match effect.split_once('=') {
            Some(("delay", ms)) => Effect::Delay(ms.parse().map_err(|_| wrong())?),
            Some(_) => return Err(wrong()),
            None if *effect == "KILL" => Effect::Kill,
            None => {
                let name = ERRNOS.iter().find(|name| *name == effect).ok_or_else(wrong)?;
                Effect::Errno(name)
            }
        };
        let always = match *often {
            "once" => false,
            "always" => true,
            _ => return Err(wrong()),
        };
        Ok(Self {
            place: PLACES.iter().find(|(_, name)| name == place).ok_or_else(wrong)?.0,
            call: CALLS.iter().find(|name| *name == call).ok_or_else(wrong)?,
            effect,
            nth: nth.parse().map_err(|_| wrong())?,
            always,
        })
    }
}

impl Fault {
    fn injection(&self) -> String {
        let effect = match self.effect {
            Effect::Errno(name) => format!("error={name}"),
            Effect::Delay(ms) => format!("delay_exit={}", ms * 1_000),
            Effect::Kill => "signal=KILL".to_owned(),
        };
        let more = if self.always { "+" } else { "" };
        format!("inject={}:{effect}:when={}{more}", self.call, self.nth)
    }
}

/// Arguments of `strace` that make it see calls on files of the log, and nothing else.
fn watch(wal: &Path, trace: &Path, fault: Option<&Fault>) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-y", "-o", &trace.to_string_lossy(), "-e", &format!("trace={}", CALLS.join(","))]
            .map(str::to_owned)
            .to_vec();
    if let Some(fault) = fault {
        arguments.extend(["-e".to_owned(), fault.injection()]);
    }
    let names = (1..=SEGMENTS).map(|n| format!("segment.{n:03}.wal"));
    let names = names.flat_map(|name| [format!("{name}.tmp"), format!("{name}.rejected"), name]);
    let others = ["verified", "verified.tmp"].map(str::to_owned);
    let paths = names.chain(others).map(|name| wal.join(name)).chain([wal.to_owned()]);
    arguments.extend(paths.flat_map(|path| ["-P".to_owned(), path.to_string_lossy().into_owned()]));
    arguments
}

/// A tracer on one thread of a server; gone when dropped.
struct Tracer(Child);

impl Tracer {
    fn attach(thread: u32, arguments: &[String]) -> Result<Self> {
        let mut tracer = Command::new("strace")
            .args(arguments)
            .args(["-p", &thread.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = tracer.stderr.take().context("strace has a standard error")?;
        let mut words = String::new();
        BufReader::new(stderr).read_line(&mut words)?;
        let tracer = Self(tracer);
        if !words.contains("attached") {
            bail!("strace: {}", words.trim());
        }
        Ok(tracer)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It ends with the thread it follows; if that is still there, it lets it go.
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        if matches!(self.0.try_wait(), Ok(None))
            && let Some(pid) = pid
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// The thread of this name.
fn thread_of(process: u32, name: &str) -> Result<u32> {
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?;
        if std::fs::read_to_string(task.path().join("comm"))?.trim() == name {
            return Ok(task.file_name().to_string_lossy().parse()?);
        }
    }
    bail!("the server has no thread named {name}")
}

/// A database that was killed in the middle of its work, to begin runs with.
struct Template {
    data_dir: PathBuf,
    acked: Vec<(Statement, u64)>,
}

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    run_command(Command::new("strace").arg("-V")).context("this harness needs strace")?;
    let scratch = tempfile::tempdir()?;
    let mut rng = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    let template = template(args, binary, scratch.path())?;
    let faults = if args.only.is_empty() {
        let mut faults = Vec::new();
        for (place, name) in PLACES {
            let bench = Bench { args, binary, scratch: scratch.path(), template: &template };
            let report = bench.run(place, None, 0, "dry")?;
            if !report.problems().is_empty() {
                bail!("without any fault: {}", report.problems().join("\n"));
            }
            println!("{name}: {}", words(&report.calls));
            for (call, count) in report.calls {
                for (effect, always) in effects(call) {
                    let nths = 1..=count.min(args.nth_max);
                    faults.extend(nths.map(|nth| Fault { place, call, effect, nth, always }));
                }
            }
        }
        faults
    } else {
        args.only.clone()
    };
    let possible = faults.len();
    let chosen = draw(faults, args, &mut rng);
    let seeds: Vec<u64> = chosen.iter().map(|_| rng.random()).collect();
    let bar = ProgressBar::new(chosen.len() as u64);
    let next = AtomicUsize::new(0);
    let reports: Mutex<Vec<Report>> = Mutex::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs.max(1))
            .map(|job| {
                let bench = Bench { args, binary, scratch: scratch.path(), template: &template };
                let (next, reports, chosen, seeds, bar) = (&next, &reports, &chosen, &seeds, &bar);
                scope.spawn(move || -> Result<()> {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(fault), Some(seed)) = (chosen.get(n), seeds.get(n)) else {
                            return Ok(());
                        };
                        let name = format!("job-{job}");
                        let report = bench
                            .run(fault.place, Some(fault), *seed, &name)
                            .with_context(|| fault.to_string())?;
                        let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
                        reports.push(report);
                        bar.inc(1);
                        // A log file has no bar.
                        if reports.len().is_multiple_of(PROGRESS_RUNS) {
                            let broken =
                                reports.iter().filter(|one| !one.problems().is_empty()).count();
                            let (done, all) = (reports.len(), chosen.len());
                            bar.suspend(|| eprintln!("{done} of {all} runs, {broken} broken"));
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a worker panicked"),
        })
    })?;
    bar.finish_and_clear();
    let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    let broken = summary(&reports, possible, started.elapsed());
    let met = reports.iter().filter(|report| report.fired).count();
    Ok(met > 0 && (broken == 0) != args.expect_problem)
}

/// As many as asked for, every kind of fault at least once while there is room.
fn draw(mut faults: Vec<Fault>, args: &Args, rng: &mut StdRng) -> Vec<Fault> {
    if !args.only.is_empty() || args.runs == 0 || faults.len() <= args.runs {
        return faults;
    }
    faults.shuffle(rng);
    let mut kinds = BTreeSet::new();
    let (mut first, rest): (Vec<Fault>, Vec<Fault>) = faults
        .into_iter()
        .partition(|fault| kinds.insert((fault.place, fault.call, fault.effect, fault.always)));
    first.extend(rest);
    first.truncate(args.runs);
    first
}

fn words(calls: &BTreeMap<&'static str, u64>) -> String {
    let words: Vec<String> = calls.iter().map(|(call, count)| format!("{count} {call}")).collect();
    words.join(", ")
}

fn summary(reports: &[Report], possible: usize, took: Duration) -> usize {
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let mut answers: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut there, mut not_there, mut slowest) = (0, 0, Duration::ZERO);
    let mut broken = 0;
    for report in reports {
        if !report.problems().is_empty() {
            broken += 1;
            println!("BROKEN {}", report.fault.map_or(String::new(), |fault| fault.to_string()));
            for problem in report.problems().iter().take(3) {
                println!("  {problem}");
            }
        }
        let end = if report.fired { report.end.as_str() } else { "not reached" };
        *ends.entry(end.to_owned()).or_default() += 1;
        for (answer, count) in &report.verdict.answers {
            *answers.entry(answer).or_default() += count;
        }
        there += report.verdict.settled.0;
        not_there += report.verdict.settled.1;
        slowest = slowest.max(report.verdict.slowest);
    }
    println!(
        "inject: {} runs of {possible} possible, {broken} with problems; {took:.0?}",
        reports.len()
    );
    let list = |map: BTreeMap<String, usize>| {
        map.into_iter()
            .map(|(what, count)| format!("{count} {what}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    println!("  ends: {}", list(ends));
    let answers = answers.into_iter().map(|(answer, count)| (answer.to_owned(), count)).collect();
    println!(
        "  answers: {}; of the indeterminate {there} are there and {not_there} are not; \
         slowest {slowest:.1?}",
        list(answers)
    );
    broken
}

/// Kills a server that has rotated a few times.
fn template(args: &Args, binary: &Path, scratch: &Path) -> Result<Template> {
    let data_dir = scratch.join("template");
    let start = Start {
        binary,
        data_dir: &data_dir,
        segment_bytes: SEGMENT_BYTES,
        mutant: args.mutant.as_deref(),
        under: &[],
    };
    let server = start.ready()?;
    let (journal, reads) = (Journal::new(Duration::from_secs(60)), AtomicU64::new(0));
    let talk = Talk::new(server.url(), &journal, &reads);
    let author = Author::new(0);
    let mut acked = Vec::new();
    for number in 0..60 {
        let statement = author.statement(number, 50_000)?;
        match talk.write(&statement) {
            Some(Answer::Created(position)) => acked.push((statement, position)),
            other => bail!("a claim was answered {other:?}"),
        }
    }
    server.kill()?;
    Ok(Template { data_dir, acked })
}

struct Bench<'a> {
    args: &'a Args,
    binary: &'a Path,
    scratch: &'a Path,
    template: &'a Template,
}

/// What one run came to.
#[derive(Default)]
struct Report {
    fault: Option<Fault>,
    verdict: Verdict,
    /// The fault was met.
    fired: bool,
    /// How the server ended up: ready, degraded, read-only, ended, did not start.
    end: String,
    /// Calls that were seen.
    calls: BTreeMap<&'static str, u64>,
}

impl Report {
    fn problems(&self) -> &[String] {
        &self.verdict.problems
    }
}

impl Bench<'_> {
    fn run(&self, place: Place, fault: Option<&Fault>, seed: u64, name: &str) -> Result<Report> {
        let folder = self.scratch.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let data_dir = folder.join("data");
        let trace = folder.join("trace");
        let journal = Journal::new(Duration::from_secs(self.args.answer_max));
        let reads = AtomicU64::new(0);
        let mut known: Vec<Statement> = Vec::new();
        if place != Place::Create {
            let mut copy = Command::new("cp");
            copy.args(["-a", "--reflink=auto"]).arg(&self.template.data_dir).arg(&data_dir);
            run_command(&mut copy)?;
            for (statement, position) in &self.template.acked {
                journal.answered(journal.send(statement.id), Answer::Created(*position));
                known.push(statement.clone());
            }
            journal.stopped();
        }
        let mut report = Report { fault: fault.copied(), ..Report::default() };
        let author = Author::new(1);
        let numbers = Numbers::new(&author, self.args);
        let mut rng = StdRng::seed_from_u64(seed);

        // With the fault.
        let strace = watch(&data_dir.join("wal"), &trace, fault);
        let under: Vec<String> = match place {
            // Its grandchild: the process we start is the server.
            Place::Create | Place::Recover => ["strace", "-D", "-q"]
                .map(str::to_owned)
                .into_iter()
                .chain(strace.iter().cloned())
                .collect(),
            Place::Committer | Place::Worker => Vec::new(),
        };
        let start = Start {
            binary: self.binary,
            data_dir: &data_dir,
            segment_bytes: SEGMENT_BYTES,
            mutant: self.args.mutant.as_deref(),
            under: &under,
        };
        let mut server = start.spawn()?;
        let talk = Talk::new(server.url(), &journal, &reads);
        let up = server.wait(|| talk.health().is_some_and(|(state, _)| settled(&state)));
        let tracer = match (place, &up) {
            (Place::Committer, Ok(())) => Some("committer"),
            (Place::Worker, Ok(())) => Some("wal-worker"),
            _ => None,
        };
        let tracer = tracer
            .map(|name| Tracer::attach(thread_of(server.id(), name)?, &strace))
            .transpose()?;
        match up {
            Err(error) if fault.is_none() => return Err(error),
            Err(_) => {
                report.end = "did not start".to_owned();
                if !server.ended()? {
                    journal.problem("the server neither came up nor ended");
                }
            }
            Ok(()) => {
                known.extend(self.traffic(&talk, &numbers, seed)?);
                let state = talk.health();
                report.end = match &state {
                    Some((state, degraded)) => {
                        format!("{state}{}", if *degraded { " degraded" } else { "" })
                    }
                    None => "ended".to_owned(),
                };
                let killed = fault.is_some_and(|fault| fault.effect == Effect::Kill);
                if state.is_none() && !killed {
                    let words = server.words()?;
                    journal.problem(format!("the server ended or hangs: {words}"));
                }
                // Reads go on.
                for statement in known.sample(&mut rng, 20) {
                    let looked = [talk.look(statement), talk.query(statement)];
                    if state.is_some() && looked.contains(&Line::Broken) {
                        journal.problem("a read broke off");
                    }
                }
                if let Some(fault) = fault
                    && self.args.require_heal
                {
                    self.must_heal(fault, &trace, &state, &journal);
                }
            }
        }
        if fault.is_none() || rng.random_bool(0.5) {
            if !server.end(END_MAX)? {
                journal.problem(format!("the server did not end within {END_MAX:?}"));
            }
        } else {
            server.kill()?;
        }
        journal.stopped();
        drop(tracer);
        report.read_trace(&trace)?;

        // Without it: what was told holds, and what was open is decided.
        let start = Start { under: &[], ..start };
        self.judged(&start, &journal, &reads, &mut known, &mut rng)?;
        std::fs::remove_dir_all(data_dir.join("index"))?;
        self.judged(&start, &journal, &reads, &mut known, &mut rng)?;
        report.verdict = journal.judge();
        Ok(report)
    }

    /// All writers and readers until the writers are through. Gives the claims that were sent.
    fn traffic(&self, talk: &Talk<'_>, numbers: &Numbers<'_>, seed: u64) -> Result<Vec<Statement>> {
        let sent: RwLock<Vec<Statement>> = RwLock::default();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS)
                .map(|reader| {
                    let (talk, sent, over) = (talk.clone(), &sent, &over);
                    scope.spawn(move || {
                        let mut rng = StdRng::seed_from_u64(seed ^ (reader as u64 + 1));
                        while !over.load(Ordering::Relaxed) {
                            let one = {
                                let sent = sent.read().unwrap_or_else(PoisonError::into_inner);
                                sent.choose(&mut rng).cloned()
                            };
                            // The newest are the ones of whom little is known.
                            if let Some(one) = one
                                && [talk.look(&one), talk.query(&one)].contains(&Line::Broken)
                                && talk.health().is_some()
                            {
                                talk.journal.problem("a read broke off");
                            }
                            std::thread::sleep(Duration::from_millis(2));
                        }
                    })
                })
                .collect();
            let writers: Vec<_> = (0..self.args.writers)
                .map(|writer| {
                    let (talk, sent) = (talk.clone(), &sent);
                    let rng = StdRng::seed_from_u64(seed.wrapping_add(writer as u64 + 1000));
                    scope.spawn(move || numbers.send_all(writer, &talk, sent, rng))
                })
                .collect();
            let written = writers.into_iter().try_for_each(|writer| match writer.join() {
                Ok(outcome) => outcome,
                Err(_) => bail!("a writer panicked"),
            });
            over.store(true, Ordering::Relaxed);
            for reader in readers {
                if reader.join().is_err() {
                    bail!("a reader panicked");
                }
            }
            written
        })?;
        Ok(sent.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts the server and looks at everything twice, as a list and one by one.
    fn judged(
        &self,
        start: &Start<'_>,
        journal: &Journal,
        reads: &AtomicU64,
        known: &mut [Statement],
        rng: &mut StdRng,
    ) -> Result<()> {
        let server = match start.ready() {
            Ok(server) => server,
            Err(error) => {
                journal.problem(format!("no start without the fault: {error:#}"));
                return Ok(());
            }
        };
        let talk = Talk::new(server.url(), journal, reads);
        talk.list(true)?;
        known.shuffle(rng);
        for (n, statement) in known.iter().enumerate() {
            talk.look(statement);
            // Sending again is always safe.
            if n % 8 == 0 {
                talk.write(statement);
                talk.query(statement);
            }
        }
        if !server.end(END_MAX)? {
            journal.problem(format!("without a fault the server did not end within {END_MAX:?}"));
        }
        journal.stopped();
        Ok(())
    }

    /// One error of the medium that goes away again.
    fn must_heal(
        &self,
        fault: &Fault,
        trace: &Path,
        state: &Option<(String, bool)>,
        journal: &Journal,
    ) {
        let passing = matches!(fault.effect, Effect::Errno("EIO")) && !fault.always;
        let serving = matches!(fault.place, Place::Committer | Place::Worker);
        let fired = std::fs::read_to_string(trace).is_ok_and(|trace| trace.contains(INJECTED));
        if !(passing && serving && fired) {
            return;
        }
        if !matches!(state, Some((state, _)) if state == "ready") {
            journal.problem(format!("one error was not healed: {state:?}"));
        }
        let answers = journal.judge().answers;
        let bad = |answer: &&str| !matches!(*answer, "created" | "exists");
        if let Some(answer) = answers.keys().copied().find(|answer| bad(answer)) {
            journal.problem(format!("one error was not healed: {answer} was answered"));
        }
    }
}

const INJECTED: &str = "(INJECTED)";

/// Whether a node is past its start.
fn settled(state: &str) -> bool {
    matches!(state, "ready" | "read_only")
}

impl Report {
    fn read_trace(&mut self, trace: &Path) -> Result<()> {
        if !trace.exists() {
            return Ok(());
        }
        for line in BufReader::new(File::open(trace)?).lines() {
            let line = line?;
            self.fired |= line.contains(INJECTED);
            let name = line.split('(').next().unwrap_or("").trim();
            if let Some(call) = CALLS.iter().find(|call| **call == name) {
                *self.calls.entry(call).or_default() += 1;
            }
        }
        // These are not marked in the trace.
        if let Some(Fault { effect: Effect::Delay(_) | Effect::Kill, nth, call, .. }) = self.fault {
            self.fired |= self.calls.get(call).is_some_and(|count| *count >= nth);
        }
        Ok(())
    }
}

/// Which claims a writer sends: most are its own, every fourth is also that of its neighbour, who
/// sends it at about the same time.
struct Numbers<'a> {
    author: &'a Author,
    claims: usize,
}

impl<'a> Numbers<'a> {
    fn new(author: &'a Author, args: &Args) -> Self {
        Self { author, claims: args.claims }
    }

    fn statement(&self, writer: usize, n: usize) -> Result<Statement> {
        let owner = if n.is_multiple_of(4) { writer & !1 } else { writer };
        // Some so long that a run fills a segment or two.
        let padding = if n.is_multiple_of(3) { 14_000 } else { n * 53 % 700 };
        self.author.statement(((owner + 1) * 1_000_000 + n) as u64, padding)
    }

    fn send_all(
        &self,
        writer: usize,
        talk: &Talk<'_>,
        sent: &RwLock<Vec<Statement>>,
        mut rng: StdRng,
    ) -> Result<()> {
        let mut again = Vec::new();
        for n in 0..self.claims {
            let statement = self.statement(writer, n)?;
            sent.write().unwrap_or_else(PoisonError::into_inner).push(statement.clone());
            match talk.write(&statement) {
                Some(Answer::Created(_) | Answer::Exists(_) | Answer::NotApplied(_)) => {}
                // Half of them are never sent again: what was denied must stay away.
                Some(_) if rng.random_bool(0.5) => again.push(statement),
                Some(_) => {
                    talk.look(&statement);
                }
                None if talk.health().is_none() => return Ok(()),
                None => {}
            }
        }
        for statement in again {
            if talk.write(&statement).is_none() && talk.health().is_none() {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_written_as_it_is_read() {
        for (_, name) in PLACES {
            for call in CALLS {
                for (effect, always) in effects(call) {
                    let often = if always { "always" } else { "once" };
                    let text = format!("{name}:{call}:{effect}:7:{often}");
                    assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
                }
            }
        }
        for wrong in [
            "",
            "committer:fdatasync:EIO:3",
            "committer:mmap:EIO:3:once",
            "committer:fsync:EBLA:3:once",
            "committer:fsync:EIO:x:once",
        ] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }
}
