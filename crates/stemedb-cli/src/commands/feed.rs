//! `feed`: records as they come, as lines that `import` takes.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use crate::context::Context;
use crate::failure::Failure;
use crate::remote::{Remote, RemoteArgs};

/// Rest before a stream that broke off is taken up again.
const PAUSE: Duration = Duration::from_secs(1);
/// Records asked for at once.
const PAGE: u32 = 1_000;

/// Print new records as JSON, one a line, in the order of the log.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb feed --after 1200
  stemedb feed --follow --kind assertion,retract
  stemedb feed --follow --subject-prefix drugs/ >> drugs.jsonl")]
pub struct Args {
    /// Go on behind this record: a position, or an answer's snapshot.
    #[arg(long, value_name = "WHERE", default_value = "0")]
    after: String,
    /// Wait for more, until interrupted; a connection that breaks is taken up again.
    #[arg(long)]
    follow: bool,
    /// Only records of these kinds, separated by commas.
    #[arg(long, value_name = "KINDS")]
    kind: Option<String>,
    /// Only records of this agent.
    #[arg(long, value_name = "KEY")]
    agent: Option<String>,
    /// Only assertions about this entity.
    #[arg(long)]
    subject: Option<String>,
    /// Only assertions about entities whose name begins so.
    #[arg(long, value_name = "PREFIX")]
    subject_prefix: Option<String>,
    /// Only assertions of this property.
    #[arg(long)]
    predicate: Option<String>,
    /// The namespace.
    #[arg(long)]
    space: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Memory does not grow with the number of records.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let remote = args.remote.connect()?;
    let filters: Vec<(&str, String)> = [
        ("kind", args.kind),
        ("agent", args.agent),
        ("subject", args.subject),
        ("subject_prefix", args.subject_prefix),
        ("predicate", args.predicate),
        ("space", args.space),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    if args.follow {
        follow(&remote, &filters, args.after, context)
    } else {
        pages(&remote, &filters, args.after)
    }
}

fn pages(remote: &Remote, filters: &[(&str, String)], mut after: String) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    loop {
        let mut parameters = filters.to_vec();
        parameters.extend([("after", after), ("limit", PAGE.to_string())]);
        let page = remote.get("/v1/feed", &parameters)?;
        let header = |name| page.headers.get(name).and_then(|value| value.to_str().ok());
        let more = header("stemedb-more") == Some("true");
        after = header("stemedb-snapshot").unwrap_or_default().to_owned();
        out.write_all(page.ok()?.as_bytes())?;
        if !more {
            return Ok(out.flush()?);
        }
    }
}

fn follow(
    remote: &Remote,
    filters: &[(&str, String)],
    mut after: String,
    context: &Context,
) -> Result<(), Failure> {
    loop {
        let events = remote.events("/v1/feed", filters, &after)?;
        let broke = tell(BufReader::new(events), &mut after)?;
        context.say(&format!("the feed broke off ({broke}); it goes on behind {after}"));
        let ready = || {
            let answer = remote.get("/readyz", &[("for", "read".to_owned())]);
            answer.is_ok_and(|answer| answer.status.is_success())
        };
        // A server that was there once is waited for.
        context.env.clock.sleep(PAUSE);
        while !ready() {
            context.env.clock.sleep(PAUSE);
        }
    }
}

/// Prints records until the stream ends, and says why it did. `after` is that of the last event that
/// came whole.
fn tell(events: impl BufRead, after: &mut String) -> Result<String, Failure> {
    let mut out = std::io::stdout().lock();
    let (mut id, mut record) = (None, None);
    for line in events.lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) => return Ok(error.to_string()),
        };
        if let Some(found) = line.strip_prefix("id: ") {
            id = Some(found.to_owned());
        } else if let Some(data) = line.strip_prefix("data: ") {
            record = Some(data.to_owned());
        } else if line.is_empty() {
            if let Some(record) = record.take() {
                writeln!(out, "{record}")?;
                out.flush()?;
            }
            if let Some(id) = id.take() {
                *after = id;
            }
        }
    }
    Ok("the node ended it".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_event_that_came_whole_moves_on() {
        for (events, after) in [
            ("", "0"),
            ("retry: 1000\n\n: still here\n\n", "0"),
            ("id: 1\nevent: record\ndata: {}\n", "0"),
            ("id: 1\nevent: record\ndata: {}\n\nid: 2\nevent: rec", "1"),
            ("id: 1\nevent: record\ndata: {}\n\nid: 7\n\n", "7"),
        ] {
            let mut found = "0".to_owned();
            tell(events.as_bytes(), &mut found).unwrap();
            assert_eq!(found, after, "{events:?}");
        }
    }
}
