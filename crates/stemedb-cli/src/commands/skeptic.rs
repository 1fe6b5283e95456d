//! `skeptic`: the map of disagreement, every value, and nobody wins.

use crate::context::Context;
use crate::failure::Failure;
use crate::question::{LensArgs, ReadArgs};

/// See who disagrees about a key, without naming a winner.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stemedb skeptic semaglutide gastroparesis_risk")]
pub struct Args {
    /// The entity.
    subject: String,
    /// The property.
    predicate: String,
    #[command(flatten)]
    options: LensArgs,
    #[command(flatten)]
    read: ReadArgs,
}

/// Asks and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let remote = args.read.remote.connect()?;
    let mut parameters = args.read.parameters();
    parameters.extend(args.options.parameters());
    parameters.extend([("subject", args.subject), ("predicate", args.predicate)]);
    super::query::one(&remote, "/v1/skeptic", &parameters, context)
}
