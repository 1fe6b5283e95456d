//! Names of objects. Nothing is read from a name but what kind of object it is: everything that
//! counts is said by manifests, which are signed.
//!
//! ```text
//! <log_id>/<timeline>/manifests/<number, 20 digits>.cbor
//! <log_id>/backups/<made at, ms, 15 digits>-<16 hex digits>.cbor
//! <log_id>/files/<BLAKE3>[.copy]
//! <log_id>/pruning/<begun at, ms, 15 digits>-<16 hex digits>
//! <log_id>/verified/<verified at, ms, 15 digits>-<backup>.cbor
//! <log_id>/lease/<number, 20 digits>.cbor
//! <log_id>/node/<number, 20 digits>.cbor
//! <log_id>/node/files/<BLAKE3>[.copy]
//! <log_id>/<timeline>/parts/<segment, 10>-<first, 20>-<last, 20>-<BLAKE3>[.copy].part
//! ```

use stemedb_log::PartContent;
use stemedb_model::{Hash, LogId, Millis, Timeline};

/// All branches and backups of a log.
pub(crate) fn log(log_id: LogId) -> String {
    log_id.to_string()
}

/// All of a branch.
pub(crate) fn branch(log_id: LogId, timeline: Timeline) -> String {
    format!("{log_id}/{timeline}")
}

/// The folder of a branch's manifests.
pub(crate) fn manifests(log_id: LogId, timeline: Timeline) -> String {
    format!("{log_id}/{timeline}/manifests")
}

/// The folder of a branch's parts.
pub(crate) fn parts(log_id: LogId, timeline: Timeline) -> String {
    format!("{log_id}/{timeline}/parts")
}

/// A manifest.
pub(crate) fn manifest(log_id: LogId, timeline: Timeline, number: u64) -> String {
    format!("{}/{number:020}.cbor", manifests(log_id, timeline))
}

/// The folder of the leases of a log.
pub(crate) fn leases(log_id: LogId) -> String {
    format!("{log_id}/lease")
}

/// A lease.
pub(crate) fn lease(log_id: LogId, number: u64) -> String {
    format!("{}/{number:020}.cbor", leases(log_id))
}

/// Whether an object goes soon, when another node has put newer ones of its kind.
pub(crate) fn goes_soon(name: &str) -> bool {
    matches!(name.split('/').nth(1), Some("lease" | "node"))
}

/// The folder of what the primary keeps beside its log.
pub(crate) fn node_states(log_id: LogId) -> String {
    format!("{log_id}/node")
}

/// What the primary keeps beside its log, at one moment.
pub(crate) fn node_state(log_id: LogId, number: u64) -> String {
    format!("{}/{number:020}.cbor", node_states(log_id))
}

/// A file that such a state names, by its content.
pub(crate) fn node_file(log_id: LogId, hash: &Hash, copy: u64) -> String {
    format!("{}/files/{hash}{}", node_states(log_id), suffix(copy))
}

/// The number of the manifest, lease or state that has this name.
pub(crate) fn manifest_number(name: &str) -> Option<u64> {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    let digits = file.strip_suffix(".cbor")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// A part. `copy` counts the objects of this name that turned out to hold something else.
pub(crate) fn part(
    log_id: LogId,
    timeline: Timeline,
    content: &PartContent,
    hash: &Hash,
    copy: u64,
) -> String {
    let folder = parts(log_id, timeline);
    let (first, last) = (content.first().0, content.last().0);
    let segment = content.segment;
    format!("{folder}/{segment:010}-{first:020}-{last:020}-{hash}{}.part", suffix(copy))
}

/// The folder of a log's backups.
pub(crate) fn backups(log_id: LogId) -> String {
    format!("{log_id}/backups")
}

/// A backup.
pub(crate) fn backup(log_id: LogId, id: &str) -> String {
    format!("{}/{id}.cbor", backups(log_id))
}

/// The folder of what is about to be removed from the backups of a log.
pub(crate) fn prunings(log_id: LogId) -> String {
    format!("{log_id}/pruning")
}

/// A list of objects that are about to be removed.
pub(crate) fn pruning(log_id: LogId, begun_ms: i64, chance: u64) -> String {
    format!("{}/{begun_ms:015}-{chance:016x}", prunings(log_id))
}

/// The folder of the notes on restores that were verified.
pub(crate) fn verified_folder(log_id: LogId) -> String {
    format!("{log_id}/verified")
}

/// A note that a backup was restored and compared.
pub(crate) fn verified(log_id: LogId, at: Millis, backup: &str) -> String {
    format!("{}/{:015}-{backup}.cbor", verified_folder(log_id), at.0.max(0))
}

/// The folder of what backups hold.
pub(crate) fn files(log_id: LogId) -> String {
    format!("{log_id}/files")
}

/// Something that backups hold, by its content.
pub(crate) fn file(log_id: LogId, hash: &Hash, copy: u64) -> String {
    format!("{}/{hash}{}", files(log_id), suffix(copy))
}

fn suffix(copy: u64) -> String {
    if copy == 0 { String::new() } else { format!(".{copy}") }
}
