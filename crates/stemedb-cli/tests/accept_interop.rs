//! The record format written a second time, in another language, from `docs/format/record.md`
//! alone: it builds, signs and asserts a record of each kind and gets the ids that it computed.
//! Genesis, which no caller writes, is held to its test vector there.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test support: what is not there fails the test"
)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::{Server, data_dir};
use stemedb_model::Kind;

#[test]
#[ignore = "needs the Python that `make setup` installs; `make interop` runs it"]
fn records_made_elsewhere_have_the_ids_computed_there() {
    let venv = std::env::var_os("STEMEDB_VENV").expect("STEMEDB_VENV names the Python to use");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop/record.py");
    let server = Server::start();
    let before = server.position();
    let output = Command::new(Path::new(&venv).join("bin/python"))
        .arg(script)
        .args(["--server", server.url(), "--root-key"])
        .arg(data_dir(server.dir.path()).join("node/root.key"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let recorded: Vec<(&str, u64)> = said
        .lines()
        .filter_map(|line| line.strip_prefix("ok   ")?.split_once(" at position "))
        .map(|(kind, position)| (kind, position.parse().unwrap()))
        .collect();
    // Each at the next position, and what is there is of the kind that was meant.
    let export = server.get("/v1/export", &[("live", "false")]).text;
    let entries: Vec<serde_json::Value> =
        export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for ((kind, position), expected) in recorded.iter().zip(before + 1..) {
        assert_eq!(*position, expected, "{kind}");
        let entry = &entries[usize::try_from(expected - 1).unwrap()];
        assert_eq!(
            (&entry["position"], &entry["record"]["kind"]),
            (&expected.into(), &(*kind).into())
        );
    }
    let kinds: BTreeSet<&str> = recorded.iter().map(|(kind, _)| *kind).collect();
    let all: BTreeSet<&str> =
        Kind::ALL.iter().filter(|kind| **kind != Kind::Genesis).map(|kind| kind.name()).collect();
    assert_eq!(kinds, all);
}
