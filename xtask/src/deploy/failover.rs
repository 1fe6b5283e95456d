//! A node and its warm standby, configured as the examples have them, behind a load balancer under load
//! that never ends: the primary is killed, the standby promoted, and the old primary starts again. Who only
//! reads is to notice nothing but the moment in which the promoted node begins anew, and no write may go to
//! a node that takes none.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::balancer::{Balancer, Kind as Program, Target};
use super::load::{Kind, Load, Tally};
use super::node::{Client, Node, Place};
use super::scenario::{NOTICED, READS, SETTLED_MAX, WRITES, pause};
use crate::findings::Findings;

const EXAMPLES: &str = "deploy/examples";
/// Where the examples have the archive.
const ARCHIVE: &str = "/mnt/archive/stemedb";
/// Where they say whose archive is believed.
const TRUSTED: &str = "# trusted_keys = [\"…\"]";
/// A start, the delay of the archive, a look of the standby.
const FOLLOWS_MAX: Duration = Duration::from_secs(60);
/// The lease and the skew of the examples, and a laden machine.
const PROMOTED_MAX: Duration = Duration::from_secs(60);
/// How long nothing may go wrong afterwards.
const QUIET: Duration = Duration::from_secs(2);

pub(crate) fn run(
    program: Program,
    root: &Path,
    binary: &Path,
    folder: &Path,
    seed: u64,
    findings: &mut Findings,
) -> Result<()> {
    let name = program.name();
    let before = findings.problems;
    fs::create_dir(folder)?;
    let pair = Pair { root, folder, archive: folder.join("archive") };
    let first = pair.place(binary, "warm-standby-primary.toml", None)?;
    let one = first.start(None)?;
    let key = first.key()?;
    pair.wait("the primary archives", || Ok(pair.left_its_files() && archived(&one)? > 0))?;
    let second = pair.place(binary, "warm-standby.toml", Some(&first.public_key()?))?;
    let two = second.start(Some(&key))?;
    pair.wait("the standby knows the keys of the primary", || {
        Ok(two.client.get("/v1/admin/node")?.status == 200)
    })?;
    let standby = Target { standby: true, ..second.target() };
    let mut balancer = Balancer::start(program, root, folder, [first.target(), standby])?;
    let client = Client::new(&balancer.url(), &key);
    balancer.wait(|| {
        client.get("/v1/query?subject=a&predicate=b").is_ok_and(|answer| answer.status == 200)
    })?;

    let load = Load::new(client, seed);
    let mut world =
        World { program, key, places: [&first, &second], nodes: [one, two], balancer, load: &load };
    let acked = load.during(|_| {
        let what = format!("{name}: a standby is asked to read, and not to write");
        findings.done(&what, world.at_rest());
        let what = format!("{name}: the primary is killed, the standby promoted");
        findings.done(&what, world.promoted());
        let what = format!("{name}: the old primary is there again and takes no writes");
        findings.done(&what, world.fenced());
        Ok(())
    })?;
    let kept = world.kept(&acked);
    findings.done(&format!("{name}: {} acknowledged writes are with the pair", acked.len()), kept);
    if findings.problems > before {
        println!("     {name} said last: {}", world.balancer.words());
    }
    Ok(())
}

/// What a node has in its archive.
fn archived(node: &Node) -> Result<u64> {
    let text = node.client.get("/metrics")?.text;
    let line = text.lines().find_map(|line| line.strip_prefix("stemedb_wal_archived_position "));
    Ok(line.context("it tells of no archive")?.trim().parse()?)
}

/// Where both find what they share.
struct Pair<'a> {
    root: &'a Path,
    folder: &'a Path,
    archive: PathBuf,
}

impl Pair<'_> {
    /// A node of its own port and folder, and of this example otherwise; it believes who is named.
    fn place(&self, binary: &Path, example: &str, trusted: Option<&str>) -> Result<Place> {
        let shipped = self.root.join(EXAMPLES).join(example);
        let text = fs::read_to_string(&shipped).with_context(|| shipped.display().to_string())?;
        for there in [ARCHIVE, TRUSTED] {
            ensure!(text.contains(there), "{example} does not say {there}");
        }
        let text = text.replace(ARCHIVE, &self.archive.display().to_string());
        let text = match trusted {
            Some(key) => text.replace(TRUSTED, &format!("trusted_keys = [\"{key}\"]")),
            None => text,
        };
        let config = self.folder.join(example);
        fs::write(&config, text)?;
        let own = self.folder.join(example.trim_end_matches(".toml"));
        // Also one that takes no writes has started.
        Ok(Place::new(binary, &own, own.join("wal"))?.configured(&config, "/readyz?for=read"))
    }

    fn left_its_files(&self) -> bool {
        let logs = fs::read_dir(&self.archive).into_iter().flatten().flatten();
        logs.into_iter().any(|log| log.path().join("node").exists())
    }

    fn wait(&self, what: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !done()? {
            ensure!(began.elapsed() < FOLLOWS_MAX, "{what}: not in {} s", FOLLOWS_MAX.as_secs());
            pause(Duration::from_millis(100))?;
        }
        Ok(())
    }
}

struct World<'a> {
    program: Program,
    key: String,
    places: [&'a Place; 2],
    nodes: [Node; 2],
    balancer: Balancer,
    load: &'a Load,
}

impl World<'_> {
    /// Nothing is answered as it should not be.
    fn judge(&self, what: &str) -> Result<()> {
        let tally = self.load.take();
        println!("       {what}: {}", tally.words());
        for kind in [Kind::Get, Kind::Put, Kind::Post] {
            ensure!(tally.good(kind) > 0, "{what}: no {kind:?} was answered: {}", tally.words());
        }
        ensure!(tally.bad.is_empty(), "{what}: {}", tally.words());
        Ok(())
    }

    /// Who only reads notices nothing. Writes fail while nobody takes any.
    fn judge_reads(&self, what: &str) -> Result<()> {
        let tally = self.load.take();
        println!("       {what}: {}", tally.words());
        ensure!(tally.good(Kind::Get) > 0, "{what}: no read was answered");
        let gets = tally.bad(Kind::Get);
        ensure!(gets == 0, "{what}: {gets} reads failed: {}", tally.words());
        Ok(())
    }

    /// Writes that a node was asked for and did not take.
    fn refused(node: &Node) -> Result<u64> {
        let statuses = [500, 503];
        Ok(node.answered(WRITES, &statuses)? + node.answered("/v1/assert", &statuses)?)
    }

    fn at_rest(&self) -> Result<()> {
        // Until they have looked twice they take a standby for one that writes.
        pause(NOTICED)?;
        self.load.take();
        let [_, standby] = &self.nodes;
        let (reads, refused) = (standby.answered(READS, &[200])?, Self::refused(standby)?);
        pause(QUIET)?;
        self.judge("at rest")?;
        ensure!(standby.answered(READS, &[200])? > reads, "the standby is not asked to read");
        ensure!(Self::refused(standby)? == refused, "the standby is asked to write");
        Ok(())
    }

    fn promoted(&mut self) -> Result<()> {
        let [primary, _] = &mut self.nodes;
        let killed = Instant::now();
        primary.kill()?;
        pause(NOTICED)?;
        self.judge_reads("kill")?;
        let [_, standby] = &self.nodes;
        let answer = standby.client.post("/v1/admin/promote", "")?;
        ensure!(answer.status < 300, "a promotion is answered {}: {}", answer.status, answer.text);
        let ready = || standby.client.get("/readyz?for=write").is_ok_and(|one| one.status == 200);
        let asked = Instant::now();
        while !ready() {
            ensure!(asked.elapsed() < PROMOTED_MAX, "the standby is not promoted");
            pause(Duration::from_millis(50))?;
        }
        println!(
            "       takes writes {:.1} s after the order, {:.1} s after the kill",
            asked.elapsed().as_secs_f32(),
            killed.elapsed().as_secs_f32()
        );
        if !self.program.asks() {
            let [first, second] = self.places;
            self.balancer.mark([Target { down: true, ..first.target() }, second.target()])?;
        }
        let began = Instant::now();
        // It began anew, and for a moment nobody was there: that has to be noticed, too.
        let whole = |tally: &Tally| tally.bad.is_empty() && tally.good(Kind::Put) > 0;
        println!("       meanwhile: {}", self.load.take().words());
        while !whole(&self.load.take()) {
            ensure!(began.elapsed() < SETTLED_MAX, "requests still fail behind the promoted node");
            pause(Duration::from_millis(500))?;
        }
        println!("       nothing fails {:.1} s later", began.elapsed().as_secs_f32());
        pause(QUIET)?;
        self.judge("afterwards")
    }

    fn fenced(&mut self) -> Result<()> {
        let [first, _] = self.places;
        let [node, _] = &mut self.nodes;
        *node = first.start(Some(&self.key))?;
        for (asked, expected) in [("read", 200), ("write", 503)] {
            let status = node.client.get(&format!("/readyz?for={asked}"))?.status;
            ensure!(status == expected, "readiness for {asked} is {status}, expected {expected}");
        }
        pause(NOTICED)?;
        self.judge("start of the old primary")?;
        let [node, _] = &self.nodes;
        ensure!(Self::refused(node)? == 0, "the old primary is asked to write");
        let began = Instant::now();
        // Where it is marked by hand nobody asks it.
        while self.program.asks() && node.answered(READS, &[200])? == 0 {
            ensure!(began.elapsed() < SETTLED_MAX, "the old primary is not asked to read");
            pause(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Whatever was acknowledged is at the new primary, or on the disk of the old one for a rejoin.
    fn kept(&self, acked: &[String]) -> Result<()> {
        let [old, new] = &self.nodes;
        let (old, new) = (old.ids()?, new.ids()?);
        let lost = acked.iter().filter(|id| !old.contains(*id) && !new.contains(*id));
        let lost: Vec<_> = lost.take(3).collect();
        ensure!(lost.is_empty(), "acknowledged and gone: {lost:?}");
        let behind = acked.iter().filter(|id| !new.contains(*id)).count();
        println!("       {behind} of {} are with the old primary only", acked.len());
        Ok(())
    }
}
