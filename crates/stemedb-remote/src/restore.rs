//! From an archive or a backup to a log that a node opens: which parts are needed, what will come of
//! them, and then the log itself.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use stemedb_io::Env;
use stemedb_log::{Composer, Link, end_within, read_part, verify};
use stemedb_model::{AgentId, LogId, Millis, Position, Timeline};

use crate::catalogue::{Catalogue, History, Placed, Problem};
use crate::codec::hash;
use crate::encrypt::Context;
use crate::error::RemoteError;
use crate::manifest::PartEntry;
use crate::parallel;
use crate::store::{Store, StoreError};

/// Parts that are fetched at once: their bytes are in memory.
const FETCHERS: usize = 4;
/// How often a request is made before its failure ends a restore.
const ATTEMPTS: u32 = 6;
/// The wait after the first failure; each further one is twice as long.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// How far a log is to be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Everything there is.
    Newest,
    /// Up to this position, which is in it.
    Position(Position),
    /// Up to the position before this one: without a record that should not be there.
    Before(Position),
    /// Everything that was recorded at or before this time.
    Time(Millis),
}

/// A part that a restore needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The object.
    pub name: String,
    /// What its manifest says.
    pub entry: PartEntry,
}

/// What a restore will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// The database.
    pub log_id: LogId,
    /// The branch that is restored from.
    pub timeline: Timeline,
    /// The log root that will come of it: the last position, its group and chain hash.
    pub end: Link,
    /// When the last record was committed.
    pub recorded_at: Millis,
    /// The end is inside of what was one group: the root is that of the shorter one, which no log
    /// has had.
    pub cut_group: bool,
    /// The newest position that could be had.
    pub newest: Position,
    /// In order.
    pub parts: Vec<Needed>,
    /// What is wrong with the archive, of which this plan may be able to do without.
    pub problems: Vec<Problem>,
    /// Who signed the manifests of the archive: see [`believe`](crate::believe). Of a backup the list
    /// of backups tells it.
    pub signers: BTreeSet<AgentId>,
}

impl RestorePlan {
    /// Bytes to fetch.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.entry.bytes).sum()
    }

    /// From the archive of a branch and of those it goes on from. Reads manifests, and one part if
    /// the target lies within it.
    ///
    /// Where the newest manifests cannot be read, nobody knows how far the archive went: its readable
    /// end is had by its position only, not as the newest one or that of a time.
    pub fn of_archive(
        store: &dyn Store,
        env: &Env,
        (log_id, timeline): (LogId, Timeline),
        target: Target,
    ) -> Result<Self, RemoteError> {
        let history = patiently(env, || History::load(store, log_id, timeline))?;
        let Some(history) = history else {
            return Err(RemoteError::Refused(format!(
                "{} holds no archive of log {log_id} on branch {timeline}",
                store.place()
            )));
        };
        let needed = |placed: &Placed| Needed { name: placed.name(), entry: placed.entry.clone() };
        let parts = history.parts.iter().map(needed).collect();
        let mut plan = Self::of_parts(store, env, (log_id, timeline), parts, target)?;
        let by_position = matches!(target, Target::Position(_) | Target::Before(_));
        if let Some(problem) = history.newest().and_then(Catalogue::beyond)
            && !by_position
            && plan.end.position == plan.newest
        {
            return Err(RemoteError::Refused(format!(
                "the archive can be read up to position {}, and was longer: {problem}; ask for this \
                 position to go without what was behind it",
                plan.newest
            )));
        }
        plan.problems = history.problems();
        plan.signers = history.signers();
        Ok(plan)
    }

    /// The same of these parts, which are in order.
    pub fn of_parts(
        store: &dyn Store,
        env: &Env,
        (log_id, timeline): (LogId, Timeline),
        mut parts: Vec<Needed>,
        target: Target,
    ) -> Result<Self, RemoteError> {
        let newest = parts.last().map(|part| part.entry.content.last()).unwrap_or_default();
        let upto = match target {
            Target::Newest => newest,
            Target::Position(position) => position,
            Target::Before(position) => Position(position.0.saturating_sub(1)),
            Target::Time(time) => position_at(store, env, &parts, time)?,
        };
        if upto == Position::NONE || upto > newest {
            return Err(RemoteError::Refused(format!(
                "position {upto} cannot be restored: positions 1 to {newest} can"
            )));
        }
        parts.retain(|part| part.entry.content.first() <= upto);
        check(&parts)?;
        store.keys().need(parts.iter().map(|part| (part.name.as_str(), part.entry.key_id)))?;
        let Some(last) = parts.last() else {
            return Err(RemoteError::Gap { first: Position(1), last: upto });
        };
        let content = &last.entry.content;
        let (end, recorded_at, cut_group) = if content.last() == upto {
            (content.end, content.ended_at, false)
        } else if content.last() < upto {
            return Err(RemoteError::Gap { first: content.last().next(), last: upto });
        } else {
            let bytes = fetch(store, env, last)?;
            match end_within(&last.name, &bytes, upto)? {
                Some(end) => (end.link, end.recorded_at, end.cut_group),
                None => {
                    return Err(RemoteError::Refused(format!(
                        "position {upto} was lost to damage and given up by a repair: restore up to \
                         {} or to a later one",
                        content.start.position
                    )));
                }
            }
        };
        Ok(Self {
            log_id,
            timeline,
            end,
            recorded_at,
            cut_group,
            newest,
            parts,
            problems: Vec::new(),
            signers: BTreeSet::new(),
        })
    }
}

/// The last position that was recorded at or before `time`.
fn position_at(
    store: &dyn Store,
    env: &Env,
    parts: &[Needed],
    time: Millis,
) -> Result<Position, RemoteError> {
    let within = parts.iter().rev().find(|part| part.entry.content.began_at <= time);
    let Some(part) = within else {
        let first = parts.first().map_or(Millis(0), |part| part.entry.content.began_at);
        return Err(RemoteError::Refused(format!(
            "nothing was recorded at or before {} ms: the first record is of {} ms",
            time.0, first.0
        )));
    };
    let content = &part.entry.content;
    if content.ended_at <= time {
        return Ok(content.last());
    }
    let bytes = fetch(store, env, part)?;
    let mut last = content.start.position;
    read_part(&part.name, &bytes, &mut |group, _| {
        if group.recorded_at <= time {
            last = group.last;
        }
        Ok(())
    })?;
    Ok(last)
}

/// Each part begins where the one before it ends.
fn check(parts: &[Needed]) -> Result<(), RemoteError> {
    let mut at: Option<Link> = None;
    for part in parts {
        let start = part.entry.content.start;
        let here = at.map_or(Position::NONE, |link| link.position);
        if start.position > here {
            return Err(RemoteError::Gap { first: here.next(), last: start.position });
        }
        if at.is_some_and(|link| link != start) {
            return Err(RemoteError::Damaged {
                name: part.name.clone(),
                problem: "it goes on from another history than the part before it".into(),
            });
        }
        at = Some(part.entry.content.end);
    }
    Ok(())
}

/// The bytes of a part, in the clear, which are what its manifest says.
pub(crate) fn fetch(store: &dyn Store, env: &Env, part: &Needed) -> Result<Vec<u8>, RemoteError> {
    let (name, entry) = (&part.name, &part.entry);
    let bytes = fetch_hashed(store, env, name, entry.bytes, entry.hash)?;
    let bytes = store.keys().open(name, entry.key_id, &Context::part(&entry.content), bytes)?;
    let content = read_part(name, &bytes, &mut |_, _| Ok(()))?;
    if content == entry.content {
        return Ok(bytes);
    }
    Err(RemoteError::Damaged {
        name: name.clone(),
        problem: "its manifest says that something else is in it".into(),
    })
}

/// The bytes of an object, of this length and hash.
pub(crate) fn fetch_hashed(
    store: &dyn Store,
    env: &Env,
    name: &str,
    length: u64,
    expected: stemedb_model::Hash,
) -> Result<Vec<u8>, RemoteError> {
    let damaged = |problem: String| RemoteError::Damaged { name: name.into(), problem };
    let bytes = match patiently(env, || store.get(name, length).map_err(RemoteError::from)) {
        Err(RemoteError::Store(StoreError::TooLong { found, .. })) => {
            return Err(damaged(format!("{found} bytes, not {length}")));
        }
        got => got?,
    };
    if bytes.len() as u64 != length {
        return Err(damaged(format!("{} bytes, not {length}", bytes.len())));
    }
    match hash(&bytes) {
        found if found == expected => Ok(bytes),
        found => Err(damaged(format!("its hash is {found}, not {expected}"))),
    }
}

/// Tries again what a store may do later.
pub(crate) fn patiently<T>(
    env: &Env,
    mut attempt: impl FnMut() -> Result<T, RemoteError>,
) -> Result<T, RemoteError> {
    let mut wait = RETRY_FIRST;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(RemoteError::Store(error @ StoreError::Unavailable { .. })) => {
                tracing::warn!(%error, retry_in_ms = wait.as_millis(), "trying again");
                env.clock.sleep(wait);
                wait *= 2;
            }
            result => return result,
        }
    }
    attempt()
}

/// Where the restored log goes.
#[derive(Debug, Clone, Copy)]
pub struct RestoreTo<'a> {
    /// The folder of the log: empty, not there, or what a restore of the same target has left.
    pub dir: &'a Path,
    /// The branch on which the log goes on.
    pub timeline: Timeline,
    /// Length of the segment in which it goes on.
    pub segment_bytes: u64,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Where the log ends: as planned.
    pub end: Link,
    /// When the last record was committed.
    pub recorded_at: Millis,
    /// The branch on which the log goes on: that of an earlier call, if that one had come so far.
    pub timeline: Timeline,
    /// The end is inside of what was one group: as planned.
    pub cut_group: bool,
    /// How many segments were put together.
    pub segments: u64,
    /// How many records.
    pub records: u64,
}

/// Puts the log together in a folder, reads it back and proves it. Tells `progress` how many of
/// the plan's bytes are done, ascending. What it has begun it goes on with when it is called again.
pub fn restore(
    store: &dyn Store,
    env: &Env,
    plan: &RestorePlan,
    to: RestoreTo<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Restored, RemoteError> {
    let mut composer = Composer::new(env, to.dir, plan.end.position)?;
    let begun = composer.end().map(|end| end.position).unwrap_or_default();
    let (there, left): (Vec<&Needed>, Vec<&Needed>) = plan
        .parts
        .iter()
        .partition(|part| begun == plan.end.position || part.entry.content.last() <= begun);
    let mut done: u64 = there.iter().map(|part| part.entry.bytes).sum();
    progress(done);
    for some in left.chunks(FETCHERS) {
        let fetched = parallel::each(some, FETCHERS, |part| fetch(store, env, part))?;
        for (part, bytes) in some.iter().zip(fetched) {
            composer.add(&part.name, &bytes)?;
            done += part.entry.bytes;
            progress(done);
        }
    }
    let composed = composer.finish(to.timeline, to.segment_bytes)?;
    if composed.end != plan.end {
        return Err(RemoteError::Damaged {
            name: to.dir.display().to_string(),
            problem: format!(
                "the log root at position {} is {}, expected {} at {}",
                composed.end.position, composed.end.chain, plan.end.chain, plan.end.position
            ),
        });
    }
    let report = verify(to.dir, &*env.vfs)?;
    if let Some(finding) = report.findings.iter().find(|_| !report.whole()) {
        return Err(RemoteError::Damaged {
            name: finding.file.clone(),
            problem: format!("read back: {}", finding.problem),
        });
    }
    Ok(Restored {
        end: composed.end,
        recorded_at: composed.recorded_at,
        timeline: composed.timeline,
        // Also where an earlier call has cut it.
        cut_group: plan.cut_group,
        segments: composed.segments,
        records: report.segments.iter().map(|segment| segment.records).sum(),
    })
}
