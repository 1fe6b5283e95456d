use serde_json::{Value, json};
use stemedb_model::{AgentId, LogId, Millis, RecordId, Signed, SigningKey};

use super::*;
use crate::wire::from_json;

#[path = "../../../../stemedb-model/tests/support/mod.rs"]
pub(in crate::wire) mod support;

fn record_of(json: &str) -> Result<stemedb_model::Record, WireError> {
    match Incoming::parse(json.as_bytes())? {
        Incoming::Fields(draft) => Ok(draft.record(AgentId([9; 32]), Millis(7), support::LOG_ID)),
        Incoming::Bytes(_) => panic!("fields expected"),
    }
}

#[test]
fn every_kind_comes_back_from_its_json() {
    for (name, record) in support::samples() {
        let key = support::key(1);
        let signed = Signed::seal(record.clone(), &key).unwrap();
        let any = AnyRecord::of(&record, signed.id(), signed.signature());
        let json = serde_json::to_string(&any).unwrap();
        let back = record_of(&json).unwrap_or_else(|error| panic!("{name}: {error}\n{json}"));
        assert_eq!(back, record, "{name}\n{json}");
        // The same line inside what an export adds.
        let line = json!({"position": 7, "recorded_at": "2026-01-01T00:00:00Z", "principal": "p",
            "custodial": false, "record": serde_json::from_str::<Value>(&json).unwrap()});
        assert_eq!(record_of(&line.to_string()).unwrap(), record, "{name}");
    }
}

#[test]
fn the_json_of_an_assertion_is_frozen() {
    let (_, record) =
        support::samples().into_iter().find(|(name, _)| *name == "assertion, every field").unwrap();
    let id = RecordId([0xab; 32]);
    let json = serde_json::to_value(AnyRecord::of(&record, id, Signature([0xcd; 64]))).unwrap();
    let expected = json!({
        "kind": "assertion",
        "id": "ab".repeat(32),
        "space": "default",
        "agent": support::key(1).agent_id().to_string(),
        "at": "2025-10-09T08:53:20Z",
        "subject": "drogues/sémaglutide",
        "predicate": "市場規模",
        "object": {"type": "number", "value": -47e6, "unit": "USD"},
        "confidence": 0.85,
        "source": {
            "uri": "https://example.org/trial?id=7",
            "evidence": "e1".repeat(32),
            "class": "clinical"
        },
        "valid_from": "1969-12-31T00:00:00Z",
        "valid_to": "2027-01-15T08:00:00Z",
        "epoch": "04".repeat(32),
        "lifecycle": "under_review",
        "parent": "05".repeat(32),
        "derived_from": ["06".repeat(32), "07".repeat(32)],
        "vector": "0000803e0000c0bf00004040",
        "visual_hash": "0102030405060708",
        "meta": {"run": "12", "a longer key": "line one\nline two", "zz": ""},
        "signature": "cd".repeat(64)
    });
    assert_eq!(json, expected);
}

#[test]
fn objects() {
    use stemedb_model::Value as V;
    for (json, expected) in [
        (r#""rare""#, Ok(V::text("rare").unwrap())),
        ("47e6", Ok(V::number(47e6, None).unwrap())),
        ("-0", Ok(V::number(0.0, None).unwrap())),
        ("true", Ok(V::Boolean(true))),
        (
            r#"{"type":"number","value":47e6,"unit":"USD"}"#,
            Ok(V::number(47e6, Some("USD")).unwrap()),
        ),
        (r#"{"value":"x","type":"text"}"#, Ok(V::text("x").unwrap())),
        (
            r#"{"type":"time","value":"2024-07-01T00:00:00Z"}"#,
            Ok(V::Time(Millis(1_719_792_000_000))),
        ),
        (r#"{"type":"time","value":-1}"#, Ok(V::Time(Millis(-1)))),
        (r#"{"type":"reference","value":"a/b"}"#, Ok(V::reference("a/b").unwrap())),
        // The largest integer below which all fit, the first that does not, and others that do.
        ("9007199254740992", Ok(V::number(9_007_199_254_740_992.0, None).unwrap())),
        ("9007199254740993", Err("integer")),
        ("-9007199254740993", Err("integer")),
        ("9007199254740994", Ok(V::number(9_007_199_254_740_994.0, None).unwrap())),
        ("18446744073709551617", Err("integer")),
        ("100000000000000000000000", Err("integer")),
        ("9007199254740993.0", Ok(V::number(9_007_199_254_740_992.0, None).unwrap())),
        (r#"{"type":"number","value":9007199254740993}"#, Err("integer")),
        ("1e400", Err("too large")),
        (r#"{"type":"number","value":-1e400}"#, Err("too large")),
        ("null", Err("null")),
        ("[1]", Err("array")),
        (r#"{"type":"number","value":"1"}"#, Err("a string")),
        (r#"{"type":"text","value":"x","unit":"USD"}"#, Err("unit")),
        (r#"{"type":"money","value":1}"#, Err("money")),
        (r#"{"type":"text","value":"x","more":1}"#, Err("unknown field `more`")),
        (r#"{"type":"text","value":"x","value":"y"}"#, Err("object.value: is there twice")),
        ("\"a\u{0}\"", Err("control character")),
        (r#""a\u0000""#, Err("U+0000")),
        (r#""e\u0301""#, Err("Normalization Form C")),
        (r#"{"type":"reference","value":""}"#, Err("1 to 512 bytes")),
        ("NaN", Err("expected")),
        ("Infinity", Err("expected")),
    ] {
        let body =
            format!(r#"{{"kind":"assertion","subject":"s","predicate":"p","object":{json}}}"#);
        match (record_of(&body), expected) {
            (Ok(record), Ok(value)) => {
                let Body::Assertion(assertion) = record.body else { panic!("{body}") };
                assert_eq!(assertion.object, value, "{json}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{json}: {error}"),
            (found, expected) => panic!("{json}: {found:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn what_is_refused_names_its_field() {
    let hex64 = "ab".repeat(32);
    let sig = "ab".repeat(64);
    for (json, field, part) in [
        ("", "", "EOF"),
        ("{", "", "EOF"),
        ("[]", "body", "not a JSON object"),
        ("{} x", "", "trailing"),
        ("{}", "kind", "is missing"),
        (r#"{"kind":"claim"}"#, "kind", "expected one of genesis, assertion"),
        (r#"{"kind":"assertion","subject":"s","predicate":"p"}"#, "object", "is missing"),
        (r#"{"kind":"assertion","subject":"s","subject":"t"}"#, "subject", "twice"),
        (
            r#"{"kind":"assertion","subject":"s","predicate":"p","object":1,"colour":1}"#,
            "colour",
            "unknown field",
        ),
        (
            r#"{"kind":"assertion","subject":7,"predicate":"p","object":1}"#,
            "subject",
            "invalid type",
        ),
        (r#"{"kind":"assertion","subject":"","predicate":"p","object":1}"#, "subject", "1 to 512"),
        (
            r#"{"kind":"assertion","subject":"s","predicate":"p\n","object":1}"#,
            "predicate",
            "U+000A",
        ),
        (
            r#"{"kind":"assertion","subject":"s","predicate":"p","object":1,"at":"yesterday"}"#,
            "at",
            "RFC 3339",
        ),
        (
            r#"{"kind":"assertion","subject":"s","predicate":"p","object":1,"at":1.5}"#,
            "at",
            "integer milliseconds",
        ),
        (
            r#"{"kind":"assertion","subject":"s","predicate":"p","object":1,"source":{"class":"best"}}"#,
            "source.class",
            "regulatory",
        ),
        (
            r#"{"kind":"assertion","subject":"s","predicate":"p","object":1,"source":{"evidence":"ab"}}"#,
            "source.evidence",
            "64 hex digits",
        ),
        (
            r#"{"kind":"assertion","subject":"s","predicate":"p","object":1,"visual_hash":"ab"}"#,
            "visual_hash",
            "expected 8",
        ),
        (
            r#"{"kind":"assertion","subject":"s","predicate":"p","object":1,"meta":{"a":"1","a":"2"}}"#,
            "meta",
            "duplicate",
        ),
        (
            r#"{"kind":"assertion","subject":"s","predicate":"p","object":1,"space":"A"}"#,
            "space",
            "a-z",
        ),
        (
            &format!(
                r#"{{"kind":"assertion","subject":"s","predicate":"p","object":1,"agent":"{hex64}"}}"#
            ),
            "signature",
            "is missing",
        ),
        (
            &format!(
                r#"{{"kind":"assertion","subject":"s","predicate":"p","object":1,"signature":"{sig}"}}"#
            ),
            "agent",
            "is missing",
        ),
        (
            &format!(
                r#"{{"kind":"cosign","assertion":"{hex64}","agent":"{hex64}","signature":"{sig}"}}"#
            ),
            "at",
            "is missing",
        ),
        (r#"{"kind":"epoch","name":"e","mode":"replace"}"#, "supersedes", "is missing"),
        (&format!(r#"{{"kind":"epoch","name":"e","supersedes":"{hex64}"}}"#), "mode", "is missing"),
        (r#"{"kind":"retract"}"#, "record", "is missing"),
        (r#"{"kind":"source","class":"expert","keys":[{}]}"#, "keys[0]", "expected"),
        (
            r#"{"kind":"predicate","name":"p","cardinality":"one","conversions":[{"unit":"u"}]}"#,
            "conversions[0].multiply",
            "is missing",
        ),
        (
            &format!(r#"{{"kind":"retract","record":"{hex64}","source":{{"uri":"u"}}}}"#),
            "source",
            "expected one",
        ),
        (&format!(r#"{{"kind":"agent","key":"{hex64}"}}"#), "ceiling", "is missing"),
        (
            &format!(r#"{{"kind":"agent","key":"{hex64}","from_position":1,"name":"n"}}"#),
            "name",
            "revokes",
        ),
        (
            &format!(r#"{{"kind":"agent","key":"{hex64}","replaces":"{hex64}"}}"#),
            "consent",
            "is missing",
        ),
        (&format!(r#"{{"kind":"vote","assertion":"{hex64}","weight":"1"}}"#), "weight", "a string"),
    ] {
        let error = record_of(json).expect_err(json);
        let found = match &error {
            WireError::Malformed(_) => "",
            WireError::Field { field, .. } => field.as_str(),
        };
        assert_eq!(found, field, "{json}: {error}");
        assert!(error.to_string().contains(part), "{json}: {error}");
    }
}

#[test]
fn a_kind_that_the_path_says_may_be_left_out_but_not_contradicted() {
    let cosign = |kind: &str| {
        let json = format!(r#"{{{kind}"assertion":"{}"}}"#, "ab".repeat(32));
        from_json::<Cosign>(json.as_bytes()).and_then(RecordRequest::draft)
    };
    assert!(cosign("").is_ok());
    assert!(cosign(r#""kind":"cosign","#).is_ok());
    assert_eq!(cosign(r#""kind":"vote","#), Err(WireError::field("kind", "vote, expected cosign")));
}

#[test]
fn a_log_id_is_filled_in_where_the_kind_has_one() {
    let json = format!(r#"{{"kind":"vote","assertion":"{}","weight":1}}"#, "ab".repeat(32));
    assert_eq!(record_of(&json).unwrap().log_id, Some(support::LOG_ID));
    let json = format!(
        r#"{{"kind":"vote","assertion":"{}","weight":1,"log_id":"{}"}}"#,
        "ab".repeat(32),
        "02".repeat(16)
    );
    assert_eq!(record_of(&json).unwrap().log_id, Some(LogId([2; 16])));
    let json = r#"{"kind":"assertion","subject":"s","predicate":"p","object":1}"#;
    assert_eq!(record_of(json).unwrap().log_id, None);
}

#[test]
fn sets_come_in_any_order() {
    let json = format!(
        r#"{{"kind":"assertion","subject":"s","predicate":"p","object":1,
            "derived_from":["{}","{}"]}}"#,
        "02".repeat(32),
        "01".repeat(32)
    );
    let record = record_of(&json).unwrap();
    assert_eq!(record.validate(), Ok(()));
    // A repeat is the caller's mistake and stays one.
    let json = json.replace(&"01".repeat(32), &"02".repeat(32));
    assert!(record_of(&json).unwrap().validate().is_err());
}

#[test]
fn times() {
    for (json, ms) in [
        (r#""2024-07-01T00:00:00Z""#, 1_719_792_000_000),
        (r#""2024-07-01T02:00:00.1239+02:00""#, 1_719_792_000_123),
        (r#""1969-12-31T23:59:59.9995Z""#, -1),
        ("-1", -1),
        ("9223372036854775807", i64::MAX),
    ] {
        assert_eq!(serde_json::from_str::<Time>(json).unwrap(), Time(Millis(ms)), "{json}");
    }
    for (ms, json) in [
        (0, json!("1970-01-01T00:00:00Z")),
        (1_719_792_000_120, json!("2024-07-01T00:00:00.12Z")),
        (i64::MAX, json!(i64::MAX)),
        (-62_167_219_200_001, json!(-62_167_219_200_001_i64)),
    ] {
        assert_eq!(serde_json::to_value(Time(Millis(ms))).unwrap(), json);
    }
}

#[test]
fn canonical_bytes_are_taken_as_they_are() {
    let key = SigningKey::from_seed(&[1; 32]);
    let (_, record) = support::samples().remove(1);
    let signed = Signed::seal(record, &key).unwrap();
    let json =
        json!({"bytes": hex::encode(signed.bytes()), "signature": signed.signature().to_string()});
    let Incoming::Bytes(bytes) = Incoming::parse(json.to_string().as_bytes()).unwrap() else {
        panic!("bytes expected")
    };
    assert_eq!(Signed::from_bytes(bytes.bytes.0, bytes.signature.0), Ok(signed));
}
