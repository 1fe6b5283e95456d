//! Puts a log together from parts without an end, and lets it be read meanwhile: the log of a standby.
//!
//! Segments that are whole lie in the folder, proved, as a restore leaves them. Of the one in the making
//! the records are in memory as well: its file has no name yet, and a follower that begins again takes
//! its parts once more.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use stemedb_io::Env;
use stemedb_model::{Hash, LogId, Millis, Position, Timeline};

use super::{Composed, Composer, Link, PartContent};
use crate::config::OnFailure;
use crate::entry::{Commit, Entry, NewEntry};
use crate::error::{LogError, LogState};
use crate::format::group::LostRange;
use crate::format::header::{SegmentHeader, segment_name};
use crate::health::Health;
use crate::recover::survey::{io, survey_last};
use crate::recover::verified::Verified;
use crate::shared::{Published, SegmentEntry, Shared};
use crate::syncs::Syncs;
use crate::telemetry::Meters;
use crate::{Log, LogReader};

/// Takes the parts of another log in order.
#[derive(Debug)]
pub struct Follower {
    composer: Composer,
    followed: Arc<Followed>,
    segment_bytes: u64,
}

/// What can be read.
struct Followed {
    identity: (LogId, Timeline),
    /// The segments in the folder.
    named: Shared,
    tail: RwLock<Tail>,
}

/// What is not in the folder yet.
struct Tail {
    /// What is in the folder ends here.
    named: Position,
    end: Link,
    recorded_at: Millis,
    groups: Vec<Arc<Vec<Entry>>>,
    lost: Vec<LostRange>,
}

impl std::fmt::Debug for Followed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Follower {
    /// Begins in `dir`, which must be empty or hold what a follower has left: that is proved. The log is
    /// that of branch `timeline`; a segment in which it goes on would have `segment_bytes`.
    pub fn new(
        env: &Env,
        dir: &Path,
        identity: (LogId, Timeline),
        segment_bytes: u64,
    ) -> Result<Self, LogError> {
        let mut composer = Composer::new(env, dir, Position::MAX)?;
        composer.added = Some(Vec::new());
        if let Some(other) = composer.named.iter().find(|header| header.log_id != identity.0) {
            return Err(LogError::Refused(format!(
                "{} holds log {}, not {}: give another folder",
                dir.display(),
                other.log_id,
                identity.0
            )));
        }
        let file_system = env
            .vfs
            .file_system(dir)
            .map_err(|source| io("the folder", "ask for the file system of", 0, source))?;
        let published = Published {
            identity: Some(identity),
            end: composer.named_end,
            floor: Position(1),
            segments: composer.named.iter().map(entry).collect(),
            lost: composer.lost.clone(),
        };
        let health = Health::new(OnFailure::Stop, file_system);
        let (syncs, meters) = (Arc::new(Syncs::default()), Meters::new(false));
        let named = Shared::new(env.clone(), syncs, dir.into(), meters, health, published, 0);
        let tail = Tail {
            named: composer.named_end.last,
            end: composer.named_end.into(),
            recorded_at: composer.recorded_at(),
            groups: Vec::new(),
            lost: composer.lost.clone(),
        };
        let followed = Arc::new(Followed { identity, named, tail: RwLock::new(tail) });
        Ok(Self { composer, followed, segment_bytes })
    }

    /// Where the log ends; `None` before its first group.
    pub fn end(&self) -> Option<Link> {
        self.composer.end()
    }

    /// The log, to be read. It takes no writes.
    pub fn log(&self) -> Box<dyn Log> {
        Box::new(FollowedLog(Arc::clone(&self.followed)))
    }

    /// Adds the next part, called `name`; what is in it can be read afterwards. After an error only
    /// another follower can go on.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<PartContent, LogError> {
        let before = self.composer.named.len();
        let content = self.composer.add(name, bytes)?;
        self.show(before)?;
        Ok(content)
    }

    /// Lets readers see what was added; `before`: so many segments had their names.
    fn show(&mut self, before: usize) -> Result<(), LogError> {
        let new = self.composer.named.get(before..).unwrap_or_default().to_vec();
        for header in &new {
            self.prove(header)?;
        }
        let added = self.composer.added.replace(Vec::new()).unwrap_or_default();
        let end = self.composer.named_end;
        let mut tail = self.followed.tail.write().unwrap_or_else(PoisonError::into_inner);
        self.followed.named.publish(|log| {
            log.segments.extend(new.iter().map(entry));
            log.end = end;
            log.lost.clone_from(&self.composer.lost);
        });
        tail.named = end.last;
        tail.groups.extend(added.into_iter().map(Arc::new));
        tail.groups.retain(|group| group.last().is_some_and(|last| last.position > end.last));
        tail.end = self.composer.end().unwrap_or(tail.end);
        tail.recorded_at = self.composer.recorded_at();
        tail.lost.clone_from(&self.composer.lost);
        Ok(())
    }

    /// Reads a segment back that has just got its name.
    fn prove(&self, header: &SegmentHeader) -> Result<(), LogError> {
        let name = segment_name(header.number);
        let vfs = &*self.composer.env().vfs;
        let found = survey_last(vfs, self.composer.dir(), &(header.number, name.clone()))?;
        let groups = found.groups.filter(|groups| groups.closed && groups.bad.is_none());
        let newest = self.composer.named.last().is_some_and(|last| last.number == header.number);
        let good = groups.is_some_and(|groups| {
            !newest || Link::from(groups.end) == Link::from(self.composer.named_end)
        });
        if good {
            return Ok(());
        }
        Err(LogError::Damaged {
            file: name.clone(),
            offset: 0,
            problem: "it is not read back as it was written".into(),
            first: header.fence.position.next(),
            last: self.composer.named_end.last,
            hint: format!("remove {name} and start again: it is fetched once more"),
        })
    }

    /// Ends the log: it goes on as the branch `timeline`. A start need not read again what was proved
    /// here.
    pub fn finish(self, timeline: Timeline) -> Result<Composed, LogError> {
        let Self { composer, followed, segment_bytes } = self;
        let (env, dir) = (composer.env().clone(), composer.dir().to_owned());
        drop(followed);
        let composed = composer.finish(timeline, segment_bytes)?;
        let last = (composed.last.0, composed.last.1, composed.end.chain);
        let proved = Verified { number: last.0, salt: last.1, chain: last.2 };
        if let Err(error) = proved.store(&*env.vfs, &dir) {
            tracing::warn!("could not note which segments were verified: {error}");
        }
        Ok(composed)
    }
}

fn entry(header: &SegmentHeader) -> SegmentEntry {
    SegmentEntry {
        number: header.number,
        salt: header.salt,
        first: header.fence.position.next(),
        // Of blocks, which it has none of.
        end: 0,
        marks: None,
        since: header.fence.recorded_at,
        packed: true,
    }
}

impl Followed {
    fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogReader for Followed {
    fn identity(&self) -> Option<(LogId, Timeline)> {
        (self.tail().end.position > Position::NONE).then_some(self.identity)
    }

    fn durable(&self) -> (Position, Millis) {
        let tail = self.tail();
        (tail.end.position, tail.recorded_at)
    }

    fn read(&self, position: Position) -> Result<Option<Entry>, LogError> {
        let tail = self.tail();
        if position <= tail.named {
            drop(tail);
            return LogReader::read(&self.named, position);
        }
        if let Some(lost) =
            tail.lost.iter().find(|lost| (lost.first..=lost.last).contains(&position))
        {
            return Err(lost.to_error());
        }
        let after = tail
            .groups
            .partition_point(|group| group.first().is_some_and(|first| first.position <= position));
        let group = after.checked_sub(1).and_then(|at| tail.groups.get(at));
        let find = |group: &Arc<Vec<Entry>>| {
            group.iter().find(|entry| entry.position == position).cloned()
        };
        Ok(group.and_then(find))
    }

    fn scan(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Vec<Entry>) -> Result<bool, LogError>,
    ) -> Result<(), LogError> {
        let mut next = from.max(Position(1));
        loop {
            let (named, groups) = {
                let tail = self.tail();
                (tail.named, tail.groups.clone())
            };
            if next > named {
                for group in groups {
                    let group: Vec<Entry> =
                        group.iter().filter(|entry| entry.position >= next).cloned().collect();
                    if !group.is_empty() && !visit(group)? {
                        break;
                    }
                }
                return Ok(());
            }
            let mut stopped = false;
            LogReader::scan(&self.named, next, &mut |group| {
                stopped = !visit(group)?;
                Ok(!stopped)
            })?;
            if stopped {
                return Ok(());
            }
            // It went to the end of what is in the folder now, which may be more than it was.
            next = next.max(self.named.published(|log| log.end.last).next());
        }
    }

    fn lost(&self) -> Vec<LostRange> {
        self.tail().lost.clone()
    }

    fn root(&self) -> (Position, Hash) {
        let end = self.tail().end;
        (end.position, end.chain)
    }

    fn state(&self) -> LogState {
        LogState::Ok
    }
}

/// The log of another node: to be read.
struct FollowedLog(Arc<Followed>);

impl FollowedLog {
    fn not_ours() -> LogError {
        LogError::Refused("the log of a standby is written by its primary alone".into())
    }
}

impl Log for FollowedLog {
    fn append(&mut self, _: &[NewEntry]) -> Result<Commit, LogError> {
        Err(Self::not_ours())
    }

    /// Everything in it is durable where it comes from.
    fn seal(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn resume(&mut self) -> Result<Option<Commit>, LogError> {
        Ok(None)
    }

    fn detach(&mut self) -> Result<(), LogError> {
        Err(Self::not_ours())
    }

    fn attach(&mut self) -> Result<Option<Commit>, LogError> {
        Ok(None)
    }

    fn acknowledge(&mut self) -> Option<String> {
        None
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.0) as Arc<dyn LogReader>
    }
}
