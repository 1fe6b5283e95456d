//! Several requests at once: a store answers many as quickly as one.

use std::sync::Mutex;
use std::sync::PoisonError;

/// Calls `work` for every item, `threads` at a time, and gives the results in the order of the
/// items. After an error no further item is begun; the first one in order is told.
pub(crate) fn each<T: Sync, R: Send, E: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = Mutex::new((0, false));
    let results = Mutex::new(Vec::new());
    let take = || {
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.0;
        next.0 += 1;
        (!next.1).then_some(at)
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while let Some((at, item)) = take().and_then(|at| Some((at, items.get(at)?))) {
                    let result = work(item);
                    if result.is_err() {
                        next.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::each;

    #[test]
    fn results_are_in_order_and_the_first_error_is_told() {
        let items: Vec<u32> = (0..100).collect();
        let doubled = each(&items, 7, |item| Ok::<_, u32>(item * 2)).unwrap();
        assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        let failed = each(&items, 7, |item| if *item == 30 { Err(*item) } else { Ok(()) });
        assert_eq!(failed, Err(30));
        assert_eq!(each(&[], 7, |_: &u32| Ok::<(), ()>(())), Ok(vec![]));
    }
}
