//! The index made anew from the log, while the old one is read from and written to.
//!
//! The new one is filled from the log until it is nearly where the old one is. For the rest the applier is
//! held up; then readers and the applier find the new one. The old one is removed when nobody reads from
//! it any more.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_index::Index;
use stemedb_model::{Millis, Position};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::metrics;
use crate::node::NodeState;
use crate::replay::replay;
use crate::shared::Shared;

/// With no more records to go, the applier is held up for them.
const NEAR: u64 = 1_000;
/// Writers that never let it come so near are held up for what is left after this many rounds.
const ROUNDS: usize = 10;
/// How often it is asked whether the old index can go.
const RETIRE_EVERY: Duration = Duration::from_millis(500);

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildState {
    /// It is under way.
    Running,
    /// The new index is in use.
    Done,
    /// The old index stays in use, unless the problem says otherwise.
    Failed,
}

impl RebuildState {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// How far the index is made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// What became of it.
    pub state: RebuildState,
    /// When it began.
    pub began_at: Millis,
    /// Newest position in the new index.
    pub position: Position,
    /// What went wrong.
    pub problem: Option<String>,
}

impl Shared {
    pub(crate) fn rebuild(&self) -> MutexGuard<'_, Option<Rebuild>> {
        self.rebuild.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuilt_up_to(&self, position: Position) {
        metrics::rebuilding(position);
        if let Some(rebuild) = &mut *self.rebuild() {
            rebuild.position = position;
        }
    }

    fn rebuild_ended(&self, problem: Option<String>) {
        let state = if problem.is_none() { RebuildState::Done } else { RebuildState::Failed };
        metrics::rebuilt(state);
        if let Some(rebuild) = &mut *self.rebuild() {
            rebuild.state = state;
            rebuild.problem = problem;
        }
    }
}

impl Engine {
    /// Begins to make the index anew from the log, on a thread of its own: see
    /// [`crate::NodeStatus::rebuild`]. Reads and writes go on meanwhile; a node whose index failed takes
    /// writes again afterwards. Takes as much room as the index has, and as much memory, once more.
    pub fn reindex(&self) -> Result<(), EngineError> {
        let shared = &self.shared;
        let state = shared.gate.state();
        if !state.reads() {
            return Err(EngineError::NotReady { state });
        }
        let began_at = self.now();
        {
            let mut rebuild = shared.rebuild();
            if rebuild.as_ref().is_some_and(|one| one.state == RebuildState::Running) {
                return Err(EngineError::Rebuilding);
            }
            let (state, position) = (RebuildState::Running, Position::NONE);
            *rebuild = Some(Rebuild { state, began_at, position, problem: None });
        }
        let ours = Arc::clone(shared);
        let started = self.start("reindex", move || run(&ours));
        if let Err(error) = &started {
            shared.rebuild_ended(Some(error.to_string()));
        }
        started
    }
}

fn run(shared: &Shared) {
    tracing::info!("making the index anew from the log");
    let failed = |problem: String| {
        tracing::error!(problem, "the index is not made anew");
        shared.rebuild_ended(Some(problem));
    };
    let mut old = match catch_unwind(AssertUnwindSafe(|| rebuild(shared))) {
        Ok(Ok(old)) => old,
        Ok(Err(problem)) => return failed(problem),
        Err(panic) => {
            failed(format!("{}: which index is in use is not certain, restart", panicked(&*panic)));
            // Like that of any thread of the engine: it ends the pulse.
            resume_unwind(panic)
        }
    };
    tracing::info!(position = shared.index().applied().0, "the index is made anew, and in use");
    shared.rebuild_ended(None);
    let stopped = |state| state == NodeState::Stopped;
    loop {
        match old.retire() {
            Ok(None) => return,
            Ok(Some(read)) => old = read,
            Err(error) => {
                return tracing::warn!(%error, "the old index is not removed; the next start will");
            }
        }
        if shared.gate.wait_until(RETIRE_EVERY, stopped) {
            return;
        }
    }
}

/// The index that was in use.
fn rebuild(shared: &Shared) -> Result<Arc<Index>, String> {
    let words = |error: stemedb_index::IndexError| error.to_string();
    let new = shared.index().another(shared.log_id, shared.timeline).map_err(words)?;
    let new = Arc::new(new);
    // Nobody else sees the new one yet: to go wrong over it, in whatever way, is no more than a failure.
    let filled = catch_unwind(AssertUnwindSafe(|| fill(shared, &new)))
        .unwrap_or_else(|panic| Err(panicked(&*panic)));
    let changed = filled.and_then(|()| change(shared, &new));
    let old = match changed {
        Ok(old) => old,
        Err(problem) => {
            if let Err(error) = new.retire() {
                tracing::warn!(%error, "what there is of the new index is not removed");
            }
            return Err(problem);
        }
    };
    // Before that a crash finds the old one, which the next start brings up to the log.
    new.put_in_force().map_err(|error| {
        format!("the new index is in use, but the next start will find the old one: {error}")
    })?;
    Ok(old)
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("what makes it panicked: {}", words.unwrap_or("without words"))
}

/// Until it is nearly where the log is.
fn fill(shared: &Shared, new: &Index) -> Result<(), String> {
    for _ in 0..ROUNDS {
        bring_up(shared, new)?;
        follow(shared, new)?;
        let (durable, _) = shared.log.durable();
        if durable.0.saturating_sub(new.applied().0) <= NEAR {
            break;
        }
    }
    Ok(())
}

fn bring_up(shared: &Shared, new: &Index) -> Result<(), String> {
    match replay(shared, new, &|| shared.rebuilt_up_to(new.applied()))? {
        true => Ok(()),
        false => Err("the node stops".to_owned()),
    }
}

/// The list of conflicts is part of it: it must not begin anew before everybody's eyes.
fn follow(shared: &Shared, new: &Index) -> Result<(), String> {
    let stopping = || shared.stopping.load(Ordering::Relaxed);
    let between = || {
        // Nobody reads it yet.
        drop(new.renew());
        stopping()
    };
    let claims_max = shared.config.resolve_claims_max;
    while !stopping() {
        let now = Millis(shared.clock.now_ms());
        let followed = new.follow_conflicts(now, claims_max, &between);
        let followed = followed.map_err(|error| error.to_string())?;
        if followed.judged > 0 {
            drop(new.renew());
        }
        if !followed.more {
            return Ok(());
        }
    }
    Err("the node stops".to_owned())
}

/// Holds the applier up, takes the rest, and has everybody find the new one; the index that was in use.
fn change(shared: &Shared, new: &Arc<Index>) -> Result<Arc<Index>, String> {
    let mut failed = shared.index_failed();
    bring_up(shared, new)?;
    let old = shared.use_index(Arc::clone(new));
    shared.applied.set(new.snapshot());
    if failed.take().is_some() {
        shared.fates.settle_up_to(new.applied());
        shared.gate.index_works();
        // What the log says of itself was behind the failure of the index.
        shared.gate.follow(&*shared.log);
    }
    Ok(old)
}
