//! Chance, from the seed.

use stemedb_io::Rng;
use stemedb_io::sim::SimRng;

/// A stream of draws. Streams of different names are independent of each other, so that leaving a
/// step out changes no other step's draws.
pub(crate) struct Dice(SimRng);

impl Dice {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        // The generator mixes well, but streams that are close must not overlap.
        let mixed = SimRng::new(seed.rotate_left(32) ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self(SimRng::new(mixed.next_u64()))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }
}
