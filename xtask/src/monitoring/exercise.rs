//! A server with something of everything in its metrics.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::matrix::node::{Client, Node, Place, Started};

const START_MAX: Duration = Duration::from_secs(60);
/// Small, so that the log uses more than one.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Long enough for a machine on which much else runs.
const LEASE: &str = "60s";
/// What the server says once commands beside it have left their notes.
const TOLD: [&str; 3] = [
    "stemedb_backup_last_success_timestamp_seconds",
    "stemedb_backup_last_verified_timestamp_seconds",
    "stemedb_drill_rto_seconds{drill=\"backup\"}",
];
const TOLD_MAX: Duration = Duration::from_secs(30);
pub(crate) const LENSES: [&str; 8] =
    ["recency", "consensus", "confidence", "authority", "trust", "votes", "skeptic", "layered"];

/// Starts a server whose log is in `wal`. The one place that says how servers of this check are
/// configured.
pub(crate) fn start(binary: &Path, folder: &Path, wal: &Path) -> Result<(Place, Node)> {
    let place = place(
        binary,
        folder,
        wal,
        &[
            ("STEMEDB_ARCHIVE__URL", archive(folder)),
            ("STEMEDB_ARCHIVE__DELAY", "1s".into()),
            ("STEMEDB_BACKUP__URL", backups(folder)),
            ("STEMEDB_WAL__RETENTION", "archived".to_owned()),
            ("STEMEDB_CLUSTER__LEASE", LEASE.into()),
        ],
    )?;
    let node = started(&place)?;
    let began = Instant::now();
    // Once it has its lease.
    while node.client().get("/readyz?for=write")?.status != 200 {
        ensure!(began.elapsed() < START_MAX, "it takes no writes: {}", node.words());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((place, node))
}

/// Starts a server that neither archives nor keeps a lease.
pub(crate) fn alone(binary: &Path, folder: &Path, wal: &Path) -> Result<Node> {
    started(&place(binary, folder, wal, &[])?)
}

/// The same for one that asks for API keys, and lets nobody read as often as it likes. With the key of its
/// administrator.
pub(crate) fn guarded(binary: &Path, folder: &Path, reads: u32) -> Result<(Place, Node, Client)> {
    let limits = [
        ("STEMEDB_RATE_LIMIT__READ__PER_SECOND", "1".to_owned()),
        ("STEMEDB_RATE_LIMIT__READ__BURST", reads.to_string()),
    ];
    let place = Place { keys: true, ..place(binary, folder, &folder.join("wal"), &limits)? };
    let node = started(&place)?;
    let key = std::fs::read_to_string(place.data.join("node/first-admin.key"))?;
    let client = node.client().with_key(key.trim());
    // The key by which the server signs for this caller is registered with the first claim.
    let claim = json!({ "subject": "a", "predicate": "b", "object": "first", "at": 1 });
    expect(&client, "/v1/assert", Some(&claim), 201)?;
    Ok((place, node, client))
}

/// Starts a standby of the server that was started in `of`, once that has an archive.
pub(crate) fn follow(primary: &Place, of: &Path, folder: &Path) -> Result<Node> {
    let key = primary.data.join("node/node.key").display().to_string();
    let (status, key) = primary.tool(&["key", "show", &key])?;
    ensure!(status == Some(0), "key show ends with {status:?}: {key}");
    let began = Instant::now();
    while std::fs::read_dir(archive(of)).map_or(0, Iterator::count) == 0 {
        ensure!(began.elapsed() < START_MAX, "nothing is archived");
        std::thread::sleep(Duration::from_millis(100));
    }
    let place = place(
        &primary.binary,
        folder,
        &folder.join("wal"),
        &[("STEMEDB_CLUSTER__STANDBY_OF", archive(of)), ("STEMEDB_ARCHIVE__TRUSTED_KEYS", key)],
    )?;
    started(&place)
}

fn place(
    binary: &Path,
    folder: &Path,
    wal: &Path,
    environment: &[(&str, String)],
) -> Result<Place> {
    std::fs::create_dir_all(folder)?;
    let environment = environment.iter();
    Ok(Place {
        binary: binary.to_owned(),
        data: folder.join("data"),
        wal: wal.to_owned(),
        index: folder.join("index"),
        segment_bytes: SEGMENT_BYTES,
        under: Vec::new(),
        keys: false,
        environment: environment.map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        said: folder.join("server.log"),
    })
}

fn started(place: &Place) -> Result<Node> {
    let mut node = place.spawn()?;
    match node.started(START_MAX)? {
        Started::Ready => Ok(node),
        Started::Refused { status, words } => bail!("the server ended with {status}: {words}"),
        Started::Waiting => bail!("the server is not ready: {}", node.words()),
    }
}

fn archive(folder: &Path) -> String {
    folder.join("archive").display().to_string()
}

fn backups(folder: &Path) -> String {
    folder.join("backups").display().to_string()
}

/// What an operator does against a loss; returns when the server says so.
pub(crate) fn protect(place: &Place, node: &Node, folder: &Path) -> Result<()> {
    let (client, store) = (node.client(), backups(folder));
    for act in ["backup create", "backup verify", "drill backup"] {
        let mut words: Vec<&str> = act.split(' ').collect();
        words.extend(["--store", store.as_str()]);
        if act.starts_with("drill") {
            words.extend(["--url", node.url()]);
        }
        let (status, words) = place.tool(&words)?;
        ensure!(status == Some(0), "{act} ends with {status:?}: {words}");
    }
    let began = Instant::now();
    for name in TOLD {
        while client.metric(name).unwrap_or_default() == 0.0 {
            ensure!(began.elapsed() < TOLD_MAX, "{name} is 0 after {} s", TOLD_MAX.as_secs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// Writes, questions of every kind, and mistakes of a caller. `round` makes the records new.
pub(crate) fn exercise(client: &Client, round: u64) -> Result<()> {
    for number in 0..20 {
        let at = 1_700_000_000_000_u64 + round * 1_000 + number;
        let body = json!({
            "subject": format!("monitoring/{}", number % 4), "predicate": "holds",
            "object": format!("value {}", number % 3), "at": at,
        });
        expect(client, "/v1/assert", Some(&body), 201)?;
    }
    let of = "subject=monitoring/1&predicate=holds";
    for lens in LENSES {
        expect(client, &format!("/v1/query?{of}&lens={lens}"), None, 200)?;
    }
    expect(client, "/v1/query?subject=monitoring/1", None, 200)?;
    for path in ["/v1/skeptic", "/v1/layered"] {
        expect(client, &format!("{path}?{of}"), None, 200)?;
    }
    let explain = format!("/v1/explain?{of}&lens=consensus");
    let receipt = client.get(&explain)?;
    let receipt = receipt.body.get("receipt").cloned().context("no receipt")?;
    expect(client, "/v1/replay", Some(&receipt), 200)?;
    let keys = json!([{ "subject": "monitoring/1", "predicate": "holds" }]);
    let many = json!({ "keys": keys, "lenses": ["consensus", "recency"] });
    expect(client, "/v1/resolve", Some(&many), 200)?;
    expect(client, "/v1/conflicts", None, 200)?;
    expect(client, "/v1/health", None, 200)?;
    expect(client, "/nothing/here", None, 404)?;
    expect(client, "/v1/assert", Some(&json!({ "subject": 1 })), 400)?;
    // A vote on what is not there contradicts the log.
    let vote = json!({ "assertion": "0".repeat(64), "weight": 1, "at": 1_700_000_000_000_u64 });
    expect(client, "/v1/vote", Some(&vote), 409)?;
    Ok(())
}

fn expect(
    client: &Client,
    path: &str,
    body: Option<&serde_json::Value>,
    status: u16,
) -> Result<()> {
    let answer = match body {
        Some(body) => client.post(path, body),
        None => client.get(path),
    }?;
    if answer.status != status {
        bail!("{path} is answered {}, expected {status}: {}", answer.status, answer.body);
    }
    Ok(())
}
