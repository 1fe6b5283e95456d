//! The server as a process: first start, signals, and what it refuses.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and tampers with files behind the server's back"
)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal};

const STEMEDB: &str = env!("CARGO_BIN_EXE_stemedb");
const API: &str = env!("CARGO_BIN_EXE_stemedb-api");

struct Node {
    child: Child,
    stderr: BufReader<ChildStderr>,
    url: String,
    /// Its words before it listened.
    said: String,
}

impl Node {
    fn start(binary: &str, arguments: &[&str]) -> Self {
        Self::start_with(binary, arguments, &[])
    }

    fn start_with(binary: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(binary)
            .args(arguments)
            .env("STEMEDB_WAL__SEGMENT_BYTES", "1048576")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let url = loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended: {said}");
            if let Some(rest) = line.strip_prefix("listening on ") {
                break rest.split(',').next().unwrap().to_owned();
            }
            said.push_str(&line);
        };
        Self { child, stderr, url, said }
    }

    fn serve(dir: &Path) -> Self {
        let dir = dir.to_str().unwrap();
        Self::start(STEMEDB, &["serve", "--no-auth", "--data-dir", dir, "--listen", "127.0.0.1:0"])
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(STEMEDB).args(arguments).env("STEMEDB_URL", &self.url).output().unwrap()
    }

    /// Sends a signal; gives the exit status and what it still said.
    fn signal(mut self, signal: Signal) -> (Option<i32>, String) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(STEMEDB).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn signals_drain_and_end_with_0_and_a_start_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (round, signal) in [Signal::TERM, Signal::INT].into_iter().enumerate() {
        let node = Node::serve(&data);
        let written = node.run(&["assert", "a", "b", "c", "--at", "2024-01-01"]);
        let text = String::from_utf8(written.stdout).unwrap();
        assert!(text.starts_with(if round == 0 { "created" } else { "exists" }), "{text}");
        let (status, said) = node.signal(signal);
        assert_eq!((status, said.as_str()), (Some(0), ""), "{signal:?}");
    }
    assert!(std::fs::read_dir(data.join("node")).unwrap().count() >= 3);
}

#[test]
fn a_signal_is_heeded_from_the_first_word_on() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..8 {
        let (status, said) = Node::serve(&dir.path().join("data")).signal(Signal::TERM);
        assert_eq!(status, Some(0), "start {round}: {said}");
    }
}

#[test]
fn a_damaged_index_is_rebuilt_without_asking() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let assert = |node: &Node| {
        let output = node.run(&["assert", "a", "b", "c", "--at", "2024-01-01"]);
        String::from_utf8(output.stdout).unwrap()
    };
    let node = Node::serve(&data);
    let first = assert(&node);
    assert!(first.starts_with("created"), "{first}");
    node.signal(Signal::TERM);
    // What a power cut may leave of files that were never synced.
    std::fs::remove_file(data.join("index/version")).unwrap();
    let node = Node::serve(&data);
    let again = assert(&node);
    assert!(again.starts_with("exists"), "{again}");
}

#[test]
fn the_other_name_serves_too() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let node = Node::start(API, &["--no-auth", "--data-dir", data, "--listen", "127.0.0.1:0"]);
    assert_eq!(node.run(&["admin", "status"]).status.code(), Some(0));
}

#[test]
fn what_cannot_be_served_is_refused_with_the_next_command() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let node = Node::serve(&one);
    let address = node.url.strip_prefix("http://").unwrap().to_owned();
    let serve = |data: &Path, listen: &str| {
        run(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", listen])
    };
    let (status, _, said) = serve(&other, &address);
    assert_eq!(status, Some(2));
    assert!(said.contains("cannot listen on") && said.contains("hint: --listen"), "{said}");
    let (status, _, said) = serve(&one, "127.0.0.1:0");
    assert_eq!(status, Some(2));
    assert!(said.contains("hint: another process uses this folder"), "{said}");
    node.signal(Signal::TERM);

    // The log of another database.
    Node::serve(&other).signal(Signal::TERM);
    std::fs::remove_dir_all(one.join("wal")).unwrap();
    std::fs::rename(other.join("wal"), one.join("wal")).unwrap();
    let (status, _, said) = serve(&one, "127.0.0.1:0");
    assert_eq!(status, Some(2));
    assert!(said.contains("cannot open the log"), "{said}");

    // A log that is gone is never a new database.
    std::fs::remove_dir_all(one.join("wal")).unwrap();
    let (status, _, said) = serve(&one, "127.0.0.1:0");
    assert_eq!(status, Some(2));
    assert!(said.contains("missing"), "{said}");
}

/// The preamble of a segment of format 2: name, format, and the CRC-32C of both.
const OF_FORMAT_2: [u8; 16] = *b"STEMEWAL\x02\0\0\0\x88\xac\x21\x2e";

#[test]
fn a_log_of_a_later_version_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    Node::serve(&data).signal(Signal::TERM);
    let files = std::fs::read_dir(data.join("wal")).unwrap().map(|one| one.unwrap().path());
    let first =
        files.filter(|path| path.extension().is_some_and(|end| end == "wal")).min().unwrap();
    let name = first.file_name().unwrap().to_str().unwrap();
    let mut bytes = std::fs::read(&first).unwrap();
    assert_eq!(bytes[..12], *b"STEMEWAL\x01\0\0\0");
    bytes[..16].copy_from_slice(&OF_FORMAT_2);
    std::fs::write(&first, &bytes).unwrap();
    let (status, _, said) =
        run(&["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("format 2") && said.contains(name), "{said}");
    assert_eq!(std::fs::read(&first).unwrap(), bytes);
}

#[test]
fn a_start_that_is_refused_has_made_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("api.toml"));
    let text = "[tls]\ncertificate = \"/nowhere/node.pem\"\nkey = \"/nowhere/node.key\"\n";
    std::fs::write(&file, text).unwrap();
    let serve = [
        "serve",
        "--data-dir",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--config",
        file.to_str().unwrap(),
    ];
    let (status, _, said) = run(&serve);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("tls.certificate = /nowhere/node.pem"), "{said}");
    assert!(!data.exists(), "{:?}", std::fs::read_dir(&data));
    // Where the folder cannot be made.
    let text = std::fs::write(&file, "").map(|()| file.join("data")).unwrap();
    let (status, _, said) =
        run(&["serve", "--data-dir", text.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains(text.to_str().unwrap()), "{said}");
}

#[test]
fn the_answer_root_survives_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data_dir = data.to_str().unwrap();
    let node = Node::serve(&data);
    for (subject, object) in [("a", "1"), ("a", "2"), ("b", "x")] {
        assert!(node.run(&["assert", subject, "p", object]).status.success());
    }
    // A log that is being written to can be checked.
    let (status, text, said) = run(&["wal", "verify", "--data-dir", data_dir]);
    assert_eq!(status, Some(0), "{text}{said}");
    let online = node.run(&["admin", "root", "--json"]).stdout;
    node.signal(Signal::TERM);
    let root = || {
        let (status, text, said) = run(&["admin", "root", "--data-dir", data_dir, "--json"]);
        assert_eq!(status, Some(0), "{said}");
        text
    };
    let before = root();
    assert_eq!(String::from_utf8(online).unwrap(), before);
    assert!(before.contains("\"keys\":2"), "{before}");
    std::fs::remove_dir_all(data.join("index")).unwrap();
    assert_eq!(root(), before);
    let (status, text, said) = run(&["admin", "reindex", "--data-dir", data_dir]);
    assert_eq!(status, Some(0), "{said}");
    assert!(text.starts_with("5 records indexed"), "{text}");
    assert_eq!(root(), before);
    let (status, text, _) = run(&["wal", "verify", "--data-dir", data_dir]);
    assert_eq!(status, Some(0), "{text}");
}

#[test]
fn the_root_key_may_stay_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (status, public, _) = run(&["key", "generate", &path("root.key")]);
    assert_eq!(status, Some(0));
    let public = public.trim();
    let data = path("data");
    let serve = ["serve", "--no-auth", "--data-dir", &data, "--listen", "127.0.0.1:0"];
    let (status, _, said) = run(&[&serve[..], &["--root-public-key", public]].concat());
    assert_eq!(status, Some(2));
    assert!(said.contains("hint: stemedb key genesis"), "{said}");
    let (_, genesis, _) = run(&["key", "genesis", "--key", &path("root.key")]);
    stemedb_cli::files::replace(path("genesis.json").as_ref(), &genesis).unwrap();
    let node = Node::start(
        STEMEDB,
        &[&serve[..], &["--root-public-key", public, "--genesis", &path("genesis.json")]].concat(),
    );
    assert!(!Path::new(&data).join("node/root.key").exists());
    let source = ["source", "https://example.org", "--class", "expert"];
    let key = path("root.key");
    assert!(node.run(&[&source[..], &["--key", &key]].concat()).status.success());
}

#[test]
fn the_allocator_has_its_settings() {
    let mut command = Command::new(STEMEDB);
    command.arg("--version").env("_RJEM_MALLOC_CONF", "stats_print:true");
    let told = String::from_utf8(command.output().unwrap().stderr).unwrap();
    let processors = std::thread::available_parallelism().unwrap();
    let arenas = format!("opt.narenas: {processors}\n");
    for setting in [&arenas, "opt.tcache_max: 4096\n", "opt.dirty_decay_ms: 1000 "] {
        assert!(told.contains(setting), "no {setting:?} in {told}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(STEMEDB)
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // More is written than a pipe holds, and nobody reads it.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// The first key of a node, what a person does with it, and the way back when it is lost.
#[test]
fn the_first_key_opens_the_node_and_a_reset_makes_another() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let data = path("data");
    let serve = ["serve", "--data-dir", &data, "--listen", "127.0.0.1:0"];
    let text = |output: &Output| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let node = Node::start(STEMEDB, &serve);
    let file = path("data/node/first-admin.key");
    let first = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(node.said.contains(&file) && !node.said.contains(first.trim()), "{}", node.said);
    let (status, _, said) = text(&node.run(&["assert", "a", "b", "c"]));
    assert_eq!(status, Some(2));
    assert!(said.contains("401 api_key_missing") && said.contains("first-admin.key"), "{said}");
    let admin =
        |arguments: &[&str]| text(&node.run(&[arguments, &["--api-key-file", &file]].concat()));
    assert_eq!(admin(&["assert", "a", "b", "c"]).0, Some(0));

    // A key in a file of its own, which only its owner may read.
    let key = path("ingest.key");
    let create = ["admin", "keys", "create", "ingest", "--role", "writer"];
    let (status, id, said) = admin(&[&create[..], &["--out", &key]].concat());
    assert_eq!(status, Some(0), "{said}");
    let id = id.trim().to_owned();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let with = |key: &str, arguments: &[&str]| {
        text(&node.run(&[arguments, &["--api-key-file", key]].concat()))
    };
    assert_eq!(with(&key, &["assert", "a", "b", "d"]).0, Some(0));
    let (status, _, said) = with(&key, &["admin", "status"]);
    assert_eq!(status, Some(2));
    assert!(said.contains("403 role_too_low") && said.contains("operator"), "{said}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (status, _, said) = with(&key, &["query", "a", "b"]);
    assert!(status == Some(2) && said.contains("hint: chmod 600"), "{said}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (status, _, said) = admin(&create);
    assert!(status == Some(2) && said.contains("409 api_key_exists"), "{said}");

    // Rotated with grace both secrets are good; without, only the new one.
    let rotate = ["admin", "keys", "rotate", &id];
    let (_, second, _) = admin(&rotate);
    let by = |secret: &str| text(&node.run(&["query", "a", "b", "--api-key", secret.trim()])).0;
    assert_eq!((with(&key, &["query", "a", "b"]).0, by(&second)), (Some(0), Some(0)));
    let (_, third, _) = admin(&[&rotate[..], &["--grace", "0"]].concat());
    assert_eq!((by(&second), by(&third)), (Some(2), Some(0)));
    let (_, list, _) = admin(&["admin", "keys", "list"]);
    assert!(list.contains(&id) && list.contains("ingest") && list.contains("active"), "{list}");
    let (_, list, _) = admin(&["admin", "keys", "list", "--json"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    assert_eq!(admin(&["admin", "keys", "revoke", &id]).0, Some(0));
    assert_eq!(by(&third), Some(2));

    // The way back is for a stopped node.
    let reset = ["admin", "keys", "reset", "--data-dir", &data];
    let (status, _, said) = run(&reset);
    assert_eq!(status, Some(2));
    assert!(said.contains("in use") && said.contains("hint: stop the server"), "{said}");
    node.signal(Signal::TERM);
    let list = path("data/node/api-keys.json");
    let mut bytes = std::fs::read(&list).unwrap();
    *bytes.first_mut().unwrap() ^= 1;
    std::fs::write(&list, bytes).unwrap();
    let (status, _, said) = run(&serve);
    assert_eq!(status, Some(2));
    assert!(said.contains("api-keys.json") && said.contains("admin keys reset"), "{said}");
    let (status, place, said) = run(&reset);
    assert_eq!((status, place.trim()), (Some(0), file.as_str()), "{said}");
    let node = Node::start(STEMEDB, &serve);
    assert!(!node.said.contains("first API key"), "{}", node.said);
    let by = |secret: &str| text(&node.run(&["query", "a", "b", "--api-key", secret.trim()])).0;
    let new = std::fs::read_to_string(&file).unwrap();
    assert_eq!((by(&first), by(&new)), (Some(2), Some(0)));

    // All of it was taken down.
    let (_, trail, _) = text(&node.run(&["audit", "admin", "--api-key", new.trim()]));
    for act in ["admin keys reset", "DELETE /v1/admin/keys/{id}", "POST /v1/admin/keys"] {
        assert!(trail.contains(act), "{trail}");
    }
    node.signal(Signal::TERM);
    let offline = ["audit", "admin", "--data-dir", &data, "--json"];
    let (status, lines, _) = run(&offline);
    assert_eq!((status, lines.lines().count()), (Some(0), 7), "{lines}");
    let trail = path("data/node/admin-audit/admin.000001.ndjson");
    let text = std::fs::read_to_string(&trail).unwrap();
    std::fs::write(&trail, text.replacen("ingest", "egress", 1)).unwrap();
    let (status, _, said) = run(&offline);
    assert!(status == Some(1) && said.contains("line 2"), "{said}");
}

/// On the machine itself the right to open the socket is enough.
#[test]
fn the_admin_socket_needs_no_key() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let serve = ["serve", "--data-dir", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    // One that an earlier process left is no obstacle.
    for _ in 0..2 {
        let node = Node::start(STEMEDB, &serve);
        let socket = data.join("node/admin.sock");
        let meta = std::fs::metadata(&socket).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        let socket = socket.to_str().unwrap();
        let (status, text, said) = run(&["admin", "status", "--socket", socket]);
        assert!(status == Some(0) && text.starts_with("ready"), "{text}{said}");
        let (status, list, _) = run(&["admin", "keys", "list", "--url", &format!("unix:{socket}")]);
        assert!(status == Some(0) && list.contains("local"), "{list}");
        let (status, _, said) = run(&["query", "a", "b", "--socket", socket]);
        assert!(status == Some(1) && said.contains("admin socket"), "{said}");
        drop(node);
    }
    let missing = dir.path().join("missing");
    let (status, _, said) = run(&["admin", "status", "--socket", missing.to_str().unwrap()]);
    assert!(status == Some(2) && said.contains("no answer from unix:"), "{said}");
    let mut command = Command::new(STEMEDB);
    command.args(["config", "check"]);
    let output = command.env("STEMEDB_SERVER__TRUSTED_PROXIES", "10.0.0.0/33").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && text.contains("server.trusted_proxies"), "{text}");
}

/// Limits, rates and what is logged change at SIGHUP; what is wrong changes nothing; what takes a restart is named.
#[test]
fn a_hang_up_has_the_configuration_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("api.toml"));
    let configure = |text: &str| std::fs::write(&file, text).unwrap();
    configure("");
    let mut node = Node::start(
        STEMEDB,
        &[
            "serve",
            "--no-auth",
            "--config",
            file.to_str().unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
        ],
    );
    let hang_up = |node: &mut Node, expected: &str| {
        rustix::process::kill_process(Pid::from_child(&node.child), Signal::HUP).unwrap();
        let mut line = String::new();
        while !line.contains(expected) {
            line.clear();
            assert_ne!(node.stderr.read_line(&mut line).unwrap(), 0, "it ended");
        }
        line
    };
    let asked = |node: &Node| {
        let output = node.run(&["query", "a", "b"]);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for _ in 0..5 {
        assert_eq!(asked(&node).0, Some(1), "nothing is there");
    }
    configure("[rate_limit.read]\nper_second = 1\nburst = 1\n");
    hang_up(&mut node, "is read anew");
    let answers: Vec<_> = (0..5).map(|_| asked(&node)).collect();
    assert!(answers.iter().any(|(_, said)| said.contains("429 rate_limited")), "{answers:?}");
    // A misspelt key: told, and the bound stands.
    configure("[rate_limit.read]\nper_secnd = 9\n");
    let line = hang_up(&mut node, "stays as it was");
    assert!(line.contains("per_secnd"), "{line}");
    let answers: Vec<_> = (0..5).map(|_| asked(&node)).collect();
    assert!(answers.iter().any(|(_, said)| said.contains("429 rate_limited")), "{answers:?}");
    configure(
        "[rate_limit.read]\nper_second = 0\n[limits]\nuri_bytes = 1024\n[audit]\nsync_ms = 7\n",
    );
    let line = hang_up(&mut node, "take a restart");
    assert!(line.contains("audit.sync_ms"), "{line}");
    assert!(!line.contains("limits") && !line.contains("rate_limit"), "{line}");
    for _ in 0..5 {
        assert_eq!(asked(&node).0, Some(1));
    }
    // Six characters of a URL each.
    let long = node.run(&["query", &"é".repeat(200), "b"]);
    let said = String::from_utf8(long.stderr).unwrap();
    assert!(said.contains("uri_too_long"), "{said}");
    let (status, _) = node.signal(Signal::TERM);
    assert_eq!(status, Some(0));
}

/// What a service manager is told, line by line.
struct Told(Receiver<String>);

impl Told {
    fn at(socket: &str) -> Self {
        let socket = UnixDatagram::bind(socket).unwrap();
        let (sender, lines) = channel();
        // Read at once: what does not fit into the socket's queue is not told. Ends with the test.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                let text = String::from_utf8_lossy(bytes.get(..length).unwrap()).into_owned();
                if text.lines().any(|line| sender.send(line.to_owned()).is_err()) {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// Lines up to one that begins so; `None` once nothing at all came for so long.
    fn until(&self, wanted: &str, patience: Duration) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.0.recv_timeout(patience).ok()?;
            let found = line.starts_with(wanted);
            lines.push(line);
            if found {
                return Some(lines);
            }
        }
    }

    fn expect(&self, wanted: &str) -> Vec<String> {
        self.until(wanted, Duration::from_secs(30)).unwrap_or_else(|| panic!("never {wanted}"))
    }
}

#[test]
fn a_service_manager_is_told_how_the_node_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (socket, data) = (path("notify"), path("data"));
    let told = Told::at(&socket);
    let arguments = ["--no-auth", "--data-dir", &data, "--listen", "127.0.0.1:0"];
    let variables = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "600000")];
    let node = Node::start_with(API, &arguments, &variables);
    let lines = told.expect("READY=1");
    // From then on it answers.
    assert_eq!(node.run(&["assert", "a", "b", "c"]).status.code(), Some(0));
    assert_eq!(lines.first().unwrap(), "STATUS=opening the log");
    for wanted in ["WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"] {
        let lines = told.expect(wanted);
        assert!(!lines.contains(&"READY=1".to_owned()), "{lines:?}");
    }
    assert_eq!(node.run(&["admin", "drain"]).status.code(), Some(0));
    told.expect("STATUS=drained");
    assert_eq!(node.run(&["admin", "undrain"]).status.code(), Some(0));
    told.expect("STATUS=ready");

    // Who does not run does not ping.
    let process = Pid::from_child(&node.child);
    rustix::process::kill_process(process, Signal::STOP).unwrap();
    let silence = Duration::from_millis(1_500);
    while told.until("WATCHDOG=1", silence).is_some() {}
    rustix::process::kill_process(process, Signal::CONT).unwrap();
    told.expect("WATCHDOG=1");

    let (status, said) = node.signal(Signal::TERM);
    assert_eq!((status, said.as_str()), (Some(0), ""));
    told.expect("STOPPING=1");
}

/// A node that cannot recover answers probes; under a service manager it ends, to be started again.
#[test]
fn a_failed_recovery_ends_a_managed_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let data = path("data");
    // More than a segment, so that one is sealed; proved by the second start.
    let line = |n: usize| {
        let object = "x".repeat(1_500);
        format!(
            "{{\"subject\":\"s{n}\",\"predicate\":\"p\",\"object\":\"{object}\",\
             \"source\":\"a.example\",\"timestamp\":\"2020-01-01\",\"confidence\":null}}\n"
        )
    };
    let node = Node::serve(Path::new(&data));
    // In parts, each of which is one group at most.
    for part in 0..4 {
        let lines: String = (400 * part..400 * part + 400).map(line).collect();
        std::fs::write(path("claims.jsonl"), lines).unwrap();
        let imported = node.run(&["import", &path("claims.jsonl")]);
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    }
    node.signal(Signal::TERM);
    Node::serve(Path::new(&data)).signal(Signal::TERM);
    let segment = path("data/wal/segment.001.wal");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    std::fs::remove_dir_all(path("data/index")).unwrap();

    let socket = path("notify");
    let told = Told::at(&socket);
    let arguments = ["serve", "--no-auth", "--data-dir", &data, "--listen", "127.0.0.1:0"];
    let mut node = Node::start_with(STEMEDB, &arguments, &[("NOTIFY_SOCKET", socket.as_str())]);
    // First, since it gives up waiting.
    let lines = told.expect("STOPPING=1");
    assert!(!lines.contains(&"READY=1".to_owned()), "{lines:?}");
    let mut said = String::new();
    node.stderr.read_to_string(&mut said).unwrap();
    assert_eq!(node.child.wait().unwrap().code(), Some(2), "{said}");
    assert!(said.contains("error: cannot recover the database"), "{said}");
}
