//! What an archive holds: all manifests of a branch read together, and branches joined.

use std::collections::{BTreeMap, BTreeSet};

use stemedb_log::Link;
use stemedb_model::{AgentId, Hash, LogId, Millis, Position, Timeline};

use crate::error::RemoteError;
use crate::manifest::{CHECKPOINT_EVERY, MANIFEST_BYTES_MAX, Manifest, Parent, PartEntry};
use crate::names;
use crate::parallel;
use crate::store::{Store, StoreError};

/// Manifests that are read at once.
const READERS: usize = 16;

/// The archive of one branch, as its manifests tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// The database.
    pub log_id: LogId,
    /// The branch.
    pub timeline: Timeline,
    /// What lies before its first part in the archive of another branch.
    pub parent: Option<Parent>,
    /// The parts that count, by position.
    pub parts: Vec<PartEntry>,
    /// Number and hash of the newest manifest.
    pub newest: (u64, Hash),
    /// The highest number that is taken, by a manifest or by something that is none.
    pub taken: u64,
    /// Everything up to here was archived, and when the last record was committed.
    pub end: (Link, Millis),
    /// When the newest manifest was made.
    pub made_at: Millis,
    /// Who signed.
    pub keys: BTreeSet<AgentId>,
    /// Manifests that are not there or not what was written, and what is missing for that.
    pub problems: Vec<Problem>,
    /// Numbers whose manifest is not there or cannot be believed.
    pub(crate) unreadable: BTreeSet<u64>,
    /// Parts and void numbers since the last checkpoint: what the next one has to name.
    pub(crate) since_checkpoint: (Vec<PartEntry>, Vec<u64>),
}

/// Something that an archive should have and has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A manifest is not there.
    ManifestMissing {
        /// Its number.
        number: u64,
    },
    /// An object in the place of a manifest is none, and no later one says so.
    ManifestDamaged {
        /// Its number.
        number: u64,
        /// Why it is not believed.
        problem: String,
    },
    /// No manifest names a part with these positions.
    Gap {
        /// The first of them.
        first: Position,
        /// The last of them.
        last: Position,
    },
    /// Parts do not go on from each other.
    Parts {
        /// Which, and how.
        problem: String,
    },
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ManifestMissing { number } => write!(f, "manifest {number} is not there"),
            Self::ManifestDamaged { number, problem } => {
                write!(f, "manifest {number} is not what was written: {problem}")
            }
            Self::Parts { problem } => f.write_str(problem),
            Self::Gap { first, last } => write!(f, "no part holds positions {first} to {last}"),
        }
    }
}

/// A manifest, or why there is none of a number.
pub(crate) type Found = Result<(Manifest, AgentId, Hash), Problem>;

/// The numbers that manifests call void. What one says counts only if no later one voids it: it may
/// have been misread when the later one was written, and its parts are named there again.
fn void(found: &BTreeMap<u64, Found>) -> BTreeSet<u64> {
    let mut void = BTreeSet::new();
    for (number, one) in found.iter().rev() {
        if let Ok((manifest, ..)) = one
            && !void.contains(number)
        {
            void.extend(manifest.void.iter().filter(|void| *void < number));
        }
    }
    void
}

impl Catalogue {
    /// Reads the archive of a branch; `None` if there is none.
    pub fn load(
        store: &dyn Store,
        log_id: LogId,
        timeline: Timeline,
    ) -> Result<Option<Self>, RemoteError> {
        Self::load_after(store, log_id, timeline, 0)
    }

    /// The same from the checkpoint at or before manifest `known` on: the newest parts only.
    pub(crate) fn load_after(
        store: &dyn Store,
        log_id: LogId,
        timeline: Timeline,
        known: u64,
    ) -> Result<Option<Self>, RemoteError> {
        let from = known - known % CHECKPOINT_EVERY;
        let after = match from {
            0 => String::new(),
            from => names::manifest(log_id, timeline, from - 1),
        };
        let listed = store.list(&names::manifests(log_id, timeline), &after)?;
        let there: BTreeSet<u64> =
            listed.iter().filter_map(|one| names::manifest_number(&one.name)).collect();
        let Some(&taken) = there.last() else { return Ok(None) };
        let read = |number: &u64| read(store, log_id, timeline, *number);

        // A checkpoint stands for those before it, if it can be read.
        let first = from.max(1);
        let checkpoints: Vec<u64> =
            (first..=taken).filter(|number| number.is_multiple_of(CHECKPOINT_EVERY)).collect();
        let mut found: BTreeMap<u64, Found> = BTreeMap::new();
        for (number, one) in parallel::each(&checkpoints, READERS, read)? {
            found.insert(number, one);
        }
        // Those that no checkpoint stands for; one of them may say that a checkpoint is void.
        let mut unread: BTreeSet<u64>;
        loop {
            let void = void(&found);
            let covered = |number: u64| {
                let checkpoint = number.next_multiple_of(CHECKPOINT_EVERY);
                let good = found.get(&checkpoint).is_some_and(Result::is_ok);
                good && !void.contains(&checkpoint)
            };
            let left = (first..=taken).filter(|number| !found.contains_key(number));
            let (others, covered): (Vec<u64>, Vec<u64>) =
                left.partition(|number| !covered(*number));
            unread = covered.into_iter().collect();
            if others.is_empty() {
                break;
            }
            for (number, one) in parallel::each(&others, READERS, read)? {
                found.insert(number, one);
            }
        }
        if from > 0
            && (void(&found).contains(&from) || !found.get(&from).is_some_and(Result::is_ok))
        {
            // It stands for nothing: the one before it is the start.
            return Self::load_after(store, log_id, timeline, from - 1);
        }
        let missing = unread.difference(&there).copied().collect();
        Ok(Self::join(log_id, timeline, (from, taken), found, missing))
    }

    /// A manifest behind the newest readable one, which may have named more.
    pub fn beyond(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| match problem {
            Problem::ManifestMissing { number } | Problem::ManifestDamaged { number, .. } => {
                *number > self.newest.0
            }
            Problem::Gap { .. } | Problem::Parts { .. } => false,
        })
    }

    fn join(
        log_id: LogId,
        timeline: Timeline,
        (from, taken): (u64, u64),
        found: BTreeMap<u64, Found>,
        missing: Vec<u64>,
    ) -> Option<Self> {
        let void = void(&found);
        let mut problems: BTreeMap<u64, Problem> = missing
            .into_iter()
            .map(|number| (number, Problem::ManifestMissing { number }))
            .collect();
        let mut unreadable: BTreeSet<u64> = problems.keys().copied().collect();
        let mut parts: BTreeMap<Position, PartEntry> = BTreeMap::new();
        let mut keys = BTreeSet::new();
        let mut parent = None;
        let mut before: Option<(u64, Hash)> = None;
        let mut newest: Option<(Manifest, Hash)> = None;
        let (mut recent_parts, mut recent_void) = (Vec::new(), Vec::new());
        for (number, one) in found.into_iter().filter(|(number, _)| !void.contains(number)) {
            let (manifest, key, hash) = match one {
                Ok(found) => found,
                Err(problem) => {
                    problems.insert(number, problem);
                    unreadable.insert(number);
                    continue;
                }
            };
            let follows = before.is_some_and(|(before, _)| {
                (before + 1..number).all(|between| manifest.void.contains(&between))
            });
            if follows && manifest.previous != before.map(|(_, hash)| hash) {
                let problem = "the one before it is not the one it was written after".into();
                problems.insert(number, Problem::ManifestDamaged { number, problem });
            }
            before = Some((number, hash));
            keys.insert(key);
            parent = parent.or(manifest.parent);
            for part in &manifest.parts {
                parts.insert(part.content.first(), part.clone());
            }
            if manifest.is_checkpoint() {
                recent_parts.clear();
                recent_void.clear();
            } else {
                recent_parts.extend(manifest.parts.iter().cloned());
                recent_void.extend(manifest.void.iter().copied());
            }
            newest = Some((manifest, hash));
        }
        problems.retain(|number, _| !void.contains(number));
        unreadable.retain(|number| !void.contains(number));
        let (newest, hash) = newest?;
        let mut problems: Vec<Problem> = problems.into_values().collect();
        let parts: Vec<PartEntry> = parts.into_values().collect();
        let start = match parts.first() {
            // Only the newest were read.
            Some(first) if from > 0 => first.content.start.position,
            _ => parent.map(|parent| parent.end.position).unwrap_or_default(),
        };
        problems.extend(gaps(start, parts.iter(), newest.end.position));
        Some(Self {
            log_id,
            timeline,
            parent,
            parts,
            newest: (newest.number, hash),
            taken,
            end: (newest.end, newest.ended_at),
            made_at: newest.made_at,
            keys,
            problems,
            unreadable,
            since_checkpoint: (recent_parts, recent_void),
        })
    }
}

/// Positions behind `start` and up to `end` that are in no part.
fn gaps<'a>(
    start: Position,
    parts: impl Iterator<Item = &'a PartEntry>,
    end: Position,
) -> Vec<Problem> {
    let mut gaps = Vec::new();
    let mut at = start;
    for part in parts {
        if part.content.start.position > at {
            gaps.push(Problem::Gap { first: at.next(), last: part.content.start.position });
        }
        at = at.max(part.content.last());
    }
    if end > at {
        gaps.push(Problem::Gap { first: at.next(), last: end });
    }
    gaps
}

pub(crate) fn read(
    store: &dyn Store,
    log_id: LogId,
    timeline: Timeline,
    number: u64,
) -> Result<(u64, Found), RemoteError> {
    let name = names::manifest(log_id, timeline, number);
    let bytes = match store.get(&name, MANIFEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(StoreError::Missing { .. }) => {
            return Ok((number, Err(Problem::ManifestMissing { number })));
        }
        Err(StoreError::TooLong { found, .. }) => {
            let problem = format!("it has {found} bytes");
            return Ok((number, Err(Problem::ManifestDamaged { number, problem })));
        }
        Err(error) => return Err(error.into()),
    };
    let damaged = |problem: String| Err(Problem::ManifestDamaged { number, problem });
    Ok((
        number,
        match Manifest::open(&bytes) {
            Ok((manifest, key)) => {
                let own = (manifest.log_id, manifest.timeline, manifest.number);
                if own == (log_id, timeline, number) {
                    Ok((manifest, key, Manifest::hash_of(&bytes)))
                } else {
                    damaged("it is the manifest of another place".into())
                }
            }
            // An archive that a newer build has written to is not judged by an older one.
            Err(problem @ crate::codec::BadManifest::TooNew(_)) => {
                return Err(RemoteError::Manifest { name, problem });
            }
            Err(problem) => damaged(problem.to_string()),
        },
    ))
}

/// A part, and the archive it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The branch whose archive holds it.
    pub archive: Timeline,
    /// What the manifest says.
    pub entry: PartEntry,
}

impl Placed {
    /// The object.
    pub fn name(&self) -> String {
        self.entry.name(self.archive)
    }
}

/// Everything that led to the newest position of a branch: its own archive and, before that, those
/// of the branches it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The catalogues, the oldest branch first. The last one is that of the branch itself.
    pub branches: Vec<Catalogue>,
    /// The parts, in order. What an archive has of an older branch again counts before what that has.
    pub parts: Vec<Placed>,
    /// A branch that the first one goes on from and that has no archive.
    pub(crate) missing: Option<Timeline>,
}

impl History {
    /// Reads it; `None` if there is no archive of this branch.
    pub fn load(
        store: &dyn Store,
        log_id: LogId,
        timeline: Timeline,
    ) -> Result<Option<Self>, RemoteError> {
        match Self::load_what_is_there(store, log_id, timeline)? {
            Some(Self { missing: Some(timeline), parts, .. }) if !from_the_start(&parts) => {
                Err(RemoteError::Refused(format!(
                    "the archive of branch {timeline}, which a later one goes on from, is not there"
                )))
            }
            found => Ok(found),
        }
    }

    /// The same, without the branches from the first one on that has no archive.
    pub(crate) fn load_what_is_there(
        store: &dyn Store,
        log_id: LogId,
        timeline: Timeline,
    ) -> Result<Option<Self>, RemoteError> {
        let mut branches = Vec::new();
        let mut next = Some(timeline);
        let mut missing = None;
        while let Some(timeline) = next {
            if branches.iter().any(|branch: &Catalogue| branch.timeline == timeline) {
                return Err(RemoteError::Refused(format!(
                    "branch {timeline} of the archive is its own ancestor"
                )));
            }
            let Some(catalogue) = Catalogue::load(store, log_id, timeline)? else {
                missing = Some(timeline);
                break;
            };
            next = catalogue.parent.map(|parent| parent.timeline);
            branches.push(catalogue);
        }
        if branches.is_empty() {
            return Ok(None);
        }
        branches.reverse();
        let mut parts: BTreeMap<Position, Placed> = BTreeMap::new();
        for branch in &branches {
            if let Some(parent) = &branch.parent {
                parts.retain(|_, part| part.entry.content.last() <= parent.end.position);
            }
            let archive = branch.timeline;
            for entry in &branch.parts {
                let placed = Placed { archive, entry: entry.clone() };
                parts.insert(entry.content.first(), placed);
            }
        }
        Ok(Some(Self { branches, parts: parts.into_values().collect(), missing }))
    }

    /// Who signed the manifests of all branches.
    pub fn signers(&self) -> BTreeSet<AgentId> {
        self.branches.iter().flat_map(|branch| branch.keys.iter().copied()).collect()
    }

    /// What is wrong with the manifests of the branch itself, and the positions that no part of any
    /// branch holds. What else the manifests of an older branch lack, this one does without.
    pub fn problems(&self) -> Vec<Problem> {
        let Some(newest) = self.newest() else { return Vec::new() };
        let own = newest.problems.iter().filter(|one| !matches!(one, Problem::Gap { .. }));
        let entries = self.parts.iter().map(|part| &part.entry);
        let gaps = gaps(Position::NONE, entries, newest.end.0.position);
        own.cloned().chain(gaps).collect()
    }

    /// The branch itself.
    pub fn newest(&self) -> Option<&Catalogue> {
        self.branches.last()
    }

    /// Whether each part begins where the one before it ends; else what is missing.
    pub fn check(&self) -> Result<(), RemoteError> {
        let mut at: Option<Link> = None;
        for part in &self.parts {
            let content = &part.entry.content;
            let start = at.map_or(Position::NONE, |link| link.position);
            if content.start.position != start {
                return Err(RemoteError::Gap {
                    first: start.next().min(content.start.position),
                    last: content.start.position.max(start),
                });
            }
            if at.is_some_and(|link| link != content.start) {
                return Err(RemoteError::Damaged {
                    name: part.name(),
                    problem: "it goes on from another history than the part before it".into(),
                });
            }
            at = Some(content.end);
        }
        Ok(())
    }
}

/// What was archived again may be all that is needed.
fn from_the_start(parts: &[Placed]) -> bool {
    parts.first().is_some_and(|part| part.entry.content.start.position == Position::NONE)
}

/// The branches of a log whose archive holds something that no other branch goes on from. One that
/// was written to behind the place where another left it stays: which of the two is meant, only a
/// person can say.
pub fn leaves(store: &dyn Store, log_id: LogId) -> Result<Vec<Timeline>, RemoteError> {
    let timelines: Vec<Timeline> =
        store.folders(&names::log(log_id))?.iter().filter_map(|name| name.parse().ok()).collect();
    let mut branches = Vec::new();
    for timeline in timelines {
        branches.extend(Catalogue::load(store, log_id, timeline)?);
    }
    let goes_on = |parent: &Catalogue| {
        let end = parent.end.0.position;
        branches
            .iter()
            .filter_map(|child| child.parent)
            .any(|left| left.timeline == parent.timeline && end <= left.end.position)
    };
    let left = branches.iter().filter(|branch| !goes_on(branch) || branch.beyond().is_some());
    Ok(left.map(|branch| branch.timeline).collect())
}

/// The logs that have something in a store.
pub fn logs(store: &dyn Store) -> Result<Vec<LogId>, RemoteError> {
    Ok(store.folders("")?.iter().filter_map(|name| name.parse().ok()).collect())
}
