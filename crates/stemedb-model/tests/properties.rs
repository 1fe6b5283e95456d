//! What holds for all records, tried on many.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use std::sync::Arc;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use stemedb_model::cbor;
use stemedb_model::*;
use support::*;
use unicode_normalization::UnicodeNormalization;

/// Text of one line, in NFC, at least one byte.
fn line(chars: usize) -> impl Strategy<Value = Arc<str>> {
    let text = vec(any::<char>().prop_filter("control", |c| !c.is_control()), 1..chars);
    text.prop_map(|chars| chars.into_iter().nfc().collect::<String>().into())
}

fn lines() -> impl Strategy<Value = Arc<str>> {
    (vec(line(20), 0..3), select(vec!["\n", "\t", "\r\n"]))
        .prop_map(|(lines, between)| lines.join(between).nfc().collect::<String>().into())
}

fn ids() -> impl Strategy<Value = RecordId> {
    any::<[u8; 32]>().prop_map(RecordId)
}

fn hashes() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn agents() -> impl Strategy<Value = AgentId> {
    any::<[u8; 32]>().prop_map(AgentId)
}

fn times() -> impl Strategy<Value = Millis> {
    any::<i64>().prop_map(Millis)
}

fn subjects() -> impl Strategy<Value = Subject> {
    line(40).prop_map(|text| subject(&text))
}

fn predicates() -> impl Strategy<Value = PredicateName> {
    line(40).prop_map(|text| predicate(&text))
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), Just(-0.0), Just(1e300), -1e3..1e3]
        .prop_filter("finite", |number| number.is_finite())
}

fn classes() -> impl Strategy<Value = SourceClass> {
    select(SourceClass::ALL.to_vec())
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        lines().prop_map(Value::Text),
        (finite(), of(line(10))).prop_map(|(value, unit)| Value::Number { value, unit }),
        any::<bool>().prop_map(Value::Boolean),
        times().prop_map(Value::Time),
        prop_oneof![-300i64..300, Just(i64::MAX), Just(i64::MIN)]
            .prop_map(|at| Value::Time(Millis(at))),
        subjects().prop_map(Value::Reference),
    ]
}

fn source_keys() -> impl Strategy<Value = SourceKey> {
    prop_oneof![hashes().prop_map(SourceKey::Evidence), line(30).prop_map(SourceKey::Uri)]
}

fn assertions() -> impl Strategy<Value = Assertion> {
    let source = (of(line(40)), of(hashes()), classes()).prop_map(|(uri, evidence, class)| {
        let class = (uri.is_none() || evidence.is_none()).then_some(class);
        Provenance { uri, evidence, class }
    });
    let says = (subjects(), predicates(), values(), 0.0..=1.0, of(source));
    let validity = prop_oneof![
        (of(times()), Just(None)),
        (Just(None), of(times())),
        (-1_000_000i64..0, 0i64..1_000_000)
            .prop_map(|(from, to)| (Some(Millis(from)), Some(Millis(to)))),
    ];
    let state = select(LifecycleState::ALL.to_vec());
    let links = (of(ids()), state, of(ids()), btree_set(ids(), 0..6));
    let vector = of(vec((-1e9f32..1e9).prop_map(f32::to_le_bytes), 1..9));
    let more = (vector, of(any::<[u8; 8]>()), btree_map(line(9), lines(), 0..5));
    (says, validity, links, more).prop_map(|(says, (valid_from, valid_to), links, more)| {
        let (subject, predicate, object, confidence, source) = says;
        let (epoch, lifecycle, parent, derived_from) = links;
        let (vector, visual_hash, meta) = more;
        let derived_from = derived_from.into_iter().collect();
        let vector = vector.map(|numbers| numbers.concat().into());
        Assertion {
            subject,
            predicate,
            object,
            confidence,
            source,
            valid_from,
            valid_to,
            epoch,
            lifecycle,
            parent,
            derived_from,
            vector,
            visual_hash,
            meta,
        }
    })
}

fn predicate_records() -> impl Strategy<Value = Predicate> {
    let factor = finite().prop_filter("not 0", |factor| *factor != 0.0);
    let conversions = btree_map(line(9), (factor, finite()), 0..4);
    let bound = || of(0.0..1e9);
    let tolerance = of((bound(), bound()))
        .prop_map(|bounds| bounds.filter(|(a, b)| a.is_some() || b.is_some()));
    let cardinality = select(Cardinality::ALL.to_vec());
    let fields = (predicates(), cardinality, any::<bool>(), of(line(9)));
    let more = (conversions, tolerance, btree_set(predicates(), 0..4), of(1u64..1 << 53));
    (fields, more).prop_map(|((name, cardinality, typed, unit), more)| {
        let (conversions, tolerance, mut opposites, half_life) = more;
        opposites.remove(&name);
        let conversion =
            |(unit, (multiply, add)): (Arc<str>, (f64, f64))| Conversion { unit, multiply, add };
        let mut conversions: Vec<_> = conversions.into_iter().map(conversion).collect();
        conversions.retain(|item| unit.as_ref().is_some_and(|unit| *unit != item.unit));
        Predicate {
            name,
            cardinality,
            value_type: typed.then_some(ValueType::Number),
            unit,
            conversions,
            tolerance: tolerance.map(|(absolute, relative)| Tolerance { absolute, relative }),
            opposites: opposites.into_iter().collect(),
            half_life,
        }
    })
}

/// `agent` is the author, whom some bodies must name.
fn bodies(agent: AgentId) -> impl Strategy<Value = Body> {
    let reason = || of(lines());
    let mode = of((ids(), select(EpochMode::ALL.to_vec())));
    let register = (of(line(30)), classes(), of(line(30)), btree_set(select(&Role::ALL[..]), 0..4))
        .prop_map(|(name, ceiling, operator, roles)| {
            let roles = roles.into_iter().collect();
            AgentAct::Register { name, ceiling, operator, roles }
        });
    let replace = any::<[u8; 64]>().prop_map(move |consent| AgentAct::Replace {
        replaces: agent,
        consent: Signature(consent),
    });
    let revoke =
        (1..=u64::MAX).prop_map(|position| AgentAct::Revoke { from_position: Position(position) });
    let acts = prop_oneof![register, replace, revoke];
    let ties = select(TieRule::ALL.to_vec());
    let ties = vec(ties, 0..4).prop_map(|mut ties| {
        ties.sort_by_key(|rule| rule.as_str());
        ties.dedup();
        ties
    });
    let filter = of("[a-z ]{1,30}");
    let lens = (line(20), 1..=u64::MAX, filter, "[a-z ]{1,30}", any::<bool>(), ties);
    let target = prop_oneof![
        ids().prop_map(RetractTarget::Record),
        source_keys().prop_map(RetractTarget::Source)
    ];
    prop_oneof![
        Just(Body::Genesis(Genesis { format: 1, root: agent })),
        assertions().prop_map(Body::Assertion),
        assertions().prop_map(Body::Assertion),
        ids().prop_map(|assertion| Body::Cosign(Cosign { assertion })),
        (ids(), -1.0..=1.0).prop_map(|(assertion, weight)| Body::Vote(Vote { assertion, weight })),
        (line(30), reason(), mode).prop_map(|(name, description, supersedes)| {
            Body::Epoch(Epoch { name, description, supersedes })
        }),
        (btree_set(source_keys(), 1..5), classes(), of(line(30))).prop_map(
            |(keys, class, title)| {
                Body::Source(Source { keys: keys.into_iter().collect(), class, title })
            }
        ),
        (target, reason()).prop_map(|(target, reason)| Body::Retract(Retract { target, reason })),
        (ids(), ids(), reason()).prop_map(|(old, new, reason)| Body::Supersede(Supersede {
            old,
            new,
            reason
        })),
        predicate_records().prop_map(Body::Predicate),
        (subjects(), subjects())
            .prop_filter("two", |(subject, other)| subject != other)
            .prop_map(|(subject, other)| Body::Alias(Alias { subject, other })),
        (agents(), acts).prop_map(|(key, act)| Body::Agent(Agent { key, act })),
        lens.prop_map(|(name, version, filter, weight, sum, ties)| {
            let aggregate = if sum { Aggregate::Sum } else { Aggregate::Max };
            let (filter, weight) = (filter.map(Arc::from), weight.into());
            Body::Lens(Lens { name, version, filter, weight, aggregate, ties })
        }),
        (subjects(), predicates(), values()).prop_map(|(subject, predicate, object)| {
            Body::Gold(Gold { subject, predicate, object })
        }),
        (1..=u64::MAX, hashes(), hashes()).prop_map(|(position, config, table)| {
            let input_position = Position(position);
            Body::TrustSnapshot(TrustSnapshot { input_position, config, table })
        }),
        (ids(), select(LifecycleState::ALL.to_vec()), reason()).prop_map(
            |(assertion, state, reason)| Body::Lifecycle(Lifecycle { assertion, state, reason })
        ),
    ]
}

fn records() -> impl Strategy<Value = Record> {
    let agent = key(1).agent_id();
    ("[a-z0-9._-]{1,64}", times(), any::<[u8; 16]>(), bodies(agent)).prop_map(
        move |(space, at, log_id, body)| {
            let log_id = record(body.clone()).log_id.map(|_| LogId(log_id));
            Record { space: Space::parse(&space).unwrap(), agent, at, log_id, body }
        },
    )
}

/// Walks all maps of a record: keys strictly ascending, shorter first.
fn maps_in_order(item: cbor::Item<'_>) -> bool {
    match item {
        cbor::Item::Map(count, mut pairs) => {
            let mut last: Option<&str> = None;
            (0..count).all(|_| {
                let key = pairs.key().unwrap();
                let before = last.replace(key);
                let ordered = before.is_none_or(|before| {
                    (before.len(), before.as_bytes()) < (key.len(), key.as_bytes())
                });
                ordered && maps_in_order(pairs.item(4).unwrap())
            })
        }
        cbor::Item::List(count, mut items) => {
            (0..count).all(|_| maps_in_order(items.item(4).unwrap()))
        }
        _ => true,
    }
}

proptest! {
    #[test]
    fn decode_undoes_encode(record in records()) {
        let bytes = record.encode();
        prop_assert_eq!(record.validate(), Ok(()));
        let decoded = Record::decode(&bytes);
        prop_assert_eq!(decoded.as_ref(), Ok(&record));
        prop_assert_eq!(decoded.unwrap().encode(), bytes.clone());
        prop_assert_eq!(Record::decode_trusted(&bytes), Ok(record));
        prop_assert!(maps_in_order(cbor::Reader::new(&bytes).item(4).unwrap()));
    }

    /// Whatever becomes of a byte: it is refused, or it is another record with another id.
    #[test]
    fn no_two_byte_strings_are_one_record(
        record in records(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let bytes = record.encode();
        let mut changed = bytes.clone();
        let at = at.index(bytes.len());
        changed[at] ^= flip;
        if let Ok(other) = Record::decode(&changed) {
            prop_assert_ne!(&other, &record);
            prop_assert_ne!(other.id(), record.id());
            prop_assert_eq!(other.encode(), changed);
        }
    }

    #[test]
    fn decoding_never_panics(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Record::decode(&bytes);
        let _ = Record::decode_trusted(&bytes);
        let _ = Value::from_canonical_bytes(&bytes);
    }

    /// Half a record, then anything: deeper into the decoder than random bytes come.
    #[test]
    fn decoding_damage_never_panics(
        record in records(),
        at in any::<prop::sample::Index>(),
        cut in 0usize..8,
        damage in vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = record.encode();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + cut);
        bytes.splice(at..end, damage);
        if let Ok(other) = Record::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        } else {
            let _ = Record::decode_trusted(&bytes);
        }
    }

    #[test]
    fn values_order_as_their_bytes(a in values(), b in values()) {
        let (a_bytes, b_bytes) = (a.canonical_bytes(), b.canonical_bytes());
        prop_assert_eq!(a.cmp(&b), a_bytes.cmp(&b_bytes));
        prop_assert_eq!(a == b, a_bytes == b_bytes);
        prop_assert_eq!(Value::from_canonical_bytes(&a_bytes), Ok(a));
    }
}

/// Every bit of every sample, so that no byte of the format is left to luck.
#[test]
fn every_flipped_bit_is_refused_or_another_record() {
    for (name, record) in samples() {
        let bytes = record.encode();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = Record::decode(&changed) {
                assert_ne!(other, record, "{name}, bit {bit}");
                assert_eq!(other.encode(), changed, "{name}, bit {bit}");
            }
        }
    }
}

/// Cut anywhere, a record is refused.
#[test]
fn every_prefix_is_refused() {
    for (name, record) in samples() {
        let bytes = record.encode();
        for len in 0..bytes.len() {
            assert!(Record::decode(&bytes[..len]).is_err(), "{name}, {len} bytes");
            assert!(Record::decode_trusted(&bytes[..len]).is_err(), "{name}, {len} bytes");
        }
    }
}

/// The order of values at its corners, which chance visits rarely: heads of other lengths, units
/// of other lengths, both signs.
#[test]
fn values_order_as_their_bytes_at_the_corners() {
    let number = |value, unit| Value::number(value, unit).unwrap();
    let mut values: Vec<Value> = ["", "b", "aa", &"a".repeat(23), &"a".repeat(24), "é"]
        .map(|text| Value::text(text).unwrap())
        .into();
    for unit in [None, Some("m"), Some("kg"), Some("USD"), Some(&*"m".repeat(300))] {
        values.extend([0.0, -0.0, 1.0, -1.0, 1e300, -1e300, 5e-324].map(|n| number(n, unit)));
    }
    for at in [0, 1, 23, 24, 255, 256, 65_535, 65_536, i64::MAX] {
        values.extend([Value::Time(Millis(at)), Value::Time(Millis(-1 - at))]);
    }
    values.extend([Value::Boolean(true), Value::Boolean(false)]);
    values.extend(["b", "aa"].map(|text| Value::reference(text).unwrap()));
    for a in &values {
        for b in &values {
            let (a_bytes, b_bytes) = (a.canonical_bytes(), b.canonical_bytes());
            assert_eq!(a.cmp(b), a_bytes.cmp(&b_bytes), "{a:?} and {b:?}");
            assert_eq!(a == b, a_bytes == b_bytes, "{a:?} and {b:?}");
        }
    }
}
