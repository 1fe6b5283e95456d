//! What a log has that the branch which has gone on without it has not: for a primary that another node
//! has taken the place of.

use std::collections::HashSet;

use stemedb_io::Env;
use stemedb_log::{Cutter, Entry, Link, read_part};
use stemedb_model::{AgentId, Position, RecordId, Timeline};

use crate::catalogue::History;
use crate::codec::believe;
use crate::error::RemoteError;
use crate::restore::{Needed, fetch};
use crate::store::Store;

/// About how long a part is that the log is read in.
const PIECE: u64 = 16 << 20;

/// How a log and a branch went apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// Up to here they are the same.
    pub common: Link,
    /// Where the log ends.
    pub end: Position,
    /// Records behind `common` that the branch has, too: they were sent again.
    pub there: u64,
    /// Those that it has not.
    pub only_here: u64,
}

/// Calls `visit` with each record that the log which `cutter` reads has and the archive of `branch` has
/// not, in order. Its archive counts if all who signed it are among `keys`.
pub fn only_here(
    store: &dyn Store,
    env: &Env,
    cutter: &mut Cutter,
    branch: Timeline,
    keys: &[AgentId],
    visit: &mut dyn FnMut(&Entry) -> Result<(), RemoteError>,
) -> Result<Apart, RemoteError> {
    let (log_id, _) = cutter
        .identity()
        .ok_or_else(|| RemoteError::Refused("a log without a first record".into()))?;
    let Some(history) = History::load(store, log_id, branch)? else {
        return Err(RemoteError::Refused(format!(
            "{} holds nothing of branch {branch} yet: it does once something was written there",
            store.place()
        )));
    };
    history.check()?;
    believe(&store.place(), &history.signers(), keys)?;
    let (durable, _) = cutter.durable();
    // From the end, since the two went apart a moment ago.
    let mut common = None;
    for part in history.parts.iter().rev() {
        let end = part.entry.content.end;
        if end.position <= durable.position
            && cutter.seek(end.position).is_ok_and(|here| here == end)
        {
            common = Some(end);
            break;
        }
    }
    let common = common.ok_or_else(|| {
        RemoteError::Refused(format!(
            "the log here and branch {branch} at {} have no record in common",
            store.place()
        ))
    })?;
    let mut ids: HashSet<RecordId> = HashSet::new();
    for part in
        history.parts.iter().filter(|part| part.entry.content.start.position >= common.position)
    {
        let needed = Needed { name: part.name(), entry: part.entry.clone() };
        let bytes = fetch(store, env, &needed)?;
        read_part(&needed.name, &bytes, &mut |_, entries| {
            ids.extend(entries.iter().map(|entry| entry.new.id));
            Ok(())
        })?;
    }
    let mut apart = Apart { common, end: durable.position, there: 0, only_here: 0 };
    cutter.seek(common.position)?;
    while let Some(part) = cutter.next(PIECE)? {
        let mut entries = Vec::new();
        read_part("the log", &part.bytes, &mut |_, some| {
            entries.extend(some);
            Ok(())
        })?;
        for entry in &entries {
            if ids.contains(&entry.new.id) {
                apart.there += 1;
            } else {
                apart.only_here += 1;
                visit(entry)?;
            }
        }
    }
    Ok(apart)
}
