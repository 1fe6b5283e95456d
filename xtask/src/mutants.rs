//! The test of the tests. For each known wrong behaviour there is a catcher: a test, or a harness
//! on the release binary. It must pass without the mutant and fail with it, in the words that the
//! mutant brings about: a catcher that fails for another reason has caught nothing.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use stemedb_io::{MUTANT_VAR, MUTANTS};

use self::Catcher::{Harness, Test};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this mutant; may be repeated.
    #[arg(long = "only")]
    only: Vec<String>,
    /// Also the catchers that take minutes.
    #[arg(long)]
    deep: bool,
}

/// Who catches a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Catcher {
    /// A test of the workspace: its target and its name there.
    Test(&'static str, &'static str),
    /// Arguments of `xtask`; the harness switches the mutant on by `--mutant`.
    Harness(&'static [&'static str]),
}

struct Row {
    mutant: &'static str,
    catcher: Catcher,
    /// One of these is in what it says when it fails.
    says: &'static [&'static str],
    /// Takes too long for every run.
    deep: bool,
}

const fn row(mutant: &'static str, catcher: Catcher, says: &'static [&'static str]) -> Row {
    Row { mutant, catcher, says, deep: false }
}

const fn deep(mutant: &'static str, catcher: Catcher, says: &'static [&'static str]) -> Row {
    Row { mutant, catcher, says, deep: true }
}

const ORDER: Catcher = Harness(&["order", "--claims", "600"]);
/// Ends with the first recording that shows a loss.
const CRASH: Catcher = Harness(&[
    "crash",
    "--states=40",
    "--states-per-recording=40",
    "--claims=3000",
    "--until-loss",
]);
/// A name is in danger for milliseconds only: many states are needed to meet one.
const CRASH_LONG: Catcher = Harness(&[
    "crash",
    "--states=1200",
    "--states-per-recording=40",
    "--claims=3000",
    "--until-loss",
]);
/// How a power cut shows that something acknowledged was not durable: it is not there, or the start
/// is refused because something that is there knows of it.
const LOST: &[&str] = &[
    "acknowledged at",
    "the index has applied position",
    "is known to have been durable",
    "proves that it was durable",
    "says that the log went on in it",
];

/// A mutant may have several catchers: each is a harness that has to show that it can fail.
/// Other ways to look at the log get rows of their own here.
const ROWS: &[Row] = &[
    row("ack_before_sync", Test("crash", "power_is_cut_at_every_change"), LOST),
    row("ack_before_sync", ORDER, &["answered before it was synced"]),
    row("ack_before_sync", CRASH, LOST),
    row(
        "ack_before_apply",
        Test("engine", "writing::an_acknowledged_record_is_durable_and_readable"),
        &["acknowledged and not readable: position 2 is not applied yet"],
    ),
    row("no_dir_sync", ORDER, &["answered before the folder was synced that names its file"]),
    deep("no_dir_sync", CRASH_LONG, &["acknowledged at", "missing: "]),
    row("sync_file_range", ORDER, &["answered before it was synced"]),
    row("sync_file_range", CRASH, LOST),
    row(
        "retry_on_same_file",
        Test("heal", "any_operation_may_fail_once"),
        &["the next segment proves that it was durable"],
    ),
    row(
        "ignore_close_error",
        Test("heal", "an_error_of_close_is_one_of_the_medium"),
        &["an error of close was passed over"],
    ),
    row(
        "truncate_at_bad_crc",
        Test("damage", "a_flipped_bit_is_never_a_wrong_record"),
        &["records vanished in silence"],
    ),
    row(
        "skip_damaged_segment",
        Test("damage", "damage_in_an_earlier_segment_is_refused"),
        &["a start with a hole in segment 1"],
    ),
    row("constant_salt", Test("damage", "old_bytes_never_verify"), &["old bytes are records now"]),
    row(
        "heal_without_rewriting",
        Test("heal", "any_operation_may_fail_once"),
        &["is not behind what was acknowledged"],
    ),
    row(
        "rewrite_after_not_written",
        Test("heal", "what_cannot_be_proved_is_not_healed"),
        &["told not written, and written"],
    ),
    row(
        "serve_undurable",
        Test("crash", "a_failed_sync_is_decided_by_the_medium"),
        &["readers are shown what is not durable"],
    ),
    row(
        "verify_through_cache",
        Test("heal", "a_failed_proof_names_the_positions"),
        &["proved what the medium has lost"],
    ),
    row(
        "evict_range",
        Test("vfs_contract", "eviction_can_be_seen"),
        &["of the cached copy pages stay"],
    ),
];

const NO_SUCH: &str = "no_such_mutant";
/// A catcher that takes longer hangs.
const SHORT_MAX: Duration = Duration::from_secs(600);
const DEEP_MAX: Duration = Duration::from_secs(3600);

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    if let Some(unknown) = args.only.iter().find(|name| !is_mutant(name)) {
        bail!("{unknown} is no mutant; there are {}", MUTANTS.map(|(name, _)| name).join(", "));
    }
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| args.deep || !row.deep)
        .filter(|row| args.only.is_empty() || args.only.iter().any(|name| name == row.mutant))
        .collect();
    let ran = rows.len();
    let mutants: HashSet<&str> = rows.iter().map(|row| row.mutant).collect();
    let bench = Bench { binary, seed, tests: build_tests(&rows)? };
    bench.refuses_unknown_names()?;
    let began = Instant::now();
    let mut healthy: HashMap<Catcher, bool> = HashMap::new();
    let mut survived = unguarded();
    survived.retain(|name| args.only.is_empty() || args.only.iter().any(|only| only == name));
    for name in &survived {
        println!("{name:26} NOBODY LOOKS");
    }
    for row in rows {
        let passes = match healthy.get(&row.catcher) {
            Some(passes) => *passes,
            None => {
                let without = bench.attempt(row, None)?;
                if !without.passed {
                    println!("{}", without.said);
                }
                healthy.insert(row.catcher, without.passed);
                without.passed
            }
        };
        let verdict = if passes {
            let with = bench.attempt(row, Some(row.mutant))?;
            let verdict = judge(row, &with);
            if verdict.is_err() {
                println!("{}", with.said);
            }
            verdict.map(|said| format!("{:5.1} s  {said}", with.took.as_secs_f64()))
        } else {
            Err("FAILS WITHOUT IT, TOO")
        };
        let words = match verdict {
            Ok(words) => words,
            Err(words) => {
                survived.push(row.mutant);
                words.to_owned()
            }
        };
        println!("{:26} {:50.50} {words}", row.mutant, row.catcher.to_string());
    }
    println!(
        "mutants: {} of {} known, {ran} catchers, {} not caught: {survived:?}; {:.0?}",
        mutants.len(),
        MUTANTS.len(),
        survived.len(),
        began.elapsed()
    );
    Ok(survived.is_empty())
}

fn is_mutant(name: &str) -> bool {
    MUTANTS.iter().any(|(known, _)| *known == name)
}

/// Mutants that no row is about.
fn unguarded() -> Vec<&'static str> {
    let names = MUTANTS.iter().map(|(name, _)| *name);
    names.filter(|name| ROWS.iter().all(|row| row.mutant != *name || row.deep)).collect()
}

/// What was said that shows this mutant, or why it is not caught.
fn judge(row: &Row, with: &Attempt) -> Result<String, &'static str> {
    if with.passed {
        return Err("SURVIVED");
    }
    let shows = |line: &&str| row.says.iter().any(|words| line.contains(words));
    let line = with.said.lines().find(shows).ok_or("FAILED FOR ANOTHER REASON")?;
    // The words are what matters, and a line may be long.
    let at = row.says.iter().filter_map(|words| line.find(words)).min().unwrap_or(0);
    let from = line.char_indices().rev().map(|(i, _)| i).find(|i| i + 30 <= at).unwrap_or(0);
    let rest = line.get(from..).unwrap_or(line);
    let whole_words = rest.split_once(' ').filter(|(cut, _)| from > 0 && cut.len() < 30);
    let rest = whole_words.map_or(rest, |(_, rest)| rest);
    Ok(rest.trim().chars().take(110).collect())
}

impl std::fmt::Display for Catcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Test(_, name) => write!(f, "{}", name.rsplit("::").next().unwrap_or(name)),
            Harness(arguments) => write!(f, "make {}", arguments.first().unwrap_or(&"")),
        }
    }
}

/// What a catcher came to.
struct Attempt {
    passed: bool,
    said: String,
    took: Duration,
}

/// A built test.
struct Built {
    executable: PathBuf,
    /// The folder of its package, where tests run.
    folder: PathBuf,
}

struct Bench<'a> {
    binary: &'a Path,
    seed: u64,
    tests: HashMap<&'static str, Built>,
}

/// Builds the tests that the rows name, with the feature.
fn build_tests(rows: &[&Row]) -> Result<HashMap<&'static str, Built>> {
    let mut targets: Vec<&'static str> = rows
        .iter()
        .filter_map(|row| match row.catcher {
            Test(target, _) => Some(target),
            Harness(_) => None,
        })
        .collect();
    targets.sort_unstable();
    targets.dedup();
    let mut tests = HashMap::new();
    if targets.is_empty() {
        return Ok(tests);
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // All of the workspace, so that what it rests on is not built a second time with less.
    cargo.args(["test", "--no-run", "--quiet", "--locked", "--workspace"]);
    cargo.args(["--features", "stemedb-io/mutants", "--message-format", "json-render-diagnostics"]);
    targets.iter().for_each(|target| {
        cargo.args(["--test", target]);
    });
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the tests could not be built");
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let name = message.pointer("/target/name").and_then(Value::as_str);
        let is_test = message.pointer("/target/kind/0").and_then(Value::as_str) == Some("test");
        let target = targets.iter().find(|target| is_test && Some(**target) == name);
        let executable = message.get("executable").and_then(Value::as_str);
        let manifest = message.get("manifest_path").and_then(Value::as_str);
        let (Some(target), Some(executable), Some(manifest)) = (target, executable, manifest)
        else {
            continue;
        };
        let folder = Path::new(manifest).parent().context("a manifest lies in a folder")?;
        let built = Built { executable: executable.into(), folder: folder.into() };
        if tests.insert(*target, built).is_some() {
            bail!("two packages have a test target {target}");
        }
    }
    match targets.iter().find(|target| !tests.contains_key(*target)) {
        Some(target) => bail!("cargo did not build the test target {target}"),
        None => Ok(tests),
    }
}

impl Bench<'_> {
    /// Runs a catcher, with a mutant or as it is.
    fn attempt(&self, row: &Row, mutant: Option<&str>) -> Result<Attempt> {
        let what = || format!("{} with {}", row.catcher, mutant.unwrap_or("no mutant"));
        let max = if row.deep { DEEP_MAX } else { SHORT_MAX };
        let began = Instant::now();
        let (code, said) = run_for(self.command(row.catcher, mutant)?, max).with_context(what)?;
        let took = began.elapsed();
        let ran = match row.catcher {
            // A test that was renamed is none that passes.
            Test(..) => said.contains("running 1 test\n") && matches!(code, Some(0 | 101)),
            // 2: it could not do its work.
            Harness(_) => matches!(code, Some(0 | 1)),
        };
        if !ran {
            bail!("{} ended with {code:?}: {said}", what());
        }
        Ok(Attempt { passed: code == Some(0), said, took })
    }

    fn command(&self, catcher: Catcher, mutant: Option<&str>) -> Result<Command> {
        let mut command;
        match catcher {
            Test(target, name) => {
                command = self.test(target)?;
                command.args(["--exact", name]);
                if let Some(mutant) = mutant {
                    command.env(MUTANT_VAR, mutant);
                }
            }
            Harness(arguments) => {
                command = Command::new(std::env::current_exe()?);
                command.args(["--seed", &self.seed.to_string(), "--binary"]).arg(self.binary);
                command.args(arguments).env_remove(MUTANT_VAR);
                if let Some(mutant) = mutant {
                    command.args(["--mutant", mutant]);
                }
            }
        }
        Ok(command)
    }

    fn test(&self, target: &str) -> Result<Command> {
        let built = self.tests.get(target).context("a test that was not built")?;
        let mut command = Command::new(&built.executable);
        command.current_dir(&built.folder).env("CARGO_MANIFEST_DIR", &built.folder);
        command.env("RUST_BACKTRACE", "0").env_remove(MUTANT_VAR);
        Ok(command)
    }

    /// A name misspelt must not pass for a mutant that was not caught.
    fn refuses_unknown_names(&self) -> Result<()> {
        let mut commands = vec![Command::new(self.binary)];
        commands.iter_mut().for_each(|command| {
            command.args(["config", "schema"]);
        });
        for target in self.tests.keys() {
            commands.push(self.test(target)?);
        }
        for mut command in commands {
            command.env(MUTANT_VAR, NO_SUCH);
            let what = format!("{command:?}");
            let (code, said) = run_for(command, SHORT_MAX).context(what.clone())?;
            if code != Some(2) || !said.contains("no such mutant") {
                bail!("{what} takes {NO_SUCH} for a mutant: {code:?}, {said}");
            }
        }
        Ok(())
    }
}

/// Runs a command to its end. Gives its exit code and all it said.
fn run_for(mut command: Command, max: Duration) -> Result<(Option<i32>, String)> {
    let mut said = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?);
    let mut child = command.spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > max {
            child.kill()?;
            child.wait()?;
            bail!("did not end within {max:?}: {}", all_of(&mut said)?);
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ok((status.code(), all_of(&mut said)?))
}

fn all_of(file: &mut File) -> Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_has_a_catcher_in_every_run() {
        assert_eq!(unguarded(), Vec::<&str>::new());
        assert!(ROWS.iter().all(|row| is_mutant(row.mutant) && !row.says.is_empty()));
    }

    #[test]
    fn only_a_failure_in_the_right_words_counts() {
        let row = row("evict_range", Test("heal", "x::y"), &["pages stay"]);
        let attempt =
            |passed, said: &str| Attempt { passed, said: said.into(), took: Duration::ZERO };
        assert_eq!(judge(&row, &attempt(true, "pages stay")), Err("SURVIVED"));
        assert_eq!(judge(&row, &attempt(false, "killed")), Err("FAILED FOR ANOTHER REASON"));
        let long = format!("{} pages stay {}", "é".repeat(200), "x".repeat(200));
        let said = judge(&row, &attempt(false, &long)).unwrap();
        assert!(said.contains("pages stay") && said.chars().count() <= 110, "{said}");
    }
}
