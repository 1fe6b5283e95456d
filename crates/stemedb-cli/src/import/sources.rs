//! The files that say what sources and predicates are.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use stemedb_model::SourceClass;

use crate::failure::Failure;
use crate::files;

/// What the file of sources says, by name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sources {
    exact: HashMap<String, SourceInfo>,
    /// Names that end in `*`, without it; the longest that fits holds.
    prefixes: Vec<(String, SourceInfo)>,
}

/// What it says of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceInfo {
    pub(super) class: SourceClass,
    pub(super) title: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceLine {
    source: String,
    tier: String,
    #[serde(default)]
    page: Option<String>,
}

impl Sources {
    /// Reads the lines of `file`; `tiers` is one JSON object. A tier that is the name of a class
    /// needs no map.
    pub(super) fn load(file: &Path, tiers: Option<&Path>) -> Result<Self, Failure> {
        let tiers = match tiers {
            Some(tiers) => tier_map(tiers, &files::read_text(tiers)?)?,
            None => HashMap::new(),
        };
        Self::parse(files::open_lines(file)?, &tiers, &file.display().to_string())
    }

    fn parse(
        lines: impl BufRead,
        tiers: &HashMap<String, SourceClass>,
        name: &str,
    ) -> Result<Self, Failure> {
        let mut sources = Self::default();
        for (number, line) in lines.lines().enumerate() {
            let wrong =
                |problem: String| Failure::error(format!("{name}, line {}: {problem}", number + 1));
            let line = line.map_err(|error| wrong(error.to_string()))?;
            if line.trim().is_empty() {
                continue;
            }
            let line: SourceLine =
                serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            let class = tiers.get(&line.tier).copied().or(SourceClass::parse(&line.tier));
            let class = class.ok_or_else(|| {
                wrong(format!("tier `{}` is no class and not in the map", line.tier))
                    .hint("--tier-map FILE maps tiers to classes: {\"tier\":\"class\"}")
            })?;
            let info = SourceInfo { class, title: line.page.filter(|page| !page.is_empty()) };
            match line.source.strip_suffix('*') {
                Some(prefix) => sources.prefixes.push((prefix.to_owned(), info)),
                None => drop(sources.exact.insert(line.source, info)),
            }
        }
        sources.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(sources)
    }

    /// What the file says of this source.
    pub(super) fn get(&self, source: &str) -> Option<&SourceInfo> {
        let prefixed = || {
            let fits = self.prefixes.iter().find(|(prefix, _)| source.starts_with(prefix.as_str()));
            fits.map(|(_, info)| info)
        };
        self.exact.get(source).or_else(prefixed)
    }
}

fn tier_map(path: &Path, text: &str) -> Result<HashMap<String, SourceClass>, Failure> {
    let wrong = |problem: String| Failure::error(format!("{}: {problem}", path.display()));
    let map: HashMap<String, String> =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    map.into_iter()
        .map(|(tier, class)| match SourceClass::parse(&class) {
            Some(class) => Ok((tier, class)),
            None => {
                let known = SourceClass::ALL.map(SourceClass::as_str).join(", ");
                Err(wrong(format!("`{class}` is no class; the classes are {known}")))
            }
        })
        .collect()
}

/// Reads predicate records, as their JSON fields; cardinality is `one` if it is not said.
pub(super) fn predicates(path: &Path) -> Result<Vec<Value>, Failure> {
    let mut predicates = Vec::new();
    for (number, line) in files::open_lines(path)?.lines().enumerate() {
        let wrong = |problem: String| {
            Failure::error(format!("{}, line {}: {problem}", path.display(), number + 1))
        };
        let line = line.map_err(|error| wrong(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let mut fields: serde_json::Map<String, Value> =
            serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
        fields.entry("cardinality").or_insert_with(|| "one".into());
        fields.insert("kind".into(), "predicate".into());
        predicates.push(Value::Object(fields));
    }
    Ok(predicates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Sources, String> {
        let tiers = HashMap::from([("airline".to_owned(), SourceClass::Regulatory)]);
        Sources::parse(text.as_bytes(), &tiers, "f").map_err(|failure| failure.report())
    }

    #[test]
    fn tiers_come_from_the_map_or_are_classes() {
        let sources = parse(concat!(
            "{\"source\":\"aa\",\"tier\":\"airline\",\"page\":null}\n\n",
            "{\"source\":\"x\",\"tier\":\"community\",\"page\":\"a page\"}\n",
            "{\"source\":\"faers:*\",\"tier\":\"anecdotal\"}\n",
            "{\"source\":\"faers:eu:*\",\"tier\":\"expert\"}\n",
        ))
        .unwrap();
        for (source, class, title) in [
            ("aa", Some(SourceClass::Regulatory), None),
            ("x", Some(SourceClass::Community), Some("a page")),
            ("faers:1", Some(SourceClass::Anecdotal), None),
            ("faers:eu:1", Some(SourceClass::Expert), None),
            ("faers", None, None),
            ("y", None, None),
        ] {
            let info = sources.get(source);
            assert_eq!(info.map(|info| info.class), class, "{source}");
            assert_eq!(info.and_then(|info| info.title.as_deref()), title, "{source}");
        }
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, words) in [
            ("{\"source\":\"aa\",\"tier\":\"airport\"}", "f, line 1: tier `airport`"),
            ("\n{\"source\":\"aa\"}", "f, line 2: missing field `tier`"),
            ("{\"source\":\"a\",\"tier\":\"expert\",\"x\":1}", "f, line 1: unknown field `x`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
