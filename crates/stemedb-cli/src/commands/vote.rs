//! `vote`: a signed weight for or against an assertion.

use stemedb_model::{Kind, RecordId};

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Vote for or against an assertion; your newest vote on it is the one that counts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb vote ID 1
  stemedb vote ID -0.5 --key alice.key")]
pub struct Args {
    /// The assertion.
    assertion: RecordId,
    /// -1 (against) to 1 (for).
    #[arg(allow_negative_numbers = true)]
    weight: f64,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let fields =
        Fields::new().set("assertion", args.assertion.to_string()).set("weight", args.weight);
    record::send(context, &args.author, Kind::Vote, fields)
}
