//! `assert`: one claim.

use serde_json::{Map, Value};
use stemedb_model::{Hash, Kind, Millis, RecordId};

use crate::context::Context;
use crate::failure::Failure;
use crate::object::ObjectArgs;
use crate::record::{self, AuthorArgs, Fields};
use crate::time;

/// Assert that a subject has a property with a value.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb assert semaglutide gastroparesis_risk rare
  stemedb assert everest height 8848.86 --unit m --source https://example.org/survey
  stemedb assert semaglutide gastroparesis_risk raised --confidence 0.8 --key alice.key")]
pub struct Args {
    /// The entity; `/` makes a path.
    subject: String,
    /// The property or relation.
    predicate: String,
    #[command(flatten)]
    object: ObjectArgs,
    /// The claimant's own certainty, 0 to 1. Default 1.
    #[arg(long)]
    confidence: Option<f64>,
    /// Where the evidence was found.
    #[arg(long, value_name = "URI")]
    source: Option<String>,
    /// BLAKE3 hash of the evidence itself.
    #[arg(long, value_name = "HASH")]
    evidence: Option<Hash>,
    /// Class of the source.
    #[arg(long, value_parser = super::CLASSES)]
    class: Option<String>,
    /// From when the claim holds in the world, included.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    valid_from: Option<Millis>,
    /// Until when it holds, excluded.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    valid_to: Option<Millis>,
    /// The epoch it is made under.
    #[arg(long, value_name = "ID")]
    epoch: Option<RecordId>,
    /// Declared state.
    #[arg(long, value_parser = super::STATES)]
    lifecycle: Option<String>,
    /// The assertion it revises.
    #[arg(long, value_name = "ID")]
    parent: Option<RecordId>,
    /// An assertion it rests on; may be repeated.
    #[arg(long, value_name = "ID")]
    derived_from: Vec<RecordId>,
    /// A free pair; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = super::pair)]
    meta: Vec<(String, String)>,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let source = Fields::new()
        .maybe("uri", args.source)
        .maybe("evidence", args.evidence.map(|hash| hash.to_string()))
        .maybe("class", args.class);
    let source = Some(source.into_value()).filter(|value| value.as_object() != Some(&Map::new()));
    let meta: Map<String, Value> =
        args.meta.into_iter().map(|(key, value)| (key, value.into())).collect();
    let id = |id: RecordId| id.to_string();
    let fields = Fields::new()
        .set("subject", args.subject)
        .set("predicate", args.predicate)
        .set("object", args.object.to_json()?)
        .maybe("confidence", args.confidence)
        .maybe("source", source)
        .maybe("valid_from", args.valid_from.map(|at| at.0))
        .maybe("valid_to", args.valid_to.map(|at| at.0))
        .maybe("epoch", args.epoch.map(id))
        .maybe("lifecycle", args.lifecycle)
        .maybe("parent", args.parent.map(id))
        .list("derived_from", args.derived_from.into_iter().map(id).collect())
        .maybe("meta", Some(meta).filter(|meta| !meta.is_empty()).map(Value::Object));
    record::send(context, &args.author, Kind::Assertion, fields)
}
