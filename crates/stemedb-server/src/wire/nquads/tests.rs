use std::collections::BTreeMap;

use proptest::prelude::*;
use stemedb_model::{
    Cosign, Hash, LifecycleState, Provenance, Record, Signature, SigningKey, SourceClass, Vote,
};

use super::*;
use crate::wire::record::tests::support;
use parser::{Quad, Term, parse};

mod parser;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format/nquads.md");
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format/vectors/nquads.nq");

fn quads_of(record: Record, key: &SigningKey, position: u64) -> (Signed, String) {
    let signed = Signed::seal(record, key).unwrap();
    let principal = Principal::parse("local").unwrap();
    let exported = Exported {
        log_id: support::LOG_ID,
        position: Position(position),
        recorded_at: Millis(1_760_000_000_123),
        principal: &principal,
        custodial: false,
        signed: &signed,
    };
    let mut out = String::new();
    write_record(&mut out, &exported);
    (signed, out)
}

#[expect(clippy::disallowed_methods, reason = "pages of the repository, not the database")]
fn kept(path: &str, made: impl FnOnce(&str) -> String) {
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let made = made(&before);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &made).unwrap();
        return;
    }
    assert!(before == made, "{path} differs; run with UPDATE_DOCS=1 and review the change");
}

/// Every kind, with all fields and with none, as the committed file has it.
#[test]
fn the_quads_of_every_kind_are_frozen() {
    let mut all = String::new();
    for (index, (_, record)) in support::samples().into_iter().enumerate() {
        let (signed, out) = quads_of(record, &support::key(1), index as u64 + 1);
        for line in out.lines() {
            let quad = parse(line).unwrap_or_else(|problem| panic!("{problem}: {line}"));
            let own = format!("urn:stemedb:record:{}", signed.id());
            let part = format!("urn:stemedb:conversion:record%3A{}:", signed.id());
            let part = part.replace("%3A", ":");
            // Nothing is said of anything but the record: what it claims is no fact.
            let about = quad.subject == own || quad.subject.starts_with(&part);
            assert!(about, "{line}");
        }
        all.push_str(&out);
    }
    kept(GOLDEN, |_| all);
}

/// The example of the page is what the code writes.
#[test]
fn the_example_of_the_page_is_true() {
    let claim = |object, class, at| {
        let source = Provenance { uri: Some("https://example.org/label".into()), ..class };
        support::record(Body::Assertion(Assertion {
            subject: support::subject("drugs/semaglutide"),
            predicate: support::predicate("gastroparesis risk"),
            object,
            confidence: 0.9,
            source: Some(source),
            ..support::assertion()
        }))
        .at(at)
    };
    let class = |class| Provenance { class: Some(class), ..Provenance::default() };
    let key = support::key(1);
    let (rare, mut example) = quads_of(
        claim(Value::text("rare").unwrap(), class(SourceClass::Regulatory), 1_760_000_000_000),
        &key,
        12,
    );
    let odds = Value::number(0.0367, Some("cases/person-year")).unwrap();
    example.push_str(
        &quads_of(claim(odds, class(SourceClass::Observational), 1_760_000_060_500), &key, 13).1,
    );
    let vote = support::record(Body::Vote(Vote { assertion: rare.id(), weight: 1.0 }));
    example.push_str(&quads_of(vote, &key, 14).1);
    kept(PAGE, |page| {
        let (start, end) = ("```nquads\n", "```\n");
        let (before, rest) = page.split_once(start).expect("the page has an example");
        let (_, after) = rest.split_once(end).expect("the example ends");
        format!("{before}{start}{example}{end}{after}")
    });
}

trait At {
    fn at(self, at: i64) -> Self;
}

impl At for Record {
    fn at(self, at: i64) -> Self {
        Self { at: Millis(at), ..self }
    }
}

#[test]
fn numbers_and_times_have_their_canonical_forms() {
    for (number, expected) in [
        (0.0, "0.0E0"),
        (-0.0, "0.0E0"),
        (1.0, "1.0E0"),
        (47e6, "4.7E7"),
        (-0.00125, "-1.25E-3"),
        (f64::MAX, "1.7976931348623157E308"),
        (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
        (5e-324, "5.0E-324"),
        (9_007_199_254_740_993.0, "9.007199254740992E15"),
    ] {
        assert_eq!(digits(number), expected);
    }
    let date = |text: &str| typed(text, "dateTime");
    let plain = |ms: i64| format!("\"{ms}\"^^<urn:stemedb:milliseconds>");
    for (ms, expected) in [
        (0, date("1970-01-01T00:00:00Z")),
        (-1, date("1969-12-31T23:59:59.999Z")),
        (1_760_000_060_500, date("2025-10-09T08:54:20.5Z")),
        (253_402_300_799_999, date("9999-12-31T23:59:59.999Z")),
        (253_402_300_800_000, plain(253_402_300_800_000)),
        (-62_135_596_800_000, date("0001-01-01T00:00:00Z")),
        // The year 0000, which readers of XSD 1.0 do not know.
        (-62_135_596_800_001, plain(-62_135_596_800_001)),
        (i64::MAX, plain(i64::MAX)),
        (i64::MIN, plain(i64::MIN)),
    ] {
        assert_eq!(time(Millis(ms)), expected);
    }
}

#[test]
fn names_are_what_no_program_rewrites() {
    for (name, expected) in [
        ("a", "a"),
        ("a/../b", "a%2F..%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("<x> \"y\"", "%3Cx%3E%20%22y%22"),
        ("é", "%C3%A9"),
        ("a:b#c?d", "a%3Ab%23c%3Fd"),
        ("\u{fffe}\u{10ffff}", "%EF%BF%BE%F4%8F%BF%BF"),
    ] {
        assert_eq!(iri("x:", name), format!("<urn:stemedb:x:{expected}>"));
    }
}

#[test]
fn texts_are_escaped() {
    for (said, expected) in [
        ("", r#""""#),
        ("a\"b\\c", r#""a\"b\\c""#),
        ("\t\n\r", r#""\t\n\r""#),
        ("\u{7f}\u{85}\u{0}", r#""\u007F\u0085\u0000""#),
        ("\u{fffe}\u{1ffff}", r#""\uFFFE\U0001FFFF""#),
        ("\u{2028}\u{feff}é🜚", "\"\u{2028}\u{feff}é🜚\""),
    ] {
        assert_eq!(text(said), expected, "{said:?}");
    }
}

/// The record that these quads are of. Only assertions are read back.
fn rebuilt(quads: &[Quad]) -> Record {
    let mut fields: BTreeMap<&str, Vec<&Term>> = BTreeMap::new();
    let mut meta = BTreeMap::new();
    for quad in quads {
        match quad.predicate.strip_prefix("urn:stemedb:meta:") {
            Some(key) => {
                let Term::Literal(said, _) = &quad.object else { panic!("{quad:?}") };
                meta.insert(decoded(key).as_str().into(), said.as_str().into());
            }
            None => fields.entry(&quad.predicate).or_default().push(&quad.object),
        }
    }
    let graph = &quads[0].graph;
    let space = graph.strip_prefix(&format!("urn:stemedb:graph:{}:", support::LOG_ID)).unwrap();
    let all = |field: &str| fields.get(&*format!("urn:stemedb:vocab:{field}"));
    let one = |field: &str| all(field).map(|found| found[0].clone());
    let id = |term: Term| term.iri("urn:stemedb:record:").parse::<RecordId>().unwrap();
    let said = |field: &str| one(field).map(|term| term.literal(&format!("{XSD}string")));
    let bytes = |term: Term| hex::decode(term.literal(&format!("{XSD}hexBinary"))).unwrap();
    let number = |term: Term| term.literal(&format!("{XSD}double")).parse::<f64>().unwrap();
    let Term::Triple(claim) = fields[&*format!("{RDF}reifies")][0] else { panic!("no claim") };
    let (subject, predicate, object) = &**claim;
    let subject = decoded(subject.strip_prefix(&format!("urn:stemedb:subject:{space}:")).unwrap());
    let predicate =
        decoded(predicate.strip_prefix(&format!("urn:stemedb:predicate:{space}:")).unwrap());
    let (uri, class) = (said("source_uri"), said("source_class"));
    let evidence = one("source_evidence").map(|term| Hash(bytes(term).try_into().unwrap()));
    let source = Provenance {
        uri: uri.as_deref().map(Into::into),
        evidence,
        class: class.map(|class| SourceClass::parse(&class).unwrap()),
    };
    Record {
        space: Space::parse(space).unwrap(),
        agent: one("agent").unwrap().iri("urn:stemedb:agent:").parse().unwrap(),
        at: moment(&one("at").unwrap()),
        log_id: None,
        body: Body::Assertion(Assertion {
            subject: Subject::parse(&subject).unwrap(),
            predicate: PredicateName::parse(&predicate).unwrap(),
            object: value(object, space),
            confidence: number(one("confidence").unwrap()),
            source: (source != Provenance::default()).then_some(source),
            valid_from: one("valid_from").map(|term| moment(&term)),
            valid_to: one("valid_to").map(|term| moment(&term)),
            epoch: one("epoch").map(id),
            lifecycle: LifecycleState::parse(&said("lifecycle").unwrap()).unwrap(),
            parent: one("parent").map(id),
            derived_from: all("derived_from")
                .into_iter()
                .flatten()
                .map(|t| id((*t).clone()))
                .collect(),
            vector: one("vector").map(|term| bytes(term).into()),
            visual_hash: one("visual_hash").map(|term| bytes(term).try_into().unwrap()),
            meta,
        }),
    }
}

fn value(object: &Term, space: &str) -> Value {
    match object {
        Term::Iri(iri) => {
            let name = iri.strip_prefix(&format!("urn:stemedb:subject:{space}:")).unwrap();
            Value::reference(&decoded(name)).unwrap()
        }
        Term::Literal(said, datatype) => match datatype.strip_prefix(XSD) {
            Some("string") => Value::text(said).unwrap(),
            Some("double") => Value::number(said.parse().unwrap(), None).unwrap(),
            Some("boolean") => Value::Boolean(said.parse().unwrap()),
            Some("dateTime") => Value::Time(moment(object)),
            None if datatype == "urn:stemedb:milliseconds" => Value::Time(moment(object)),
            None => {
                let unit = decoded(datatype.strip_prefix("urn:stemedb:unit:").unwrap());
                Value::number(said.parse().unwrap(), Some(&unit)).unwrap()
            }
            Some(other) => panic!("{other}"),
        },
        Term::Triple(_) => panic!("a claim about a claim"),
    }
}

fn moment(term: &Term) -> Millis {
    match term {
        Term::Literal(said, datatype) if datatype == "urn:stemedb:milliseconds" => {
            Millis(said.parse().unwrap())
        }
        Term::Literal(said, datatype) if *datatype == format!("{XSD}dateTime") => {
            Time::parse(said).unwrap().0
        }
        other => panic!("{other:?}"),
    }
}

/// The name behind percent-encoding.
fn decoded(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            assert_eq!(digits, digits.to_uppercase());
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Texts with what is likely to be written wrong.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z/%<>\"\\\\ .:#]{1,12}",
        "\\PC{1,12}",
        "[\u{e000}\u{f8ff}\u{fffe}\u{1ffff}\u{2028}\u{feff}\u{200d}é🜚]{1,6}",
    ]
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a\t\r\n\"\\\\é]{0,12}".prop_filter_map("text", |text| Value::text(&text).ok()),
        texts().prop_filter_map("text", |text| Value::text(&text).ok()),
        texts().prop_filter_map("reference", |text| Value::reference(&text).ok()),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(|at| Value::Time(Millis(at))),
        (-70_000_000_000_000..260_000_000_000_000i64).prop_map(|at| Value::Time(Millis(at))),
        (any::<f64>(), proptest::option::of(texts()))
            .prop_filter_map("number", |(number, unit)| {
                Value::number(number, unit.as_deref()).ok()
            }),
    ]
}

fn moments() -> impl Strategy<Value = Millis> {
    prop_oneof![any::<i64>(), -70_000_000_000_000..260_000_000_000_000i64].prop_map(Millis)
}

prop_compose! {
    fn assertions()(
        (subject, predicate) in (texts(), texts()).prop_filter_map("names", |(subject, predicate)| {
            Some((Subject::parse(&subject).ok()?, PredicateName::parse(&predicate).ok()?))
        }),
        object in values(),
        confidence in 0.0..=1.0f64,
        uri in proptest::option::of(texts()),
        evidence in proptest::option::of(any::<[u8; 32]>()),
        class in proptest::option::of(0usize..6),
        valid in proptest::option::of((any::<i64>(), any::<i64>())),
        ids in (proptest::option::of(any::<[u8; 32]>()), proptest::option::of(any::<[u8; 32]>())),
        premises in proptest::collection::btree_set(any::<[u8; 32]>(), 0..4),
        state in 0usize..5,
        vector in proptest::option::of(proptest::collection::vec(-1e9..1e9f32, 1..5)),
        visual_hash in proptest::option::of(any::<[u8; 8]>()),
        meta in proptest::collection::btree_map(texts(), texts(), 0..3),
    ) -> Assertion {
        let source = Provenance {
            uri: uri.map(Into::into),
            evidence: evidence.map(Hash),
            class: class.map(|class| SourceClass::ALL[class]),
        };
        Assertion {
            subject,
            predicate,
            object,
            confidence,
            source: (source != Provenance::default()).then_some(source),
            valid_from: valid.map(|(a, b)| Millis(a.min(b))),
            valid_to: valid.filter(|(a, b)| a != b).map(|(a, b)| Millis(a.max(b))),
            epoch: ids.0.map(RecordId),
            lifecycle: LifecycleState::ALL[state],
            parent: ids.1.map(RecordId),
            derived_from: premises.into_iter().map(RecordId).collect(),
            vector: vector.map(|v| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into()),
            visual_hash,
            meta: meta.into_iter().map(|(key, said)| (key.into(), said.into())).collect(),
        }
    }
}

proptest! {
    /// Every line is one quad, and together they are the claim: the same id.
    #[test]
    fn a_claim_comes_back_from_its_quads(
        assertion in assertions(),
        at in moments(),
        space in "[a-z0-9._-]{1,64}",
    ) {
        let record = Record {
            space: Space::parse(&space).unwrap(),
            at,
            ..support::record(Body::Assertion(assertion))
        };
        prop_assume!(record.validate().is_ok());
        let (signed, out) = quads_of(record.clone(), &support::key(1), 7);
        prop_assert!(out.ends_with('\n'));
        let quads: Vec<Quad> = out
            .split_terminator('\n')
            .map(|line| parse(line).unwrap_or_else(|problem| panic!("{problem}: {line}")))
            .collect();
        let own = format!("urn:stemedb:record:{}", signed.id());
        prop_assert!(quads.iter().all(|quad| quad.subject == own && quad.graph == quads[0].graph));
        let back = rebuilt(&quads);
        prop_assert_eq!(back.id(), signed.id());
        prop_assert_eq!(back, record);
    }
}

#[test]
fn the_parser_is_strict() {
    let good = r#"<a:s> <a:p> <<( <a:s> <a:p> "x"^^<a:t> )>> <a:g> ."#;
    parse(good).unwrap();
    for line in [
        "",
        "<a:s> <a:p> <a:o> .",
        "<a:s> <a:p> <a:o> <a:g>",
        "<a:s> <a:p> <a:o> <a:g> . ",
        "<s> <a:p> <a:o> <a:g> .",
        "<a:s s> <a:p> <a:o> <a:g> .",
        "<a:é> <a:p> <a:o> <a:g> .",
        "\"s\" <a:p> <a:o> <a:g> .",
        "<a:s> <a:p> \"o <a:g> .",
        "<a:s> <a:p> \"\\q\" <a:g> .",
        "<a:s> <a:p> \"\\u12\" <a:g> .",
        "<a:s> <a:p> \"\\UD8000000\" <a:g> .",
        "<a:s> <a:p> \"\u{0}\" <a:g> .",
        "<a:s> <a:p> \"\r\" <a:g> .",
        "<a:s> <a:p> << <a:s> <a:p> <a:o> >> <a:g> .",
        "<a:s> <a:p> <<( <a:s> <a:p> )>> <a:g> .",
    ] {
        parse(line).expect_err(line);
    }
}

/// Signatures are told as they are.
#[test]
fn a_cosignature_is_about_the_assertion() {
    let cosign = support::record(Body::Cosign(Cosign { assertion: support::id(6) }));
    let (signed, out) = quads_of(cosign, &support::key(1), 3);
    let quads: Vec<Quad> = out.lines().map(|line| parse(line).unwrap()).collect();
    let find = |field: &str| {
        let name = format!("urn:stemedb:vocab:{field}");
        quads.iter().find(|quad| quad.predicate == name).unwrap().object.clone()
    };
    assert_eq!(find("assertion"), Term::Iri(format!("urn:stemedb:record:{}", support::id(6))));
    let Term::Literal(signature, _) = find("signature") else { panic!("no literal") };
    let signature = Signature::from_slice(&hex::decode(signature).unwrap()).unwrap();
    assert_eq!(signature, signed.signature());
}
