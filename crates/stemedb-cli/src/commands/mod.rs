//! One command, one module: its arguments, its help, and what it does.

pub mod completions;
pub mod config;
pub mod key;
