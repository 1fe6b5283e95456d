//! The one meeting place: commit pipeline, read pipeline, rights at the door, node states.
//!
//! Writing: [`Engine::submit`] takes a record whose signature was verified and answers once it is
//! durable and readable here. Reading: [`Engine::view`] is the database at one position. What
//! happens in between stands in [`Engine`], `sequencer`, `committer` and `applier`.

mod answer_root;
mod applied;
mod applier;
mod archiving;
mod committer;
mod config;
mod conflicts;
mod engine;
mod error;
mod explain;
mod fates;
mod first_seen;
mod intake;
mod metrics;
mod node;
mod pulse;
mod rebuild;
mod recent;
mod replay;
mod sequencer;
mod shared;
mod slot;
mod standing;
mod submission;
mod token;
mod trace;
mod trust;
mod view;
mod waiters;
mod watchdog;
mod whatif;

pub use answer_root::Answers;
pub use archiving::{Archive, ArchiveStatus, ArchiveView};
pub use config::{
    APPEND_SLOW, APPEND_STALL_MAX, AT_AHEAD_MAX_MS, CLOCK_JUMP_MAX, EngineConfig, Fence,
    RETRY_EVERY,
};
pub use engine::{Checkpoint, DrainReport, Engine};
pub use error::{EngineError, ReadError};
pub use node::{NodeReason, NodeState, NodeStatus, Progress};
pub use rebuild::{Rebuild, RebuildState};
pub use standing::{Dispute, TopicTrust, TrustOf};
pub use submission::{Ack, AckStatus, Submission, WriteError, outcome_str};
pub use token::{InvalidToken, SnapshotToken};
pub use trace::{Link, Relation, Trace};
pub use trust::LearnedTrust;
pub use view::{AsOf, Diff, RecordView, View};
pub use whatif::{Changed, Dropped, WhatIf, WhatIfBounds};
