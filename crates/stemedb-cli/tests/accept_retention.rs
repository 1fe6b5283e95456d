//! Old segments go once they are safe in two places, and nothing is missing afterwards: every answer
//! is as before, with the index or made anew from what is left and the archive.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
#![allow(clippy::disallowed_methods, reason = "files of the servers under test")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use common::{Server, data_dir, json, run_in, until};
use serde_json::Value;

/// Claims of some five segments, as import takes them.
fn claims(file: &Path) {
    let mut lines = String::new();
    for n in 0..700_u64 {
        let noise: String = (0..100).map(|at| format!("{:064x}", n * 7_919 + at)).collect();
        let (subject, source) = (n % 11, n % 5);
        let _ = writeln!(
            lines,
            "{{\"subject\":\"s{subject}\",\"predicate\":\"p\",\"object\":\"{n} {noise}\",\
             \"source\":\"https://example.org/{source}\",\"timestamp\":\"2024-01-02T00:00:00Z\",\
             \"confidence\":0.5}}"
        );
    }
    fs::write(file, lines).unwrap();
}

fn segments(wal: &Path) -> Vec<String> {
    let names = fs::read_dir(wal).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".wal"));
    names.sort();
    names
}

/// What every start must tell alike.
fn told(server: &Server, past: &str) -> (String, String, Value, String) {
    let export = server.get("/v1/export", &[("live", "false")]).text;
    let early = server.get("/v1/admin/root", &[("position", past)]).expect(200);
    let feed = server.get("/v1/feed", &[("limit", "50")]);
    assert_eq!(feed.status, 200, "{}", feed.text);
    (server.answer_root(), export, early["answer_root"].clone(), feed.text)
}

#[test]
fn what_was_removed_is_missed_by_nobody() {
    let far = tempfile::tempdir().unwrap();
    let path = |name: &str| far.path().join(name).display().to_string();
    let (archive, backups) = (path("archive"), path("backups"));
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[wal]\nretention = \"archived\"\n[archive]\nurl = \"{archive}\"\ndelay = \"200ms\"\n[backup]\nurl = \
         \"{backups}\"\n"
    );
    let config = dir.path().join("api.toml");
    fs::write(&config, text).unwrap();
    let server = Server::again(dir);
    let config = config.display().to_string();
    let data = data_dir(server.dir.path());
    let (wal, data) = (data.join("wal"), data.display().to_string());
    let lines = path("claims.jsonl");
    claims(Path::new(&lines));
    let imported = server.run(&["import", &lines]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let newest = server.position();
    let whole = segments(&wal);
    assert!(whole.len() >= 5, "{whole:?}");
    let before = told(&server, "20");

    let status = ["archive", "status", "--store", &archive, "--data-dir", &data, "--json"];
    until("archived", || {
        let output = server.run(&status);
        output.status.success() && json(&output, 0)["archived"].as_u64() >= Some(newest)
    });
    let place = ["--store", backups.as_str(), "--data-dir", data.as_str(), "--json"];
    let create = [&["backup", "create"][..], &place[..]].concat();
    until("a backup of the newest position", || {
        json(&server.run(&create), 0)["position"].as_u64() == Some(newest)
    });
    assert!(Path::new(&wal).join(&whole[0]).exists(), "removed without a verified backup");
    let verify = [&["backup", "verify", "--deep"][..], &place[..]].concat();
    assert_eq!(json(&server.run(&verify), 0)["noted"], true);
    until("removed", || !wal.join(&whole[0]).exists());
    until("all of them", || segments(&wal).len() <= 3);
    assert_eq!(told(&server, "20"), before);
    let scraped = server.get("/metrics", &[]).text;
    let line = |name: &str| scraped.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(!line("stemedb_wal_segments_removed_total").ends_with(" 0"), "{scraped}");

    // The index is lost: it is made from the archive and what is here.
    let dir = server.kill();
    let checked = run_in(&dir, &["wal", "verify", &wal.display().to_string()]);
    let words = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && words.contains("begins with position"), "{words}");
    let stat = run_in(&dir, &["wal", "stat", "--json", &wal.display().to_string()]);
    assert!(json(&stat, 0)["first_kept"].as_u64() > Some(1));
    let index = Path::new(&data).join("index");
    fs::remove_dir_all(&index).unwrap();
    let server = Server::again(dir);
    assert_eq!(told(&server, "20"), before);

    // The same of a stopped node; and one that does not know where its archive is says so.
    let dir = server.stop();
    let reindexed =
        run_in(&dir, &["admin", "reindex", "--config", &config, "--data-dir", &data, "--json"]);
    assert_eq!(json(&reindexed, 0)["position"].as_u64(), Some(newest));
    let lost = run_in(&dir, &["admin", "reindex", "--data-dir", &data]);
    let words = String::from_utf8_lossy(&lost.stderr);
    assert_eq!(lost.status.code(), Some(2), "{words}");
    assert!(words.contains("set archive.url"), "{words}");
    let removed = run_in(
        &dir,
        &["wal", "repair", "--plan", "--segment", &wal.join(&whole[0]).display().to_string()],
    );
    let words = String::from_utf8_lossy(&removed.stderr);
    assert!(words.contains("was removed from the log"), "{words}");
    let server = Server::again(dir);
    assert_eq!(told(&server, "20"), before);
}
