//! `import`: many records or simple claim lines.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use stemedb_model::Millis;

use crate::context::Context;
use crate::failure::Failure;
use crate::import;
use crate::remote::RemoteArgs;
use crate::time;

/// Send records or simple claim lines, as many as there are.
///
/// A line is a record in the form of the HTTP interface or of `export`, or a simple claim:
/// {"subject","predicate","object","source","timestamp","confidence"}. Files may be gzip. An
/// import that broke off is resumed by running it again: what is there already counts as exists.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb export | stemedb import --url http://127.0.0.1:28180 -
  stemedb import claims.jsonl.gz --at 2024-01-01 --agent-per-source --keyring ring --root-key root.key
  stemedb import claims.jsonl.gz --agent-per-source --keyring ring --root-key root.key \\
    --sources sources.jsonl --tier-map tiers.json --predicates predicates.jsonl --writers 8")]
pub struct Args {
    /// The files; `-`, the default, is standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    pub files: Vec<PathBuf>,
    /// Time of simple claims that have none, and of what is registered. Needed for undated lines,
    /// so that the same lines are the same records.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub at: Option<Millis>,
    /// Confidence of simple claims that have none.
    #[arg(long, default_value_t = 1.0)]
    pub confidence: f64,
    /// The namespace of simple claims.
    #[arg(long, env = "STEMEDB_SPACE", hide_env_values = true, default_value = "default")]
    pub space: String,
    /// Sign all simple claims with this key, unless each source has its own; without any key the
    /// server signs.
    #[arg(long, env = "STEMEDB_KEY", hide_env_values = true, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Give each source an agent of its own, registered with the root key.
    #[arg(long, requires = "keyring", requires = "root_key", help_heading = "Sources")]
    pub agent_per_source: bool,
    /// Folder from which the sources' keys are derived; made if it is not there.
    #[arg(long, value_name = "DIR", help_heading = "Sources")]
    pub keyring: Option<PathBuf>,
    /// The root key, or that of a registrar.
    #[arg(
        long,
        env = "STEMEDB_ROOT_KEY",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Sources"
    )]
    pub root_key: Option<PathBuf>,
    /// Sources and their tiers, {"source","tier","page"} a line; a name may end in `*`.
    #[arg(long, value_name = "FILE", requires = "root_key", help_heading = "Sources")]
    pub sources: Option<PathBuf>,
    /// Which class each tier of --sources is: one JSON object, {"tier":"class"}.
    #[arg(long, value_name = "FILE", requires = "sources", help_heading = "Sources")]
    pub tier_map: Option<PathBuf>,
    /// Predicates to register first, one a line:
    /// {"name","cardinality","type","unit","conversions","tolerance",…}.
    #[arg(long, value_name = "FILE", requires = "root_key", help_heading = "Sources")]
    pub predicates: Option<PathBuf>,
    /// Streams at once.
    #[arg(long, default_value = "4")]
    pub writers: NonZeroUsize,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Sends them, prints the summary.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let summary = import::run(&args, context)?;
    if context.json {
        context.print_json(&summary)?;
    } else {
        context.print(&summary.text())?;
    }
    if summary.refused == 0 {
        return Ok(());
    }
    let no = Failure::no(format!("{} of {} lines were refused", summary.refused, summary.lines));
    match summary.refusals.iter().any(|refusal| refusal.problem == import::NO_TIME) {
        true => Err(no.hint("--at TIME is the time of lines that have none")),
        false => Err(no),
    }
}
