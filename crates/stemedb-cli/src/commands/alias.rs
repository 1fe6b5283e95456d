//! `alias`: two subjects are one entity.

use stemedb_model::Kind;

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Declare that two subjects are one entity. Needs a registrar's key.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stemedb alias drugs/ozempic drugs/semaglutide --key root.key")]
pub struct Args {
    /// One subject.
    subject: String,
    /// The other.
    other: String,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let fields = Fields::new().set("subject", args.subject).set("other", args.other);
    record::send(context, &args.author, Kind::Alias, fields)
}
