//! `completions`: what a shell needs to complete our commands.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::context::Context;
use crate::failure::Failure;

/// Print the completion script of a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb completions bash > /etc/bash_completion.d/stemedb
  stemedb completions fish > ~/.config/fish/completions/stemedb.fish")]
pub struct Args {
    /// Which shell.
    pub shell: Shell,
}

/// Prints it.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "stemedb", &mut script);
    context.print(&String::from_utf8_lossy(&script))
}
