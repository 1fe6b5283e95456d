//! Removes backups, and what no other one needs, also beside a backup that is being made.
//!
//! Both sides say what they are about to do before they look what the other does. Pruning puts a list
//! of the objects that it will remove, and reads the maps of all backups after that. A backup puts its
//! map, and reads these lists after that. Whichever comes second sees the first: the object stays, or
//! the backup fails and leaves no map.

use std::collections::BTreeSet;

use stemedb_io::Env;
use stemedb_model::{AgentId, LogId, Timeline};

use crate::backup::{Backup, Backups, list_backups};
use crate::error::RemoteError;
use crate::names;
use crate::restore::patiently;
use crate::store::{Listed, Store, StoreError};
use crate::verified::remove_notes;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Objects that one list names.
const REMOVED_AT_ONCE: usize = 1_000;
/// No list is longer.
const LIST_BYTES_MAX: u64 = 1 << 20;
/// What is younger may belong to a backup that is being made.
pub(crate) const YOUNG_MS: i64 = DAY_MS;

/// Which backups of a branch stay. Each rule keeps the newest of each of its periods; what any rule keeps stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest, at least one.
    pub last: usize,
    /// One of each of so many days (UTC) that have one.
    pub daily: usize,
    /// One of each of so many weeks.
    pub weekly: usize,
}

/// What pruning will remove, or has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Backups that go.
    pub backups: Vec<String>,
    /// Objects that no backup needs then, and their bytes.
    pub objects: u64,
    /// See `objects`.
    pub bytes: u64,
}

/// Removes the backups that no rule keeps, and then the objects that none of those that are left
/// needs. Refuses while the manifest of any backup cannot be read: nobody knows what that one needs.
/// With `dry_run` only says what would go. Objects that were put within a day stay: a backup that is
/// being made may need them.
pub fn prune_backups(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
    keep: Keep,
    dry_run: bool,
) -> Result<Pruned, RemoteError> {
    prune(store, env, log_id, dry_run, |good| Ok(kept(good, keep)))
}

/// The same for all backups of one branch, the newest too, which no rule gives up: of a branch that
/// nobody writes any more. Refuses where no other branch has a backup.
pub fn prune_branch(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
    branch: Timeline,
    dry_run: bool,
) -> Result<Pruned, RemoteError> {
    prune(store, env, log_id, dry_run, |good| {
        let (go, stay): (Vec<_>, Vec<_>) = good.iter().partition(|(one, _)| one.timeline == branch);
        if go.is_empty() || stay.is_empty() {
            let problem = if go.is_empty() {
                "holds no backup of branch"
            } else {
                "would hold no backup any more without those of branch"
            };
            return Err(RemoteError::Refused(format!("{} {problem} {branch}", store.place())));
        }
        Ok(stay.into_iter().map(|(one, _)| one.id.clone()).collect())
    })
}

/// Removes all backups but those that `kept` chooses, by their ids.
fn prune(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
    dry_run: bool,
    kept: impl FnOnce(&[(Backup, AgentId)]) -> Result<BTreeSet<String>, RemoteError>,
) -> Result<Pruned, RemoteError> {
    let good = readable(store, env, log_id)?;
    let kept = kept(&good)?;
    let (stay, go): (Vec<_>, Vec<_>) =
        good.into_iter().partition(|(one, _)| kept.contains(&one.id));
    let needed = needed(&stay);
    let list =
        |folder: String| patiently(env, || store.list(&folder, "").map_err(RemoteError::from));
    let (objects, maps) = (list(names::files(log_id))?, list(names::backups(log_id))?);
    let stale = list(names::prunings(log_id))?;
    // By the clock of the store, as far as that can be known: ours may be ahead.
    let newest = objects.iter().chain(&maps).chain(&stale).map(|one| one.modified_ms).max();
    let now = env.clock.now_ms().min(newest.unwrap_or(i64::MIN));
    let old = |one: &Listed| now.saturating_sub(one.modified_ms) >= YOUNG_MS;
    let unneeded: Vec<Listed> =
        objects.into_iter().filter(|one| !needed.contains(&one.name) && old(one)).collect();
    let mut pruned = Pruned {
        backups: go.iter().map(|(one, _)| one.id.clone()).collect(),
        objects: unneeded.len() as u64,
        bytes: unneeded.iter().map(|one| one.bytes).sum(),
    };
    if dry_run {
        return Ok(pruned);
    }
    let remove = |name: &str| patiently(env, || store.remove(name).map_err(RemoteError::from));
    // What pruning that broke off has left.
    for one in stale.iter().filter(|one| old(one)) {
        remove(&one.name)?;
    }
    // Manifests first: no backup is left that lacks something.
    for id in &pruned.backups {
        remove(&names::backup(log_id, id))?;
    }
    remove_notes(store, env, log_id, &pruned.backups)?;
    for some in unneeded.chunks(REMOVED_AT_ONCE) {
        let notice = announce(store, env, log_id, some)?;
        let spared = remove_announced(store, env, log_id, some);
        // Nothing more of it is removed, whatever went wrong.
        remove(&notice)?;
        for one in spared? {
            pruned.objects -= 1;
            pruned.bytes -= one.bytes;
        }
    }
    Ok(pruned)
}

/// Removes what was announced, but for what a backup needs that was made meanwhile; gives this.
fn remove_announced<'a>(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
    some: &'a [Listed],
) -> Result<Vec<&'a Listed>, RemoteError> {
    let announced_at = env.clock.now_ms();
    let needed = needed(&readable(store, env, log_id)?);
    let (spared, go): (Vec<_>, Vec<_>) = some.iter().partition(|one| needed.contains(&one.name));
    for one in go {
        // After a day the list is taken for one that was left behind.
        if env.clock.now_ms().abs_diff(announced_at) > HOUR_MS.unsigned_abs() {
            return Err(RemoteError::Refused(
                "the clock went on by more than an hour while objects were removed; prune again"
                    .into(),
            ));
        }
        patiently(env, || store.remove(&one.name).map_err(RemoteError::from))?;
    }
    Ok(spared)
}

/// Says which objects will be removed; gives the name of the list.
fn announce(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
    some: &[Listed],
) -> Result<String, RemoteError> {
    let name = names::pruning(log_id, env.clock.now_ms(), env.rng.next_u64());
    let text: String = some.iter().map(|one| format!("{}\n", one.name)).collect();
    patiently(env, || store.put_new(&name, text.as_bytes()).map_err(RemoteError::from))?;
    let found = patiently(env, || store.get(&name, LIST_BYTES_MAX).map_err(RemoteError::from))?;
    if found == text.as_bytes() {
        return Ok(name);
    }
    let problem = "what is read back is not what was put; prune again".to_owned();
    Err(RemoteError::Damaged { name, problem })
}

/// The objects that pruning may be about to remove.
pub(crate) fn announced(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
) -> Result<BTreeSet<String>, RemoteError> {
    let folder = names::prunings(log_id);
    let lists = patiently(env, || store.list(&folder, "").map_err(RemoteError::from))?;
    let mut announced = BTreeSet::new();
    for list in lists {
        let bytes =
            patiently(env, || store.get(&list.name, LIST_BYTES_MAX).map_err(RemoteError::from));
        let bytes = match bytes {
            // What it named is removed.
            Err(RemoteError::Store(StoreError::Missing { .. })) => continue,
            bytes => bytes?,
        };
        announced.extend(String::from_utf8_lossy(&bytes).lines().map(str::to_owned));
    }
    Ok(announced)
}

/// All backups, if the map of each can be read.
fn readable(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
) -> Result<Vec<(Backup, AgentId)>, RemoteError> {
    let Backups { good, bad } = list_backups(store, env, log_id)?;
    match bad.first() {
        None => Ok(good),
        Some((name, problem)) => Err(RemoteError::Refused(format!(
            "{name}: {problem}; nothing is removed, since nobody knows what it needs: give that one up \
             by its name to go on without it (stemedb backup give-up)"
        ))),
    }
}

fn needed(backups: &[(Backup, AgentId)]) -> BTreeSet<String> {
    backups.iter().flat_map(|(one, _)| one.objects()).map(|object| object.name).collect()
}

/// Removes the map of a backup that cannot be read, or that none of `believed` has signed, by its id or
/// whole name; gives the whole one. What it named goes with the next pruning. Refuses any other.
/// With `dry_run` only looks.
pub fn give_up_backup(
    store: &dyn Store,
    env: &Env,
    log_id: LogId,
    name: &str,
    believed: &[AgentId],
    dry_run: bool,
) -> Result<String, RemoteError> {
    let Backups { good, bad } = list_backups(store, env, log_id)?;
    let of_others = good.iter().filter(|(_, signer)| !believed.contains(signer));
    let of_others = of_others.map(|(one, _)| names::backup(log_id, &one.id));
    let mut all = bad.into_iter().map(|(bad, _)| bad).chain(of_others);
    let found = all.find(|found| found == name || *found == names::backup(log_id, name));
    let Some(found) = found else {
        return Err(RemoteError::Refused(format!(
            "{name} is not the name of a backup that cannot be read or is not believed; others go by \
             pruning"
        )));
    };
    if !dry_run {
        patiently(env, || store.remove(&found).map_err(RemoteError::from))?;
    }
    Ok(found)
}

/// The backups that some rule keeps. Each rule counts the branches apart, and the newest of each is
/// always kept: what is backed up of a copy takes no place of the log that it comes from.
fn kept(backups: &[(Backup, AgentId)], keep: Keep) -> BTreeSet<String> {
    let branches: BTreeSet<Timeline> = backups.iter().map(|(one, _)| one.timeline).collect();
    branches.into_iter().flat_map(|branch| kept_of(backups, branch, keep)).collect()
}

fn kept_of(backups: &[(Backup, AgentId)], branch: Timeline, keep: Keep) -> BTreeSet<String> {
    let newest = || {
        let newest = backups.iter().rev().map(|(one, _)| one);
        newest.filter(|one| one.timeline == branch)
    };
    let mut kept: BTreeSet<String> =
        newest().take(keep.last.max(1)).map(|one| one.id.clone()).collect();
    // The epoch began on a Thursday; weeks begin on Mondays.
    for (count, period, shift) in [(keep.daily, DAY_MS, 0), (keep.weekly, 7 * DAY_MS, 3 * DAY_MS)] {
        let mut seen = BTreeSet::new();
        for one in newest() {
            let number = one.made_at.0.saturating_add(shift).div_euclid(period);
            if seen.len() < count && seen.insert(number) {
                kept.insert(one.id.clone());
            }
        }
    }
    kept
}
