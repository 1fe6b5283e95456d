//! `lifecycle`: move an assertion to a state.

use stemedb_model::{Kind, RecordId};

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Move an assertion to a state. Approving, deprecating and rejecting need a reviewer's key.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb lifecycle ID approved --reason 'checked against the label' --key reviewer.key")]
pub struct Args {
    /// The assertion.
    assertion: RecordId,
    /// The state.
    #[arg(value_parser = super::STATES)]
    state: String,
    /// Why.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let fields = Fields::new()
        .set("assertion", args.assertion.to_string())
        .set("state", args.state)
        .maybe("reason", args.reason);
    record::send(context, &args.author, Kind::Lifecycle, fields)
}
