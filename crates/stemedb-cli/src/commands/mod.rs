//! One command, one module: its arguments, its help, and what it does.

pub mod admin;
pub mod admin_keys;
pub mod agent;
pub mod alias;
pub mod archive;
pub mod assert;
pub mod audit;
pub mod backup;
pub mod bench;
pub mod completions;
pub mod config;
pub mod conflicts;
pub mod cosign;
pub mod demo;
pub mod doctor;
pub mod drill;
pub mod epoch;
pub mod eval;
pub mod explain;
pub mod export;
pub mod feed;
pub mod gold;
pub mod import;
pub mod key;
pub mod layered;
pub mod lens;
pub mod lifecycle;
pub mod predicate;
pub mod query;
pub mod record;
pub mod rejoin;
pub mod replay;
pub mod resolve;
pub mod retract;
pub mod serve;
pub mod skeptic;
pub mod source;
pub mod supersede;
pub mod trace;
pub mod trust;
pub mod trust_snapshot;
pub mod vote;
pub mod wal;
pub mod whatif;

/// Names of the source classes, best tier first.
pub const CLASSES: [&str; 6] =
    ["regulatory", "clinical", "observational", "expert", "community", "anecdotal"];
/// Names of the states of an assertion.
pub const STATES: [&str; 5] = ["proposed", "under_review", "approved", "deprecated", "rejected"];

/// `KEY=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".into()),
    }
}
