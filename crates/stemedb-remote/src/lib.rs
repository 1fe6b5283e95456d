//! The far side of the log: its archive, backups, and the way back.
//!
//! | module | what |
//! |---|---|
//! | `store` | objects at an address: a folder, S3, Google Cloud Storage, Azure; in memory |
//! | `names`, `codec`, `manifest` | names of objects, signed CBOR, what an archive says of itself |
//! | `encrypt` | what parts and files are encrypted with; opens them again |
//! | `catalogue` | all manifests of a branch read together, branches joined |
//! | `archiver`, `scrub` | copies a log while it is written, and reads it again by and by |
//! | `status` | what is in an archive, on its way, lost, damaged |
//! | `backup`, `prune` | the log up to one position and the node's files, by content; verify, prune |
//! | `verified`, `retention` | notes on restores that were verified; old segments go for them |
//! | `earlier` | what was removed from a log, read from its archive |
//! | `segment` | one segment again, in the place of a damaged one |
//! | `lease` | of the nodes that could write a log one acknowledges |
//! | `node_state` | what a primary keeps beside its log, for the node that takes its place |
//! | `follow` | a log that follows its archive |
//! | `rejoin` | what a log has that the branch which went on without it has not |
//! | `restore` | from parts to a log, whole or up to a position or time |
//!
//! The formats are in `docs/format/archive.md`, the reasons in `docs/decisions`.
//!
//! Invariants:
//! - An object is put once and never changed. A name that a broken upload has taken is left.
//! - Nothing is in an archive before a manifest names it, and no manifest names what was not read
//!   back and compared.
//! - Positions of an archive have no gaps: each part names the chain hash that it begins after.
//! - A log is never put together over another, and never from parts of two histories.
//!
//! - With a key nothing but signed maps is put in the clear.
//!
//! Absent on purpose: a view of what a record means.

mod archiver;
mod backup;
mod catalogue;
mod codec;
mod earlier;
mod encrypt;
mod error;
mod follow;
mod lease;
mod manifest;
mod names;
mod node_state;
mod parallel;
mod prune;
mod rejoin;
mod restore;
mod retention;
mod scrub;
mod segment;
mod status;
mod store;
mod telemetry;
mod verified;

pub use archiver::{
    ArchiveConfig, ArchiveProgress, ArchiveState, Archiver, ArchiverHandle, Noted, Step,
};
pub use backup::{
    BACKUP_FORMAT, Backup, BackupOptions, Backups, FileEntry, Made, check_files, list_backups,
    make_backup, restore_files, verify_backup,
};
pub use catalogue::{Catalogue, History, Placed, Problem, leaves, logs};
pub use codec::{BadManifest, believe};
pub use earlier::{Earlier, OpenStore};
pub use encrypt::{ENCRYPTION_FORMAT, EncryptionKey, EncryptionKeys, KeyId};
pub use error::RemoteError;
pub use follow::{FollowConfig, FollowHandle, FollowProgress, FollowState, FollowView, Standby};
pub use lease::{
    ADDRESS_BYTES_MAX, Lease, LeaseConfig, LeaseHandle, LeaseKeeper, LeaseState, LeaseView, Take,
    Writer, newest_lease,
};
pub use manifest::{
    ARCHIVE_FORMAT, CHECKPOINT_EVERY, MANIFEST_BYTES_MAX, Manifest, Parent, PartEntry,
};
pub use node_state::{Carrier, NodeState, fetch_node_state, newest_node_state};
pub use prune::{Keep, Pruned, give_up_backup, prune_backups, prune_branch};
pub use rejoin::{Apart, only_here};
pub use restore::{Needed, RestorePlan, RestoreTo, Restored, Target, restore};
pub use retention::{Looked, Retention, RetentionHandle};
pub use segment::restore_damaged;
pub use status::{ArchiveStatus, archive_status, verify_archive};
pub use store::{
    KeyedStore, Listed, MemoryStore, ObjectStore, Put, STORE_VARIABLES, Store, StoreError,
    StoreOptions, StoreVariable, probe,
};
pub use verified::{VerifiedRestore, note_verified, verified_restores};
