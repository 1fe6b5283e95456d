//! How fast a database comes back: a log of a bounded length and a real set of claims, archived, read as a
//! bare device gives them, and brought back by a drill that compares them with the node.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::fs::{Advice, fadvise};
use serde_json::{Value, json};

use crate::server::{Server, Start};

const PAGE: &str = "docs/operations/disaster-recovery.md";
const BEGIN: &str = "<!-- figures: written by `make bench-restore WRITE=1` -->";
const END: &str = "<!-- end of figures -->";
const SEGMENT_BYTES: u64 = 64 << 20;
/// Text of a made-up claim: 16 characters a word. Chance, so that nothing packs it.
const WORDS: u64 = 256;
/// Parts of an archive that a restore fetches at once.
const READERS: usize = 4;
const READ_BYTES: usize = 1 << 20;
/// The goal, and what of the bare device counts as its limit.
const GOAL_MB: f64 = 100.0;
const OF_DEVICE: f64 = 0.8;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long the made-up log is, in MiB.
    #[arg(long, default_value_t = 1024)]
    mebibytes: u64,
    /// Folder of the real sets, one folder each.
    #[arg(long, default_value = "../shared/data/truth")]
    data: PathBuf,
    /// The real set.
    #[arg(long, default_value = "flights-full")]
    set: String,
    /// Where everything lies: archive, node and what comes back share its disk.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Say what was missed, and end well all the same.
    #[arg(long)]
    report_only: bool,
    /// Write the figures into the page.
    #[arg(long)]
    write: bool,
    /// The folder of the repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

/// What one database came to. Rates in MB/s.
struct Outcome {
    name: String,
    drill: Value,
    device: f64,
}

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    let name = format!("{} MiB, made up", args.mebibytes);
    let fill = |server: &Server| made_up(args.mebibytes, server, binary, seed);
    let mut outcomes = vec![measure(&name, args, binary, &fill)?];
    let claims = args.data.join(&args.set).join("claims.jsonl.gz");
    if claims.is_file() {
        let fill = |server: &Server| finish(import(binary, server).arg(&claims).spawn()?);
        outcomes.push(measure(&args.set, args, binary, &fill)?);
    } else {
        println!("SKIPPED: {} is not there", claims.display());
    }
    let table = table(&outcomes);
    print!("{table}");
    if args.write {
        write(&args.root, binary, &table)?;
    }
    let missed: Vec<String> = outcomes.iter().filter_map(Outcome::missed).collect();
    missed.iter().for_each(|words| println!("MISSED {words}"));
    Ok(missed.is_empty() || args.report_only)
}

fn measure(
    name: &str,
    args: &Args,
    binary: &Path,
    fill: &dyn Fn(&Server) -> Result<()>,
) -> Result<Outcome> {
    let scratch = match &args.scratch {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let (data, archive) = (scratch.path().join("data"), scratch.path().join("archive"));
    let start =
        Start { binary, data_dir: &data, segment_bytes: SEGMENT_BYTES, mutant: None, under: &[] };
    let server = start.ready()?;
    fill(&server)?;
    // A stop closes the last group; what the drill compares with is the node that is started again.
    server.terminate()?;
    told(
        Command::new(binary)
            .args(["archive", "run", "--json", "--data-dir"])
            .arg(&data)
            .arg("--store")
            .arg(&archive),
    )?;
    let server = start.ready()?;
    let device = read_all(&files(&archive)?)?;
    evict(&files(&archive)?)?;
    let drill = told(
        Command::new(binary)
            .args(["drill", "restore", "--json", "--data-dir"])
            .arg(&data)
            .arg("--store")
            .arg(&archive)
            .arg("--scratch")
            .arg(scratch.path())
            .env("STEMEDB_URL", server.url()),
    )?;
    server.terminate()?;
    ensure!(drill.get("same") == Some(&Value::Bool(true)), "{name}: {drill}");
    println!("{name}: {drill}");
    Ok(Outcome { name: name.to_owned(), drill, device })
}

fn import(binary: &Path, server: &Server) -> Command {
    let mut command = Command::new(binary);
    command.args(["import", "--json", "--at", "2020-01-01"]).env("STEMEDB_URL", server.url());
    command.stdout(Stdio::null());
    command
}

fn finish(mut child: std::process::Child) -> Result<()> {
    let status = child.wait()?;
    ensure!(status.success(), "the import ended with {status}");
    Ok(())
}

/// Claims of random text, until the log has about so many bytes.
fn made_up(mebibytes: u64, server: &Server, binary: &Path, seed: u64) -> Result<()> {
    let mut child = import(binary, server).arg("-").stdin(Stdio::piped()).spawn()?;
    let mut input = BufWriter::new(child.stdin.take().context("stdin is piped")?);
    let mut rng = StdRng::seed_from_u64(seed);
    for number in 0..(mebibytes << 20) / (WORDS * 16) {
        let mut text = String::new();
        for _ in 0..WORDS {
            text.push_str(&format!("{:016x}", rng.random::<u64>()));
        }
        let line = json!({
            "subject": format!("restore/{}", number / 4), "predicate": "is", "object": text,
            "source": format!("s{}", number % 7),
        });
        writeln!(input, "{line}")?;
    }
    input.flush()?;
    drop(input);
    finish(child)
}

/// Runs a command that prints one line of JSON at its end.
fn told(command: &mut Command) -> Result<Value> {
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {text}", output.status);
    }
    let last = text.lines().last().context("it said nothing")?;
    Ok(serde_json::from_str(last)?)
}

/// All files below a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Has the system forget them, so that they come from the device.
fn evict(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let file = File::open(path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Reads them as many at a time as a restore does, from the device; MB/s.
fn read_all(paths: &[PathBuf]) -> Result<f64> {
    evict(paths)?;
    let (next, began) = (AtomicUsize::new(0), Instant::now());
    let bytes = std::thread::scope(|scope| -> Result<u64> {
        let read = || -> Result<u64> {
            let (mut bytes, mut buffer) = (0, vec![0; READ_BYTES]);
            while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut file = File::open(path)?;
                loop {
                    match file.read(&mut buffer)? {
                        0 => break,
                        some => bytes += some as u64,
                    }
                }
            }
            Ok(bytes)
        };
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read)).collect();
        let mut bytes = 0;
        for reader in readers {
            bytes += reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        }
        Ok(bytes)
    })?;
    Ok(bytes as f64 / 1e6 / began.elapsed().as_secs_f64())
}

impl Outcome {
    fn number(&self, name: &str) -> f64 {
        self.drill.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
    }

    fn step(&self, name: &str) -> f64 {
        let steps = self.drill.get("steps").and_then(Value::as_array);
        let step = steps.into_iter().flatten().find(|step| step.get("name") == Some(&json!(name)));
        step.and_then(|step| step.get("seconds")?.as_f64()).unwrap_or(f64::NAN)
    }

    fn fetch(&self) -> f64 {
        self.number("bytes_per_second") / 1e6
    }

    /// What is less than it has to be.
    fn missed(&self) -> Option<String> {
        let needed = GOAL_MB.min(self.device * OF_DEVICE);
        (self.fetch() < needed).then(|| {
            let (name, fetch, device) = (&self.name, self.fetch(), self.device);
            format!("{name}: fetched at {fetch:.0} MB/s; the device gives {device:.0}, the goal is {GOAL_MB:.0}")
        })
    }

    fn row(&self) -> String {
        let rto = self.number("rto_seconds");
        format!(
            "| {} | {:.0} | {:.1} MB | {:.0} MB/s | {:.0} MB/s | {:.1} s | {:.1} s | {:.1} s | {:.1} s |\n",
            self.name,
            self.number("records"),
            self.number("bytes") / 1e6,
            self.device,
            self.fetch(),
            self.step("fetch"),
            self.step("prove"),
            self.step("index"),
            rto,
        )
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let rows: String = outcomes.iter().map(Outcome::row).collect();
    format!(
        "| database | records | archive | bare device | fetched | fetch | prove | index | RTO |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n{rows}"
    )
}

fn write(root: &Path, binary: &Path, table: &str) -> Result<()> {
    let path = root.join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = page.split_once(BEGIN).context("the page has no place for figures")?;
    let (_, after) = rest.split_once(END).context("the place for figures has no end")?;
    let version = crate::mount::run(Command::new(binary).arg("--version"))?;
    std::fs::write(&path, format!("{before}{BEGIN}\n\n{version}:\n\n{table}\n{END}{after}"))?;
    println!("written to {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(fetch: f64, device: f64) -> Outcome {
        let steps = json!([{ "name": "fetch", "seconds": 2.0 }]);
        let drill = json!({
            "bytes_per_second": fetch * 1e6, "rto_seconds": 3.0, "records": 7, "bytes": 1e6,
            "steps": steps,
        });
        Outcome { name: "x".into(), drill, device }
    }

    #[test]
    fn the_goal_or_the_limit_of_the_device() {
        for (fetch, device, met) in
            [(100.0, 500.0, true), (99.0, 500.0, false), (80.0, 100.0, true), (79.0, 100.0, false)]
        {
            assert_eq!(outcome(fetch, device).missed().is_none(), met, "{fetch} of {device}");
        }
        let missing = Outcome { drill: json!({}), ..outcome(1.0, 1.0) };
        assert!(table(&[missing]).contains("NaN"), "a number that is not there shows");
    }

    #[test]
    fn all_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        for name in ["a/b", "c"] {
            std::fs::write(folder.path().join(name), vec![1; 3 << 20]).unwrap();
        }
        let found = files(folder.path()).unwrap();
        assert_eq!(found.len(), 2);
        assert!(read_all(&found).unwrap() > 0.0);
    }
}
