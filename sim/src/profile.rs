//! What a run is like.

use stemedb_io::sim::{Mishap, Personality, Rates};
use stemedb_log::{OnFailure, WalConfig};

use crate::dice::Dice;

/// The folder of the log.
pub(crate) const DIR: &str = "/data/wal";
const BLOCK: u64 = 4096;

/// Drawn once for a run.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) personality: Personality,
    /// The medium may lose or change bytes that it has confirmed.
    pub(crate) lies: bool,
    /// The log knows that evicting works here.
    pub(crate) rereads: bool,
    /// Evicting works.
    pub(crate) evicts: bool,
    /// A crash may keep any subset of the unsynced names.
    pub(crate) any_names: bool,
    pub(crate) on_failure: OnFailure,
    pub(crate) segment_bytes: u64,
    /// Background work is done when a step says so, and not at once.
    pub(crate) on_demand: bool,
    pub(crate) rates: Rates,
}

impl Profile {
    pub(crate) fn draw(seed: u64) -> Self {
        let dice = Dice::new(seed, u64::MAX);
        let personality = dice.pick(&Personality::ALL).copied().unwrap_or_default();
        let lies = dice.one_in(3);
        let rereads = !dice.one_in(6);
        let mut rates = Rates::none();
        // Some runs have no mishaps but those that a step orders.
        let quiet = dice.one_in(4);
        for mishap in Mishap::ALL {
            let ppm = dice.pick(&[300, 2_000, 10_000, 40_000]).copied().unwrap_or(0);
            let chosen = dice.one_in(3) && !quiet && (lies || !mishap.lies());
            // A log reads a lot more often than it does anything else.
            let ppm = if mishap == Mishap::ReadEio { ppm / 30 } else { ppm };
            if chosen {
                rates.set(mishap, ppm);
            }
        }
        Self {
            personality,
            lies,
            rereads,
            evicts: rereads || dice.one_in(2),
            any_names: dice.one_in(2),
            on_failure: if dice.one_in(5) { OnFailure::Stop } else { OnFailure::Heal },
            segment_bytes: (7 + dice.below(14)) * BLOCK,
            on_demand: !dice.one_in(3),
            rates,
        }
    }

    pub(crate) fn config(&self) -> WalConfig {
        WalConfig {
            segment_bytes: self.segment_bytes,
            on_failure: self.on_failure,
            prepare_in_background: false,
            background_on_demand: self.on_demand,
            ..WalConfig::new(DIR)
        }
    }
}
