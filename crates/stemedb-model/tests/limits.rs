//! Every rule that a record can be judged by alone, at, below and above its bound.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use std::sync::Arc;

use stemedb_model::*;
use support::*;

/// A change to a sample, and the field at fault after it; `None`: still valid.
type Case = (&'static str, fn(&mut Record), Option<&'static str>);

fn check(sample: &str, cases: &[Case]) {
    let (_, base) = samples().into_iter().find(|(name, _)| *name == sample).unwrap();
    for (name, change, field) in cases {
        let mut record = base.clone();
        change(&mut record);
        let found = record.validate();
        let at_fault = found.as_ref().err().map(|invalid| invalid.field);
        assert_eq!(at_fault, *field, "{sample}, {name}: {found:?}");
        // What is refused here is refused from bytes as well, and the other way round. Fields may
        // be named differently: a NaN is not even canonical CBOR.
        let decoded = Record::decode(&record.encode());
        assert_eq!(decoded.is_ok(), field.is_none(), "{sample}, {name}: {decoded:?}");
    }
}

macro_rules! body {
    ($($name:ident: $variant:ident),+) => {
        $(fn $name(record: &mut Record) -> &mut $variant {
            match &mut record.body {
                Body::$variant(body) => body,
                other => panic!("{other:?}"),
            }
        })+
    };
}

body!(genesis: Genesis, assertion_of: Assertion, vote: Vote, epoch: Epoch, source: Source,
      retract: Retract, supersede: Supersede, predicate_of: Predicate, alias: Alias,
      agent: Agent, lens_of: Lens, gold: Gold, snapshot: TrustSnapshot, lifecycle: Lifecycle);

fn long(bytes: usize) -> Arc<str> {
    "x".repeat(bytes).into()
}

fn ids(count: u8) -> Vec<RecordId> {
    (0..count).map(id).collect()
}

fn vector(numbers: impl IntoIterator<Item = f32>) -> Option<Arc<[u8]>> {
    Some(numbers.into_iter().flat_map(f32::to_le_bytes).collect())
}

fn register(record: &mut Record, change: impl FnOnce(&mut Vec<Role>, &mut Option<Arc<str>>)) {
    if let AgentAct::Register { roles, name, .. } = &mut agent(record).act {
        change(roles, name);
    }
}

/// e, then an accent that NFC joins with it.
const NOT_NFC: &str = "e\u{301}";

#[test]
fn envelope() {
    check(
        "vote",
        &[
            ("as it is", |_| {}, None),
            ("no log id", |r| r.log_id = None, Some("log_id")),
            ("earliest", |r| r.at = Millis(i64::MIN), None),
            ("latest", |r| r.at = Millis(i64::MAX), None),
        ],
    );
    check("assertion", &[("log id", |r| r.log_id = Some(LOG_ID), Some("log_id"))]);
    check("cosign", &[("log id", |r| r.log_id = Some(LOG_ID), Some("log_id"))]);
    check(
        "genesis",
        &[
            ("format 0", |r| genesis(r).format = 0, Some("format")),
            ("format 2", |r| genesis(r).format = 2, Some("format")),
            ("root is another", |r| genesis(r).root = key(2).agent_id(), Some("root")),
            ("no log id", |r| r.log_id = None, Some("log_id")),
        ],
    );
}

#[test]
fn values() {
    fn object(record: &mut Record, value: Value) {
        assertion_of(record).object = value;
    }
    fn unit(record: &mut Record, unit: &str) {
        object(record, Value::Number { value: 1.0, unit: Some(unit.into()) });
    }
    check(
        "assertion",
        &[
            ("text of 64 KiB", |r| object(r, Value::Text(long(65_536))), None),
            ("one more", |r| object(r, Value::Text(long(65_537))), Some("object.value")),
            ("no text", |r| object(r, Value::Text("".into())), None),
            ("lines", |r| object(r, Value::Text("a\tb\r\nc".into())), None),
            ("escape", |r| object(r, Value::Text("\u{1b}[2J".into())), Some("object.value")),
            ("C1", |r| object(r, Value::Text("\u{85}".into())), Some("object.value")),
            ("not NFC", |r| object(r, Value::Text(NOT_NFC.into())), Some("object.value")),
            ("largest", |r| object(r, Value::Number { value: f64::MAX, unit: None }), None),
            ("least", |r| object(r, Value::Number { value: 5e-324, unit: None }), None),
            (
                "NaN",
                |r| object(r, Value::Number { value: f64::NAN, unit: None }),
                Some("object.value"),
            ),
            (
                "infinite",
                |r| object(r, Value::Number { value: f64::NEG_INFINITY, unit: None }),
                Some("object.value"),
            ),
            ("unit of 1", |r| unit(r, "m"), None),
            ("unit of 0", |r| unit(r, ""), Some("object.unit")),
            ("unit of 512", |r| unit(r, &long(512)), None),
            ("unit of 513", |r| unit(r, &long(513)), Some("object.unit")),
            ("unit of two lines", |r| unit(r, "m\n"), Some("object.unit")),
            ("unit not NFC", |r| unit(r, NOT_NFC), Some("object.unit")),
        ],
    );
    check(
        "gold",
        &[(
            "NaN",
            |r| gold(r).object = Value::Number { value: f64::NAN, unit: None },
            Some("object.value"),
        )],
    );
}

#[test]
fn assertion_fields() {
    fn meta(record: &mut Record, pairs: impl IntoIterator<Item = (String, String)>) {
        let pairs = pairs.into_iter().map(|(key, value)| (key.into(), value.into()));
        assertion_of(record).meta = pairs.collect();
    }
    fn pair(key: &str, value: &str) -> [(String, String); 1] {
        [(key.into(), value.into())]
    }
    fn uri(record: &mut Record, uri: &str) {
        let uri = Some(uri.into());
        assertion_of(record).source = Some(Provenance { uri, ..Provenance::default() });
    }
    check(
        "assertion, every field",
        &[
            ("as it is", |_| {}, None),
            ("confidence 0", |r| assertion_of(r).confidence = 0.0, None),
            ("confidence -0", |r| assertion_of(r).confidence = -0.0, None),
            ("confidence 1", |r| assertion_of(r).confidence = 1.0, None),
            ("below 0", |r| assertion_of(r).confidence = -5e-324, Some("confidence")),
            ("above 1", |r| assertion_of(r).confidence = 1.0 + f64::EPSILON, Some("confidence")),
            ("confidence NaN", |r| assertion_of(r).confidence = f64::NAN, Some("confidence")),
            (
                "empty source",
                |r| assertion_of(r).source = Some(Provenance::default()),
                Some("source"),
            ),
            ("uri of 1", |r| uri(r, "x"), None),
            ("uri of 2 KiB", |r| uri(r, &long(2048)), None),
            ("uri of 0", |r| uri(r, ""), Some("source.uri")),
            ("uri of more", |r| uri(r, &long(2049)), Some("source.uri")),
            ("uri of two lines", |r| uri(r, "a\nb"), Some("source.uri")),
            ("uri not NFC", |r| uri(r, NOT_NFC), Some("source.uri")),
            ("valid for 1 ms", |r| assertion_of(r).valid_to = Some(Millis(-86_399_999)), None),
            (
                "valid for 0 ms",
                |r| assertion_of(r).valid_to = Some(Millis(-86_400_000)),
                Some("valid_to"),
            ),
            ("only valid_to", |r| assertion_of(r).valid_from = None, None),
            ("64 premises", |r| assertion_of(r).derived_from = ids(64), None),
            ("65 premises", |r| assertion_of(r).derived_from = ids(65), Some("derived_from")),
            ("descending", |r| assertion_of(r).derived_from.reverse(), Some("derived_from")),
            ("repeated", |r| assertion_of(r).derived_from = vec![id(1); 2], Some("derived_from")),
            ("vector of 1", |r| assertion_of(r).vector = vector([0.0]), None),
            ("vector of 4096", |r| assertion_of(r).vector = vector([f32::MIN; 4096]), None),
            ("vector of 4097", |r| assertion_of(r).vector = vector([1.0; 4097]), Some("vector")),
            ("vector of 0", |r| assertion_of(r).vector = vector([]), Some("vector")),
            ("5 bytes", |r| assertion_of(r).vector = Some([0; 5].into()), Some("vector")),
            ("vector, NaN", |r| assertion_of(r).vector = vector([1.0, f32::NAN]), Some("vector")),
            ("vector, inf", |r| assertion_of(r).vector = vector([f32::INFINITY]), Some("vector")),
            ("32 pairs", |r| meta(r, (0..32).map(|n| (n.to_string(), String::new()))), None),
            (
                "33 pairs",
                |r| meta(r, (0..33).map(|n| (n.to_string(), String::new()))),
                Some("meta"),
            ),
            ("4 KiB of meta", |r| meta(r, pair("key", &long(4093))), None),
            ("more", |r| meta(r, pair("key", &long(4094))), Some("meta")),
            ("no key", |r| meta(r, pair("", "value")), Some("meta")),
            ("key of two lines", |r| meta(r, pair("a\nb", "value")), Some("meta")),
            ("value of two lines", |r| meta(r, pair("key", "a\nb")), None),
            ("value with NUL", |r| meta(r, pair("key", "\0")), Some("meta")),
            ("key not NFC", |r| meta(r, pair(NOT_NFC, "")), Some("meta")),
            ("value not NFC", |r| meta(r, pair("key", NOT_NFC)), Some("meta")),
        ],
    );
}

#[test]
fn statements_about_records() {
    check(
        "vote",
        &[
            ("for", |r| vote(r).weight = 1.0, None),
            ("against", |r| vote(r).weight = -1.0, None),
            ("too much", |r| vote(r).weight = 1.0 + f64::EPSILON, Some("weight")),
            ("too little", |r| vote(r).weight = -1.0 - f64::EPSILON, Some("weight")),
            ("NaN", |r| vote(r).weight = f64::NAN, Some("weight")),
        ],
    );
    check(
        "supersede, every field",
        &[
            ("itself", |r| supersede(r).old = supersede(r).new, Some("new")),
            ("reason of 4 KiB", |r| supersede(r).reason = Some(long(4096)), None),
            ("more", |r| supersede(r).reason = Some(long(4097)), Some("reason")),
        ],
    );
    check(
        "retract a record",
        &[
            ("reason of 0", |r| retract(r).reason = Some("".into()), None),
            ("reason of lines", |r| retract(r).reason = Some("a\nb".into()), None),
            ("reason of 4 KiB", |r| retract(r).reason = Some(long(4096)), None),
            ("more", |r| retract(r).reason = Some(long(4097)), Some("reason")),
            ("bell", |r| retract(r).reason = Some("\u{7}".into()), Some("reason")),
            ("not NFC", |r| retract(r).reason = Some(NOT_NFC.into()), Some("reason")),
        ],
    );
    fn retract_uri(record: &mut Record, uri: &str) {
        retract(record).target = RetractTarget::Source(SourceKey::Uri(uri.into()));
    }
    check(
        "retract a source by URI",
        &[
            ("uri of 2 KiB", |r| retract_uri(r, &long(2048)), None),
            ("more", |r| retract_uri(r, &long(2049)), Some("source")),
            ("none", |r| retract_uri(r, ""), Some("source")),
        ],
    );
    check(
        "lifecycle",
        &[
            ("reason of 4 KiB", |r| lifecycle(r).reason = Some(long(4096)), None),
            ("more", |r| lifecycle(r).reason = Some(long(4097)), Some("reason")),
        ],
    );
    check(
        "epoch, every field",
        &[
            ("name of 1", |r| epoch(r).name = "x".into(), None),
            ("name of 512", |r| epoch(r).name = long(512), None),
            ("name of 0", |r| epoch(r).name = "".into(), Some("name")),
            ("name of 513", |r| epoch(r).name = long(513), Some("name")),
            ("name of lines", |r| epoch(r).name = "a\nb".into(), Some("name")),
            ("description of 4 KiB", |r| epoch(r).description = Some(long(4096)), None),
            ("more", |r| epoch(r).description = Some(long(4097)), Some("description")),
        ],
    );
    check(
        "trust snapshot",
        &[
            ("of 1", |r| snapshot(r).input_position = Position(1), None),
            ("of any", |r| snapshot(r).input_position = Position::MAX, None),
            ("of 0", |r| snapshot(r).input_position = Position::NONE, Some("input_position")),
        ],
    );
}

#[test]
fn registry_records() {
    fn keys(record: &mut Record, count: u8) {
        source(record).keys = (0..count).map(|n| SourceKey::Evidence(Hash([n; 32]))).collect();
    }
    check(
        "source, every field",
        &[
            ("64 keys", |r| keys(r, 64), None),
            ("65 keys", |r| keys(r, 65), Some("keys")),
            ("no keys", |r| keys(r, 0), Some("keys")),
            ("descending", |r| source(r).keys.reverse(), Some("keys")),
            ("URI before hash", |r| source(r).keys.swap(1, 2), Some("keys")),
            ("repeated", |r| source(r).keys = vec![source(r).keys[0].clone(); 2], Some("keys")),
            ("uri of 0", |r| source(r).keys[3] = SourceKey::Uri("".into()), Some("keys")),
            ("title of 512", |r| source(r).title = Some(long(512)), None),
            ("title of 513", |r| source(r).title = Some(long(513)), Some("title")),
            ("title of 0", |r| source(r).title = Some("".into()), Some("title")),
        ],
    );
    check("alias", &[("itself", |r| alias(r).other = subject("NYC"), Some("other"))]);
    fn conversions(record: &mut Record, count: u32) {
        let unit = |n: u32| format!("{n:02}").into();
        let conversion = |n| Conversion { unit: unit(n), multiply: 2.0, add: 0.0 };
        predicate_of(record).conversions = (0..count).map(conversion).collect();
    }
    fn convert(record: &mut Record, multiply: f64, add: f64) {
        predicate_of(record).conversions[0].multiply = multiply;
        predicate_of(record).conversions[0].add = add;
    }
    fn tolerance(record: &mut Record, absolute: Option<f64>, relative: Option<f64>) {
        predicate_of(record).tolerance = Some(Tolerance { absolute, relative });
    }
    fn opposites(record: &mut Record, count: u32) {
        predicate_of(record).opposites =
            (0..count).map(|n| predicate(&format!("{n:02}"))).collect();
    }
    check(
        "predicate, every field",
        &[
            ("as it is", |_| {}, None),
            ("any type", |r| predicate_of(r).value_type = None, None),
            ("unit of text", |r| predicate_of(r).value_type = Some(ValueType::Text), Some("unit")),
            ("unit of 512", |r| predicate_of(r).unit = Some(long(512)), None),
            ("unit of 513", |r| predicate_of(r).unit = Some(long(513)), Some("unit")),
            ("unit of 0", |r| predicate_of(r).unit = Some("".into()), Some("unit")),
            ("into nothing", |r| predicate_of(r).unit = None, Some("conversions")),
            ("into itself", |r| predicate_of(r).unit = Some("km".into()), Some("conversions.unit")),
            ("64 conversions", |r| conversions(r, 64), None),
            ("65 conversions", |r| conversions(r, 65), Some("conversions")),
            ("descending", |r| predicate_of(r).conversions.reverse(), Some("conversions")),
            ("multiply by 0", |r| convert(r, 0.0, 0.0), Some("conversions.multiply")),
            ("multiply by -1", |r| convert(r, -1.0, 0.0), None),
            ("multiply by inf", |r| convert(r, f64::INFINITY, 0.0), Some("conversions.multiply")),
            ("add NaN", |r| convert(r, 1.0, f64::NAN), Some("conversions.add")),
            ("tolerance 0", |r| tolerance(r, Some(0.0), None), None),
            ("largest", |r| tolerance(r, None, Some(f64::MAX)), None),
            ("no tolerance", |r| tolerance(r, None, None), Some("tolerance")),
            ("below 0", |r| tolerance(r, Some(-5e-324), None), Some("tolerance.absolute")),
            ("infinite", |r| tolerance(r, None, Some(f64::INFINITY)), Some("tolerance.relative")),
            ("64 opposites", |r| opposites(r, 64), None),
            ("65 opposites", |r| opposites(r, 65), Some("opposites")),
            ("descending", |r| predicate_of(r).opposites.reverse(), Some("opposites")),
            ("denies itself", |r| predicate_of(r).name = predicate("depth"), Some("opposites")),
            ("half-life 1", |r| predicate_of(r).half_life = Some(1), None),
            ("half-life 0", |r| predicate_of(r).half_life = Some(0), Some("half_life")),
            ("half-life 2^53-1", |r| predicate_of(r).half_life = Some((1 << 53) - 1), None),
            ("half-life 2^53", |r| predicate_of(r).half_life = Some(1 << 53), Some("half_life")),
        ],
    );
    fn typed(record: &mut Record, value_type: ValueType) {
        let tolerance = Some(Tolerance { absolute: Some(1.0), relative: None });
        *predicate_of(record) =
            Predicate { value_type: Some(value_type), tolerance, ..predicate_of(record).clone() };
    }
    check(
        "predicate",
        &[
            ("times within", |r| typed(r, ValueType::Time), None),
            ("numbers within", |r| typed(r, ValueType::Number), None),
            ("booleans within", |r| typed(r, ValueType::Boolean), Some("tolerance")),
        ],
    );
}

#[test]
fn agent_and_lens_records() {
    check(
        "agent registered, every field",
        &[
            ("descending", |r| register(r, |roles, _| roles.reverse()), Some("roles")),
            ("repeated", |r| register(r, |roles, _| *roles = vec![Role::Trust; 2]), Some("roles")),
            ("name of 512", |r| register(r, |_, name| *name = Some(long(512))), None),
            ("name of 513", |r| register(r, |_, name| *name = Some(long(513))), Some("name")),
            ("name of 0", |r| register(r, |_, name| *name = Some("".into())), Some("name")),
        ],
    );
    check(
        "agent replaced",
        &[
            ("another's key", |r| r.agent = key(3).agent_id(), Some("replaces")),
            ("by itself", |r| agent(r).key = key(1).agent_id(), Some("key")),
        ],
    );
    fn from(record: &mut Record, from_position: u64) {
        agent(record).act = AgentAct::Revoke { from_position: Position(from_position) };
    }
    check(
        "agent revoked",
        &[("from 1", |r| from(r, 1), None), ("from 0", |r| from(r, 0), Some("from_position"))],
    );
    check(
        "lens, every field",
        &[
            ("built in", |r| lens_of(r).name = "authority".into(), Some("name")),
            ("name of 512", |r| lens_of(r).name = long(512), None),
            ("name of 513", |r| lens_of(r).name = long(513), Some("name")),
            ("version 1", |r| lens_of(r).version = 1, None),
            ("version 0", |r| lens_of(r).version = 0, Some("version")),
            ("filter of 4 KiB", |r| lens_of(r).filter = Some(long(4096)), None),
            ("more", |r| lens_of(r).filter = Some(long(4097)), Some("filter")),
            ("filter of 0", |r| lens_of(r).filter = Some("".into()), Some("filter")),
            ("weight of 4 KiB", |r| lens_of(r).weight = long(4096), None),
            ("more", |r| lens_of(r).weight = long(4097), Some("weight")),
            ("weight of 0", |r| lens_of(r).weight = "".into(), Some("weight")),
            ("a rule twice", |r| lens_of(r).ties = vec![TieRule::Bytes; 2], Some("ties")),
        ],
    );
}

#[test]
fn names_of_things() {
    let subject = |text: &str| Subject::parse(text).is_ok();
    let predicate = |text: &str| PredicateName::parse(text).is_ok();
    let space = |text: &str| Space::parse(text).is_ok();
    for (text, allowed, parse) in [
        ("x", true, subject as fn(&str) -> bool),
        ("", false, subject),
        (&long(512), true, subject),
        (&long(513), false, subject),
        ("a\tb", false, subject),
        (NOT_NFC, false, subject),
        ("x", true, predicate),
        ("", false, predicate),
        (&long(256), true, predicate),
        (&long(257), false, predicate),
        ("a\nb", false, predicate),
        (NOT_NFC, false, predicate),
        ("a.b_c-9", true, space),
        ("", false, space),
        (&long(64), true, space),
        (&long(65), false, space),
        ("Lab", false, space),
        ("a/b", false, space),
    ] {
        assert_eq!(parse(text), allowed, "{text:?}");
    }
}

/// The largest record that obeys every other limit is far below the limit of a record.
#[test]
fn a_record_has_at_most_256_kib() {
    let bytes = vec![0xa1; limits::RECORD_BYTES_MAX + 1];
    assert_eq!(Record::decode(&bytes).unwrap_err().field(), Some("record"));
    assert_ne!(Record::decode(&bytes[1..]).unwrap_err().field(), Some("record"));
}
