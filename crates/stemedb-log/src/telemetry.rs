//! Numbers and log lines. Names are promised in the documentation of the metrics.

use std::io;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use stemedb_io::Space;
use stemedb_model::Position;

use crate::error::{Failure, LogState};

/// Handles taken once: an append must not look names up.
pub(crate) struct Meters {
    log_fsync_errors: bool,
    fsync_duration: Histogram,
    fsync_latency: Histogram,
    rotations: Counter,
    writes: Counter,
    bytes_written: Counter,
    batch_size: Histogram,
    disk_usage: Gauge,
    disk_available: Gauge,
    segments: Gauge,
    durable_position: Gauge,
    recovery_duration: Gauge,
    repacked: Counter,
    repack_saved: Counter,
    repack_errors: Counter,
    scrub_bytes: Counter,
    scrub_damage: Counter,
    scrub_age: Gauge,
}

const STATES: [&str; 4] = ["ok", "degraded", "read_only", "detached"];
const ERRORS: [&str; 5] = ["io", "no_space", "quota", "read_only_file_system", "other"];

fn error_name(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "no_space",
        io::ErrorKind::QuotaExceeded => "quota",
        io::ErrorKind::ReadOnlyFilesystem => "read_only_file_system",
        // EIO has no kind of its own.
        _ if error.raw_os_error() == Some(5) => "io",
        _ => "other",
    }
}

impl Meters {
    pub(crate) fn new(log_fsync_errors: bool) -> Self {
        for error in ERRORS {
            counter!("stemedb_wal_write_errors_total", "error" => error).increment(0);
        }
        Self {
            log_fsync_errors,
            fsync_duration: histogram!("stemedb_wal_fsync_duration_seconds"),
            fsync_latency: histogram!("stemedb_wal_fsync_latency_seconds"),
            rotations: counter!("stemedb_wal_segment_rotations_total"),
            writes: counter!("stemedb_wal_writes_total"),
            bytes_written: counter!("stemedb_wal_bytes_written_total"),
            batch_size: histogram!("stemedb_wal_batch_size"),
            disk_usage: gauge!("stemedb_wal_disk_usage_bytes"),
            disk_available: gauge!("stemedb_wal_disk_available_bytes"),
            segments: gauge!("stemedb_wal_segments"),
            durable_position: gauge!("stemedb_wal_durable_position"),
            recovery_duration: gauge!("stemedb_wal_recovery_duration_seconds"),
            repacked: counter!("stemedb_wal_repacked_segments_total"),
            repack_saved: counter!("stemedb_wal_repack_saved_bytes_total"),
            repack_errors: counter!("stemedb_wal_repack_errors_total"),
            scrub_bytes: counter!("stemedb_wal_scrub_bytes_total"),
            scrub_damage: counter!("stemedb_wal_scrub_damage_total"),
            scrub_age: gauge!("stemedb_wal_scrub_oldest_age_seconds"),
        }
    }

    /// Exports the error counter of a segment at 0, so that its first increase is seen.
    pub(crate) fn segment_in_use(&self, file: &str) {
        counter!("stemedb_wal_fsync_errors_total", "segment" => file.to_string()).increment(0);
    }

    pub(crate) fn written(&self, bytes: usize) {
        self.writes.increment(1);
        self.bytes_written.increment(bytes as u64);
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.fsync_duration.record(took.as_secs_f64());
        self.fsync_latency.record(took.as_secs_f64());
    }

    pub(crate) fn committed(&self, entries: usize, durable: Position) {
        self.batch_size.record(entries as f64);
        self.durable_position.set(durable.0 as f64);
    }

    pub(crate) fn rotated(&self) {
        self.rotations.increment(1);
    }

    pub(crate) fn recovered(&self, took: Duration, durable: Position) {
        self.rotations.increment(0);
        self.writes.increment(0);
        self.bytes_written.increment(0);
        for counter in [
            &self.repacked,
            &self.repack_saved,
            &self.repack_errors,
            &self.scrub_bytes,
            &self.scrub_damage,
        ] {
            counter.increment(0);
        }
        self.recovery_duration.set(took.as_secs_f64());
        self.durable_position.set(durable.0 as f64);
    }

    pub(crate) fn folder(&self, segments: u64, bytes: u64) {
        self.segments.set(segments as f64);
        self.disk_usage.set(bytes as f64);
    }

    pub(crate) fn repacked(&self, before: u64, after: u64) {
        self.repacked.increment(1);
        self.repack_saved.increment(before.saturating_sub(after));
    }

    pub(crate) fn repack_failed(&self) {
        self.repack_errors.increment(1);
    }

    pub(crate) fn scrubbed(&self, bytes: u64) {
        self.scrub_bytes.increment(bytes);
    }

    pub(crate) fn scrub_damage(&self) {
        self.scrub_damage.increment(1);
    }

    pub(crate) fn scrub_age(&self, age: Duration) {
        self.scrub_age.set(age.as_secs_f64());
    }

    pub(crate) fn space(&self, space: Space) {
        self.disk_available.set(space.available as f64);
    }

    pub(crate) fn state(&self, state: &LogState) {
        for name in STATES {
            let here = f64::from(u8::from(name == state.as_str()));
            gauge!("stemedb_wal_state", "state" => name).set(here);
        }
    }

    /// Counts an error and says what it means, once, here. `stop`: why the log cannot go on by
    /// itself.
    pub(crate) fn failed(&self, failure: &Failure, stop: Option<&str>) {
        let Failure { op, file, offset, source: error } = failure;
        let errno = error.raw_os_error().unwrap_or(0);
        let next = match stop {
            None => "the file is not believed again; the log goes on in a fresh segment".into(),
            Some(why) => {
                format!("the file is not believed again; the log is read-only, reads go on: {why}")
            }
        };
        if *op != "sync" {
            counter!("stemedb_wal_write_errors_total", "error" => error_name(error)).increment(1);
        }
        // A file system that turned read-only fails the write already, and no sync is tried: to
        // whoever watches, it is the same.
        if matches!(*op, "sync" | "write") {
            counter!("stemedb_wal_fsync_errors_total", "segment" => segment_of(file)).increment(1);
            if self.log_fsync_errors {
                tracing::error!(
                    segment = file, offset, errno, %error, next, op,
                    "fsync failed: Failed to fsync WAL segment {file} at offset {offset} ({op}: \
                     errno {errno})"
                );
            }
        } else {
            tracing::error!(
                segment = file, offset, errno, %error, next,
                "{op} of WAL segment {file} failed at offset {offset} (errno {errno})"
            );
        }
    }
}

/// A segment is counted under one name, also while it is prepared under another.
fn segment_of(file: &str) -> String {
    file.strip_suffix(".tmp").unwrap_or(file).to_owned()
}
