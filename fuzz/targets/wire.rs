//! Arbitrary text as the body of a write: what is accepted can be signed, shown, and read again as
//! the same record.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use stemedb_model::{LogId, Millis, Signed, SigningKey};
use stemedb_server::wire::{AnyRecord, Incoming};

fn run(data: &[u8]) {
    match Incoming::parse(data) {
        Err(_) => {}
        Ok(Incoming::Bytes(signed)) => {
            // Nobody finds a signature by chance; the record may still be one.
            let _ = Signed::from_bytes(signed.bytes.0, signed.signature.0);
        }
        Ok(Incoming::Fields(draft)) => {
            let key = SigningKey::from_seed(&[1; 32]);
            let at = draft.at.unwrap_or(Millis(1));
            let record = draft.record(key.agent_id(), at, LogId([7; 16]));
            let Ok(signed) = Signed::seal(record, &key) else { return };
            let shown = AnyRecord::of(signed.record(), signed.id(), signed.signature());
            let text = serde_json::to_vec(&shown).expect("a record has a JSON form");
            let Ok(Incoming::Fields(again)) = Incoming::parse(&text) else {
                panic!("a record that was shown is not taken: {}", String::from_utf8_lossy(&text));
            };
            let again = again.record(key.agent_id(), at, LogId([7; 16]));
            assert_eq!(&again, signed.record());
        }
    }
}

fn seeds(to: &Path) {
    std::fs::create_dir_all(to).expect("a folder for seeds");
    let bodies = [
        r#"{"kind":"assertion","subject":"a","predicate":"b","object":"c","at":1}"#,
        r#"{"kind":"assertion","subject":"a","predicate":"b","object":{"number":1.5,"unit":"mg"},"confidence":0.5,"source":{"uri":"https://x.example","class":"clinical"},"valid_from":"2024-01-01","valid_to":1,"lifecycle":"approved","meta":{"k":"v"},"at":"2024-01-01T00:00:00Z"}"#,
        r#"{"kind":"vote","assertion":"0000000000000000000000000000000000000000000000000000000000000001","weight":1}"#,
        r#"{"kind":"epoch","label":"e","mode":"replace"}"#,
        r#"{"kind":"retract","record":"0000000000000000000000000000000000000000000000000000000000000001"}"#,
        r#"{"kind":"source","keys":["https://x.example"],"class":"clinical","title":"t"}"#,
        r#"{"kind":"alias","subject":"a","other":"b"}"#,
        r#"{"kind":"predicate","predicate":"b","type":"number","cardinality":"one","unit":"mg"}"#,
        r#"{"bytes":"a0","signature":"00"}"#,
    ];
    for (number, body) in bodies.iter().enumerate() {
        std::fs::write(to.join(format!("seed-{number}")), body).expect("a seed");
    }
}

fuzz_target!(
    init: {
        if let Some(to) = std::env::var_os("SEEDS") {
            seeds(Path::new(&to));
        }
    },
    |data: &[u8]| run(data)
);
