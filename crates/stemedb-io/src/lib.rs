//! The doors to the outside: files, time and chance; the real ones and the simulated ones.
//!
//! Everything that is not a function of its input comes in through [`Env`]. With the simulated
//! doors of [`sim`] the same seed gives the same run, byte for byte.

#![expect(
    clippy::disallowed_methods,
    reason = "this crate is the door that the bans of clippy.toml point to"
)]

mod clock;
mod mounts;
mod mutant;
mod owner;
mod priority;
mod real;
mod replace;
mod rng;
pub mod sim;
mod vfs;

use std::sync::Arc;

pub use clock::{Clock, ClockDiscipline, RealClock, clock_discipline};
pub use mutant::{MUTANT_VAR, MUTANTS, mutant};
pub use owner::make_private_folder;
pub use priority::come_behind;
pub use real::RealVfs;
pub use replace::replace;
pub use rng::{RealRng, Rng};
pub use vfs::{
    DIRECT_ALIGN, DirEntry, FileSystem, FolderLock, Metadata, Open, Space, Vfs, VfsFile,
};

/// All that is not a function of the input. Built once, in the binary or in a test.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<dyn Rng>,
    /// Files.
    pub vfs: Arc<dyn Vfs>,
}

impl Env {
    /// The real world.
    pub fn real() -> Self {
        // Before anything is done: a name that is not known ends the process.
        #[cfg(feature = "mutants")]
        mutant::chosen();
        Self { clock: Arc::new(RealClock::new()), rng: Arc::new(RealRng), vfs: Arc::new(RealVfs) }
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}
