//! Records through their doors: sealed here, read back from bytes, refused when changed.

mod support;

use std::collections::BTreeSet;

use stemedb_model::*;
use support::*;

#[test]
fn every_kind_has_a_sample() {
    let kinds: BTreeSet<Kind> = samples().iter().map(|(_, record)| record.kind()).collect();
    assert_eq!(kinds.len(), Kind::ALL.len());
}

#[test]
fn sealed_records_come_back_from_bytes() {
    for (name, record) in samples() {
        let sealed = Signed::seal(record.clone(), &key(1)).unwrap();
        let read = Signed::from_bytes(sealed.bytes().clone(), sealed.signature()).unwrap();
        let trusted = Signed::trusted(sealed.bytes().clone(), sealed.signature()).unwrap();
        assert_eq!(trusted, read);
        assert_eq!(read, sealed, "{name}");
        assert_eq!(Record::decode_trusted(sealed.bytes()).unwrap(), record, "{name}");
        assert_eq!(Signed::verify(record.clone(), sealed.signature()).unwrap(), sealed, "{name}");
        assert_eq!(record.id(), sealed.id(), "{name}");
    }
}
