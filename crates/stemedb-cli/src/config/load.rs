//! Layers, and where each value came from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::schema::Config;

/// Read when it exists and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/stemedb/api.toml";
const PREFIX: &str = "STEMEDB_";

/// One value given outside the file.
#[derive(Debug, Clone)]
pub struct Setting {
    /// `section.key`.
    pub key: String,
    /// As written. Read as a number or boolean where the key's default is one, else as text.
    pub value: String,
    /// The flag or variable, as the person wrote it.
    pub origin: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file is not there or not readable.
    #[error("cannot read {file}: {source}")]
    File {
        /// As named.
        file: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// One or more problems, each a full sentence.
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
}

/// The configuration in force.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
    figment: Figment,
}

impl Loaded {
    /// Where the value of `section.key` came from, in words; `None` for a default.
    pub fn origin(&self, key: &str) -> Option<String> {
        let metadata = self.figment.find_metadata(key)?;
        (metadata.name != DEFAULTS).then(|| describe(metadata))
    }

    /// All bounds that fail.
    pub fn problems(&self) -> Vec<String> {
        self.config.validate()
    }
}

const DEFAULTS: &str = "default";

/// Reads the layers. `file`: the one named by `--config`, which must exist; without it
/// [`DEFAULT_FILE`] if that exists. `environment`: all variables of the process.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[Setting],
) -> Result<Loaded, ConfigError> {
    let defaults = Layer::from(Serialized::defaults(Config::default()), Metadata::named(DEFAULTS))?;
    let mut figment = Figment::from(defaults);
    let file = match file {
        Some(file) => {
            // The library takes a missing file for an empty one.
            std::fs::metadata(file)
                .map_err(|source| ConfigError::File { file: file.to_owned(), source })?;
            Some(file.to_owned())
        }
        None => Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()),
    };
    if let Some(file) = &file {
        figment = figment.merge(Toml::file_exact(file));
    }
    for setting in environment_settings(environment)?.iter().chain(flags) {
        figment = figment.merge(Layer::one(setting));
    }
    let config = figment.extract::<Config>().map_err(|error| {
        ConfigError::Wrong(error.into_iter().map(|one| sentence(&one)).collect())
    })?;
    Ok(Loaded { config, file, figment })
}

fn environment_settings(
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    let mut wrong = Vec::new();
    let keys = keys_with_one_underscore();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        match rest.find("__") {
            Some(_) => settings.push(Setting {
                key: rest.replace("__", ".").to_lowercase(),
                value,
                origin: name,
            }),
            // One underscore is the likely slip; other names are not ours.
            None if keys.contains(&rest.to_lowercase()) => wrong.push(format!(
                "unknown variable {name}: a key is written {PREFIX}<SECTION>__<KEY>, \
                 with two underscores"
            )),
            None => {}
        }
    }
    // The environment has no order; errors and reports should have one.
    settings.sort_by(|a, b| a.origin.cmp(&b.origin));
    if wrong.is_empty() { Ok(settings) } else { Err(ConfigError::Wrong(wrong)) }
}

fn keys_with_one_underscore() -> BTreeSet<String> {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    sections(&defaults)
        .into_iter()
        .flat_map(|(section, keys)| {
            let section = section.replace('.', "_");
            keys.into_iter().map(move |(key, _)| format!("{section}_{key}"))
        })
        .collect()
}

/// The sections of a configuration, as in `[rate_limit.write]`, each with its own keys.
pub fn sections(config: &serde_json::Value) -> Vec<(String, Vec<(&str, &serde_json::Value)>)> {
    fn walk<'a>(
        name: &str,
        value: &'a serde_json::Value,
        found: &mut Vec<(String, Vec<(&'a str, &'a serde_json::Value)>)>,
    ) {
        let members = value.as_object().into_iter().flatten();
        let (tables, keys): (Vec<_>, Vec<_>) = members
            .map(|(key, value)| (key.as_str(), value))
            .partition(|(_, value)| value.is_object());
        if !keys.is_empty() {
            found.push((name.to_owned(), keys));
        }
        for (key, value) in tables {
            let name = if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
            walk(&name, value, found);
        }
    }
    let mut found = Vec::new();
    walk("", config, &mut found);
    found
}

fn describe(metadata: &Metadata) -> String {
    match &metadata.source {
        Some(figment::Source::File(path)) => path.display().to_string(),
        _ => metadata.name.to_string(),
    }
}

fn sentence(error: &figment::Error) -> String {
    // Of an unknown key its own name is the last part.
    let path = error.path.join(".");
    let place = error.metadata.as_ref().map(describe).unwrap_or_default();
    let place = if place.is_empty() { String::new() } else { format!(" ({place})") };
    let list = |names: &[&str]| names.join(", ");
    match &error.kind {
        Kind::UnknownField(_, expected) => {
            format!("unknown key {path}{place}; known here: {}", list(expected))
        }
        Kind::UnknownVariant(value, expected) => {
            format!("{path}{place}: `{value}` is none of {}", list(expected))
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("{path}{place}: found {found}, expected {expected}")
        }
        other if path.is_empty() => format!("{other}{place}"),
        other => format!("{path}{place}: {other}"),
    }
}

/// One layer with a name of our own choosing.
struct Layer {
    metadata: Metadata,
    data: Map<Profile, Dict>,
}

impl Layer {
    fn from(provider: impl Provider, metadata: Metadata) -> Result<Self, ConfigError> {
        let data = provider.data().map_err(|error| ConfigError::Wrong(vec![error.to_string()]))?;
        Ok(Self { metadata, data })
    }

    fn one(setting: &Setting) -> Self {
        let value = typed(&setting.key, &setting.value);
        let dict = match figment::util::nest(&setting.key, value) {
            Value::Dict(_, dict) => dict,
            _ => Dict::new(),
        };
        Self {
            metadata: Metadata::named(setting.origin.clone()),
            data: Profile::Default.collect(dict),
        }
    }
}

/// A setting from a variable or a flag, of the type that its key has. A list is written as in the file,
/// or with commas between.
fn typed(key: &str, text: &str) -> Value {
    let pointer = format!("/{}", key.replace('.', "/"));
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let value = serde_json::from_str::<serde_json::Value>(text);
    match (defaults.pointer(&pointer), value) {
        (Some(default), Ok(value))
            if (default.is_number() && value.is_number())
                || (default.is_boolean() && value.is_boolean())
                || (default.is_array() && value.is_array()) =>
        {
            Value::serialize(&value).unwrap_or_else(|_| Value::from(text))
        }
        (Some(default), _) if default.is_array() => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::from(items.collect::<Vec<_>>())
        }
        _ => Value::from(text),
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(self.data.clone())
    }
}
