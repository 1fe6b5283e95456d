//! What of a log is in the archive, what is on its way, and what was there and is no more.

use std::collections::{BTreeMap, BTreeSet};

use stemedb_io::Env;
use stemedb_model::{AgentId, LogId, Millis, Position, Timeline};

use crate::catalogue::{History, Placed, Problem};
use crate::encrypt::KeyId;
use crate::error::RemoteError;
use crate::manifest::PartEntry;
use crate::names;
use crate::parallel;
use crate::restore::{Needed, fetch, patiently};
use crate::store::{Store, StoreError};

/// Parts that are checked at once: their bytes are in memory.
const CHECKERS: usize = 4;

/// An archive, compared with what its store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveStatus {
    /// The database.
    pub log_id: LogId,
    /// The branch.
    pub timeline: Timeline,
    /// Everything up to here was archived.
    pub archived: Position,
    /// When the record there was committed.
    pub archived_time: Millis,
    /// When the newest manifest was made.
    pub made_at: Millis,
    /// Parts that are there, and their bytes.
    pub present: (u64, u64),
    /// Parts that were archived and are not there, or not in their length.
    pub lost: Vec<PartEntry>,
    /// Objects that no manifest names yet: uploads under way, or that were broken off.
    pub uploading: Vec<String>,
    /// What manifests do not tell.
    pub problems: Vec<Problem>,
    /// Who signed the manifests.
    pub signers: BTreeSet<AgentId>,
    /// How many of the parts are encrypted with which key; `None` stands for those in the clear.
    pub keys: BTreeMap<Option<KeyId>, u64>,
}

impl ArchiveStatus {
    /// Whether everything up to `archived` is there.
    pub fn whole(&self) -> bool {
        self.lost.is_empty() && self.problems.is_empty()
    }
}

/// Looks at the archive of a branch and at those that it goes on from; `None` if there is none.
/// Costs a listing of all parts; reads manifests and no part.
pub fn archive_status(
    store: &dyn Store,
    log_id: LogId,
    timeline: Timeline,
) -> Result<Option<ArchiveStatus>, RemoteError> {
    let Some(history) = History::load(store, log_id, timeline)? else { return Ok(None) };
    let Some(newest) = history.newest() else { return Ok(None) };
    let mut status = ArchiveStatus {
        log_id,
        timeline,
        archived: newest.end.0.position,
        archived_time: newest.end.1,
        made_at: newest.made_at,
        present: (0, 0),
        lost: Vec::new(),
        uploading: Vec::new(),
        problems: Vec::new(),
        signers: history.signers(),
        keys: BTreeMap::new(),
    };
    for part in &history.parts {
        *status.keys.entry(part.entry.key_id).or_default() += 1;
    }
    let there = listed(store, &history)?;
    let missing = missing_parts(&history, &there);
    for part in history.parts.iter().filter(|part| !missing.contains(part)) {
        status.present.0 += 1;
        status.present.1 += part.entry.bytes;
    }
    status.lost = missing.into_iter().map(|part| part.entry.clone()).collect();
    let branches = history.branches.iter();
    let named: BTreeSet<String> = branches
        .flat_map(|branch| branch.parts.iter().map(|part| part.name(branch.timeline)))
        .collect();
    status.uploading = there.into_keys().filter(|name| !named.contains(name)).collect();
    status.problems = history.problems();
    let found = match history.check() {
        Ok(()) => None,
        Err(RemoteError::Gap { first, last }) => Some(Problem::Gap { first, last }),
        Err(error) => Some(Problem::Parts { problem: error.to_string() }),
    };
    status.problems.extend(found.filter(|found| !status.problems.contains(found)));
    Ok(Some(status))
}

/// Reads every part that a restore of this branch needs, and compares it with its manifest: each byte
/// is covered by a hash. Gives what is wrong, an object and a sentence each. Tells `progress` bytes
/// that were read. What manifests lack, [`archive_status`] tells. `None` if there is no archive.
pub fn verify_archive(
    store: &dyn Store,
    env: &Env,
    (log_id, timeline): (LogId, Timeline),
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Vec<(String, String)>>, RemoteError> {
    let history = patiently(env, || History::load(store, log_id, timeline))?;
    let Some(history) = history else { return Ok(None) };
    let (mut problems, mut done) = (Vec::new(), 0);
    for some in history.parts.chunks(CHECKERS) {
        let found = parallel::each(some, CHECKERS, |placed| {
            let problem = check_part(store, env, placed)?;
            Ok::<_, RemoteError>(problem.map(|problem| (placed.name(), problem)))
        })?;
        problems.extend(found.into_iter().flatten());
        done += some.iter().map(|placed| placed.entry.bytes).sum::<u64>();
        progress(done);
    }
    Ok(Some(problems))
}

/// Reads a part and compares it with its manifest; says what is wrong with it.
pub(crate) fn check_part(
    store: &dyn Store,
    env: &Env,
    placed: &Placed,
) -> Result<Option<String>, RemoteError> {
    let needed = Needed { name: placed.name(), entry: placed.entry.clone() };
    match fetch(store, env, &needed) {
        Ok(_) => Ok(None),
        Err(RemoteError::Damaged { problem, .. }) => Ok(Some(problem)),
        Err(RemoteError::Store(StoreError::Missing { .. })) => {
            Ok(Some("it is not there".to_owned()))
        }
        // It has the hash of its manifest, and is no part.
        Err(RemoteError::Log(error)) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// The parts that manifests name and that are not there, or not in their length.
pub(crate) fn missing_parts<'a>(
    history: &'a History,
    there: &BTreeMap<String, u64>,
) -> Vec<&'a Placed> {
    let missing = |part: &&Placed| there.get(&part.name()) != Some(&part.entry.bytes);
    history.parts.iter().filter(missing).collect()
}

/// The objects in the place of parts, of all branches.
pub(crate) fn listed(
    store: &dyn Store,
    history: &History,
) -> Result<BTreeMap<String, u64>, RemoteError> {
    let mut there = BTreeMap::new();
    for branch in &history.branches {
        let listed = store.list(&names::parts(branch.log_id, branch.timeline), "")?;
        there.extend(listed.into_iter().map(|one| (one.name, one.bytes)));
    }
    Ok(there)
}
