//! Tables in pages.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const END: &str = "<!-- end of results -->";

/// Puts results into the place that a page has for those of `command`.
pub fn put(path: &Path, command: &str, tables: &str) -> Result<()> {
    let begin = format!("<!-- results: written by `{command}` -->");
    let page = fs::read_to_string(path).with_context(|| format!("no {}", path.display()))?;
    let places = page
        .split_once(&begin)
        .and_then(|(before, rest)| rest.split_once(END).map(|(_, after)| (before, after)));
    let (before, after) =
        places.with_context(|| format!("{} has no place for results", path.display()))?;
    fs::write(path, format!("{before}{begin}\n\n{tables}\n{END}{after}"))?;
    Ok(())
}

/// Three figures.
pub fn us(us: f64) -> String {
    match us {
        us if us < 9.995 => format!("{us:.2}"),
        us if us < 99.95 => format!("{us:.1}"),
        us => format!("{us:.0}"),
    }
}

/// With commas, without fraction.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
