//! Made-up worlds in which the truth is known, put through a server of its own: signed records over
//! HTTP, learned trust, every lens, as with real data.
//!
//! All worlds share one server; each has a namespace, so nothing is learned across them.

mod dice;
mod records;
#[cfg(test)]
mod tests;
mod world;

use serde::Serialize;
use stemedb_model::{Body, Position, Space, TrustSnapshot};
use stemedb_server::wire;

use crate::config::Config;
use crate::context::Context;
use crate::database::{self, First};
use crate::failure::Failure;
use crate::import::send_signed;
use crate::record;
use crate::remote::Remote;
use crate::serve::{self, Running};

use super::{Asking, GoldLine, Score, Tally, Tolerances, scores};
use records::Scribe;
use world::World;

pub use world::{Kind, Spec};

/// What was answered at one moment of a world.
#[derive(Debug, Clone, Serialize)]
pub struct Moment {
    /// The world.
    pub world: &'static str,
    /// Of which seed it is.
    pub seed: u64,
    /// Copies, or sybils for each attacked question; 1 once things were taken back.
    pub amount: u32,
    /// Claims so far.
    pub claims: u64,
    /// Agents that the table knows.
    pub agents: u64,
    /// Time to learn.
    pub learned_ms: u64,
    /// One a lens.
    pub scores: Vec<Score>,
    /// What the scores are made of.
    #[serde(skip)]
    pub tallies: Vec<Tally>,
}

/// Lets the worlds happen; `seen` hears each moment.
pub fn run(
    kinds: &[Kind],
    specs: &[Spec],
    lenses: &[String],
    context: &Context,
    mut seen: impl FnMut(Moment) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let scratch = tempfile::tempdir()
        .map_err(|error| Failure::error("cannot make a folder").because(error))?;
    let mut config = Config::default();
    config.server.data_dir = scratch.path().to_owned();
    config.server.listen.set_port(0);
    config.log.filter = "error".into();
    config.auth.enabled = false;
    serve::start_logging(&config.log, None)?;
    let running = serve::start(&config, &First::default(), &context.env)?;
    let outcome = database::wait_ready(&running.engine, context).and_then(|()| {
        for kind in kinds {
            for spec in specs {
                happen(&running, World::new(*kind, spec), spec.seed, lenses, context, &mut seen)?;
            }
        }
        Ok(())
    });
    running.stop()?;
    outcome
}

fn happen(
    running: &Running,
    world: World,
    seed: u64,
    lenses: &[String],
    context: &Context,
    seen: &mut impl FnMut(Moment) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(root) = &running.root else {
        return Err(Failure::error("the evaluation needs the root key of its database"));
    };
    let remote = Remote::new(&running.url(), None)?;
    let name = format!("{}-{seed}", world.kind.name());
    let space = Space::parse(&name).map_err(|error| Failure::error(error.to_string()))?;
    let mut scribe = Scribe::new(root, record::log_id(&remote)?, space.clone());
    let gold: Vec<GoldLine> = world
        .truth
        .iter()
        .map(|(about, value)| GoldLine {
            subject: about.subject(),
            predicate: about.predicate().to_owned(),
            object: serde_json::to_value(wire::Object::from(&about.value(*value)))
                .unwrap_or_default(),
        })
        .collect();
    for (number, wave) in world.waves.iter().enumerate() {
        context.say(&format!("{name}: {} of {}", number + 1, world.waves.len()));
        send_signed(&remote, &scribe.seal(&wave.acts)?)?;
        let learned = learn(&remote, &space, &mut scribe)?;
        let asking = Asking { remote: &remote, space: space.as_str(), lenses };
        let (tallies, asked) = asking.all(&gold, &Tolerances::default(), context)?;
        seen(Moment {
            world: world.kind.name(),
            seed,
            amount: wave.amount,
            claims: world.claims(number),
            agents: learned.agents,
            learned_ms: learned.took_ms,
            scores: scores(lenses, &tallies, asked),
            tallies,
        })?;
    }
    Ok(())
}

/// Learns whom to trust from all there is, and puts it in force.
fn learn(
    remote: &Remote,
    space: &Space,
    scribe: &mut Scribe<'_>,
) -> Result<wire::LearnedTrust, Failure> {
    let path = format!("/v1/trust/learn?space={space}");
    let learned: wire::LearnedTrust = remote.post(&path, "application/json", b"")?.read()?;
    let snapshot = TrustSnapshot {
        input_position: Position(learned.input_position),
        config: learned.config.0,
        table: learned.table.0,
    };
    send_signed(remote, &[scribe.by_root(Body::TrustSnapshot(snapshot))?])?;
    Ok(learned)
}
