//! How many may do a thing at once, a number that can change meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many at once.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Debug)]
struct Size {
    most: usize,
    /// Taken, and to go when they are given back: there were more when they were taken.
    surplus: usize,
}

/// One of them, while it lives.
#[derive(Debug)]
pub(crate) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    slots: Arc<Slots>,
}

impl Slots {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let size = Mutex::new(Size { most, surplus: 0 });
        Arc::new(Self { free: Arc::new(Semaphore::new(most)), size })
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn most(&self) -> usize {
        self.size().most
    }

    /// Another number from now on. Who has one keeps it, also where there are too many now.
    pub(crate) fn set(&self, most: usize) {
        let mut size = self.size();
        if let Some(more) = most.checked_sub(size.most) {
            let kept = more.min(size.surplus);
            size.surplus -= kept;
            self.free.add_permits(more - kept);
        } else {
            let fewer = size.most - most;
            size.surplus += fewer - self.free.forget_permits(fewer);
        }
        size.most = most;
    }

    /// One if one is free.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Slot { permit: Some(permit), slots: Arc::clone(self) })
    }

    /// One as soon as one is free, to each in turn.
    pub(crate) async fn take(self: &Arc<Self>) -> Slot {
        // Nobody closes it.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Slot { permit, slots: Arc::clone(self) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        // Held until it is given back: else a number that changes now would count it as taken.
        let mut size = self.slots.size();
        if size.surplus > 0 {
            size.surplus -= 1;
            permit.forget();
        } else {
            drop(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all that are free.
    fn all(slots: &Arc<Slots>) -> Vec<Slot> {
        std::iter::from_fn(|| slots.try_take()).collect()
    }

    #[test]
    fn as_many_as_there_are_and_no_more() {
        let slots = Slots::new(2);
        let mut held = all(&slots);
        assert_eq!(held.len(), 2);
        held.pop();
        assert_eq!(all(&slots).len(), 1);
    }

    #[test]
    fn more_are_there_at_once_and_fewer_when_they_are_given_back() {
        let slots = Slots::new(2);
        let mut held = all(&slots);
        slots.set(5);
        held.extend(all(&slots));
        assert_eq!((held.len(), slots.most()), (5, 5));
        // One is free: that goes at once, and two when they are given back.
        held.pop();
        slots.set(2);
        assert_eq!(all(&slots).len(), 0);
        held.truncate(2);
        assert_eq!(all(&slots).len(), 0, "two are held, and there are two");
        held.pop();
        assert_eq!(all(&slots).len(), 1);
        drop(held);
        assert_eq!(all(&slots).len(), 2);
    }

    #[test]
    fn what_was_to_go_stays_where_the_number_grows_again() {
        let slots = Slots::new(4);
        let held = all(&slots);
        slots.set(1);
        slots.set(3);
        assert_eq!(all(&slots).len(), 0);
        drop(held);
        assert_eq!(all(&slots).len(), 3);
        slots.set(4);
        assert_eq!(all(&slots).len(), 4);
    }

    #[tokio::test]
    async fn who_waits_is_let_in_by_a_larger_number() {
        let slots = Slots::new(1);
        let held = slots.take().await;
        let waiting = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.take().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        slots.set(2);
        let second = waiting.await.unwrap();
        slots.set(1);
        drop(held);
        assert!(slots.try_take().is_none(), "the second has the only one");
        drop(second);
        assert_eq!(all(&slots).len(), 1);
    }
}
