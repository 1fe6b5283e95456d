//! `export`: every record, as lines that `import` takes, or as quads for other stores.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use serde_json::Value;

use crate::context::Context;
use crate::failure::Failure;
use crate::remote::RemoteArgs;

/// Write all records of a snapshot as JSON, one a line, or as N-Quads.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb export > records.jsonl
  stemedb export --all --output records.jsonl
  stemedb export --format nquads --space default > claims.nq")]
pub struct Args {
    /// The form; only ndjson can be imported again.
    #[arg(long, value_enum, default_value = "ndjson")]
    format: Format,
    /// Write to this new file instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also what takes no part in answers any more.
    #[arg(long)]
    all: bool,
    /// Only this namespace.
    #[arg(long)]
    space: Option<String>,
    /// Only records after this position.
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// What the database held then: a position, an answer's snapshot, or a time.
    #[arg(long, value_name = "WHEN", value_parser = crate::question::when)]
    as_of: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One JSON record a line.
    Ndjson,
    /// Quads of RDF 1.2, for graph stores.
    Nquads,
}

/// Streams them; memory does not grow with their number.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let (name, things) = match args.format {
        Format::Ndjson => ("ndjson", "records"),
        Format::Nquads => ("nquads", "quads"),
    };
    let mut parameters = vec![("format", name.to_owned())];
    if args.all {
        parameters.push(("live", "false".to_owned()));
    }
    parameters.extend(args.space.map(|space| ("space", space)));
    parameters.extend(args.after.map(|position| ("after", position.to_string())));
    parameters.extend(args.as_of.map(|when| ("as_of", when)));
    let input = BufReader::new(args.remote.connect()?.stream("/v1/export", &parameters)?);
    let bar = context.progress(None, things);
    bar.set_message("export");
    let count = match &args.output {
        None => copy(input, std::io::stdout().lock(), &bar)?,
        Some(path) => {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
            let file = file.map_err(|error| {
                Failure::error(format!("cannot create {}", path.display())).because(error)
            })?;
            let count = copy(input, &file, &bar)?;
            file.sync_all().map_err(|error| {
                Failure::error(format!("cannot write {}", path.display())).because(error)
            })?;
            count
        }
    };
    bar.finish_and_clear();
    context.say(&format!("{count} {things}"));
    Ok(())
}

fn copy(
    input: impl BufRead,
    output: impl Write,
    bar: &indicatif::ProgressBar,
) -> Result<u64, Failure> {
    let mut output = std::io::BufWriter::new(output);
    let mut count = 0;
    for line in input.lines() {
        let line = line.map_err(|error| Failure::error("the export broke off").because(error))?;
        // A stream that fails half-way says so in its last line: there is no status left to say it.
        if line.starts_with("{\"type\":\"urn:stemedb:error:")
            && let Ok(problem) = serde_json::from_str::<Value>(&line)
        {
            let detail = problem.get("detail").and_then(Value::as_str).unwrap_or_default();
            return Err(Failure::error(format!("the export broke off: {detail}")));
        }
        writeln!(output, "{line}")?;
        count += 1;
        bar.inc(1);
    }
    output.flush()?;
    Ok(count)
}
