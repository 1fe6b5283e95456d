//! Positions that a repair of the log gave up.

use stemedb_model::Position;

use crate::bytes::{Malformed, Reader, push_varint};

/// Ranges of positions that hold no record any more: ascending, and none touches the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lost(Vec<(Position, Position)>);

impl Lost {
    /// From ranges in ascending order; those that touch become one.
    pub fn new(ranges: impl IntoIterator<Item = (Position, Position)>) -> Self {
        let mut lost = Self::default();
        for (first, last) in ranges {
            lost.add(first, last);
        }
        lost
    }

    /// Adds a range behind all others.
    pub(crate) fn add(&mut self, first: Position, last: Position) {
        match self.0.last_mut() {
            Some(newest) if newest.1.next() >= first => newest.1 = newest.1.max(last),
            _ => self.0.push((first, last)),
        }
    }

    /// First and last position of each range.
    pub fn ranges(&self) -> &[(Position, Position)] {
        &self.0
    }

    /// The range that `position` is in.
    pub fn at(&self, position: Position) -> Option<(Position, Position)> {
        let after = self.0.partition_point(|(first, _)| *first <= position);
        let range = self.0.get(after.checked_sub(1)?)?;
        (position <= range.1).then_some(*range)
    }

    /// Whether anything up to `position` is lost.
    pub fn any_up_to(&self, position: Position) -> bool {
        self.0.first().is_some_and(|(first, _)| *first <= position)
    }

    /// What of it lies at or before `position`.
    #[must_use]
    pub fn up_to(&self, position: Position) -> Self {
        let ranges = self.0.iter().filter(|(first, _)| *first <= position);
        Self(ranges.map(|(first, last)| (*first, (*last).min(position))).collect())
    }

    /// The newest position at or before `position` that holds a record.
    pub fn record_at(&self, position: Position) -> Position {
        match self.at(position) {
            Some((first, _)) => Position(first.0.saturating_sub(1)),
            None => position,
        }
    }

    /// The row `lost` of `meta`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        for (first, last) in &self.0 {
            push_varint(out, first.0);
            push_varint(out, last.0.saturating_sub(first.0));
        }
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(row);
        let mut lost = Self::default();
        while !reader.rest().is_empty() {
            let first = reader.varint()?;
            let last = first.checked_add(reader.varint()?).ok_or(Malformed)?;
            let behind = lost.0.last().is_none_or(|(_, newest)| newest.next().0 < first);
            if first == 0 || !behind {
                return Err(Malformed);
            }
            lost.0.push((Position(first), Position(last)));
        }
        Ok(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let p = Position;
        let lost = Lost::new([(p(3), p(4)), (p(5), p(5)), (p(9), p(12))]);
        assert_eq!(lost.ranges(), [(p(3), p(5)), (p(9), p(12))]);
        let at = |n| lost.at(p(n)).map(|(first, last)| (first.0, last.0));
        assert_eq!(
            [2, 3, 5, 6, 9, 12, 13].map(at),
            [None, Some((3, 5)), Some((3, 5)), None, Some((9, 12)), Some((9, 12)), None]
        );
        assert_eq!([2, 3, 5, 6, 12].map(|n| lost.record_at(p(n)).0), [2, 2, 2, 6, 8]);
        assert_eq!([2, 3, 99].map(|n| lost.any_up_to(p(n))), [false, true, true]);
        assert_eq!(lost.up_to(p(10)).ranges(), [(p(3), p(5)), (p(9), p(10))]);
        assert_eq!(lost.up_to(p(2)), Lost::default());
    }

    #[test]
    fn the_row_comes_back_and_nonsense_does_not() {
        let lost = Lost::new([(Position(3), Position(5)), (Position(300), Position(70_000))]);
        let mut row = Vec::new();
        lost.encode(&mut row);
        assert_eq!(row, [0x03, 0x02, 0xac, 0x02, 0xc4, 0xa0, 0x04]);
        assert_eq!(Lost::decode(&row), Ok(lost));
        // From 0; touching the one before; backwards; past the end of numbers; cut.
        let mut beyond = vec![0xff; 9];
        beyond.extend([1, 1]);
        for row in [&[0, 1][..], &[3, 2, 6, 1], &[10, 0, 3, 0], &beyond, &[3]] {
            assert_eq!(Lost::decode(row), Err(Malformed), "{row:?}");
        }
    }
}
