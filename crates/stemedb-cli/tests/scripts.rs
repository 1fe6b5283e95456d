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
