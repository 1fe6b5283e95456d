//! `gold`: a known-true value.

use stemedb_model::Kind;

use crate::context::Context;
use crate::failure::Failure;
use crate::object::ObjectArgs;
use crate::record::{self, AuthorArgs, Fields};

/// Declare the true value of a key, for learning whom to trust. Needs a registrar's key.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  stemedb gold countries/france capital Paris --key root.key")]
pub struct Args {
    /// The entity.
    subject: String,
    /// The property.
    predicate: String,
    #[command(flatten)]
    object: ObjectArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let fields = Fields::new()
        .set("subject", args.subject)
        .set("predicate", args.predicate)
        .set("object", args.object.to_json()?);
    record::send(context, &args.author, Kind::Gold, fields)
}
