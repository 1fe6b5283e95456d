//! Lenses: their names, and what they say.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::point::{AsOf, AtLeast};
use super::resolution::Reference;
use super::scalar::{
    Aggregate, ExpressionText, HashHex, LINE, NameText, SpaceText, TieRule, string,
};

/// A lens: a built-in one, or `name` or `name@version` of one's own. Without a version it is the highest
/// one there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LensName(pub String);

impl LensName {
    /// The text, not yet looked up.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for LensName {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for LensName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialSchema for LensName {
    fn schema() -> RefOr<Schema> {
        string()
            .min_length(Some(1))
            .max_length(Some(533))
            .pattern(Some(LINE))
            .description(Some(
                "A built-in lens (recency, consensus, confidence, authority, trust, votes, skeptic, \
                 layered), or `name` or `name@version` of a lens record; without a version the \
                 highest one there is at the position that is read",
            ))
            .into()
    }
}

impl ToSchema for LensName {}

/// What GET /v1/lenses asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LensesParams {
    /// The namespace. Default: `default`.
    pub space: Option<SpaceText>,
    /// How many on a page. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Answer as the database would have then.
    pub as_of: Option<AsOf>,
    /// Wait until this much of the log is readable.
    pub at_least: Option<AtLeast>,
    /// Where the next page begins, from the one before; all other parameters stay the same.
    pub cursor: Option<String>,
}

/// What GET /v1/lenses/{name} asks.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LensParams {
    /// The namespace. Default: `default`.
    pub space: Option<SpaceText>,
    /// Answer as the database would have then.
    pub as_of: Option<AsOf>,
    /// Wait until this much of the log is readable.
    pub at_least: Option<AtLeast>,
}

/// A lens and what it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LensAnswer {
    /// What to ask for.
    pub lens: LensName,
    /// Its name.
    pub name: NameText,
    /// Its version; of the built-in ones that of the rules of this build.
    pub version: u64,
    /// Built in.
    pub built_in: bool,
    /// Whether a claim is heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<ExpressionText>,
    /// What a claim weighs. Absent of a built-in lens that is beyond the form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<ExpressionText>,
    /// How the weights of a value's voices, or claims, combine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// How ties are broken, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 3)]
    pub ties: Vec<TieRule>,
    /// Hash of the definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<HashHex>,
    /// Hash of the lens with default options, as answers have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lens_hash: Option<HashHex>,
    /// Of a built-in lens: what its definition does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond: Option<String>,
    /// The record that defines it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Reference>,
    /// Why it cannot be used, of one that was defined before that was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A page of lenses: the built-in ones, then those of the space by name and version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LensPage {
    /// As the log up to here says.
    pub position: u64,
    /// Names that state of the database.
    pub snapshot: String,
    /// The lenses.
    #[schema(max_items = 1000)]
    pub lenses: Vec<LensAnswer>,
    /// Where the next page begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A claim that a lens has no value for. It has no part in the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LensFault {
    /// The assertion.
    pub claim: Reference,
    /// `filter` or `weight`.
    #[schema(pattern = "^(filter|weight)$")]
    pub field: String,
    /// What went wrong.
    pub problem: String,
}
