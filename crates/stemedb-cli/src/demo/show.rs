//! What the demonstration puts on the screen, section by section.

use serde_json::{Value, json};
use stemedb_model::{Kind, Millis, SigningKey};
use stemedb_server::wire;

use super::story::Story;
use crate::context::Context;
use crate::failure::Failure;
use crate::import::send_signed;
use crate::present::{self, BOLD, DIM};
use crate::record::{self, Fields};
use crate::remote::Remote;
use crate::table::{Align, Cell, Table, cut};

const DRUG: Key = Key { subject: "drugs/semaglutide", predicate: "stomach_risk" };
const METAL: Key =
    Key { subject: "materials/superconductors", predicate: "highest_critical_temperature" };
/// The other keys worth a look, and what is to be seen there.
const OTHERS: [(Key, &str); 6] = [
    (Key { subject: "pluto", predicate: "is_planet" }, "the union against the crowd"),
    (Key { subject: "solar-system", predicate: "planet_count" }, "an epoch superseded"),
    (Key { subject: "saturn", predicate: "known_moons" }, "old counts and new"),
    (Key { subject: "mountains/everest", predicate: "height" }, "feet, metres, three names"),
    (Key { subject: "drugs/semaglutide", predicate: "delays_gastric_emptying" }, "a trial apart"),
    (
        Key { subject: "drugs/glp1-agonists", predicate: "gastroparesis_hazard_ratio" },
        "near enough is one value",
    ),
];
/// Lenses side by side, and how each decides.
const LENSES: [(&str, &str); 5] = [
    ("recency", "the newest statement"),
    ("consensus", "one vote per independent voice"),
    ("authority", "the best tier decides"),
    ("layered", "each tier by itself, then the best"),
    ("skeptic", "nobody wins"),
];
/// Days to look back to, and what had happened by then.
const DAYS: [(&str, &str); 3] = [
    ("2023-07-01", "after the trials"),
    ("2023-09-01", "after the patients' reports"),
    ("2024-12-01", "after the cohorts"),
];

const FDA: &str = "US Food and Drug Administration";

/// Of all keys in conflict, how many are shown.
const CONFLICTS_SHOWN: usize = 5;

/// Of all agents, how many are shown from either end.
const TRUSTED_SHOWN: usize = 4;

#[derive(Clone, Copy)]
struct Key {
    subject: &'static str,
    predicate: &'static str,
}

impl Key {
    fn json(self) -> Value {
        json!({ "subject": self.subject, "predicate": self.predicate })
    }
}

pub(super) struct Show<'a> {
    pub(super) remote: Remote,
    pub(super) story: Story,
    /// Signs what only a registrar may.
    pub(super) root: &'a SigningKey,
    /// The position before the retractions.
    pub(super) before: u64,
    pub(super) context: &'a Context,
}

impl Show<'_> {
    pub(super) fn all(&self) -> Result<(), Failure> {
        self.opening()?;
        self.lenses()?;
        self.who()?;
        self.days()?;
        self.retraction()?;
        self.others()?;
        self.conflicts()?;
        self.trust()?;
        self.what_if()?;
        self.receipt()
    }

    fn opening(&self) -> Result<(), Failure> {
        if self.context.json {
            return Ok(());
        }
        self.context.print(&format!(
            "\n{BOLD}StemeDB{BOLD:#}, a database for claims that disagree\n\
             {} real statements by {} parties: signed, dated, each with its source.\n\
             Nothing was overwritten. Each reader chooses how contradictions are resolved.\n",
            self.story.assertions,
            // The root key only registers.
            self.story.names.len().saturating_sub(1),
        ))
    }

    fn heading(&self, text: &str) -> Result<(), Failure> {
        if self.context.json {
            return Ok(());
        }
        self.context.print(&format!("\n{BOLD}{text}{BOLD:#}\n"))
    }

    fn table(&self, table: &Table) -> Result<(), Failure> {
        if self.context.json { Ok(()) } else { self.context.print(&table.render()) }
    }

    /// The answers to some keys under some lenses; `more` are further fields of the request.
    fn resolve(
        &self,
        keys: &[Key],
        lenses: &[&str],
        more: &[(&str, Value)],
    ) -> Result<Vec<Vec<wire::Resolution>>, Failure> {
        let keys: Vec<Value> = keys.iter().map(|key| key.json()).collect();
        let mut body = json!({ "keys": keys, "lenses": lenses });
        if let Some(body) = body.as_object_mut() {
            body.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        }
        let result: wire::ResolveResult = self.remote.post_json("/v1/resolve", &body)?.read()?;
        if self.context.json {
            for one in &result.results {
                self.context.print_json(one)?;
            }
        }
        Ok(result.results.into_iter().map(|key| key.resolutions).collect())
    }

    fn one(
        &self,
        key: Key,
        lens: &str,
        more: &[(&str, Value)],
    ) -> Result<wire::Resolution, Failure> {
        let answers = self.resolve(&[key], &[lens], more)?;
        let first = answers.into_iter().flatten().next();
        first.ok_or_else(|| Failure::error("the server gave no answer"))
    }

    fn lenses(&self) -> Result<(), Failure> {
        self.heading("1. One question, five lenses: what does semaglutide do to the stomach?")?;
        let names = LENSES.map(|(name, _)| name);
        let answers = self.resolve(&[DRUG], &names, &[])?;
        let mut table = Table::new([
            ("lens", Align::Left),
            ("answer", Align::Left),
            ("lens share", Align::Right),
            ("status", Align::Left),
            ("conflict", Align::Right),
            ("how it decides", Align::Left),
        ])
        .indent(2)
        .width_max(present::WIDTH);
        for (resolution, (_, rule)) in answers.iter().flatten().zip(LENSES) {
            let share = match resolution.lens_share {
                Some(share) if !resolution.winners.is_empty() => present::percent(share),
                _ => "–".to_owned(),
            };
            table.row([
                present::lens_name(&resolution.lens).into(),
                Cell::new(present::answer(resolution), BOLD),
                share.into(),
                status(resolution.status),
                format!("{:.2}", resolution.conflict_score).into(),
                Cell::new(rule, DIM),
            ]);
        }
        self.table(&table)?;
        for resolution in answers.iter().flatten() {
            match resolution.lens.as_str() {
                "skeptic" => self.map(resolution)?,
                "layered" => self.layers(resolution)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The disagreement, as skeptic sees it.
    fn map(&self, resolution: &wire::Resolution) -> Result<(), Failure> {
        if self.context.json {
            return Ok(());
        }
        self.context.print(&format!(
            "\n  skeptic: {} values, as contested as {:.1} equal ones; {} claims count, {} do not \
             ({})\n",
            resolution.candidates.len(),
            resolution.effective_values,
            resolution.considered - resolution.excluded_count,
            resolution.excluded_count,
            present::reasons(&resolution.excluded_for),
        ))?;
        let mut table = Table::new(["", "", "", ""].map(|name| (name, Align::Left))).indent(4);
        for value in &resolution.candidates {
            table.row([
                bar(value.share),
                format!("{:>4}", present::percent(value.share)),
                present::object(&value.value),
                format!(
                    "{} voice{} of {} claim{}, best tier {}",
                    value.voices,
                    plural(value.voices),
                    value.claims,
                    plural(value.claims),
                    present::class_name(&value.class)
                ),
            ]);
        }
        self.table(&table)
    }

    fn layers(&self, resolution: &wire::Resolution) -> Result<(), Failure> {
        if self.context.json {
            return Ok(());
        }
        let conflict = resolution.cross_tier_conflict.unwrap_or(0.0);
        self.context.print(&format!(
            "\n  layered: what each tier says by itself; conflict across tiers {conflict:.2}\n"
        ))?;
        let mut table = Table::new(["", "", "", ""].map(|name| (name, Align::Left)))
            .indent(4)
            .width_max(present::WIDTH);
        for layer in &resolution.layers {
            let values: Vec<String> =
                layer.values.iter().map(|value| present::rounded(&value.value)).collect();
            table.row([
                format!("tier {}", layer.tier).into(),
                present::class_name(&layer.class).into(),
                status(layer.status),
                Cell::from(values.join(" | ")),
            ]);
        }
        self.table(&table)
    }

    fn who(&self) -> Result<(), Failure> {
        self.heading("2. Who said so")?;
        let query = [
            ("subject", DRUG.subject.to_owned()),
            ("predicate", DRUG.predicate.to_owned()),
            ("limit", "1000".to_owned()),
        ];
        let page: wire::AssertionPage = self.remote.get("/v1/query", &query)?.read()?;
        let mut table = Table::new([
            ("day", Align::Left),
            ("who", Align::Left),
            ("says", Align::Left),
            ("in our words", Align::Left),
        ])
        .indent(2)
        .width_max(present::WIDTH);
        for stored in &page.assertions {
            if self.context.json {
                self.context.print_json(stored)?;
            }
            let wire::AnyRecord::Assertion(claim) = &stored.record else { continue };
            let note = claim.meta.as_ref().and_then(|meta| meta.0.get("note")).cloned();
            let precision = claim.meta.as_ref().and_then(|meta| meta.0.get("precision"));
            let day = claim.at.map(|at| at.to_string()).unwrap_or_default();
            let digits = match precision.map(|precision| &**precision) {
                Some("year") => 4,
                Some("month") => 7,
                _ => 10,
            };
            let who = claim.agent.and_then(|agent| self.story.names.get(&agent.0));
            table.row([
                Cell::new(day.chars().take(digits).collect::<String>(), DIM),
                cut(who.map_or("?", String::as_str), 24).into(),
                Cell::new(present::object(&claim.object), BOLD),
                note.as_deref().unwrap_or_default().into(),
            ]);
        }
        self.table(&table)
    }

    fn days(&self) -> Result<(), Failure> {
        self.heading("3. The answer from the claims made by three past days, and now")?;
        let mut table = Table::new([
            ("claims made before", Align::Left),
            ("authority", Align::Left),
            ("consensus", Align::Left),
            ("status", Align::Left),
            ("conflict", Align::Right),
        ])
        .indent(2)
        .width_max(present::WIDTH);
        let days = DAYS.iter().map(|(day, what)| (Some(*day), *what));
        for (day, what) in days.chain([(None, "")]) {
            let more: Vec<(&str, Value)> = day
                .map(|day| ("asserted_before", json!(format!("{day}T00:00:00Z"))))
                .into_iter()
                .collect();
            let answers = self.resolve(&[DRUG], &["authority", "consensus"], &more)?;
            let [authority, consensus] = answers.first().map_or(&[][..], Vec::as_slice) else {
                return Err(Failure::error("the server gave no answer"));
            };
            table.row([
                Cell::from(day.map_or("now".to_owned(), |day| format!("{day}, {what}"))),
                Cell::new(present::answer(authority), BOLD),
                Cell::new(present::answer(consensus), BOLD),
                status(authority.status),
                format!("{:.2}", authority.conflict_score).into(),
            ]);
        }
        self.table(&table)
    }

    fn retraction(&self) -> Result<(), Failure> {
        self.heading("4. What a retracted source changes: the warmest superconductor")?;
        let mut table = Table::new([
            ("", Align::Left),
            ("authority", Align::Left),
            ("consensus", Align::Left),
            ("status", Align::Left),
            ("take no part", Align::Left),
        ])
        .indent(2)
        .width_max(present::WIDTH);
        for (when, more) in [
            ("before the retractions", vec![("as_of", json!(self.before))]),
            ("two papers retracted", vec![]),
        ] {
            let authority = self.one(METAL, "authority", &more)?;
            let consensus = self.one(METAL, "consensus", &more)?;
            table.row([
                when.into(),
                Cell::new(present::answer(&authority), BOLD),
                Cell::new(present::answer(&consensus), BOLD),
                status(authority.status),
                Cell::from(match authority.excluded_count {
                    0 => "none".to_owned(),
                    _ => present::reasons(&authority.excluded_for),
                }),
            ]);
        }
        self.table(&table)?;
        if self.context.json {
            return Ok(());
        }
        let query = [
            ("subject", METAL.subject.to_owned()),
            ("predicate", METAL.predicate.to_owned()),
            ("lens", "authority".to_owned()),
            ("diff", self.before.to_string()),
        ];
        let now: wire::Resolution = self.remote.get("/v1/query", &query)?.read()?;
        for change in now.diff.iter().flat_map(|diff| &diff.changes) {
            self.context.print(&format!("  {}\n", present::became(change)))?;
        }
        self.context.print(&format!(
            "  {DIM}Retracting a source takes its claims out, and those that rest on them. Nothing \
             is deleted:\n  as_of brings every earlier answer back.{DIM:#}\n"
        ))
    }

    fn others(&self) -> Result<(), Failure> {
        self.heading("5. Elsewhere")?;
        let keys = OTHERS.map(|(key, _)| key);
        let answers = self.resolve(&keys, &["authority", "consensus"], &[])?;
        let mut table = Table::new([
            ("key", Align::Left),
            ("authority", Align::Left),
            ("consensus", Align::Left),
            ("status", Align::Left),
            ("", Align::Left),
        ])
        .indent(2)
        .width_max(present::WIDTH);
        for (answers, (key, what)) in answers.iter().zip(OTHERS) {
            let [authority, consensus] = answers.as_slice() else { continue };
            let subject = key.subject.rsplit('/').next().unwrap_or(key.subject);
            table.row([
                Cell::from(format!("{subject} {}", key.predicate)),
                Cell::new(present::answer(authority), BOLD),
                Cell::new(present::answer(consensus), BOLD),
                status(authority.status),
                Cell::new(what, DIM),
            ]);
        }
        self.table(&table)
    }

    /// The keys that most is disputed about, as the database lists them.
    fn conflicts(&self) -> Result<(), Failure> {
        self.heading("6. The most disputed, from a list that is kept while claims come in")?;
        let health: wire::Health = self.remote.get("/v1/health", &[])?.read()?;
        let query = [
            ("limit", CONFLICTS_SHOWN.to_string()),
            ("at_least", health.node.position.to_string()),
        ];
        let answer: wire::ConflictsAnswer = self.remote.get("/v1/conflicts", &query)?.read()?;
        if self.context.json {
            return self.context.print_json(&answer);
        }
        let answer = wire::ConflictsAnswer { cursor: None, ..answer };
        self.indented(&crate::commands::conflicts::shown(&answer))
    }

    fn indented(&self, text: &str) -> Result<(), Failure> {
        let text: String = text.lines().map(|line| format!("  {line}\n")).collect();
        self.context.print(&text)
    }
}

impl Show<'_> {
    /// Learns from the claims above whom to trust, and puts it in force.
    fn trust(&self) -> Result<(), Failure> {
        self.heading("7. Whom to trust, learned from who agrees with whom")?;
        let learned = self.remote.post("/v1/trust/learn", "application/json", b"")?;
        let learned: wire::LearnedTrust = learned.read()?;
        let at = Millis(self.context.env.clock.now_ms());
        let fields = Fields::new()
            .set("kind", Kind::TrustSnapshot.name())
            .set("at", at.0)
            .set("input_position", learned.input_position)
            .set("config", learned.config.0.to_string())
            .set("table", learned.table.0.to_string());
        let log_id = record::log_id(&self.remote)?;
        let snapshot = record::seal(&fields.into_value(), self.root, at, log_id)?;
        send_signed(&self.remote, &[snapshot])?;
        let mut all = Vec::new();
        for (agent, name) in &self.story.names {
            let found: wire::TrustAnswer =
                self.remote.get(&format!("/v1/trust/{agent}"), &[])?.read()?;
            if found.learned {
                all.push((found, name.as_str()));
            }
        }
        all.sort_by(|(a, a_name), (b, b_name)| {
            b.reliability.total_cmp(&a.reliability).then_with(|| a_name.cmp(b_name))
        });
        let mut table = Table::new([
            ("who", Align::Left),
            ("reliability", Align::Right),
            ("claims", Align::Right),
            ("are the answer", Align::Right),
            ("a claim that is not", Align::Left),
        ])
        .indent(2)
        .width_max(present::WIDTH);
        let ends = all.len().saturating_sub(TRUSTED_SHOWN);
        for (place, (found, name)) in all.iter().enumerate() {
            if self.context.json {
                self.context.print_json(found)?;
            }
            if place >= TRUSTED_SHOWN && place < ends {
                continue;
            }
            let sum = |count: fn(&wire::TopicTrust) -> u64| {
                found.topics.iter().map(count).sum::<u64>().to_string()
            };
            let dispute = found.topics.iter().find_map(|topic| topic.disputes.first());
            table.row([
                Cell::from(cut(name, 28)),
                Cell::new(format!("{:.2}", found.reliability), BOLD),
                sum(|topic| topic.claims).into(),
                sum(|topic| topic.agreed).into(),
                Cell::new(dispute.map_or_else(String::new, told), DIM),
            ]);
        }
        self.table(&table)?;
        if self.context.json {
            return Ok(());
        }
        self.context.print(&format!(
            "  {DIM}The first and the last of {} agents; with one or two claims each, little more than a \
             vote. The\n  lens `trust` weighs by it. The log names the table, so anybody can learn it \
             again.{DIM:#}\n",
            all.len()
        ))
    }
}

impl Show<'_> {
    /// The answers that hang on one voice.
    fn what_if(&self) -> Result<(), Failure> {
        self.heading("8. What if the FDA had said nothing?")?;
        let fda = self.story.names.iter().find(|(_, name)| name.as_str() == FDA);
        let Some((fda, _)) = fda else {
            return Err(Failure::error("the FDA is not in the bundled claims"));
        };
        let body = json!({
            "drop": { "agent": fda.to_string() }, "lenses": ["authority", "consensus"],
        });
        let answer: wire::WhatIfAnswer = self.remote.post_json("/v1/whatif", &body)?.read()?;
        if self.context.json {
            return self.context.print_json(&answer);
        }
        self.indented(&crate::commands::whatif::shown(&answer))
    }

    /// What an earlier answer rested on, and the same made again after all that came since.
    fn receipt(&self) -> Result<(), Failure> {
        self.heading("9. A receipt: the answer before the retractions, made again bit for bit")?;
        let query = [
            ("subject", METAL.subject.to_owned()),
            ("predicate", METAL.predicate.to_owned()),
            ("as_of", self.before.to_string()),
        ];
        let explained: wire::Explanation = self.remote.get("/v1/explain", &query)?.read()?;
        let receipt = serde_json::to_value(&explained.receipt)
            .map_err(|error| Failure::error("the receipt cannot be written").because(error))?;
        let replay: wire::Replay = self.remote.post_json("/v1/replay", &receipt)?.read()?;
        if !replay.same || replay.hash != explained.hash {
            return Err(Failure::error(format!(
                "the receipt {} was not made again: other {}",
                explained.hash.0,
                replay.differences.join(", ")
            )));
        }
        if self.context.json {
            return self.context.print_json(&replay);
        }
        self.context.print(&format!(
            "  {} statements considered, {} of them not counted; {BOLD}the same now{BOLD:#}  \
             {DIM}(stemedb explain, replay)\n  {}{DIM:#}\n",
            replay.receipt.considered, replay.receipt.excluded, replay.hash.0,
        ))
    }
}

/// What somebody says, and what the answer is.
fn told(dispute: &wire::Dispute) -> String {
    let answer = dispute.answer.as_ref().map_or_else(|| "nothing".to_owned(), present::rounded);
    let subject = dispute.subject.as_str();
    let subject = subject.rsplit('/').next().unwrap_or(subject);
    format!("{subject}: {}, not {answer}", present::rounded(&dispute.says))
}

fn status(status: wire::Status) -> Cell {
    Cell::new(present::status_name(status), present::status_style(status))
}

/// Twenty columns stand for everything.
fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * 20.0).round();
    // Clamped: 0 to 20.
    "█".repeat(full as usize)
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
