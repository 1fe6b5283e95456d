//! Commands and what they print, against a running server. `TRYCMD=overwrite` writes the expected
//! output anew; `[..]` stands for anything.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and tampers with files behind the server's back"
)]

mod support;

use support::TestServer;

#[test]
fn scripts() {
    let server = TestServer::start();
    let cases = trycmd::TestCases::new();
    cases
        .register_bin("stemedb", std::path::PathBuf::from(env!("CARGO_BIN_EXE_stemedb")))
        .register_bin(
            "stemedb-wal-verify",
            std::path::PathBuf::from(env!("CARGO_BIN_EXE_stemedb-wal-verify")),
        )
        .register_bin(
            "stemedb-wal-repair",
            std::path::PathBuf::from(env!("CARGO_BIN_EXE_stemedb-wal-repair")),
        )
        .env("STEMEDB_URL", &server.url)
        .env("STEMEDB_ROOT_KEY", server.root_key.display().to_string())
        .env("NO_COLOR", "1")
        .case("tests/scripts/*.trycmd");
    cases.run();
}

#[test]
fn scripts_signed_by_the_root_key() {
    let server = TestServer::start();
    let cases = trycmd::TestCases::new();
    cases
        .register_bin("stemedb", std::path::PathBuf::from(env!("CARGO_BIN_EXE_stemedb")))
        .env("STEMEDB_URL", &server.url)
        .env("STEMEDB_KEY", server.root_key.display().to_string())
        .env("NO_COLOR", "1")
        .case("tests/scripts/root/*.trycmd");
    cases.run();
}

/// A log of which a record is damaged, made for the test: formats still change.
#[test]
fn scripts_about_a_damaged_log() {
    let server = TestServer::start();
    let (stemedb, url) = (env!("CARGO_BIN_EXE_stemedb"), server.url.clone());
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(stemedb);
        let output = command.args(args).env("STEMEDB_URL", &url).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // Genesis and the custodial agent went before.
    for n in 3..8 {
        run(&["assert", "thing", &format!("property {n}"), "a value", "--at", "2024-05-01"]);
    }
    let claim = run(&["assert", "thing", "property 3", "a value", "--at", "2024-05-01", "--json"]);
    let claim: serde_json::Value = serde_json::from_str(&claim).unwrap();
    run(&["vote", claim["id"].as_str().unwrap(), "1", "--at", "2024-05-01"]);
    let wal = server.stop();

    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("damaged.in/wal");
    std::fs::create_dir_all(&copy).unwrap();
    for file in std::fs::read_dir(&wal.wal).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let segment = copy.join("segment.001.wal");
    let folder = copy.display().to_string();
    let dump = run(&["wal", "dump", &folder, "--from", "5", "--to", "5", "--json"]);
    let groups = dump.lines().map(|line| serde_json::from_str(line).unwrap());
    let group = groups.into_iter().find(|line: &serde_json::Value| line["kind"] == "entries");
    let block = group.unwrap()["block"].as_u64().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    *bytes.get_mut(usize::try_from(block * 4096 + 800).unwrap()).unwrap() ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let script = "tests/scripts/damaged/damaged.trycmd";
    let place = dir.path().join("damaged.trycmd");
    std::fs::copy(script, &place).unwrap();
    let cases = trycmd::TestCases::new();
    let bin = |path: &str| std::path::PathBuf::from(path);
    cases
        .register_bin("stemedb", bin(stemedb))
        .register_bin("stemedb-wal-verify", bin(env!("CARGO_BIN_EXE_stemedb-wal-verify")))
        .register_bin("stemedb-wal-repair", bin(env!("CARGO_BIN_EXE_stemedb-wal-repair")))
        .env("NO_COLOR", "1")
        .case(&place);
    let overwrite = std::env::var_os("TRYCMD").is_some();
    cases.run();
    if overwrite {
        std::fs::copy(&place, script).unwrap();
    }
}
