//! Lenses as data: a lens record, checked, compiled and run. Normative page: `docs/format/lens.md`.
//!
//! The crate `cel` reads the text of an expression. What it read is typed here and becomes a small tree
//! (`compile`), which has no loops and is run with a bound on its steps (`run`); `weigh` runs it on the
//! claims of a question. Whatever the expression and the claims are, there is an answer: a claim for
//! which an expression has no value is left out, and said so.

mod compile;
mod inputs;
mod parse;
mod published;
mod run;
mod weigh;

use std::sync::Arc;

use stemedb_model::{Aggregate, Hash, Lens, Position, TieRule, cbor};

use self::compile::{Compiled, Mass, Node, Uses};
pub use self::inputs::{INPUTS, InputDoc};
pub use self::published::{Published, published};
pub use self::run::STEPS_MAX;
pub(crate) use self::weigh::{Say, Weighed};

/// Version of the rules by which a definition is read: inputs, functions, rounding, bounds. Part of
/// every definition's hash, so that answers by other rules are never taken for one another.
pub const DEFINITION_RULES: u64 = 1;

/// Why a definition cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LensProblem {
    /// `filter` or `weight`.
    pub field: &'static str,
    /// What is wrong, where, and what to write instead.
    pub problem: String,
}

impl std::fmt::Display for LensProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for LensProblem {}

/// A claim that a definition has no value for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LensFault {
    /// The assertion. It has no part in the answer: `filtered`.
    pub position: Position,
    /// `filter` or `weight`.
    pub field: &'static str,
    /// What went wrong.
    pub problem: &'static str,
}

/// A lens definition, ready to be used.
#[derive(Debug)]
pub struct CustomLens {
    definition: Arc<Lens>,
    hash: Hash,
    filter: Option<Compiled<Node>>,
    weight: Compiled<Mass>,
    ties: Vec<TieRule>,
}

impl PartialEq for CustomLens {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl CustomLens {
    /// Checks and compiles a definition. Time and memory are bounded by its length.
    pub fn new(definition: Arc<Lens>) -> Result<Self, LensProblem> {
        let of = |field| move |problem| LensProblem { field, problem };
        let filter = definition.filter.as_deref();
        let filter = filter.map(|text| compile::filter(text).map_err(of("filter"))).transpose()?;
        let weight = compile::weight(&definition.weight).map_err(of("weight"))?;
        let mut ties = match definition.ties.as_slice() {
            [] => vec![TieRule::Agents, TieRule::Newest],
            ties => ties.to_vec(),
        };
        // Some order there must be.
        ties.push(TieRule::Bytes);
        let hash = definition_hash(&definition);
        Ok(Self { definition, hash, filter, weight, ties })
    }

    /// What was compiled.
    pub fn definition(&self) -> &Arc<Lens> {
        &self.definition
    }

    /// `name@version`, as answers and receipts call it.
    pub fn name(&self) -> String {
        format!("{}@{}", self.definition.name, self.definition.version)
    }

    /// The hash of the definition.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Whether it asks for learned trust.
    pub fn uses_trust(&self) -> bool {
        let uses = |uses: &Uses| uses.trust;
        self.filter.as_ref().is_some_and(|filter| uses(&filter.uses)) || uses(&self.weight.uses)
    }

    pub(crate) fn aggregate(&self) -> Aggregate {
        self.definition.aggregate
    }

    pub(crate) fn ties(&self) -> &[TieRule] {
        &self.ties
    }
}

/// BLAKE3 over the DAG-CBOR map of what a definition says and the version of the rules it is read by.
pub fn definition_hash(lens: &Lens) -> Hash {
    let Lens { name, version, filter, weight, aggregate, ties } = lens;
    let mut out = Vec::with_capacity(128);
    let text = |out: &mut Vec<u8>, key: &str, value: &str| {
        cbor::text(out, key);
        cbor::text(out, value);
    };
    cbor::map(&mut out, 5 + usize::from(!ties.is_empty()) + usize::from(filter.is_some()));
    text(&mut out, "name", name);
    if !ties.is_empty() {
        cbor::text(&mut out, "ties");
        cbor::list(&mut out, ties.len());
        ties.iter().for_each(|rule| cbor::text(&mut out, rule.as_str()));
    }
    cbor::text(&mut out, "rules");
    cbor::uint(&mut out, DEFINITION_RULES);
    if let Some(filter) = filter {
        text(&mut out, "filter", filter);
    }
    text(&mut out, "weight", weight);
    cbor::text(&mut out, "version");
    cbor::uint(&mut out, *version);
    text(&mut out, "aggregate", aggregate.as_str());
    Hash(*blake3::hash(&out).as_bytes())
}
