//! `explain`: an answer with everything it rests on.

use std::fmt::Write as _;
use std::path::PathBuf;

use stemedb_lens::{self as lens, Reason, merkle};
use stemedb_model::{Hash, Position, Tier};
use stemedb_server::wire;

use crate::context::Context;
use crate::failure::Failure;
use crate::files;
use crate::present::{self, BOLD, DIM, WIDTH};
use crate::question::{LensArgs, ReadArgs};
use crate::table::{Align, Cell, Table, cut};

/// How wide a value is shown.
const VALUE_WIDTH: usize = 34;

/// Say what an answer rests on: every assertion that was considered, counted or not, and why.
///
/// The receipt can be kept: `stemedb replay` makes the same answer again from the log, on any node that
/// has it, and compares bit for bit. All pages are read and checked against the receipt's root.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stemedb explain drugs/semaglutide gastroparesis_risk
  stemedb explain earth age --lens consensus --receipt earth-age.json
  stemedb explain earth age --as-of 2024-07-01")]
pub struct Args {
    /// The entity.
    subject: String,
    /// The property.
    predicate: String,
    /// The lens: built in (recency, consensus, confidence, authority, trust, votes, skeptic,
    /// layered), or NAME or NAME@VERSION of one's own: see `stemedb lens list`.
    #[arg(long, default_value = "authority", value_name = "LENS")]
    lens: String,
    /// Keep the receipt in this file.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Show so many of the assertions; all are checked.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    options: LensArgs,
    #[command(flatten)]
    read: ReadArgs,
}

/// Asks for all pages, checks them and prints.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if args.options.partial {
        return Err(Failure::error("a receipt is of all claims: there is no --partial of it"));
    }
    let mut parameters = args.read.parameters();
    parameters.extend(args.options.parameters());
    parameters.extend([
        ("subject", args.subject),
        ("predicate", args.predicate),
        ("lens", args.lens),
    ]);
    let remote = args.read.remote.connect()?;
    let mut first: Option<wire::Explanation> = None;
    let mut considered = Vec::new();
    let mut cursor = None;
    loop {
        let mut parameters = parameters.clone();
        parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: wire::Explanation = remote.get("/v1/explain", &parameters)?.read()?;
        check(&page, first.as_ref())?;
        considered.extend(page.considered.iter().cloned());
        cursor = page.cursor.clone();
        first.get_or_insert(page);
        if cursor.is_none() {
            break;
        }
    }
    let Some(first) = first else { return Err(Failure::error("the server gave no page")) };
    if considered.len() as u64 != first.receipt.considered {
        return Err(Failure::error(format!(
            "the server showed {} of the {} assertions that its receipt counts",
            considered.len(),
            first.receipt.considered
        )));
    }
    if let Some(path) = &args.receipt {
        let text = serde_json::to_string_pretty(&first.receipt)
            .map_err(|error| Failure::error("the receipt cannot be written").because(error))?;
        files::replace(path, &(text + "\n"))?;
    }
    if context.json {
        let all = wire::Explanation { considered, cursor: None, path: Vec::new(), ..first };
        return context.print_json(&all);
    }
    context.print(&shown(&first, &considered, args.limit))?;
    if let Some(path) = &args.receipt {
        context.say(&format!("kept in {}: stemedb replay {0}", path.display()));
    }
    Ok(())
}

/// A page that does not lead to the receipt's root is refused, and so is another receipt.
fn check(page: &wire::Explanation, first: Option<&wire::Explanation>) -> Result<(), Failure> {
    let wrong = |what: &str| Failure::error(format!("page {} {what}", page.page));
    if first.is_some_and(|first| first.receipt != page.receipt) {
        return Err(wrong("is of another receipt"));
    }
    let leaves: Option<Vec<Hash>> = page.considered.iter().map(leaf).collect();
    let leaves = leaves.ok_or_else(|| wrong("holds a reason or a value that is none"))?;
    let path: Vec<Hash> = page.path.iter().map(|hash| hash.0).collect();
    let (index, count) = (page.page as usize, page.pages as usize);
    match merkle::root_by(&leaves, index, count, &path) {
        Some(root) if root == page.receipt.root.0 => Ok(()),
        _ => Err(wrong("does not lead to the root of the receipt")),
    }
}

/// The hash of a line of the receipt, from what it says.
fn leaf(one: &wire::Considered) -> Option<Hash> {
    let reason = match &one.reason {
        Some(name) => Some(Reason::ALL.into_iter().find(|reason| reason.as_str() == name)?),
        None => None,
    };
    let considered = lens::Considered {
        position: Position(one.position),
        id: one.id.0,
        opposing: one.opposing,
        tier: Tier(one.tier),
        value: one.value.clone().try_into().ok()?,
        excluded: reason.map(|reason| (reason, one.by.map(Position))),
    };
    Some(merkle::leaf(&considered.bytes()))
}

/// The values, the assertions and the names of the receipt.
pub fn shown(
    explanation: &wire::Explanation,
    considered: &[wire::Considered],
    limit: usize,
) -> String {
    let receipt = &explanation.receipt;
    let mut text = format!(
        "{BOLD}{}  {}{BOLD:#}  {DIM}{}, position {}{DIM:#}\n",
        receipt.subject.as_str(),
        receipt.predicate.as_str(),
        present::lens_name(&receipt.lens),
        receipt.position,
    );
    for (index, value) in receipt.values.iter().enumerate() {
        let wins = receipt.winners.contains(&(index as u64));
        let share = value.share.parse::<f64>().unwrap_or_default() / (1u64 << 52) as f64;
        let _ = writeln!(
            text,
            "  {} {}  {}, {} claims of {} voices",
            if wins { '*' } else { ' ' },
            cut(&present::rounded(&value.value), VALUE_WIDTH),
            present::percent(share),
            value.claims,
            value.voices,
        );
    }
    let mut table = Table::new([
        ("position", Align::Right),
        ("value", Align::Left),
        ("tier", Align::Right),
        ("counted", Align::Left),
    ])
    .width_max(WIDTH - 2);
    for one in considered.iter().take(limit) {
        let counted = match (&one.reason, one.by) {
            (None, _) => "yes".to_owned(),
            (Some(reason), None) => reason.clone(),
            (Some(reason), Some(by)) => format!("{reason} by #{by}"),
        };
        let denies = if one.opposing { "not " } else { "" };
        let style = if one.reason.is_some() { DIM } else { BOLD };
        table.row([
            one.position.to_string().into(),
            cut(&format!("{denies}{}", present::rounded(&one.value)), VALUE_WIDTH).into(),
            one.tier.to_string().into(),
            Cell::new(counted, style),
        ]);
    }
    if !considered.is_empty() {
        text.push_str(&table.render());
    }
    let hidden = considered.len().saturating_sub(limit);
    if hidden > 0 {
        let _ = writeln!(text, "{hidden} more are not shown: --limit shows them");
    }
    let _ = writeln!(
        text,
        "{} considered, {} of them not counted; all lead to the root\n{DIM}receipt  {}\nroot     \
         {}{DIM:#}",
        receipt.considered, receipt.excluded, explanation.hash.0, receipt.root.0,
    );
    text
}
