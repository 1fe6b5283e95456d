//! `stemedb doctor` on real nodes and real file systems, sound and unsound. What needs loop devices and
//! mounts needs root, is ignored without, and counted so.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and tampers with files behind the server's back"
)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{Server, data_dir};
use serde_json::Value;
use stemedb_io::{Clock, RealClock};
use tempfile::TempDir;

const STEMEDB: &str = env!("CARGO_BIN_EXE_stemedb");

/// What a doctor said.
#[derive(Debug)]
struct Report {
    status: Option<i32>,
    findings: Vec<Value>,
    verdict: Value,
}

impl Report {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let mut findings: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let verdict = findings.pop().unwrap_or_else(|| panic!("{output:?}"));
        Self { status: output.status.code(), findings, verdict }
    }

    /// The severities of a check, `not seen` for what could not be looked at.
    fn severities(&self, check: &str) -> Vec<&str> {
        let of_check = self.findings.iter().filter(|finding| finding["check"] == check);
        of_check
            .map(|finding| match finding["looked_at"] == true {
                true => finding["severity"].as_str().unwrap(),
                false => "not seen",
            })
            .collect()
    }

    #[track_caller]
    fn expect(&self, expected: &[(&str, &[&str])]) {
        for (check, severities) in expected {
            assert_eq!(self.severities(check), *severities, "{check}: {self:#?}");
        }
    }

    #[track_caller]
    fn finding(&self, check: &str, severity: &str) -> &Value {
        let mut all = self.findings.iter();
        let found = all.find(|one| one["check"] == check && one["severity"] == severity);
        found.unwrap_or_else(|| panic!("{check} {severity}: {self:#?}"))
    }
}

/// A doctor for a node that is to listen where it can always listen.
fn doctor(data: &Path) -> Command {
    let mut command = Command::new(STEMEDB);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STEMEDB_")) {
        command.env_remove(name);
    }
    command.args(["doctor", "--json", "--data-dir"]).arg(data);
    command.env("STEMEDB_SERVER__LISTEN", "127.0.0.1:0");
    command
}

fn report(data: &Path) -> Report {
    Report::of(&doctor(data).output().unwrap())
}

/// Every name under a folder.
fn names(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(names(&path));
        }
        found.insert(path);
    }
    found
}

#[test]
fn a_node_that_runs_and_then_does_not() {
    let server = Server::start();
    let data = data_dir(server.dir.path());
    let listen = server.url().strip_prefix("http://").unwrap().to_owned();
    let before = names(&data);
    let here = || {
        let mut command = doctor(&data);
        command.env("STEMEDB_SERVER__LISTEN", &listen);
        command
    };
    let found = Report::of(&here().output().unwrap());
    found.expect(&[
        ("build", &["ok"]),
        ("config", &["ok"]),
        ("folders", &["ok"]),
        ("port", &["ok"]),
        ("node", &["ok"]),
        ("index", &["ok"]),
        ("audit", &["ok", "ok"]),
    ]);
    assert_eq!(found.severities("log").first(), Some(&"ok"), "{found:#?}");
    assert_eq!(found.verdict["running"], true);
    let log = found.finding("log", "ok");
    assert!(log["evidence"].as_str().unwrap().contains("position 2 of "), "{log}");
    let by_socket = found.finding("node", "ok")["evidence"].as_str().unwrap().to_owned();
    assert!(by_socket.starts_with("unix:"), "{by_socket}");
    // A laden disk may be slow; nothing has failed.
    let metrics = found.severities("metrics");
    assert!(matches!(metrics.as_slice(), ["ok" | "warning"]), "{found:#?}");
    // Nothing went, and nothing came but what a node that runs makes.
    let own = |path: &&PathBuf| !path.starts_with(data.join("index"));
    let after = names(&data);
    assert_eq!(before.difference(&after).find(own), None);
    let made = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("segment.");
    assert_eq!(after.difference(&before).filter(own).find(|path| !made(path)), None);
    // The node noticed nothing.
    assert_eq!(server.get("/readyz", &[]).status, 200);

    let dir = server.stop();
    let before = names(&data);
    let found = Report::of(&here().output().unwrap());
    found.expect(&[
        ("port", &["ok"]),
        ("node", &["note"]),
        ("metrics", &["not seen"]),
        ("index", &["not seen"]),
    ]);
    assert_eq!(found.verdict["running"], false);
    assert_eq!(names(&data), before);

    // The port is another's now, and a key is open to others.
    let taken = TcpListener::bind(&listen).unwrap();
    let key = data.join("node/root.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let found = Report::of(&here().output().unwrap());
    found.expect(&[("port", &["critical"]), ("folders", &["critical"])]);
    assert_eq!(found.status, Some(1));
    let next = &found.finding("folders", "critical")["next"];
    assert_eq!(next.as_str().unwrap(), format!("chmod 600 {}", key.display()));
    drop(taken);

    // One bit of what was acknowledged.
    let segment = data.join("wal/segment.001.wal");
    let mut bytes = std::fs::read(&segment).unwrap();
    *bytes.get_mut(4096 + 800).unwrap() ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let found = Report::of(&here().output().unwrap());
    let next = found.finding("log", "critical")["next"].as_str().unwrap().to_owned();
    assert_eq!(next, format!("stemedb wal verify {}", data.join("wal").display()));

    // All of it.
    std::fs::remove_dir_all(data.join("wal")).unwrap();
    let found = Report::of(&here().output().unwrap());
    found.expect(&[("log", &["critical"])]);
    drop(dir);
}

#[test]
fn another_database_at_the_address_is_not_taken_for_this_one() {
    let ours = Server::start().stop();
    let other = Server::start();
    let mut command = doctor(&data_dir(ours.path()));
    command.env("STEMEDB_SERVER__LISTEN", other.url().strip_prefix("http://").unwrap());
    let found = Report::of(&command.output().unwrap());
    found.expect(&[("port", &["critical"]), ("node", &["note"]), ("metrics", &["not seen"])]);
    let log_id = other.log_id.to_string();
    let port = found.finding("port", "critical")["evidence"].as_str().unwrap().to_owned();
    assert!(port.contains(&log_id), "{port}");
}

#[test]
fn for_people_the_verdict_is_the_last_line_and_colours_are_for_terminals() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(STEMEDB)
        .args(["doctor", "--no-probe", "--data-dir"])
        .arg(dir.path().join("nowhere"))
        .env("STEMEDB_SERVER__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.contains("there is no database here"), "{text}");
    assert!(text.contains("next: stemedb serve --data-dir "), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.ends_with("not looked at)"), "{text}");
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn a_wrong_configuration_is_a_finding_and_a_missing_one_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("api.toml");
    std::fs::write(&file, "[wal]\nsegmnt_bytes = 1\n").unwrap();
    let output = doctor(dir.path()).arg("--config").arg(&file).output().unwrap();
    let found = Report::of(&output);
    found.expect(&[("config", &["critical"])]);
    assert_eq!(found.status, Some(1));
    let evidence = found.finding("config", "critical")["evidence"].as_str().unwrap().to_owned();
    assert!(evidence.contains("segmnt_bytes"), "{evidence}");
    let output = doctor(dir.path()).args(["--config", "/nowhere/api.toml"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{output:?}");
}

#[test]
#[ignore = "needs root (another user); `make unit` runs it as root"]
fn without_rights_it_says_what_it_could_not_see() {
    let server = Server::start();
    let data = data_dir(server.dir.path());
    // Others may pass through, but the folders of the node stay closed.
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).unwrap();
    };
    open(server.dir.path());
    let place = tempfile::tempdir().unwrap();
    open(place.path());
    let binary = place.path().join("stemedb");
    std::fs::copy(STEMEDB, &binary).unwrap();
    let output = Command::new(&binary)
        .args(["doctor", "--json", "--data-dir"])
        .arg(&data)
        .env("STEMEDB_SERVER__LISTEN", server.url().strip_prefix("http://").unwrap())
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let found = Report::of(&output);
    found.expect(&[("probe", &["not seen"]), ("node", &["ok"])]);
    let log = found.severities("log");
    assert!(log.iter().all(|severity| *severity == "not seen"), "{found:#?}");
    assert_ne!(found.status, Some(2), "{found:#?}");
}

fn run(program: &str, args: &[&str]) {
    let mut command = Command::new(program);
    // Where Debian keeps them, whatever the path of whoever runs the tests.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    command.args(args).env("PATH", path);
    let mut output = command.output().unwrap();
    // mkfs of Btrfs looks at all mounts first, and stumbles over one that goes away meanwhile.
    for _ in 0..20 {
        if output.status.success() || !program.starts_with("mkfs") {
            break;
        }
        RealClock::new().sleep(Duration::from_millis(200));
        output = command.output().unwrap();
    }
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A file system of its own, with the folders of a node; unmounted when dropped.
struct Volume {
    point: PathBuf,
    mounted: bool,
    _dir: TempDir,
}

impl Volume {
    /// Made by `mkfs` in a file and mounted over a loop device.
    fn on_loop(mkfs: &[&str], bytes: u64, options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk.img");
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        let image = image.to_str().unwrap();
        let (program, args) = mkfs.split_first().unwrap();
        run(program, &[args, &[image]].concat());
        let options = format!("loop,{options}");
        Self::mount(dir, &["-o", &options, image])
    }

    fn tmpfs(options: &str) -> Self {
        Self::mount(tempfile::tempdir().unwrap(), &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    fn mount(dir: TempDir, args: &[&str]) -> Self {
        let point = dir.path().join("m");
        std::fs::create_dir(&point).unwrap();
        let mut volume = Self { point, mounted: false, _dir: dir };
        run("mount", &[args, &[volume.point.to_str().unwrap()]].concat());
        volume.mounted = true;
        for folder in ["wal", "index", "node"] {
            std::fs::create_dir_all(volume.data().join(folder)).unwrap();
        }
        volume
    }

    fn data(&self) -> PathBuf {
        self.point.join("data")
    }

    /// The loop device.
    fn device(&self) -> String {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let point = self.point.to_str().unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(point)).unwrap();
        line.split(' ').next().unwrap().to_owned()
    }

    /// Has an ext4 find an error in itself; gives the name of its device.
    fn fail(&self) -> String {
        let name = self.device().rsplit('/').next().unwrap().to_owned();
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").unwrap();
        name
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: whoever looks at the mounts at this moment must not leave it behind.
            let status = Command::new("umount").arg("-l").arg(&self.point).status();
            if !status.is_ok_and(|status| status.success()) {
                eprintln!("warning: {} stays mounted", self.point.display());
            }
        }
    }
}

const EXT4: &[&str] = &["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
const MIB: u64 = 1 << 20;

#[test]
#[ignore = "needs root (loop devices, mounts); `make unit` runs it as root"]
fn on_ext4_as_the_log_wants_it() {
    let volume = Volume::on_loop(EXT4, 512 * MIB, "errors=remount-ro");
    let found = report(&volume.data());
    found.expect(&[
        ("mounts", &["ok"]),
        ("space", &["ok"]),
        // A loop device.
        ("disks", &["note"]),
        ("errors", &["ok", "ok"]),
        ("smart", &["not seen"]),
    ]);
    let probe = found.severities("probe");
    assert!(matches!(probe.as_slice(), ["ok" | "note" | "warning", "ok"]), "{found:#?}");
    let disk = found.finding("disks", "note")["evidence"].as_str().unwrap().to_owned();
    assert!(disk.contains("disk.img"), "{disk}");
    let names = names(&volume.data());
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn a_node_with_archive_and_backups() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, backups) = (dir.path().join("archive"), dir.path().join("backups"));
    let text = format!(
        "[archive]\nurl = \"{}\"\ndelay = \"100ms\"\n[backup]\nurl = \"{}\"\n",
        archive.display(),
        backups.display()
    );
    let config = dir.path().join("api.toml");
    std::fs::write(&config, text).unwrap();
    let server = Server::again(dir);
    let data = data_dir(server.dir.path());
    let listen = server.url().strip_prefix("http://").unwrap().to_owned();
    let look = || {
        let mut command = doctor(&data);
        command.arg("--config").arg(&config).env("STEMEDB_SERVER__LISTEN", &listen);
        Report::of(&command.output().unwrap())
    };
    let act = |words: &[&str]| {
        let (config, data) = (config.to_str().unwrap(), data.to_str().unwrap());
        let output = server.run(&[words, &["--config", config, "--data-dir", data]].concat());
        assert!(output.status.success(), "{output:?}");
    };
    // No backup yet; the place of the archive is there once something is archived.
    act(&["archive", "run"]);
    let found = look();
    found.expect(&[("backup", &["warning", "warning", "warning"])]);
    assert_eq!(found.severities("archive").first(), Some(&"ok"), "{found:#?}");
    let next = &found.finding("backup", "warning")["next"];
    assert!(next.as_str().unwrap().starts_with("stemedb backup create --config"), "{next}");
    act(&["backup", "create"]);
    act(&["backup", "verify"]);
    look().expect(&[("archive", &["ok", "ok"]), ("backup", &["ok", "ok", "ok"])]);

    // Both places are gone, and so is the node, whose last records were archived.
    let dir = server.stop();
    look_at(&data, &config).expect(&[("archive", &["ok", "ok"]), ("backup", &["ok", "ok", "ok"])]);
    std::fs::rename(&archive, dir.path().join("elsewhere")).unwrap();
    std::fs::rename(&backups, dir.path().join("far")).unwrap();
    std::fs::remove_file(data.join("node/archived")).unwrap();
    let found = look_at(&data, &config);
    found.expect(&[("archive", &["warning", "warning"]), ("backup", &["warning", "ok", "ok"])]);
    // To look makes nothing.
    assert!(!archive.exists() && !backups.exists());
}

/// A doctor for a node that is stopped.
fn look_at(data: &Path, config: &Path) -> Report {
    let mut command = doctor(data);
    command.arg("--config").arg(config);
    Report::of(&command.output().unwrap())
}

#[test]
#[ignore = "needs root (loop devices, mounts); `make unit` runs it as root"]
fn on_ext4_that_journals_its_data_or_goes_on_after_errors() {
    let volume = Volume::on_loop(EXT4, 512 * MIB, "errors=remount-ro,data=journal");
    let found = report(&volume.data());
    found.expect(&[("mounts", &["note"])]);
    let what = found.finding("mounts", "note")["what"].as_str().unwrap().to_owned();
    assert!(what.contains("data=journal"), "{what}");
    drop(volume);
    let volume = Volume::on_loop(EXT4, 512 * MIB, "errors=continue,barrier=0");
    report(&volume.data()).expect(&[("mounts", &["critical", "warning"])]);
}

#[test]
#[ignore = "needs root (loop devices, mounts); `make unit` runs it as root"]
fn on_ext4_that_turned_itself_read_only() {
    let volume = Volume::on_loop(EXT4, 512 * MIB, "errors=remount-ro");
    let name = volume.fail();
    let found = report(&volume.data());
    found.expect(&[
        ("mounts", &["critical"]),
        ("errors", &["critical", "critical"]),
        ("probe", &["critical"]),
    ]);
    assert_eq!((found.status, &found.verdict["verdict"]), (Some(1), &"critical".into()));
    let said: Vec<&str> =
        found.findings.iter().filter_map(|one| one["evidence"].as_str()).collect();
    assert!(said.iter().any(|text| text.contains(&format!("({name})"))), "{found:#?}");
    let probe = found.finding("probe", "critical")["next"].as_str().unwrap().to_owned();
    assert!(probe.starts_with("findmnt "), "{probe}");
}

/// A node whose log lies on a volume of its own.
struct OnVolume {
    child: Child,
    url: String,
    data: TempDir,
    wal: PathBuf,
}

impl OnVolume {
    fn start(volume: &Volume) -> Self {
        let (data, wal) = (tempfile::tempdir().unwrap(), volume.data().join("wal"));
        let mut child = Command::new(STEMEDB)
            .args(["serve", "--no-auth", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data.path())
            .env("STEMEDB_WAL__DIR", &wal)
            .env("STEMEDB_WAL__SEGMENT_BYTES", MIB.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines
            .find_map(|line| Some(line.unwrap().strip_prefix("listening on ")?.to_owned()))
            .unwrap();
        let url = url.split(',').next().unwrap().to_owned();
        // What it says later is read, so that it may go on saying it.
        std::thread::spawn(move || lines.count());
        let node = Self { child, url, data, wal };
        node.run(&["assert", "a", "b", "c"], true);
        node
    }

    fn run(&self, args: &[&str], done: bool) {
        let output =
            Command::new(STEMEDB).args(args).env("STEMEDB_URL", &self.url).output().unwrap();
        assert_eq!(output.status.success(), done, "{args:?}: {output:?}");
    }

    fn report(&self) -> Report {
        let mut command = doctor(self.data.path());
        command.env("STEMEDB_WAL__DIR", &self.wal);
        command.env("STEMEDB_SERVER__LISTEN", self.url.strip_prefix("http://").unwrap());
        Report::of(&command.output().unwrap())
    }
}

impl Drop for OnVolume {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs root (loop devices, mounts); `make unit` runs it as root"]
fn a_node_whose_disk_fails_and_is_taken_off() {
    let mut volume = Volume::on_loop(EXT4, 512 * MIB, "errors=remount-ro");
    let node = OnVolume::start(&volume);
    let found = node.report();
    found.expect(&[("node", &["ok"]), ("log", &["ok", "ok"]), ("port", &["ok"])]);
    volume.fail();
    node.run(&["assert", "a", "b", "d"], false);
    let found = node.report();
    found.expect(&[("node", &["critical"]), ("probe", &["critical"]), ("log", &["ok", "ok"])]);
    assert_eq!(found.status, Some(1));
    let reason = found.finding("node", "critical")["evidence"].as_str().unwrap().to_owned();
    assert!(reason.contains("wal_unavailable"), "{reason}");

    // Taken off, its folder is let alone, and the file system can be unmounted and checked.
    node.run(&["admin", "wal", "detach"], true);
    let found = node.report();
    found.expect(&[
        ("node", &["critical", "warning"]),
        ("probe", &["not seen"]),
        ("log", &["not seen"]),
    ]);
    let next = found.finding("node", "warning")["next"].as_str().unwrap().to_owned();
    assert!(next.starts_with("stemedb admin wal attach --socket "), "{next}");
    run("umount", &[volume.point.to_str().unwrap()]);
    volume.mounted = false;
    // Where it was mounted nothing is made meanwhile.
    node.report().expect(&[("probe", &["not seen"]), ("log", &["not seen"])]);
    assert_eq!(std::fs::read_dir(&volume.point).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root (loop devices, mounts); `make unit` runs it as root"]
fn on_xfs() {
    let volume = Volume::on_loop(&["mkfs.xfs", "-q", "-f"], 512 * MIB, "nouuid");
    let found = report(&volume.data());
    // XFS keeps no count of errors.
    found.expect(&[("mounts", &["ok"]), ("space", &["ok"]), ("errors", &["ok"])]);
    assert_eq!(found.severities("probe").len(), 2, "{found:#?}");
    drop(volume);
}

#[test]
#[ignore = "needs root (loop devices, mounts); `make unit` runs it as root"]
fn on_btrfs() {
    let volume = Volume::on_loop(&["mkfs.btrfs", "-q", "-f"], 512 * MIB, "defaults");
    let found = report(&volume.data());
    // What lies under it is found although its number is no device's.
    found.expect(&[("mounts", &["note"]), ("disks", &["note"]), ("errors", &["ok", "ok"])]);
    // Inodes are made as needed.
    found.expect(&[("space", &["ok"])]);
    let room = found.finding("space", "ok")["evidence"].as_str().unwrap().to_owned();
    assert!(room.contains("as needed"), "{room}");
    // A lock there is found, too.
    let lock = stemedb_io::Vfs::lock(&stemedb_io::RealVfs, &volume.data().join("wal")).unwrap();
    let found = report(&volume.data());
    assert_eq!(found.verdict["running"], true, "{found:#?}");
    found.expect(&[("node", &["critical"])]);
    drop(lock);
}

#[test]
#[ignore = "needs root (loop devices, mounts); `make unit` runs it as root"]
fn in_memory() {
    let volume = Volume::tmpfs("size=256M");
    let found = report(&volume.data());
    found.expect(&[("mounts", &["critical"]), ("space", &["ok"]), ("disks", &["not seen"])]);
    assert_eq!(found.status, Some(1));
}

#[test]
#[ignore = "needs root (loop devices, mounts); `make unit` runs it as root"]
fn on_a_full_disk() {
    let volume = Volume::on_loop(EXT4, 64 * MIB, "errors=remount-ro");
    let mut file = std::fs::File::create(volume.point.join("filler")).unwrap();
    let zeros = vec![0; 64 << 10];
    while file.write_all(&zeros).is_ok() {}
    while file.write_all(&[0; 512]).is_ok() {}
    file.sync_all().unwrap();
    let found = report(&volume.data());
    found.expect(&[("space", &["critical"]), ("probe", &["critical"])]);
    let probe = found.finding("probe", "critical")["next"].as_str().unwrap().to_owned();
    assert!(probe.starts_with("df "), "{probe}");
}

#[test]
#[ignore = "needs root (loop devices, mounts); `make unit` runs it as root"]
fn with_no_inodes_left() {
    let mkfs = [EXT4, &["-N", "256"]].concat();
    let volume = Volume::on_loop(&mkfs, 512 * MIB, "errors=remount-ro");
    let fill = |n: u32| std::fs::File::create(volume.point.join(format!("f{n}")));
    let last = (0..1_000_000).map(fill).find_map(Result::err).unwrap();
    assert_eq!(last.kind(), std::io::ErrorKind::StorageFull);
    let found = report(&volume.data());
    found.expect(&[("space", &["critical"]), ("probe", &["critical"])]);
    let space = found.finding("space", "critical")["next"].as_str().unwrap().to_owned();
    assert!(space.starts_with("df -i "), "{space}");
}
