//! What administrators did, in `<data_dir>/node/admin-audit`: one chained line an act.
//!
//! The lines are chained like those of the audit of reads; each is durable before the act is answered.
//! A file under which a write or sync failed is not written again: the next act begins another,
//! which goes on behind the last entry that was durable. What lies behind that in the file before
//! does not count. `docs/format/audit.md` has the form.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use metrics::{counter, describe_counter};
use stemedb_io::{Env, Open, Vfs, VfsFile};
use stemedb_model::Hash;

use crate::audit::chain::{ORIGIN, link, open, seal};
use crate::custodial::create_folder;
use crate::wire::{AdminEntry, HashHex};

const FAILURES: &str = "stemedb_admin_audit_failures_total";
/// A longer file is not written on.
const FILE_BYTES: u64 = 16 << 20;
/// No file of ours is longer.
const FILE_BYTES_MAX: u64 = 2 * FILE_BYTES;

/// The folder of the trail.
pub fn trail_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("node").join("admin-audit")
}

/// The trail as it was read, the oldest entry first, and what is wrong with it.
#[derive(Debug, Default)]
pub struct TrailReport {
    /// The entries that count.
    pub entries: Vec<AdminEntry>,
    /// Each place that is not as it was written.
    pub problems: Vec<String>,
}

/// Entries, whether there are more, and problems.
type Page = (Vec<AdminEntry>, bool, Vec<String>);

struct Writing {
    /// The number of the next file.
    next_file: u64,
    file: Option<(Box<dyn VfsFile>, u64)>,
    chain: Hash,
    /// The number of the newest durable entry.
    last: u64,
}

/// The trail of a node.
pub(crate) struct Trail {
    env: Env,
    data_dir: PathBuf,
    writing: Mutex<Option<Writing>>,
}

impl Trail {
    pub(crate) fn new(env: &Env, data_dir: &Path) -> Self {
        describe_counter!(FAILURES, "acts of administrators that could not be taken down");
        counter!(FAILURES).increment(0);
        Self { env: env.clone(), data_dir: data_dir.to_owned(), writing: Mutex::new(None) }
    }

    /// Takes an act down; number and chain are given here. Returns once it is durable.
    pub(crate) fn append(&self, entry: AdminEntry) -> io::Result<()> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.write(&mut writing, entry);
        if done.is_err() {
            counter!(FAILURES).increment(1);
            if let Some(writing) = &mut *writing {
                writing.file = None;
            }
        }
        done
    }

    fn write(&self, writing: &mut Option<Writing>, mut entry: AdminEntry) -> io::Result<()> {
        let dir = trail_dir(&self.data_dir);
        let vfs = &*self.env.vfs;
        if writing.is_none() {
            *writing = Some(begin(vfs, &self.data_dir, &dir)?);
        }
        let Some(writing) = writing else { return Err(io::ErrorKind::Other.into()) };
        let (file, len) = match &mut writing.file {
            Some((file, len)) => (&**file, len),
            none => {
                let path = path(&dir, writing.next_file);
                writing.next_file += 1;
                let file = vfs.open(&path, Open::CreateNew)?;
                vfs.sync_dir(&dir)?;
                let (file, len) = none.insert((file, 0));
                (&**file, len)
            }
        };
        entry.id = writing.last.saturating_add(1);
        let mut line = Vec::new();
        let chain = seal(&mut line, &writing.chain, &entry)?;
        file.write_at(&line, *len)?;
        file.sync_all()?;
        *len += line.len() as u64;
        let full = *len >= FILE_BYTES;
        (writing.chain, writing.last) = (chain, entry.id);
        if full {
            writing.file = None;
        }
        Ok(())
    }

    /// The newest entries before `before`, newest first, whether there are more, and what is wrong with
    /// the trail. Reads and proves all of it.
    pub(crate) fn page(&self, before: u64, limit: usize) -> io::Result<Page> {
        let durable = {
            let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            writing.as_ref().map_or(u64::MAX, |writing| writing.last)
        };
        let found = read(&*self.env.vfs, &trail_dir(&self.data_dir))?;
        let (mut entries, problems) = (found.entries, found.problems);
        entries.retain(|entry| entry.id < before && entry.id <= durable);
        entries.reverse();
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok((entries, more, problems))
    }
}

/// Each start has a file of its own, so none is written that an earlier one left.
fn begin(vfs: &dyn Vfs, data_dir: &Path, dir: &Path) -> io::Result<Writing> {
    create_folder(vfs, data_dir, dir)?;
    let found = read(vfs, dir)?;
    let next_file = numbers(vfs, dir)?.last().map_or(1, |last| last.saturating_add(1));
    let (chain, last) = found.entries.last().map_or((ORIGIN, 0), |last| (last.chain.0, last.id));
    Ok(Writing { next_file, file: None, chain, last })
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("admin.{number:06}.ndjson"))
}

fn numbers(vfs: &dyn Vfs, dir: &Path) -> io::Result<Vec<u64>> {
    let number = |name: &std::ffi::OsStr| -> Option<u64> {
        let digits = name.to_str()?.strip_prefix("admin.")?.strip_suffix(".ndjson")?;
        digits.parse().ok()
    };
    let entries = match vfs.read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found: Vec<u64> = entries.iter().filter_map(|entry| number(&entry.name)).collect();
    found.sort_unstable();
    Ok(found)
}

/// Reads the trail of a node, and proves it.
pub fn read_trail(vfs: &dyn Vfs, data_dir: &Path) -> io::Result<TrailReport> {
    read(vfs, &trail_dir(data_dir))
}

fn read(vfs: &dyn Vfs, dir: &Path) -> io::Result<TrailReport> {
    let mut report = TrailReport::default();
    for number in numbers(vfs, dir)? {
        let path = path(dir, number);
        let file = vfs.open(&path, Open::Read)?;
        let len = file.len()?;
        if len > FILE_BYTES_MAX {
            // Passing it over would look as if its entries had never been.
            let problem = format!("{}: it is {len} bytes long", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        file.read_exact_at(&mut bytes, 0)?;
        read_file(&mut report, &path, &bytes);
    }
    Ok(report)
}

fn read_file(report: &mut TrailReport, path: &Path, bytes: &[u8]) {
    let mut first = true;
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        // Power or the disk cut it short: it never counted.
        let Some(line) = line.strip_suffix(b"\n") else { return };
        let place = || format!("{}, line {}", path.display(), index + 1);
        let read = open(line).and_then(|(stated, rest)| {
            let entry: AdminEntry = serde_json::from_slice(line).ok()?;
            Some((stated, rest, entry))
        });
        let Some((stated, rest, entry)) = read else {
            report.problems.push(format!("{}: is no entry", place()));
            continue;
        };
        if std::mem::take(&mut first) {
            // What the file before holds besides was not durable when this one was begun.
            // That is one entry at most: they are written one after the other.
            let had = report.entries.len();
            report.entries.retain(|earlier| earlier.id < entry.id);
            if had - report.entries.len() > 1 {
                report.problems.push(format!("{}: begins again at entry {}", place(), entry.id));
            }
        }
        let (before, last) =
            report.entries.last().map_or((ORIGIN, 0), |last| (last.chain.0, last.id));
        if link(&before, rest) != stated || entry.id != last.saturating_add(1) {
            report.problems.push(format!(
                "{}: entry {} is not what was written behind entry {last}",
                place(),
                entry.id
            ));
        }
        report.entries.push(AdminEntry { chain: HashHex(stated), ..entry });
    }
}

/// Takes down what was done to the data folder of a stopped node.
pub fn append_offline(env: &Env, data_dir: &Path, entry: AdminEntry) -> io::Result<()> {
    Trail::new(env, data_dir).append(entry)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stemedb_io::sim::world;
    use stemedb_model::Millis;

    use super::*;
    use crate::wire::Time;

    const DATA: &str = "/data/stemedb";

    fn act(name: &str) -> AdminEntry {
        AdminEntry::new(Time(Millis(1)), name, "somebody", "http")
    }

    fn acts(report: &TrailReport) -> Vec<String> {
        report.entries.iter().map(|entry| entry.act.clone()).collect()
    }

    #[test]
    fn acts_are_chained_over_starts_and_paged_newest_first() {
        let (_, _, env) = world(1, 0);
        let data = Path::new(DATA);
        for start in 0..3 {
            let trail = Trail::new(&env, data);
            for n in 0..2 {
                trail.append(act(&format!("{start}.{n}"))).unwrap();
            }
        }
        let report = read_trail(&*env.vfs, data).unwrap();
        assert_eq!(acts(&report), ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]);
        assert_eq!(report.problems, Vec::<String>::new());
        let trail = Trail::new(&env, data);
        let (page, more, problems) = trail.page(u64::MAX, 4).unwrap();
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(page.iter().map(|entry| entry.id).collect::<Vec<_>>(), [6, 5, 4, 3]);
        assert!(more);
        let (page, more, _) = trail.page(3, 4).unwrap();
        assert_eq!(page.iter().map(|entry| entry.id).collect::<Vec<_>>(), [2, 1]);
        assert!(!more);
    }

    #[test]
    fn every_changed_byte_of_an_entry_shows() {
        let (vfs, _, env) = world(1, 0);
        let data = Path::new(DATA);
        let trail = Trail::new(&env, data);
        for n in 0..3 {
            trail.append(act(&n.to_string())).unwrap();
        }
        let file = path(&trail_dir(data), 1);
        let whole = vfs.medium(&file).unwrap();
        let end = whole.len() - 1;
        for at in 0..end {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            vfs.put(&file, bytes).unwrap();
            let report = read_trail(&*env.vfs, data).unwrap();
            assert!(!report.problems.is_empty(), "byte {at}");
        }
    }

    /// Wherever power is lost: what was told to be durable is there, in order, and the trail goes on.
    #[test]
    fn acts_survive_loss_of_power() {
        let data = Path::new(DATA);
        let mut told_of = 0;
        for seed in 0..10 {
            for changes in 0..40 {
                let (vfs, _, env) = world(seed, 0);
                vfs.power_off_after(changes);
                let trail = Trail::new(&env, data);
                let told = (0..4).take_while(|n| trail.append(act(&n.to_string())).is_ok()).count();
                let env = Env { vfs: Arc::new(vfs.crash()), ..env };
                Trail::new(&env, data).append(act("more")).unwrap();
                let report = read_trail(&*env.vfs, data).unwrap();
                assert_eq!(report.problems, Vec::<String>::new(), "seed {seed}, {changes}");
                let found = acts(&report);
                let kept = found.len() - 1;
                assert!(kept >= told, "seed {seed}, {changes}: {found:?}, told {told}");
                assert!((0..kept).all(|n| found[n] == n.to_string()), "{found:?}");
                assert_eq!(found.last().unwrap(), "more");
                told_of += told;
            }
        }
        assert!(told_of > 100, "{told_of}");
    }

    /// Files are short, and one that claims to begin earlier takes nothing away unseen.
    #[test]
    fn files_are_short_and_none_takes_others_away() {
        let (vfs, _, env) = world(1, 0);
        let data = Path::new(DATA);
        let trail = Trail::new(&env, data);
        let long = "x".repeat(1 << 20);
        for _ in 0..40 {
            trail.append(act(&long)).unwrap();
        }
        assert_eq!(numbers(&*env.vfs, &trail_dir(data)).unwrap(), [1, 2, 3]);
        let report = read_trail(&*env.vfs, data).unwrap();
        assert_eq!((report.entries.len(), report.problems.len()), (40, 0));
        let other = Path::new("/data/other");
        let forged = Trail::new(&env, other);
        forged.append(act("nothing happened")).unwrap();
        let bytes = vfs.medium(&path(&trail_dir(other), 1)).unwrap();
        vfs.put(&path(&trail_dir(data), 4), bytes).unwrap();
        let report = read_trail(&*env.vfs, data).unwrap();
        assert!(report.problems.iter().any(|one| one.contains("begins again")), "{report:?}");
        // What is too long to be read is not passed over.
        vfs.put(&path(&trail_dir(data), 5), vec![b'x'; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(read_trail(&*env.vfs, data).is_err());
    }

    /// A disk that fails once: the act is not told, and the next one is behind the last that was.
    #[test]
    fn a_failed_write_begins_another_file() {
        let (vfs, _, env) = world(3, 0);
        let data = Path::new(DATA);
        let trail = Trail::new(&env, data);
        trail.append(act("one")).unwrap();
        vfs.set_capacity(1);
        assert!(trail.append(act(&"x".repeat(100_000))).is_err());
        vfs.set_capacity(1 << 40);
        trail.append(act("two")).unwrap();
        let report = read_trail(&*env.vfs, data).unwrap();
        assert_eq!(acts(&report), ["one", "two"]);
        assert_eq!(report.problems, Vec::<String>::new());
        assert!(vfs.medium(&path(&trail_dir(data), 2)).is_some());
    }
}
