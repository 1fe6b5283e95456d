//! Memory and processor time, from `/proc`, and what of the memory the server says is in its caches.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use stemedb_bench::server::metrics;

const MEMORY: &str = "stemedb_index_memory_bytes";
/// Of its parts, those that have a bound.
const CACHES: [&str; 4] = ["blocks", "names", "questions", "answers"];
const EVERY: Duration = Duration::from_secs(1);

/// One look.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Seconds since the beginning of the run.
    pub(crate) at: f64,
    /// Resident memory of the server, in bytes.
    pub(crate) resident: f64,
    /// What of it the server counts in caches that have a bound.
    pub(crate) caches: f64,
    pub(crate) threads: u64,
}

impl Sample {
    /// What no setting bounds.
    pub(crate) fn outside(&self) -> f64 {
        self.resident - self.caches
    }
}

/// Looks at a process once a second, from its start to [`Watch::finish`].
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Sample>>>,
}

impl Watch {
    pub(crate) fn start(pid: u32, url: String, begun: Instant) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            let mut caches = 0.0;
            while !stopped.load(Ordering::Relaxed) {
                // A server that is asked too much may not say it in time.
                caches = metrics(&url).ok().and_then(|all| in_caches(&all)).unwrap_or(caches);
                let at = begun.elapsed().as_secs_f64();
                let (resident, threads) = (resident(pid)?, threads(pid)?);
                samples.push(Sample { at, resident, caches, threads });
                std::thread::sleep(EVERY);
            }
            Ok(samples)
        });
        Self { stop, thread }
    }

    pub(crate) fn finish(self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watch panicked"))?
    }
}

/// `None` if one of them is not told.
fn in_caches(metrics: &BTreeMap<String, f64>) -> Option<f64> {
    CACHES.iter().map(|part| metrics.get(&format!("{MEMORY}{{part=\"{part}\"}}"))).sum()
}

fn resident(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm"));
    let text = text.with_context(|| format!("process {pid} is gone"))?;
    let pages: f64 = text.split(' ').nth(1).context("statm without pages")?.parse()?;
    Ok(pages * rustix::param::page_size() as f64)
}

fn threads(pid: u32) -> Result<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    Ok(tasks.with_context(|| format!("process {pid} is gone"))?.count() as u64)
}

/// Processor seconds spent so far.
#[derive(Debug, Clone)]
pub(crate) struct Spent {
    /// A process, its ended threads included.
    all: f64,
    /// Its ended children that were waited for.
    children: f64,
    /// Name and seconds by thread.
    threads: BTreeMap<u32, (String, f64)>,
}

impl Spent {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let whole = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, all, children) = stat(&whole).context("/proc/…/stat")?;
        let mut threads = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            let id = task.file_name().to_string_lossy().parse()?;
            // It may have ended since.
            let Ok(text) = fs::read_to_string(task.path().join("stat")) else { continue };
            let (name, seconds, _) = stat(&text).context("/proc/…/task/…/stat")?;
            threads.insert(id, (name, seconds));
        }
        Ok(Self { all, children, threads })
    }

    pub(crate) fn children(&self) -> f64 {
        self.children
    }

    /// Seconds since then.
    pub(crate) fn since(&self, before: &Self) -> f64 {
        self.all - before.all
    }

    /// The same by name of thread, most first. What ended threads spent has no name.
    pub(crate) fn by_thread(&self, before: &Self) -> Vec<(String, f64)> {
        let mut names: BTreeMap<String, f64> = BTreeMap::new();
        for (id, (name, seconds)) in &self.threads {
            let earlier = before.threads.get(id).map_or(0.0, |(_, seconds)| *seconds);
            *names.entry(name.clone()).or_default() += seconds - earlier;
        }
        let mut names: Vec<(String, f64)> = names.into_iter().collect();
        names.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        names
    }
}

/// Name, seconds, and seconds of ended children, of a line of `/proc/…/stat`.
fn stat(line: &str) -> Option<(String, f64, f64)> {
    // The name may hold blanks and brackets.
    let (before, after) = line.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let seconds = |n: usize| -> Option<f64> {
        let ticks: f64 = fields.get(n)?.parse().ok()?;
        Some(ticks / rustix::param::clock_ticks_per_second() as f64)
    };
    // The third field of the line is the first here.
    Some((name.to_owned(), seconds(11)? + seconds(12)?, seconds(13)? + seconds(14)?))
}

/// Seconds that all processors together rested, waited for the disk, or worked for other guests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest {
    pub(crate) idle: f64,
    pub(crate) stolen: f64,
}

impl Rest {
    pub(crate) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let fields: Vec<f64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let seconds = |n: usize| {
            fields.get(n).copied().unwrap_or(0.0) / rustix::param::clock_ticks_per_second() as f64
        };
        Ok(Self { idle: seconds(3) + seconds(4), stolen: seconds(7) })
    }
}

/// How memory grows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Growth {
    /// Over all of the time, of what there was.
    pub(crate) share: f64,
    pub(crate) bytes_per_second: f64,
}

/// How what is counted would have grown over all of this time if it went on as in its second half: what
/// is still being taken in at the beginning is no leak. The share is of all memory.
pub(crate) fn growth(samples: &[Sample], counted: impl Fn(&Sample) -> f64) -> Growth {
    let half = &samples[samples.len() / 2..];
    let count = half.len() as f64;
    if half.len() < 3 {
        return Growth::default();
    }
    let mean = |of: &dyn Fn(&Sample) -> f64| half.iter().map(of).sum::<f64>() / count;
    let (at, bytes) = (mean(&|one| one.at), mean(&|one| counted(one)));
    let spread = mean(&|one| (one.at - at).powi(2));
    let bytes_per_second = mean(&|one| (one.at - at) * (counted(one) - bytes)) / spread;
    let whole = samples[samples.len() - 1].at - samples[0].at;
    let share = bytes_per_second * whole / mean(&|one| one.resident);
    Growth { share, bytes_per_second }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(resident: impl Fn(f64) -> f64) -> Vec<Sample> {
        (0..300)
            .map(f64::from)
            .map(|at| Sample { at, resident: resident(at), caches: 0.0, threads: 1 })
            .collect()
    }

    fn growth(samples: &[Sample]) -> Growth {
        super::growth(samples, |one| one.resident)
    }

    #[test]
    fn only_what_the_server_says_is_in_caches_is_taken_off() {
        let told = |parts: &[&str]| {
            let name = |part| format!("stemedb_index_memory_bytes{{part=\"{part}\"}}");
            parts.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0]).map(|(part, n)| (name(part), n)).collect()
        };
        let all = ["blocks", "names", "questions", "answers", "write_buffers"];
        assert_eq!(in_caches(&told(&all)), Some(15.0));
        assert_eq!(in_caches(&told(&all[1..])), None, "of another build");

        let filling: Vec<Sample> = samples(|at| 100.0 + at / 10.0)
            .into_iter()
            .map(|one| Sample { caches: 50.0 + one.at / 10.0, ..one })
            .collect();
        let outside = |samples: &[Sample]| super::growth(samples, Sample::outside);
        assert!(growth(&filling).share > 0.2);
        assert!(outside(&filling).share.abs() < 1e-9, "{:?}", outside(&filling));
        // A leak is one beside a cache that fills, and of one that says too little.
        let leaking: Vec<Sample> = filling
            .iter()
            .map(|one| Sample { resident: one.resident + one.at / 20.0, ..*one })
            .collect();
        assert!(outside(&leaking).share > 0.08, "{:?}", outside(&leaking));
    }

    #[test]
    fn a_leak_is_growth_and_a_cache_that_is_full_is_not() {
        let leak = growth(&samples(|at| 100.0 + at / 10.0));
        assert!((0.2..0.3).contains(&leak.share), "{leak:?}");
        assert!((leak.bytes_per_second - 0.1).abs() < 1e-9, "{leak:?}");
        let cache = growth(&samples(|at| 100.0 + at.min(100.0)));
        assert!(cache.share.abs() < 1e-9, "{cache:?}");
        let noise = growth(&samples(|at| 100.0 + at % 7.0));
        assert!(noise.share.abs() < 0.01, "{noise:?}");
        assert!(growth(&samples(|at| 100.0 - at / 10.0)).share < -0.2);
        assert_eq!(growth(&samples(|_| 1.0)[..4]), Growth::default());
    }

    #[test]
    fn a_thread_may_be_called_anything() {
        let line = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 100 0 20 0 9";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let expected = ("a) b (c".to_owned(), 300.0 / ticks, 100.0 / ticks);
        assert_eq!(stat(line), Some(expected));
    }

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        assert!(resident(pid).unwrap() > 1e6);
        assert!(threads(pid).unwrap() >= 1);
        let before = Spent::of(pid).unwrap();
        let (begun, mut after) = (Instant::now(), before.clone());
        // Others may want the processors.
        while after.since(&before) < 0.2 && begun.elapsed() < Duration::from_secs(30) {
            (0..1_000_000).for_each(|_| std::hint::spin_loop());
            after = Spent::of(pid).unwrap();
        }
        assert!(after.since(&before) >= 0.2);
        let threads: f64 = after.by_thread(&before).iter().map(|(_, seconds)| seconds).sum();
        assert!(threads > 0.05);
        assert!(after.since(&after) == 0.0 && after.children() >= 0.0);
        assert!(Rest::now().unwrap().idle > 0.0);
    }
}
