use std::collections::BTreeSet;

use super::*;

fn env(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect::<Vec<_>>().into_iter()
}

fn flag(key: &str, value: &str) -> Setting {
    Setting { key: key.into(), value: value.into(), origin: format!("--{key}") }
}

/// Loads a file with this text, these variables and flags.
fn load_text(
    text: &str,
    variables: &[(&str, &str)],
    flags: &[Setting],
) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("api.toml");
    crate::files::create_private(&file, text).unwrap();
    load(Some(&file), env(variables), flags)
}

#[test]
fn defaults_are_valid_and_survive_a_round_trip() {
    let loaded = load(None, env(&[]), &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.problems(), Vec::<String>::new());
    let again = load_text(&print(&loaded), &[], &[]).unwrap();
    assert_eq!(again.config, loaded.config);
}

#[test]
fn flags_beat_environment_beats_file_beats_defaults() {
    let file =
        "[wal]\nsegment_bytes = 2097152\n[query]\nclaims_max = 7\n[log]\nfilter = \"info\"\n";
    let variables = [("STEMEDB_QUERY__CLAIMS_MAX", "8"), ("STEMEDB_LOG__FILTER", "debug")];
    let loaded = load_text(file, &variables, &[flag("log.filter", "trace")]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.wal.segment_bytes, 2 << 20);
    assert_eq!(config.query.claims_max, 8);
    assert_eq!(config.log.filter, "trace");
    assert_eq!(config.index, Index::default());
    assert!(loaded.origin("wal.segment_bytes").unwrap().ends_with("api.toml"));
    assert_eq!(loaded.origin("query.claims_max").unwrap(), "STEMEDB_QUERY__CLAIMS_MAX");
    assert_eq!(loaded.origin("log.filter").unwrap(), "--log.filter");
    assert_eq!(loaded.origin("index.cache_bytes"), None);
}

/// (file, variables, words that the error must hold)
type WrongCase = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

#[test]
fn what_is_wrong_is_named_with_its_place() {
    const CASES: &[WrongCase] = &[
        (
            "[wal]\nsegmnt_bytes = 1\n",
            &[],
            &["unknown key wal.segmnt_bytes (", "api.toml", "segment_bytes"],
        ),
        ("[wall]\ndir = \"x\"\n", &[], &["unknown key wall (", "wal"]),
        ("listen = \"x\"\n", &[], &["unknown key listen ("]),
        ("", &[("STEMEDB_WAL__DIRS", "x")], &["unknown key wal.dirs (STEMEDB_WAL__DIRS)"]),
        ("", &[("STEMEDB_WAL_DIR", "x")], &["STEMEDB_WAL_DIR", "two underscores"]),
        ("[query]\nclaims_max = \"many\"\n", &[], &["query.claims_max", "api.toml", "many"]),
        ("", &[("STEMEDB_SERVER__LISTEN", "here")], &["server.listen", "STEMEDB_SERVER__LISTEN"]),
        ("[log]\nformat = \"xml\"\n", &[], &["log.format", "xml", "json"]),
        ("[wal\n", &[], &["api.toml"]),
    ];
    for (file, variables, words) in CASES {
        let error = load_text(file, variables, &[]).unwrap_err().to_string();
        for word in *words {
            assert!(error.contains(word), "{file:?} {variables:?}: {error:?} lacks {word:?}");
        }
    }
}

#[test]
fn variables_of_the_client_and_of_others_are_left_alone() {
    let variables =
        [("STEMEDB_URL", "x"), ("STEMEDB_API_KEY", "x"), ("STEMEDB_CACHE", "/"), ("HOME", "/")];
    assert_eq!(load(None, env(&variables), &[]).unwrap().config, Config::default());
}

#[test]
fn a_named_file_must_exist() {
    let error = load(Some(std::path::Path::new("/nowhere/api.toml")), env(&[]), &[]).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nowhere/api.toml"), "{error}");
}

/// Two public keys.
const KEYS: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c, \
                    8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394";

#[test]
fn every_bound_that_fails_is_reported() {
    for (flags, expected) in [
        (vec![("wal.segment_bytes", "1048576"), ("server.drain_timeout_ms", "600000")], vec![]),
        (vec![("wal.segment_bytes", "1048575")], vec!["wal.segment_bytes"]),
        (
            vec![("wal.segment_bytes", "4294967297"), ("server.drain_timeout_ms", "600001")],
            vec!["server.drain_timeout_ms", "wal.segment_bytes"],
        ),
        (
            vec![("wal.repack_bytes_per_second", "0"), ("wal.scrub_bytes_per_second", "65536")],
            vec![],
        ),
        (
            vec![("wal.repack_bytes_per_second", "1"), ("wal.scrub_bytes_per_second", "65535")],
            vec!["wal.repack_bytes_per_second", "wal.scrub_bytes_per_second"],
        ),
        (vec![("archive.sync", "true")], vec!["archive.sync"]),
        (vec![("archive.sync", "true"), ("archive.url", "/mnt/archive")], vec![]),
        (vec![("wal.retention", "archived")], vec!["wal.retention", "wal.retention"]),
        (
            vec![("wal.retention", "archived"), ("archive.url", "/mnt/archive")],
            vec!["wal.retention"],
        ),
        (
            vec![
                ("wal.retention", "archived"),
                ("archive.url", "/mnt/archive"),
                ("backup.url", "/mnt/backups"),
            ],
            vec![],
        ),
        (vec![("server.listen", "[::1]:1")], vec![]),
        (vec![("server.listen", "0.0.0.0:1")], vec![]),
        (vec![("server.listen", "0.0.0.0:1"), ("auth.enabled", "false")], vec!["server.listen"]),
        (vec![("server.listen", "[::1]:1"), ("auth.enabled", "false")], vec![]),
        (vec![("server.trusted_proxies", "10.0.0.0/8, ::1")], vec![]),
        (vec![("server.trusted_proxies", "10.0.0.0/33")], vec!["server.trusted_proxies"]),
        (vec![("server.cors_origins", "https://app.example, http://localhost:3000")], vec![]),
        (vec![("server.cors_origins", "*")], vec!["server.cors_origins"]),
        (vec![("server.data_dir", "")], vec!["server.data_dir"]),
        (vec![("server.root_public_key", "abc")], vec!["server.root_public_key"]),
        (vec![("archive.trusted_keys", KEYS), ("archive.scrub_days", "0")], vec![]),
        (vec![("archive.scrub_days", "3651")], vec!["archive.scrub_days"]),
        (vec![("archive.trusted_keys", "00ff")], vec!["archive.trusted_keys"]),
        (vec![("log.filter", "x=y=z")], vec!["log.filter"]),
        (
            vec![
                ("telemetry.sample_ratio", "0.001"),
                ("telemetry.otlp_endpoint", "https://collector.example:4318/"),
            ],
            vec![],
        ),
        (
            vec![("telemetry.sample_ratio", "1.1"), ("telemetry.otlp_endpoint", "collector:4318")],
            vec!["telemetry.sample_ratio", "telemetry.otlp_endpoint"],
        ),
        (vec![("limits.body_bytes", "65535")], vec!["limits.body_bytes"]),
        (vec![("query.claims_max", "0")], vec!["query.claims_max"]),
        (vec![("audit.keep_bytes", "0"), ("audit.required", "true")], vec![]),
        (vec![("audit.enabled", "false"), ("audit.required", "true")], vec!["audit.required"]),
        (
            vec![
                ("audit.keep_bytes", "1"),
                ("audit.rotate_bytes", "1"),
                ("audit.sync_ms", "60001"),
            ],
            vec!["audit.rotate_bytes", "audit.keep_bytes", "audit.sync_ms"],
        ),
        (vec![("audit.endpoints", "[\"/v1/assert\"]")], vec!["audit.endpoints"]),
        (vec![("audit.endpoints", "/v1/query, /v1/skeptic")], vec![]),
    ] {
        let flags: Vec<_> = flags.iter().map(|(key, value)| flag(key, value)).collect();
        let loaded = load(None, env(&[]), &flags).unwrap();
        let problems = loaded.problems();
        let key = |problem: &'_ String| problem.split([' ', ':']).next().map(str::to_owned);
        let found: Vec<_> = problems.iter().filter_map(key).collect();
        assert_eq!(found, expected, "{flags:?}");
    }
}

#[test]
fn the_reference_names_every_key() {
    let text = reference();
    let keys = serde_json::to_value(Config::default()).unwrap();
    for (section, keys) in sections(&keys) {
        for (key, _) in keys {
            let variable = format!("STEMEDB_{}__{key}", section.replace('.', "__")).to_uppercase();
            let line = text.lines().find(|line| line.ends_with(&format!("| `{variable}` |")));
            let line = line.unwrap_or_else(|| panic!("no line for {variable}"));
            let cells: Vec<_> = line.split(" | ").collect();
            assert_eq!(cells.len(), 5, "{line}");
            assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{line}");
        }
    }
}

/// `UPDATE=1 cargo test -p stemedb-cli --lib` writes the page anew.
#[test]
fn the_page_in_the_docs_is_the_reference_of_this_build() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("UPDATE").is_some() {
        crate::files::replace(&page, &reference()).unwrap();
    }
    assert_eq!(crate::files::read_text(&page).unwrap(), reference());
}

/// `UPDATE=1 cargo test -p stemedb-cli --lib` writes the file anew.
#[test]
fn the_example_of_variables_has_every_key_with_its_default() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/.env.example");
    if std::env::var_os("UPDATE").is_some() {
        crate::files::replace(&file, &environment()).unwrap();
    }
    let text = crate::files::read_text(&file).unwrap();
    assert_eq!(text, environment());
    let given = assignments(&text);
    let keys = serde_json::to_value(Config::default()).unwrap();
    for (section, keys) in sections(&keys) {
        for (key, _) in keys {
            let variable = format!("STEMEDB_{}__{key}", section.replace('.', "__")).to_uppercase();
            assert!(given.iter().any(|(name, _)| *name == variable), "{variable} is missing");
        }
    }
    // Systemd and shells would take these characters for something else than themselves.
    for (name, value) in &given {
        assert!(!value.contains(['"', '\'', '\\', '$', ' ', '#', ';']), "{name}={value}");
    }
    // Those of commands are nothing to the server.
    let set = given.into_iter().filter(|(_, value)| !value.is_empty());
    assert_eq!(load(None, set, &[]).unwrap().config, Config::default());
}

/// Names and values of the lines that would set something.
fn assignments(text: &str) -> Vec<(String, String)> {
    let assignment = |line: &str| {
        let (name, value) = line.strip_prefix('#')?.split_once('=')?;
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        is_name.then(|| (name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(assignment).collect()
}

/// Words of a text that are variables of these.
fn variables<'a>(text: &'a str, prefixes: &[&str]) -> BTreeSet<&'a str> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).collect()
}

/// Held against the sources and the pages, not only against what made the file.
#[test]
fn the_example_of_variables_has_what_commands_and_stores_take() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = crate::files::read_text(&root.join("deploy/.env.example")).unwrap();
    let given: Vec<String> = assignments(&text).into_iter().map(|(name, _)| name).collect();
    let twice = given.iter().find(|name| given.iter().filter(|one| one == name).count() > 1);
    assert_eq!(twice, None, "it is there twice");

    let mut folders = vec![root.join("crates/stemedb-cli/src")];
    let mut named = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = crate::files::read_text(&path).unwrap();
            let marked = source.split("env = \"STEMEDB_").skip(1);
            let names = marked.filter_map(|rest| rest.split('"').next());
            named.extend(names.map(|name| format!("STEMEDB_{name}")));
        }
    }
    // What these lines themselves hold is none.
    named.retain(|name| {
        name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && name != "STEMEDB_"
    });
    assert!(named.len() > 8, "{named:?}");
    for name in &named {
        assert!(given.contains(name), "{name} is missing");
    }

    let page = crate::files::read_text(&root.join("docs/operations/backup.md")).unwrap();
    let stores = ["AWS_", "AZURE_", "GOOGLE_"];
    let given: BTreeSet<&str> = given.iter().map(String::as_str).collect();
    let is_of_store = |name: &&str| stores.iter().any(|prefix| name.starts_with(prefix));
    let of_stores: BTreeSet<&str> = given.into_iter().filter(is_of_store).collect();
    assert_eq!(of_stores, variables(&page, &stores), "the file and backup.md");
}
