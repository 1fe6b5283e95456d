//! Drills against a running node: what comes back is compared, what would be lost is counted, and what
//! cannot come back is an answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
#![allow(clippy::disallowed_methods, reason = "files of the servers under test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::{Server, data_dir, json, run_in};
use serde_json::Value;
use stemedb_io::{Clock, RealClock};
use tempfile::TempDir;

/// A node with places for its archive and its backups. The archive gets what `archive run` puts there.
struct Site {
    far: TempDir,
    server: Server,
}

impl Site {
    fn start() -> Self {
        Self::with("24h", "")
    }

    fn with(delay: &str, more: &str) -> Self {
        let far = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[archive]\nurl = \"{0}/archive\"\ndelay = \"{delay}\"\n[backup]\nurl = \"{0}/backups\"\n{more}",
            far.path().display()
        );
        fs::write(dir.path().join("api.toml"), text).unwrap();
        Self { far, server: Server::again(dir) }
    }

    fn write(&self, from: u64, count: u64) {
        for n in from..from + count {
            let output =
                self.server.run(&["assert", &format!("s{}", n % 5), "p", &format!("v{n}")]);
            assert!(output.status.success(), "{output:?}");
        }
    }

    /// Of this node's configuration and data.
    fn run(&self, words: &[&str]) -> Output {
        let dir = self.server.dir.path();
        let (config, data) = (dir.join("api.toml"), data_dir(dir));
        let place =
            ["--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap(), "--json"];
        self.server.run(&[words, &place].concat())
    }

    /// A moment after the last write the files say that it was durable.
    fn archive_all(&self) {
        let (clock, newest) = (RealClock::new(), self.server.position());
        while json(&self.run(&["archive", "run"]), 0)["archived"].as_u64() != Some(newest) {
            assert!(clock.monotonic() < Duration::from_secs(60), "never archived");
            clock.sleep(Duration::from_millis(200));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.far.path().join(name)
    }
}

/// Waits until the server exports this series, and gives its value.
#[track_caller]
fn told(server: &Server, series: &str) -> f64 {
    let clock = RealClock::new();
    loop {
        let text = server.get("/metrics", &[]).text;
        if let Some(value) = text.lines().find_map(|line| line.strip_prefix(series)) {
            return value.trim().parse().unwrap();
        }
        assert!(clock.monotonic() < Duration::from_secs(30), "{series} is not exported: {text}");
        clock.sleep(Duration::from_millis(200));
    }
}

/// The largest object below a folder that is no list of others.
fn largest(dir: &Path) -> PathBuf {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_none_or(|ending| ending != "cbor") {
                found.push((fs::metadata(&path).unwrap().len(), path));
            }
        }
    }
    found.into_iter().max().unwrap().1
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_database_comes_back_as_the_node_has_it() {
    let site = Site::start();
    site.write(0, 8);
    site.archive_all();
    let archived = site.server.position();
    site.write(8, 3);
    let (reports, scratch) = (site.path("reports"), site.path("scratch"));
    fs::create_dir(&scratch).unwrap();
    let (report_to, scratch_to) = (reports.to_str().unwrap(), scratch.to_str().unwrap());
    let drill = ["drill", "restore", "--report", report_to, "--scratch", scratch_to];
    let found = json(&site.run(&drill), 0);
    assert_eq!((&found["same"], found["position"].as_u64()), (&true.into(), Some(archived)));
    assert_eq!(found["log_root"]["restored"], found["log_root"]["node"]);
    assert_eq!(found["answer_root"]["restored"], found["answer_root"]["node"]);
    // What was written since would be lost.
    assert_eq!(found["rpo_positions"], 3);
    let rpo = found["rpo_seconds"].as_f64().unwrap();
    assert!(rpo > 0.0 && rpo < 120.0, "{found}");
    let rto = found["rto_seconds"].as_f64().unwrap();
    let steps = found["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["plan", "fetch", "prove", "index"]);
    let sum: f64 = steps.iter().map(|step| step["seconds"].as_f64().unwrap()).sum();
    assert!((sum - rto).abs() < 1e-6 && rto > 0.0, "{found}");
    // Nothing is left but the report, and the server tells of it.
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    let mut endings: Vec<String> = fs::read_dir(&reports)
        .unwrap()
        .map(|entry| entry.unwrap().path().extension().unwrap().to_string_lossy().into_owned())
        .collect();
    endings.sort();
    assert_eq!(endings, ["json", "md", "svg"]);
    let series = |name: &str, drill: &str| format!("stemedb_drill_{name}{{drill=\"{drill}\"}}");
    assert_eq!(told(&site.server, &series("rto_seconds", "restore")), rto);
    assert_eq!(told(&site.server, &series("rpo_seconds", "restore")), rpo);

    let found = json(&site.run(&["drill", "backup"]), 0);
    assert!(found["position"].as_u64() > Some(archived), "{found}");
    assert!(found["rpo_positions"].as_u64() <= Some(1), "{found}");
    assert!(told(&site.server, &series("last_success_timestamp_seconds", "backup")) > 1.7e9);
    let verified = "stemedb_backup_last_verified_timestamp_seconds";
    let clock = RealClock::new();
    while told(&site.server, verified) == 0.0 {
        assert!(clock.monotonic() < Duration::from_secs(30), "{verified} stays 0");
    }
    // By its id, of which nothing is said but that it comes back.
    let id = found["backup"].as_str().unwrap();
    let again = json(&site.run(&["drill", "restore", "--backup", id]), 0);
    assert_eq!(again["log_root"], found["log_root"]);
}

/// Names of all objects that are there, without the leases: those are renewed.
fn objects(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("lease") => {}
                true => left.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_standby_takes_over_in_a_scratch_folder() {
    let site = Site::with("100ms", "[cluster]\nlease = \"5s\"\nskew = \"1s\"\n");
    site.write(0, 8);
    let newest = site.server.position();
    let clock = RealClock::new();
    let archived = "stemedb_wal_archived_position";
    while told(&site.server, archived) < newest as f64 {
        assert!(clock.monotonic() < Duration::from_secs(30), "never archived");
        clock.sleep(Duration::from_millis(100));
    }
    // The files of the node are put beside the archive within some seconds.
    clock.sleep(Duration::from_secs(4));
    let before = objects(&site.path("archive"));
    let (reports, scratch) = (site.path("reports"), site.path("scratch"));
    fs::create_dir(&scratch).unwrap();
    let (report_to, scratch_to) = (reports.to_str().unwrap(), scratch.to_str().unwrap());
    let drill = ["drill", "failover", "--watch", "1s"];
    let words = [&drill[..], &["--report", report_to, "--scratch", scratch_to]].concat();
    let found = json(&site.run(&words), 0);
    assert_eq!((&found["same"], found["position"].as_u64()), (&true.into(), Some(newest)));
    assert_eq!(found["log_root"]["restored"], found["log_root"]["node"]);
    assert_eq!(found["answer_root"]["restored"], found["answer_root"]["node"]);
    assert_eq!((&found["rpo_positions"], &found["rpo_seconds"]), (&0.into(), &0.0.into()));
    assert_eq!((&found["written"], &found["lag_positions_max"]), (&0.into(), &0.into()));
    assert_eq!((&found["lease_seconds"], &found["skew_seconds"]), (&5.0.into(), &1.0.into()));
    let steps = found["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["look", "log", "open"]);
    let sum: f64 = steps.iter().map(|step| step["seconds"].as_f64().unwrap()).sum();
    let rto = found["rto_seconds"].as_f64().unwrap();
    assert!((sum + 6.0 - rto).abs() < 1e-6 && sum > 0.0, "{found}");
    // The node and its archive are what they were.
    assert_eq!(objects(&site.path("archive")), before);
    site.write(8, 1);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&reports).unwrap().count(), 3);
    let series = "stemedb_drill_rto_seconds{drill=\"failover\"}";
    assert_eq!(told(&site.server, series), rto);
}

#[test]
fn a_standby_is_seen_to_lag_while_somebody_writes() {
    let site = Site::with("1s", "");
    site.write(0, 2);
    let clock = RealClock::new();
    while told(&site.server, "stemedb_wal_archived_position") == 0.0 {
        assert!(clock.monotonic() < Duration::from_secs(30), "never archived");
        clock.sleep(Duration::from_millis(100));
    }
    let found = std::thread::scope(|scope| {
        let drill = scope.spawn(|| json(&site.run(&["drill", "failover", "--watch", "6s"]), 0));
        let mut next = 2;
        while !drill.is_finished() {
            site.write(next, 1);
            next += 1;
        }
        drill.join().unwrap()
    });
    assert!(found["written"].as_u64() > Some(0), "{found}");
    assert!(found["lag_positions_max"].as_u64() > Some(0), "{found}");
    let lag = found["lag_seconds_max"].as_f64().unwrap();
    assert!(lag > 0.5 && lag < 60.0, "{found}");
    assert_eq!((&found["same"], &found["lease_seconds"]), (&true.into(), &Value::Null));
}

#[test]
fn what_cannot_come_back_is_an_answer() {
    let site = Site::start();
    site.write(0, 4);
    // Nothing is archived, nothing is backed up.
    assert_eq!(site.run(&["drill", "restore"]).status.code(), Some(1));
    assert_eq!(site.run(&["drill", "failover"]).status.code(), Some(1));
    assert_eq!(site.run(&["drill", "restore", "--backup", "newest"]).status.code(), Some(1));
    site.archive_all();
    json(&site.run(&["drill", "restore"]), 0);
    json(&site.run(&["backup", "create"]), 0);
    let newest = ["drill", "restore", "--backup", "newest"];
    json(&site.run(&newest), 0);

    flip(&largest(&site.path("backups").join(site.server.log_id.to_string())));
    flip(&largest(&site.path("archive").join(site.server.log_id.to_string())));
    for words in [&newest[..], &["drill", "restore"]] {
        let output = site.run(words);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("is not what was uploaded"), "{words}");
    }

    // It could not be tried: another node answers, or none.
    let another = Server::start();
    let mine = site.server.dir.path().join("api.toml");
    let data = data_dir(site.server.dir.path());
    let place = ["--config", mine.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    let output = another.run(&[&newest[..], &place].concat());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("serves database"), "{words}");
    let dir = site.server.stop();
    let here = ["--data-dir", data.to_str().unwrap(), "--url", "http://127.0.0.1:1"];
    assert_eq!(run_in(&dir, &[&newest[..], &here].concat()).status.code(), Some(2));
}

/// Two copies of one folder were served: the archive of the one is not the node of the other.
#[test]
fn another_history_is_not_the_same() {
    let site = Site::start();
    site.write(0, 4);
    let Site { far, server } = site;
    let dir = server.stop();
    let copy = tempfile::tempdir().unwrap();
    let status =
        Command::new("cp").args(["-a"]).arg(data_dir(dir.path())).arg(copy.path()).status();
    assert!(status.unwrap().success());
    let (other, server) = (Server::again(copy), Server::again(dir));
    for (server, value) in [(&other, "theirs"), (&server, "ours")] {
        let output = server.run(&["assert", "s", "p", value]);
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(other.position(), server.position());
    // What is last, the files do not show to be durable yet.
    assert!(server.run(&["assert", "s", "p", "later"]).status.success());
    let store = far.path().join("theirs");
    let copied = other.stop();
    let theirs = data_dir(copied.path());
    let words = ["--store", store.to_str().unwrap(), "--data-dir"];
    let run = [&["archive", "run"], &words[..], &[theirs.to_str().unwrap()]].concat();
    assert!(run_in(&copied, &run).status.success());
    let ours = data_dir(server.dir.path());
    let drill = [&["drill", "restore", "--json"], &words[..], &[ours.to_str().unwrap()]].concat();
    let output = server.run(&drill);
    let found = json(&output, 1);
    assert_eq!(found["same"], false);
    assert_ne!(found["log_root"]["restored"], found["log_root"]["node"]);
    assert_ne!(found["answer_root"]["restored"], found["answer_root"]["node"]);
}
