//! What the audit exports.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::shared::Kept;

const ENTRIES: &str = "stemedb_audit_entries_total";
const DROPPED: &str = "stemedb_audit_dropped_total";
const ERRORS: &str = "stemedb_audit_write_errors_total";
const BYTES: &str = "stemedb_audit_bytes";
const WRITABLE: &str = "stemedb_audit_writable";

pub(super) fn describe() {
    describe_counter!(ENTRIES, Unit::Count, "entries of the audit that are durable");
    describe_counter!(DROPPED, Unit::Count, "reads that were answered and not taken down");
    describe_counter!(ERRORS, Unit::Count, "failed attempts to write or sync the audit");
    describe_gauge!(BYTES, Unit::Bytes, "durable bytes of the audit's files");
    describe_gauge!(WRITABLE, Unit::Count, "1 while reads are taken down, 0 while they cannot be");
    for name in [ENTRIES, DROPPED, ERRORS] {
        counter!(name).increment(0);
    }
    gauge!(BYTES).set(0.0);
}

pub(super) fn written(entries: usize) {
    counter!(ENTRIES).increment(u64::try_from(entries).unwrap_or(u64::MAX));
}

pub(super) fn dropped(reads: u64) {
    counter!(DROPPED).increment(reads);
}

pub(super) fn failed() {
    counter!(ERRORS).increment(1);
}

pub(super) fn state(writable: bool) {
    gauge!(WRITABLE).set(if writable { 1.0 } else { 0.0 });
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn bytes(files: &[Kept]) {
    gauge!(BYTES).set(files.iter().map(|file| file.bytes).sum::<u64>() as f64);
}
