//! Real conflicting claims with known answers: each set goes over HTTP into a server of its own,
//! then every lens is scored. Consensus must come out as a plain vote is known to.

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
}

/// What is known about a set.
struct Set {
    name: &'static str,
    /// The folder that holds its gold; `None` without any.
    gold: Option<&'static str>,
    /// Accuracy of a plain vote, ties as fractions.
    vote: Option<f64>,
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
    at: Some(UNDATED),
    tiers: false,
    predicates: None,
    large: false,
};
const SETS: [Set; 8] = [
    Set { name: "books", gold: Some("books"), vote: Some(0.810), ..PLAIN },
    Set {
        name: "flights",
        gold: Some("flights"),
        vote: Some(0.854),
        at: None,
        tiers: true,
        predicates: Some(FLIGHTS),
        ..PLAIN
    },
    Set { name: "population", gold: Some("population"), vote: Some(0.725), ..PLAIN },
    Set { name: "restaurants", gold: Some("restaurants"), vote: Some(0.655), at: None, ..PLAIN },
    Set { name: "crowd-music", gold: Some("crowd-music"), vote: Some(0.704), ..PLAIN },
    Set { name: "crowd-rte", gold: Some("crowd-rte"), vote: Some(0.897), ..PLAIN },
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
/// How far consensus may be from the plain vote.
const VOTE_TOLERANCE: f64 = 0.01;
const LENSES: [&str; 6] = ["consensus", "recency", "confidence", "authority", "trust", "votes"];
const SEGMENT_BYTES: u64 = 64 << 20;

/// What one set came to.
struct Outcome {
    set: &'static Set,
    import: Value,
    /// One score a lens, in the order of [`LENSES`]; empty without gold.
    scores: Vec<Value>,
    log_bytes: u64,
    index_bytes: u64,
    memory_bytes: u64,
}

pub(crate) fn run(args: &Args, binary: &Path) -> Result<bool> {
    if !args.data.is_dir() {
        eprintln!("SKIPPED: there are no data sets in {}", args.data.display());
        return Ok(true);
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
    let mut good = true;
    if !args.json {
        heading();
    }
    for set in SETS.iter().filter(chosen) {
        let folder = args.data.join(set.name);
        if !folder.is_dir() {
            eprintln!("SKIPPED: {} is not there", folder.display());
            continue;
        }
        let outcome = measure(set, args, binary).with_context(|| set.name)?;
        let accuracy = outcome.scores.first().map(|score| number(score, "accuracy"));
        let as_known = match (set.vote, accuracy) {
            (Some(vote), Some(found)) => (found - vote).abs() <= VOTE_TOLERANCE,
            (Some(_), None) => false,
            (None, _) => true,
        };
        let refused = number(&outcome.import, "refused") != 0.0;
        if args.json {
            println!("{}", outcome.json());
        } else {
            println!("{}", outcome.row());
        }
        if !as_known {
            println!(
                "PROBLEM {}: consensus {accuracy:?}, a plain vote has {:?}",
                set.name, set.vote
            );
        }
        if refused {
            println!("PROBLEM {}: lines were refused: {}", set.name, outcome.import);
        }
        good &= as_known && !refused;
    }
    Ok(good)
}

fn measure(set: &'static Set, args: &Args, binary: &Path) -> Result<Outcome> {
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
    let mut scores = Vec::new();
    if let Some(gold) = set.gold {
        let mut eval = client(binary, &server);
        eval.args(["eval", "--json", "--lens", &LENSES.join(","), "--gold"])
            .arg(path(gold, "gold.jsonl"));
        if let Some(predicates) = set.predicates {
            eval.args(["--tolerance-from", predicates]);
        }
        scores = lines(eval, &[0])?;
    }
    let memory_bytes = server.memory_peak()?;
    server.terminate()?;
    let mut verify = Command::new(binary);
    verify.args(["wal", "verify", "--json"]).arg(data_dir.join("wal"));
    let segments = lines(verify, &[0])?;
    Ok(Outcome {
        set,
        import,
        scores,
        log_bytes: segments.iter().filter_map(|one| one.get("entry_bytes")?.as_u64()).sum(),
        index_bytes: folder_bytes(&data_dir.join("index"))?,
        memory_bytes,
    })
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
    println!(" {:>8} {:>8}", "conflict", "resolve");
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
            row.push_str(&format!(" {conflict:>8.3} {seconds:>7.1}s"));
        }
        row
    }

    fn json(&self) -> Value {
        json!({
            "set": self.set.name,
            "import": self.import,
            "scores": self.scores,
            "log_bytes": self.log_bytes,
            "index_bytes": self.index_bytes,
            "memory_bytes": self.memory_bytes,
        })
    }
}
