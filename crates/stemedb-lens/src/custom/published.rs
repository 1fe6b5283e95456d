//! The built-in lenses, written as definitions.

use std::sync::Arc;

use stemedb_model::{Aggregate, Lens};

use super::CustomLens;
use crate::answer::LENS_VERSION;
use crate::options::LensName;

/// A built-in lens as a definition.
#[derive(Debug, Clone)]
pub struct Published {
    /// The built-in lens.
    pub lens: LensName,
    /// The same as data; `None` where the form does not reach.
    pub definition: Option<Arc<Lens>>,
    /// What the definition does not say.
    pub beyond: Option<&'static str>,
}

/// Weight, aggregate, and what they do not say, by lens.
type Row = (LensName, Option<(&'static str, Aggregate)>, Option<&'static str>);

const ROWS: [Row; LensName::ALL.len()] = [
    (
        LensName::Recency,
        Some(("claim.time == question.newest ? steady(1.0) : 0.0", Aggregate::Max)),
        Some("values behind the newest are ordered by the tie rules, not by their times"),
    ),
    (LensName::Consensus, Some(("1.0", Aggregate::Sum)), None),
    (LensName::Confidence, Some(("claim.confidence", Aggregate::Max)), None),
    (
        LensName::Authority,
        Some(("claim.tier == question.best_tier ? claim.confidence : null", Aggregate::Sum)),
        None,
    ),
    (LensName::Trust, Some(("claim.confidence * claim.reliability", Aggregate::Sum)), None),
    (
        LensName::Votes,
        Some(("claim.confidence + (claim.rank == 0 ? steady(value.votes) : 0.0)", Aggregate::Sum)),
        None,
    ),
    (
        LensName::Skeptic,
        None,
        Some("it has no winner, and its weights are shares of the disagreement"),
    ),
    (
        LensName::Layered,
        Some(("claim.tier == question.best_tier ? claim.confidence : null", Aggregate::Sum)),
        Some("the answers of single tiers, and the conflict across them"),
    ),
];

/// The built-in lenses as definitions, in table order.
pub fn published() -> Vec<Published> {
    let rows = ROWS.into_iter();
    rows.map(|(lens, definition, beyond)| Published {
        lens,
        definition: definition.map(|(weight, aggregate)| {
            Arc::new(Lens {
                name: lens.as_str().into(),
                version: LENS_VERSION,
                filter: None,
                weight: weight.into(),
                aggregate,
                ties: Vec::new(),
            })
        }),
        beyond,
    })
    .collect()
}

impl Published {
    /// The definition, compiled.
    pub fn compiled(&self) -> Option<CustomLens> {
        CustomLens::new(Arc::clone(self.definition.as_ref()?)).ok()
    }
}
