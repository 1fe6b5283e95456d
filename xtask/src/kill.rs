//! Kill -9. Writers, one by one and in imports, and readers that poll single claims and a query
//! are at it while the server is killed at a random moment and started again, over and over. Every
//! answer and everything that was read goes into one [`Journal`] a database, which judges it at the
//! end: nothing acknowledged is lost or moved, nothing is there twice, nothing appears and
//! vanishes, no reader is shown an older state than before.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stemedb_model::RecordId;

use crate::outcomes::{Answer, Journal};
use crate::server::{Server, Start};
use crate::talk::{Author, Line, Statement, Talk};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often the server is killed.
    #[arg(long, default_value_t = 20)]
    cycles: usize,
    /// Concurrent writers, importers among them.
    #[arg(long, default_value_t = 32)]
    writers: u64,
    /// How many of the writers import; the others write one by one.
    #[arg(long, default_value_t = 8)]
    importers: u64,
    /// Concurrent readers.
    #[arg(long, default_value_t = 4)]
    readers: u64,
    /// Longest time between start and kill.
    #[arg(long, default_value_t = 300)]
    life_ms: u64,
    /// A new database after so many kills: reading all of it back takes longer and longer.
    #[arg(long, default_value_t = 100)]
    database_cycles: usize,
    /// A wrong behaviour to switch on (needs a build with the feature `mutants`).
    #[arg(long)]
    mutant: Option<String>,
    /// Succeed only if a broken promise is found: the test of the test.
    #[arg(long)]
    expect_problem: bool,
}

/// Small segments, so that a run holds rotations.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Lines of an import.
const BATCH: u64 = 20;
/// Lines of an import that is resumed.
const RESUMED_BATCH: usize = 500;
/// Every so many kills everything is listed, and every other time the index is deleted before.
const LIST_EVERY: usize = 10;
/// Acknowledged claims that are read and sent again after each start.
const SAMPLE: usize = 16;
/// Ten seconds, and a margin for a laden machine.
const ANSWER_MAX: Duration = Duration::from_secs(14);

/// Claims by number, and what the harness knows of them.
struct Claims {
    author: Author,
    next: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    acked: Vec<Statement>,
    /// Sent, and without an answer that says what became of them.
    open: Vec<Statement>,
    /// The newest that were sent, for readers.
    recent: Vec<Statement>,
}

/// Readers poll among this many.
const RECENT: usize = 256;

impl Claims {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn numbered(&self, number: u64) -> Result<Statement> {
        self.author.statement(number, usize::try_from(number * 37 % 700)?)
    }

    fn next(&self) -> Result<Statement> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let statement = self.numbered(number)?;
        let mut known = self.known();
        match usize::try_from(number)? % RECENT {
            place if place < known.recent.len() => {
                if let Some(old) = known.recent.get_mut(place) {
                    *old = statement.clone();
                }
            }
            _ => known.recent.push(statement.clone()),
        }
        Ok(statement)
    }

    fn told(&self, statement: &Statement, answer: Option<Answer>) {
        let mut known = self.known();
        match answer {
            Some(Answer::Created(_) | Answer::Exists(_) | Answer::NotApplied(_)) => {
                known.acked.push(statement.clone());
            }
            _ => known.open.push(statement.clone()),
        }
    }
}

#[derive(Default)]
struct Figures {
    records: usize,
    reads: usize,
    cut_short: usize,
    /// Of those that were sent and never answered: there, and not there.
    unanswered: (usize, usize),
    /// Of the import that is resumed at the end: there already, and new.
    resumed: (usize, usize),
    problems: Vec<String>,
    started: Vec<Duration>,
    kills: usize,
    answers: BTreeMap<&'static str, usize>,
}

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    let mut rng = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    let bar = ProgressBar::new(args.cycles as u64).with_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} kills  {elapsed} (eta {eta})",
    )?);
    let mut figures = Figures::default();
    while figures.kills < args.cycles {
        let cycles = (args.cycles - figures.kills).min(args.database_cycles.max(1));
        database(args, binary, cycles, &mut rng, &bar, &mut figures)?;
        if bar.is_hidden() {
            eprintln!(
                "{} of {} kills, {} records, {} problems, {:.0?}",
                figures.kills,
                args.cycles,
                figures.records,
                figures.problems.len(),
                started.elapsed()
            );
        }
        if !figures.problems.is_empty() {
            break;
        }
    }
    bar.finish_and_clear();
    for problem in figures.problems.iter().take(10) {
        println!("PROBLEM {problem}");
    }
    let Figures { started: mut starts, .. } = figures;
    starts.sort_unstable();
    let quantile = |part: usize| starts.get(starts.len() * part / 100).copied().unwrap_or_default();
    let answers: Vec<String> =
        figures.answers.iter().map(|(answer, count)| format!("{count} {answer}")).collect();
    println!(
        "kill -9: {} kills, {} writers, {} of them importers, {} readers: {} records; answers: {}; \
         {} imports cut short; of those never answered {} are there and {} are not; the import \
         resumed: {} exist, {} created; {} reads; {} problems; {:.0?}; start p50 {:.0?}, p99 {:.0?}",
        figures.kills,
        args.writers,
        args.importers.min(args.writers),
        args.readers,
        figures.records,
        answers.join(", "),
        figures.cut_short,
        figures.unanswered.0,
        figures.unanswered.1,
        figures.resumed.0,
        figures.resumed.1,
        figures.reads,
        figures.problems.len(),
        started.elapsed(),
        quantile(50),
        quantile(99),
    );
    Ok(figures.records + figures.problems.len() > 0
        && (figures.problems.is_empty() != args.expect_problem))
}

/// One database, so many kills, its judgement.
fn database(
    args: &Args,
    binary: &Path,
    cycles: usize,
    rng: &mut StdRng,
    bar: &ProgressBar,
    figures: &mut Figures,
) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let data_dir = scratch.path().join("data");
    let start = Start {
        binary,
        data_dir: &data_dir,
        segment_bytes: SEGMENT_BYTES,
        mutant: args.mutant.as_deref(),
        under: &[],
    };
    let claims = Claims {
        author: Author::new(rng.random()),
        next: AtomicU64::new(0),
        known: Mutex::default(),
    };
    let journal = Journal::new(ANSWER_MAX);
    let reads = AtomicU64::new(0);
    for cycle in 0..cycles {
        let all = cycle % LIST_EVERY == LIST_EVERY - 1;
        if all && cycle / LIST_EVERY % 2 == 1 {
            std::fs::remove_dir_all(data_dir.join("index"))?;
        }
        let began = Instant::now();
        let Some(server) = up(&start, figures) else { return Ok(()) };
        figures.started.push(began.elapsed());
        let talk = Talk::new(server.url(), &journal, &reads);
        settle(&talk, &claims, rng);
        if all {
            talk.list(true)?;
        }
        let life = Duration::from_millis(rng.random_range(1..=args.life_ms));
        figures.cut_short += live(args, server, &talk, &claims, life, rng)?;
        journal.stopped();
        figures.kills += 1;
        bar.inc(1);
    }
    // All of it, twice: as it was left, and from the log alone.
    for without_index in [false, true] {
        if without_index {
            std::fs::remove_dir_all(data_dir.join("index"))?;
        }
        let Some(server) = up(&start, figures) else { return Ok(()) };
        let talk = Talk::new(server.url(), &journal, &reads);
        settle(&talk, &claims, rng);
        talk.list(true)?;
        if !without_index {
            // Once the import is resumed all of it is there.
            let (there, not_there) = journal.judge().unanswered;
            figures.unanswered.0 += there;
            figures.unanswered.1 += not_there;
            resume(&talk, &claims, figures)?;
            talk.list(true)?;
        }
        server.kill()?;
        journal.stopped();
    }
    let verdict = journal.judge();
    figures.records += verdict.records;
    figures.reads += verdict.reads;
    figures.problems.extend(verdict.problems);
    for (answer, count) in verdict.answers {
        *figures.answers.entry(answer).or_default() += count;
    }
    Ok(())
}

/// A start; that it fails is the worst of problems.
fn up(start: &Start<'_>, figures: &mut Figures) -> Option<Server> {
    start.ready().map_err(|error| figures.problems.push(format!("{error:#}"))).ok()
}

/// What was left open is decided now: asks for all of it, sends half of it again.
fn settle(talk: &Talk<'_>, claims: &Claims, rng: &mut StdRng) {
    let (open, sample) = {
        let mut known = claims.known();
        let open = std::mem::take(&mut known.open);
        let sample: Vec<Statement> = (0..SAMPLE)
            .filter_map(|_| known.acked.get(rng.random_range(0..known.acked.len().max(1))).cloned())
            .collect();
        (open, sample)
    };
    for statement in &open {
        talk.look(statement);
        if rng.random_bool(0.5) {
            claims.told(statement, talk.write(statement));
        }
    }
    for statement in &sample {
        talk.look(statement);
        talk.query(statement);
        talk.write(statement);
    }
}

/// Imports all that was ever sent, as one does after an import was cut short: what was acknowledged
/// exists, and at the end all of it does.
fn resume(talk: &Talk<'_>, claims: &Claims, figures: &mut Figures) -> Result<()> {
    let acked: HashSet<RecordId> = claims.known().acked.iter().map(|one| one.id).collect();
    let all: Vec<u64> = (0..claims.next.load(Ordering::Relaxed)).collect();
    for numbers in all.chunks(RESUMED_BATCH) {
        let batch: Vec<Statement> =
            numbers.iter().map(|number| claims.numbered(*number)).collect::<Result<_>>()?;
        let answers = talk.import(&batch);
        if answers.len() < batch.len() {
            let (came, sent) = (answers.len(), batch.len());
            figures.problems.push(format!("a resumed import answered {came} of {sent} lines"));
        }
        for (one, answer) in batch.iter().zip(answers) {
            match answer {
                Answer::Exists(_) => figures.resumed.0 += 1,
                Answer::Created(_) if !acked.contains(&one.id) => figures.resumed.1 += 1,
                _ => figures.problems.push(format!(
                    "{} was {answer:?} when its import was resumed; acknowledged before: {}",
                    one.id,
                    acked.contains(&one.id)
                )),
            }
        }
    }
    Ok(())
}

/// Lets everybody at the server, kills it after `life`. Gives the imports that were cut short.
fn live(
    args: &Args,
    server: Server,
    talk: &Talk<'_>,
    claims: &Claims,
    life: Duration,
    rng: &mut StdRng,
) -> Result<usize> {
    let over = AtomicBool::new(false);
    let seed: u64 = rng.random();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..args.writers)
            .map(|writer| {
                let talk = talk.clone();
                scope.spawn(move || {
                    if writer < args.importers {
                        import_until_broken(&talk, claims)
                    } else {
                        write_until_broken(&talk, claims).map(|()| 0)
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..args.readers)
            .map(|reader| {
                let (talk, over) = (talk.clone(), &over);
                let rng = StdRng::seed_from_u64(seed.wrapping_add(reader));
                scope.spawn(move || read_until(&talk, claims, over, rng))
            })
            .collect();
        std::thread::sleep(life);
        // They see their connections break, and end.
        let killed = server.kill();
        over.store(true, Ordering::Relaxed);
        let mut cut_short = 0;
        for writer in writers {
            match writer.join() {
                Ok(outcome) => cut_short += outcome?,
                Err(_) => bail!("a writer panicked"),
            }
        }
        for reader in readers {
            if reader.join().is_err() {
                bail!("a reader panicked");
            }
        }
        killed.map(|()| cut_short)
    })
}

fn write_until_broken(talk: &Talk<'_>, claims: &Claims) -> Result<()> {
    loop {
        let statement = claims.next()?;
        let answer = talk.write(&statement);
        claims.told(&statement, answer);
        if answer.is_none() {
            return Ok(());
        }
    }
}

fn import_until_broken(talk: &Talk<'_>, claims: &Claims) -> Result<usize> {
    loop {
        let batch: Vec<Statement> = (0..BATCH).map(|_| claims.next()).collect::<Result<_>>()?;
        let answers = talk.import(&batch);
        for (n, statement) in batch.iter().enumerate() {
            claims.told(statement, answers.get(n).copied());
        }
        if answers.len() < batch.len() {
            return Ok(usize::from(!answers.is_empty()));
        }
    }
}

fn read_until(talk: &Talk<'_>, claims: &Claims, over: &AtomicBool, mut rng: StdRng) {
    while !over.load(Ordering::Relaxed) {
        let one = {
            let known = claims.known();
            known.recent.get(rng.random_range(0..known.recent.len().max(1))).cloned()
        };
        let Some(one) = one else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        if talk.look(&one) == Line::Broken || talk.query(&one) == Line::Broken {
            return;
        }
    }
}
