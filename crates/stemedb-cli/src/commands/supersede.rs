//! `supersede`: one assertion takes another's place.

use stemedb_model::{Kind, RecordId};

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Let one assertion take another's place, while the new one is live.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stemedb supersede OLD NEW --reason 'second survey'")]
pub struct Args {
    /// The assertion that retires.
    old: RecordId,
    /// The assertion that takes its place.
    new: RecordId,
    /// Why.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let fields = Fields::new()
        .set("old", args.old.to_string())
        .set("new", args.new.to_string())
        .maybe("reason", args.reason);
    record::send(context, &args.author, Kind::Supersede, fields)
}
