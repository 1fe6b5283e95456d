use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// Rows of this position refer to earlier ones.
const POSITION: Position = Position(1 << 40);

fn earlier() -> impl Strategy<Value = Position> {
    prop_oneof![1..POSITION.0, POSITION.0 - 300..POSITION.0].prop_map(Position)
}

fn millis() -> impl Strategy<Value = Millis> {
    any::<i64>().prop_map(Millis)
}

fn object() -> impl Strategy<Value = Value> {
    let number = any::<f64>().prop_filter("finite", |value| value.is_finite());
    prop_oneof![
        ".{0,40}".prop_map(|text: String| Value::Text(text.into())),
        (number, option::of("[a-z]{1,5}")).prop_map(|(value, unit)| Value::Number {
            // The model has no -0.
            value: value + 0.0,
            unit: unit.map(Into::into),
        }),
        any::<bool>().prop_map(Value::Boolean),
        millis().prop_map(Value::Time),
        "[a-z/]{1,20}".prop_map(|subject| Value::Reference(Subject::parse(&subject).unwrap())),
    ]
}

fn source() -> impl Strategy<Value = SourceRow> {
    prop_oneof![
        Just(SourceRow::Agent),
        any::<u64>().prop_map(SourceRow::Evidence),
        any::<u64>().prop_map(SourceRow::Uri),
    ]
}

prop_compose! {
    fn claim()(
        (agent, principal, source) in (any::<u64>(), any::<u64>(), source()),
        (at, recorded_at, valid_from, valid_to) in
            (millis(), millis(), option::of(millis()), option::of(millis())),
        class in option::of(prop::sample::select(&SourceClass::ALL[..])),
        lifecycle in prop::sample::select(&STATES[..]),
        confidence in prop_oneof![Just(1.0), 0.0..1.0],
        (epoch, parent) in (option::of(earlier()), option::of(earlier())),
        premises in vec(earlier(), 0..5),
        object in object(),
    ) -> ClaimRow {
        ClaimRow {
            agent, principal, source, at, recorded_at, class, lifecycle, confidence, valid_from,
            valid_to, epoch, parent, premises: premises.into(), object,
        }
    }
}

prop_compose! {
    fn fact()(
        (target, new) in (earlier(), earlier()),
        (agent, principal, at, recorded_at) in (any::<u64>(), any::<u64>(), millis(), millis()),
        (which, weight) in (0..5, -1.0..1.0),
        state in prop::sample::select(&STATES[..]),
    ) -> FactRow {
        let kind = match which {
            0 => FactKind::Retract,
            1 => FactKind::Supersede { new },
            2 => FactKind::Vote { weight },
            3 => FactKind::Cosign,
            _ => FactKind::Lifecycle { state },
        };
        FactRow { target, agent, principal, at, recorded_at, kind }
    }
}

proptest! {
    #[test]
    fn claims_come_back(claim in claim(), cut in any::<prop::sample::Index>()) {
        let mut row = Vec::new();
        claim.encode(POSITION, &mut row);
        prop_assert!(ClaimsRow::is_claim(&row));
        prop_assert_eq!(ClaimsRow::decode(POSITION, &row), Ok(ClaimsRow::Claim(claim)));
        prop_assert_eq!(ClaimsRow::decode(POSITION, &row[..cut.index(row.len())]), Err(Malformed));
        row.push(0);
        prop_assert_eq!(ClaimsRow::decode(POSITION, &row), Err(Malformed));
    }

    #[test]
    fn facts_come_back(fact in fact(), cut in any::<prop::sample::Index>()) {
        let mut row = Vec::new();
        fact.encode(POSITION, &mut row);
        prop_assert!(!ClaimsRow::is_claim(&row));
        prop_assert_eq!(FactRow::decode(POSITION, &row), Ok(fact));
        prop_assert_eq!(FactRow::decode(POSITION, &row[..cut.index(row.len())]), Err(Malformed));
    }

    #[test]
    fn records_come_back(
        (recorded_at, principal, custodial) in (millis(), any::<u64>(), any::<bool>()),
        idempotency in option::of(any::<[u8; 32]>().prop_map(Hash)),
        bytes in vec(any::<u8>(), 0..50),
    ) {
        let signature = Signature([7; 64]);
        let record =
            RecordRow { recorded_at, principal, custodial, idempotency, signature, bytes: &bytes };
        let mut row = Vec::new();
        record.encode(&mut row);
        prop_assert_eq!(RecordRow::decode(&row), Ok(record));
    }

    /// Whatever the bytes, decoding ends in a row or an error.
    #[test]
    fn any_bytes_are_read_or_refused(row in vec(any::<u8>(), 0..120), position in any::<u64>()) {
        let position = Position(position);
        if let Ok(ClaimsRow::Claim(claim)) = ClaimsRow::decode(position, &row) {
            let references = claim.premises.iter().chain(&claim.epoch).chain(&claim.parent);
            prop_assert!(references.copied().all(|at| Position::NONE < at && at < position));
        }
        let _ = (IdRow::decode(&row), RecordRow::decode(&row));
    }
}

#[test]
fn ids_come_back() {
    let home = Home { assertion: Position(9), key: 300 };
    for (kind, home, bytes) in [
        (Kind::Assertion, Some(Home { assertion: Position(77), key: 300 }), 4),
        (Kind::Vote, Some(home), 5),
        (Kind::Retract, None, 2),
        (Kind::Genesis, None, 2),
    ] {
        let id = IdRow { kind, position: Position(77), home };
        let mut row = Vec::new();
        id.encode(&mut row);
        assert_eq!((IdRow::decode(&row), row.len()), (Ok(id), bytes), "{kind:?}");
    }
    assert_eq!(IdRow::decode(&[15, 1]), Err(Malformed), "no such kind");
}

/// The rows of format 1, to the byte: another one needs another number.
#[test]
fn rows_are_frozen() {
    let claim = ClaimRow {
        agent: 2,
        principal: 1,
        source: SourceRow::Uri(300),
        at: Millis(-1),
        recorded_at: Millis(64),
        class: Some(SourceClass::Clinical),
        lifecycle: LifecycleState::Approved,
        confidence: 0.5,
        valid_from: Some(Millis(1)),
        valid_to: None,
        epoch: Some(Position(4)),
        parent: None,
        premises: [Position(1), Position(3)].into(),
        object: Value::Number { value: 1.0, unit: Some("m".into()) },
    };
    let mut row = Vec::new();
    claim.encode(Position(5), &mut row);
    let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "00b50a0201ac0280018201000000000000e03f02010204020200000000000\
         0f03f016d"
            .replace(' ', "")
    );
}
