//! `predicate`: say what a property is.

use serde_json::{Value, json};
use stemedb_model::Kind;

use crate::context::Context;
use crate::failure::Failure;
use crate::record::{self, AuthorArgs, Fields};

/// Milliseconds of a day, in which half-lives are given here.
const DAY_MS: f64 = 86_400_000.0;

/// Register a predicate: how many values, which type, unit and tolerance. Needs a registrar's key.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb predicate height --type number --unit m --convert ft=0.3048 --absolute 0.5 --key root.key
  stemedb predicate author --cardinality many --key root.key")]
pub struct Args {
    /// Its name.
    name: String,
    /// One value, or each value a question of its own.
    #[arg(long, default_value = "one", value_parser = ["one", "many"])]
    cardinality: String,
    /// Type of its values.
    #[arg(long = "type", value_parser = ["text", "number", "boolean", "time", "reference"])]
    value_type: Option<String>,
    /// Its unit.
    #[arg(long)]
    unit: Option<String>,
    /// How another unit becomes this one: multiply, then add; may be repeated.
    #[arg(long, value_name = "UNIT=MULTIPLY[+ADD]", value_parser = conversion)]
    convert: Vec<Conversion>,
    /// Two numbers this near are one value.
    #[arg(long, value_name = "NUMBER")]
    absolute: Option<f64>,
    /// The same, relative to the centre.
    #[arg(long, value_name = "FRACTION")]
    relative: Option<f64>,
    /// A predicate that denies this one; may be repeated.
    #[arg(long, value_name = "PREDICATE")]
    opposite: Vec<String>,
    /// Half-life under decay per class, in days.
    #[arg(long, value_name = "DAYS")]
    half_life: Option<f64>,
    #[command(flatten)]
    author: AuthorArgs,
}

#[derive(Debug, Clone, PartialEq)]
struct Conversion {
    unit: String,
    multiply: f64,
    add: f64,
}

fn conversion(text: &str) -> Result<Conversion, String> {
    let parse = || {
        let (unit, formula) = text.rsplit_once('=')?;
        let (multiply, add) = match formula.split_once('+') {
            Some((multiply, add)) => (multiply.parse().ok()?, add.parse().ok()?),
            None => (formula.parse().ok()?, 0.0),
        };
        Some(Conversion { unit: unit.to_owned(), multiply, add })
    };
    parse().ok_or_else(|| "write UNIT=MULTIPLY or UNIT=MULTIPLY+ADD, such as °C=1+273.15".into())
}

/// Sends it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let tolerance = Fields::new().maybe("absolute", args.absolute).maybe("relative", args.relative);
    let tolerance =
        (args.absolute.is_some() || args.relative.is_some()).then(|| tolerance.into_value());
    let conversions: Vec<Value> = args
        .convert
        .iter()
        .map(|one| json!({ "unit": one.unit, "multiply": one.multiply, "add": one.add }))
        .collect();
    let half_life = args.half_life.map(|days| (days * DAY_MS).round());
    if half_life.is_some_and(|ms| !(1.0..=1e15).contains(&ms)) {
        return Err(Failure::error("--half-life: expected more than 0 days"));
    }
    let fields = Fields::new()
        .set("name", args.name)
        .set("cardinality", args.cardinality)
        .maybe("type", args.value_type)
        .maybe("unit", args.unit)
        .list("conversions", conversions)
        .maybe("tolerance", tolerance)
        .list("opposites", args.opposite)
        // Whole and in range: checked above.
        .maybe("half_life", half_life.map(|ms| ms as u64));
    record::send(context, &args.author, Kind::Predicate, fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions() {
        let good = |unit: &str, multiply, add| Ok(Conversion { unit: unit.into(), multiply, add });
        for (text, expected) in [
            ("ft=0.3048", good("ft", 0.3048, 0.0)),
            ("°C=1+273.15", good("°C", 1.0, 273.15)),
            ("x=2+-1", good("x", 2.0, -1.0)),
            ("a=b=2", good("a=b", 2.0, 0.0)),
            ("ft", Err(())),
            ("ft=", Err(())),
            ("ft=1+", Err(())),
        ] {
            assert_eq!(conversion(text).map_err(|_| ()), expected, "{text}");
        }
    }
}
