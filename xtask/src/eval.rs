//! Real conflicting claims with known answers: each set goes over HTTP into a server of its own,
//! trust is learned, and every lens is scored. Consensus must come out as a plain vote is known to,
//! and trust may not be worse than consensus by more than a point. Then made-up worlds, where trust
//! must stay what it was however many copies there are.

mod page;
mod worlds;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::server::{Server, Start};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the sets, one folder each.
    #[arg(long, default_value = "../shared/data/truth")]
    data: PathBuf,
    /// Only these sets; may be repeated. All but `flights-full` if not given.
    #[arg(long = "set")]
    sets: Vec<String>,
    /// Streams of the import.
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// Print one JSON object a set instead of the table.
    #[arg(long)]
    json: bool,
    /// Draw the charts of each set, and of the made-up worlds, into this folder.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Put the tables into this page.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Made-up worlds of each kind; 0 leaves them out. None where sets are named, unless it is given.
    #[arg(long)]
    worlds: Option<u32>,
}

/// What is known about a set.
struct Set {
    name: &'static str,
    /// The folder that holds its gold; `None` without any.
    gold: Option<&'static str>,
    /// Accuracy of a plain vote, ties as fractions.
    vote: Option<f64>,
    /// Accuracy of the best method that is published for it.
    best: Option<f64>,
    /// Sources that the gold was taken from: measured with them, and once more without.
    judges: &'static [&'static str],
    /// Time of claims that have none.
    at: Option<&'static str>,
    /// It says which source is of which tier.
    tiers: bool,
    predicates: Option<&'static str>,
    /// Left out unless it is asked for.
    large: bool,
}

const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/eval/flights-predicates.jsonl");
const TIERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/eval/tiers.json");
/// Sets without times were collected before this day.
const UNDATED: &str = "2020-01-01";
const PLAIN: Set = Set {
    name: "",
    gold: None,
    vote: None,
    best: None,
    judges: &[],
    at: Some(UNDATED),
    tiers: false,
    predicates: None,
    large: false,
};
const SETS: [Set; 8] = [
    Set { name: "books", gold: Some("books"), vote: Some(0.810), best: Some(0.940), ..PLAIN },
    Set {
        name: "flights",
        gold: Some("flights"),
        vote: Some(0.854),
        judges: &["aa", "ua", "CO"],
        at: None,
        tiers: true,
        predicates: Some(FLIGHTS),
        ..PLAIN
    },
    Set {
        name: "population",
        gold: Some("population"),
        vote: Some(0.725),
        best: Some(0.825),
        ..PLAIN
    },
    Set {
        name: "restaurants",
        gold: Some("restaurants"),
        vote: Some(0.655),
        best: Some(0.745),
        at: None,
        ..PLAIN
    },
    Set {
        name: "crowd-music",
        gold: Some("crowd-music"),
        vote: Some(0.704),
        best: Some(0.801),
        ..PLAIN
    },
    Set {
        name: "crowd-rte",
        gold: Some("crowd-rte"),
        vote: Some(0.897),
        best: Some(0.927),
        ..PLAIN
    },
    Set { name: "demo-glp1", tiers: true, ..PLAIN },
    Set {
        name: "flights-full",
        gold: Some("flights"),
        at: None,
        tiers: true,
        predicates: Some(FLIGHTS),
        large: true,
        ..PLAIN
    },
];
/// Without its judges.
const FLIGHTS_UNJUDGED: Set = Set {
    name: "flights, 35",
    gold: Some("flights"),
    vote: Some(0.838),
    best: Some(0.917),
    predicates: Some(FLIGHTS),
    ..PLAIN
};
/// How far consensus may be from the plain vote, and trust below consensus.
const TOLERANCE: f64 = 0.01;
const LENSES: [&str; 6] = ["consensus", "recency", "confidence", "authority", "trust", "votes"];
const SEGMENT_BYTES: u64 = 64 << 20;

impl Set {
    /// Its name as that of a file.
    fn file(&self) -> String {
        self.name.replace(", ", "-")
    }
}

/// What one set came to.
struct Outcome {
    set: &'static Set,
    import: Value,
    /// One score a lens, in the order of [`LENSES`]; empty without gold.
    scores: Vec<Value>,
    learned: Value,
    log_bytes: u64,
    index_bytes: u64,
    memory_bytes: u64,
}

pub(crate) fn run(args: &Args, binary: &Path, seed: u64) -> Result<bool> {
    let (outcomes, mut good) = sets(args, binary)?;
    let count = args.worlds.unwrap_or(u32::from(args.sets.is_empty()));
    let mut made_up = Vec::new();
    if count > 0 {
        made_up = worlds::measure(args, binary, count, seed)?;
        for problem in worlds::problems(&made_up) {
            println!("PROBLEM {problem}");
            good = false;
        }
    }
    if let Some(path) = &args.write {
        page::write(path, &page::tables(&outcomes, &made_up, (count, seed)))?;
        println!("written to {}", path.display());
    }
    Ok(good)
}

/// All that is asked for and there, and whether it is as it should be.
fn sets(args: &Args, binary: &Path) -> Result<(Vec<Outcome>, bool)> {
    if !args.data.is_dir() {
        eprintln!("SKIPPED: there are no data sets in {}", args.data.display());
        return Ok((Vec::new(), true));
    }
    let chosen = |set: &&Set| match args.sets.as_slice() {
        [] => !set.large,
        names => names.iter().any(|name| name == set.name),
    };
    if let Some(unknown) =
        args.sets.iter().find(|name| SETS.iter().all(|set| set.name != name.as_str()))
    {
        bail!("there is no set {unknown}");
    }
    let (mut outcomes, mut good) = (Vec::new(), true);
    if !args.json {
        heading();
    }
    for set in SETS.iter().filter(chosen) {
        let folder = args.data.join(set.name);
        if !folder.is_dir() {
            eprintln!("SKIPPED: {} is not there", folder.display());
            continue;
        }
        for outcome in measure(set, args, binary).with_context(|| set.name)? {
            if args.json {
                println!("{}", outcome.json());
            } else {
                println!("{}", outcome.row());
            }
            let problems = outcome.problems();
            for problem in &problems {
                println!("PROBLEM {}: {problem}", outcome.set.name);
            }
            good &= problems.is_empty();
            outcomes.push(outcome);
        }
    }
    Ok((outcomes, good))
}

/// The set, and if some of its sources are judges, the set without them.
fn measure(set: &'static Set, args: &Args, binary: &Path) -> Result<Vec<Outcome>> {
    let scratch = tempfile::tempdir()?;
    let data_dir = scratch.path().join("data");
    let start = Start {
        binary,
        data_dir: &data_dir,
        segment_bytes: SEGMENT_BYTES,
        mutant: None,
        under: &[],
    };
    let server = start.ready()?;
    let path = |folder: &str, name: &str| args.data.join(folder).join(name);
    let mut import = client(binary, &server);
    import
        .args(["import", "--json", "--agent-per-source", "--keyring"])
        .arg(scratch.path().join("ring"))
        .arg("--root-key")
        .arg(data_dir.join("node/root.key"))
        .args(["--writers", &args.writers.to_string()])
        .arg(path(set.name, "claims.jsonl.gz"));
    if let Some(at) = set.at {
        import.args(["--at", at]);
    }
    if let Some(predicates) = set.predicates {
        import.args(["--predicates", predicates]);
    }
    if set.tiers {
        import.arg("--sources").arg(path(set.name, "sources.jsonl")).args(["--tier-map", TIERS]);
    }
    // Refused lines are an exit status of 1 and a summary that says so.
    let import = lines(import, &[0, 1])?;
    let Some(import) = import.into_iter().next() else { bail!("the import said nothing") };
    let root = data_dir.join("node/root.key");
    let learn = || -> Result<Value> {
        // The hashes first: the other form prints what became of the record.
        let mut learn = client(binary, &server);
        learn.args(["trust", "learn", "--dry-run", "--json"]);
        let learned = lines(learn, &[0])?.into_iter().next();
        let mut put = client(binary, &server);
        put.args(["trust", "learn", "--json", "--key"]).arg(&root);
        lines(put, &[0])?;
        learned.context("the learning said nothing")
    };
    let score = |set: &Set| -> Result<Vec<Value>> {
        let Some(gold) = set.gold else { return Ok(Vec::new()) };
        let mut eval = client(binary, &server);
        eval.args(["eval", "--json", "--lens", &LENSES.join(","), "--gold"])
            .arg(path(gold, "gold.jsonl"));
        if let Some(predicates) = set.predicates {
            eval.args(["--tolerance-from", predicates]);
        }
        if let Some(folder) = &args.plot {
            eval.arg("--plot").arg(folder).args(["--title", &set.file()]);
        }
        lines(eval, &[0])
    };
    let mut measured = vec![(set, learn()?, score(set)?)];
    if !set.judges.is_empty() {
        for judge in set.judges {
            let mut retract = client(binary, &server);
            retract.args(["retract", "--json", "--source", judge, "--key"]).arg(&root);
            lines(retract, &[0])?;
        }
        measured.push((&FLIGHTS_UNJUDGED, learn()?, score(&FLIGHTS_UNJUDGED)?));
    }
    let memory_bytes = server.memory_peak()?;
    server.terminate()?;
    let mut verify = Command::new(binary);
    verify.args(["wal", "verify", "--json"]).arg(data_dir.join("wal"));
    let segments = lines(verify, &[0])?;
    let log_bytes = segments.iter().filter_map(|one| one.get("entry_bytes")?.as_u64()).sum();
    let index_bytes = folder_bytes(&data_dir.join("index"))?;
    let outcome = |(set, learned, scores)| Outcome {
        set,
        import: import.clone(),
        scores,
        learned,
        log_bytes,
        index_bytes,
        memory_bytes,
    };
    Ok(measured.into_iter().map(outcome).collect())
}

fn client(binary: &Path, server: &Server) -> Command {
    let mut command = Command::new(binary);
    command.env("STEMEDB_URL", server.url());
    command
}

/// Runs a command that prints JSON lines.
fn lines(mut command: Command, statuses: &[i32]) -> Result<Vec<Value>> {
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.code().is_some_and(|code| statuses.contains(&code)) {
        bail!("{command:?} ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { folder_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}

/// A number of an answer; one that is not there counts as 0 and shows.
fn number(value: &Value, name: &str) -> f64 {
    value.get(name).and_then(Value::as_f64).unwrap_or(0.0)
}

fn heading() {
    print!("{:<13} {:>9} {:>8} {:>6}", "set", "claims", "import", "per s");
    print!(" {:>7} {:>7} {:>7}", "log B", "index B", "MiB");
    for lens in LENSES {
        print!(" {lens:>10}");
    }
    println!(" {:>6} {:>8} {:>8} {:>7}", "best", "conflict", "resolve", "learn");
}

impl Outcome {
    fn claims(&self) -> f64 {
        (number(&self.import, "created") + number(&self.import, "exists")).max(1.0)
    }

    /// Bytes of log and index are per claim.
    fn row(&self) -> String {
        let mut row = format!(
            "{:<13} {:>9} {:>7.1}s {:>6.0} {:>7.0} {:>7.0} {:>7}",
            self.set.name,
            self.claims(),
            number(&self.import, "seconds"),
            number(&self.import, "per_second"),
            self.log_bytes as f64 / self.claims(),
            self.index_bytes as f64 / self.claims(),
            self.memory_bytes >> 20,
        );
        for lens in 0..LENSES.len() {
            let accuracy = self.scores.get(lens).map(|score| number(score, "accuracy"));
            let text = accuracy.map_or_else(|| "–".to_owned(), |share| format!("{share:.3}"));
            row.push_str(&format!(" {text:>10}"));
        }
        if let Some(first) = self.scores.first() {
            let (conflict, seconds) = (number(first, "in_conflict"), number(first, "seconds"));
            let best = self.set.best.map_or_else(|| "–".to_owned(), |best| format!("{best:.3}"));
            row.push_str(&format!(" {best:>6} {conflict:>8.3} {seconds:>7.1}s"));
            row.push_str(&format!(" {:>6.1}s", number(&self.learned, "took_ms") / 1000.0));
        }
        row
    }

    fn score(&self, lens: &str) -> Option<&Value> {
        self.scores.iter().find(|score| score.get("lens").and_then(Value::as_str) == Some(lens))
    }

    fn accuracy(&self, lens: &str) -> Option<f64> {
        Some(number(self.score(lens)?, "accuracy"))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let consensus = self.accuracy("consensus");
        if let Some(vote) = self.set.vote
            && consensus.is_none_or(|found| (found - vote).abs() > TOLERANCE)
        {
            problems.push(format!("consensus {consensus:?}, a plain vote has {vote}"));
        }
        if let (Some(trust), Some(consensus)) = (self.accuracy("trust"), consensus)
            && trust < consensus - TOLERANCE
        {
            problems.push(format!("trust {trust:.3} is worse than consensus, {consensus:.3}"));
        }
        if number(&self.import, "refused") != 0.0 {
            problems.push(format!("lines were refused: {}", self.import));
        }
        problems
    }

    fn json(&self) -> Value {
        json!({
            "set": self.set.name,
            "import": self.import,
            "scores": self.scores,
            "best_known": self.set.best,
            "learned": self.learned,
            "log_bytes": self.log_bytes,
            "index_bytes": self.index_bytes,
            "memory_bytes": self.memory_bytes,
        })
    }
}
