//! Numbers and log lines. Names are promised in the documentation of the metrics.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use stemedb_io::Space;
use stemedb_model::Position;

use crate::error::{Failure, LogState};
use crate::health::Concern;

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
    disk_size: Gauge,
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
        describe();
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
            disk_size: gauge!("stemedb_wal_disk_size_bytes"),
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
    pub(crate) fn segment_known(&self, file: &str) {
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
        self.disk_size.set(space.total as f64);
    }

    pub(crate) fn state(&self, state: &LogState, concerns: &BTreeMap<Concern, String>) {
        for name in STATES {
            let here = f64::from(u8::from(name == state.as_str()));
            gauge!("stemedb_wal_state", "state" => name).set(here);
        }
        for concern in Concern::ALL {
            let here = f64::from(u8::from(concerns.contains_key(&concern)));
            gauge!("stemedb_wal_concern", "concern" => concern.as_str()).set(here);
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

/// Says what each number is; the page for operators is made from it.
fn describe() {
    let histogram = |name: &'static str, unit, text: &'static str| {
        describe_histogram!(name, unit, text);
    };
    let counter = |name: &'static str, unit, text: &'static str| {
        describe_counter!(name, unit, text);
    };
    let gauge = |name: &'static str, unit, text: &'static str| {
        describe_gauge!(name, unit, text);
    };
    let (count, bytes, seconds) = (Unit::Count, Unit::Bytes, Unit::Seconds);
    let duration = "time of a write of the log and its sync";
    histogram("stemedb_wal_fsync_duration_seconds", seconds, duration);
    histogram("stemedb_wal_fsync_latency_seconds", seconds, duration);
    histogram("stemedb_wal_batch_size", count, "records made durable by one sync");
    let errors = "failed writes and syncs of a segment, by segment";
    counter("stemedb_wal_fsync_errors_total", count, errors);
    let errors = "failures of the medium other than of a sync, by kind of error";
    counter("stemedb_wal_write_errors_total", count, errors);
    counter("stemedb_wal_segment_rotations_total", count, "segments closed for the next one");
    counter("stemedb_wal_writes_total", count, "writes of groups and seals");
    counter("stemedb_wal_bytes_written_total", bytes, "bytes of groups and seals");
    counter("stemedb_wal_repacked_segments_total", count, "sealed segments packed");
    counter("stemedb_wal_repack_saved_bytes_total", bytes, "bytes that packing gave back");
    counter("stemedb_wal_repack_errors_total", count, "failed attempts to pack a segment");
    counter("stemedb_wal_scrub_bytes_total", bytes, "bytes read again and proved");
    let damage = "times that a sealed segment was found damaged";
    counter("stemedb_wal_scrub_damage_total", count, damage);
    let age = "time since the segment that waits longest was proved";
    gauge("stemedb_wal_scrub_oldest_age_seconds", seconds, age);
    gauge("stemedb_wal_segments", count, "segments in use");
    gauge("stemedb_wal_disk_usage_bytes", bytes, "bytes of the segments in use");
    let available = "room on the log's file system that this process may take";
    gauge("stemedb_wal_disk_available_bytes", bytes, available);
    gauge("stemedb_wal_disk_size_bytes", bytes, "size of the log's file system");
    gauge("stemedb_wal_durable_position", count, "newest position that is durable");
    gauge(
        "stemedb_wal_recovery_duration_seconds",
        seconds,
        "time that the last start read the log",
    );
    gauge("stemedb_wal_state", count, "1 for the state the log is in, 0 for all others");
    let concern = "1 for each reason why an operator should look at the log, 0 for all others";
    gauge("stemedb_wal_concern", count, concern);
}

/// A segment is counted under one name, also while it is prepared under another.
fn segment_of(file: &str) -> String {
    file.strip_suffix(".tmp").unwrap_or(file).to_owned()
}
