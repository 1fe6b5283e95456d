//! The command line of StemeDB: parses, asks, prints.
//!
//! Concrete types are chosen here and nowhere else: the real clock, disk and log meet the engine
//! and the server in `serve`. One command is one module under `commands`.

pub mod archive;
pub mod args;
pub mod claim_line;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod context;
pub mod database;
pub mod demo;
pub mod encryption;
pub mod eval;
pub mod failure;
pub mod files;
pub mod import;
pub mod keys;
pub mod notify;
pub mod object;
pub mod operations;
pub mod plot;
pub mod present;
pub mod question;
pub mod record;
pub mod remote;
pub mod restoring;
pub mod serve;
mod socket;
pub mod standby;
pub mod table;
pub mod telemetry;
pub mod time;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use stemedb_io::Env;

use crate::args::Cli;
use crate::context::Context;

/// Of all binaries. Its background threads give memory back that load no longer needs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc is told, for less memory: an arena for each processor and not four, nothing above 4 KiB
/// in the caches that each thread has, and free pages go back within a second and not ten.
/// `_RJEM_MALLOC_CONF` in the environment goes before it.
// SAFETY: jemalloc looks for a C string under this name; a reference to an array is a pointer to its
// first byte, and the last one is 0.
#[allow(unsafe_code, reason = "it is set up at the first allocation, before any code of ours")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 52] = b"narenas_ratio:1,tcache_max:4096,dirty_decay_ms:1000\0";

/// Runs the command line; gives the exit status.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data: they go to stdout, and a closed pipe is fine.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let context = Context { json: cli.json, env: Env::real() };
    match cli.command.run(&context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = write!(anstream::stderr(), "{}", failure.report());
            failure.exit_code()
        }
    }
}

/// The same with the words of a command put in front: another name for it.
pub fn main_as(command: &str, mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let name = args.next();
    let words = command.split(' ').map(OsString::from);
    main(name.into_iter().chain(words).chain(args))
}
