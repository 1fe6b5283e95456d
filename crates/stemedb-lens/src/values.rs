//! Step 3: when two claims claim the same value.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use stemedb_model::{Millis, Predicate, PredicateName, Tolerance, Value};

use crate::lookup::Lookup;

/// Bytes of memory of a value beside the value itself. Copies share them.
pub(crate) fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Number { unit, .. } => unit.as_ref().map_or(0, |unit| unit.len()),
        Value::Reference(subject) => subject.as_str().len(),
        Value::Boolean(_) | Value::Time(_) => 0,
    }
}

/// Brings claimed values into the form in which they are compared and shown.
pub(crate) struct Canon<'a> {
    lookup: &'a Lookup,
    asked: Option<Arc<Predicate>>,
}

impl<'a> Canon<'a> {
    pub(crate) fn new(lookup: &'a Lookup, asked: &PredicateName) -> Self {
        let asked = lookup.registry().predicate(lookup.space(), asked, lookup.as_of());
        Self { lookup, asked }
    }

    /// The value of a claim made under `predicate`: the key's own, or an opposite with a unit of
    /// its own.
    pub(crate) fn value(&self, value: &Value, opposite: Option<&PredicateName>) -> Value {
        match value {
            Value::Number { value, unit } => {
                let opposite = opposite.and_then(|name| {
                    let lookup = self.lookup;
                    lookup.registry().predicate(lookup.space(), name, lookup.as_of())
                });
                let (value, unit) = convert(*value, unit.clone(), opposite.as_deref());
                let (value, unit) = convert(value, unit, self.asked.as_deref());
                Value::Number { value, unit }
            }
            Value::Reference(subject) => {
                let lookup = self.lookup;
                let registry = lookup.registry();
                Value::Reference(registry.canonical_subject(
                    lookup.space(),
                    subject,
                    lookup.as_of(),
                ))
            }
            Value::Text(_) | Value::Boolean(_) | Value::Time(_) => value.clone(),
        }
    }

    pub(crate) fn tolerance(&self) -> Option<Tolerance> {
        self.asked.as_ref().and_then(|predicate| predicate.tolerance)
    }

    pub(crate) fn half_life(&self) -> Option<u64> {
        self.asked.as_ref().and_then(|predicate| predicate.half_life)
    }

    /// What tolerance may take this value for another's: the kind of line it lies on, and where.
    fn place(&self, value: &Value) -> Option<Place> {
        match value {
            Value::Number { value, unit } => {
                let unit_of_predicate = self.asked.as_ref().and_then(|asked| asked.unit.as_ref());
                (unit.as_ref() == unit_of_predicate).then_some(Place::Number(*value))
            }
            Value::Time(at) => Some(Place::Time(*at)),
            Value::Text(_) | Value::Boolean(_) | Value::Reference(_) => None,
        }
    }
}

/// A number in the unit of `predicate` if that knows how, with that unit; else as it is.
fn convert(
    value: f64,
    unit: Option<Arc<str>>,
    predicate: Option<&Predicate>,
) -> (f64, Option<Arc<str>>) {
    // Adding 0 turns -0 into 0: one value, not two.
    let value = value + 0.0;
    let Some(predicate) = predicate else { return (value, unit) };
    if unit.is_none() || unit == predicate.unit {
        return (value, predicate.unit.clone());
    }
    let known = predicate.conversions.iter().find(|known| Some(&known.unit) == unit.as_ref());
    let converted = known.map(|known| {
        // Two roundings, never a fused one: every machine must get the same bits.
        let scaled = value * known.multiply;
        scaled + known.add + 0.0
    });
    match converted {
        Some(converted) if converted.is_finite() => (converted, predicate.unit.clone()),
        _ => (value, unit),
    }
}

#[derive(Clone, Copy)]
enum Place {
    Number(f64),
    Time(Millis),
}

impl Place {
    /// The line it lies on, and an integer that grows with it.
    fn rank(self) -> (u8, i64) {
        match self {
            Self::Number(value) => (0, order(value)),
            Self::Time(at) => (1, at.0),
        }
    }

    /// The ranks within `tolerance` of it, bounds included.
    fn reach(self, tolerance: Tolerance) -> ((u8, i64), (u8, i64)) {
        let absolute = tolerance.absolute.unwrap_or(0.0).max(0.0);
        match self {
            Self::Number(centre) => {
                let relative = tolerance.relative.unwrap_or(0.0).max(0.0) * centre.abs();
                let reach = absolute.max(relative);
                // + 0.0: a bound of -0 is 0.
                ((0, order(centre - reach + 0.0)), (0, order(centre + reach + 0.0)))
            }
            Self::Time(at) => {
                // A fraction of the years since 1970 means nothing, so only the absolute bound
                // counts. The cast rounds down and saturates.
                let reach = absolute as u64;
                ((1, at.0.saturating_sub_unsigned(reach)), (1, at.0.saturating_add_unsigned(reach)))
            }
        }
    }
}

/// The bits of a number that is not NaN, so that they ascend with it.
fn order(value: f64) -> i64 {
    let bits = value.to_bits().cast_signed();
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

/// The group of each exact value, by the index of its centre: itself unless tolerance takes it.
///
/// `support` is undecayed independent support; `None` marks values that nobody asserts (only
/// denies): they join a group but make none. The heaviest value (of equal ones the smaller) takes
/// all within tolerance of it that are not yet taken, then the heaviest of the rest, and so on.
/// Time O(n log n).
pub(crate) fn group(canon: &Canon<'_>, values: &[Value], support: &[Option<u128>]) -> Vec<usize> {
    let mut centre: Vec<usize> = (0..values.len()).collect();
    let Some(tolerance) = canon.tolerance() else { return centre };
    let mut free = BTreeMap::new();
    let mut heaviest_first = Vec::new();
    for (index, (value, support)) in values.iter().zip(support).enumerate() {
        let Some(place) = canon.place(value) else { continue };
        free.insert(place.rank(), index);
        if let Some(support) = support {
            heaviest_first.push((Reverse(*support), place.rank(), index, place));
        }
    }
    heaviest_first.sort_unstable_by_key(|(support, rank, ..)| (*support, *rank));
    for (_, rank, taker, place) in heaviest_first {
        if !free.contains_key(&rank) {
            continue;
        }
        let (from, to) = place.reach(tolerance);
        let taken: Vec<_> = free.range(from..=to).map(|(rank, index)| (*rank, *index)).collect();
        for (rank, index) in taken {
            free.remove(&rank);
            if let Some(centre) = centre.get_mut(index) {
                *centre = taker;
            }
        }
    }
    centre
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_ascends() {
        let ascending = [f64::NEG_INFINITY, -1e300, -1.0, -1e-300, 0.0, 1e-300, 1.0, f64::INFINITY];
        assert!(ascending.windows(2).all(|pair| order(pair[0]) < order(pair[1])));
    }

    #[test]
    fn bounds_are_included() {
        let tolerance = |absolute, relative| Tolerance { absolute, relative };
        for (centre, tolerance, other, within) in [
            (1.0, tolerance(Some(0.1), None), 1.1, true),
            (1.0, tolerance(Some(0.1), None), 0.9, true),
            (1.0, tolerance(Some(0.1), None), 1.1000000000000003, false),
            (100.0, tolerance(None, Some(0.05)), 95.0, true),
            (-100.0, tolerance(None, Some(0.05)), -105.0, true),
            (-100.0, tolerance(None, Some(0.05)), -105.1, false),
            (100.0, tolerance(Some(1.0), Some(0.05)), 104.0, true),
            (100.0, tolerance(Some(9.0), Some(0.05)), 108.0, true),
            (0.0, tolerance(None, Some(0.5)), 1e-9, false),
            (5.0, tolerance(Some(5.0), None), 0.0, true),
            (f64::MAX, tolerance(None, Some(9.0)), -1.0, true),
        ] {
            let (from, to) = Place::Number(centre).reach(tolerance);
            let found = (from..=to).contains(&Place::Number(other).rank());
            assert_eq!(found, within, "{other} of {centre}");
        }
        let (from, to) = Place::Time(Millis(i64::MAX)).reach(tolerance(Some(1.9), Some(1.0)));
        assert_eq!((from.1, to.1), (i64::MAX - 1, i64::MAX));
    }
}
