//! Chance for made-up worlds.

use stemedb_io::Rng;
use stemedb_io::sim::SimRng;

/// Numbers that depend on a seed and a purpose alone: what one part of a world draws does not move
/// what another part draws.
pub(super) struct Dice(SimRng);

impl Dice {
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("stemedb 2026 made-up worlds");
        hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
        let mut start = [0; 8];
        hasher.finalize_xof().fill(&mut start);
        Self(SimRng::new(u64::from_le_bytes(start)))
    }

    /// In `0..1`.
    pub(super) fn share(&self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn chance(&self, probability: f64) -> bool {
        self.share() < probability
    }

    /// In `0..bound`; 0 if `bound` is 0.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }
}
