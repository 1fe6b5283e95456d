//! The far side of the log and the archive.
