//! The order of system calls. The server runs under strace while many writers assert; in the trace,
//! no answer that carries a position may be sent before a sync has returned that began after the
//! bytes of that claim had been written to a log file, and before a sync of the folder has returned
//! that began after the file had got its name.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::mount::run as run_command;
use crate::server::{Claim, Start};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Claims asserted.
    #[arg(long, default_value_t = 2000)]
    claims: u64,
    /// Concurrent writers.
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// A wrong behaviour to switch on (needs a build with the feature `mutants`).
    #[arg(long)]
    mutant: Option<String>,
}

/// Long enough for the largest group of the run to be seen whole.
const STRING_BYTES: usize = 1 << 20;

pub(crate) fn run(args: &Args, binary: &Path, _seed: u64) -> Result<bool> {
    run_command(Command::new("strace").arg("-V")).context("this harness needs strace")?;
    let scratch = tempfile::tempdir()?;
    // As the kernel names it: a trace has paths as they were given and as they are.
    let folder = scratch.path().canonicalize()?;
    let trace = folder.join("trace");
    let under: Vec<String> = [
        "strace",
        "-f",
        "-y",
        "-s",
        &STRING_BYTES.to_string(),
        "-e",
        // Not every machine has every rename.
        "trace=pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,fdatasync,fsync,\
         ?rename,?renameat,?renameat2",
        "-o",
        &trace.to_string_lossy(),
    ]
    .map(str::to_owned)
    .to_vec();
    let data_dir = folder.join("data");
    let start = Start {
        binary,
        data_dir: &data_dir,
        segment_bytes: 8 << 20,
        mutant: args.mutant.as_deref(),
        under: &under,
    };
    let server = start.ready()?;
    let next = AtomicU64::new(0);
    let claims: Mutex<HashMap<u64, Claim>> = Mutex::default();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..args.writers)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let client = server.client();
                    loop {
                        let claim = Claim(next.fetch_add(1, Ordering::Relaxed));
                        if claim.0 >= args.claims {
                            return Ok(());
                        }
                        let ack = client.assert(claim)?;
                        let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
                        claims.insert(ack.position, claim);
                    }
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| match writer.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a writer panicked"),
        })
    })?;
    // strace ends with the server, which ends with a signal from outside: its child first.
    server.terminate()?;
    let claims = claims.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut order = Order::new(claims);
    for line in BufReader::new(File::open(&trace)?).lines() {
        order.line(&line?);
    }
    for early in order.early.iter().take(10) {
        println!("EARLY {early}");
    }
    println!(
        "order: {} answers with a position, {} log writes, {} log syncs, {} log files named, {} \
         answers before their sync",
        order.answers,
        order.writes,
        order.syncs,
        order.names,
        order.early.len()
    );
    let complete = order.answers == order.claims.len() && order.writes > 0 && order.names > 0;
    if !complete {
        println!("the trace shows {} of {} answers", order.answers, order.claims.len());
    }
    Ok(complete && order.early.is_empty())
}

/// Reads a trace line by line and keeps what is durable at each moment.
struct Order {
    claims: HashMap<u64, Claim>,
    /// By log file: claims whose write has returned.
    written: HashMap<String, HashSet<Claim>>,
    /// Claims covered by a sync that returned success, and in which file.
    synced: HashMap<Claim, String>,
    /// By folder: log files that got their name there.
    named: HashMap<String, HashSet<String>>,
    /// Log files whose name is covered by a sync of the folder that returned success.
    kept: HashSet<String>,
    /// By thread: a call that has begun and not yet returned.
    pending: HashMap<String, Call>,
    answers: usize,
    writes: usize,
    syncs: usize,
    names: usize,
    early: Vec<String>,
}

enum Call {
    Write { file: String, claims: HashSet<Claim> },
    Sync { file: String, covers: HashSet<Claim> },
    Name { file: String },
    SyncFolder { covers: HashSet<String> },
}

impl Order {
    fn new(claims: HashMap<u64, Claim>) -> Self {
        Self {
            claims,
            written: HashMap::new(),
            synced: HashMap::new(),
            named: HashMap::new(),
            kept: HashSet::new(),
            pending: HashMap::new(),
            answers: 0,
            writes: 0,
            syncs: 0,
            names: 0,
            early: Vec::new(),
        }
    }

    /// `PID call(args) = result`, or its two halves, `… <unfinished ...>` and
    /// `PID <... call resumed>… = result`.
    fn line(&mut self, line: &str) {
        let Some((thread, rest)) = line.split_once(' ') else { return };
        let rest = rest.trim_start();
        if rest.starts_with("<...") {
            if let Some(call) = self.pending.remove(thread) {
                self.returned(call, rest);
            }
            return;
        }
        let Some((name, arguments)) = rest.split_once('(') else { return };
        let file = arguments.split_once('<').and_then(|(_, path)| path.split_once('>'));
        let file = file.map_or("", |(path, _)| path);
        let call = match name {
            "fdatasync" | "fsync" if file.ends_with(".wal") => {
                self.syncs += 1;
                let covers = self.written.get(file).cloned().unwrap_or_default();
                Call::Sync { file: file.to_owned(), covers }
            }
            "fdatasync" | "fsync" => match self.named.get(file) {
                Some(names) => Call::SyncFolder { covers: names.clone() },
                None => return,
            },
            "rename" | "renameat" | "renameat2" => {
                let to = arguments.split('"').nth(3).unwrap_or_default();
                if !to.ends_with(".wal") {
                    return;
                }
                self.names += 1;
                Call::Name { file: to.to_owned() }
            }
            "pwrite64" | "pwritev" | "pwritev2" | "write" | "writev" if file.ends_with(".wal") => {
                self.writes += 1;
                let claims = numbers_after(arguments, "harness/").map(Claim).collect();
                Call::Write { file: file.to_owned(), claims }
            }
            "write" | "writev" | "sendto" | "sendmsg" if file.starts_with("socket:") => {
                self.sent(arguments);
                return;
            }
            _ => return,
        };
        if rest.ends_with("<unfinished ...>") {
            self.pending.insert(thread.to_owned(), call);
        } else {
            self.returned(call, rest);
        }
    }

    fn returned(&mut self, call: Call, line: &str) {
        let succeeded = line.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'));
        match call {
            Call::Write { file, claims } if succeeded => {
                self.written.entry(file).or_default().extend(claims);
            }
            Call::Sync { file, covers } if succeeded => {
                self.synced.extend(covers.into_iter().map(|claim| (claim, file.clone())));
            }
            Call::Name { file } if succeeded => {
                let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
                self.named.entry(folder).or_default().insert(file);
            }
            Call::SyncFolder { covers } if succeeded => self.kept.extend(covers),
            Call::Write { .. }
            | Call::Sync { .. }
            | Call::Name { .. }
            | Call::SyncFolder { .. } => {}
        }
    }

    fn sent(&mut self, arguments: &str) {
        if !arguments.contains("HTTP/1.1 201") {
            return;
        }
        for position in numbers_after(arguments, "\\\"position\\\":") {
            self.answers += 1;
            let Some(claim) = self.claims.get(&position) else { continue };
            match self.synced.get(claim) {
                None => {
                    self.early.push(format!("position {position} answered before it was synced"));
                }
                Some(file) if !self.kept.contains(file) => {
                    let early = "answered before the folder was synced that names its file,";
                    self.early.push(format!("position {position} {early} {file}"));
                }
                Some(_) => {}
            }
        }
    }
}

/// The whole numbers that directly follow `mark`.
fn numbers_after<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = u64> + 'a {
    text.split(mark).skip(1).filter_map(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
        digits.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn early_named(trace: &[&str]) -> usize {
        early(&[&[NAME, KEEP], trace].concat())
    }

    fn early(trace: &[&str]) -> usize {
        let mut order = Order::new(HashMap::from([(5, Claim(7))]));
        trace.iter().for_each(|line| order.line(line));
        assert_eq!(order.answers, 1);
        order.early.len()
    }

    const NAME: &str = r#"9 rename("/d/wal/segment.001.wal.tmp", "/d/wal/segment.001.wal") = 0"#;
    const KEEP: &str = "9 fsync(8</d/wal>) = 0";
    const WRITE: &str =
        r#"10 pwrite64(9</d/wal/segment.001.wal>, "..harness/7i..", 4096, 0) = 4096"#;
    const SYNC: &str = "10 fdatasync(9</d/wal/segment.001.wal>) = 0";
    const FAILED: &str = "10 fdatasync(9</d/wal/segment.001.wal>) = -1 EIO (Input/output error)";
    const BEGIN: &str = "10 fdatasync(9</d/wal/segment.001.wal> <unfinished ...>";
    const END: &str = "10 <... fdatasync resumed>) = 0";
    const OTHER: &str = "10 fdatasync(9</d/wal/segment.002.wal>) = 0";
    const ANSWER: &str =
        r#"11 sendto(12<socket:[1]>, "HTTP/1.1 201 Created {\"position\":5,..", 80, 0) = 80"#;

    #[test]
    fn an_answer_must_follow_a_sync_that_began_after_the_write() {
        for (trace, expected) in [
            (&[WRITE, SYNC, ANSWER][..], 0),
            (&[WRITE, ANSWER, SYNC], 1),
            (&[SYNC, WRITE, ANSWER], 1),
            (&[WRITE, FAILED, ANSWER], 1),
            (&[WRITE, OTHER, ANSWER], 1),
            (&[WRITE, BEGIN, END, ANSWER], 0),
            (&[WRITE, BEGIN, ANSWER, END], 1),
            (&[BEGIN, WRITE, END, ANSWER], 1),
        ] {
            assert_eq!(early_named(trace), expected, "{trace:?}");
        }
    }

    #[test]
    fn an_answer_must_follow_a_sync_of_the_folder_that_began_after_the_name() {
        const NOT_KEPT: &str = "9 fsync(8</d/wal>) = -1 EIO (Input/output error)";
        const ELSEWHERE: &str = "9 fsync(8</d>) = 0";
        const NAME_BEGINS: &str =
            r#"9 rename("/d/wal/segment.001.wal.tmp", "/d/wal/segment.001.wal" <unfinished ...>"#;
        const NAME_ENDS: &str = "9 <... rename resumed>) = 0";
        for (trace, expected) in [
            (&[NAME, KEEP, WRITE, SYNC, ANSWER][..], 0),
            (&[NAME, WRITE, SYNC, KEEP, ANSWER], 0),
            (&[NAME, WRITE, SYNC, ANSWER, KEEP], 1),
            (&[KEEP, NAME, WRITE, SYNC, ANSWER], 1),
            (&[NAME, NOT_KEPT, WRITE, SYNC, ANSWER], 1),
            (&[NAME, ELSEWHERE, WRITE, SYNC, ANSWER], 1),
            (&[WRITE, SYNC, ANSWER], 1),
            (&[NAME_BEGINS, NAME_ENDS, KEEP, WRITE, SYNC, ANSWER], 0),
            (&[NAME_BEGINS, WRITE, SYNC, ANSWER], 1),
        ] {
            assert_eq!(early(trace), expected, "{trace:?}");
        }
    }
}
