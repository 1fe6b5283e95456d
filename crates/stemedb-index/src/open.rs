//! Opening a folder: what is refused, by which name, and how a registry is read back.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, Readable};
use stemedb_io::come_behind;
use stemedb_model::{LogId, Position, Registry, Signed, Timeline};

use crate::answers::Answers;
use crate::bytes::push_varint;
use crate::error::IndexError;
use crate::format::{FORMAT, Table, meta, parse_position, position_key};
use crate::index::{Applied, Cut, IndexConfig};
use crate::lost::Lost;
use crate::place;
use crate::rows::RecordRow;
use crate::store::{Store, is_damage, number};

pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) cut: Cut,
}

/// Flushing and compaction, beside the thread that applies. Of several the first takes no compaction: it puts
/// what it finds back into the queue, over and over, as long as the others are busy, and that is a whole
/// processor (fjall 3.1.13, `worker_pool.rs`).
const WORKERS: usize = 1;
/// The part of the cache that holds names by number: a quarter.
const NAMES_SHARE: u64 = 4;
/// Journal kept for write buffers that are not in tables yet. Bounds the replay at start.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;

pub(crate) fn open(
    config: &IndexConfig,
    identity: Option<(LogId, Timeline)>,
) -> Result<Opened, IndexError> {
    let fresh = look(&config.dir)?;
    let store = open_tables(config, fresh)?;
    let format = read_meta(&store, meta::FORMAT)?;
    match format {
        Some(row) => {
            let found = number(&row).map_err(|_| damaged(&config.dir, "format marker"))?;
            if found != FORMAT {
                return Err(IndexError::UnknownFormat {
                    dir: config.dir.display().to_string(),
                    found,
                    supported: FORMAT,
                });
            }
        }
        None if fresh => mark(&store, identity)?,
        None => return Err(damaged(&config.dir, "no format marker; it was never finished")),
    }
    let cut = cut(&store)?;
    let genesis = cut.registry.genesis().map(|(log, _)| log);
    match identity {
        Some(identity) => self::identify(&store, genesis, identity)?,
        None => refuse_identity(&store, genesis)?,
    }
    let cut = Cut { tables: store.db.snapshot(), ..cut };
    Ok(Opened { store, cut })
}

/// Whether there is nothing yet; refuses what is no index.
fn look(dir: &Path) -> Result<bool, IndexError> {
    let failed = |error: std::io::Error| IndexError::Failed {
        op: "list index folder",
        reason: format!("{}: {error}", dir.display()),
    };
    let names = match std::fs::read_dir(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(failed(error)),
    };
    let (mut empty, mut finished) = (true, false);
    for name in names {
        let name = name.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if place::is_ours(&name) {
            continue;
        }
        if !place::is_storage(&name) {
            return Err(IndexError::NotAnIndex {
                dir: dir.display().to_string(),
                file: name.into_owned(),
            });
        }
        empty = false;
        finished |= name == place::VERSION_FILE;
    }
    if !empty && !finished {
        return Err(damaged(dir, "it was never finished"));
    }
    Ok(empty)
}

/// Removes an index, so that it is rebuilt. Refuses a folder that holds anything else, and does
/// nothing for one that is not there. No index may be open in it.
pub fn remove(dir: &Path) -> Result<(), IndexError> {
    match look(dir) {
        Ok(_) | Err(IndexError::Damaged { .. }) => {}
        Err(other) => return Err(other),
    }
    match std::fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(IndexError::Failed {
            op: "remove index folder",
            reason: format!("{}: {error}", dir.display()),
        }),
    }
}

fn open_tables(config: &IndexConfig, fresh: bool) -> Result<Store, IndexError> {
    let names_cache_bytes = config.cache_bytes / NAMES_SHARE;
    type Tables = [Keyspace; Table::ALL.len()];
    let open = || -> Result<Option<(Database, Tables)>, fjall::Error> {
        let db = Database::builder(&config.dir)
            .cache_size(config.cache_bytes - names_cache_bytes)
            .worker_threads(WORKERS)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .open()?;
        // fjall takes a table that lost its root file for one that was never there, and starts it
        // anew; here that is damage.
        if !fresh && !Table::ALL.iter().all(|table| db.keyspace_exists(table.name())) {
            return Ok(None);
        }
        let table = |table: Table| db.keyspace(table.name(), || table.options());
        let tables = [
            table(Table::Meta)?,
            table(Table::Records)?,
            table(Table::Ids)?,
            table(Table::Idempotency)?,
            table(Table::Times)?,
            table(Table::Keys)?,
            table(Table::Names)?,
            table(Table::Claims)?,
            table(Table::Facts)?,
            table(Table::Postings)?,
            table(Table::Registry)?,
            table(Table::Conflicts)?,
            table(Table::Watched)?,
            table(Table::Due)?,
        ];
        Ok(Some((db, tables)))
    };
    let opened = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("index-open".into());
        // The storage's threads inherit the priority of this one: they come behind those that answer.
        let opening = thread.spawn_scoped(scope, || {
            come_behind();
            open()
        });
        let opening = opening.map_err(|error| IndexError::Failed {
            op: "start a thread",
            reason: error.to_string(),
        })?;
        // fjall asserts some of what it reads; on a damaged folder that must be an error here.
        opening.join().map_err(|panic| damaged(&config.dir, &panic_message(&*panic)))
    })?;
    let opened = opened.map_err(|error| match &error {
        fjall::Error::Locked => IndexError::InUse { dir: config.dir.display().to_string() },
        error if is_damage(error) => damaged(&config.dir, &error.to_string()),
        error => IndexError::Failed {
            op: "open index",
            reason: format!("{}: {error}", config.dir.display()),
        },
    })?;
    let (db, tables) = opened.ok_or_else(|| damaged(&config.dir, "a table is missing"))?;
    let answers = Answers::new(config.answers_bytes);
    Ok(Store::new(
        db,
        config.dir.clone(),
        tables,
        names_cache_bytes,
        config.questions_bytes,
        answers,
    ))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("its files contradict each other: {}", text.unwrap_or("no details"))
}

fn damaged(dir: &Path, what: &str) -> IndexError {
    IndexError::Damaged { dir: dir.display().to_string(), what: what.to_owned() }
}

/// Marks a folder that was just made, durably: without the marker it counts as never finished.
fn mark(store: &Store, identity: Option<(LogId, Timeline)>) -> Result<(), IndexError> {
    let mut row = Vec::new();
    push_varint(&mut row, FORMAT);
    let mut rows = vec![(meta::FORMAT, row)];
    if let Some((log, timeline)) = identity {
        rows.push((meta::LOG, log.0.to_vec()));
        rows.push((meta::TIMELINE, timeline.0.to_vec()));
    }
    write_meta(store, &rows)
}

fn write_meta(store: &Store, rows: &[(&[u8], Vec<u8>)]) -> Result<(), IndexError> {
    let mut batch = store.db.batch().durability(Some(fjall::PersistMode::SyncAll));
    for (key, value) in rows {
        batch.insert(store.table(Table::Meta), *key, value.as_slice());
    }
    batch.commit().map_err(|error| store.storage("write index", &error))
}

fn read_meta(store: &Store, key: &[u8]) -> Result<Option<fjall::UserValue>, IndexError> {
    store.table(Table::Meta).get(key).map_err(|error| store.storage("read index", &error))
}

fn read_identity(
    store: &Store,
    genesis: Option<LogId>,
) -> Result<(Option<LogId>, Option<Timeline>), IndexError> {
    let log = match read_meta(store, meta::LOG)? {
        Some(row) => Some(LogId::from_slice(&row).ok_or_else(|| store.damaged("log row"))?),
        // Opened before genesis; then genesis, once applied, names it.
        None => genesis,
    };
    let timeline = match read_meta(store, meta::TIMELINE)? {
        Some(row) => Some(Timeline::from_slice(&row).ok_or_else(|| store.damaged("timeline row"))?),
        None => None,
    };
    Ok((log, timeline))
}

/// Refuses the index of another database or branch; writes down what it did not know.
pub(crate) fn identify(
    store: &Store,
    genesis: Option<LogId>,
    (log, timeline): (LogId, Timeline),
) -> Result<(), IndexError> {
    let foreign = |what, found: String, expected: String| IndexError::Foreign {
        dir: store.dir.display().to_string(),
        what,
        found,
        expected,
    };
    let (found_log, found_timeline) = read_identity(store, genesis)?;
    if let Some(found) = found_log.filter(|found| *found != log) {
        return Err(foreign("log", found.to_string(), log.to_string()));
    }
    if let Some(found) = found_timeline.filter(|found| *found != timeline) {
        return Err(foreign("timeline", found.to_string(), timeline.to_string()));
    }
    if found_timeline.is_none() {
        write_meta(store, &[(meta::LOG, log.0.to_vec()), (meta::TIMELINE, timeline.0.to_vec())])?;
    }
    Ok(())
}

/// Has the index be that of another branch, durably.
pub(crate) fn rename(store: &Store, timeline: Timeline) -> Result<(), IndexError> {
    write_meta(store, &[(meta::TIMELINE, timeline.0.to_vec())])
}

/// An index that knows its database does not serve a log without genesis.
fn refuse_identity(store: &Store, genesis: Option<LogId>) -> Result<(), IndexError> {
    match read_identity(store, genesis)?.0 {
        Some(found) => Err(IndexError::Foreign {
            dir: store.dir.display().to_string(),
            what: "log",
            found: found.to_string(),
            expected: "empty".to_owned(),
        }),
        None => Ok(()),
    }
}

/// The newest cut: the row `applied`, and the registries that its records fold into.
fn cut(store: &Store) -> Result<Cut, IndexError> {
    let tables = store.db.snapshot();
    let applied =
        store.read(&tables, Table::Meta, meta::APPLIED, Applied::decode)?.unwrap_or(Applied::NONE);
    let lost = store.read(&tables, Table::Meta, meta::LOST, Lost::decode)?.unwrap_or_default();
    let newest = match tables.last_key_value(store.table(Table::Records)) {
        Some(row) => {
            let key = row.key().map_err(|error| store.storage("read index", &error))?;
            parse_position(&key).ok_or_else(|| store.damaged_row(Table::Records, &key))?
        }
        None => Position::NONE,
    };
    if newest != lost.record_at(applied.position) {
        return Err(store.damaged(format_args!(
            "its newest record is {newest}, but {} is said to be applied",
            applied.position
        )));
    }
    let mut registry = Registry::default();
    let mut registered = Position::NONE;
    for row in tables.iter(store.table(Table::Registry)) {
        let key = row.key().map_err(|error| store.storage("read index", &error))?;
        let position =
            parse_position(&key).ok_or_else(|| store.damaged_row(Table::Registry, &key))?;
        registered = position;
        let row = store.get(&tables, Table::Records, &position_key(position))?;
        let taken = row.and_then(|row| {
            let row = RecordRow::decode(&row).ok()?;
            let signed = Signed::trusted(row.bytes, row.signature).ok()?;
            Some(registry.apply(position, signed.id(), signed.record()))
        });
        if taken != Some(true) {
            return Err(store.damaged(format_args!("registry record {position}")));
        }
    }
    Ok(Cut { tables, registry, registered, applied, lost: Arc::new(lost) })
}
