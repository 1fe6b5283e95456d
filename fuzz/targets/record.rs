//! Arbitrary bytes as a record: what is accepted is in its one canonical form, whoever reads it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use stemedb_model::Record;

fn run(data: &[u8]) {
    // Damaged bytes of the log come here without a check before.
    let trusted = Record::decode_trusted(data);
    let Ok(record) = Record::decode(data) else { return };
    assert_eq!(record.encode(), data, "two forms of one record");
    assert_eq!(trusted.as_ref(), Ok(&record));
    assert_eq!(record.validate(), Ok(()));
}

/// The test vectors of the format, one of every kind and shape.
fn seeds(to: &Path) {
    std::fs::create_dir_all(to).expect("a folder for seeds");
    let vectors = include_str!("../../docs/format/vectors/record.json");
    for (number, hex) in vectors.split('"').filter(|word| is_hex(word)).enumerate() {
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .filter_map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).ok())
            .collect();
        std::fs::write(to.join(format!("seed-{number}")), bytes).expect("a seed");
    }
}

/// Long enough to be a record: ids, keys and signatures are shorter or as long as 64 bytes.
fn is_hex(word: &str) -> bool {
    word.len() > 128 && word.len().is_multiple_of(2) && word.bytes().all(|b| b.is_ascii_hexdigit())
}

fuzz_target!(
    init: {
        if let Some(to) = std::env::var_os("SEEDS") {
            seeds(Path::new(&to));
        }
    },
    |data: &[u8]| run(data)
);
