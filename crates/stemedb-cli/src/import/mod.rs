//! The import: reads, registers, signs and sends, each bounded in memory.
//!
//! One thread reads and decides to which writer a line goes; each writer signs and sends chunks.
//! - Statements of one source about one key go through one writer, in the order of the file: the
//!   newest position is the one that holds.
//! - A source is registered before its first claim is sent.
//! - Records of other forms go through the first writer, in order: they may refer to each other.
//! - The same lines give the same records, so a second run says `exists`.

mod author;
mod register;
mod sources;
mod summary;
mod writer;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use indicatif::ProgressBar;
use stemedb_model::Signed;

use crate::claim_line::{self, ClaimLine, Line};
use crate::commands::import::Args;
use crate::context::Context;
use crate::failure::Failure;
use crate::files;
use crate::remote::Remote;

use author::Author;
use register::Registrar;
pub use summary::{Refusal, Summary};
use writer::{Job, What, Writer};

/// Why an undated line is refused.
pub const NO_TIME: &str = "timestamp: there is none";
/// Lines looked at together, so that their new sources are registered by one request.
const WINDOW_LINES: usize = 8_192;
/// Batches that may wait for a writer.
const WAITING_MAX: usize = 8;
/// Lines that are handed over together.
const BATCH_LINES: usize = 256;

/// Sends signed records that must all be taken, in this order.
pub fn send_signed(remote: &Remote, records: &[Signed]) -> Result<(), Failure> {
    let lines: Vec<String> = records.iter().map(author::signed_line).collect();
    writer::send_all(remote, &lines)
}

/// Reads all files and sends what is in them.
pub fn run(args: &Args, context: &Context) -> Result<Summary, Failure> {
    if !(0.0..=1.0).contains(&args.confidence) {
        return Err(Failure::error("--confidence: expected a number from 0 to 1"));
    }
    let remote = args.remote.connect()?;
    let author = Author::new(args, context)?;
    let registrar = Registrar::new(args, context, &remote)?;
    let begun = context.env.clock.monotonic();
    let lengths: Vec<_> = args.files.iter().map(|file| files::length(file)).collect();
    let total = lengths.iter().copied().sum::<Option<u64>>();
    let bar = context.progress(total, "");
    bar.set_style(style(total));
    let progress = Arc::new(Progress { bar: Some(bar.clone()), ..Progress::default() });
    let mut summary = std::thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut writers = Vec::new();
        for _ in 0..args.writers.get() {
            let (sender, jobs) = sync_channel(WAITING_MAX);
            let writer = Writer::new(remote.clone(), author.clone(), context.env.clone());
            let progress = Arc::clone(&progress);
            writers.push(scope.spawn(move || writer.run(&jobs, |lines| progress.done(lines))));
            senders.push(sender);
        }
        let mut reader = Reader::new(registrar, senders);
        let read = args.files.iter().try_for_each(|file| reader.file(file, &progress));
        let (mut summary, read) = match read.and_then(|()| reader.flush()) {
            Ok(()) => (reader.finish(), Ok(())),
            Err(failure) => (reader.finish(), Err(failure)),
        };
        let mut failed = None;
        for writer in writers {
            match writer.join() {
                Ok(Ok(part)) => summary.add(part),
                Ok(Err(failure)) => failed = failed.or(Some(failure)),
                Err(_) => failed = failed.or(Some(Failure::error("a writer broke off"))),
            }
        }
        // A writer that failed is why the reader could not go on.
        match (failed, read) {
            (Some(failure), _) | (None, Err(failure)) => Err(failure),
            (None, Ok(())) => Ok(summary),
        }
    })?;
    bar.finish_and_clear();
    let took = context.env.clock.monotonic().saturating_sub(begun);
    summary.finish(took);
    Ok(summary)
}

fn style(total: Option<u64>) -> indicatif::ProgressStyle {
    let template = match total {
        Some(_) => "import {bar:24} {percent:>3} %  {msg}  {elapsed}  ETA {eta}",
        None => "import {spinner} {msg}  {elapsed}",
    };
    indicatif::ProgressStyle::with_template(template)
        .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar())
}

/// How far the import is, in bytes of its files: of what was read, the part that has its result.
#[derive(Default)]
struct Progress {
    bar: Option<ProgressBar>,
    bytes: AtomicU64,
    read: AtomicU64,
    done: AtomicU64,
}

impl Progress {
    fn done(&self, lines: u64) {
        let done = self.done.fetch_add(lines, Ordering::Relaxed) + lines;
        let read = self.read.load(Ordering::Relaxed).max(1);
        let part = done as f64 / read as f64;
        if let Some(bar) = &self.bar {
            bar.set_position((self.bytes.load(Ordering::Relaxed) as f64 * part) as u64);
            bar.set_message(format!(
                "{done} lines, {:.0}/s",
                done as f64 / bar.elapsed().as_secs_f64()
            ));
        }
    }
}

/// The reading thread.
struct Reader {
    registrar: Registrar,
    senders: Vec<SyncSender<Vec<Job>>>,
    batches: Vec<Vec<Job>>,
    window: Vec<(Arc<str>, u64, ClaimLine)>,
    summary: Summary,
}

impl Reader {
    fn new(registrar: Registrar, senders: Vec<SyncSender<Vec<Job>>>) -> Self {
        let batches = senders.iter().map(|_| Vec::new()).collect();
        Self { registrar, senders, batches, window: Vec::new(), summary: Summary::default() }
    }

    fn file(&mut self, path: &Path, progress: &Arc<Progress>) -> Result<(), Failure> {
        let name: Arc<str> = path.display().to_string().into();
        let counted = Arc::clone(progress);
        let mut input = files::open_counted(path, move |bytes| {
            counted.bytes.fetch_add(bytes, Ordering::Relaxed);
        })?;
        let mut text = String::new();
        for number in 1.. {
            text.clear();
            let read = input.read_line(&mut text);
            if read.map_err(|error| files::cannot_read(path, error))? == 0 {
                break;
            }
            progress.read.fetch_add(1, Ordering::Relaxed);
            match claim_line::parse(&text) {
                Ok(Line::Empty) => {}
                Ok(Line::Claim(claim)) => {
                    self.window.push((Arc::clone(&name), number, claim));
                    if self.window.len() >= WINDOW_LINES {
                        self.window()?;
                    }
                }
                Ok(Line::Record) => {
                    // What it refers to may stand in the window.
                    self.window()?;
                    let line = text.trim().to_owned();
                    self.give(
                        0,
                        Job { file: Arc::clone(&name), number, what: What::Record(line) },
                    )?;
                }
                Err(problem) => {
                    self.summary.refuse(Refusal { file: name.to_string(), line: number, problem })
                }
            }
        }
        Ok(())
    }

    /// Registers the new sources of the window, then hands its claims over.
    fn window(&mut self) -> Result<(), Failure> {
        self.registrar.register(self.window.iter().map(|(_, _, claim)| claim))?;
        for (file, number, claim) in std::mem::take(&mut self.window) {
            let writer = route(&claim, self.senders.len());
            self.give(writer, Job { file, number, what: What::Claim(Box::new(claim)) })?;
        }
        Ok(())
    }

    fn give(&mut self, writer: usize, job: Job) -> Result<(), Failure> {
        let Some(batch) = self.batches.get_mut(writer) else { return Ok(()) };
        batch.push(job);
        if batch.len() < BATCH_LINES {
            return Ok(());
        }
        let batch = std::mem::take(batch);
        self.send(writer, batch)
    }

    fn send(&self, writer: usize, batch: Vec<Job>) -> Result<(), Failure> {
        let sent = self.senders.get(writer).map(|sender| sender.send(batch));
        match sent {
            Some(Err(_)) => Err(Failure::error("a writer stopped")),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.window()?;
        for (writer, batch) in std::mem::take(&mut self.batches).into_iter().enumerate() {
            if !batch.is_empty() {
                self.send(writer, batch)?;
            }
        }
        Ok(())
    }

    /// Lets the writers end.
    fn finish(self) -> Summary {
        let mut summary = self.summary;
        summary.registered = self.registrar.registered();
        summary
    }
}

/// Everything one source says about one key goes the same way.
fn route(claim: &ClaimLine, writers: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    (&claim.source, &claim.subject, &claim.predicate).hash(&mut hasher);
    usize::try_from(hasher.finish() % writers.max(1) as u64).unwrap_or(0)
}
