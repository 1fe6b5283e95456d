//! How much the holder of an API key may write in a day (UTC), and how much that was so far, in
//! `<data_dir>/node/quotas.json`.
//!
//! Counted in memory and written now and then: a crash forgets what was counted since, at most a
//! minute. A bound on costs, not a right: what cannot be read begins at nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stemedb_io::Env;

use super::caller::Caller;
use super::sealed::{self, Unreadable};
use crate::error::{ApiError, ApiResult};
use crate::wire::{ErrorCode, Usage};

const FORMAT: u64 = 1;
const DAY_MS: i64 = 24 * 3_600_000;

/// What was written on one day, by id of the key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Day {
    format: u64,
    /// Days since 1970-01-01.
    day: i64,
    keys: BTreeMap<String, Usage>,
}

#[derive(Default)]
struct State {
    day: Day,
    unwritten: bool,
}

/// What the holders of keys with a quota have written today.
pub(crate) struct Quotas {
    env: Env,
    file: PathBuf,
    state: Mutex<State>,
}

/// The file of what was used.
pub(crate) fn quotas_file(data_dir: &Path) -> PathBuf {
    data_dir.join("node").join("quotas.json")
}

impl Quotas {
    /// Reads what was written of today.
    pub(crate) fn open(env: &Env, data_dir: &Path) -> Self {
        let file = quotas_file(data_dir);
        let problem = |problem: &dyn std::fmt::Display| {
            let file = file.display();
            tracing::warn!(%file, %problem, "quotas of today are counted from nothing");
        };
        let day = match sealed::read::<Day>(&*env.vfs, &file) {
            Ok(Some(day)) if day.format == FORMAT => day,
            Ok(Some(day)) => {
                problem(&format_args!("format {}, expected {FORMAT}", day.format));
                Day::default()
            }
            Ok(None) => Day::default(),
            Err(Unreadable::Io(error)) => {
                problem(&error);
                Day::default()
            }
            Err(Unreadable::Damaged(what)) => {
                problem(&what);
                Day::default()
            }
        };
        let state = Mutex::new(State { day, unwritten: false });
        Self { env: env.clone(), file, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of today. A clock that was set back does not give the day anew.
    fn today(&self) -> (MutexGuard<'_, State>, Duration) {
        let now = self.env.clock.now_ms();
        let mut state = self.state();
        if now.div_euclid(DAY_MS) > state.day.day {
            state.day = Day { format: FORMAT, day: now.div_euclid(DAY_MS), keys: BTreeMap::new() };
        }
        let midnight = (state.day.day + 1).saturating_mul(DAY_MS);
        let left = u64::try_from(midnight.saturating_sub(now)).unwrap_or_default();
        (state, Duration::from_millis(left))
    }

    /// What the holder of a key has written today.
    pub(crate) fn used(&self, key: &str) -> Usage {
        self.today().0.day.keys.get(key).copied().unwrap_or_default()
    }

    /// Sets aside a record of so many bytes, if the caller's quota has room for it.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        caller: &Caller,
        bytes: usize,
    ) -> ApiResult<Option<Reserved>> {
        let (Some(key), Some(quota)) = (&caller.key, caller.quota) else { return Ok(None) };
        let bytes = bytes as u64;
        let (mut state, left) = self.today();
        let used = state.day.keys.entry(key.clone()).or_default();
        let after = Usage { records: used.records + 1, bytes: used.bytes.saturating_add(bytes) };
        let over = |bound: Option<u64>, after: u64| bound.filter(|bound| after > *bound);
        let broken = over(quota.records_per_day, after.records)
            .map(|bound| format!("{bound} records a day, and {} are written", used.records))
            .or_else(|| {
                let bound = over(quota.bytes_per_day, after.bytes)?;
                Some(format!(
                    "{bound} bytes of records a day, {} are written and this one has {bytes}",
                    used.bytes
                ))
            });
        if let Some(broken) = broken {
            let minutes = left.as_secs().div_ceil(60);
            let detail = format!(
                "the quota of the API key {key} is {broken}; the next day (UTC) begins in {minutes} \
                 minutes"
            );
            let mut error = ApiError::new(ErrorCode::QuotaExceeded, detail);
            error.retry_after = Some(left);
            return Err(error.outcome("not_written"));
        }
        *used = after;
        state.unwritten = true;
        let (day, key) = (state.day.day, key.clone());
        drop(state);
        Ok(Some(Reserved { quotas: Arc::clone(self), day, key, bytes }))
    }

    /// Writes what was used, if that is not written yet.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let day = {
            let mut state = self.state();
            if !state.unwritten {
                return Ok(());
            }
            state.unwritten = false;
            state.day.clone()
        };
        let written = sealed::write(&*self.env.vfs, &self.file, &day);
        if written.is_err() {
            self.state().unwritten = true;
        }
        written
    }
}

/// Part of a quota, set aside for one record; gone for today unless it is given back.
#[must_use]
pub(crate) struct Reserved {
    quotas: Arc<Quotas>,
    day: i64,
    key: String,
    bytes: u64,
}

impl Reserved {
    /// Nothing was written.
    pub(crate) fn give_back(self) {
        let mut state = self.quotas.state();
        if state.day.day == self.day
            && let Some(used) = state.day.keys.get_mut(&self.key)
        {
            used.records = used.records.saturating_sub(1);
            used.bytes = used.bytes.saturating_sub(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use stemedb_io::sim::world;
    use stemedb_model::{Hash, Millis};

    use super::super::store::KeyStore;
    use super::*;
    use crate::wire::{KeyRole, NewKey, Quota};

    const NOON: i64 = 20_000 * DAY_MS + DAY_MS / 2;

    fn caller(env: &Env, quota: Quota) -> Caller {
        let (store, _) = KeyStore::open(env, Path::new("/data")).unwrap();
        let new = NewKey {
            name: "ingest".into(),
            role: KeyRole::Writer,
            principal: None,
            spaces: None,
            agent: None,
            expires_at: None,
            quota: Some(quota),
        };
        let (token, _) = store.create(&new).unwrap();
        Caller::holder(&store.authenticate(&token).unwrap(), Hash([0; 32]))
    }

    fn bound(records: u64) -> Quota {
        Quota { records_per_day: Some(records), bytes_per_day: None }
    }

    #[test]
    fn what_is_given_back_can_be_had_again_and_a_new_day_is_new() {
        let (_, _, env) = world(9, NOON);
        let quotas = Arc::new(Quotas::open(&env, Path::new("/data")));
        let caller = caller(&env, Quota { records_per_day: Some(3), bytes_per_day: Some(1_000) });
        let key = caller.key.clone().unwrap();
        let take = |bytes| quotas.reserve(&caller, bytes);
        let first = take(400).unwrap().unwrap();
        let _second = take(400).unwrap().unwrap();
        let refused = take(201).err().unwrap();
        assert_eq!(refused.problem.code, ErrorCode::QuotaExceeded);
        assert_eq!(refused.problem.outcome.as_deref(), Some("not_written"));
        assert!(refused.problem.detail.contains("1000 bytes"), "{}", refused.problem.detail);
        let _third = take(200).unwrap().unwrap();
        let refused = take(0).err().unwrap();
        assert!(refused.problem.detail.contains("3 records"), "{}", refused.problem.detail);
        assert!(refused.retry_after.unwrap() <= Duration::from_secs(12 * 3_600));
        first.give_back();
        assert_eq!(quotas.used(&key), Usage { records: 2, bytes: 600 });
        assert!(take(400).is_ok());
        env.clock.sleep(Duration::from_secs(12 * 3_600));
        assert_eq!(quotas.used(&key), Usage::default());
        assert!(take(1_000).is_ok());
    }

    #[test]
    fn what_is_written_down_outlives_a_restart_and_a_damaged_file_is_nothing() {
        let (vfs, _, env) = world(9, NOON);
        let data = Path::new("/data");
        let caller = caller(&env, bound(2));
        let quotas = Arc::new(Quotas::open(&env, data));
        assert!(quotas.reserve(&caller, 10).is_ok());
        quotas.flush().unwrap();
        assert!(quotas.reserve(&caller, 10).is_ok());
        // Not flushed: forgotten.
        let again = Arc::new(Quotas::open(&env, data));
        assert!(again.reserve(&caller, 10).is_ok());
        assert!(again.reserve(&caller, 10).is_err());
        again.flush().unwrap();
        let file = quotas_file(data);
        let mut bytes = vfs.medium(&file).unwrap();
        bytes[9] ^= 1;
        vfs.put(&file, bytes).unwrap();
        assert!(Arc::new(Quotas::open(&env, data)).reserve(&caller, 10).is_ok());
    }

    #[test]
    fn of_many_at_once_as_many_pass_as_the_quota_has_room_for() {
        let (_, _, env) = world(9, NOON);
        let quotas = Arc::new(Quotas::open(&env, Path::new("/data")));
        let caller = caller(&env, bound(1_000));
        let passed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        if quotas.reserve(&caller, 1).is_ok() {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 1_000);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_second_day() {
        let (_, _, env) = world(9, NOON);
        let data = Path::new("/data");
        let caller = caller(&env, bound(1));
        let quotas = Arc::new(Quotas::open(&env, data));
        assert!(quotas.reserve(&caller, 1).is_ok());
        quotas.flush().unwrap();
        let (_, _, early) = world(9, Millis(NOON - 3 * DAY_MS).0);
        let back = Arc::new(Quotas::open(&Env { vfs: env.vfs, ..early }, data));
        assert!(back.reserve(&caller, 1).is_err());
    }
}
