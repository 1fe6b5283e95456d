//! What a record costs to encode, decode and verify, in nanoseconds: the best of many rounds on
//! one thread. `cargo run --release -p stemedb-model --example record_cost`

#![expect(clippy::disallowed_methods, reason = "measures real time; nothing else runs here")]

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use stemedb_model::*;

fn main() -> Result<(), Box<dyn Error>> {
    let key = SigningKey::from_seed(&[1; 32]);
    let body = Body::Assertion(Assertion {
        subject: Subject::parse("drugs/semaglutide")?,
        predicate: PredicateName::parse("nausea_rate")?,
        object: Value::number(0.44, Some("percent"))?,
        confidence: 0.9,
        source: Some(Provenance {
            uri: Some("https://example.org/trials/NCT01234567".into()),
            evidence: None,
            class: Some(SourceClass::Clinical),
        }),
        valid_from: None,
        valid_to: None,
        epoch: None,
        lifecycle: LifecycleState::Proposed,
        parent: None,
        derived_from: vec![],
        vector: None,
        visual_hash: None,
        meta: BTreeMap::new(),
    });
    let at = Millis(1_760_000_000_000);
    let record = Record { space: Space::default(), agent: key.agent_id(), at, log_id: None, body };
    let signed = Signed::seal(record.clone(), &key)?;
    let (bytes, id, signature) = (signed.bytes(), signed.id(), signed.signature());
    println!("an assertion of {} bytes, ns:", bytes.len());

    let mut buffer = Vec::new();
    measure("encode into a kept buffer", 1000, || {
        buffer.clear();
        record.encode_into(&mut buffer);
        buffer.len()
    });
    measure("encode", 1000, || record.encode());
    measure("validate", 1000, || record.validate());
    measure("id of bytes", 1000, || record_id(Kind::Assertion, bytes));
    measure("decode_trusted", 1000, || Record::decode_trusted(bytes));
    measure("decode", 1000, || Record::decode(bytes));
    measure("sign an id", 50, || key.sign(&id));
    measure("verify a signature", 50, || verify_signature(key.agent_id(), &id, &signature));
    measure("Signed::from_bytes", 50, || Signed::from_bytes(bytes.clone(), signature));
    Ok(())
}

fn measure<T>(name: &str, count: u32, mut run: impl FnMut() -> T) {
    let round = |_| {
        let start = Instant::now();
        for _ in 0..count {
            black_box(run());
        }
        start.elapsed().as_nanos() / u128::from(count)
    };
    let best = (0..200).map(round).min().unwrap_or_default();
    println!("{best:>8}  {name}");
}
