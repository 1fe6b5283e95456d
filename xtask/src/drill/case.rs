//! What a case of a drill has at hand: disks, the service, load, alerts, and the blocks of its page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::room::{NODE, Room};
use super::runbook::Runbook;
use super::service::{ADDRESS, Elsewhere, Service};
use super::volume::Volume;
use super::{Args, Case};
use crate::matrix::interrupt;
use crate::matrix::judge;
use crate::matrix::load::{Ledger, Load, Told};
use crate::matrix::node::{Client, Holdings, REQUEST_MAX, State};
use crate::monitoring::stack::{Pace, Stack};
use crate::mount::run;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest that a block of a page may run.
const BLOCK_MAX: &str = "300";
/// With the shipped intervals the first scrape comes within 15 s.
const SETTLED_MAX: Duration = Duration::from_secs(60);
const ROTATIONS: &str = "stemedb_wal_segment_rotations_total";
/// More records, one after the other, than a segment of 1 MiB takes.
const ROTATES_WITHIN: u32 = 600;
/// More than the segment in use and the one that is prepared take.
const FULL_WITHIN: u32 = 1_500;
const LOAD_MAX: Duration = Duration::from_secs(60);
/// How long it may take to read its configuration anew.
const RELOAD_MAX: Duration = Duration::from_secs(10);
/// What it says then.
const RELOADED: &str = "the configuration is read anew";
/// Requests need no key, where a case is not about keys.
const WITHOUT_KEYS: &str = "[auth]\nenabled = false\n\n";
/// What a node of a drill is configured with beside what a case asks for: small segments, so that they
/// change often.
const CONFIG: &str = "[wal]\nsegment_bytes = 1048576\n";

/// One of several nodes, as the pages and as Prometheus name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) address: &'static str,
}

/// A case at work.
pub(crate) struct Drill<'a> {
    pub(crate) service: Service,
    pub(crate) client: Client,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) long: bool,
    /// Who signs its certificate.
    roots: Option<PathBuf>,
    /// In the order in which they are mounted.
    volumes: Vec<Volume>,
    stack: Option<Stack>,
    case: &'static Case,
    binary: PathBuf,
    root: &'a Path,
    room: &'a Room,
    page: &'a Runbook,
    environment: String,
    seed: u64,
    ran: BTreeSet<&'static str>,
    struck: Option<Instant>,
    seen: Vec<(Option<Duration>, String)>,
}

impl<'a> Drill<'a> {
    pub(crate) fn begin(
        case: &'static Case,
        args: &'a Args,
        binary: &Path,
        seed: u64,
        room: &'a Room,
        page: &'a Runbook,
        environment: String,
    ) -> Result<Self> {
        room.renew(&format!("{WITHOUT_KEYS}{CONFIG}"))?;
        let service = Service::install(&room.folder(case.name)?, binary)?;
        Ok(Self {
            service,
            client: Client::new(format!("http://{ADDRESS}"), REQUEST_MAX),
            ledger: Arc::new(Ledger::new()),
            long: args.long,
            roots: None,
            volumes: Vec::new(),
            stack: None,
            case,
            binary: binary.to_owned(),
            root: &args.root,
            room,
            page,
            environment,
            seed,
            ran: BTreeSet::new(),
            struck: None,
            seen: Vec::new(),
        })
    }

    /// More lines of `[wal]`, before the first start.
    pub(crate) fn configure(&self, more: &str) -> Result<()> {
        self.room.renew(&format!("{WITHOUT_KEYS}{CONFIG}{more}"))
    }

    /// The same for a node that asks for API keys.
    pub(crate) fn configure_with_keys(&self, more: &str) -> Result<()> {
        self.room.renew(&format!("{CONFIG}{more}"))
    }

    /// Everybody asks over TLS from now on, and trusts whoever `roots` names.
    pub(crate) fn speak_tls(&mut self, roots: &Path) -> Result<()> {
        self.roots = Some(roots.to_owned());
        self.client = self.stranger()?;
        Ok(())
    }

    /// A client without a connection yet.
    pub(crate) fn stranger(&self) -> Result<Client> {
        match &self.roots {
            None => Ok(Client::new(format!("http://{ADDRESS}"), REQUEST_MAX)),
            Some(roots) => Client::trusting(format!("https://{ADDRESS}"), REQUEST_MAX, roots),
        }
    }

    /// A client with a new API key, made as an operator makes them.
    pub(crate) fn holder(&self, name: &str, role: &str) -> Result<Client> {
        self.holder_with(name, role, &[])
    }

    /// The same with more words of that command.
    pub(crate) fn holder_with(&self, name: &str, role: &str, more: &[&str]) -> Result<Client> {
        let file = self.scratch().join(format!("{name}.key"));
        // Of the case before.
        let _ = std::fs::remove_file(&file);
        let mut command = Command::new(self.service.bin().join("stemedb"));
        command.args(["admin", "keys", "create", name, "--role", role, "--out"]).arg(&file);
        command.args(more);
        run(command.arg("--socket").arg(Path::new(NODE).join("admin.sock")))?;
        Ok(self.stranger()?.with_key(std::fs::read_to_string(&file)?.trim()))
    }

    /// A file system on a disk that can fail.
    pub(crate) fn failing_disk(&mut self, at: &str, mebibytes: u64) -> Result<usize> {
        let folder = self.room.folder(&format!("disk-{}", self.volumes.len()))?;
        let volume = Volume::on_a_failing_disk(&folder, Path::new(at), mebibytes << 20, self.seed)?;
        self.volumes.push(volume);
        Ok(self.volumes.len() - 1)
    }

    /// A file system on a disk that cannot fail.
    pub(crate) fn good_disk(&mut self, at: &str, mebibytes: u64) -> Result<usize> {
        let folder = self.room.folder(&format!("disk-{}", self.volumes.len()))?;
        self.volumes.push(Volume::on_a_good_disk(&folder, Path::new(at), mebibytes << 20)?);
        Ok(self.volumes.len() - 1)
    }

    /// For files of the drill itself.
    pub(crate) fn scratch(&self) -> &Path {
        self.room.path()
    }

    pub(crate) fn volume(&self, number: usize) -> Result<&Volume> {
        self.volumes.get(number).context("no such volume")
    }

    /// The folder of the repository.
    pub(crate) fn root(&self) -> &Path {
        self.root
    }

    /// Another machine, with the service on it: `data` and `etc` are what it has at the paths of the
    /// pages.
    pub(crate) fn machine(&self, name: &str, files: &Elsewhere<'_>) -> Result<Service> {
        Service::install_elsewhere(&self.room.folder(name)?, &self.binary, files)
    }

    /// A folder of the drill itself, new and empty.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        self.room.folder(name)
    }

    /// Starts Prometheus and Alertmanager, and waits until they see the node.
    pub(crate) fn watch(&mut self, pace: Pace) -> Result<()> {
        self.watch_nodes(&[ADDRESS], pace)
    }

    /// The same for more than one node.
    pub(crate) fn watch_nodes(&mut self, addresses: &[&str], pace: Pace) -> Result<()> {
        let folder = self.room.folder("monitoring")?;
        let targets: Vec<String> = addresses.iter().map(|address| format!("'{address}'")).collect();
        let stack = Stack::start(self.root, &folder, &targets, pace, self.roots.as_deref())?;
        let began = Instant::now();
        wait(began, SETTLED_MAX, "Prometheus sees the nodes", || {
            let seen = stack.query("stemedb_node_state == 1 and on (instance) up == 1")?;
            Ok(seen.len() >= addresses.len())
        })?;
        let words = match pace {
            Pace::Shipped => "as shipped",
            Pace::EverySecond => "as shipped, scraped every second",
            Pace::ShortWindows => "with windows of seconds instead of minutes",
        };
        let health = self.client.get("/v1/health")?;
        self.tell(format!("build {}; alerts {words}", health.text("commit")));
        self.stack = Some(stack);
        Ok(())
    }

    fn stack(&self) -> Result<&Stack> {
        self.stack.as_ref().context("nobody watches")
    }

    /// Many writers and a reader, until so many claims are acknowledged.
    pub(crate) fn load(&self, acks: u64) -> Result<()> {
        let load = Load::start(&self.client, &self.ledger);
        let enough = load.wait_for_acks(acks, LOAD_MAX);
        load.finish();
        ensure!(enough, "no {acks} claims are acknowledged within {} s", LOAD_MAX.as_secs());
        Ok(())
    }

    /// Many writers and a reader, until told to finish.
    pub(crate) fn keep_writing(&self) -> Load {
        self.keep_writing_as(&self.client)
    }

    /// The same as somebody else.
    pub(crate) fn keep_writing_as(&self, client: &Client) -> Load {
        Load::start(client, &self.ledger)
    }

    /// Writes one claim.
    pub(crate) fn write(&self) -> Told {
        self.ledger.send_next(&self.client)
    }

    /// Writes that must be taken.
    pub(crate) fn takes_writes(&self, count: usize) -> Result<()> {
        for _ in 0..count {
            let told = self.write();
            ensure!(matches!(told, Told::Created { .. }), "a write is answered {told:?}");
        }
        Ok(())
    }

    /// Writes until so many segments have been begun; the last one just now.
    pub(crate) fn begins_segments(&self, count: u32) -> Result<()> {
        let before = self.sum(ROTATIONS, "")?;
        let until = before + f64::from(count);
        for _ in 0..count.saturating_mul(ROTATES_WITHIN) {
            self.takes_writes(1)?;
            if self.sum(ROTATIONS, "")? >= until {
                return Ok(());
            }
        }
        bail!("{ROTATES_WITHIN} records do not fill a segment")
    }

    /// Writes until the log has no room: nothing may be appended then.
    pub(crate) fn writes_until_refused(&self) -> Result<()> {
        let told = (0..FULL_WITHIN).map(|_| self.write()).find(|told| told.promised().is_none());
        let told = told.context("writes are taken without end")?;
        let expected = matches!(&told, Told::NotWritten { code } if code == "wal_unavailable");
        ensure!(expected, "a write without room is answered {told:?}");
        Ok(())
    }

    /// A write that must be refused, with this status and code; what must not be acknowledged is not.
    pub(crate) fn refuses_writes(&self, status: u16, code: &str) -> Result<()> {
        let told = self.write();
        let refused = match &told {
            Told::NotWritten { code: told } | Told::Indeterminate { code: told } => told == code,
            _ => false,
        };
        ensure!(refused, "a write is answered {told:?}, expected a refusal with {code}");
        let body = serde_json::json!({
            "subject": "drill", "predicate": "is", "object": "refused", "at": 1,
        });
        let answer = self.client.post("/v1/assert", &body)?;
        ensure!(
            answer.status == status && answer.text("code") == code,
            "a write is answered {} {}, expected {status} {code}",
            answer.status,
            answer.body
        );
        Ok(())
    }

    /// Reads of what is there.
    pub(crate) fn answers_reads(&self) -> Result<()> {
        let claims = self.ledger.by_claim();
        let known = claims.iter().find(|(_, told)| {
            told.iter().any(|attempt| matches!(attempt.told, Told::Created { .. }))
        });
        let (claim, _) = known.context("nothing was acknowledged")?;
        let path = format!("/v1/query?subject=harness/{claim}&predicate=holds");
        let answer = self.client.get(&path)?;
        let found = answer.body.pointer("/assertions/0/position").and_then(Value::as_u64);
        ensure!(
            answer.status == 200 && found.is_some(),
            "a read is answered {}: {}",
            answer.status,
            answer.body
        );
        Ok(())
    }

    /// Whether a balancer sends it this kind of request.
    pub(crate) fn is_ready(&self, purpose: &str) -> Result<bool> {
        Ok(self.client.get(&format!("/readyz?for={purpose}"))?.status == 200)
    }

    pub(crate) fn state(&self) -> Result<State> {
        self.client.state()
    }

    /// The sum of all series of a metric that have `label` in them.
    pub(crate) fn sum(&self, name: &str, label: &str) -> Result<f64> {
        let text = self.client.text("/metrics")?;
        let ours = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) && rest.contains(label)
        });
        let values: Vec<f64> =
            ours.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        ensure!(!values.is_empty(), "no series of {name} with {label:?} at /metrics");
        Ok(values.iter().sum())
    }

    /// The fault is there.
    pub(crate) fn struck(&mut self, words: &str) {
        self.struck = Some(Instant::now());
        self.tell(words);
    }

    fn struck_at(&self) -> Result<Instant> {
        self.struck.context("no fault yet")
    }

    /// How long ago the fault struck.
    pub(crate) fn since(&self) -> Result<Duration> {
        Ok(self.struck_at()?.elapsed())
    }

    /// Takes down what is seen.
    pub(crate) fn tell(&mut self, words: impl Into<String>) {
        let (since, words) = (self.struck.map(|at| at.elapsed()), words.into());
        match since {
            Some(since) => println!("     {:6.1} s  {words}", since.as_secs_f32()),
            None => println!("               {words}"),
        }
        self.seen.push((since, words));
    }

    pub(crate) fn seen(&self) -> Vec<(Option<Duration>, String)> {
        self.seen.clone()
    }

    /// What the server must have said, in one line.
    pub(crate) fn has_said(&self, words: &[&str]) -> Result<()> {
        let all = self.service.words();
        let found = all.lines().any(|line| words.iter().all(|word| line.contains(word)));
        ensure!(found, "no line of the log says all of {words:?}");
        Ok(())
    }

    /// Waits at most this long after the fault until the alert fires. `meanwhile` is asked again and
    /// again.
    pub(crate) fn fires(
        &mut self,
        alert: &str,
        within: Duration,
        meanwhile: impl Fn(&Self) -> Result<()>,
    ) -> Result<()> {
        wait(self.struck_at()?, within, &format!("{alert} fires"), || {
            meanwhile(self)?;
            self.firing(alert)
        })?;
        self.tell(format!("{alert} fires"));
        Ok(())
    }

    pub(crate) fn firing(&self, alert: &str) -> Result<bool> {
        self.firing_at(alert, ADDRESS)
    }

    fn firing_at(&self, alert: &str, address: &str) -> Result<bool> {
        let alerts = self.stack()?.alerts(address)?;
        Ok(alerts.get(alert).is_some_and(|state| state == "firing"))
    }

    /// Waits at most this long from now until the alert of one of several nodes fires.
    pub(crate) fn fires_at(&mut self, alert: &str, node: Node, within: Duration) -> Result<()> {
        let words = format!("{alert} of {} fires", node.name);
        wait(Instant::now(), within, &words, || self.firing_at(alert, node.address))?;
        self.tell(words);
        Ok(())
    }

    /// Waits at most this long from now until nothing of it is left.
    pub(crate) fn clears_at(&mut self, alert: &str, node: Node, within: Duration) -> Result<()> {
        let words = format!("{alert} of {} is over", node.name);
        wait(Instant::now(), within, &words, || {
            Ok(!self.stack()?.alerts(node.address)?.contains_key(alert))
        })?;
        self.tell(words);
        Ok(())
    }

    /// Waits until this long after the fault; the alert must fire all the time.
    pub(crate) fn stands(&mut self, alert: &str, until: Duration) -> Result<()> {
        while self.since()? < until {
            interrupt::check()?;
            ensure!(self.firing(alert)?, "{alert} does not stand");
            std::thread::sleep(LOOK_EVERY);
        }
        ensure!(self.firing(alert)?, "{alert} does not stand");
        self.tell(format!("{alert} still stands"));
        Ok(())
    }

    /// Waits at most this long from now until nothing of the alert is left.
    pub(crate) fn clears(&mut self, alert: &str, within: Duration) -> Result<()> {
        wait(Instant::now(), within, &format!("{alert} clears"), || {
            Ok(!self.stack()?.alerts(ADDRESS)?.contains_key(alert))
        })?;
        self.tell(format!("{alert} is over"));
        Ok(())
    }

    /// Runs a block of the page; all of it must succeed. What it wrote.
    pub(crate) fn step(&mut self, name: &'static str) -> Result<String> {
        self.step_ends(name, 0)
    }

    /// Runs a block of the page that must end with this status.
    pub(crate) fn step_ends(&mut self, name: &'static str, status: i32) -> Result<String> {
        self.step_as(None, name, status)
    }

    /// Runs a block of the page on another machine.
    pub(crate) fn step_on(&mut self, machine: &Service, name: &'static str) -> Result<String> {
        self.step_as(Some(machine), name, 0)
    }

    fn step_as(
        &mut self,
        elsewhere: Option<&Service>,
        name: &'static str,
        status: i32,
    ) -> Result<String> {
        let block = self.page.block(name)?;
        ensure!(
            block.runners.iter().any(|runner| runner == self.case.name),
            "the page does not say that {} runs {name:?}",
            self.case.name
        );
        let path = std::env::var("PATH").unwrap_or_default();
        let machine = elsewhere.unwrap_or(&self.service);
        let output = machine
            .command("timeout")
            .args([BLOCK_MAX, "bash", "-euo", "pipefail", "-c"])
            .arg(format!("{}\n{}", self.environment, block.script))
            .current_dir("/")
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", machine.bin().display()))
            .env("NO_COLOR", "1")
            .output()?;
        let words = [output.stdout, output.stderr].concat();
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        if output.status.code() != Some(status) {
            bail!("block {name:?} ends with {}, expected {status}: {words}", output.status);
        }
        self.ran.insert(name);
        self.tell(match status {
            0 => format!("block `{name}` done"),
            _ => format!("block `{name}` ends with {status}, as the page says"),
        });
        Ok(words)
    }

    /// Runs a block that has the node read its configuration anew, and waits until it has.
    pub(crate) fn step_reloads(&mut self, name: &'static str) -> Result<String> {
        let before = self.reloads();
        let words = self.step(name)?;
        self.reloaded(before)?;
        self.tell(RELOADED);
        Ok(words)
    }

    /// Has the node read its configuration anew.
    pub(crate) fn reload(&self) -> Result<()> {
        let before = self.reloads();
        self.service.reload()?;
        self.reloaded(before)
    }

    fn reloads(&self) -> usize {
        self.service.words().matches(RELOADED).count()
    }

    fn reloaded(&self, before: usize) -> Result<()> {
        wait(Instant::now(), RELOAD_MAX, RELOADED, || Ok(self.reloads() > before))
    }

    /// Runs the block that shows the kernel's log. Whether the line of the fault is in it is told, not
    /// asked for: the kernel bounds such lines for all devices together, and others may fail disks on
    /// this machine.
    pub(crate) fn looks_at_the_kernel(&mut self, line: &str) -> Result<()> {
        let words = self.step("kernel")?;
        self.tell(match words.contains(line) {
            true => format!("the kernel's log says {line:?} of the device"),
            false => format!("the kernel's log does not say {line:?}: too many such lines"),
        });
        Ok(())
    }

    /// Every block that the case declares has been run.
    pub(crate) fn ran_all(&self) -> Result<()> {
        let declared: BTreeSet<&str> = self.case.steps.iter().copied().collect();
        let ran: BTreeSet<&str> = self.ran.iter().copied().collect();
        ensure!(declared == ran, "it ran {ran:?}, and declares {declared:?}");
        Ok(())
    }

    pub(crate) fn holdings(&self) -> Result<Holdings> {
        self.client.holdings()
    }

    /// Everything that was answered is held against the running node.
    pub(crate) fn nothing_is_lost(&mut self) -> Result<()> {
        let found = judge::check_running(&self.ledger, &self.holdings()?);
        self.judge(found.words(), "the running node")
    }

    /// The same after the harshest end that the disks of the case allow: killed, the power cut under those
    /// that can fail, all mounted again, started.
    pub(crate) fn survives_the_end(&mut self) -> Result<()> {
        let cut = self.volumes.iter().any(|volume| volume.disk().is_some());
        let end = if cut { "after a power cut" } else { "after kill -9 and a new mount" };
        self.service.kill()?;
        for volume in self.volumes.iter().rev() {
            if let Some(disk) = volume.disk() {
                disk.cut_power();
                disk.clear();
            }
            volume.unmount()?;
        }
        for volume in &self.volumes {
            if let Some(disk) = volume.disk() {
                disk.power_on();
            }
            volume.mount()?;
        }
        self.service.start().context(end)?;
        let found = judge::check(&self.ledger, &self.holdings()?, None);
        self.judge(found.words(), &format!("the node {end}"))?;
        self.service.stop()
    }

    fn judge(&mut self, mut found: Vec<String>, of: &str) -> Result<()> {
        found.extend(self.ledger.problems());
        if !found.is_empty() {
            bail!("{of}: {}", found.join("; "));
        }
        self.tell(format!("{of} has all {} acknowledged claims", self.ledger.acks()));
        Ok(())
    }
}

impl Drop for Drill<'_> {
    fn drop(&mut self) {
        // What holds the volumes goes first, then they, the inner ones before the outer.
        if let Err(error) = self.service.kill() {
            eprintln!("warning: {error:#}");
        }
        while let Some(volume) = self.volumes.pop() {
            drop(volume);
        }
    }
}

/// Waits until `done`, at most until `longest` after `since`.
pub(crate) fn wait(
    since: Instant,
    longest: Duration,
    what: &str,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    loop {
        interrupt::check()?;
        if done()? {
            return Ok(());
        }
        ensure!(since.elapsed() < longest, "{what}: not within {} s", longest.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
}
