//! The archive of the log, as far as acknowledgements, a drain and the state of the node have to do
//! with it.
//!
//! With *sync* an acknowledgement waits until its record is in the archive as well. The applier hands
//! its answers over here; a thread of its own asks for everything that waits at once, so that one
//! upload serves all groups that were applied during the last one. Whoever waits too long is told that
//! it is not known; the record stays, and is archived once that is possible. While the archive takes
//! nothing, writes are refused before they are queued.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_model::Position;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::intake::Queued;
use crate::shared::Shared;
use crate::slot::{Item, Verdict};
use crate::submission::{Ack, WriteError};
use crate::waiters::{Reply, Ticket};

/// How often it is looked how far the archive is, and whether it takes anything.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// With nothing taken for so long, new writes are refused.
const STUCK: Duration = Duration::from_secs(10);
/// An acknowledgement waits no longer for the archive, whatever the deadline of its request.
const HOLD_MAX: Duration = Duration::from_secs(30);

/// An archive of the log that this engine writes.
pub trait Archive: Send + Sync {
    /// How far it is, and how it does.
    fn view(&self) -> ArchiveView;
    /// Archives everything up to `position` now, whatever its age, and waits for that up to `bound`.
    /// Whether it is there.
    fn flush(&self, position: Position, bound: Duration) -> bool;
}

/// An archive at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveView {
    /// Everything up to here is there.
    pub position: Position,
    /// `starting`, `running`, `failing` or `stopped`.
    pub state: &'static str,
    /// Why it takes nothing now.
    pub problem: Option<String>,
}

/// The archive, as the state of the node tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveStatus {
    /// Acknowledgements wait for it.
    pub sync: bool,
    /// How it does.
    pub view: ArchiveView,
}

/// The archive of an engine, and the answers that wait for it.
pub(crate) struct Archiving {
    archive: Arc<dyn Archive>,
    pub(crate) sync: bool,
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    /// In order of their position.
    answers: VecDeque<HeldAnswers>,
    /// How many of them the pipeline counts.
    items: usize,
    closed: bool,
}

/// What may be told once the archive is at `upto`.
struct HeldAnswers {
    upto: Position,
    since: Duration,
    items: Vec<(Item, Result<Ack, WriteError>)>,
    /// Of records that were there before, which never were in the pipeline.
    known: Vec<(Ticket, Ack)>,
}

impl Archiving {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, position: Position) -> bool {
        self.archive.view().position >= position
    }

    /// Answers of the pipeline that wait for the archive alone.
    fn waiting(&self) -> usize {
        self.lock().items
    }

    /// Keeps answers until the archive has them; gives them back if nobody waits any more.
    fn hold(&self, answers: HeldAnswers) -> Result<(), HeldAnswers> {
        let mut held = self.lock();
        if held.closed {
            return Err(answers);
        }
        held.items += answers.items.len();
        held.answers.push_back(answers);
        drop(held);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits until something is held, at most for a look; up to where, if something is.
    fn next(&self) -> Option<Position> {
        let nothing = |held: &mut Held| held.answers.is_empty() && !held.closed;
        let (held, _) = self
            .changed
            .wait_timeout_while(self.lock(), LOOK_EVERY, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        held.answers.iter().map(|answers| answers.upto).max()
    }

    /// Why nothing more should come: what waits, has waited long.
    fn stuck(&self, now: Duration) -> Option<String> {
        let since = self.lock().answers.iter().map(|answers| answers.since).min()?;
        let waited = now.saturating_sub(since);
        (waited >= STUCK).then(|| format!("nothing arrived there for {} s", waited.as_secs()))
    }

    /// What `may` go.
    fn take(&self, may: impl Fn(&HeldAnswers) -> bool) -> Vec<HeldAnswers> {
        let mut held = self.lock();
        let (go, stay): (VecDeque<_>, _) = held.answers.drain(..).partition(may);
        held.answers = stay;
        held.items -= go.iter().map(|answers| answers.items.len()).sum::<usize>();
        go.into()
    }

    fn close(&self) -> Vec<HeldAnswers> {
        self.lock().closed = true;
        self.changed.notify_all();
        self.take(|_| true)
    }
}

impl HeldAnswers {
    /// The record is where it was to be, or nobody knows whether it will be.
    fn tell(self, shared: &Shared, unknown: Option<&str>) {
        let told = |result: Result<Ack, WriteError>| match (result, unknown) {
            (Ok(_), Some(reason)) => Err(WriteError::Indeterminate { reason: reason.to_owned() }),
            (result, _) => result,
        };
        let items = self.items.into_iter();
        shared.finish_all(items.map(|(item, result)| (item, told(result))).collect());
        if self.known.is_empty() {
            return;
        }
        // Asked again: what has waited may be another node's by now.
        let fenced = shared.fenced();
        let told = |ack| match &fenced {
            Some(error) => Err(error.clone()),
            None => told(Ok(ack)),
        };
        let known = self.known.into_iter();
        shared.waiters.answer_all(known.map(|(ticket, ack)| (ticket, told(ack))));
    }
}

impl Shared {
    /// The archive, if acknowledgements wait for it.
    fn syncing(&self) -> Option<&Archiving> {
        self.archiving.get().filter(|archiving| archiving.sync)
    }

    /// Answers of the pipeline that wait for the archive alone: their records are durable and readable.
    pub(crate) fn waiting_for_archive(&self) -> usize {
        self.syncing().map_or(0, Archiving::waiting)
    }

    pub(crate) fn archive_status(&self) -> Option<ArchiveStatus> {
        let archiving = self.archiving.get()?;
        Some(ArchiveStatus { sync: archiving.sync, view: archiving.archive.view() })
    }

    /// Answers what the applier has done: at once, or when the archive has it. What was refused waits for
    /// nothing.
    pub(crate) fn acknowledge(&self, answers: Vec<(Item, Result<Ack, WriteError>)>) {
        let Some(archiving) = self.syncing() else { return self.finish_all(answers) };
        let (items, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|(_, result)| result.is_ok());
        self.finish_all(refused);
        let acks = items.iter().filter_map(|(_, result)| result.as_ref().ok());
        let Some(upto) = acks.map(|ack| ack.position).max() else { return };
        let since = self.clock.monotonic();
        let held = HeldAnswers { upto, since, items, known: Vec::new() };
        if let Err(held) = archiving.hold(held) {
            held.tell(self, Some(STOPPING));
        }
    }

    /// The same of one that got no further than admission.
    pub(crate) fn acknowledge_one(&self, queued: Queued, result: Result<Ack, WriteError>) {
        match result {
            Ok(ack) => {
                let item = Item { queued, verdict: Verdict::Echo(ack.position) };
                self.acknowledge(vec![(item, Ok(ack))]);
            }
            Err(error) => self.finish(&queued, Err(error)),
        }
    }

    /// Answers that a record is there, once it is in the archive, too. Takes the reply if that is not
    /// known at once.
    pub(crate) fn acknowledge_known(
        &self,
        ack: Ack,
        deadline: Option<Duration>,
        reply: &mut Option<Reply>,
    ) -> Result<(), Result<Ack, WriteError>> {
        let archiving = match self.syncing() {
            Some(archiving) if !archiving.has(ack.position) => archiving,
            _ => return Err(Ok(ack)),
        };
        self.gate.archived().map_err(Err)?;
        let reply = reply.take().unwrap_or_else(|| Box::new(|_| ()));
        let ticket = self.waiters.add(deadline, reply);
        let (upto, since) = (ack.position, self.clock.monotonic());
        let held = HeldAnswers { upto, since, items: Vec::new(), known: vec![(ticket, ack)] };
        if let Err(held) = archiving.hold(held) {
            held.tell(self, Some(STOPPING));
        }
        Ok(())
    }

    /// Nobody waits for the archive any more.
    pub(crate) fn stop_archiving(&self) {
        if let Some(archiving) = self.archiving.get() {
            for held in archiving.close() {
                held.tell(self, Some(STOPPING));
            }
        }
    }

    /// Archives what is not archived yet, within `bound`; a sentence on what is left.
    pub(crate) fn archive_rest(&self, bound: Duration) -> Option<String> {
        let archiving = self.archiving.get()?;
        let (durable, _) = self.log.durable();
        if archiving.has(durable) || (!bound.is_zero() && archiving.archive.flush(durable, bound)) {
            return None;
        }
        let ArchiveView { position, problem, .. } = archiving.archive.view();
        let why = problem.map_or_else(String::new, |problem| format!(" ({problem})"));
        let left = format!("positions {} to {durable} are not archived yet{why}", position.next());
        tracing::warn!("{left}");
        Some(left)
    }
}

const STOPPING: &str = "the node stops before the record is in the archive; it is in the log, and archived after the next start";

impl Engine {
    /// The log has an archive: a drain archives what is left, and the state of the node tells of it.
    /// With `sync`, no record is acknowledged before it is there. Once, and before anybody writes.
    pub fn archive_with(&self, archive: Arc<dyn Archive>, sync: bool) -> Result<(), EngineError> {
        let archiving =
            Archiving { archive, sync, held: Mutex::default(), changed: Condvar::new() };
        if self.shared.archiving.set(archiving).is_err() {
            return Ok(());
        }
        if !sync {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        self.start("acknowledger", move || run(&shared))
    }
}

/// Until the engine stops.
fn run(shared: &Shared) {
    let Some(archiving) = shared.syncing() else { return };
    loop {
        let upto = archiving.next();
        if archiving.lock().closed {
            return;
        }
        if let Some(upto) = upto {
            archiving.archive.flush(upto, LOOK_EVERY);
        }
        let ArchiveView { position, problem, .. } = archiving.archive.view();
        for held in archiving.take(|held| held.upto <= position) {
            held.tell(shared, None);
        }
        let now = shared.clock.monotonic();
        shared.gate.archive(problem.or_else(|| archiving.stuck(now)));
        let late = |held: &HeldAnswers| now.saturating_sub(held.since) >= HOLD_MAX;
        for held in archiving.take(late) {
            held.tell(
                shared,
                Some("the archive did not take the record in time; it is in the log"),
            );
        }
    }
}
