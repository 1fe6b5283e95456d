//! `demo`: see it work.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::context::Context;
use crate::demo;
use crate::failure::Failure;

/// Load real claims that disagree into a server of its own, and show what comes of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb demo
  stemedb demo --once")]
pub struct Args {
    /// Show it and end, instead of serving on.
    #[arg(long)]
    pub once: bool,
    /// Keep the data in this folder instead of one that vanishes.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address and port to listen on. Default: the usual port, or any if it is taken.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

/// Shows it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    demo::run(&args, context)
}
