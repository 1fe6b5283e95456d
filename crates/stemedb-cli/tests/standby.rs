//! Two nodes as processes, and three: one writes, the other follows its archive and takes its place while the
//! first is still at it, or stands still and wakes up. What was acknowledged is on the new primary, or in the
//! list of what the old one has alone; and from the moment that the new one writes, the old one
//! acknowledges nothing.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and measures in real time"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

const STEMEDB: &str = env!("CARGO_BIN_EXE_stemedb");
/// Longer than anything here takes on a laden machine.
const PATIENCE: Duration = Duration::from_secs(120);
const LEASE: Duration = Duration::from_secs(3);
const SKEW: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(300);

/// A node of its own folder, with API keys.
struct Node {
    child: Child,
    dir: PathBuf,
    url: String,
    words: Arc<Mutex<String>>,
}

struct Answer {
    status: u16,
    json: Value,
}

/// What a node is started as.
#[derive(Clone, Copy)]
enum As<'a> {
    Primary {
        /// Acknowledged means archived.
        sync: bool,
    },
    /// Believes these keys.
    Standby(&'a [&'a str]),
    /// As a file under `deploy/examples` has it, but for what must be this test's own. Believes these keys.
    Shipped(&'a str, &'a [&'a str]),
}

impl Node {
    fn start(dir: &Path, archive: &Path, role: As<'_>) -> Self {
        let mut command = Command::new(STEMEDB);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir);
        let believe = |command: &mut Command, keys: &[&str]| {
            command.args(keys.iter().flat_map(|key| ["--trust-key", key]));
        };
        match role {
            As::Standby(trusted) => {
                command.arg("--standby-of").arg(archive);
                believe(&mut command, trusted);
            }
            As::Shipped(file, trusted) => {
                let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
                let file = examples.join(file);
                let text = std::fs::read_to_string(&file).unwrap();
                command.arg("--config").arg(file).env("STEMEDB_ARCHIVE__URL", archive);
                if text.contains("\nstandby_of = ") {
                    command.env("STEMEDB_CLUSTER__STANDBY_OF", archive);
                }
                command.env("STEMEDB_CLUSTER__LEASE", format!("{}s", LEASE.as_secs()));
                believe(&mut command, trusted);
            }
            As::Primary { sync } => {
                command.env("STEMEDB_ARCHIVE__URL", archive);
                command.env("STEMEDB_ARCHIVE__SYNC", sync.to_string());
                command.env("STEMEDB_CLUSTER__LEASE", format!("{}s", LEASE.as_secs()));
                command.env("STEMEDB_CLUSTER__ADDRESS", "http://the-first");
            }
        }
        let mut child = command
            .env("STEMEDB_CLUSTER__SKEW", format!("{}s", SKEW.as_secs()))
            .env("STEMEDB_ARCHIVE__DELAY", format!("{}ms", DELAY.as_millis()))
            .env("STEMEDB_WAL__SEGMENT_BYTES", "1048576")
            .env("STEMEDB_LOG__FILTER", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let words = Arc::new(Mutex::new(String::new()));
        let url = loop {
            let mut line = String::new();
            let read = stderr.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it ended: {}", words.lock().unwrap());
            words.lock().unwrap().push_str(&line);
            if let Some(rest) = line.strip_prefix("listening on ") {
                break rest.split(',').next().unwrap().to_owned();
            }
        };
        let heard = Arc::clone(&words);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                heard.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, dir: dir.to_owned(), url, words }
    }

    fn admin_key(&self) -> String {
        std::fs::read_to_string(self.dir.join("node/first-admin.key")).unwrap().trim().to_owned()
    }

    fn ask(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> Option<Answer> {
        ask(&client(), &self.url, key, method, path, body)
    }

    fn get(&self, key: &str, path: &str) -> Answer {
        self.ask(key, "GET", path, None).unwrap()
    }

    /// Waits until the node says so of itself.
    fn wait(&self, key: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let node = self.ask(key, "GET", "/v1/admin/node", None);
            match node {
                Some(node) if node.status == 200 && wanted(&node.json) => return node.json,
                node => assert!(
                    begun.elapsed() < PATIENCE,
                    "not {what}: {:?}\n{}",
                    node.map(|node| node.json),
                    self.words.lock().unwrap()
                ),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn run(&self, key: &str, arguments: &[&str]) -> Output {
        Command::new(STEMEDB)
            .args(arguments)
            .env("STEMEDB_URL", &self.url)
            .env("STEMEDB_API_KEY", key)
            .output()
            .unwrap()
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.words.lock().unwrap());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- words of {}\n{}", self.dir.display(), self.words.lock().unwrap());
        }
    }
}

/// What the node in `dir` signs its archive with.
fn node_key(dir: &Path) -> String {
    let key = dir.join("node/node.key");
    let shown = Command::new(STEMEDB).args(["key", "show"]).arg(key).output().unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    String::from_utf8(shown.stdout).unwrap().trim().to_owned()
}

fn client() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)));
    config.build().new_agent()
}

/// `None`: no answer.
fn ask(
    client: &ureq::Agent,
    url: &str,
    key: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Option<Answer> {
    let url = format!("{url}{path}");
    let answer = match (method, body) {
        ("GET", _) => client.get(url).header("x-api-key", key).call(),
        (_, body) => {
            let text = body.map_or_else(|| "{}".to_owned(), Value::to_string);
            let request = client.post(url).header("x-api-key", key);
            request.content_type("application/json").send(text)
        }
    };
    let mut answer = answer.ok()?;
    let mut text = String::new();
    answer.body_mut().as_reader().read_to_string(&mut text).ok()?;
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Some(Answer { status: answer.status().as_u16(), json })
}

fn claim(subject: &str) -> Value {
    json!({ "subject": subject, "predicate": "risk", "object": "rare", "at": 1_704_067_200_000_i64 })
}

/// What writers were told, and when.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<Vec<(String, Instant)>>,
    codes: Mutex<Vec<String>>,
    stop: AtomicBool,
    next: AtomicU64,
}

impl Told {
    fn begin(
        self: &Arc<Self>,
        url: &str,
        key: &str,
        writers: u32,
    ) -> Vec<std::thread::JoinHandle<()>> {
        let write = |_| {
            let (told, url, key) = (Arc::clone(self), url.to_owned(), key.to_owned());
            std::thread::spawn(move || {
                let client = client();
                while !told.stop.load(Ordering::Relaxed) {
                    let subject = format!("load/{}", told.next.fetch_add(1, Ordering::Relaxed));
                    let answer =
                        ask(&client, &url, &key, "POST", "/v1/assert", Some(&claim(&subject)));
                    let now = Instant::now();
                    match answer {
                        Some(answer) if matches!(answer.status, 200 | 201) => {
                            let id = answer.json["id"].as_str().unwrap().to_owned();
                            told.acknowledged.lock().unwrap().push((id, now));
                        }
                        Some(answer) => {
                            let code = answer.json["code"].as_str().unwrap_or("none").to_owned();
                            told.codes.lock().unwrap().push(code);
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        None => std::thread::sleep(Duration::from_millis(20)),
                    }
                }
            })
        };
        (0..writers).map(write).collect()
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn wait_for(&self, count: usize) {
        let begun = Instant::now();
        while self.count() < count {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.codes.lock().unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

struct Pair {
    dir: tempfile::TempDir,
    first: Node,
    second: Node,
    admin: String,
    writer: String,
}

impl Pair {
    fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    fn start(sync: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        std::fs::create_dir(&archive).unwrap();
        let first = Node::start(&dir.path().join("first"), &archive, As::Primary { sync });
        let admin = first.admin_key();
        first.wait(&admin, "ready", |node| node["state"] == "ready");
        let new = json!({ "name": "ingest", "role": "writer" });
        let made = first.ask(&admin, "POST", "/v1/admin/keys", Some(&new)).unwrap();
        assert_eq!(made.status, 201, "{}", made.json);
        let writer = made.json["secret"].as_str().unwrap().to_owned();
        let answer = first.ask(&writer, "POST", "/v1/assert", Some(&claim("before"))).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.json);
        // Keys and record are in the archive soon.
        std::thread::sleep(Duration::from_secs(3));
        let key = node_key(&dir.path().join("first"));
        let second = Node::start(&dir.path().join("second"), &archive, As::Standby(&[&key]));
        second.wait(&admin, "a standby", |node| node["state"] == "standby");
        Self { dir, first, second, admin, writer }
    }

    /// Stops the first, lists what it has alone, and has it follow the second.
    fn rejoin(self, told: &Told) {
        let (archive, tail) = (self.archive(), self.dir.path().join("tail.ndjson"));
        let Self { dir, first, second, admin, writer } = self;
        let data = dir.path().join("first");
        let signer = node_key(&dir.path().join("second"));
        first.stop();
        // What was written on the new branch is in the archive soon.
        let node = second.get(&admin, "/v1/admin/node").json;
        let name = |field: &str| node[field].as_str().unwrap().to_owned();
        let branch = archive.join(name("log_id")).join(name("timeline")).join("manifests");
        let begun = Instant::now();
        while !branch.exists() {
            assert!(begun.elapsed() < PATIENCE, "{branch:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(1));
        let said = Command::new(STEMEDB)
            .args(["rejoin", "--json", "--data-dir"])
            .arg(&data)
            .arg("--store")
            .arg(&archive)
            .arg("--tail")
            .arg(&tail)
            .args(["--trust-key", &signer])
            .output()
            .unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        let text = std::fs::read_to_string(&tail).unwrap();
        let alone: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(said["only_here"], alone.len(), "{said}");
        let missing: Vec<String> = told
            .acknowledged
            .lock()
            .unwrap()
            .iter()
            .filter(|(id, _)| second.get(&writer, &format!("/v1/records/{id}")).status != 200)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &missing {
            assert!(alone.iter().any(|line| line["id"] == **id), "{id} is nowhere");
        }
        eprintln!(
            "{} acknowledged, {} not on the new primary, {} listed",
            told.count(),
            missing.len(),
            alone.len()
        );
        let imported = second.run(&writer, &["import", tail.to_str().unwrap()]);
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        for (id, _) in told.acknowledged.lock().unwrap().iter() {
            assert_eq!(second.get(&writer, &format!("/v1/records/{id}")).status, 200);
        }
        let first = Node::start(&data, &archive, As::Standby(&[&signer]));
        let goal = second.wait(&admin, "there", |_| true);
        first.wait(&admin, "level", |node| {
            node["state"] == "standby" && node["position"].as_u64() >= goal["position"].as_u64()
        });
        let node = first.get(&admin, "/v1/admin/node").json;
        assert_eq!(node["timeline"], goal["timeline"]);
        first.stop();
        second.stop();
    }
}

#[test]
fn a_standby_answers_reads_and_takes_the_place_of_a_primary_that_writes() {
    let pair = Pair::start(false);
    let Pair { first, second, admin, writer, .. } = &pair;
    let node = second.get(admin, "/v1/admin/node").json;
    assert_eq!(node["replica"]["primary"], "http://the-first", "{node}");
    assert_eq!(second.get(writer, "/readyz?for=read").status, 200);
    for path in ["/readyz?for=write", "/readyz"] {
        let not = second.get(writer, path);
        assert_eq!((not.status, &not.json["code"]), (503, &json!("standby")), "{path}");
    }
    let refused = second.ask(writer, "POST", "/v1/assert", Some(&claim("x"))).unwrap();
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("standby")));
    assert!(refused.json["detail"].as_str().unwrap().contains("http://the-first takes writes"));
    assert_eq!(refused.json["outcome"], "not_written");
    let new = json!({ "name": "other", "role": "reader" });
    let refused = second.ask(admin, "POST", "/v1/admin/keys", Some(&new)).unwrap();
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("standby")));
    let metrics = second.get(writer, "/metrics").json;
    for name in ["stemedb_replica_lag_seconds", "stemedb_replica_lag_positions"] {
        assert!(metrics.as_str().unwrap().contains(name), "{name}");
    }
    let not = first.ask(admin, "POST", "/v1/admin/promote", None).unwrap();
    assert_eq!((not.status, &not.json["code"]), (409, &json!("wrong_state")));

    let told = Arc::new(Told::default());
    let writers = told.begin(&first.url, writer, 4);
    told.wait_for(40);
    // Reads at a stated lag.
    let id = told.acknowledged.lock().unwrap()[0].0.clone();
    let begun = Instant::now();
    while second.get(writer, &format!("/v1/records/{id}")).status != 200 {
        assert!(begun.elapsed() < PATIENCE, "it is not followed");
        std::thread::sleep(Duration::from_millis(50));
    }
    let promoted = second.run(admin, &["admin", "promote", "--json"]);
    assert!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
    let node: Value = serde_json::from_slice(&promoted.stdout).unwrap();
    assert_eq!(node["replica"], Value::Null);
    second.wait(admin, "ready", |node| node["state"] == "ready");
    let metrics = || second.get(writer, "/metrics").json.as_str().unwrap().to_owned();
    for series in [
        "stemedb_replica_state{state=\"following\"} 0",
        "stemedb_replica_state{state=\"catching_up\"} 0",
        "stemedb_replica_lag_seconds 0",
    ] {
        let text = metrics();
        assert!(text.contains(series), "{series}: {text}");
    }
    // Told at the next renewal.
    let held = "stemedb_lease_state{state=\"held\"} 1";
    let begun = Instant::now();
    while !metrics().contains(held) {
        assert!(begun.elapsed() < PATIENCE, "{held}: {}", metrics());
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = Instant::now();
    let written = second.ask(writer, "POST", "/v1/assert", Some(&claim("after"))).unwrap();
    assert_eq!(written.status, 201, "{}", written.json);
    // The first is still asked to write, and says what it must.
    std::thread::sleep(Duration::from_secs(2));
    told.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    let last = told.acknowledged.lock().unwrap().iter().map(|(_, at)| *at).max().unwrap();
    assert!(last < took, "the old primary acknowledged while the new one wrote");
    assert!(told.codes.lock().unwrap().iter().any(|code| code == "fenced"));
    let node = first.get(admin, "/v1/admin/node").json;
    assert_eq!((&node["state"], &node["reason"]["code"]), (&json!("read_only"), &json!("fenced")));
    assert!(node["reason"]["detail"].as_str().unwrap().contains("rejoin"), "{node}");
    assert_eq!(first.get(writer, "/readyz?for=read").status, 200);
    pair.rejoin(&told);
}

/// Three nodes as the shipped files have them, with one archive and one lease between them.
#[test]
fn of_two_standbys_one_takes_over_and_the_other_follows_that_one() {
    const PRIMARY: &str = "three-node-primary.toml";
    const STANDBY: &str = "three-node-standby.toml";
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    let place = |name: &str| dir.path().join(name);
    let first = Node::start(&place("first"), &archive, As::Shipped(PRIMARY, &[]));
    let admin = first.admin_key();
    first.wait(&admin, "ready", |node| node["state"] == "ready");
    let written = Mutex::new(Vec::new());
    let write = |node: &Node, subject: &str| {
        let answer = node.ask(&admin, "POST", "/v1/assert", Some(&claim(subject))).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.json);
        written.lock().unwrap().push(answer.json["id"].as_str().unwrap().to_owned());
        answer.json["position"].as_u64().unwrap()
    };
    write(&first, "before");
    // Keys and record are in the archive soon.
    std::thread::sleep(Duration::from_secs(3));
    let key = node_key(&place("first"));
    // Each makes its key when it first starts; then each is told of the other.
    for name in ["second", "third"] {
        let node = Node::start(&place(name), &archive, As::Shipped(STANDBY, &[&key]));
        node.wait(&admin, "a standby", |node| node["state"] == "standby");
        node.stop();
    }
    let keys = ["second", "third"].map(|name| node_key(&place(name)));
    let follow = |name: &str, other: &str| {
        Node::start(&place(name), &archive, As::Shipped(STANDBY, &[&key, other]))
    };
    let (second, third) = (follow("second", &keys[1]), follow("third", &keys[0]));
    let goal = write(&first, "at both");
    let level = |node: &Node, goal: u64, branch: &Value| {
        node.wait(&admin, "level", |node| {
            node["state"] == "standby"
                && node["timeline"] == *branch
                && node["position"].as_u64() >= Some(goal)
        })
    };
    let branch = first.get(&admin, "/v1/admin/node").json["timeline"].clone();
    for standby in [&second, &third] {
        let node = level(standby, goal, &branch);
        assert_eq!(node["replica"]["primary"], "https://node1.example:18180", "{node}");
    }

    first.signal(Signal::KILL);
    let promoted = second.run(&admin, &["admin", "promote"]);
    assert!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
    let new = second.wait(&admin, "ready", |node| node["state"] == "ready")["timeline"].clone();
    assert_ne!(new, branch);
    // The other one answers as before until there is something to follow, and changes over by itself.
    assert_eq!(third.get(&admin, "/readyz?for=read").status, 200);
    let goal = write(&second, "after");
    let node = level(&third, goal, &new);
    assert_eq!(node["replica"]["primary"], "https://node2.example:18180", "{node}");

    // Back and forth: it takes the place of the one that took the first one's.
    let promoted = third.run(&admin, &["admin", "promote"]);
    assert!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
    third.wait(&admin, "ready", |node| node["state"] == "ready");
    write(&third, "later");
    let node = second.wait(&admin, "fenced", |node| node["state"] == "read_only");
    assert_eq!(node["reason"]["code"], "fenced", "{node}");
    for id in written.lock().unwrap().iter() {
        assert_eq!(third.get(&admin, &format!("/v1/records/{id}")).status, 200, "{id} is lost");
    }
    second.stop();
    third.stop();
}

#[test]
fn a_primary_that_stood_still_acknowledges_nothing_when_it_wakes() {
    let pair = Pair::start(false);
    let Pair { first, second, admin, writer, .. } = &pair;
    let told = Arc::new(Told::default());
    let writers = told.begin(&first.url, writer, 6);
    told.wait_for(60);
    std::thread::sleep(Duration::from_secs(2));
    first.signal(Signal::STOP);
    let stopped = Instant::now();
    let promoted = second.run(admin, &["admin", "promote"]);
    assert!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
    assert!(stopped.elapsed() >= LEASE + SKEW, "nobody waited for the lease");
    second.wait(admin, "ready", |node| node["state"] == "ready");
    let written = second.ask(writer, "POST", "/v1/assert", Some(&claim("after"))).unwrap();
    assert_eq!(written.status, 201, "{}", written.json);
    let woken = Instant::now();
    first.signal(Signal::CONT);
    std::thread::sleep(Duration::from_secs(3));
    told.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    {
        let acknowledged = told.acknowledged.lock().unwrap();
        let late = acknowledged.iter().filter(|(_, at)| *at >= woken).count();
        assert_eq!(late, 0, "acknowledged after it woke up");
        // What is older than the delay of the archive, and some time for the upload, is there.
        let safe = stopped - DELAY - Duration::from_secs(10).min(stopped.elapsed() / 2);
        for (id, _) in acknowledged.iter().filter(|(_, at)| *at < safe) {
            let found = second.get(writer, &format!("/v1/records/{id}")).status;
            assert_eq!(found, 200, "{id} was acknowledged long before and is lost");
        }
    }
    assert!(told.codes.lock().unwrap().iter().any(|code| code == "fenced"));
    pair.rejoin(&told);
}

#[test]
fn with_archive_sync_nothing_that_was_acknowledged_is_lost_with_the_primary() {
    let pair = Pair::start(true);
    let Pair { first, second, admin, writer, .. } = &pair;
    let told = Arc::new(Told::default());
    let writers = told.begin(&first.url, writer, 6);
    told.wait_for(100);
    // Its disk, too, as far as the second is concerned: nothing comes from there any more.
    first.signal(Signal::KILL);
    told.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    let promoted = second.run(admin, &["admin", "promote"]);
    assert!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
    second.wait(admin, "ready", |node| node["state"] == "ready");
    for (id, _) in told.acknowledged.lock().unwrap().iter() {
        let found = second.get(writer, &format!("/v1/records/{id}")).status;
        assert_eq!(found, 200, "{id} was acknowledged, and is lost");
    }
    eprintln!("{} acknowledged, all on the new primary", told.count());
}

#[test]
fn what_cannot_be_followed_or_promoted_is_refused_with_the_next_command() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    std::fs::create_dir(&archive).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(STEMEDB).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (at, data) = (archive.to_str().unwrap(), dir.path().join("first"));
    let nothing = dir.path().join("nothing");
    let (status, said) = run(&[
        "serve",
        "--data-dir",
        nothing.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--standby-of",
        at,
    ]);
    assert_ne!(status, Some(0));
    assert!(said.contains("holds no logs"), "{said}");

    // A primary without a lease.
    let mut command = Command::new(STEMEDB);
    command.args(["serve", "--no-auth", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
    command.env("STEMEDB_ARCHIVE__URL", &archive).env("STEMEDB_ARCHIVE__DELAY", "100ms");
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let folder = dir.path().join("second");
    while std::fs::read_dir(&archive).unwrap().count() == 0 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(2));
    // Whoever could put objects could put API keys.
    let (status, said) = run(&[
        "serve",
        "--data-dir",
        folder.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--standby-of",
        at,
    ]);
    let key = node_key(&data);
    assert_ne!(status, Some(0));
    assert!(said.contains(&format!("--trust-key {key}")), "{said}");
    let second = Node::start(&folder, &archive, As::Standby(&[&key]));
    let admin = second.admin_key();
    second.wait(&admin, "a standby", |node| node["state"] == "standby");
    let refused = second.run(&admin, &["admin", "promote"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("keeps no lease"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();

    // What it is must be said again, and differently.
    let (status, said) = run(&["serve", "--data-dir", data.to_str().unwrap(), "--standby-of", at]);
    assert_eq!(status, Some(2));
    assert!(said.contains("stemedb rejoin"), "{said}");
    let promoted = second.run(&admin, &["admin", "promote", "--force"]);
    assert!(promoted.status.success(), "{}", String::from_utf8_lossy(&promoted.stderr));
    let written = second.ask(&admin, "POST", "/v1/assert", Some(&claim("after"))).unwrap();
    assert_eq!(written.status, 201, "{}", written.json);
    // A start with the same words is one as a primary.
    second.stop();
    let again = Node::start(&folder, &archive, As::Standby(&[&key]));
    again.wait(&admin, "ready", |node| node["state"] == "ready");
    again.stop();
}
