//! Two machines with an archive between them: the first node takes writes, the second one, whose machine
//! is that of the pages, follows. Writers ask a load balancer, and know nothing of nodes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::case::{Drill, Node, wait};
use super::estate::{FAR, begin_far};
use super::room::{self, DATA, NODE};
use super::service::{ADDRESS, Elsewhere, Service};
use crate::matrix::load::{Load, Told};
use crate::matrix::node::{Client, Holdings, REQUEST_MAX};
use crate::monitoring::files;
use crate::monitoring::stack::Pace;
use crate::mount::run;
use crate::program::Program;

/// The one that takes writes at first.
pub(crate) const FIRST: Node = Node { name: "node1", address: "127.0.0.2:18180" };
/// The one that takes its place.
pub(crate) const SECOND: Node = Node { name: "node2", address: ADDRESS };
/// Where the first machine has its data.
const FIRST_DATA: &str = "/mnt/node1";
const MEBIBYTES: u64 = 256;
/// Seconds, so that a drill is short: one renewal a second, and the same machine's clock.
const LEASE: &str = "lease = \"3s\"\nskew = \"1s\"\n";
/// The file of the page from which who imports takes an API key.
const IMPORT_KEY: &str = "/etc/stemedb/import.key";

const SHIPPED: &str = "deploy/nginx/stemedb.conf";
const SERVERS: &str = "/etc/nginx/conf.d/stemedb.conf";
const NGINX: &str = "/etc/nginx/nginx.conf";
const BALANCER: &str = "http://127.0.0.1:8180";

const BEFORE: u64 = 300;
const AFTER: u64 = 200;
const LOAD_MAX: Duration = Duration::from_secs(90);
/// Who asks a node that stands still asks again.
const NEWCOMER_MAX: Duration = Duration::from_secs(2);
/// A look of the archiver, of the one who leaves the files of the node, of the standby.
const FOLLOWS_MAX: Duration = Duration::from_secs(45);

/// Both.
pub(crate) struct Pair {
    /// The machine of the first node.
    pub(crate) first: Service,
    /// Number of the volume on which the archive is.
    pub(crate) far: usize,
    /// Operators, who ask one node.
    pub(crate) at_first: Client,
    pub(crate) at_second: Client,
    /// Writers: one at the first node, one who asks the load balancer.
    pub(crate) to_first: Client,
    pub(crate) to_both: Client,
    /// The same, without patience.
    pub(crate) newcomer: Client,
    _balancer: Program,
}

/// What of an acknowledged claim is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acked {
    pub(crate) position: u64,
    /// Since the ledger was opened.
    pub(crate) at: Duration,
}

impl Pair {
    /// Both at work, and level with each other.
    pub(crate) fn begin(drill: &mut Drill<'_>) -> Result<Self> {
        begin_far()?;
        name_the_machines()?;
        let far = drill.good_disk(FAR, MEBIBYTES)?;
        drill.good_disk(FIRST_DATA, MEBIBYTES)?;
        drill.good_disk(DATA, MEBIBYTES)?;
        let etc = drill.folder("node1-etc")?;
        fs::write(etc.join("api.toml"), config(FIRST, &[], ""))?;
        let files = Elsewhere { data: Path::new(FIRST_DATA), etc: &etc };
        let first = drill.machine("node1", &files)?;
        first.start()?;
        let keys = drill.folder("keys")?;
        let writer = key(&first, &keys, "loader", "writer")?;
        let operator = key(&first, &keys, "watch", "operator")?;
        let key_of_first = public_key(&first)?;
        let at = |url: String, key: &str| Client::new(url, REQUEST_MAX).with_key(key);
        let url = |node: Node| format!("http://{}", node.address);
        let at_first = at(url(FIRST), &operator);
        wait(
            Instant::now(),
            FOLLOWS_MAX,
            "the first node leaves its keys beside the archive",
            || Ok(left_its_files()? && at_first.metric("stemedb_wal_archived_position")? > 0.0),
        )?;

        let standby_of = format!("standby_of = \"{FAR}/archive\"\n");
        fs::write(room::CONFIG, config(SECOND, &[key_of_first.as_str()], &standby_of))?;
        drill.service.start()?;
        let key_of_second = public_key(&drill.service)?;
        let both = [key_of_first.as_str(), key_of_second.as_str()];
        fs::write(room::CONFIG, config(SECOND, &both, &standby_of))?;
        fs::write(etc.join("api.toml"), config(FIRST, &both, ""))?;
        fs::write(IMPORT_KEY, &writer)?;
        fs::set_permissions(IMPORT_KEY, fs::Permissions::from_mode(0o600))?;
        let at_second = at(url(SECOND), &operator);
        drill.client = at_second.clone();
        let pair = Self {
            far,
            at_first,
            at_second,
            to_first: at(url(FIRST), &writer),
            to_both: at(BALANCER.into(), &writer),
            newcomer: Client::new(BALANCER.into(), NEWCOMER_MAX).with_key(&writer),
            _balancer: balancer(drill)?,
            first,
        };
        let load = pair.write(drill, BEFORE)?;
        load.finish();
        pair.level(&pair.at_second, &pair.at_first)?;
        drill.watch_nodes(&[FIRST.address, SECOND.address], Pace::ShortWindows)?;
        drill.tell("node1 takes writes, node2 follows and is level");
        Ok(pair)
    }

    /// Writers at the load balancer, of whom so many claims are acknowledged by now.
    fn write(&self, drill: &Drill<'_>, acks: u64) -> Result<Load> {
        let load = Load::of_writers(&self.to_both, &drill.ledger);
        ensure!(
            load.wait_for_acks(acks, LOAD_MAX),
            "{acks} claims are not taken in {} s",
            LOAD_MAX.as_secs()
        );
        Ok(load)
    }

    /// The same, until they are told to finish.
    pub(crate) fn keep_writing(&self, drill: &Drill<'_>) -> Result<Load> {
        self.write(drill, AFTER)
    }

    /// What the first node has promised to be in the archive.
    pub(crate) fn archived(&self) -> Result<u64> {
        Ok(self.at_first.metric("stemedb_wal_archived_position")? as u64)
    }

    /// Waits until a standby has what the other one has.
    pub(crate) fn level(&self, standby: &Client, primary: &Client) -> Result<()> {
        let (goal, mut seen) = (position(primary)?, Value::Null);
        let waited = wait(Instant::now(), FOLLOWS_MAX, "the standby is level", || {
            seen = standby.get("/v1/admin/node")?.body;
            let position = seen.get("position").and_then(Value::as_u64);
            Ok(seen.get("state").is_some_and(|state| state == "standby") && position >= Some(goal))
        });
        waited.with_context(|| format!("{goal} is the goal, the standby says {seen}"))
    }
}

/// The newest position that a node answers with.
fn position(client: &Client) -> Result<u64> {
    let node = client.get("/v1/admin/node")?;
    let position = node.body.get("position").and_then(Value::as_u64);
    position.with_context(|| format!("a node is answered {}: {}", node.status, node.body))
}

/// Every claim that somebody was told is written.
pub(crate) fn acked(drill: &Drill<'_>) -> BTreeMap<u64, Acked> {
    let mut all = BTreeMap::new();
    for attempt in drill.ledger.attempts() {
        if let Some(position) = attempt.told.promised() {
            all.insert(attempt.claim, Acked { position, at: attempt.ended() });
        }
    }
    all
}

/// Those of them that a node does not have.
pub(crate) fn missing(acked: &BTreeMap<u64, Acked>, there: &Holdings) -> Vec<(u64, Acked)> {
    let gone = acked.iter().filter(|(claim, _)| !there.contains_key(claim));
    gone.map(|(claim, acked)| (*claim, *acked)).collect()
}

/// How many since then were told that the node does not hold the lease.
pub(crate) fn fenced(drill: &Drill<'_>, since: Duration) -> usize {
    let refused = |told: &Told| match told {
        Told::NotWritten { code } | Told::Indeterminate { code } => code == "fenced",
        _ => false,
    };
    let attempts = drill.ledger.attempts();
    attempts.iter().filter(|one| one.ended() >= since && refused(&one.told)).count()
}

fn config(node: Node, trusted: &[&str], more: &str) -> String {
    let Node { name, address } = node;
    let trusted: Vec<String> = trusted.iter().map(|key| format!("\"{key}\"")).collect();
    format!(
        "[server]\nlisten = \"{address}\"\n\n[wal]\nsegment_bytes = 1048576\n\n\
         [archive]\nurl = \"{FAR}/archive\"\ndelay = \"1s\"\ntrusted_keys = [{}]\n\n\
         [cluster]\n{more}{LEASE}address = \"http://{name}:18180\"\n",
        trusted.join(", ")
    )
}

fn name_the_machines() -> Result<()> {
    Ok(fs::write("/etc/hosts", "127.0.0.1 localhost node2\n127.0.0.2 node1\n")?)
}

/// A new API key, made as an operator of that machine makes it.
fn key(machine: &Service, folder: &Path, name: &str, role: &str) -> Result<String> {
    let file = folder.join(name);
    let mut command = machine.command(machine.bin().join("stemedb"));
    command.args(["admin", "keys", "create", name, "--role", role, "--out"]).arg(&file);
    run(command.arg("--socket").arg(Path::new(NODE).join("admin.sock")))?;
    Ok(fs::read_to_string(&file)?.trim().to_owned())
}

/// The key by which the node of that machine signs what it archives.
fn public_key(machine: &Service) -> Result<String> {
    let mut command = machine.command(machine.bin().join("stemedb"));
    let key = run(command.args(["key", "show"]).arg(Path::new(NODE).join("node.key")))?;
    Ok(key.trim().to_owned())
}

/// Whether the files of a node are in the archive.
fn left_its_files() -> Result<bool> {
    let archive = PathBuf::from(FAR).join("archive");
    if !archive.exists() {
        return Ok(false);
    }
    for log in fs::read_dir(archive)? {
        if log?.path().join("node").exists() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The shipped nginx, with both nodes as the page of the standby has them: the second one is not asked
/// to write.
fn balancer(drill: &Drill<'_>) -> Result<Program> {
    let shipped = files::read(&drill.root().join(SHIPPED))?;
    let one = "    server 127.0.0.1:18180 ";
    ensure!(shipped.matches(one).count() == 2, "{SHIPPED} does not name the node twice");
    let mut text = String::new();
    let mut reads = true;
    for line in shipped.lines() {
        let Some(settings) = line.strip_prefix(one) else {
            text.push_str(&format!("{line}\n"));
            continue;
        };
        let of_second = if reads { settings } else { "down;" };
        text.push_str(&format!(
            "    server node1:18180 {settings}\n    server node2:18180 {of_second}\n"
        ));
        reads = false;
    }
    fs::create_dir_all("/etc/nginx/conf.d")?;
    fs::write(SERVERS, text)?;
    // What a distribution brings, in places that are the drill's.
    let folder = drill.folder("nginx")?;
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places = places.map(|name| format!("{name}_temp_path {}/{name};", folder.display()));
    let text = format!(
        "daemon off; worker_processes 2; pid /etc/nginx/pid; error_log stderr warn;\nevents {{ }}\n\
         http {{ access_log off; {} include {SERVERS}; }}\n",
        places.concat()
    );
    fs::write(NGINX, text)?;
    let mut program =
        Program::start("nginx", Command::new("nginx").args(["-e", "stderr"]), &folder)?;
    let client = Client::new(BALANCER.into(), REQUEST_MAX);
    // It passes that on to nobody.
    program.wait(|| client.get("/livez").is_ok_and(|answer| answer.status == 403))?;
    Ok(program)
}
