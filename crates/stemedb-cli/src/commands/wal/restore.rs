//! `wal restore`.

use std::path::{Path, PathBuf};

use serde_json::json;
use stemedb_log::{RestoreOptions, RestoreReport, Undecided};
use stemedb_model::Position;
use stemedb_remote::restore_damaged;

use super::super::serve::PlaceArgs;
use super::repair::{beside, positions};
use crate::archive::{self, StoreArgs};
use crate::context::Context;
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The damaged segment, in the folder of its log; one that is missing there is made anew.
    #[arg(long, value_name = "FILE")]
    segment: PathBuf,
    /// Where the restored segment goes; nothing may be there.
    #[arg(long, value_name = "FILE", required_unless_present = "plan")]
    output: Option<PathBuf>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    plan: bool,
    /// Give up what may have been acknowledged behind the archive's end, and cannot be read here.
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) fn restore(args: &Args, context: &Context) -> Result<(), Failure> {
    let segment = &args.segment;
    let number = number(segment)?;
    let config = args.place.load(Vec::new())?.config;
    let store = args.store.open(&config)?;
    let identity = match (args.store.log, args.store.branch, beside(segment)) {
        (None, None, Some(identity)) => identity,
        _ => archive::identity(&*store, &args.store, &config)?,
    };
    let output = args.output.clone().unwrap_or_else(|| restored_name(segment));
    let options = RestoreOptions {
        segment: segment.clone(),
        output,
        plan: args.plan,
        accept_loss: args.accept_loss,
    };
    let report = restore_damaged(&*store, &context.env, identity, number, &options);
    let report = report.map_err(|error| {
        Failure::error(format!("cannot restore {}", segment.display())).because(error)
    })?;
    show(&report, &options, context)?;
    if report.refused {
        let why = report.undecided.as_ref().map(undecided).unwrap_or_default();
        return Err(Failure::no(format!("{why}: nothing was written"))
            .hint("accept the loss with --accept-loss, if nothing else has what was there"));
    }
    if let Some(written) = &report.written {
        let (segment, written) = (segment.display(), written.display());
        context.say(&format!(
            "next: with the server stopped, keep {segment} elsewhere, move {written} there, check with: \
             stemedb wal verify"
        ));
    }
    Ok(())
}

/// The number in the name of a segment.
fn number(segment: &Path) -> Result<u64, Failure> {
    let name = segment.file_name().unwrap_or_default().to_string_lossy();
    stemedb_log::segment_number(&name).ok_or_else(|| {
        Failure::error(format!("{name} is not the name of a segment"))
            .hint("call it segment.NNN.wal, by its number, in the folder of its log")
    })
}

/// Of a plan: named, never made.
fn restored_name(segment: &Path) -> PathBuf {
    let mut name = segment.as_os_str().to_owned();
    name.push(".restored");
    name.into()
}

fn undecided(undecided: &Undecided) -> String {
    let Undecided { first, byte, problem } = undecided;
    format!(
        "records from position {first} on may have been acknowledged, nothing tells (byte {byte}: \
         {problem})"
    )
}

fn show(
    report: &RestoreReport,
    options: &RestoreOptions,
    context: &Context,
) -> Result<(), Failure> {
    let range = |(first, last): (Position, Position)| json!({ "first": first.0, "last": last.0 });
    if context.json {
        return context.print_json(&json!({
            "segment": report.file,
            "number": report.number,
            "archived": range(report.archived),
            "newer": report.newer.map(range),
            "undecided": report.undecided.as_ref().map(|one| json!({
                "first": one.first.0,
                "byte": one.byte,
                "problem": one.problem,
            })),
            "refused": report.refused,
            "output": report.written.as_ref().map(|written| written.display().to_string()),
        }));
    }
    let (first, last) = report.archived;
    let mut text = format!("segment {} ({})\n", report.number, report.file);
    text.push_str(&format!("  archive   {}\n", positions(first, last)));
    if let Some((first, last)) = report.newer {
        text.push_str(&format!("  file      {}, newer than the archive\n", positions(first, last)));
    }
    if let Some(one) = &report.undecided {
        text.push_str(&format!("  undecided {}\n", undecided(one)));
    }
    match &report.written {
        Some(written) => text.push_str(&format!("written to {}\n", written.display())),
        None if options.plan && report.undecided.is_some() => {
            text.push_str("plan only: nothing was written; it needs --accept-loss\n");
        }
        None if options.plan => text.push_str("plan only: nothing was written\n"),
        None => {}
    }
    context.print(&text)
}
