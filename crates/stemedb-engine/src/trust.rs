//! Learned trust: tables made from the log, kept at hand, and used where a snapshot in the log names
//! them.
//!
//! A table is a pure function of the log up to an input position; the log holds only its hash. So a
//! node may forget any of them: it reads the file that it keeps beside, or learns again.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stemedb_index::KeyFilter;
use stemedb_io::{Open, Vfs};
use stemedb_lens::Reliability;
use stemedb_lens::trust::{Evidence, Table, configuration_hash, learn};
use stemedb_model::{Hash, Millis, Position, Space, TrustSnapshot, TrustState};

use crate::error::ReadError;
use crate::shared::Shared;
use crate::view::{AsOf, View};

/// Tables that stay in memory: the newest of some spaces, and what as-of reads asked for last.
const TABLES_MAX: usize = 8;
/// Files that stay; an older one is learned again if it is asked for.
const FILES_MAX: usize = 16;
const SUFFIX: &str = ".trust";

/// What was learned, as a trust snapshot names it.
#[derive(Debug, Clone)]
pub struct LearnedTrust {
    /// Whose agents and topics these are.
    pub space: Space,
    /// What to write into the log, for this table to count.
    pub snapshot: TrustSnapshot,
    /// What was learned.
    pub table: Arc<Table>,
    /// Live claims and votes that it was learned from.
    pub statements: u64,
    /// How long it took.
    pub took: Duration,
}

/// The tables that this node has.
pub(crate) struct Tables {
    dir: Option<PathBuf>,
    vfs: Arc<dyn Vfs>,
    /// Used last at the end.
    known: Mutex<Vec<(Name, State)>>,
    /// Learning takes all the memory there is for it: one at a time.
    learning: Mutex<()>,
}

/// Names one table.
#[derive(Debug, Clone, PartialEq)]
struct Name {
    space: Space,
    snapshot: TrustSnapshot,
}

#[derive(Debug, Clone)]
enum State {
    Ready(Arc<Table>),
    /// A thread is at it.
    Learning,
    /// It cannot be had; why.
    Failed(String),
}

impl Tables {
    pub(crate) fn new(dir: Option<PathBuf>, vfs: Arc<dyn Vfs>) -> Self {
        Self { dir, vfs, known: Mutex::default(), learning: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Vec<(Name, State)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, name: &Name) -> Option<State> {
        let mut known = self.known();
        let at = known.iter().position(|(known, _)| known == name)?;
        let found = known.remove(at);
        let state = found.1.clone();
        known.push(found);
        Some(state)
    }

    fn set(&self, name: &Name, state: State) {
        let mut known = self.known();
        known.retain(|(known, _)| known != name);
        enter(&mut known, name, state);
    }

    /// Takes the work, unless somebody has it.
    fn begin(&self, name: &Name) -> bool {
        let mut known = self.known();
        if known.iter().any(|(known, _)| known == name) {
            return false;
        }
        enter(&mut known, name, State::Learning);
        true
    }

    /// Gives the work back if nothing came of it: the next one to ask begins again.
    fn end(&self, name: &Name) {
        let unfinished = |state: &State| matches!(state, State::Learning);
        self.known().retain(|(known, state)| known != name || !unfinished(state));
    }

    /// A file under the name of its content: nothing in it is believed that does not hash to it.
    fn load(&self, snapshot: &TrustSnapshot) -> Option<Table> {
        let path = self.dir.as_ref()?.join(file_name(snapshot));
        let file = self.vfs.open(&path, Open::Read).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Table::decode(&bytes, snapshot.table)
    }

    /// Keeps a table for the next start. Only a convenience, so an error is only told.
    fn store(&self, snapshot: &TrustSnapshot, table: &Table) {
        let Some(dir) = &self.dir else { return };
        let write = || {
            self.vfs.create_dir_all(dir)?;
            let path = dir.join(file_name(snapshot));
            let temporary = dir.join("learned.tmp");
            if self.vfs.exists(&temporary)? {
                self.vfs.remove_file(&temporary)?;
            }
            let file = self.vfs.open(&temporary, Open::CreateNew)?;
            file.write_at(&table.encode(), 0)?;
            // Not synced: a torn file does not hash to its name.
            file.close()?;
            self.vfs.rename(&temporary, &path)?;
            let mut files = self.vfs.read_dir(dir)?;
            files.retain(|file| file.name.to_string_lossy().ends_with(SUFFIX));
            let old = files.len().saturating_sub(FILES_MAX);
            // Names begin with the position.
            files.iter().take(old).try_for_each(|file| self.vfs.remove_file(&dir.join(&file.name)))
        };
        if let Err(error) = write() {
            tracing::warn!("a trust table could not be kept in {}: {error}", dir.display());
        }
    }
}

/// Somebody learns a table; nobody does once this is dropped.
struct Begun {
    shared: Arc<Shared>,
    name: Name,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.shared.trust.end(&self.name);
    }
}

/// Puts a table at the end of the known ones; the one that was used least recently goes.
fn enter(known: &mut Vec<(Name, State)>, name: &Name, state: State) {
    if known.len() >= TABLES_MAX {
        known.remove(0);
    }
    known.push((name.clone(), state));
}

fn file_name(snapshot: &TrustSnapshot) -> String {
    format!("{:020}-{}{SUFFIX}", snapshot.input_position.0, snapshot.table)
}

/// A table as the lenses take it.
pub(crate) fn reliability(table: Option<&Arc<Table>>) -> Option<&dyn Reliability> {
    table.map(|table| &**table as &dyn Reliability)
}

impl View {
    /// The trust snapshot that counts in a space: the newest that was learned by the method of this
    /// build. `None`: every agent is worth 1/2.
    pub fn trust_snapshot(&self, space: &Space) -> Option<TrustState> {
        let ours = configuration_hash();
        let registry = self.snapshot().registry();
        registry.trust_snapshots(space, self.position()).find(|one| one.snapshot.config == ours)
    }

    /// The table in force in a space. One that is not at hand is learned in the background:
    /// [`ReadError::TrustPending`] until then.
    pub fn trust(&self, space: &Space) -> Result<Option<Arc<Table>>, ReadError> {
        let Some((name, in_force)) = self.named_table(space) else { return Ok(None) };
        if let Some(table) = self.table_at_hand(&name, in_force)? {
            return Ok(Some(table));
        }
        if self.shared.trust.begin(&name) {
            // Also where no thread can be had, or where it panics.
            let begun = Begun { shared: Arc::clone(&self.shared), name: name.clone() };
            let view = self.clone();
            let learn = move || {
                // It is told where it fails, and the next one to ask begins again.
                let _ = view.learn_again(&begun.name, in_force);
            };
            let thread = std::thread::Builder::new().name("trust".into()).spawn(learn);
            thread.map_err(|error| unavailable(in_force, error.to_string()))?;
        }
        Err(ReadError::TrustPending { input_position: name.snapshot.input_position })
    }

    /// The same and its hash, if memory holds it or there is none.
    pub(crate) fn known_trust(&self, space: &Space) -> Option<Option<(Arc<Table>, Hash)>> {
        let Some((name, _)) = self.named_table(space) else { return Some(None) };
        match self.shared.trust.state(&name) {
            Some(State::Ready(table)) => Some(Some((table, name.snapshot.table))),
            _ => None,
        }
    }

    /// The same, learned here and now if it is not at hand. Time and memory as [`View::learn_trust`].
    pub(crate) fn trust_now(&self, space: &Space) -> Result<Option<Arc<Table>>, ReadError> {
        let Some((name, in_force)) = self.named_table(space) else { return Ok(None) };
        match self.table_at_hand(&name, in_force)? {
            Some(table) => Ok(Some(table)),
            None => {
                self.clone().learn_again(&name, in_force)?;
                self.table_at_hand(&name, in_force)
            }
        }
    }

    /// The snapshot in force, and where it is in the log.
    fn named_table(&self, space: &Space) -> Option<(Name, Position)> {
        let in_force = self.trust_snapshot(space)?;
        Some((Name { space: space.clone(), snapshot: in_force.snapshot }, in_force.position))
    }

    fn table_at_hand(
        &self,
        name: &Name,
        in_force: Position,
    ) -> Result<Option<Arc<Table>>, ReadError> {
        match self.shared.trust.state(name) {
            Some(State::Ready(table)) => return Ok(Some(table)),
            Some(State::Failed(reason)) => return Err(unavailable(in_force, reason)),
            Some(State::Learning) => return Ok(None),
            None => {}
        }
        if let Some(table) = self.shared.trust.load(&name.snapshot) {
            let table = Arc::new(table);
            self.shared.trust.set(name, State::Ready(Arc::clone(&table)));
            return Ok(Some(table));
        }
        Ok(None)
    }

    /// Learns the table of a snapshot that is in the log, and says so if it is another one. Only what
    /// would end the same way again is kept of a failure.
    fn learn_again(self, name: &Name, in_force: Position) -> Result<(), ReadError> {
        let shared = Arc::clone(&self.shared);
        let as_of = self.as_of(AsOf::Position(name.snapshot.input_position));
        drop(self);
        let learned = as_of.and_then(|view| view.learn_trust(&name.space));
        let (reason, error) = match learned {
            Ok(learned) if learned.snapshot == name.snapshot => return Ok(()),
            Ok(learned) => {
                let reason = format!(
                    "the log up to position {} gives the table {}, not {}",
                    name.snapshot.input_position, learned.snapshot.table, name.snapshot.table
                );
                (reason.clone(), unavailable(in_force, reason))
            }
            Err(error) => (error.to_string(), error),
        };
        tracing::error!(position = in_force.0, reason, "a trust snapshot cannot be used");
        if matches!(error, ReadError::TrustUnavailable { .. } | ReadError::TrustTooLarge { .. }) {
            shared.trust.set(name, State::Failed(reason));
        }
        Err(error)
    }

    /// Learns whom to trust from everything in a space up to this position, evaluated at the time of
    /// its newest record: a pure function of the log up to there. It counts once a trust snapshot
    /// names it.
    ///
    /// One at a time on a node. Time O(claims) for the gathering and O(24 x claims x peers) for the
    /// learning, on half the cores; memory about 400 bytes a claim. Takes the view, to renew it on the
    /// way. Refuses more statements than `trust_statements_max`.
    pub fn learn_trust(self, space: &Space) -> Result<LearnedTrust, ReadError> {
        let (shared, position) = (Arc::clone(&self.shared), self.position());
        // It may wait for long, and holds no state of the index meanwhile.
        drop(self);
        let _one = shared.trust.learning.lock().unwrap_or_else(PoisonError::into_inner);
        let since = shared.clock.monotonic();
        let newest = View::newest(Arc::clone(&shared), shared.applied.newest(), Millis(0));
        let mut view = newest.as_of(AsOf::Position(position))?;
        drop(newest);
        let input_position = view.position();
        let mut evidence = Evidence::new();
        let most = shared.config.trust_statements_max;
        let filter = KeyFilter { space: Some(space.clone()), ..KeyFilter::default() };
        view.each_entity_key(&filter, |view, key| {
            if shared.stopping.load(Ordering::Relaxed) {
                return Err(ReadError::NotReady { state: shared.gate.state() });
            }
            let candidates = view.snapshot().candidates(key, view.position(), usize::MAX)?;
            evidence.testify(&candidates, view.evaluated_at());
            match evidence.len() {
                found if found > most => Err(ReadError::TrustTooLarge { found, most }),
                _ => Ok(()),
            }
        })?;
        drop(view);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let table = Arc::new(learn(&evidence, (cores / 2).max(1)).into_table());
        let snapshot =
            TrustSnapshot { input_position, config: configuration_hash(), table: table.hash() };
        shared.trust.store(&snapshot, &table);
        let name = Name { space: space.clone(), snapshot };
        shared.trust.set(&name, State::Ready(Arc::clone(&table)));
        let took = shared.clock.monotonic().saturating_sub(since);
        let statements = evidence.len() as u64;
        tracing::info!(
            space = space.as_str(),
            input_position = name.snapshot.input_position.0,
            table = %name.snapshot.table,
            agents = table.len(),
            statements,
            took_ms = took.as_millis(),
            "learned whom to trust"
        );
        Ok(LearnedTrust { space: name.space, snapshot: name.snapshot, table, statements, took })
    }
}

fn unavailable(position: Position, reason: String) -> ReadError {
    ReadError::TrustUnavailable { position, reason }
}

#[cfg(test)]
mod tests {
    use stemedb_io::sim::SimVfs;

    use super::*;

    #[test]
    fn work_that_came_to_nothing_is_begun_again() {
        let tables = Tables::new(None, Arc::new(SimVfs::new(0)));
        let (input_position, config, table) = (Position(7), Hash([1; 32]), Hash([2; 32]));
        let snapshot = TrustSnapshot { input_position, config, table };
        let name = Name { space: Space::default(), snapshot };
        assert!(tables.begin(&name));
        assert!(!tables.begin(&name), "somebody is at it");
        tables.end(&name);
        assert!(tables.begin(&name));
        tables.set(&name, State::Failed("too large".into()));
        tables.end(&name);
        assert!(matches!(tables.state(&name), Some(State::Failed(_))), "it came to something");
    }
}
