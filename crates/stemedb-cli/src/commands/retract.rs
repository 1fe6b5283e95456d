//! `retract`: take back a record or a source.

use serde_json::json;
use stemedb_model::{Hash, Kind, RecordId};

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Take back a record, or every claim that rests on a source. Undone by retracting the retraction.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb retract ID --reason 'typing error'
  stemedb retract --source https://example.org/paper --reason 'withdrawn' --key registrar.key")]
pub struct Args {
    /// The record.
    #[arg(required_unless_present_any = ["source", "evidence"], conflicts_with_all = ["source", "evidence"])]
    record: Option<RecordId>,
    /// The source with this address.
    #[arg(long, value_name = "URI", conflicts_with = "evidence")]
    source: Option<String>,
    /// The source with this content.
    #[arg(long, value_name = "HASH")]
    evidence: Option<Hash>,
    /// Why.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let source = match (args.source, args.evidence) {
        (Some(uri), _) => Some(json!({ "uri": uri })),
        (None, Some(hash)) => Some(json!({ "evidence": hash.to_string() })),
        (None, None) => None,
    };
    let fields = Fields::new()
        .maybe("record", args.record.map(|id| id.to_string()))
        .maybe("source", source)
        .maybe("reason", args.reason);
    record::send(context, &args.author, Kind::Retract, fields)
}
