//! Runs the real write-ahead log on a disk that breaks in every way, from a seed, on one thread, and
//! judges every step against what the log has promised. The same seed gives the same run, byte for
//! byte. Why it is built this way: `docs/decisions/2026-11-28-simulation.md`.
//!
//! | module | what |
//! |---|---|
//! | `dice` | chance, from the seed |
//! | `profile` | what a run is like: the file system, its faults, the settings of the log |
//! | `model` | what was promised, and whether an answer keeps it |
//! | `world` | one run: what users, operators, time and the medium do, step by step |
//! | `operator` | starts the log, mends, repairs and voids where it rightly refuses |
//! | `tally` | what was seen, for the table |
//! | `shrink` | fewer steps that fail the same way |

mod dice;
mod model;
mod operator;
mod profile;
mod shrink;
mod tally;
mod world;

pub use model::{Broken, Promise};
pub use shrink::shrink;
pub use tally::Tally;
pub use world::{Outcome, Plan, run};
