//! `docs/format/vectors/record.json`: generated here from the samples, checked here against drift.
//! A change of it is a change of the format. To write it anew: `STEMEDB_BLESS=1 cargo test -p
//! stemedb-model --test vectors`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;

use cbor4ii::core::dec::Decode;
use cbor4ii::core::utils::SliceReader;
use serde_json::{Map, Value as Json, json};
use stemedb_model::cbor;
use stemedb_model::*;
use support::*;

const COMMITTED: &str = include_str!("../../../docs/format/vectors/record.json");
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format/vectors/record.json");

#[test]
fn vectors_are_frozen() {
    let fresh = layout(&[
        ("records", records()),
        ("consents", consents()),
        ("refused", refused()),
        ("bad_signatures", bad_signatures()),
    ]);
    if std::env::var_os("STEMEDB_BLESS").is_some() {
        #[expect(clippy::disallowed_methods, reason = "a generator run by hand, not the database")]
        std::fs::write(PATH, &fresh).unwrap();
        return;
    }
    // As JSON, not as text: the order of keys depends on what else is in the build.
    let (fresh, committed) = (parse(&fresh), parse(COMMITTED));
    for (section, items) in &fresh {
        for (index, item) in items.iter().enumerate() {
            let before = committed.get(section).and_then(|items| items.get(index));
            assert_eq!(Some(item), before, "{section}, item {index}: the format changed");
        }
    }
    assert_eq!(fresh, committed, "vectors were taken away");
}

fn parse(text: &str) -> BTreeMap<String, Vec<Json>> {
    serde_json::from_str(text).unwrap()
}

/// One item a line, so that a change shows as what it is.
fn layout(sections: &[(&str, Vec<Json>)]) -> String {
    let mut out = String::from("{");
    for (section, items) in sections {
        let comma = if out.len() > 1 { "," } else { "" };
        write!(out, "{comma}\n\"{section}\": [").unwrap();
        for (index, item) in items.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}\n{item}").unwrap();
        }
        out.push_str("\n]");
    }
    out.push_str("\n}\n");
    out
}

fn records() -> Vec<Json> {
    let vector = |(name, record): (&str, Record)| {
        let signed = Signed::seal(record, &key(1)).unwrap();
        json!({
            "name": name,
            "kind": signed.record().kind().name(),
            "fields": fields(signed.bytes()),
            "canonical": hex::encode(signed.bytes()),
            "id": signed.id().to_string(),
            "seed": hex::encode(key(1).seed()),
            "public_key": key(1).agent_id().to_string(),
            "signature": signed.signature().to_string(),
        })
    };
    samples().into_iter().map(vector).collect()
}

/// The fields but `v` and `kind`, read by another CBOR decoder; byte strings in hex.
fn fields(bytes: &[u8]) -> Json {
    use cbor4ii::core::Value as Cbor;

    fn json(value: Cbor) -> Json {
        match value {
            Cbor::Bool(value) => value.into(),
            Cbor::Integer(value) => i64::try_from(value).unwrap().into(),
            Cbor::Float(value) => value.into(),
            Cbor::Bytes(value) => hex::encode(value).into(),
            Cbor::Text(value) => value.into(),
            Cbor::Array(items) => items.into_iter().map(json).collect(),
            Cbor::Map(pairs) => pairs.into_iter().map(pair).collect::<Map<_, _>>().into(),
            other => panic!("{other:?}"),
        }
    }
    fn pair((key, value): (Cbor, Cbor)) -> (String, Json) {
        match key {
            Cbor::Text(key) => (key, json(value)),
            other => panic!("{other:?}"),
        }
    }
    let mut fields = json(Cbor::decode(&mut SliceReader::new(bytes)).unwrap());
    let fields_map = fields.as_object_mut().unwrap();
    assert_eq!(fields_map.remove("v"), Some(1.into()));
    assert!(fields_map.remove("kind").is_some());
    fields
}

fn consents() -> Vec<Json> {
    let vector = |space: &str| {
        let space = Space::parse(space).unwrap();
        let (old, new) = (key(1).agent_id(), key(2).agent_id());
        let consent = key(2).consent(LOG_ID, &space, old, new);
        verify_consent(LOG_ID, &space, old, new, &consent).unwrap();
        json!({
            "log_id": LOG_ID.to_string(),
            "space": space.as_str(),
            "old": old.to_string(),
            "new": new.to_string(),
            "seed": hex::encode(key(2).seed()),
            "consent": consent.to_string(),
        })
    };
    ["default", "lab.eu-1_b"].map(vector).into()
}

/// The canonical bytes of a sample.
fn bytes_of(sample: &str) -> Vec<u8> {
    samples().into_iter().find(|(name, _)| *name == sample).unwrap().1.encode()
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The pairs of a map, each key and value in its own bytes.
fn split(bytes: &[u8]) -> Pairs {
    let mut reader = cbor::Reader::new(bytes);
    let Ok(cbor::Item::Map(count, mut body)) = reader.item(4) else { panic!("not a map") };
    let mut cut = |from: usize| {
        body.item(4).unwrap();
        bytes[from..body.at()].to_vec()
    };
    let mut at = 1;
    let mut pairs = Vec::new();
    for _ in 0..count {
        let key = cut(at);
        let value = cut(at + key.len());
        at += key.len() + value.len();
        pairs.push((key, value));
    }
    pairs
}

fn join(pairs: &Pairs) -> Vec<u8> {
    let mut out = Vec::new();
    cbor::map(&mut out, pairs.len());
    for (key, value) in pairs {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out
}

fn name(name: &str) -> Vec<u8> {
    written(|out| cbor::text(out, name))
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A sample with its pairs changed; they are written in the order they are left in.
fn changed(sample: &str, change: impl FnOnce(&mut Pairs)) -> Vec<u8> {
    let mut pairs = split(&bytes_of(sample));
    change(&mut pairs);
    join(&pairs)
}

fn with(sample: &str, field: &str, value: &[u8]) -> Vec<u8> {
    changed(sample, |pairs| {
        let pair = pairs.iter_mut().find(|(key, _)| *key == name(field)).unwrap();
        pair.1 = value.to_vec();
    })
}

fn without(sample: &str, field: &str) -> Vec<u8> {
    changed(sample, |pairs| {
        let count = pairs.len();
        pairs.retain(|(key, _)| *key != name(field));
        assert_eq!(pairs.len() + 1, count, "{field}");
    })
}

/// With one more field, put where it belongs.
fn plus(sample: &str, field: &str, value: &[u8]) -> Vec<u8> {
    changed(sample, |pairs| {
        pairs.push((name(field), value.to_vec()));
        // The head byte of a short text holds its length, so this is the order of DAG-CBOR.
        pairs.sort();
    })
}

fn float(value: f64) -> Vec<u8> {
    // Not through the writer, which has no -0.
    [&[0xfb], value.to_be_bytes().as_slice()].concat()
}

fn object(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    join(&pairs.iter().map(|(key, value)| (name(key), value.clone())).collect())
}

fn hashes(items: &[u8]) -> Vec<u8> {
    written(|out| {
        cbor::list(out, items.len());
        items.iter().for_each(|item| cbor::bytes(out, &[*item; 32]));
    })
}

fn texts(items: &[&str]) -> Vec<u8> {
    written(|out| {
        cbor::list(out, items.len());
        items.iter().for_each(|item| cbor::text(out, item));
    })
}

/// Bytes, why they must be refused, and what this implementation says about them.
fn violations() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let vote = bytes_of("vote");
    let nfd = name("e\u{301}");
    let spliced = |at: usize, replaced: usize, by: &[u8]| {
        let mut bytes = vote.clone();
        bytes.splice(at..at + replaced, by.iter().copied());
        bytes
    };
    // A vote begins a8 61 'v' 01 62 'a' 't' 1b ..8 bytes.. 64 'k' 'i' 'n' 'd' 03.
    assert_eq!((vote[0], vote[3], vote[7], vote[21]), (0xa8, 0x01, 0x1b, 0x03));
    let indefinite = [&[0xbf], &vote[1..], &[0xff]].concat();
    let number = |rest: &[(&str, Vec<u8>)]| object(&[&[("type", name("number"))], rest].concat());
    let swap = |pairs: &mut Pairs| pairs.swap(2, 3);
    let twice = |pairs: &mut Pairs| pairs.insert(3, pairs[3].clone());
    vec![
        (vec![], "no bytes", "byte 0: the input ends"),
        (vec![0x80], "a list", "a list, expected a map"),
        (vec![0xa0], "an empty map", "record: is empty"),
        (vote[..vote.len() - 1].to_vec(), "one byte short", "in assertion: the input ends"),
        (spliced(vote.len(), 0, &[0]), "a byte after the end", "bytes after the end"),
        (spliced(0, 0, &[0xd9, 0xd9, 0xf7]), "a tag before the record", "a tag"),
        (spliced(0, 1, &[0xb8, 8]), "map length in two bytes", "byte 0: an integer or length"),
        (spliced(3, 1, &[0x18, 1]), "v: 1 in two bytes", "in v: an integer or length"),
        (spliced(21, 1, &[0x19, 0, 3]), "kind: 3 in three bytes", "in kind: an integer or length"),
        (spliced(1, 1, &[0x78, 1]), "length of a key in two bytes", "an integer or length"),
        (indefinite, "indefinite length of the record", "an indefinite length"),
        (
            with("vote", "space", &[0x7f, 0x67, b'd', b'e', b'f', b'a', b'u', b'l', b't', 0xff]),
            "indefinite length of a text",
            "in space: an indefinite length",
        ),
        (changed("vote", swap), "keys out of order", "a map key out of order"),
        (
            changed("vote", |pairs| pairs.sort_by_key(|(key, _)| key[1..].to_vec())),
            "keys sorted byte by byte instead of length first",
            "a map key out of order",
        ),
        (changed("vote", twice), "a key twice", "a map key that was there before"),
        (
            changed("vote", |pairs| pairs[0].0 = written(|out| cbor::bytes(out, b"v"))),
            "a key that is a byte string",
            "a map key that is not a text",
        ),
        (plus("vote", "reason", &name("because")), "unknown field", "reason: no such field"),
        (plus("vote", "a", &[0]), "unknown field before v", "a: no such field"),
        (plus("vote", "z_longest_of_all", &[0]), "unknown field at the end", "no such field"),
        (
            plus("assertion", "log_id", &written(|out| cbor::bytes(out, &[0; 16]))),
            "log_id in an assertion",
            "log_id: is in every kind but",
        ),
        (without("vote", "log_id"), "log_id missing", "log_id: is missing"),
        (without("vote", "v"), "v missing", "v: is missing"),
        (without("vote", "weight"), "required field missing", "weight: is missing"),
        (without("assertion", "space"), "default left out: space", "space: is missing"),
        (
            without("assertion", "confidence"),
            "default left out: confidence",
            "confidence: is missing",
        ),
        (without("assertion", "lifecycle"), "default left out: lifecycle", "lifecycle: is missing"),
        (with("vote", "v", &[2]), "version 2", "record format 2"),
        (with("vote", "v", &[0]), "version 0", "v: 0, expected 1"),
        (with("vote", "kind", &[15]), "kind 15", "15 is the tag of no kind"),
        (with("vote", "kind", &name("vote")), "kind by name", "kind: a text, expected"),
        (with("vote", "weight", &[0]), "an integer for a float", "weight: an unsigned integer"),
        (with("vote", "at", &float(1e12)), "a float for an integer", "at: a float, expected"),
        (
            with("vote", "at", &[0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            "at beyond 64 bits signed",
            "at: does not fit",
        ),
        (
            with("vote", "at", &[0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            "at below 64 bits signed",
            "at: does not fit",
        ),
        (
            with("vote", "weight", &[0xfa, 0x3f, 0, 0, 0]),
            "float of 32 bits",
            "shorter than 64 bits",
        ),
        (with("vote", "weight", &[0xf9, 0x38, 0]), "float of 16 bits", "shorter than 64 bits"),
        (with("vote", "weight", &float(f64::NAN)), "NaN", "in weight: a number that is NaN"),
        (with("vote", "weight", &float(f64::INFINITY)), "infinity", "in weight: a number that is"),
        (with("vote", "weight", &float(-0.0)), "-0", "in weight: -0"),
        (with("vote", "weight", &float(1.5)), "weight above 1", "weight: 1.5, expected -1 to 1"),
        (with("vote", "weight", &[0xf6]), "null", "in weight: null"),
        (with("vote", "weight", &[0xf7]), "undefined", "in weight: null or undefined"),
        (with("vote", "weight", &[0xe0]), "a simple value", "in weight: a simple value"),
        (with("vote", "weight", &[0xf8, 0x20]), "a simple value of two bytes", "a simple value"),
        (
            with("vote", "assertion", &[&[0xd8, 42, 0x58, 33, 0][..], &[6; 32]].concat()),
            "an id as a CID",
            "in assertion: a tag",
        ),
        (with("vote", "assertion", &name(&id(6).to_string())), "an id in hex", "a text, expected"),
        (
            with("vote", "assertion", &written(|out| cbor::bytes(out, &[6; 31]))),
            "an id of 31 bytes",
            "assertion: a byte string of 31 bytes",
        ),
        (
            with("vote", "agent", &written(|out| cbor::bytes(out, &[6; 33]))),
            "a key of 33 bytes",
            "agent: a byte string of 33 bytes",
        ),
        (with("vote", "space", &name("Default")), "a space with a capital", "space: expected"),
        (with("vote", "space", &[0x61, 0xff]), "text that is not UTF-8", "in space: text that is"),
        (with("assertion", "subject", &name("")), "empty subject", "subject: 0 bytes long"),
        (with("assertion", "subject", &nfd), "subject that is not NFC", "subject: is not in"),
        (with("assertion", "predicate", &nfd), "predicate that is not NFC", "predicate: is not in"),
        (with("assertion", "subject", &name("a\nb")), "subject of two lines", "control character"),
        (
            with("assertion", "object", &object(&[("type", name("text")), ("value", nfd.clone())])),
            "text value that is not NFC",
            "object.value: is not in",
        ),
        (
            with("assertion", "object", &object(&[("type", name("text")), ("value", name("\0"))])),
            "text value with NUL",
            "object.value: holds the control character U+0000",
        ),
        (
            with("assertion", "object", &number(&[("value", vec![1])])),
            "integer as number",
            "object.value: an unsigned integer, expected a 64-bit float",
        ),
        (
            with("assertion", "object", &number(&[("unit", name("")), ("value", float(1.0))])),
            "empty unit",
            "object.unit: 0 bytes long",
        ),
        (
            with("assertion", "object", &number(&[("value", float(1.0)), ("unit", name("m"))])),
            "unit after value",
            "in object: a map key out of order",
        ),
        (
            with(
                "assertion",
                "object",
                &object(&[("type", name("text")), ("unit", name("m")), ("value", name("x"))]),
            ),
            "a text with a unit",
            "object.unit: no such field",
        ),
        (
            with("assertion", "object", &object(&[("value", name("x"))])),
            "object without type",
            "object.type: is missing",
        ),
        (
            with("assertion", "object", &object(&[("type", name("Text")), ("value", name("x"))])),
            "unknown type",
            "object.type: \"Text\" is not",
        ),
        (
            with("assertion", "object", &name("x")),
            "a bare scalar",
            "object: a text, expected a map",
        ),
        (with("assertion", "confidence", &float(1.1)), "confidence above 1", "confidence: 1.1"),
        (with("assertion", "lifecycle", &name("live")), "unknown state", "lifecycle: \"live\""),
        (plus("assertion", "source", &object(&[])), "empty source", "source: is empty"),
        (
            plus("assertion", "source", &object(&[("class", name("rumour"))])),
            "unknown class",
            "source.class: \"rumour\"",
        ),
        (
            plus("assertion", "source", &object(&[("url", name("x"))])),
            "unknown nested field",
            "source.url: no such field",
        ),
        (plus("assertion", "meta", &object(&[])), "empty meta", "meta: is empty"),
        (
            plus("assertion", "meta", &object(&[("zz", name("")), ("a", name(""))])),
            "meta out of order",
            "in meta: a map key out of order",
        ),
        (
            plus("assertion", "meta", &object(&[("a", vec![1])])),
            "meta value that is not a text",
            "meta: an unsigned integer",
        ),
        (plus("assertion", "derived_from", &hashes(&[])), "empty list", "derived_from: is empty"),
        (
            plus("assertion", "derived_from", &hashes(&[7, 6])),
            "derived_from descending",
            "derived_from: item 1 is not after",
        ),
        (
            plus("assertion", "derived_from", &hashes(&[6, 6])),
            "derived_from repeated",
            "derived_from: item 1 is not after",
        ),
        (
            plus("assertion", "derived_from", &hashes(&(0..65).collect::<Vec<_>>())),
            "65 premises",
            "derived_from: 65 items",
        ),
        (
            plus("assertion", "vector", &written(|out| cbor::bytes(out, &[0; 6]))),
            "vector of 6 bytes",
            "vector: 6 bytes",
        ),
        (
            plus("assertion", "vector", &written(|out| cbor::bytes(out, &f32::NAN.to_le_bytes()))),
            "vector with NaN",
            "vector: number 0",
        ),
        (
            plus("assertion", "visual_hash", &written(|out| cbor::bytes(out, &[0; 7]))),
            "visual_hash of 7 bytes",
            "visual_hash: a byte string of 7",
        ),
        (
            changed("assertion, every field", |pairs| {
                let from =
                    pairs.iter().find(|(key, _)| *key == name("valid_from")).unwrap().1.clone();
                pairs.iter_mut().find(|(key, _)| *key == name("valid_to")).unwrap().1 = from;
            }),
            "valid for no time",
            "valid_to: -86400000, expected more",
        ),
        (without("epoch, every field", "mode"), "supersedes without mode", "mode: is missing"),
        (without("epoch, every field", "supersedes"), "mode without supersedes", "mode: says how"),
        (with("source", "keys", &texts(&["b", "a"])), "keys descending", "keys: item 1"),
        (with("source", "keys", &texts(&[])), "no keys", "keys: is empty"),
        (
            plus("retract a record", "source", &name("x")),
            "record and source retracted at once",
            "source: expected either",
        ),
        (without("retract a record", "record"), "nothing retracted", "record: is missing"),
        (with("supersede", "new", &hashes(&[6])[1..]), "superseded by itself", "new: is the same"),
        (with("alias", "other", &name("NYC")), "alias of itself", "other: is the same"),
        (with("predicate, every field", "half_life", &[0]), "half-life 0", "half_life: 0"),
        (
            with("predicate, every field", "opposites", &texts(&["depth", "depth"])),
            "opposites repeated",
            "opposites: item 1",
        ),
        (
            with("predicate, every field", "tolerance", &object(&[("absolute", float(-1.0))])),
            "negative tolerance",
            "tolerance.absolute: -1",
        ),
        (
            with("agent registered, every field", "roles", &texts(&["trust", "curator"])),
            "roles out of order",
            "roles: item 1",
        ),
        (
            with("agent registered, every field", "roles", &texts(&["root"])),
            "unknown role",
            "roles: \"root\"",
        ),
        (
            plus("agent revoked", "ceiling", &name("expert")),
            "registered and revoked at once",
            "key: fields of more than one act",
        ),
        (
            without("agent revoked", "from_position"),
            "agent record that does nothing",
            "ceiling: is missing",
        ),
        (
            without("agent replaced", "consent"),
            "replacement without consent",
            "consent: is missing",
        ),
        (with("lens, every field", "name", &name("authority")), "built-in name", "name: \"auth"),
        (
            with("lens, every field", "ties", &texts(&["bytes", "bytes"])),
            "a tie rule twice",
            "ties: bytes is there twice",
        ),
        (with("genesis", "root", &hashes(&[6])[1..]), "root that does not sign", "root: 0606"),
        (
            [&[0xa1, 0x61, b'a'][..], &[0x81; 600], &[0]].concat(),
            "lists inside lists",
            "in a: a list or map inside too many",
        ),
        (
            vec![0xa1, 0x61, b'a', 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            "a list of 2^64-1 items",
            "longer than the input",
        ),
        (
            vec![0xa1, 0x61, b'a', 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            "a byte string of 2^64-1 bytes",
            "the input ends inside an item",
        ),
    ]
}

fn refused() -> Vec<Json> {
    let vector = |(bytes, reason, says): (Vec<u8>, &str, &str)| {
        let error = match Record::decode(&bytes) {
            Err(error) => error.to_string(),
            Ok(record) => panic!("{reason}: {record:?}"),
        };
        assert!(error.contains(says), "{reason}: {error}");
        json!({ "reason": reason, "bytes": hex::encode(bytes) })
    };
    violations().into_iter().map(vector).collect()
}

/// Canonical records with signatures that strict verification refuses.
fn bad_signatures() -> Vec<Json> {
    // The order of the base point, 2^252 + 27742317777372353535851937790883648493, little-endian.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    const NEUTRAL: [u8; 32] = {
        let mut point = [0; 32];
        point[0] = 1;
        point
    };
    let signed = Signed::seal(record(Body::Assertion(assertion())), &key(1)).unwrap();
    let mut unreduced = signed.signature().0;
    let mut carry = 0;
    for (byte, order) in unreduced[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    let mut flipped = signed.signature().0;
    flipped[0] ^= 1;
    let of_another = key(2).sign(&signed.id());
    let over_nothing = Signed::seal(record(Body::Cosign(Cosign { assertion: id(6) })), &key(1));
    // R + kA = sB holds for neutral R and A and s = 0, whatever is signed.
    let mut anyones = signed.record().clone();
    anyones.agent = AgentId(NEUTRAL);
    let mut zero = [0; 64];
    zero[..32].copy_from_slice(&NEUTRAL);

    let same = |signature, reason| (signed.record().clone(), signature, reason);
    let mut replaced = record(Body::Agent(replacement(Signature([7; 64]))));
    replaced.agent = key(1).agent_id();
    let replaced_signature = key(1).sign(&replaced.id());
    let cases = [
        same(Signature(flipped), "one bit changed"),
        same(of_another, "by another key"),
        same(over_nothing.unwrap().signature(), "over another record"),
        same(Signature(unreduced), "s not reduced: the same signature in other bytes"),
        (anyones, Signature(zero), "a key of small order, for which everything is signed"),
        (replaced, replaced_signature, "good, but the consent in the record is not"),
    ];
    let vector = |(record, signature, reason): (Record, Signature, &str)| {
        let bytes = record.encode();
        assert!(Record::decode(&bytes).is_ok(), "{reason}");
        assert!(Signed::from_bytes(bytes.clone(), signature).is_err(), "{reason}");
        assert!(Signed::verify(record.clone(), signature).is_err(), "{reason}");
        json!({
            "reason": reason,
            "canonical": hex::encode(&bytes),
            "public_key": record.agent.to_string(),
            "signature": signature.to_string(),
        })
    };
    cases.into_iter().map(vector).collect()
}

/// The bytes that the page goes through one by one are those of the vector it names.
#[test]
fn the_example_of_the_page_is_a_vector() {
    let page = include_str!("../../../docs/format/record.md");
    let (_, example) = page.split_once("```text\na6 ").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let is_hex =
        |word: &&str| word.len().is_multiple_of(2) && word.bytes().all(|b| b.is_ascii_hexdigit());
    let hex_of = |line: &str| line.split_whitespace().take_while(is_hex).collect::<String>();
    let rest: String = example.lines().skip(1).map(hex_of).collect();
    assert_eq!(format!("a6{rest}"), hex::encode(bytes_of("cosign")));
    let cosign = samples().into_iter().find(|(name, _)| *name == "cosign").unwrap().1;
    assert!(page.contains(&format!("`{}`", cosign.id())));
}
