//! Everything derivable from the log: records, ids, postings, registries; rebuilt at will.
