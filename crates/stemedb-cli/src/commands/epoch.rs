//! `epoch`: a named era or paradigm.

use stemedb_model::{Kind, RecordId};

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Declare an epoch, and what becomes of an earlier one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb epoch 'Planets by tradition'
  stemedb epoch 'Planets by definition' --supersedes ID --mode replace --key registrar.key")]
pub struct Args {
    /// Its name.
    name: String,
    /// What it is about.
    #[arg(long)]
    description: Option<String>,
    /// An earlier epoch.
    #[arg(long, value_name = "ID", requires = "mode")]
    supersedes: Option<RecordId>,
    /// replace: its claims retire; extend: nothing retires.
    #[arg(long, requires = "supersedes", value_parser = ["replace", "extend"])]
    mode: Option<String>,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let fields = Fields::new()
        .set("name", args.name)
        .maybe("description", args.description)
        .maybe("supersedes", args.supersedes.map(|id| id.to_string()))
        .maybe("mode", args.mode);
    record::send(context, &args.author, Kind::Epoch, fields)
}
