//! What an expression may ask about.

use super::compile::Type;

/// One thing that an expression may ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Confidence,
    Tier,
    Class,
    State,
    Time,
    Age,
    AgeDays,
    Position,
    Denies,
    Registered,
    Cosigns,
    VotesFor,
    VotesAgainst,
    Voters,
    Reliability,
    Rank,
    ValueType,
    Text,
    Number,
    ValueClaims,
    ValueAgents,
    ValueVoices,
    ValueTier,
    ValueVotes,
    BestTier,
    Newest,
    Claims,
    EvaluatedAt,
    ValidAt,
}

/// An input, as documentation shows it.
#[derive(Debug, Clone, Copy)]
pub struct InputDoc {
    /// The name, with what it is of: `claim.confidence`.
    pub name: &'static str,
    /// Its CEL type.
    pub kind: &'static str,
    /// What it is, and its unit.
    pub meaning: &'static str,
    /// A filter may use it: it does not depend on which claims are heard.
    pub in_filter: bool,
    pub(crate) input: Input,
}

impl InputDoc {
    pub(crate) fn kind(&self) -> Type {
        match self.kind {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "double" => Type::Double,
            _ => Type::Text,
        }
    }
}

const fn of_claim(
    input: Input,
    name: &'static str,
    kind: &'static str,
    meaning: &'static str,
) -> InputDoc {
    InputDoc { name, kind, meaning, in_filter: true, input }
}

const fn of_heard(
    input: Input,
    name: &'static str,
    kind: &'static str,
    meaning: &'static str,
) -> InputDoc {
    InputDoc { name, kind, meaning, in_filter: false, input }
}

/// Everything that an expression may ask about. The prefix `claim.` may be left out.
pub const INPUTS: [InputDoc; 29] = [
    of_claim(Input::Confidence, "claim.confidence", "double", "the claimant's certainty, 0 to 1"),
    of_claim(Input::Tier, "claim.tier", "int", "authority tier, 0 (best) to 5"),
    of_claim(Input::Class, "claim.class", "string", "the tier's name: `regulatory` to `anecdotal`"),
    of_claim(Input::State, "claim.state", "string", "lifecycle state: `proposed` to `rejected`"),
    of_claim(Input::Time, "claim.time", "int", "min(at, recorded_at), ms since 1970"),
    of_claim(Input::Age, "claim.age", "int", "evaluated_at less claim.time, ms, at least 0"),
    of_claim(Input::AgeDays, "claim.age_days", "double", "the same in days of 86,400,000 ms"),
    of_claim(Input::Position, "claim.position", "int", "number in the log"),
    of_claim(Input::Denies, "claim.denies", "bool", "made under an opposite of the predicate"),
    of_claim(Input::Registered, "claim.registered", "bool", "its source is registered"),
    of_claim(Input::Cosigns, "claim.cosigns", "int", "other agents that stand by it"),
    of_claim(Input::VotesFor, "claim.votes_for", "double", "sum of the live votes above 0 on it"),
    of_claim(
        Input::VotesAgainst,
        "claim.votes_against",
        "double",
        "sum of the live votes below 0 on it, as a positive number",
    ),
    of_claim(Input::Voters, "claim.voters", "int", "live votes on it"),
    of_claim(
        Input::Reliability,
        "claim.reliability",
        "double",
        "learned reliability of who stands for it, 0 to 1; 0.5 if unknown",
    ),
    of_heard(
        Input::Rank,
        "claim.rank",
        "int",
        "place among the heard claims of its side of its value, strongest first, from 0",
    ),
    of_claim(
        Input::ValueType,
        "claim.value_type",
        "string",
        "`text`, `number`, `boolean`, `time` or `reference`",
    ),
    of_claim(Input::Text, "claim.text", "string", "the value if it is a text, else empty"),
    of_claim(
        Input::Number,
        "claim.number",
        "double",
        "the value if it is a number, in the predicate's unit where that is known, else 0",
    ),
    of_heard(Input::ValueClaims, "value.claims", "int", "heard claims of its side of its value"),
    of_heard(Input::ValueAgents, "value.agents", "int", "distinct agents behind them"),
    of_heard(Input::ValueVoices, "value.voices", "int", "independent voices behind them"),
    of_heard(Input::ValueTier, "value.best_tier", "int", "best tier among them"),
    of_heard(
        Input::ValueVotes,
        "value.votes",
        "double",
        "what voters add to it or take from it, as under the lens `votes`",
    ),
    of_heard(
        Input::BestTier,
        "question.best_tier",
        "int",
        "best tier heard in the question; under cardinality many, of both sides of the value",
    ),
    of_heard(Input::Newest, "question.newest", "int", "newest claim.time heard there, ms"),
    of_heard(Input::Claims, "question.claims", "int", "claims heard there"),
    of_claim(Input::EvaluatedAt, "question.evaluated_at", "int", "when weights are taken, ms"),
    of_claim(Input::ValidAt, "question.valid_at", "int", "when validity is judged, ms"),
];

/// The input of this name.
pub(crate) fn find(name: &str) -> Option<&'static InputDoc> {
    INPUTS.iter().find(|input| {
        input.name == name || input.name.strip_prefix("claim.").is_some_and(|bare| bare == name)
    })
}
