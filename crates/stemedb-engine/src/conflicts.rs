//! The thread that keeps the list of conflicts up to date, and reading the list.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stemedb_index::{ConflictFilter, ConflictPage, ConflictPlace, ConflictStanding, Index};
use stemedb_io::come_behind;
use stemedb_model::{Millis, Position};

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
/// While writes stream in it rests this many times as long as it works, so that it takes a fifth of one
/// processor from them.
const RESTS: u32 = 4;
/// It rests less the further behind it is, and this many records behind not at all: a stream that
/// never ends must not leave it behind for ever.
const BEHIND_MAX: u64 = 1 << 20;
/// It rests no longer than this in one go, since what it found meanwhile waits to be seen.
const REST_MAX: Duration = Duration::from_millis(500);

/// Until the engine is being closed. While the index has failed it rests: another may come.
pub(crate) fn follow(shared: &Arc<Shared>) {
    come_behind();
    let stopping = || shared.stopping.load(Ordering::Relaxed);
    // It would compete with the replay, and find the same in the end.
    let begin = |state: NodeState| state.reads() || state == NodeState::Stopped;
    while !stopping() && !shared.gate.wait_until(IDLE, begin) {}
    let mut known = Position::NONE;
    while !stopping() {
        let now = Millis(shared.clock.now_ms());
        let claims_max = shared.config.resolve_claims_max;
        let pace = Pace::new(shared, known);
        let index = shared.index();
        let replaced = || !Arc::ptr_eq(&index, &shared.index());
        let between = || {
            renew(shared, &index);
            pace.rest();
            // Of one that is replaced nobody reads the list, and it waits to be removed.
            stopping() || replaced()
        };
        let followed = match index.follow_conflicts(now, claims_max, &between) {
            Ok(followed) => followed,
            Err(error) => {
                tracing::error!(%error, "the list of conflicts is no longer kept up to date");
                shared.fail_index(&index, error.to_string());
                while !replaced() && !stopping() {
                    shared.gate.wait_until(IDLE, |state| state == NodeState::Stopped);
                }
                continue;
            }
        };
        if replaced() {
            continue;
        }
        if followed.judged > 0 {
            renew(shared, &index);
        }
        metrics::conflicts(&followed.standing);
        known = followed.standing.position;
        if followed.more {
            pace.rest();
            continue;
        }
        shared.applied.wait_for(followed.standing.position.next(), IDLE, stopping);
        shared.gate.wait_until(REST, |state| state == NodeState::Stopped);
    }
}

/// The storage keeps in memory what is written into the list, until nobody holds an older state.
fn renew(shared: &Shared, index: &Index) {
    if let Some(snapshot) = index.renew() {
        shared.applied.renew(snapshot);
    }
}

/// Lets writers go first.
struct Pace<'a> {
    shared: &'a Shared,
    known: Position,
    /// When it began to work, and what the newest record was then.
    since: Cell<(Duration, Position)>,
}

impl<'a> Pace<'a> {
    fn new(shared: &'a Shared, known: Position) -> Self {
        let since = (shared.clock.monotonic(), shared.applied.position());
        Self { shared, known, since: Cell::new(since) }
    }

    /// Rests if anything was written since it last did.
    fn rest(&self) {
        let (since, newest) = self.since.get();
        let applied = self.shared.applied.position();
        if applied > newest {
            let worked = self.shared.clock.monotonic().saturating_sub(since);
            let rest = rest(worked, applied.0.saturating_sub(self.known.0));
            self.shared.gate.wait_until(rest, |state| state == NodeState::Stopped);
        }
        self.since.set((self.shared.clock.monotonic(), applied));
    }
}

/// How long to rest after having worked that long, so many records behind.
fn rest(worked: Duration, behind: u64) -> Duration {
    const PARTS: u32 = 1 << 10;
    let left = BEHIND_MAX.saturating_sub(behind) / (BEHIND_MAX / u64::from(PARTS));
    let left = u32::try_from(left).unwrap_or(PARTS);
    (worked.saturating_mul(RESTS * left) / PARTS).min(REST_MAX)
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
        Ok(shared.index().conflicts(filter, after, limit)?)
    }

    /// How far conflicts are known: some moments behind what is readable, and longer after a record that
    /// touches many keys. One point read.
    pub fn conflict_standing(&self) -> Result<ConflictStanding, ReadError> {
        Ok(self.shared.index().conflict_standing()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_less_the_further_behind_it_is() {
        let worked = Duration::from_millis(10);
        assert_eq!(rest(worked, 0), Duration::from_millis(40));
        assert_eq!(rest(worked, BEHIND_MAX / 2), Duration::from_millis(20));
        assert_eq!(rest(worked, BEHIND_MAX), Duration::ZERO);
        assert_eq!(rest(worked, BEHIND_MAX * 2), Duration::ZERO);
        assert_eq!(rest(Duration::from_secs(10), 0), REST_MAX);
    }
}
