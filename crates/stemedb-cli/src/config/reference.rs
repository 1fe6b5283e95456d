//! Configuration as text: the values in force, and the reference of all keys.

use std::fmt::Write as _;

use serde_json::Value;

use super::load::{Loaded, sections};
use super::schema::Config;

/// The values in force, as a file that gives the same values, each with its origin.
pub fn print(loaded: &Loaded) -> String {
    let mut text = String::new();
    let value = serde_json::to_value(&loaded.config).unwrap_or_default();
    for (section, keys) in sections(&value) {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "[{section}]");
        for (key, value) in keys {
            let origin = loaded.origin(&format!("{section}.{key}"));
            let origin = origin.map_or_else(|| "default".to_owned(), |from| format!("from {from}"));
            match value {
                Value::Null => {
                    let _ = writeln!(text, "# {key} is not set");
                }
                // A JSON scalar is written as TOML writes it.
                value => {
                    let _ = writeln!(text, "{key} = {value}  # {origin}");
                }
            }
        }
    }
    text
}

/// A section and its keys, as the schema describes them.
pub(super) struct Section {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) keys: Vec<Key>,
}

pub(super) struct Key {
    name: String,
    pub(super) variable: String,
    type_name: String,
    pub(super) description: String,
    pub(super) default: Value,
}

pub(super) fn documented() -> Vec<Section> {
    let schema = schemars::schema_for!(Config).to_value();
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    // What is said where a type is used comes before what the type says of itself.
    let inside = |outer: &Value, name: &str| -> Option<Value> {
        let property = outer.get("properties")?.get(name)?;
        let mut found = target(&schema, property).clone();
        if let (Some(said), Some(found)) = (property.get("description"), found.as_object_mut()) {
            found.insert("description".into(), said.clone());
        }
        Some(found)
    };
    let section = |(name, keys): (String, Vec<(&str, &Value)>)| {
        let found = name.split('.').try_fold(schema.clone(), |outer, name| inside(&outer, name));
        let found = found.unwrap_or_default();
        let key = |(key, default): (&str, &Value)| {
            let property = inside(&found, key).unwrap_or_default();
            Key {
                name: key.to_owned(),
                variable: format!("STEMEDB_{}__{key}", name.replace('.', "__")).to_uppercase(),
                type_name: type_name(&schema, &property),
                description: description(&property).replace('\n', " "),
                default: default.clone(),
            }
        };
        let keys = keys.into_iter().map(key).collect();
        Section { description: description(&found).to_owned(), keys, name }
    };
    sections(&defaults).into_iter().map(section).collect()
}

/// Every key with type, default and meaning, as a page.
pub fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Read from `/etc/stemedb/api.toml` or the file named by `--config`. Every key is also an\n\
         environment variable. Order: flags, environment, file, defaults. Unknown keys are errors.\n",
    );
    for Section { name, description, keys } in documented() {
        let _ = write!(text, "\n## `[{name}]`\n\n{description}\n\n");
        text.push_str("| key | type | default | meaning | variable |\n|---|---|---|---|---|\n");
        for Key { name, variable, type_name, description, default } in keys {
            let default = match default {
                Value::Null => "not set".to_owned(),
                value => format!("`{value}`"),
            };
            let _ = writeln!(
                text,
                "| `{name}` | {type_name} | {default} | {description} | `{variable}` |"
            );
        }
    }
    text
}

fn description(value: &Value) -> &str {
    value.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// Follows a `$ref` into the schema's definitions.
fn target<'a>(schema: &'a Value, property: &'a Value) -> &'a Value {
    let reference = property.get("$ref").and_then(Value::as_str);
    let name = reference.and_then(|path| path.rsplit('/').next());
    name.and_then(|name| schema.get("$defs")?.get(name)).unwrap_or(property)
}

fn type_name(schema: &Value, property: &Value) -> String {
    let found = target(schema, property);
    let choices = |list: &Vec<Value>| {
        let words = list.iter().filter_map(|one| one.get("const").unwrap_or(one).as_str());
        words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    };
    if let Some(list) = found.get("enum").or(found.get("oneOf")).and_then(Value::as_array) {
        return choices(list);
    }
    match found.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null")
            .map_or_else(String::new, str::to_owned),
        _ => String::new(),
    }
}
