//! The thread that keeps the list of conflicts up to date, and reading the list.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stemedb_index::{ConflictFilter, ConflictPage, ConflictPlace, ConflictStanding};
use stemedb_model::Millis;

use crate::engine::Engine;
use crate::error::ReadError;
use crate::metrics;
use crate::node::NodeState;
use crate::shared::Shared;

/// Rest after catching up. What comes in meanwhile is followed at once, and a key that is written to
/// often is judged once in that time.
const REST: Duration = Duration::from_millis(50);
/// With nothing new it looks this often whose time has come.
const IDLE: Duration = Duration::from_secs(1);

/// Until the engine is being closed, or the index has failed.
pub(crate) fn follow(shared: &Arc<Shared>) {
    let stopping = || shared.stopping.load(Ordering::Relaxed);
    // It would compete with the replay, and find the same in the end.
    while !stopping() && !shared.gate.wait_until(IDLE, NodeState::reads) {}
    while !stopping() {
        let now = Millis(shared.clock.now_ms());
        let claims_max = shared.config.resolve_claims_max;
        let followed = match shared.index.follow_conflicts(now, claims_max, &stopping) {
            Ok(followed) => followed,
            Err(error) => {
                // The index takes nothing more now; the applier tells.
                tracing::error!(%error, "the list of conflicts is no longer kept up to date");
                return;
            }
        };
        metrics::conflicts(&followed.standing);
        if followed.more {
            continue;
        }
        shared.applied.wait_for(followed.standing.position.next(), IDLE, stopping);
        shared.gate.wait_until(REST, |state| state == NodeState::Stopped);
    }
}

impl Engine {
    /// Conflicts of a space as far as they are known, the worst first, after `after`, at most `limit`.
    /// Costs the rows that it looks at. See [`stemedb_index::Index::conflicts`].
    pub fn conflicts(
        &self,
        filter: &ConflictFilter,
        after: Option<&ConflictPlace>,
        limit: usize,
    ) -> Result<ConflictPage, ReadError> {
        let shared = &self.shared;
        let state = shared.gate.state();
        if !state.reads() {
            return Err(ReadError::NotReady { state });
        }
        Ok(shared.index.conflicts(filter, after, limit)?)
    }

    /// How far conflicts are known: some moments behind what is readable, and longer after a record that
    /// touches many keys. One point read.
    pub fn conflict_standing(&self) -> Result<ConflictStanding, ReadError> {
        Ok(self.shared.index.conflict_standing()?)
    }
}
