//! `source`: register or re-classify a source.

use serde_json::json;
use stemedb_model::{Hash, Kind};

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Register a source with its class. Needs a registrar's key.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb source https://example.org/label --class regulatory --title 'Label' --key root.key")]
pub struct Args {
    /// Its addresses, as written in the claims; all name one source.
    #[arg(required_unless_present = "evidence")]
    uris: Vec<String>,
    /// Hash of its content; may be repeated.
    #[arg(long, value_name = "HASH")]
    evidence: Vec<Hash>,
    /// Its class.
    #[arg(long, value_parser = super::CLASSES)]
    class: String,
    /// Its title.
    #[arg(long)]
    title: Option<String>,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let hashes = args.evidence.iter().map(|hash| json!({ "evidence": hash.to_string() }));
    let uris = args.uris.iter().map(|uri| json!({ "uri": uri }));
    let fields = Fields::new()
        .list("keys", hashes.chain(uris).collect())
        .set("class", args.class)
        .maybe("title", args.title);
    record::send(context, &args.author, Kind::Source, fields)
}
