//! `cosign`: stand by another's assertion.

use stemedb_model::{Kind, RecordId};

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Stand by an assertion of another agent. Adds no support by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stemedb cosign ID --key alice.key")]
pub struct Args {
    /// The assertion.
    assertion: RecordId,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let fields = Fields::new().set("assertion", args.assertion.to_string());
    record::send(context, &args.author, Kind::Cosign, fields)
}
