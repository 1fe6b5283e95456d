//! The command tree.

use clap::{Parser, Subcommand};

use crate::commands::*;
use crate::context::Context;
use crate::failure::Failure;

/// A database for claims that disagree.
///
/// Agents assert signed claims, nothing is overwritten, and each reader chooses by a lens how the
/// contradictions are resolved. Data goes to standard output, talk to standard error. Exit status:
/// 0 done, 1 the answer is no, 2 it could not be done.
#[derive(Debug, Parser)]
#[command(name = "stemedb", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// Print data as JSON, one object a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  stemedb demo --once
  stemedb serve --data-dir ./stemedb-data
  stemedb assert semaglutide gastroparesis_risk rare
  stemedb query semaglutide gastroparesis_risk --lens consensus";

macro_rules! commands {
    ($($(#[$meta:meta])* $name:ident($module:ident),)*) => {
        /// One of the commands.
        #[derive(Debug, Subcommand)]
        #[expect(missing_docs, reason = "each is told by its own arguments")]
        pub enum Command {
            $($(#[$meta])* $name($module::Args),)*
        }

        impl Command {
            /// Does it.
            pub fn run(self, context: &Context) -> Result<(), Failure> {
                match self {
                    $(Self::$name(args) => $module::run(args, context),)*
                }
            }
        }
    };
}

commands! {
    Serve(serve),
    Demo(demo),
    Bench(bench),
    Assert(assert),
    Vote(vote),
    Cosign(cosign),
    Epoch(epoch),
    Source(source),
    Retract(retract),
    Supersede(supersede),
    Lifecycle(lifecycle),
    Predicate(predicate),
    Alias(alias),
    Agent(agent),
    Lens(lens),
    Gold(gold),
    TrustSnapshot(trust_snapshot),
    Query(query),
    Skeptic(skeptic),
    Layered(layered),
    Resolve(resolve),
    Explain(explain),
    Replay(replay),
    Conflicts(conflicts),
    Record(record),
    Trace(trace),
    Trust(trust),
    #[command(name = "whatif")]
    WhatIf(whatif),
    Import(import),
    Export(export),
    Feed(feed),
    Eval(eval),
    Key(key),
    Admin(admin),
    Audit(audit),
    Wal(wal),
    Archive(archive),
    Backup(backup),
    Drill(drill),
    Rejoin(rejoin),
    Doctor(doctor),
    Config(config),
    Completions(completions),
}
