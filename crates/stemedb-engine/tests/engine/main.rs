//! The engine from outside: submissions in, answers and reads out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod archiving;
mod attacks;
mod common;
mod explain;
mod failing;
mod fence;
mod metrics;
mod node;
mod outcomes;
mod reading;
mod rebuilding;
mod repaired;
mod trust;
mod wal;
mod whatif;
mod writing;
