//! Resolution as pure functions: exclusion, voices, values, disagreement, lenses.

mod candidates;
mod options;
mod resolution;

pub use candidates::{Candidates, Claim, Fact, FactKind};
pub use options::{Decay, LensName, Options};
pub use resolution::{Dissent, Excluded, Layer, Reason, Resolution, Status, ValueSupport};

/// How many claims an answer names behind one value.
pub const BECAUSE_MAX: usize = 10;
