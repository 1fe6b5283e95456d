//! `trust-snapshot`: name a learned table of trust.

use stemedb_model::{Hash, Kind};

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Put a learned table of trust in force. Needs a registrar's key or the role `trust`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb trust-snapshot 1000 CONFIG_HASH TABLE_HASH --key root.key")]
pub struct Args {
    /// The table was learned from the records up to here.
    input_position: u64,
    /// Hash of the method's configuration.
    config: Hash,
    /// Hash of the table.
    table: Hash,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let fields = Fields::new()
        .set("input_position", args.input_position)
        .set("config", args.config.to_string())
        .set("table", args.table.to_string());
    record::send(context, &args.author, Kind::TrustSnapshot, fields)
}
