//! What was removed from a log, read from its archive.

use std::sync::Arc;

use stemedb_io::Env;
use stemedb_log::{Entry, Link, LogError, Removed, read_part};
use stemedb_model::{LogId, Position, Timeline};

use crate::catalogue::{History, Placed};
use crate::error::RemoteError;
use crate::parallel;
use crate::restore::{Needed, fetch, patiently};
use crate::store::Store;

/// Parts that are fetched at once: their bytes are in memory.
const FETCHERS: usize = 4;

/// Opens the archive once something is read from it.
pub type OpenStore = dyn Fn() -> Result<Arc<dyn Store>, RemoteError> + Send + Sync;

/// The part of a log that is in its archive alone. Who signed there is not asked: the log itself names
/// the chain hash that the parts have to lead to.
pub struct Earlier {
    open: Box<OpenStore>,
    env: Env,
    identity: (LogId, Timeline),
}

impl std::fmt::Debug for Earlier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Earlier").field("log", &self.identity).finish_non_exhaustive()
    }
}

impl Earlier {
    /// Of this log. Opens nothing yet.
    pub fn new(open: Box<OpenStore>, env: Env, identity: (LogId, Timeline)) -> Self {
        Self { open, env, identity }
    }

    fn scan(
        &self,
        from: Position,
        end: Link,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<bool, RemoteError> {
        let store = (self.open)()?;
        let parts = removed_parts(&*store, &self.env, self.identity, from, end)?;
        let place = store.place();
        tracing::info!(from = from.0, to = end.position.0, place, "reading from the archive");
        for some in parts.chunks(FETCHERS) {
            let fetched = parallel::each(some, FETCHERS, |part| fetch(&*store, &self.env, part))?;
            for (part, bytes) in some.iter().zip(fetched) {
                let mut go_on = true;
                let read = read_part(&part.name, &bytes, &mut |_, mut entries| {
                    entries.retain(|entry| entry.position >= from);
                    if !entries.is_empty() {
                        go_on = visit(entries)?;
                    }
                    // Ends the reading; nobody sees it.
                    if go_on { Ok(()) } else { Err(LogError::Refused(String::new())) }
                });
                if !go_on {
                    return Ok(false);
                }
                read?;
            }
        }
        Ok(true)
    }
}

/// The parts of an archive that hold the positions from `from` up to `end`, in one chain that ends there.
pub(crate) fn removed_parts(
    store: &dyn Store,
    env: &Env,
    (log_id, timeline): (LogId, Timeline),
    from: Position,
    end: Link,
) -> Result<Vec<Needed>, RemoteError> {
    let history = patiently(env, || History::load(store, log_id, timeline))?;
    let Some(history) = history else {
        return Err(RemoteError::Refused(format!(
            "{} holds no archive of log {log_id} on branch {timeline}",
            store.place()
        )));
    };
    leading_to(&history, from, end)
}

fn leading_to(history: &History, from: Position, end: Link) -> Result<Vec<Needed>, RemoteError> {
    let wanted = history.parts.iter().filter(|part| {
        let content = &part.entry.content;
        content.last() >= from && content.first() <= end.position
    });
    let mut parts: Vec<Needed> = Vec::new();
    for placed in wanted {
        let start = placed.entry.content.start;
        match parts.last() {
            None if start.position >= from => {
                return Err(RemoteError::Gap { first: from, last: start.position });
            }
            Some(before) if before.entry.content.end != start => {
                return Err(breaks(before, placed));
            }
            _ => parts.push(Needed { name: placed.name(), entry: placed.entry.clone() }),
        }
    }
    match parts.last().map(|last| last.entry.content.end) {
        Some(last) if last == end => Ok(parts),
        Some(last) if last.position >= end.position => Err(RemoteError::Refused(format!(
            "the archive is of another history than this log, which has another log root at position {}",
            end.position
        ))),
        last => {
            let first = last.map_or(from, |last| last.position.next());
            Err(RemoteError::Gap { first, last: end.position })
        }
    }
}

fn breaks(before: &Needed, next: &Placed) -> RemoteError {
    let (ends, begins) = (before.entry.content.end.position, next.entry.content.start.position);
    match begins > ends {
        true => RemoteError::Gap { first: ends.next(), last: begins },
        false => RemoteError::Damaged {
            name: next.name(),
            problem: "it goes on from another history than the part before it".into(),
        },
    }
}

impl Removed for Earlier {
    fn scan(
        &self,
        from: Position,
        end: Link,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<bool, LogError> {
        // What the caller says is his; the rest is ours to explain.
        let mut theirs = None;
        let scanned = Self::scan(self, from, end, &mut |entries| match visit(entries) {
            Ok(go_on) => Ok(go_on),
            Err(error) => {
                theirs = Some(error);
                Ok(false)
            }
        });
        match (theirs, scanned) {
            (Some(error), _) => Err(error),
            (None, Ok(go_on)) => Ok(go_on),
            (None, Err(error)) => {
                let problem = error.to_string();
                Err(LogError::Away { first: from, last: end.position, problem })
            }
        }
    }
}
