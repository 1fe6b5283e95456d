//! Two nodes behind a load balancer, under load that never ends: one takes no writes, one is drained,
//! one is killed. Nodes do not replicate, so each claim is at one of them; nobody who only reads, or
//! who sends what may be sent again, is to notice anything.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::balancer::{Balancer, Kind as Program, Target};
use super::load::{Kind, Load, POSTS, PUTS, Tally};
use super::node::{Client, Node, Place};
use crate::findings::Findings;
use crate::matrix::interrupt;

/// Two looks of the load balancer, a second apart, and a laden machine.
pub(crate) const NOTICED: Duration = Duration::from_secs(4);
pub(crate) const SETTLED_MAX: Duration = Duration::from_secs(20);
/// Longer than a claim of one that was asked just before takes.
const QUIET: Duration = Duration::from_millis(800);
pub(crate) const READS: &str = "/v1/query";
pub(crate) const WRITES: &str = "/v1/records/{id}";

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
    // A log can be detached where nothing else of the node lies on its file system.
    let memory = Path::new("/dev/shm");
    let wal = if memory.is_dir() { Some(tempfile::tempdir_in(memory)?) } else { None };
    let wal_of = |number: u8| match &wal {
        Some(folder) => folder.path().join(format!("wal{number}")),
        None => folder.join(format!("wal{number}")),
    };
    let place =
        |number: u8, wal: PathBuf| Place::new(binary, &folder.join(format!("node{number}")), wal);
    let places = [place(1, wal_of(1))?, place(2, wal_of(2))?];
    let [first, second] = &places;
    let one = first.start(None)?;
    let key = first.key()?;
    second.take_keys(first)?;
    let two = second.start(Some(&key))?;
    let mut balancer =
        Balancer::start(program, root, folder, places.each_ref().map(Place::target))?;
    let client = Client::new(&balancer.url(), &key);
    balancer.wait(|| {
        client.get("/v1/query?subject=a&predicate=b").is_ok_and(|answer| answer.status == 200)
    })?;
    findings.done(&format!("{name}: what is about one node is not passed on"), closed(&client));

    let load = Load::new(client, seed);
    let mut world =
        World { program, key, places: &places, nodes: [one, two], balancer, load: &load };
    let acked = load.during(|_| {
        findings.done(&format!("{name}: both nodes are asked"), world.both());
        if wal.is_some() {
            let what = format!("{name}: a node that takes no writes keeps its reads");
            findings.done(&what, world.read_only());
        } else {
            findings.skip(&format!("{name}: a node that takes no writes"), "there is no /dev/shm");
        }
        findings.done(&format!("{name}: a node is drained, stopped, started"), world.drained());
        findings.done(&format!("{name}: a node is killed, started"), world.killed());
        Ok(())
    })?;
    let kept = world.kept(&acked);
    findings.done(&format!("{name}: {} acknowledged writes are there", acked.len()), kept);
    if findings.problems > before {
        println!("     {name} said last: {}", world.balancer.words());
    }
    Ok(())
}

/// Paths that are not passed on, and one that is.
fn closed(client: &Client) -> Result<()> {
    for path in
        ["/v1/admin/node", "/v1/health", "/metrics", "/readyz", "/livez", "/v1/audit/queries"]
    {
        let answer = client.get(path)?;
        ensure!(answer.status == 403, "{path} is answered {}", answer.status);
    }
    let asked = client.post("/v1/resolve", r#"{"keys":[{"subject":"a","predicate":"b"}]}"#)?;
    ensure!(asked.status == 200, "/v1/resolve is answered {}: {}", asked.status, asked.text);
    let lines = client.get("/v1/export")?;
    ensure!(lines.status == 200, "/v1/export is answered {}: {}", lines.status, lines.text);
    Ok(())
}

/// Waits, unless somebody asks to end.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < time {
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

struct World<'a> {
    program: Program,
    key: String,
    places: &'a [Place; 2],
    nodes: [Node; 2],
    balancer: Balancer,
    load: &'a Load,
}

/// What a phase may cost.
#[derive(Default)]
struct Budget {
    /// PUTs and POSTs that were refused, and say so.
    refused: usize,
    /// Of these, PUTs.
    puts: usize,
    /// POSTs whose connection broke.
    broken: usize,
}

impl World<'_> {
    /// No GET may have failed, no PUT but within the budget, and of POSTs only so many.
    fn judge(&self, what: &str, budget: &Budget) -> Result<()> {
        let tally = self.load.take();
        println!("       {what}: {}", tally.words());
        let Tally { bad, refused, .. } = &tally;
        for kind in [Kind::Get, Kind::Put, Kind::Post] {
            ensure!(tally.good(kind) > 0, "{what}: no {kind:?} was answered: {}", tally.words());
        }
        let (gets, puts) = (tally.bad(Kind::Get), tally.bad(Kind::Put));
        ensure!(gets == 0, "{what}: {gets} reads failed");
        ensure!(puts <= budget.puts, "{what}: {puts} PUTs failed, expected {}", budget.puts);
        ensure!(
            *refused <= budget.refused,
            "{what}: {refused} were refused, expected {}",
            budget.refused
        );
        let broken = bad.len() - refused;
        ensure!(broken <= budget.broken, "{what}: {broken} failed, expected {}", budget.broken);
        Ok(())
    }

    fn pause(&self, time: Duration) -> Result<()> {
        pause(time)
    }

    fn reads(&self, node: usize) -> Result<u64> {
        self.node(node)?.answered(READS, &[200])
    }

    fn writes(&self, node: usize) -> Result<u64> {
        self.node(node)?.answered(WRITES, &[200, 201])
    }

    fn node(&self, node: usize) -> Result<&Node> {
        self.nodes.get(node).ok_or_else(|| anyhow::anyhow!("there are two nodes"))
    }

    /// Waits until a node is asked for both.
    fn asked(&self, node: usize) -> Result<()> {
        let (reads, writes) = (self.reads(node)?, self.writes(node)?);
        let began = Instant::now();
        while self.reads(node)? == reads || self.writes(node)? == writes {
            let waited = began.elapsed();
            ensure!(waited < SETTLED_MAX, "node {} is not asked again", node + 1);
            self.pause(Duration::from_millis(200))?;
        }
        println!("       asked again after {:.1} s", began.elapsed().as_secs_f32());
        Ok(())
    }

    /// Nothing happens to anybody.
    fn both(&self) -> Result<()> {
        self.asked(0)?;
        self.asked(1)?;
        self.judge("at rest", &Budget::default())
    }

    /// The log of the first node is taken away.
    fn read_only(&mut self) -> Result<()> {
        let node = self.node(0)?;
        node.client.order("/v1/admin/wal/detach")?;
        for (asked, expected) in [("read", 200), ("write", 503)] {
            let status = node.client.get(&format!("/readyz?for={asked}"))?.status;
            ensure!(status == expected, "readiness for {asked} is {status}, expected {expected}");
        }
        self.pause(NOTICED)?;
        // Until it is noticed any may be refused; that it is noticed at all, `afterwards` judges.
        let refused = usize::MAX;
        // HAProxy may choose the same node for every try, until one has failed for good.
        let puts = if self.program == Program::Haproxy { PUTS } else { 0 };
        self.judge("until it is noticed", &Budget { refused, puts, broken: 0 })?;
        let (reads, tried) = (self.reads(0)?, self.tried()?);
        self.pause(Duration::from_secs(2))?;
        ensure!(self.reads(0)? > reads, "a node that only cannot write is not asked for reads");
        if self.program.asks() {
            ensure!(self.tried()? == tried, "a node that cannot write is still written to");
        }
        // nginx goes on sending POSTs there, to be refused: it learns nothing from them.
        let refused = if self.program.asks() { 0 } else { usize::MAX };
        self.judge("afterwards", &Budget { refused, ..Budget::default() })?;
        // A log in memory cannot be proved, so it is not attached again: the node is started anew.
        self.restart(0)?;
        self.judge("start", &Budget { refused: usize::MAX, puts: 0, broken: POSTS })
    }

    /// Stops a node in good order, starts it, waits until it is asked.
    fn restart(&mut self, number: usize) -> Result<()> {
        let (Some(node), Some(place)) = (self.nodes.get_mut(number), self.places.get(number))
        else {
            bail!("there are two nodes");
        };
        let status = node.stop()?;
        ensure!(status.code() == Some(0), "the server ended with {status}");
        *node = place.start(Some(&self.key))?;
        self.asked(number)
    }

    /// Writes that the first node refused.
    fn tried(&self) -> Result<u64> {
        let node = self.node(0)?;
        Ok(node.answered(WRITES, &[500, 503])? + node.answered("/v1/assert", &[500, 503])?)
    }

    fn drained(&mut self) -> Result<()> {
        let [first, second] = self.places;
        let target = |place: &Place, down| Target { down, ..place.target() };
        if !self.program.asks() {
            self.balancer.mark([target(first, true), target(second, false)])?;
            self.quiet()?;
        }
        self.node(0)?.client.order("/v1/admin/node/drain")?;
        self.pause(NOTICED)?;
        // Until it is noticed, which `quiet` and `stop` judge; whom nginx was told of is asked nothing.
        let refused = if self.program.asks() { usize::MAX } else { 0 };
        let puts = if self.program == Program::Haproxy { PUTS } else { 0 };
        self.judge("drain", &Budget { refused, puts, broken: 0 })?;
        self.quiet()?;
        let [node, _] = &mut self.nodes;
        let status = node.stop()?;
        ensure!(status.code() == Some(0), "the drained server ended with {status}");
        self.pause(Duration::from_secs(1))?;
        self.judge("stop", &Budget::default())?;
        let [node, _] = &mut self.nodes;
        *node = first.start(Some(&self.key))?;
        if !self.program.asks() {
            self.balancer.mark([target(first, false), target(second, false)])?;
        }
        self.asked(0)?;
        self.judge("start", &Budget::default())
    }

    /// Waits until the first node is asked nothing any more.
    fn quiet(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let before = self.reads(0)? + self.writes(0)? + self.tried()?;
            self.pause(QUIET)?;
            if self.reads(0)? + self.writes(0)? + self.tried()? == before {
                return Ok(());
            }
            if began.elapsed() > SETTLED_MAX {
                bail!("the node that goes is still asked");
            }
        }
    }

    fn killed(&mut self) -> Result<()> {
        let [_, place] = self.places;
        let [_, node] = &mut self.nodes;
        node.kill()?;
        self.pause(NOTICED)?;
        // A POST of each writer may have been under way. HAProxy does not send every PUT again whose
        // connection was reset.
        let puts = if self.program == Program::Haproxy { PUTS } else { 0 };
        self.judge("kill", &Budget { refused: 0, puts, broken: POSTS + puts })?;
        let [_, node] = &mut self.nodes;
        *node = place.start(Some(&self.key))?;
        self.asked(1)?;
        self.judge("start", &Budget::default())
    }

    /// Whatever was acknowledged is at one of the nodes.
    fn kept(&self, acked: &[String]) -> Result<()> {
        let [one, two] = &self.nodes;
        let (one, two) = (one.ids()?, two.ids()?);
        let lost = acked.iter().filter(|id| !one.contains(*id) && !two.contains(*id));
        let lost: Vec<_> = lost.take(3).collect();
        ensure!(lost.is_empty(), "acknowledged and gone: {lost:?}");
        ensure!(!acked.is_empty(), "nothing was acknowledged");
        Ok(())
    }
}
