//! How many connections each address has, so that one does not have all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of all addresses.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: AtomicUsize,
    /// Only those that have one.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection of an address, while it lives.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    /// At most so many of each.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: AtomicUsize::new(most), open: Mutex::default() })
    }

    /// Another number from now on. Who has more keeps them.
    pub(crate) fn set(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// `None` if the address has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.most.load(Ordering::Relaxed) {
            return None;
        }
        *count += 1;
        Some(Place { crowd: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.crowd.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_allowed_and_nothing_stays() {
        let crowd = Crowd::new(2);
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let same: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let first = crowd.enter(one).unwrap();
        let _second = crowd.enter(same).unwrap();
        assert!(crowd.enter(one).is_none());
        assert!(crowd.enter("192.0.2.2".parse().unwrap()).is_some());
        drop(first);
        let _third = crowd.enter(one).unwrap();
        assert!(crowd.enter(same).is_none());
        assert_eq!(crowd.open.lock().unwrap().len(), 1);
        crowd.set(3);
        let _fourth = crowd.enter(one).unwrap();
        crowd.set(1);
        assert!(crowd.enter(one).is_none());
    }
}
