//! The simple claim line: one claim a line, by a named source, not signed.
//!
//! `{"subject","predicate","object","source","timestamp","confidence"}`; object is a string,
//! number or boolean; timestamp is a day or RFC 3339, or null; confidence is a number or null.
//! Nothing else is allowed on the line, so that a misspelt field is not silently lost.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use stemedb_model::{Millis, Value};

/// One claim as it stands on the line.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimLine {
    /// The entity.
    pub subject: String,
    /// The property.
    pub predicate: String,
    /// The claimed value.
    pub object: Value,
    /// Who says so.
    pub source: String,
    /// When it was said.
    pub at: Option<Millis>,
    /// The claimant's own certainty.
    pub confidence: Option<f64>,
}

/// What a line of an import holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A simple claim.
    Claim(ClaimLine),
    /// A record in the form of the HTTP interface, passed on as it is.
    Record,
    /// Nothing but white space.
    Empty,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    subject: String,
    predicate: String,
    object: serde_json::Value,
    source: String,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    confidence: Option<f64>,
}

/// Only what tells the forms apart: a record names its kind, is given as bytes, or stands in a
/// line of an export.
#[derive(Deserialize)]
struct Probe {
    kind: Option<IgnoredAny>,
    bytes: Option<IgnoredAny>,
    record: Option<IgnoredAny>,
}

/// Reads one line. The error says what is wrong with it.
pub fn parse(line: &str) -> Result<Line, String> {
    if line.trim().is_empty() {
        return Ok(Line::Empty);
    }
    let wire = match serde_json::from_str::<Wire>(line) {
        Ok(wire) => wire,
        Err(error) => {
            return match serde_json::from_str::<Probe>(line) {
                Ok(Probe { kind: None, bytes: None, record: None }) | Err(_) => {
                    Err(error.to_string())
                }
                Ok(_) => Ok(Line::Record),
            };
        }
    };
    let at = wire.timestamp.as_deref().map(crate::time::parse).transpose();
    let at = at.map_err(|problem| format!("timestamp: {problem}"))?;
    if wire.confidence.is_some_and(|c| !(0.0..=1.0).contains(&c)) {
        return Err("confidence: expected a number from 0 to 1".into());
    }
    Ok(Line::Claim(ClaimLine {
        subject: wire.subject,
        predicate: wire.predicate,
        object: scalar(&wire.object)?,
        source: wire.source,
        at,
        confidence: wire.confidence,
    }))
}

/// A bare JSON scalar as a value. An integer that a double cannot hold is refused.
pub fn scalar(value: &serde_json::Value) -> Result<Value, String> {
    match value {
        serde_json::Value::String(text) => Ok(Value::Text(Arc::from(text.as_str()))),
        serde_json::Value::Bool(truth) => Ok(Value::Boolean(*truth)),
        serde_json::Value::Number(number) => {
            let value = number.as_f64().filter(|value| value.is_finite());
            let value = value.ok_or_else(|| format!("object: {number} is no finite double"))?;
            // Another number would be stored than was claimed.
            if !number.is_f64() && format!("{value:.0}") != number.to_string() {
                return Err(format!("object: {number} does not fit a double"));
            }
            // -0 and 0 are one value.
            Ok(Value::Number { value: value + 0.0, unit: None })
        }
        other => Err(format!("object: expected a string, number or boolean, found {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> Result<Value, ()> {
        Ok(Value::Number { value, unit: None })
    }

    #[test]
    fn objects() {
        for (object, expected) in [
            (r#""rare""#, Ok(Value::Text("rare".into()))),
            ("true", Ok(Value::Boolean(true))),
            ("47e6", number(47e6)),
            ("-5", number(-5.0)),
            ("-0.0", number(0.0)),
            ("9007199254740992", number(9_007_199_254_740_992.0)),
            ("9007199254740993", Err(())),
            ("1e999", Err(())),
            ("null", Err(())),
            ("[1]", Err(())),
            ("{}", Err(())),
        ] {
            let line =
                format!(r#"{{"subject":"s","predicate":"p","object":{object},"source":"x"}}"#);
            let found = match parse(&line) {
                Ok(Line::Claim(claim)) => Ok(claim.object),
                Ok(other) => panic!("{other:?}"),
                Err(_) => Err(()),
            };
            assert_eq!(found, expected, "{object}");
        }
    }

    #[test]
    fn lines() {
        let claim = |at, confidence| {
            Ok(Line::Claim(ClaimLine {
                subject: "s".into(),
                predicate: "p".into(),
                object: Value::Boolean(true),
                source: "x".into(),
                at,
                confidence,
            }))
        };
        let base = r#"{"subject":"s","predicate":"p","object":true,"source":"x""#;
        for (line, expected) in [
            (format!("{base}}}"), claim(None, None)),
            (format!(r#"{base},"timestamp":null,"confidence":null}}"#), claim(None, None)),
            (
                format!(r#"{base},"timestamp":"1970-01-02","confidence":0.5}}"#),
                claim(Some(Millis(86_400_000)), Some(0.5)),
            ),
            (format!(r#"{base},"timestamp":"later"}}"#), Err("timestamp: `later`")),
            (format!(r#"{base},"confidence":1.5}}"#), Err("confidence")),
            (format!(r#"{base},"tier":1}}"#), Err("unknown field `tier`")),
            (r#"{"subject":"s"}"#.into(), Err("missing field `predicate`")),
            (r#"{"kind":"vote","weight":1}"#.into(), Ok(Line::Record)),
            (r#"{"bytes":"00","signature":"00"}"#.into(), Ok(Line::Record)),
            (r#"{"position":1,"record":{"kind":"vote"}}"#.into(), Ok(Line::Record)),
            ("  ".into(), Ok(Line::Empty)),
            ("nonsense".into(), Err("expected")),
        ] {
            match (parse(&line), expected) {
                (Err(found), Err(words)) => assert!(found.contains(words), "{line}: {found}"),
                (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{line}"),
            }
        }
    }
}
