//! The claimed value as people type it.

use clap::Args;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::time;

/// How to read the object.
#[derive(Debug, Clone, Args)]
pub struct ObjectArgs {
    /// The claimed value: true and false are booleans, numbers are numbers, the rest is text.
    pub object: String,
    /// Read it as this type instead.
    #[arg(long = "type", value_name = "TYPE", value_parser = TYPES)]
    pub value_type: Option<String>,
    /// Unit of a number.
    #[arg(long)]
    pub unit: Option<String>,
}

const TYPES: [&str; 5] = ["text", "number", "boolean", "time", "reference"];

impl ObjectArgs {
    /// As JSON.
    pub fn to_json(&self) -> Result<Value, Failure> {
        read(&self.object, self.value_type.as_deref(), self.unit.as_deref())
            .map_err(|problem| Failure::error(format!("object: {problem}")))
    }
}

fn read(text: &str, value_type: Option<&str>, unit: Option<&str>) -> Result<Value, String> {
    // JSON decides what a number is, so `007`, `1.` and `inf` are texts.
    let scalar = serde_json::from_str::<Value>(text).ok();
    let number = scalar.clone().filter(Value::is_number);
    let not = |what: &str| format!("`{text}` is no {what}");
    if unit.is_some() && value_type.is_some_and(|name| name != "number") {
        return Err("only a number has a unit".into());
    }
    match (value_type, unit) {
        (_, Some(unit)) => {
            let number = number.ok_or_else(|| not("number"))?;
            Ok(json!({ "type": "number", "value": number, "unit": unit }))
        }
        (Some("number"), None) => number.ok_or_else(|| not("number")),
        (Some("boolean"), None) => {
            scalar.filter(Value::is_boolean).ok_or_else(|| not("boolean; write true or false"))
        }
        (Some("time"), None) => Ok(json!({ "type": "time", "value": time::parse(text)?.0 })),
        (Some("reference"), None) => Ok(json!({ "type": "reference", "value": text })),
        (Some(_), None) => Ok(text.into()),
        (None, None) => match scalar {
            Some(scalar) if scalar.is_number() || scalar.is_boolean() => Ok(scalar),
            _ => Ok(text.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        for (text, value_type, unit, expected) in [
            ("rare", None, None, Ok(json!("rare"))),
            ("true", None, None, Ok(json!(true))),
            ("47e6", None, None, Ok(json!(47e6))),
            ("-3", None, None, Ok(json!(-3))),
            ("007", None, None, Ok(json!("007"))),
            ("NaN", None, None, Ok(json!("NaN"))),
            ("[1]", None, None, Ok(json!("[1]"))),
            ("null", None, None, Ok(json!("null"))),
            ("", None, None, Ok(json!(""))),
            ("true", Some("text"), None, Ok(json!("true"))),
            ("12", Some("text"), None, Ok(json!("12"))),
            ("x", Some("number"), None, Err(())),
            ("1", Some("boolean"), None, Err(())),
            ("true", Some("boolean"), None, Ok(json!(true))),
            ("a/b", Some("reference"), None, Ok(json!({"type": "reference", "value": "a/b"}))),
            ("1970-01-02", Some("time"), None, Ok(json!({"type": "time", "value": 86_400_000}))),
            ("5", None, Some("mg"), Ok(json!({"type": "number", "value": 5, "unit": "mg"}))),
            ("five", None, Some("mg"), Err(())),
            ("5", Some("text"), Some("mg"), Err(())),
        ] {
            let found = read(text, value_type, unit).map_err(|_| ());
            assert_eq!(found, expected, "{text} {value_type:?} {unit:?}");
        }
    }
}
