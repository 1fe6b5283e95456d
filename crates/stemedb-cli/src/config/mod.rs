//! Configuration: `/etc/stemedb/api.toml`, environment, flags.
//!
//! Order, the first that says something wins: flags, environment, file, defaults. Every key `k` of
//! section `s` is also `STEMEDB_<S>__<K>`. A key that nobody knows is an error that names it and
//! the place it came from, so that a misspelt setting never turns into a silent default.

mod environment;
mod load;
mod reference;
mod schema;

pub use environment::environment;
pub use load::{ConfigError, DEFAULT_FILE, Loaded, Setting, load, sections};
pub use reference::{print, reference};
pub use schema::{
    Archive, Backup, Class, Cluster, Config, Encryption, Index, Limits, Log, LogFormat, Once,
    Query, Retention, Server, Signing, Telemetry, Wal, duration,
};

#[cfg(test)]
mod tests;
