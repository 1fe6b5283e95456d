//! `lens`: define a lens of one's own.

use stemedb_model::Kind;

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Define a version of a named lens. Needs a registrar's key.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb lens only-certain 1 --weight claim.confidence --aggregate sum --key root.key")]
pub struct Args {
    /// Its name.
    name: String,
    /// Its version, from 1.
    version: u64,
    /// CEL over one claim: a number.
    #[arg(long, value_name = "CEL")]
    weight: String,
    /// How the weights of a value's voices combine.
    #[arg(long, value_parser = ["sum", "max"])]
    aggregate: String,
    /// CEL over one claim: whether it takes part.
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// How ties are broken, in order; may be repeated.
    #[arg(long, value_parser = ["agents", "newest", "bytes"])]
    tie: Vec<String>,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let fields = Fields::new()
        .set("name", args.name)
        .set("version", args.version)
        .set("weight", args.weight)
        .set("aggregate", args.aggregate)
        .maybe("filter", args.filter)
        .list("ties", args.tie);
    record::send(context, &args.author, Kind::Lens, fields)
}
