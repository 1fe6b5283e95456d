//! The specification in `docs/` is the one of this build.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and tampers with files behind the server's back"
)]

/// `UPDATE_DOCS=1 cargo test -p stemedb-server --test openapi` writes what has changed.
fn check(path: &str, made: &str) {
    let path = format!("{}/../../docs/{path}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "{path} differs; run with UPDATE_DOCS=1 and review the change");
}

#[test]
fn the_committed_specification_is_that_of_the_code() {
    check("openapi.json", &stemedb_server::openapi().unwrap());
}

#[test]
fn the_committed_list_of_errors_is_that_of_the_code() {
    check("errors.md", &stemedb_server::wire::Problem::page());
}

/// Every reference in the document leads somewhere: a schema that only another one names is easily
/// left out.
#[test]
fn every_reference_leads_somewhere() {
    let document: serde_json::Value =
        serde_json::from_str(&stemedb_server::openapi().unwrap()).unwrap();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 100, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect(value: &serde_json::Value, references: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::String(reference)) = map.get("$ref") {
                references.push(reference.clone());
            }
            map.values().for_each(|value| collect(value, references));
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|value| collect(value, references));
        }
        _ => {}
    }
}
