//! Known wrong behaviours, for testing the tests: a harness that does not catch a mutant proves
//! nothing. Without the feature `mutants`, which no release has, there are none.
//!
//! `cargo xtask mutants` holds a catcher for each name in [`MUTANTS`] and fails if one survives.

/// Names the wrong behaviour.
pub const MUTANT_VAR: &str = "STEMEDB_MUTANT";

/// Every wrong behaviour there is, and what it does. The list is complete: asking for another
/// one ends the process, so that a name misspelt cannot pass for one that was not caught.
pub const MUTANTS: [(&str, &str); 14] = [
    ("ack_before_sync", "a group counts as durable once it is written, without a sync"),
    ("ack_before_apply", "a record is acknowledged once it is durable, before it can be read"),
    ("no_dir_sync", "the folder of a new segment is not synced"),
    ("sync_file_range", "bytes are sent to the disk with sync_file_range(2), not fdatasync(2)"),
    ("retry_on_same_file", "a sync that failed is tried again on the same file"),
    ("ignore_close_error", "an error of close(2) is dropped"),
    ("truncate_at_bad_crc", "recovery takes every bad block in the last segment for a torn tail"),
    ("skip_damaged_segment", "recovery goes on with the next segment after damage in one"),
    ("constant_salt", "all segments have the same salt"),
    ("heal_without_rewriting", "healing fences the old segment and does not write the group again"),
    ("rewrite_after_not_written", "a group is written although `not_written` was told of it"),
    ("serve_undurable", "readers see a group before the sync that covers it"),
    ("verify_through_cache", "a segment is proved without dropping its cached copy"),
    ("evict_range", "only the first page of a file is dropped from the cache"),
];

/// Whether the wrong behaviour `name` was asked for through `STEMEDB_MUTANT`.
///
/// A constant `false` unless built with the feature `mutants`.
#[inline]
pub fn mutant(name: &str) -> bool {
    #[cfg(feature = "mutants")]
    {
        debug_assert!(known(name), "{name} is not in the list of mutants");
        chosen() == Some(name)
    }
    #[cfg(not(feature = "mutants"))]
    {
        let _ = name;
        false
    }
}

#[cfg(feature = "mutants")]
fn known(name: &str) -> bool {
    MUTANTS.iter().any(|(known, _)| *known == name)
}

/// The wrong behaviour that was asked for. Ends the process if there is no such one.
#[cfg(feature = "mutants")]
pub(crate) fn chosen() -> Option<&'static str> {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var_os(MUTANT_VAR)?.to_string_lossy().into_owned();
        if !known(&name) {
            let names: Vec<&str> = MUTANTS.iter().map(|(name, _)| *name).collect();
            let known = names.join(", ");
            let words = format!("{MUTANT_VAR}={name}: no such mutant; there are {known}\n");
            // Not `eprintln`, which a test keeps to itself.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes());
            // Not a panic: one in a thread of its own would let the others go on.
            std::process::exit(2);
        }
        Some(name)
    });
    chosen.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let mut names: Vec<&str> = MUTANTS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MUTANTS.len());
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn without_the_feature_there_are_none() {
        assert!(MUTANTS.iter().all(|(name, _)| !mutant(name)));
    }
}
