//! `replay`: a receipt made again.

use std::path::PathBuf;

use stemedb_server::wire;

use crate::context::Context;
use crate::failure::Failure;
use crate::files;
use crate::present::DIM;
use crate::remote::RemoteArgs;

/// Make an answer again from its receipt, and compare bit for bit.
///
/// Any node with the same log gives the same: after a restart, after its index was made anew, and on
/// another machine. Ends with 1 if it does not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb replay earth-age.json
  stemedb explain earth age --json | jq .receipt | stemedb replay -")]
pub struct Args {
    /// The receipt, as `stemedb explain --receipt` keeps it; `-`: standard input.
    file: PathBuf,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Sends it and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let receipt = files::read_text(&args.file)?;
    let remote = args.remote.connect()?;
    let answer = remote.post("/v1/replay", "application/json", receipt.as_bytes())?.ok()?;
    let replay: wire::Replay = serde_json::from_str(&answer).map_err(|error| {
        Failure::error("the server's answer is not what this version expects").because(error)
    })?;
    if context.json {
        context.print(&(answer + "\n"))?;
    } else if replay.same {
        context.print(&format!(
            "the same, bit for bit: {} assertions considered\n{DIM}receipt  {}{DIM:#}\n",
            replay.receipt.considered, replay.hash.0
        ))?;
    }
    match replay.same {
        true => Ok(()),
        false => Err(Failure::no(format!(
            "the answer is not the one of the receipt: other {}",
            replay.differences.join(", ")
        ))),
    }
}
