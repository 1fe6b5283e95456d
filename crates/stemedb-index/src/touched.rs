//! Which keys something was recorded about since the index was opened: so that what is kept of a key
//! need not be compared with the tables when nothing was.

use std::sync::atomic::{AtomicU64, Ordering};

use stemedb_model::Position;

use crate::format::{Table, parse_pair};

/// 2 MiB of them. Keys share them: a key that shares one with a busy key is compared for nothing.
const SLOTS_LOG2: u32 = 18;

/// The newest position of a row, by slot. Written by the one that applies, before readers can have a
/// snapshot that shows the row: they take it out of a lock that the writer puts it into.
pub(crate) struct Touched(Box<[AtomicU64]>);

impl Touched {
    pub(crate) fn new() -> Self {
        Self((0..1_u64 << SLOTS_LOG2).map(|_| AtomicU64::new(0)).collect())
    }

    /// A row is added to a table whose keys are pairs of a number and a position.
    pub(crate) fn mark(&self, table: Table, row: &[u8]) {
        if let Some((number, position)) = parse_pair(row)
            && let Some(slot) = self.slot(table, number)
        {
            slot.fetch_max(position.0, Ordering::Relaxed);
        }
    }

    /// Whether there may be a row of this number behind `since`. `since` must not be older than the
    /// opening of the index.
    pub(crate) fn since(&self, table: Table, number: u64, since: Position) -> bool {
        self.slot(table, number).is_none_or(|slot| slot.load(Ordering::Relaxed) > since.0)
    }

    fn slot(&self, table: Table, number: u64) -> Option<&AtomicU64> {
        // Numbers of keys and positions of assertions are dense, and their slots are not to march in step.
        let salted = number ^ ((table as u64) << 56);
        let hash = salted.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOTS_LOG2);
        self.0.get(usize::try_from(hash).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pair_key;

    #[test]
    fn a_row_is_seen_from_positions_before_it() {
        let touched = Touched::new();
        touched.mark(Table::Claims, &pair_key(7, Position(40)));
        assert!(touched.since(Table::Claims, 7, Position(39)));
        assert!(!touched.since(Table::Claims, 7, Position(40)));
        // Of another number or another table.
        assert!(!touched.since(Table::Claims, 8, Position(39)));
        assert!(!touched.since(Table::Facts, 7, Position(39)));
        // An older one takes nothing back.
        touched.mark(Table::Claims, &pair_key(7, Position(3)));
        assert!(touched.since(Table::Claims, 7, Position(39)));
    }

    #[test]
    fn dense_numbers_have_slots_of_their_own() {
        let touched = Touched::new();
        for number in 0..1_000 {
            touched.mark(Table::Claims, &pair_key(number, Position(1)));
        }
        let shared = (1_000..101_000)
            .filter(|number| touched.since(Table::Claims, *number, Position::NONE))
            .count();
        assert!(shared < 1_000, "{shared} of 100,000 share one of 1,000 slots");
    }
}
