//! The records that everybody stores.

use stemedb_log::NewEntry;
use stemedb_log::conformance::sample;

/// Everything in a block of the device.
pub(crate) const BLOCK: usize = 4096;

/// One record, as ours takes it and as a store of bytes takes it.
pub(crate) struct Record {
    pub(crate) entry: NewEntry,
    /// Id, signature, owner, body: what has to survive, without any framing.
    pub(crate) bytes: Vec<u8>,
}

/// Different records with bodies of `body` bytes that do not compress.
pub(crate) fn records(count: usize, body: usize) -> Vec<Record> {
    (0..count as u64)
        .map(|seed| {
            let entry = sample(seed, body);
            let mut bytes = Vec::new();
            bytes.extend_from_slice(&entry.id.0);
            bytes.extend_from_slice(&entry.signature.0);
            bytes.extend_from_slice(entry.principal.as_str().as_bytes());
            bytes.extend_from_slice(&entry.body);
            Record { entry, bytes }
        })
        .collect()
}

/// What a bare device has to take for them: their bytes, in whole blocks.
pub(crate) fn device_bytes(records: &[Record]) -> usize {
    records.iter().map(|record| record.bytes.len()).sum::<usize>().next_multiple_of(BLOCK)
}
