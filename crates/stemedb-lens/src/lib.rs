//! Resolution as pure functions: exclusion, voices, values, disagreement, lenses.
