//! Small ordered sets.

use std::collections::BTreeSet;

/// A set that is never empty. Most sources and voices have one claim, which needs no tree.
#[derive(Debug, Clone)]
pub(crate) enum Ranked<T> {
    One(T),
    Many(BTreeSet<T>),
}

impl<T: Ord> Ranked<T> {
    pub(crate) fn first(&self) -> Option<&T> {
        match self {
            Self::One(item) => Some(item),
            Self::Many(items) => items.first(),
        }
    }

    pub(crate) fn insert(&mut self, item: T) {
        match self {
            Self::One(only) if *only == item => {}
            Self::One(_) => {
                let Self::One(only) = std::mem::replace(self, Self::Many(BTreeSet::new())) else {
                    return;
                };
                *self = Self::Many(BTreeSet::from([only, item]));
            }
            Self::Many(items) => {
                items.insert(item);
            }
        }
    }

    /// `true` if nothing is left: the caller drops the set, which is then stale.
    pub(crate) fn remove(&mut self, item: &T) -> bool {
        match self {
            Self::One(only) => *only == *item,
            Self::Many(items) => {
                items.remove(item);
                items.is_empty()
            }
        }
    }

    pub(crate) fn for_each(&self, each: impl FnMut(&T)) {
        match self {
            Self::One(item) => std::iter::once(item).for_each(each),
            Self::Many(items) => items.iter().for_each(each),
        }
    }
}

/// Equal sets are equal, whatever they grew from.
impl<T: PartialEq> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(a), Self::One(b)) => a == b,
            (Self::Many(a), Self::Many(b)) => a == b,
            (Self::One(one), Self::Many(many)) | (Self::Many(many), Self::One(one)) => {
                many.len() == 1 && many.iter().next() == Some(one)
            }
        }
    }
}

impl<T: Eq> Eq for Ranked<T> {}
