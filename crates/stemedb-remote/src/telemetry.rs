//! Metrics. Each series is there from the start, at 0.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use stemedb_model::Position;

use crate::archiver::{ArchiveProgress, ArchiveState};
use crate::error::RemoteError;
use crate::follow::FollowProgress;
use crate::lease::LeaseState;

const STATES: [&str; 4] = ["starting", "running", "failing", "stopped"];
const ERRORS: [&str; 4] = ["store", "log", "damaged", "diverged"];

/// Names every series.
pub(crate) fn register() {
    describe();
    for error in ERRORS {
        counter!("stemedb_archive_errors_total", "error" => error).increment(0);
    }
    counter!("stemedb_archive_parts_total").increment(0);
    counter!("stemedb_archive_bytes_total").increment(0);
    counter!("stemedb_archive_lost_parts_total").increment(0);
    counter!("stemedb_archive_damaged_parts_total").increment(0);
    counter!("stemedb_archive_replaced_parts_total").increment(0);
    counter!("stemedb_archive_scrub_parts_total").increment(0);
    counter!("stemedb_archive_scrub_bytes_total").increment(0);
    progress(&ArchiveProgress::default());
}

/// Says what each number is; the page for operators is made from it.
fn describe() {
    for (name, unit, text) in [
        (
            "stemedb_archive_errors_total",
            Unit::Count,
            "failed attempts to archive, by kind of error",
        ),
        ("stemedb_archive_parts_total", Unit::Count, "parts of the log archived by this process"),
        ("stemedb_archive_bytes_total", Unit::Bytes, "bytes of these parts"),
        ("stemedb_archive_lost_parts_total", Unit::Count, "parts and manifests found missing"),
        (
            "stemedb_archive_damaged_parts_total",
            Unit::Count,
            "parts that were read again and are not what was uploaded",
        ),
        (
            "stemedb_archive_replaced_parts_total",
            Unit::Count,
            "parts, lost or damaged, that were archived again from the log",
        ),
        ("stemedb_archive_scrub_parts_total", Unit::Count, "parts that were read again"),
        ("stemedb_archive_scrub_bytes_total", Unit::Bytes, "bytes of these parts"),
    ] {
        describe_counter!(name, unit, text);
    }
    for (name, unit, text) in [
        ("stemedb_wal_archived_position", Unit::Count, "everything up to here is archived"),
        ("stemedb_archive_lag_positions", Unit::Count, "durable positions that are not archived"),
        ("stemedb_archive_lag_bytes", Unit::Bytes, "bytes of the log that are not archived, about"),
        (
            "stemedb_archive_lag_seconds",
            Unit::Seconds,
            "how long ago the oldest record that is not archived was committed",
        ),
        (
            "stemedb_archive_problems",
            Unit::Count,
            "what the last look at the archive found wrong and could not put right",
        ),
        (
            "stemedb_archive_state",
            Unit::Count,
            "1 for what the archiver is doing, 0 for all others",
        ),
    ] {
        describe_gauge!(name, unit, text);
    }
}

/// A part is in the archive.
pub(crate) fn archived(bytes: u64) {
    counter!("stemedb_archive_parts_total").increment(1);
    counter!("stemedb_archive_bytes_total").increment(bytes);
}

/// Parts were found missing.
pub(crate) fn lost(parts: u64) {
    counter!("stemedb_archive_lost_parts_total").increment(parts);
}

/// A part was found damaged.
pub(crate) fn damaged() {
    counter!("stemedb_archive_damaged_parts_total").increment(1);
}

/// A part that was lost or damaged is in the archive again.
pub(crate) fn replaced() {
    counter!("stemedb_archive_replaced_parts_total").increment(1);
}

/// A part was read again.
pub(crate) fn read_again(bytes: u64) {
    counter!("stemedb_archive_scrub_parts_total").increment(1);
    counter!("stemedb_archive_scrub_bytes_total").increment(bytes);
}

/// An attempt failed.
pub(crate) fn failed(error: &RemoteError) {
    let kind = match error {
        RemoteError::Store(_) => "store",
        RemoteError::Log(_) | RemoteError::File { .. } => "log",
        RemoteError::Diverged { .. } => "diverged",
        _ => "damaged",
    };
    counter!("stemedb_archive_errors_total", "error" => kind).increment(1);
}

pub(crate) fn progress(progress: &ArchiveProgress) {
    gauge!("stemedb_wal_archived_position").set(progress.archived.0 as f64);
    let lag = progress.durable.0.saturating_sub(progress.archived.0);
    gauge!("stemedb_archive_lag_positions").set(lag as f64);
    gauge!("stemedb_archive_lag_bytes").set(progress.lag_bytes as f64);
    gauge!("stemedb_archive_lag_seconds").set(progress.lag.as_secs_f64());
    gauge!("stemedb_archive_problems").set(progress.problems as f64);
    for state in STATES {
        let is = if progress.state.as_str() == state { 1.0 } else { 0.0 };
        gauge!("stemedb_archive_state", "state" => state).set(is);
    }
    debug_assert!(STATES.contains(&ArchiveState::default().as_str()));
}

/// Names the series of segments that may go.
pub(crate) fn register_retention() {
    describe_counter!(
        "stemedb_wal_segments_removed_total",
        Unit::Count,
        "segments that were removed: archived, and in a backup whose restore was verified"
    );
    describe_gauge!(
        "stemedb_wal_first_position",
        Unit::Count,
        "the log begins here; what is before is in the archive"
    );
    counter!("stemedb_wal_segments_removed_total").increment(0);
}

/// Segments are gone.
pub(crate) fn removed(segments: usize) {
    counter!("stemedb_wal_segments_removed_total").increment(segments as u64);
}

/// Where the log begins.
pub(crate) fn first_kept(position: Position) {
    gauge!("stemedb_wal_first_position").set(position.0 as f64);
}

const LEASE_STATES: [&str; 6] = ["looking", "waiting", "held", "over", "lost", "released"];

/// Names the series of a lease.
pub(crate) fn lease_registered() {
    let text = "how often the lease was taken or renewed";
    describe_counter!("stemedb_lease_renewals_total", Unit::Count, text);
    let text = "failed attempts to take or renew the lease";
    describe_counter!("stemedb_lease_errors_total", Unit::Count, text);
    let text = "1 for what the lease of this node is at, 0 for all others";
    describe_gauge!("stemedb_lease_state", Unit::Count, text);
    counter!("stemedb_lease_renewals_total").increment(0);
    counter!("stemedb_lease_errors_total").increment(0);
    lease(&LeaseState::default());
}

/// A lease was taken or renewed.
pub(crate) fn lease_renewed() {
    counter!("stemedb_lease_renewals_total").increment(1);
}

/// It was tried in vain.
pub(crate) fn lease_failed() {
    counter!("stemedb_lease_errors_total").increment(1);
}

pub(crate) fn lease(state: &LeaseState) {
    for one in LEASE_STATES {
        let is = if state.as_str() == one { 1.0 } else { 0.0 };
        gauge!("stemedb_lease_state", "state" => one).set(is);
    }
    debug_assert!(LEASE_STATES.contains(&state.as_str()));
}

const REPLICA_STATES: [&str; 4] = ["catching_up", "following", "failing", "stopped"];

/// Names the series of a standby.
pub(crate) fn replica_registered() {
    let text = "failed attempts of the standby to follow the archive";
    describe_counter!("stemedb_replica_errors_total", Unit::Count, text);
    let text = "positions that are known of the primary and not here";
    describe_gauge!("stemedb_replica_lag_positions", Unit::Count, text);
    let text = "how long ago the standby had everything that was known of the primary";
    describe_gauge!("stemedb_replica_lag_seconds", Unit::Seconds, text);
    let text = "1 for what the standby is doing, 0 for all others; all 0 once it has taken over";
    describe_gauge!("stemedb_replica_state", Unit::Count, text);
    counter!("stemedb_replica_errors_total").increment(0);
    replica(&FollowProgress::default());
}

/// It could not be followed.
pub(crate) fn replica_failed() {
    counter!("stemedb_replica_errors_total").increment(1);
}

pub(crate) fn replica(progress: &FollowProgress) {
    lag(progress.lag_positions(), progress.lag);
    for one in REPLICA_STATES {
        let is = if progress.state.as_str() == one { 1.0 } else { 0.0 };
        gauge!("stemedb_replica_state", "state" => one).set(is);
    }
    debug_assert!(REPLICA_STATES.contains(&progress.state.as_str()));
}

/// It is no standby any more, and is behind nobody: what was exported last must not stand.
pub(crate) fn replica_over() {
    lag(0, Duration::ZERO);
    for one in REPLICA_STATES {
        gauge!("stemedb_replica_state", "state" => one).set(0.0);
    }
}

fn lag(positions: u64, time: Duration) {
    gauge!("stemedb_replica_lag_positions").set(positions as f64);
    gauge!("stemedb_replica_lag_seconds").set(time.as_secs_f64());
}
