//! The one meeting place: commit pipeline, read pipeline, rights, node states.
