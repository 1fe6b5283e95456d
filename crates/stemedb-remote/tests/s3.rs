//! The archive on a real server that speaks S3, with a network between that fails.
//!
//! The server is SeaweedFS, from `scripts/requirements.txt`; `STEMEDB_VENV` names the Python that has
//! it, as `make` sets it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
#![allow(clippy::disallowed_methods, reason = "files of the server under test")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stemedb_io::{Clock, Env, RealClock, Rng};
use stemedb_log::{Expect, Log, Wal, WalConfig};
use stemedb_model::{SigningKey, Timeline};
use stemedb_remote::{
    ArchiveConfig, Archiver, ObjectStore, RestorePlan, RestoreTo, Store, StoreOptions, Target,
    archive_status, probe, restore,
};
use support::{LOG_ID, TIMELINE, history};

const BRANCH: Timeline = Timeline([3; 16]);
const KEYS: &str = r#"{"identities": [{"name": "test", "credentials":
    [{"accessKey": "testkey", "secretKey": "testsecret"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}"#;

fn pause(ms: u64) {
    RealClock::new().sleep(Duration::from_millis(ms));
}

/// What the server gives, within a minute: after it was killed it answers 500 for a while.
fn patient<T, E: std::fmt::Debug>(mut ask: impl FnMut() -> Result<T, E>) -> T {
    let clock = RealClock::new();
    loop {
        match ask() {
            Ok(found) => return found,
            Err(error) => assert!(clock.monotonic() < Duration::from_secs(60), "{error:?}"),
        }
        pause(100);
    }
}

/// Waits until something is so; a test that waits this long has failed.
fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is() {
            return;
        }
        pause(200);
    }
    panic!("{what}: not within two minutes");
}

/// SeaweedFS in a folder of its own.
struct Server {
    dir: tempfile::TempDir,
    ports: [u16; 4],
    child: Option<Child>,
}

impl Server {
    fn weed() -> PathBuf {
        let venv = std::env::var_os("STEMEDB_VENV").expect("STEMEDB_VENV names the Python to use");
        let weed = Path::new(&venv).join("bin/weed");
        assert!(weed.exists(), "{} is not there: run scripts/setup.sh", weed.display());
        weed
    }

    fn new() -> Self {
        // Each of its ports has a second one, 10,000 higher.
        let rng = stemedb_io::RealRng;
        let free = |port: &u16| {
            TcpListener::bind(("127.0.0.1", *port)).is_ok()
                && TcpListener::bind(("127.0.0.1", *port + 10_000)).is_ok()
        };
        let mut drawn = std::iter::repeat_with(|| 20_000 + (rng.next_u64() % 12_000) as u16);
        let ports = [0; 4].map(|_: u16| drawn.by_ref().find(free).unwrap());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("s3.json"), KEYS).unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let mut server = Self { dir, ports, child: None };
        server.start();
        let shell = Command::new(Self::weed())
            .arg("shell")
            .arg(format!("-master=127.0.0.1:{}", ports[0]))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut shell = shell.unwrap();
        shell.stdin.take().unwrap().write_all(b"s3.bucket.create -name archive\n").unwrap();
        assert!(shell.wait().unwrap().success());
        server
    }

    fn start(&mut self) {
        let [master, volume, filer, s3] = self.ports;
        let child = Command::new(Self::weed())
            .current_dir(self.dir.path())
            .args(["server", "-master.telemetry=false", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .args(["-dir=data", "-filer", "-s3", "-s3.config=s3.json", "-volume.max=8"])
            .arg("-master.volumeSizeLimitMB=64")
            .arg(format!("-master.port={master}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-s3.port={s3}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        wait_until("the server answers", || TcpStream::connect(("127.0.0.1", s3)).is_ok());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn address(&self) -> u16 {
        self.ports[3]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

const GOOD: u64 = 0;
const AWAY: u64 = 1;
const SLOW: u64 = 2;
const ERRORS: u64 = 3;
/// After so many bytes of a request the connection ends.
const CUT: u64 = 4;

/// What lies between the node and the server.
struct Network {
    port: u16,
    fault: Arc<AtomicU64>,
}

impl Network {
    fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = Arc::new(AtomicU64::new(GOOD));
        let now = Arc::clone(&fault);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, now) = (client.unwrap(), Arc::clone(&now));
                std::thread::spawn(move || serve(client, server, &now));
            }
        });
        Self { port, fault }
    }

    fn set(&self, fault: u64) {
        self.fault.store(fault, Ordering::SeqCst);
    }
}

fn serve(mut client: TcpStream, server: u16, fault: &Arc<AtomicU64>) {
    if fault.load(Ordering::SeqCst) == ERRORS {
        let mut some = [0; 1024];
        let _ = client.read(&mut some);
        let _ = client
            .write_all(b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    }
    let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { return };
    let (from, to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
    let again = Arc::clone(fault);
    std::thread::spawn(move || pipe(upstream, client, &again, u64::MAX));
    pipe(from, to, fault, 3_000);
}

/// Carries bytes over, as well as the network does just then.
fn pipe(mut from: TcpStream, mut to: TcpStream, fault: &AtomicU64, cut_at: u64) {
    let mut some = [0; 4096];
    let mut carried = 0;
    while let Ok(count @ 1..) = from.read(&mut some) {
        carried += count as u64;
        match fault.load(Ordering::SeqCst) {
            AWAY | ERRORS => break,
            CUT if carried > cut_at => break,
            SLOW => pause(20),
            _ => {}
        }
        if to.write_all(&some[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn store(port: u16) -> Arc<dyn Store> {
    let settings = [
        ("aws_access_key_id", "testkey".to_owned()),
        ("aws_secret_access_key", "testsecret".to_owned()),
        ("aws_region", "us-east-1".to_owned()),
        ("aws_endpoint", format!("http://127.0.0.1:{port}")),
    ];
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let options = StoreOptions { timeout: Duration::from_secs(5), retries: 0, settings };
    Arc::new(ObjectStore::open("s3://archive/some/prefix", &options).unwrap())
}

fn wal(dir: &Path, env: &Env, expect: Expect) -> Wal {
    let config = WalConfig { segment_bytes: 1 << 20, ..WalConfig::new(dir) };
    Wal::open(config, env.clone(), expect).unwrap().0
}

#[test]
fn a_server_and_a_network_that_fail_leave_no_gap() {
    let mut server = Server::new();
    let network = Network::to(server.address());
    let near = store(server.address());
    let far = store(network.port);
    probe(&*near, &stemedb_io::RealRng).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let new = Expect::New { log_id: LOG_ID, timeline: TIMELINE };
    let mut log = wal(&dir.path().join("wal"), &env, new);
    let history = history(77, 1_200);
    let mut groups = history.iter().map(|(_, group)| group);
    log.append(groups.next().unwrap()).unwrap();
    let config = ArchiveConfig {
        delay: Duration::from_millis(100),
        part_bytes: 40_000,
        ..ArchiveConfig::new(dir.path().join("archived"))
    };
    let archiver = || {
        let key = SigningKey::from_seed(&[5; 32]);
        let (store, env) = (Arc::clone(&far), env.clone());
        (store, key, env, config.clone())
    };
    let (store, key, with, settings) = archiver();
    let mut handle =
        Archiver::new(store, log.cutter(), key, with, settings).unwrap().start().unwrap();

    // Objects as they were when they were first seen.
    let mut seen: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut failed = 0;
    let faults = [GOOD, AWAY, GOOD, SLOW, CUT, GOOD, ERRORS, CUT, GOOD, AWAY, SLOW, GOOD];
    for (n, fault) in faults.into_iter().enumerate() {
        network.set(fault);
        for group in groups.by_ref().take(90) {
            log.append(group).unwrap();
            pause(3);
        }
        let state = handle.progress().state;
        failed += usize::from(state.as_str() == "failing");
        match n {
            5 => {
                // The server is gone in the middle of it.
                server.kill();
                pause(1_500);
                failed += usize::from(handle.progress().state.as_str() == "failing");
                server.start();
            }
            8 => {
                // The node ends and begins anew.
                drop(handle);
                let (store, key, with, settings) = archiver();
                handle = Archiver::new(store, log.cutter(), key, with, settings)
                    .unwrap()
                    .start()
                    .unwrap();
            }
            _ => {}
        }
        if fault == GOOD && n != 5 {
            // What was held up is caught up with by itself.
            let durable = log.reader().durable().0;
            wait_until("all is archived", || handle.progress().archived >= durable);
            for one in patient(|| near.list(&LOG_ID.to_string(), "")) {
                let bytes = patient(|| near.get(&one.name, 1 << 30));
                seen.entry(one.name).or_insert(bytes);
            }
        }
    }
    network.set(GOOD);
    for group in groups {
        log.append(group).unwrap();
    }
    let durable = log.reader().durable().0;
    assert!(handle.flush(durable, Duration::from_secs(180)), "{:?}", handle.progress());
    assert!(failed > 1, "the faults were not felt: {failed}");
    assert!(seen.len() > 10, "{}", seen.len());
    for (name, bytes) in &seen {
        assert!(patient(|| near.get(name, 1 << 30)) == *bytes, "{name} was overwritten");
    }
    let status = patient(|| archive_status(&*near, LOG_ID, TIMELINE)).unwrap();
    assert!(status.whole() && status.archived == durable, "{status:?}");

    // An object is lost: told, and put back by the next start.
    drop(handle);
    let parts = patient(|| near.list(&format!("{LOG_ID}/{TIMELINE}/parts"), ""));
    near.remove(&parts[parts.len() / 2].name).unwrap();
    let status = patient(|| archive_status(&*near, LOG_ID, TIMELINE)).unwrap();
    assert_eq!(status.lost.len(), 1);
    let (store, key, with, settings) = archiver();
    let mut archiver = Archiver::new(store, log.cutter(), key, with, settings).unwrap();
    for _ in 0..3 {
        archiver.step().unwrap();
    }
    assert_eq!(archiver.progress().replaced_parts, 1);
    assert!(patient(|| archive_status(&*near, LOG_ID, TIMELINE)).unwrap().whole());

    let plan = RestorePlan::of_archive(&*near, &env, (LOG_ID, TIMELINE), Target::Newest).unwrap();
    let to = dir.path().join("restored");
    let place = RestoreTo { dir: &to, timeline: BRANCH, segment_bytes: 1 << 20 };
    let restored = restore(&*near, &env, &plan, place, &mut |_| ()).unwrap();
    let (position, root) = log.reader().root();
    assert_eq!((restored.end.position, restored.end.chain), (position, root));
    let again = Expect::Existing { log_id: Some(LOG_ID), witness: Some(position) };
    assert_eq!(wal(&to, &env, again).reader().root(), (position, root));
}
