//! The files under `deploy/`, read as the programs that they are for read them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

pub(crate) const RULES: &str = "deploy/prometheus/stemedb.rules.yml";
pub(crate) const TESTS: &str = "deploy/prometheus/tests";
pub(crate) const PROMETHEUS: &str = "deploy/prometheus/prometheus.yml";
pub(crate) const ALERTMANAGER: &str = "deploy/alertmanager/alertmanager.yml";
pub(crate) const ROUTES: &str = "deploy/alertmanager/routes.txt";
pub(crate) const GRAFANA: &str = "deploy/grafana";
pub(crate) const DASHBOARDS: &str = "deploy/grafana/dashboards";

/// A YAML file of one document.
pub(crate) fn yaml(path: &Path) -> Result<Value> {
    let text = read(path)?;
    let documents = Yaml::load_from_str(&text)
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let [document] = documents.as_slice() else {
        bail!("{}: {} documents, expected one", path.display(), documents.len());
    };
    value(document).with_context(|| format!("{}: not plain data", path.display()))
}

pub(crate) fn json(path: &Path) -> Result<Value> {
    serde_json::from_str(&read(path)?).with_context(|| path.display().to_string())
}

pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Files of a folder with this ending, by name; an empty folder is an error.
pub(crate) fn in_folder(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        bail!("there is no .{ending} in {}", folder.display());
    }
    paths.sort();
    Ok(paths)
}

fn value(yaml: &Yaml<'_>) -> Option<Value> {
    Some(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(is)) => Value::Bool(*is),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::FloatingPoint(number)) => Value::from(number.into_inner()),
        Yaml::Value(Scalar::String(text)) => Value::String(text.to_string()),
        Yaml::Sequence(items) => Value::Array(items.iter().map(value).collect::<Option<_>>()?),
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (key, entry) in entries {
                let Value::String(key) = value(key)? else { return None };
                map.insert(key, value(entry)?);
            }
            Value::Object(map)
        }
        _ => return None,
    })
}

/// The text at a place of a document, or nothing.
pub(crate) fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a place of a document, or an empty one.
pub(crate) fn list<'a>(document: &'a Value, pointer: &str) -> &'a [Value] {
    document.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_with_anchors_and_folded_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yml");
        let text = "a: &x { b: 'c: d', e: 1 }\nf: *x\ng: >-\n  one\n  two\nh: [1.5, true, null]\n";
        std::fs::write(&path, text).unwrap();
        let a = serde_json::json!({ "b": "c: d", "e": 1 });
        let all = serde_json::json!({ "a": a, "f": a, "g": "one two", "h": [1.5, true, null] });
        assert_eq!(yaml(&path).unwrap(), all);
        std::fs::write(&path, "a: 1\n---\nb: 2\n").unwrap();
        assert!(yaml(&path).is_err());
    }
}
