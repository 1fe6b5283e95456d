//! `record`: one record by its id.

use clap::Subcommand;
use serde_json::Value;
use stemedb_model::RecordId;

use crate::context::Context;
use crate::failure::Failure;
use crate::remote::RemoteArgs;

/// Look at records.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stemedb record show ID")]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Show a record; of an assertion also its votes and whether it takes part in answers.
    Show {
        /// Its id.
        id: RecordId,
        /// As it stood then: a position, an answer's snapshot, or a time.
        #[arg(long, value_name = "WHEN", value_parser = crate::question::when)]
        as_of: Option<String>,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

/// Asks and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let Act::Show { id, as_of, remote } = args.act;
    let remote = remote.connect()?;
    let parameters: Vec<_> = as_of.map(|when| ("as_of", when)).into_iter().collect();
    let mut text = remote.get(&format!("/v1/records/{id}"), &parameters)?.ok()?;
    let mut answer = read(&text)?;
    if answer.pointer("/record/kind").and_then(Value::as_str) == Some("assertion") {
        // The same with what others said of it.
        text = remote.get(&format!("/v1/assertions/{id}"), &parameters)?.ok()?;
        answer = read(&text)?;
    }
    if context.json {
        return context.print(&(text + "\n"));
    }
    let pretty = serde_json::to_string_pretty(&answer).unwrap_or(text);
    context.print(&(pretty + "\n"))
}

fn read(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::error("the server's answer is not what this version expects").because(error)
    })
}
