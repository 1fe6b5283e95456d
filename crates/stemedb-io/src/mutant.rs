//! Known wrong behaviours, for testing the tests: a harness that does not catch a mutant proves
//! nothing. Without the feature `mutants`, which no release has, there are none.

/// Whether the wrong behaviour `name` was asked for through `STEMEDB_MUTANT`.
///
/// A constant `false` unless built with the feature `mutants`.
#[inline]
pub fn mutant(name: &str) -> bool {
    #[cfg(feature = "mutants")]
    {
        static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        CHOSEN.get_or_init(|| std::env::var("STEMEDB_MUTANT").ok()).as_deref() == Some(name)
    }
    #[cfg(not(feature = "mutants"))]
    {
        let _ = name;
        false
    }
}
