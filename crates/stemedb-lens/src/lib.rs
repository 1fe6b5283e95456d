//! Resolution as pure functions: exclusion, voices, values, disagreement, lenses.
//!
//! [`Candidates`] go in, whole; a [`Resolution`] comes out. Nothing here fails, reads a clock or
//! depends on the order of what it is given. Every rule, rounding and tie is specified in
//! `docs/format/answer.md`; the steps are:
//!
//! 1. which claims take part, and why the others do not (`exclude`, `facts`, `statements`);
//! 2. one voice each ([`Tally`], `camp`);
//! 3. what counts as one value (`values`);
//! 4. the disagreement, the same under every lens (`disagreement`);
//! 5. the answer, by the lens (`lenses`, `resolve`), built in or a lens record (`custom`).
//!
//! The first four may be kept between answers and kept up to date: [`Question`].

mod answer;
mod camp;
mod candidates;
mod choosing;
mod components;
mod custom;
mod decay;
mod diff;
mod disagreement;
mod dispute;
mod exclude;
mod facts;
mod lenses;
mod lookup;
pub mod merkle;
mod options;
mod question;
mod ranked;
mod receipt;
mod resolution;
mod resolve;
mod statements;
mod tally;
pub mod trust;
mod trusting;
mod values;

pub use answer::{AnswerRoot, LENS_VERSION, answer_leaf, lens_hash, root_options};
pub use candidates::{Candidates, Claim, Fact, FactKind};
pub use choosing::same_claims;
pub use custom::{
    CustomLens, DEFINITION_RULES, INPUTS, InputDoc, LensFault, LensProblem, Published, STEPS_MAX,
    definition_hash, published,
};
pub use decay::{Sum, WEIGHT_ONE, Weight};
pub use diff::{Became, Change, changes};
pub use dispute::Dispute;
pub use lenses::{NEVER, Reliability};
pub use options::{Decay, LensName, Options};
pub use question::Question;
pub use receipt::{Considered, RECEIPT_VERSION, Receipt, ReceiptValue};
pub use resolution::{Dissent, Excluded, Layer, Reason, Resolution, Status, ValueSupport};
pub use resolve::{resolve, resolve_many};
pub use statements::{Standing, standings};
pub use tally::{Strength, Tally, TierSum};

/// How many claims an answer names behind one value.
pub const BECAUSE_MAX: usize = 10;

/// How many of the excluded assertions an answer names: the newest.
pub const EXCLUDED_MAX: usize = 10;
