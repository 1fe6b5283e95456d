//! Work in parts that do not see each other.

use std::ops::Range;

/// `work` on every unit, by at most `threads` threads; the results in the order of the units.
///
/// `ends[i]` is where unit i begins on a scale of cost and `ends[i + 1]` where it ends. `work` takes
/// a range of units and must not depend on how they are split: then neither does the result.
pub(super) fn in_parts<T: Send>(
    threads: usize,
    ends: &[u32],
    work: impl Fn(Range<usize>) -> Vec<T> + Sync,
) -> Vec<T> {
    let units = ends.len().saturating_sub(1);
    let threads = threads.clamp(1, units.max(1));
    if threads == 1 {
        return work(0..units);
    }
    let (first, last) = (u64::from(ends[0]), u64::from(ends[units]));
    let mut bounds = vec![0];
    for part in 1..threads as u64 {
        let cost = first + (last - first) * part / threads as u64;
        let at = ends.partition_point(|end| u64::from(*end) < cost).min(units);
        bounds.push(at.max(bounds[bounds.len() - 1]));
    }
    bounds.push(units);
    std::thread::scope(|scope| {
        let running: Vec<_> = bounds
            .windows(2)
            .map(|bound| {
                let (range, work) = (bound[0]..bound[1], &work);
                scope.spawn(move || work(range))
            })
            .collect();
        let mut all = Vec::new();
        for part in running {
            match part.join() {
                Ok(results) => all.extend(results),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}
