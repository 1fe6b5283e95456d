//! One segment of a log from its archive, in the place of a damaged one.

use stemedb_io::Env;
use stemedb_log::{RestoreOptions, RestoreReport, restore_segment};
use stemedb_model::{LogId, Timeline};

use crate::catalogue::History;
use crate::error::RemoteError;
use crate::restore::{Needed, fetch, patiently};
use crate::store::Store;

/// Makes a segment again from what the archive has of it and what is newer in the file, or says what that
/// would do: see [`stemedb_log::restore_segment`]. `number` is that of the segment.
pub fn restore_damaged(
    store: &dyn Store,
    env: &Env,
    (log_id, timeline): (LogId, Timeline),
    number: u64,
    options: &RestoreOptions,
) -> Result<RestoreReport, RemoteError> {
    let history = patiently(env, || History::load(store, log_id, timeline))?;
    let Some(history) = history else {
        return Err(RemoteError::Refused(format!(
            "{} holds no archive of log {log_id} on branch {timeline}",
            store.place()
        )));
    };
    let own = history.parts.iter().filter(|placed| placed.entry.content.segment == number);
    let needed: Vec<Needed> =
        own.map(|placed| Needed { name: placed.name(), entry: placed.entry.clone() }).collect();
    let parts: Vec<_> =
        needed.iter().map(|part| (part.name.clone(), part.entry.content.clone())).collect();
    restore_segment(env, options, &parts, &mut |at| match needed.get(at) {
        Some(part) => fetch(store, env, part),
        None => Err(RemoteError::Refused("a part that is not of the segment".into())),
    })
}
